"""Optimal power flow with the full AC equations, in polar form or relaxed to a second-order cone.

Source: MATPOWER User's Manual 8.1, AC optimal power flow, for the problem; Jabr, IEEE Trans. Power
Systems 21(3), 2006, for the relaxation. Per unit. In each step the objective, a sum of
`opf_objectives.py`, is minimised over

    injections, generators, batteries          `equations/periods.py`, `equations/battery.py`
    flows and balances of the AC equations     `equations/ac.py`
    voltages and angle limits of the form      `equations/ac_voltages.py`
    limits of apparent power and of current    `equations/branch_limits.py`

    polar   exact; Ipopt's optimum is local
    soc     a convex relaxation: Ipopt's optimum is global, and never above the polar one

On networks of a thousand buses and more give `solve(model, "ipopt", options={"mu_strategy":
"adaptive"})` for soc: by Ipopt's default strategy it took ten times longer. Ipopt holds the cone to
1e-8. The current of a branch multiplies that by 1 / |z|^2, so with branches of small impedance soc
may understate losses by a percent. The soc form of `distflow_opf.py`, written in currents, does
not. A branch without impedance counts as one of x = 1e-6 pu.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Unpack

import numpy as np
import pyomo.environ as pyo

from feederguard.models.equations.ac import add_balance, add_branch_flows, branch_coefficients
from feederguard.models.equations.ac_voltages import (
    add_cone_angle_limits,
    add_cone_voltages,
    add_polar_angle_limits,
    add_polar_voltages,
    flat_start,
)
from feederguard.models.equations.branch_limits import add_ac_limits
from feederguard.models.equations.periods import OpfData, read_periods, start_opf
from feederguard.models.network import Network, NetworkError
from feederguard.models.network.graph import energised_buses
from feederguard.models.opf_objectives import set_objective

FORMS = ("polar", "soc")


def build_ac_opf(
    network: Network,
    form: str = "polar",
    *,
    objective: Callable[[Any], Any] | None = None,
    **data: Unpack[OpfData],
) -> pyo.ConcreteModel:
    """Return the AC optimal power flow of a network in its normal state, unsolved.

    The network may be radial or meshed. form: one of FORMS. objective: a sum of `opf_objectives`;
    default generation cost where any generator has one, else losses. data: p_load, q_load, p_gen,
    gen_p_max in pu, step_h in hours, batteries; see `OpfData`.

    Sets, injections and batteries are those of `start_opf`; `pair` numbers the pairs of buses that
    branches join. Variables: P, Q, P_to, Q_to[t, b]; v, theta[t, i] (polar); w[t, i], c, s[t, pair]
    (soc; expressions in polar). Expressions: ell[t, b], loss[t]. Constraints: active_balance,
    reactive_balance[t, i]; P_flow, Q_flow, P_to_flow, Q_to_flow[t, b]; power_limit,
    current_limit[t, b, end]; angle_limit[t, b] or [t, b, side]; cone[t, pair] (soc).

    Raises `NetworkError` for a bus that no closed branch joins to a substation, ValueError for an
    unknown form, and as `read_periods`.
    """
    if form not in FORMS:
        raise ValueError(
            f"unknown form {form!r} of AC optimal power flow; use one of {', '.join(FORMS)}"
        )
    _refuse_unfed(network)
    model = start_opf(f"AC OPF ({form}) of {network.name}", read_periods(network, **data))
    coefficients = branch_coefficients(network)
    model.pair = pyo.RangeSet(0, len(coefficients.pair) - 1)
    if form == "polar":
        add_polar_voltages(model, network, coefficients)
        add_polar_angle_limits(model, network)
    else:
        add_cone_voltages(model, network, coefficients)
        add_cone_angle_limits(model, network, coefficients)
    add_branch_flows(model, network, coefficients, flat_start(network))
    add_balance(model, network)
    add_ac_limits(model, network)
    _start_generators_inside(model)
    set_objective(model, objective)
    return model


def _refuse_unfed(network: Network) -> None:
    """Raise `NetworkError` naming a bus that no closed branch joins to a substation."""
    dark = np.flatnonzero(~energised_buses(network, network.closed))
    if dark.size:
        raise NetworkError(
            f"{network.name}: no closed branch joins bus {network.bus_name[dark[0]]!r} to a "
            f"substation ({len(dark)} such); close a tie, or remove the buses that are not fed"
        )


def _start_generators_inside(model: pyo.ConcreteModel) -> None:
    """Start every generator midway between its limits, where Ipopt takes fewer steps."""
    for variable in (*model.p_gen.values(), *model.q_gen.values()):
        if variable.lb is not None and variable.ub is not None:
            variable.set_value(0.5 * (variable.lb + variable.ub))
