"""The linear program of the batteries, (1)-(3) of `optimum.py`, with the rows (5) of voltages."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyomo.environ as pyo
from scipy import sparse  # type: ignore[import-untyped]

from feederguard.baselines.voltage.feeder import FeederDay
from feederguard.models.arrays import FloatArray, IntArray
from feederguard.models.battery import Batteries
from feederguard.models.compiled import compile_model
from feederguard.models.equations.battery import add_batteries
from feederguard.models.equations.periods import read_periods
from feederguard.models.network import Network
from feederguard.models.opf_objectives import regulation_power
from feederguard.models.solver.repeated_lp import RepeatedLp
from feederguard.models.voltage_regulation import VoltageDays

_NEAR = 0.04  # pu^2: a voltage that has come this near to a limit gets its row of (5)
_BOTH = 1e-9  # pu: what a battery may do both ways at once by rounding
_END_MARGIN = 1e-8  # of SOC: a solver's tolerance must not leave a battery short at the end


@dataclass(eq=False)
class BatteryProgram:
    """(1)-(3) of a day as arrays, compiled from Pyomo, and the rows (5) added so far."""

    key: tuple[Any, ...]
    lp: RepeatedLp
    lower: FloatArray  # (n_column,)
    upper: FloatArray
    charge: IntArray  # (T, n_bat) columns of c
    discharge: IntArray  # of d
    slack: IntArray  # (T, 2) of s and z
    # (n, 2) step and position of the bus of each row (5), in the order in which they came
    row: IntArray

    @classmethod
    def read(
        cls,
        network: Network,
        batteries: Batteries,
        day: VoltageDays,
        start: FloatArray,
        wanted: FloatArray,
        price: float,
    ) -> BatteryProgram:
        """Return the program of a batch of one day without rows (5).

        start, wanted: (n_bat,) SOC at the start, and the least at the end. price: of slack in (5).
        """
        model = _battery_model(network, batteries, day, start, wanted)
        compiled = compile_model(model)
        n_step, n_column = day.n_step, compiled.n_column
        rows, cost = compiled.limits, np.zeros(n_column + 2 * n_step)
        cost[compiled.cost.column] = compiled.cost.value
        cost[n_column:] = price * network.base_mva
        base = sparse.csr_matrix(
            (rows.value, rows.column, rows.start), shape=(len(rows.constant), len(cost))
        )
        lower, upper = np.zeros(len(cost)), np.full(len(cost), np.inf)
        for name, columns in compiled.columns.items():
            variables = list(model.find_component(name).values())
            lower[columns], upper[columns] = [v.lb for v in variables], [v.ub for v in variables]
        shape = (n_step, len(batteries))
        return cls(
            (n_step, day.step_h, start.tobytes()),
            RepeatedLp(cost, base, compiled.lower - rows.constant, compiled.upper - rows.constant),
            lower,
            upper,
            compiled.columns["p_charge"].reshape(shape),
            compiled.columns["p_discharge"].reshape(shape),
            n_column + np.arange(2 * n_step).reshape(n_step, 2),
            np.zeros((0, 2), dtype=np.int64),
        )

    def begin(self) -> None:
        """Forget the last day: an answer must not depend on the days before."""
        self.lp.forget()
        self.row = self.row[:0]

    def solve(
        self,
        feeder: FeederDay,
        p: FloatArray,
        w: FloatArray,
        slope: FloatArray,
        reach: FloatArray | None = None,
    ) -> FloatArray | None:
        """Return the plan (T, n_bat) that is optimal by (5) at the plan p.

        None where no plan meets (2) and (3). w, slope: those of `feeder.voltages(p)`. reach:
        (n_bat,) by how much charging and discharging may each differ from p.
        """
        near = (w < feeder.low + _NEAR) | (w > feeder.high - _NEAR)
        near[self.row[:, 0], self.row[:, 1]] = False
        self.row = np.vstack([self.row, np.argwhere(near)])
        rows, lower, upper = self._rows(feeder, p, w, slope)
        least, held = self._within(p, reach)
        x = self.lp.solve(least, held, rows, lower, upper)
        while (
            x is not None and (both := np.minimum(x[self.charge], x[self.discharge]) > _BOTH).any()
        ):
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
        for way, power in (
            (self.charge, np.maximum(p, 0.0)),
            (self.discharge, np.maximum(-p, 0.0)),
        ):
            least[way], most[way] = (
                np.maximum(least[way], power - reach),
                np.minimum(most[way], power + reach),
            )
        return least, most

    def _rows(
        self, feeder: FeederDay, p: FloatArray, w: FloatArray, slope: FloatArray
    ) -> tuple[Any, FloatArray, FloatArray]:
        """Return the matrix of (5) and its limits."""
        t, i = self.row.T
        n_row, n_bat = len(t), p.shape[1]
        j = slope[t, :, i]
        rest = w[t, i] - np.einsum("rk,rk->r", j, p[t])
        values = np.hstack([j, -j, np.broadcast_to([1.0, -1.0], (n_row, 2))])
        columns = np.hstack([self.charge[t], self.discharge[t], self.slack[t]])
        start = np.arange(n_row + 1) * (2 * n_bat + 2)
        matrix = sparse.csr_matrix(
            (values.ravel(), columns.ravel(), start), shape=(n_row, len(self.lower))
        )
        return matrix, feeder.low[i] - rest, feeder.high[i] - rest


def _battery_model(
    network: Network, batteries: Batteries, day: VoltageDays, start: FloatArray, wanted: FloatArray
) -> pyo.ConcreteModel:
    """Return (1)-(3) in Pyomo, unsolved."""
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
