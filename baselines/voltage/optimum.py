"""The optimum of voltage regulation: the least battery energy that holds a day known beforehand.

Per unit. Of the powers p = c - d of every battery and step of a day, the AC power flow makes the
squared voltages w(p):

    (1)  min  h sum of c + d                       `opf_objectives.regulation_power`
    (2)  power and SOC limits, SOC balance         `models/equations/battery.py`
    (3)  SOC at the end >= Batteries.soc_end, or soc_start where no end is asked
    (4)  v_min_i^2 <= w_ti(p) <= v_max_i^2         every judged bus

Line ratings are left out: the judge of this job looks at voltages alone, and the bound must be one
for every method it judges.

    ac_opf            w by the AC power flow
    lindistflow_opf   w by LinDistFlow, which knows no losses: a linear program whose voltages are
                      optimistic under load

Flows are no unknowns, so a day is a linear program in the batteries but for (4). With J the true
slopes of the AC power flow (`models/power_flow/voltage_sensitivity.py`), `ac_opf` solves it in
rounds from p_0 idle, each from the last one's basis, with s, z >= 0 at a price that forbids them:

    (5)  v_min_i^2 <= w_ti(p_r) + (J_tr (p - p_r))_i + s_t - z_t <= v_max_i^2

It ends where p_r meets (4) by its own AC flow to 1e-6 pu, and the program at p_r promises no saving
beyond 1e-6. The program is exact to first order there, so p_r is a stationary point of the AC
problem, as what Ipopt returns is. Every voltage of it is an AC power flow's. Where two plans take
turns, powers move less and less. A test compares it with Ipopt on the exact multi-period model of
`models/distflow_opf.py`: one day of ieee33 with eight batteries, in 12 steps of two hours. A day
whose idle voltages are inside the band, and which may end as it began, needs no solve.

(2) admits charging and discharging at once, which burns energy. An answer does so only where
burning helps. Such a battery and step is held to the way of its net power, and the program is
solved again: a local optimum like the rest.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numba
import numpy as np

from feederguard.baselines.voltage.battery_program import BatteryProgram
from feederguard.baselines.voltage.feeder import FeederDay
from feederguard.models.arrays import FloatArray
from feederguard.models.battery import Batteries
from feederguard.models.network import Network
from feederguard.models.safety_qp.matrices import safety_matrices
from feederguard.models.voltage_regulation import VoltageDays
from feederguard.models.voltage_regulation.days import check_feeder

NAMES = ("ac_opf", "lindistflow_opf")

TOLERANCE_PU = 1e-6  # of voltage, a tenth of what the judge allows
_SAVING = 1e-6  # of the energy: what a further round need not look for
_ROUNDS = 40
_FREE_ROUNDS = 5  # after which powers move by at most half of p_max, then a quarter, ...
_SLACK_PRICE = 1e4  # times the power that moves the voltage of the strongest effect by as much


class VoltageOptimumError(RuntimeError):
    """A day without a plan: the message names day, bus and step, and what would have to change."""


class VoltageOpf:
    """A `PlannedMethod` with perfect information.

    n_worker processes share the days; the answers are those of one process.

    Raises ValueError for an unknown name, a battery at no bus and a number of workers that is not
    positive. Raises `NetworkError` for a meshed feeder or a bus that is not fed.
    """

    def __init__(
        self, network: Network, batteries: Batteries, name: str = "ac_opf", n_worker: int = 1
    ) -> None:
        if name not in NAMES:
            raise ValueError(f"unknown voltage optimum {name!r}; use one of {', '.join(NAMES)}")
        if n_worker < 1:
            raise ValueError(f"n_worker is {n_worker}; use at least one process")
        self.name, self.network, self.batteries, self.n_worker = name, network, batteries, n_worker
        self._matrices = safety_matrices(network, batteries)
        self._program: BatteryProgram | None = None

    def plan(self, days: VoltageDays, soc_start: FloatArray) -> FloatArray:
        """Return the optimal power of each battery in each step, (B, T, n_bat) pu.

        soc_start: (B, n_bat).

        Raises `VoltageOptimumError` naming the first day that cannot be held, or for which the
        rounds do not settle; ValueError for days of another feeder, and SOC of another shape or
        outside its limits.
        """
        check_feeder(self.network, days)
        start = _checked_soc(self.network, self.batteries, soc_start, len(days))
        if self.n_worker == 1 or len(days) < 2:
            plans = [self._plan_day(days[k], start[k]) for k in range(len(days))]
        else:
            setup = (self.network, self.batteries, self.name)
            # Not fork: a process that has run OpenMP threads cannot be forked safely.
            with ProcessPoolExecutor(
                min(self.n_worker, len(days)),
                get_context("spawn"),
                initializer=_set_up_worker,
                initargs=setup,
            ) as pool:
                plans = list(pool.map(_plan_in_worker, [days[k] for k in range(len(days))], start))
        return np.array(plans).reshape(len(days), days.n_step, len(self.batteries))

    def _plan_day(self, day: VoltageDays, start: FloatArray) -> FloatArray:
        """Return the plan (T, n_bat) of a batch of one day."""
        feeder = FeederDay(
            self.network, self.batteries, self._matrices, day, exact=self.name == "ac_opf"
        )
        p = np.zeros((day.n_step, len(self.batteries)))
        w, slope = feeder.voltages(p)
        wanted = (
            self.batteries.soc_start if self.batteries.soc_end is None else self.batteries.soc_end
        )
        if feeder.excess(w).max() <= 0 and (start >= wanted).all():
            return p
        program = self._battery_program(day, start, wanted)
        for r in range(_ROUNDS):
            # Idle need not end where it must.
            held = r > 0 and feeder.excess(w).max() <= TOLERANCE_PU
            better = program.solve(feeder, p, w, slope)
            if better is None:
                raise VoltageOptimumError(self._unreachable(day, start, wanted))
            used = float(np.abs(p).sum())
            if held and used - float(np.abs(better).sum()) <= _SAVING * used:
                return p
            if r >= _FREE_ROUNDS:
                # Two plans that take turns have the optimum between them.
                reach = self.batteries.p_max * 0.5 ** (r - _FREE_ROUNDS + 1)
                damped = program.solve(feeder, p, w, slope, reach)
                better = better if damped is None else damped
            p = better
            w, slope = feeder.voltages(p)
        raise VoltageOptimumError(self._shortfall(feeder, w, day))

    def _battery_program(
        self, day: VoltageDays, start: FloatArray, wanted: FloatArray
    ) -> BatteryProgram:
        """Return (1)-(3), read from Pyomo once for days that begin and end alike."""
        key = (day.n_step, day.step_h, start.tobytes())
        if self._program is None or self._program.key != key:
            price = (
                _SLACK_PRICE / np.abs(self._matrices.columns / self._matrices.p_max[:, None]).max()
            )
            self._program = BatteryProgram.read(
                self.network, self.batteries, day, start, wanted, price
            )
        self._program.begin()
        return self._program

    def _unreachable(self, day: VoltageDays, start: FloatArray, wanted: FloatArray) -> str:
        power_hours = (
            day.n_step * day.step_h * self.batteries.p_max * self.batteries.efficiency_charge
        )
        k = int(np.argmax(wanted - start - power_hours / self.batteries.energy))
        return (
            f"{self.network.name}: on {day.date[0]} battery {self.batteries.name[k]!r} cannot go "
            f"from SOC {start[k]:.3f} to {wanted[k]:.3f} by the end; start it fuller, raise its "
            "p_max, or ask for less at the end"
        )

    def _shortfall(self, feeder: FeederDay, w: FloatArray, day: VoltageDays) -> str:
        excess = feeder.excess(w)
        t, i = np.unravel_index(int(excess.argmax()), excess.shape)
        bus = self.network.bus_name[feeder.bus[i]]
        if excess[t, i] <= TOLERANCE_PU:
            return (
                f"{self.network.name}: {self.name} of {day.date[0]} did not settle in {_ROUNDS} "
                "rounds, so its optimum is not known; leave the day out"
            )
        return (
            f"{self.network.name}: {self.name} found no plan for {day.date[0]} that holds bus "
            f"{bus!r} at step {t}: {np.sqrt(w[t, i]):.4f} pu is {excess[t, i]:.2g} outside its "
            "band; raise power or energy of the batteries, or widen the band"
        )


def _checked_soc(network: Network, batteries: Batteries, soc: FloatArray, n_day: int) -> FloatArray:
    start = np.asarray(soc, dtype=float)
    if start.shape != (n_day, len(batteries)):
        raise ValueError(
            f"{network.name}: soc_start has shape {start.shape}; expected {(n_day, len(batteries))}"
        )
    bad = np.argwhere(~((start >= batteries.soc_min) & (start <= batteries.soc_max)))
    if bad.size:
        day, k = bad[0]
        raise ValueError(
            f"{network.name}: soc_start of battery {batteries.name[k]!r} on day {day} is "
            f"{start[day, k]:g}; it must lie between soc_min {batteries.soc_min[k]:g} and soc_max "
            f"{batteries.soc_max[k]:g}"
        )
    return start


_worker: list[VoltageOpf] = []


def _set_up_worker(network: Network, batteries: Batteries, name: str) -> None:
    # The processes share the cores already.
    numba.set_num_threads(1)
    _worker[:] = [VoltageOpf(network, batteries, name)]


def _plan_in_worker(day: VoltageDays, start: FloatArray) -> FloatArray:
    return _worker[0]._plan_day(day, start)
