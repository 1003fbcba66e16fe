"""The equations of batteries in an optimal power flow, and two ways to forbid using both ways.

Per unit; battery k, step t of h hours. c is the power drawn from the bus, d the power fed into it,
soc the stored fraction of the energy E.

    (1)  soc_t = soc_(t-1) + h (eta_c c_t - d_t / eta_d) / E,   soc_min <= soc_t <= soc_max
    (2)  soc at the end = soc_end, or >= soc_start where no end is asked
    (3)  c + d <= p_max,   c, d >= 0
    (4)  c d = 0

(3) is the convex hull of (4) with c, d <= p_max. (4) itself is not convex, and left out unless
asked for. `battery/batteries.py` says where it matters, and `battery/netting.py` checks answers.
`forbid_simultaneous_by_binaries` adds it exactly, for HiGHS (linear form, linear objective) and
SCIP. `forbid_simultaneous_by_products` adds it for Ipopt.
"""

from __future__ import annotations

from typing import Any

import pyomo.environ as pyo

from feederguard.models.battery import Batteries

# Limit of c d / p_max^2 in (4) for Ipopt, which needs an interior. The smaller of c and d is then
# below 1e-4 p_max.
PRODUCT_LIMIT = 1e-8


def add_batteries(model: pyo.ConcreteModel, batteries: Batteries, step_h: float) -> None:
    """Add (1)-(3) to a model with time: set battery, variables p_charge, p_discharge, soc[t, k].

    The constraints are soc_balance[t, k], soc_final[k] and battery_power[t, k]. step_h: hours.
    """
    h, last_step = step_h, model.time.last()
    model.battery = pyo.RangeSet(0, len(batteries) - 1)
    index = (model.time, model.battery)
    p_max = batteries.p_max.tolist()
    limits = list(zip(batteries.soc_min.tolist(), batteries.soc_max.tolist(), strict=True))
    start = batteries.soc_start.tolist()
    stored = (h * batteries.efficiency_charge / batteries.energy).tolist()
    taken = (h / (batteries.efficiency_discharge * batteries.energy)).tolist()
    model.p_charge = pyo.Var(
        *index, bounds=lambda m, t, k: (0, p_max[k]), initialize=0.0, doc="c, drawn from the bus"
    )
    model.p_discharge = pyo.Var(
        *index, bounds=lambda m, t, k: (0, p_max[k]), initialize=0.0, doc="d, fed into the bus"
    )
    model.soc = pyo.Var(
        *index,
        bounds=lambda m, t, k: limits[k],
        initialize=lambda m, t, k: start[k],
        doc="(1) at the end of the step",
    )

    @model.Constraint(*index, doc="(1)")
    def soc_balance(m: Any, t: int, k: int) -> Any:
        before = start[k] if t == 0 else m.soc[t - 1, k]
        return m.soc[t, k] == before + stored[k] * m.p_charge[t, k] - taken[k] * m.p_discharge[t, k]

    @model.Constraint(model.battery, doc="(2)")
    def soc_final(m: Any, k: int) -> Any:
        last = m.soc[last_step, k]
        return (
            last >= start[k] if batteries.soc_end is None else last == float(batteries.soc_end[k])
        )

    @model.Constraint(*index, doc="(3)")
    def battery_power(m: Any, t: int, k: int) -> Any:
        return m.p_charge[t, k] + m.p_discharge[t, k] <= p_max[k]


def terminal_power(model: Any) -> Any:
    """Return the sum of c + d over all steps and batteries, in the unit of the model's powers."""
    return sum(
        model.p_charge[t, k] + model.p_discharge[t, k] for t in model.time for k in model.battery
    )


def forbid_simultaneous_by_binaries(model: pyo.ConcreteModel) -> None:
    """Add (4) exactly, for HiGHS (linear) or SCIP: binary charges[t, k] allows one way only."""
    p_max = model.periods.batteries.p_max.tolist()
    model.charges = pyo.Var(
        model.time, model.battery, domain=pyo.Binary, doc="1 charging, 0 discharging"
    )

    @model.Constraint(model.time, model.battery, doc="(4)")
    def charges_if_said(m: Any, t: int, k: int) -> Any:
        return m.p_charge[t, k] <= p_max[k] * m.charges[t, k]

    @model.Constraint(model.time, model.battery, doc="(4)")
    def discharges_if_said(m: Any, t: int, k: int) -> Any:
        return m.p_discharge[t, k] <= p_max[k] * (1 - m.charges[t, k])


def forbid_simultaneous_by_products(model: pyo.ConcreteModel) -> None:
    """Add (4) for Ipopt as one_way[t, k]: c d <= PRODUCT_LIMIT p_max^2.

    `net_batteries` removes what that leaves.
    """
    p_max = model.periods.batteries.p_max.tolist()

    @model.Constraint(model.time, model.battery, doc="(4)")
    def one_way(m: Any, t: int, k: int) -> Any:
        if p_max[k] == 0:
            return pyo.Constraint.Skip
        return (m.p_charge[t, k] / p_max[k]) * (m.p_discharge[t, k] / p_max[k]) <= PRODUCT_LIMIT
