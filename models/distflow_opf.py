"""Optimal power flow on radial feeders by DistFlow, in three forms, over one period or many.

Source of the branch-flow equations: Baran & Wu, IEEE Trans. Power Delivery 4(2), 1989; of the cone:
Farivar & Low, IEEE Trans. Power Systems 28(3), 2013. Per unit. Branch b runs from bus i to bus j;
P_b, Q_b enter it at i, Pj_b, Qj_b at j. u_b = w_i / tap_b^2 is the squared voltage behind its
transformer, Ps_b = P_b - g_from u_b and Qs_b = Q_b + b_from u_b what enters its series impedance r
+ jx there, w = |V|^2, ell = |J|^2 the squared current through it. In each step

    (1)  p_i = g_i w_i + sum of P_b out of i + sum of Pj_b into i,    Pj_b = r ell_b - Ps_b + g_to w_j
    (2)  q_i = -b_i w_i + sum of Q_b out of i + sum of Qj_b into i,   Qj_b = x ell_b - Qs_b - b_to w_j
    (3)  w_j = u_b - 2 (r Ps_b + x Qs_b) + |z|^2 ell_b
    (4)  Ps_b^2 + Qs_b^2 = u_b ell_b                                  exact;   <= in soc
    (5)  v_min^2 <= w_i <= v_max^2;  w_i = |v_s|^2 at a substation that no generator stands for (`gen_is_grid`)
    (6)  P_b^2 + Q_b^2 <= I_b^2 w_i,  Pj_b^2 + Qj_b^2 <= I_b^2 w_j      current rating, where b has no s_max
    (7)  P_b^2 + Q_b^2 <= s_max^2,    Pj_b^2 + Qj_b^2 <= s_max^2        apparent power, where it has one
    (8)  a_min <= angle of V_i less that of V_j <= a_max                linear in P, Q, w: see `equations/branch_limits.py`

with the injections p_i, q_i, generators and batteries of `equations/periods.py`, which numbers its
equations on its own.

    exact   the AC equations of a radial feeder; Ipopt finds a local optimum
    soc     a convex relaxation of exact, so a lower bound (Ipopt or SCIP)
    linear  LinDistFlow, ell = 0 in (1)-(3): an LP where the objective is linear, else a convex QP (HiGHS)

In exact and soc, (6) is ell <= I^2 min(1, tap^2), and (6) itself at an end where charging adds to
the series current. soc may hold more current than flows where losses cost nothing in the objective,
or where losing power helps, as at an upper voltage limit under surplus: `cone_gap` tells. A branch
of no resistance never makes current cost anything, and its gap says nothing. So that such current
is bounded, soc has (9) ell <= (2 S tap / v_min)^2, S the largest power that the buses behind the
branch can draw or feed: a current above it would mean losses larger than what is delivered.

In linear, `ell` is the estimate (Ps^2 + Qs^2) tap^2 at nominal voltage, for losses in objectives
only; the circles in (6) and
(7) are polygons inside them, |V| in (6) is a chord below it, and limits that S cannot reach are left out. Losses being dropped,
voltages are too high under load: leave a margin, and check by the AC power flow.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyomo.environ as pyo
from numpy.typing import ArrayLike

from feederguard.models.arrays import FloatArray
from feederguard.models.battery import Batteries
from feederguard.models.equations.branch_limits import add_angles, add_circles, add_polygons
from feederguard.models.equations.distflow import (
    add_balance,
    add_cone,
    add_drop,
    add_far_ends,
    series_flow,
)
from feederguard.models.equations.lossless import lossless_flow, lossless_range
from feederguard.models.equations.periods import Periods, read_periods, start_opf
from feederguard.models.network import Network
from feederguard.models.network.graph import FedBranch, feeding_tree
from feederguard.models.network.pi_model import held_substations
from feederguard.models.opf_objectives import set_objective
from feederguard.models.solver.solution import model_name

FORMS = ("exact", "soc", "linear")
# Ipopt settings that keep a good start: its defaults would first push it well away from every
# bound.
NEAR_START = {"bound_push": 1e-6, "bound_frac": 1e-6, "mu_init": 1e-5}


def build_distflow_opf(
    network: Network,
    form: str = "exact",
    *,
    p_load: ArrayLike | None = None,
    q_load: ArrayLike | None = None,
    p_gen: ArrayLike | None = None,
    gen_p_max: ArrayLike | None = None,
    step_h: float = 1.0,
    batteries: Batteries | None = None,
    objective: Callable[[Any], Any] | None = None,
) -> pyo.ConcreteModel:
    """Return the optimal power flow (1)-(8) of a radial feeder, unsolved.

    form: one of FORMS. p_load, q_load, p_gen (pu per bus) and gen_p_max (pu per generator): one
    row, or (T, n) for T steps of step_h hours; default the network's. objective: a sum of
    `opf_objectives`; default generation cost where any generator has one, else losses.

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
    periods = read_periods(network, p_load, q_load, p_gen, gen_p_max, step_h, batteries)
    model = start_opf(f"DistFlow OPF ({form}) of {network.name}", periods)
    reach = lossless_range(periods, tree)
    _add_state(model, periods, form, tree)
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
    """Return u ell - Ps^2 - Qs^2 of (4) in a solved exact or soc model, (T, n_branch) pu^2; 0 for
    open branches.

    A soc answer whose gaps vanish is an answer of the AC equations, which `cone_gap(model).max() <
    1e-5` tells at Ipopt's own tolerance, and 1e-7 at solve(model, "ipopt", options={"tol": 1e-10,
    "bound_relax_factor": 0.0}). On a branch without resistance current costs nothing and a solver
    leaves any amount of it, so the gap would say nothing: it is 0 there too. What such current does
    to voltages, through x ell, the AC power flow tells.
    """
    network = model.periods.network
    gap = np.zeros((model.periods.n_step, network.n_branch))
    for t, b in model.cone:
        if network.r[b] != 0:
            gap[t, b] = -pyo.value(model.cone[t, b].body)
    return gap


