"""P(V) droop: each battery answers the voltage of its own bus, without a model of the feeder.

Per unit. V is the voltage of the battery's bus with batteries idle, x = 2 (V - V_mid) / (v_max -
v_min), so that -1..1 is the band. a is the dead band and f the deviation of full power. The classic
curve is

    (1)  p = p_max sign(x) min(1, max(0, |x| - a) / (f - a))

It charges where the voltage is high and discharges where it is low. With (1) alone a battery would
be full by summer and empty by winter. So inside the dead band it goes to the SOC it started from,
and a reserve b on top for the evening to take. r is the share of its energy an hour that it moves
for a whole unit of SOC missing. It moves the less, the nearer the voltage is to the side that this
pushes it to:

    (2)  p = r (soc_start + b - soc) E min(1, (a + x s) / a)
         s = 1 when charging (lowers V), -1 when discharging

(1) takes the voltage before the battery acts, not the one it settles at. No gain is then too high
to be stable, which is kinder to droop than reality. `tune_droop` chooses a, f, r and b on training
days.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np

from feederguard.models.arrays import FloatArray
from feederguard.models.battery import Batteries
from feederguard.models.battery.batteries import check_batteries
from feederguard.models.network import Network
from feederguard.models.voltage_regulation import VoltageDays, VoltageState, simulate

GRID_DEAD_BAND = (0.4, 0.6, 0.8)
GRID_FULL_AT = (2.0, 3.0, 4.0)
GRID_RETURN_PER_H = (0.1, 0.3)
GRID_RESERVE = (0.0, 0.1, 0.2, 0.3)
TUNING_DAYS = 30  # spread evenly over those given: some seconds in all
# Charging it would cost 0.004; so dear that leaving batteries empty at the end of a day does not
# win.
PRICE_OF_MISSING_KWH = 0.1


@dataclass(frozen=True)
class DroopSettings:
    """The four numbers of the curve; the first two in units of half the band's width."""

    dead_band: float = 0.6  # a, above 0
    full_at: float = 3.0  # f, above a
    return_per_h: float = 0.1  # r, zero or more
    reserve: float = 0.2  # b, fraction of the energy; the SOC aimed at is kept inside its limits

    def __post_init__(self) -> None:
        if not (
            0 < self.dead_band < self.full_at < np.inf
            and 0 <= self.return_per_h < np.inf
            and abs(self.reserve) <= 1
        ):
            raise ValueError(
                f"droop: dead_band {self.dead_band:g}, full_at {self.full_at:g}, return_per_h "
                f"{self.return_per_h:g}, reserve {self.reserve:g}; give 0 < dead_band < full_at, a "
                "return of zero or more, and a reserve between -1 and 1"
            )


class Droop:
    """The curve (1), (2) on every battery. Raises ValueError when a battery is at no bus."""

    name = "droop"

    def __init__(
        self, network: Network, batteries: Batteries, settings: DroopSettings | None = None
    ) -> None:
        check_batteries(network, batteries, 96, 0.25)
        self.batteries = batteries
        self.settings = settings or DroopSettings()
        self.soc_aim = np.clip(
            batteries.soc_start + self.settings.reserve, batteries.soc_min, batteries.soc_max
        )
        low, high = network.v_min[batteries.bus], network.v_max[batteries.bus]
        self.v_middle, self.v_reach = (low + high) / 2, np.maximum((high - low) / 2, 1e-3)

    def decide(self, state: VoltageState) -> FloatArray:
        """Return the power of each battery, (B, n_bat) pu.

        Where idle batteries leave no AC solution, V counts as zero.
        """
        battery, dead = self.batteries, self.settings.dead_band
        v = np.nan_to_num(state.v_idle[:, battery.bus], nan=0.0)
        x = (v - self.v_middle) / self.v_reach
        beyond = np.clip((np.abs(x) - dead) / (self.settings.full_at - dead), 0.0, 1.0)
        back = self.settings.return_per_h * (self.soc_aim - state.soc) * battery.energy
        room = np.clip((dead + np.sign(back) * x) / dead, 0.0, 1.0)
        inside = np.clip(back * room, -battery.p_max, battery.p_max)
        return np.asarray(np.where(np.abs(x) <= dead, inside, np.sign(x) * beyond * battery.p_max))


def tune_droop(network: Network, batteries: Batteries, days: VoltageDays) -> DroopSettings:
    """Return the settings of the grid that serve best on up to TUNING_DAYS of these days.

    Best is the largest mean reward, less PRICE_OF_MISSING_KWH for the energy missing at the end of
    the day. Of equal settings the first is taken. Raises as `simulate`, and ValueError when there
    are no days.
    """
    if not len(days):
        raise ValueError("tune_droop: there are no days; give training days")
    chosen = days[np.unique(np.linspace(0, len(days) - 1, TUNING_DAYS).round().astype(np.int64))]
    best, best_score = DroopSettings(), -np.inf
    for numbers in product(GRID_DEAD_BAND, GRID_FULL_AT, GRID_RETURN_PER_H, GRID_RESERVE):
        settings = DroopSettings(*numbers)
        outcome = simulate(network, batteries, chosen, Droop(network, batteries, settings))
        score = float((outcome.reward - 1e3 * PRICE_OF_MISSING_KWH * outcome.soc_short_mwh).mean())
        if score > best_score:
            best, best_score = settings, score
    return best
