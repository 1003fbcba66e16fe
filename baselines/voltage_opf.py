"""The optimum of voltage regulation with perfect information: the least battery energy that holds a known day.

Per unit. Of the powers p = c - d of every battery and step of a day, the AC power flow makes the squared voltages w(p):

    (1)  min  h sum of c + d                                 `opf_objectives.regulation_power`
    (2)  power and SOC limits, SOC balance                   `battery_equations.py`
    (3)  SOC at the end >= what the judge asks for           Batteries.soc_end, or soc_start where there is none
    (4)  v_min_i^2 <= w_ti(p) <= v_max_i^2                   every judged bus

Line ratings are left out: the judge of this job looks at voltages alone, and the bound must be one for every method it judges.

    ac_opf            w by the AC power flow
    lindistflow_opf   w by LinDistFlow, which knows no losses: an LP whose voltages are optimistic under load

Without flows as unknowns, a day is a linear program in the batteries but for (4). With J the true slopes of the AC power
flow (`voltage_sensitivity.py`), `ac_opf` solves it in rounds, each from the last one's basis:

    (5)  v_min_i^2 <= w_ti(p_r) + (J_tr (p - p_r))_i + s_t - z_t <= v_max_i^2,   s, z >= 0 at a price that forbids them

p_0 idle. It ends where p_r meets (4) by its own AC flow to 1e-6 pu, and the program at p_r, which is exact to first order
there, promises no saving beyond 1e-6 of it: p_r then is a stationary point of the AC problem, as what Ipopt returns is, and
every voltage of it is an AC power flow's. Where two plans take turns, powers move less and less. A test holds it against
Ipopt on the exact multi-period model of `distflow_opf.py`: one day of ieee33 with eight batteries, in 12 steps of two hours;
other days and feeders are not compared with Ipopt. A day whose idle voltages are inside the band, and which may end as it
began, needs no solve: no objective is below zero.

(2) admits charging and discharging at once, which burns energy; only where burning would help does an answer do so. Such
a battery and step is held to the way of its net power and the program solved again, a local optimum like the rest.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from typing import Any

import numba
import numpy as np
import pyomo.environ as pyo
from scipy import sparse  # type: ignore[import-untyped]

from feederguard.models.battery import Batteries
from feederguard.models.battery_equations import add_batteries
from feederguard.models.compiled import compile_model
from feederguard.models.network import FloatArray, IntArray, Network
from feederguard.models.opf_objectives import regulation_power
from feederguard.models.opf_periods import read_periods
from feederguard.models.power_flow import solve_power_flow
from feederguard.models.safety_matrices import SafetyMatrices, safety_matrices
from feederguard.models.voltage_days import VoltageDays, check_feeder
from feederguard.models.voltage_regulation import battery_demand, judged_buses, net_demand
from feederguard.models.voltage_sensitivity import voltage_sensitivity
from feederguard.models.warm_lp import WarmLp

NAMES = ("ac_opf", "lindistflow_opf")

TOLERANCE_PU = 1e-6  # of voltage, a tenth of what the judge allows
_SAVING = 1e-6  # of the energy: what a further round need not look for
_ROUNDS = 40
_FREE_ROUNDS = 5  # after which powers move by at most half of p_max, then a quarter, ...
_NEAR = 0.04  # pu^2: a voltage that has come this near to a limit gets its row of (5)
_SLACK_PRICE = 1e4  # times the power that moves the most responsive voltage by the same
_BOTH = 1e-9  # pu: what a battery may do both ways at once by rounding
_END_MARGIN = 1e-8  # of SOC: a solver's tolerance must not leave a battery short at the end


class VoltageOptimumError(RuntimeError):
    """A day that no plan was found for: the message names the day, the bus, the step, and what would have to change."""


class VoltageOpf:
    """A `PlannedMethod` with perfect information; n_worker processes share the days, with the same answers as one.

    Raises ValueError for an unknown name, a battery at no bus and a number of workers that is not positive, `NetworkError`
    for a meshed feeder or a bus that is not fed.
    """

    def __init__(self, network: Network, batteries: Batteries, name: str = "ac_opf", n_worker: int = 1) -> None:
        if name not in NAMES:
            raise ValueError(f"unknown voltage optimum {name!r}; use one of {', '.join(NAMES)}")
        if n_worker < 1:
            raise ValueError(f"n_worker is {n_worker}; use at least one process")
        self.name, self.network, self.batteries, self.n_worker = name, network, batteries, n_worker
        self._matrices = safety_matrices(network, batteries)
        self._program: _BatteryProgram | None = None

    def plan(self, days: VoltageDays, soc_start: FloatArray) -> FloatArray:
        """Return the optimal power of each battery in each step, (B, T, n_bat) pu; soc_start (B, n_bat).

        Raises `VoltageOptimumError` naming the first day that cannot be held, or for which the rounds do not settle;
        ValueError for days of another feeder, and SOC of another shape or outside its limits.
        """
        check_feeder(self.network, days)
        start = _checked_soc(self.network, self.batteries, soc_start, len(days))
        if self.n_worker == 1 or len(days) < 2:
            plans = [self._plan_day(days[k], start[k]) for k in range(len(days))]
        else:
            setup = (self.network, self.batteries, self.name)
            # Not fork: a process that has run OpenMP threads cannot be forked safely.
            with ProcessPoolExecutor(
                min(self.n_worker, len(days)), get_context("spawn"), initializer=_set_up_worker, initargs=setup
            ) as pool:
                plans = list(pool.map(_plan_in_worker, [days[k] for k in range(len(days))], start))
        return np.array(plans).reshape(len(days), days.n_step, len(self.batteries))

    def _plan_day(self, day: VoltageDays, start: FloatArray) -> FloatArray:
        """Return the plan (T, n_bat) of a batch of one day."""
        feeder = _Feeder(self.network, self.batteries, self._matrices, day, exact=self.name == "ac_opf")
        p = np.zeros((day.n_step, len(self.batteries)))
        w, slope = feeder.voltages(p)
        wanted = self.batteries.soc_start if self.batteries.soc_end is None else self.batteries.soc_end
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

    def _battery_program(self, day: VoltageDays, start: FloatArray, wanted: FloatArray) -> _BatteryProgram:
        """Return (1)-(3), read from Pyomo once for days that begin and end alike."""
        key = (day.n_step, day.step_h, start.tobytes())
        if self._program is None or self._program.key != key:
            price = _SLACK_PRICE / np.abs(self._matrices.columns / self._matrices.p_max[:, None]).max()
            self._program = _BatteryProgram.read(self.network, self.batteries, day, start, wanted, price)
        self._program.begin()
        return self._program

    def _unreachable(self, day: VoltageDays, start: FloatArray, wanted: FloatArray) -> str:
        power_hours = day.n_step * day.step_h * self.batteries.p_max * self.batteries.efficiency_charge
        k = int(np.argmax(wanted - start - power_hours / self.batteries.energy))
        return (
            f"{self.network.name}: on {day.date[0]} battery {self.batteries.name[k]!r} cannot go from SOC {start[k]:.3f} to "
            f"{wanted[k]:.3f} by the end; start it fuller, raise its p_max, or ask for less at the end"
        )

    def _shortfall(self, feeder: _Feeder, w: FloatArray, day: VoltageDays) -> str:
        excess = feeder.excess(w)
        t, i = np.unravel_index(int(excess.argmax()), excess.shape)
        bus = self.network.bus_name[feeder.bus[i]]
        if excess[t, i] <= TOLERANCE_PU:
            return (
                f"{self.network.name}: {self.name} of {day.date[0]} did not settle in {_ROUNDS} rounds, so its optimum is not "
                "known; leave the day out"
            )
        return (
            f"{self.network.name}: {self.name} found no plan for {day.date[0]} that holds bus {bus!r} at step {t}: "
            f"{np.sqrt(w[t, i]):.4f} pu is {excess[t, i]:.2g} outside its band; raise power or energy of the batteries, or "
            "widen the band"
        )


class _Feeder:
    """One day on the feeder: squared voltages of judged buses, and their slopes, at any plan."""

    def __init__(
        self, network: Network, batteries: Batteries, matrices: SafetyMatrices, day: VoltageDays, exact: bool
    ) -> None:
        self.network, self.batteries, self.exact = network, batteries, exact
        self.bus: IntArray = judged_buses(network)
        free = np.setdiff1d(self.bus, matrices.bus)
        if free.size:
            raise ValueError(
                f"{network.name}: the voltage of substation {network.bus_name[free[0]]!r} is free, as a generator stands for "
                "the grid above it; this optimum takes substations held at a voltage: use baselines.opf, or drop gen_is_grid"
            )
        place = np.searchsorted(matrices.bus, self.bus)
        self.p_net, self.q_net = (net[0] for net in net_demand(network, day))
        self.lossless = matrices.lossless(self.p_net, self.q_net)[:, place]
        self.linear_slope = (matrices.columns / matrices.p_max[:, None])[:, place]
        self.low, self.high = network.v_min[self.bus] ** 2, network.v_max[self.bus] ** 2

    def voltages(self, p: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return squared voltages (T, m) at powers p (T, n_bat) and their slopes (T, n_bat, m).

        A step without an AC solution has those of LinDistFlow, far outside the band as they then are.
        """
        w = self.lossless + p @ self.linear_slope
        slope = np.broadcast_to(self.linear_slope, (len(p), *self.linear_slope.shape))
        if not self.exact:
            return w, slope
        drawn = self.p_net + battery_demand(self.network, self.batteries, p)
        flow = solve_power_flow(self.network, drawn, self.q_net)
        true = voltage_sensitivity(self.network, flow.voltage, drawn, self.q_net, self.batteries.bus, self.bus)
        solved = flow.converged & np.isfinite(true).all(axis=(1, 2))
        w_ac = np.abs(flow.voltage[:, self.bus]) ** 2
        return np.where(solved[:, None], w_ac, w), np.where(solved[:, None, None], true, slope)

    def excess(self, w: FloatArray) -> FloatArray:
        """Return how far outside its band each voltage is, (T, m) pu; negative inside."""
        v = np.sqrt(np.maximum(w, 0.0))
        return np.asarray(np.maximum(np.sqrt(self.low) - v, v - np.sqrt(self.high)))


