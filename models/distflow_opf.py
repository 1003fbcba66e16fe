"""Optimal power flow on radial feeders by DistFlow, in three forms, over one period or many.

Source of the equations: Baran & Wu, IEEE Trans. Power Delivery 4(2), 1989; of the cone: Farivar &
Low, IEEE Trans. Power Systems 28(3), 2013. Per unit. In each step the objective, a sum of
`opf_objectives.py`, is minimised over

    injections, generators, batteries          `equations/periods.py`, `equations/battery.py`
    DistFlow and the voltage band (1)-(6)      `equations/distflow.py`
    limits of current, power and angle         `equations/branch_limits.py`

    exact   the AC equations of a radial feeder; Ipopt finds a local optimum
    soc     a convex relaxation of exact, so a lower bound (Ipopt or SCIP)
    linear  LinDistFlow, ell = 0: an LP where the objective is linear, else a convex QP (HiGHS)

soc may hold more current than flows where losses cost nothing in the objective, or where losing
power helps, as at an upper voltage limit under surplus: `cone_gap` tells. A branch without
resistance never makes current cost anything, and its gap says nothing.

In linear, `ell` is the estimate (Ps^2 + Qs^2) tap^2 at nominal voltage, for losses in objectives
only. Without losses, voltages are too high under load: leave a margin, and check by the AC power
flow.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Unpack

import numpy as np
import pyomo.environ as pyo

from feederguard.models.arrays import FloatArray
from feederguard.models.equations.branch_limits import add_angles, add_circles, add_polygons
from feederguard.models.equations.distflow import (
    add_balance,
    add_cone,
    add_drop,
    add_far_ends,
    add_state,
    series_flow,
)
from feederguard.models.equations.lossless import lossless_flow, lossless_range
from feederguard.models.equations.periods import OpfData, read_periods, start_opf
from feederguard.models.network import Network
from feederguard.models.network.graph import feeding_tree
from feederguard.models.opf_objectives import set_objective
from feederguard.models.solver.solution import model_name

FORMS = ("exact", "soc", "linear")


def build_distflow_opf(
    network: Network,
    form: str = "exact",
    *,
    objective: Callable[[Any], Any] | None = None,
    **data: Unpack[OpfData],
) -> pyo.ConcreteModel:
    """Return the DistFlow optimal power flow of a radial feeder, unsolved.

    form: one of FORMS. objective: a sum of `opf_objectives`; default generation cost where any
    generator has one, else losses. data: p_load, q_load, p_gen, gen_p_max in pu, step_h in hours,
    batteries; see `OpfData`.

    Sets, injections and batteries are those of `start_opf`. Variables: w[t, i]; P, Q, ell[t, b]
    (ell an expression in linear form). Expressions: P_to, Q_to[t, b]; loss[t]. Constraints:
    active_balance, reactive_balance[t, i]; voltage_drop[t, b]; cone[t, b] (exact, soc); those of
    `equations/branch_limits.py`; soc_balance, soc_final, battery_power.

    Raises `NetworkError` for a meshed feeder or a bus that is not fed, ValueError for an unknown
    form, and as `read_periods`.
    """
    if form not in FORMS:
        raise ValueError(f"unknown form {form!r} of DistFlow; use one of {', '.join(FORMS)}")
    tree = feeding_tree(network)
    periods = read_periods(network, **data)
    model = start_opf(f"DistFlow OPF ({form}) of {network.name}", periods)
    reach = lossless_range(periods, tree)
    add_state(model, network, form, lossless_flow(periods, tree))
    add_far_ends(model, network, form)
    add_balance(model, network)
    add_drop(model, network, form)
    if form == "linear":
        add_polygons(model, network, reach)
    else:
        add_cone(model, network, form, reach.largest)
        add_circles(model, network)
    add_angles(model, network, lambda m, t, b: series_flow(m, network, t, b))
    set_objective(model, objective)
    return model


def cone_gap(model: Any) -> FloatArray:
    """Return u ell - Ps^2 - Qs^2 of a solved exact or soc model, (T, n_branch) pu^2.

    A soc answer without gaps is an answer of the AC equations. At Ipopt's own tolerance
    `cone_gap(model).max() < 1e-5` tells that, and 1e-7 at solve(model, "ipopt", options={"tol":
    1e-10, "bound_relax_factor": 0.0}). Open branches have a gap of 0. So have branches without
    resistance: current costs nothing there, and a solver leaves any amount of it. What such current
    does to voltages, through x ell, the AC power flow tells.
    """
    network = model.periods.network
    gap = np.zeros((model.periods.n_step, network.n_branch))
    for t, b in model.cone:
        if network.r[b] != 0:
            gap[t, b] = -pyo.value(model.cone[t, b].body)
    return gap


def start_from(model: pyo.ConcreteModel, solved: pyo.ConcreteModel) -> None:
    """Start the model's free variables at their values in a solved model of another form.

    Many periods in exact form may take Ipopt a minute from the usual start, and a second or two
    from the soc answer. Ipopt stays near such a start with solve(model, options=NEAR_START).

    Raises ValueError when a variable has no counterpart with a value; the model is then as it was.
    """
    values = []
    for variable in model.component_data_objects(pyo.Var):
        if variable.fixed:
            continue
        other = solved.find_component(variable.name)
        value = None if other is None else pyo.value(other, exception=False)
        if value is None:
            raise ValueError(
                f"{model_name(model)}: {variable.name} has no value in {model_name(solved)}; "
                "give a solved model of the same network, steps and batteries"
            )
        values.append((variable, float(value)))
    for variable, value in values:
        variable.set_value(value, skip_validation=True)
