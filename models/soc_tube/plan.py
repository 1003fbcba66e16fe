"""The linear program of one day and side of the SOC tube.

Equation numbers are those of `compute.py`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyomo.environ as pyo

from feederguard.models.arrays import BoolArray, FloatArray, IntArray
from feederguard.models.battery import Batteries
from feederguard.models.network import Network

# Of SOC that an idle battery must give up or take in, against the mean level that this buys: a
# low price would move energy every day that only the rarest day needs.
FORCED_PRICE = 10.0
HELD = 1e-6  # of all power, by which a plan may miss (2)
ROUNDING = 1e-6  # of SOC, in what a solver returns


def constants() -> dict[str, float]:
    """Return the constants of this module that decide what a tube is, by name."""
    return {"forced_price": FORCED_PRICE, "held": HELD, "rounding": ROUNDING}


def charging_factor(network: Network) -> float:
    """Return kappa of (2); 1 where v_min is so low that the formula has no meaning."""
    v_min, v_0 = float(network.v_min.min()), float(np.abs(network.v_substation).max())
    return max(1.0, v_min / (2 * v_min - v_0)) if 2 * v_min > v_0 else 1.0


def build_tube_plan(
    network: Network,
    batteries: Batteries,
    side: str,
    limit: FloatArray,
    step_h: float,
    outside: BoolArray,
    may_miss: bool = False,
) -> pyo.ConcreteModel:
    """Return the linear program of one day and side, unsolved.

    limit: (T,) right side of (2). outside: (T,) steps in which the day is above its band somewhere.
    may_miss: battery k may miss its limits by short[k] of SOC. The objective is then the least
    energy that this stands for.

    Batteries of the same make are one k, `make`. Variables: c, d[t]; soc[t, k] for t = 0..T;
    forced; short[k]. Constraints: voltage (2); soc_balance (3); soc_least, soc_most, power (4);
    first, last (5); forced_bound.
    """
    n_step, low_side = len(limit), side == "low"
    model = pyo.ConcreteModel(f"SOC tube of {network.name} ({side} side)")
    model.make = first_of_make(batteries)
    model.time, model.point = pyo.RangeSet(0, n_step - 1), pyo.RangeSet(0, n_step)
    model.battery = pyo.Set(initialize=sorted(set(model.make.tolist())))
    model.c = pyo.Var(
        model.time, bounds=lambda m, t: (0, 1 if low_side or outside[t] else 0), doc="share charged"
    )
    model.d = pyo.Var(
        model.time,
        bounds=lambda m, t: (0, 1 if low_side or not outside[t] else 0),
        doc="share discharged",
    )
    model.soc = pyo.Var(model.point, model.battery, doc="before step t")
    model.forced = pyo.Var(
        bounds=(0, None), doc="how far the plan leaves an idle battery's SOC, at most"
    )
    model.short = pyo.Var(model.battery, bounds=(0, None if may_miss else 0), initialize=0.0)
    kappa, sign = (charging_factor(network), 1.0) if low_side else (1.0, -1.0)

    @model.Constraint([t for t in range(n_step) if np.isfinite(limit[t])], doc="(2)")
    def voltage(m: Any, t: int) -> Any:
        return (kappa * m.c[t] - m.d[t] if low_side else m.d[t] - m.c[t]) <= float(limit[t])

    _add_storage(model, batteries, low_side, step_h)

    @model.Constraint(model.point, model.battery)
    def forced_bound(m: Any, t: int, k: int) -> Any:
        return sign * (m.soc[t, k] - float(batteries.soc_start[k])) <= m.forced

    used = (
        sum(model.soc[t, k] for t in model.point for k in model.battery)
        / (n_step + 1)
        / len(model.battery)
    )
    missing = sum(float(batteries.energy[k]) * model.short[k] for k in model.battery)
    model.objective = pyo.Objective(
        expr=missing if may_miss else sign * used + FORCED_PRICE * model.forced
    )
    return model


def first_of_make(batteries: Batteries) -> IntArray:
    """Return for each battery the first one of the same make, (n_bat,).

    The make is power per energy, efficiencies, and SOC limits, start and end.
    """
    make = np.stack(
        [
            batteries.p_max / batteries.energy,
            batteries.efficiency_charge,
            batteries.efficiency_discharge,
            batteries.soc_min,
            batteries.soc_max,
            batteries.soc_start,
            *(() if batteries.soc_end is None else (batteries.soc_end,)),
        ],
        axis=1,
    )
    _, first, which = np.unique(make.round(12), axis=0, return_index=True, return_inverse=True)
    return np.asarray(first[which.ravel()], dtype=np.int64)


def _add_storage(model: Any, batteries: Batteries, low_side: bool, step_h: float) -> None:
    moved = step_h * batteries.p_max / batteries.energy
    stored = (moved * batteries.efficiency_charge).tolist()
    taken = (moved / batteries.efficiency_discharge).tolist()
    start, end = batteries.soc_start.tolist(), model.point.last()
    asked = start if batteries.soc_end is None else batteries.soc_end.tolist()
    least, most = batteries.soc_min.tolist(), batteries.soc_max.tolist()

    @model.Constraint(model.time, model.battery, doc="(3)")
    def soc_balance(m: Any, t: int, k: int) -> Any:
        return m.soc[t + 1, k] == m.soc[t, k] + stored[k] * m.c[t] - taken[k] * m.d[t]

    @model.Constraint(model.time, doc="(4)")
    def power(m: Any, t: int) -> Any:
        return m.c[t] + m.d[t] <= 1.0

    @model.Constraint(model.point, model.battery, doc="(4)")
    def soc_least(m: Any, t: int, k: int) -> Any:
        return m.soc[t, k] >= least[k] - m.short[k]

    @model.Constraint(model.point, model.battery, doc="(4)")
    def soc_most(m: Any, t: int, k: int) -> Any:
        return m.soc[t, k] <= most[k] + m.short[k]

    @model.Constraint(model.battery, doc="(5)")
    def first(m: Any, k: int) -> Any:
        if low_side:
            return m.soc[0, k] <= start[k] + m.short[k]
        return m.soc[end, k] <= m.soc[0, k] + (asked[k] - start[k])

    @model.Constraint(model.battery, doc="(5)")
    def last(m: Any, k: int) -> Any:
        return m.soc[end, k] >= asked[k] - m.short[k] if low_side else m.soc[end, k] >= asked[k]