@dataclass(eq=False)
class _BatteryProgram:
    """(1)-(3) of a day as arrays, compiled from Pyomo, and the rows (5) that voltages have asked for so far."""

    key: tuple[Any, ...]
    lp: WarmLp
    lower: FloatArray  # (n_column,)
    upper: FloatArray
    charge: IntArray  # (T, n_bat) columns of c
    discharge: IntArray  # of d
    slack: IntArray  # (T, 2) of s and z
    row: IntArray  # (n, 2) step and position of the bus of each row (5), in the order in which they came

    @classmethod
    def read(
        cls,
        network: Network,
        batteries: Batteries,
        day: VoltageDays,
        start: FloatArray,
        wanted: FloatArray,
        price: float,
    ) -> _BatteryProgram:
        model = _battery_model(network, batteries, day, start, wanted)
        compiled = compile_model(model)
        n_step, n_column = day.n_step, compiled.n_column
        rows, cost = compiled.limits, np.zeros(n_column + 2 * n_step)
        cost[compiled.cost.column] = compiled.cost.value
        cost[n_column:] = price * network.base_mva
        base = sparse.csr_matrix((rows.value, rows.column, rows.start), shape=(len(rows.constant), len(cost)))
        lower, upper = np.zeros(len(cost)), np.full(len(cost), np.inf)
        for name, columns in compiled.columns.items():
            variables = list(model.find_component(name).values())
            lower[columns], upper[columns] = [v.lb for v in variables], [v.ub for v in variables]
        shape = (n_step, len(batteries))
        return cls(
            (n_step, day.step_h, start.tobytes()),
            WarmLp(cost, base, compiled.lower - rows.constant, compiled.upper - rows.constant), lower, upper,
            compiled.columns["p_charge"].reshape(shape), compiled.columns["p_discharge"].reshape(shape),
            n_column + np.arange(2 * n_step).reshape(n_step, 2), np.zeros((0, 2), dtype=np.int64),
        )  # fmt: skip

    def begin(self) -> None:
        """Forget the last day: what is found must not depend on the days before."""
        self.lp.forget()
        self.row = self.row[:0]

    def solve(
        self, feeder: _Feeder, p: FloatArray, w: FloatArray, slope: FloatArray, reach: FloatArray | None = None
    ) -> FloatArray | None:
        """Return the plan (T, n_bat) that is optimal by (5) at the plan p, or None where the batteries alone cannot.

        reach: (n_bat,) by how much a power may differ from p, for which neither way may exceed its own by more.
        """
        near = (w < feeder.low + _NEAR) | (w > feeder.high - _NEAR)
        near[self.row[:, 0], self.row[:, 1]] = False
        self.row = np.vstack([self.row, np.argwhere(near)])
        rows, lower, upper = self._rows(feeder, p, w, slope)
        least, held = self._within(p, reach)
        x = self.lp.solve(least, held, rows, lower, upper)
        while x is not None and (both := np.minimum(x[self.charge], x[self.discharge]) > _BOTH).any():
            net = x[self.charge] - x[self.discharge]
            held = held.copy()
            held[self.discharge[both & (net >= 0)]] = 0.0
            held[self.charge[both & (net < 0)]] = 0.0
            x = self.lp.solve(least, held, rows, lower, upper)
        return None if x is None else x[self.charge] - x[self.discharge]

    def _within(self, p: FloatArray, reach: FloatArray | None) -> tuple[FloatArray, FloatArray]:
        if reach is None:
            return self.lower, self.upper
        least, most = self.lower.copy(), self.upper.copy()
        for way, power in ((self.charge, np.maximum(p, 0.0)), (self.discharge, np.maximum(-p, 0.0))):
            least[way], most[way] = np.maximum(least[way], power - reach), np.minimum(most[way], power + reach)
        return least, most

    def _rows(
        self, feeder: _Feeder, p: FloatArray, w: FloatArray, slope: FloatArray
    ) -> tuple[Any, FloatArray, FloatArray]:
        """Return the matrix of (5) and its limits."""
        t, i = self.row.T
        n_row, n_bat = len(t), p.shape[1]
        j = slope[t, :, i]
        rest = w[t, i] - np.einsum("rk,rk->r", j, p[t])
        values = np.hstack([j, -j, np.broadcast_to([1.0, -1.0], (n_row, 2))])
        columns = np.hstack([self.charge[t], self.discharge[t], self.slack[t]])
        start = np.arange(n_row + 1) * (2 * n_bat + 2)
        matrix = sparse.csr_matrix((values.ravel(), columns.ravel(), start), shape=(n_row, len(self.lower)))
        return matrix, feeder.low[i] - rest, feeder.high[i] - rest