def start_from(model: pyo.ConcreteModel, solved: pyo.ConcreteModel) -> None:
    """Give the model's free variables the values of the same variables in a solved model of another
    form.

    Many periods in exact form may take Ipopt a minute from the usual start and a second or two from
    the soc answer; it keeps to such a point with solve(model, options=NEAR_START). Raises
    ValueError when a variable has no counterpart with a value, and then leaves the model as it was.
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


def _add_state(
    model: pyo.ConcreteModel, periods: Periods, form: str, tree: list[FedBranch]
) -> None:
    """Add P, Q, w, ell and (5), started at the lossless flow."""
    network, start = periods.network, lossless_flow(periods, tree)
    held = set(network.substation[held_substations(network)].tolist())
    band = list(zip((network.v_min**2).tolist(), (network.v_max**2).tolist(), strict=True))
    index, tap2 = (model.time, model.branch), (network.tap**2).tolist()
    p, q, w, ell = (values.tolist() for values in (start.p, start.q, start.w, start.ell))
    model.P = pyo.Var(
        *index, initialize=lambda m, t, b: p[t][b], doc="active power into b at its from bus"
    )
    model.Q = pyo.Var(
        *index, initialize=lambda m, t, b: q[t][b], doc="reactive power into b at its from bus"
    )
    # A substation is held where the grid above holds it, even outside the band asked of the feeder.
    model.w = pyo.Var(
        model.time,
        model.bus,
        bounds=lambda m, t, i: (None, None) if i in held else band[i],
        initialize=lambda m, t, i: (
            w[t][i] if i in held else min(max(w[t][i], band[i][0]), band[i][1])
        ),
        doc="(5)",
    )
    for t in model.time:
        for i in held:
            model.w[t, i].fix()
    if form == "linear":

        def estimate(m: Any, t: int, b: int) -> Any:
            return tap2[b] * sum(power**2 for power in series_flow(m, network, t, b))

        model.ell = pyo.Expression(*index, rule=estimate, doc="squared current at nominal voltage")
    else:
        model.ell = pyo.Var(
            *index, bounds=(0, None), initialize=lambda m, t, b: ell[t][b], doc="squared current"
        )
