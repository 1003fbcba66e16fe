"""The SOC tube as numbers: per step and battery the SOC from which a day can be held to its end."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from feederguard.models.arrays import FloatArray, IntArray
from feederguard.models.battery import Batteries
from feederguard.models.battery.batteries import battery_digest
from feederguard.models.battery.step import power_interval
from feederguard.models.network import Network

SIDES = ("low", "high")


@dataclass(frozen=True, eq=False)
class SocTube:
    """Per step the interval of SOC of each battery from which the day can be held to its end.

    SOC is a fraction of the energy. Raises ValueError when shapes differ, a value is not a
    fraction, or low exceeds high, naming step and battery (position).
    """

    low: FloatArray  # (T + 1, n_bat) before each step, and at the end
    high: FloatArray  # (T + 1, n_bat)
    # That of the days it was computed for; None: made by hand, and not checked.
    step_h: float | None = None
    batteries: str | None = None  # `battery_digest` of those it was computed for; None as above

    def __post_init__(self) -> None:
        for name in SIDES:
            array = np.array(getattr(self, name), dtype=float)
            array.setflags(write=False)
            object.__setattr__(self, name, array)
        if self.low.shape != self.high.shape or self.low.ndim != 2 or len(self.low) < 2:
            raise ValueError(
                f"SOC tube: low has shape {self.low.shape} and high {self.high.shape}; give both "
                "(T + 1, n_bat)"
            )
        bad = np.argwhere(~((self.low >= 0) & (self.low <= self.high) & (self.high <= 1)))
        if bad.size:
            t, k = bad[0]
            raise ValueError(
                f"SOC tube: battery {k} has low {self.low[t, k]:g} and high {self.high[t, k]:g} "
                f"before step {t}; give fractions of the energy, low not above high"
            )

    @property
    def n_step(self) -> int:
        """T, steps in a day."""
        return len(self.low) - 1

    @property
    def digest(self) -> str:
        """A hash of its numbers to ten decimals and of what it was computed for."""
        told = hashlib.sha256(f"{self.low.shape} {self.step_h} {self.batteries}".encode())
        for numbers in (self.low, self.high):
            told.update(np.ascontiguousarray(np.round(numbers, 10) + 0.0).tobytes())
        return told.hexdigest()[:16]


def check_tube(tube: SocTube, network: Network, batteries: Batteries, step_h: float) -> None:
    """Raise ValueError for a tube of other batteries or of another step.

    A tube made by hand says only of how many batteries it is.
    """
    if tube.low.shape[1] != len(batteries):
        raise ValueError(
            f"{network.name}: the SOC tube is of {tube.low.shape[1]} batteries and there are "
            f"{len(batteries)}; compute it with these batteries"
        )
    if tube.batteries is not None and tube.batteries != battery_digest(batteries):
        raise ValueError(
            f"{network.name}: the SOC tube is of batteries with other numbers (place, power, "
            "energy, efficiency or SOC); compute it with these batteries"
        )
    if tube.step_h is not None and abs(tube.step_h - step_h) > 1e-9 * step_h:
        raise ValueError(
            f"{network.name}: the SOC tube is of steps of {tube.step_h:g} h and not of {step_h:g} "
            "h; compute it with days of this step"
        )


def power_towards(
    batteries: Batteries, soc: FloatArray, target: FloatArray, step_h: float
) -> FloatArray:
    """Return the power (..., n_bat) pu that takes SOC from `soc` to `target` in one step.

    Power limits are not looked at.
    """
    energy = (target - soc) * batteries.energy / step_h
    return np.where(
        energy > 0, energy / batteries.efficiency_charge, energy * batteries.efficiency_discharge
    )


def tube_interval(
    tube: SocTube, batteries: Batteries, soc: FloatArray, step: IntArray, step_h: float
) -> tuple[FloatArray, FloatArray]:
    """Return the least and the greatest power (B, n_bat) pu that end the step inside the tube.

    They keep power and SOC limits. Where no power does both, both are the power that ends as near
    to the tube as those limits allow. soc: (B, n_bat) before the step; step: (B,) from 0.
    """
    least, greatest = power_interval(batteries, soc, step_h)
    low, high = power_towards(
        batteries, soc, np.stack([tube.low[step + 1], tube.high[step + 1]]), step_h
    )
    low, high = (np.minimum(np.maximum(power, least), greatest) for power in (low, high))
    return low, high