def _battery_model(
    network: Network, batteries: Batteries, day: VoltageDays, start: FloatArray, wanted: FloatArray
) -> pyo.ConcreteModel:
    """Return (1)-(3) in Pyomo."""
    model = pyo.ConcreteModel(f"batteries of {network.name}")
    today = replace(batteries, soc_start=start, soc_end=None)
    model.periods = read_periods(network, day.p_load[0], step_h=day.step_h, batteries=today)
    model.time = pyo.RangeSet(0, day.n_step - 1)
    add_batteries(model, today, day.step_h)
    model.del_component(model.soc_final)
    least = np.minimum(wanted + _END_MARGIN, batteries.soc_max)

    @model.Constraint(model.battery, doc="(3)")
    def soc_final(m: Any, k: int) -> Any:
        return m.soc[m.time.last(), k] >= float(least[k])

    model.objective = pyo.Objective(expr=regulation_power(model))
    return model


def _checked_soc(network: Network, batteries: Batteries, soc: FloatArray, n_day: int) -> FloatArray:
    start = np.asarray(soc, dtype=float)
    if start.shape != (n_day, len(batteries)):
        raise ValueError(f"{network.name}: soc_start has shape {start.shape}; expected {(n_day, len(batteries))}")
    bad = np.argwhere(~((start >= batteries.soc_min) & (start <= batteries.soc_max)))
    if bad.size:
        day, k = bad[0]
        raise ValueError(
            f"{network.name}: soc_start of battery {batteries.name[k]!r} on day {day} is {start[day, k]:g}; it must lie "
            f"between soc_min {batteries.soc_min[k]:g} and soc_max {batteries.soc_max[k]:g}"
        )
    return start


_worker: list[VoltageOpf] = []


def _set_up_worker(network: Network, batteries: Batteries, name: str) -> None:
    # The processes share the cores already.
    numba.set_num_threads(1)
    _worker[:] = [VoltageOpf(network, batteries, name)]


def _plan_in_worker(day: VoltageDays, start: FloatArray) -> FloatArray:
    return _worker[0]._plan_day(day, start)
