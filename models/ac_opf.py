"""Optimal power flow with the full AC equations, exact in polar voltages or relaxed to a
second-order cone.

Source: MATPOWER User's Manual, AC optimal power flow, for the problem; Jabr, IEEE Trans. Power
Systems 21(3), 2006, for the relaxation. Per unit. Branch and bus equations are those of
`equations/ac.py`, generators, batteries and injections those of `equations/periods.py`, each with
numbers of its own. For every step, bus i and closed branch b = (i, j):

    (1)  the flows and balances of `equations/ac.py`, the injections and batteries of `equations/periods.py`
    (2)  v_min_i <= |V_i| <= v_max_i; |V_i| = |v_s| at a substation that no generator stands for (`gen_is_grid`)
    (3)  P_b^2 + Q_b^2 <= s_max_b^2 and P_to_b^2 + Q_to_b^2 <= s_max_b^2                  where b has an s_max
    (4)  P_b^2 + Q_b^2 <= rating_b^2 w_i and P_to_b^2 + Q_to_b^2 <= rating_b^2 w_j        where b has a rating only
    (5)  angle_min_b <= theta_i - theta_j <= angle_max_b

    polar  (6)  w_i = v_i^2, c_ij = v_i v_j cos(theta_i - theta_j), s_ij = v_i v_j sin(theta_i - theta_j);
                theta is that of v_substation at every substation
    soc    (7)  (c_ij^2 + s_ij^2) / w_i <= w_j, and w, c, s are unknowns
           (8)  cos(angle_min_b) s_ij >= sin(angle_min_b) c_ij and cos(angle_max_b) s_ij <= sin(angle_max_b) c_ij, for (5),
                where angle_max_b - angle_min_b <= pi: what a wider band lets c and s be is not
                convex

Every point of the polar form has w, c and s that satisfy (7) and (8), so the optimum of soc is
never above the polar one; Ipopt's optimum of the polar form is local, that of soc global. (7)
divides by w_i because c^2 + s^2 - w_i w_j is not convex as a function, only the set it bounds is.
On networks of a thousand buses and more give `solve(model, "ipopt", options={"mu_strategy":
"adaptive"})` for soc: Ipopt's own choice of steps took ten times longer. Ipopt holds (7) to 1e-8,
and a branch of small impedance multiplies that by 1 / |z|^2 in its current: on feeders with such
branches soc may understate losses by a percent, where the soc form of `distflow_opf.py`, in the
currents, does not. A branch without impedance counts as one of x = 1e-6 pu.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyomo.environ as pyo
from numpy.typing import ArrayLike

from feederguard.models.arrays import ComplexArray
from feederguard.models.battery import Batteries
from feederguard.models.equations.ac import (
    BranchCoefficients,
    add_balance,
    add_branch_flows,
    branch_coefficients,
)
from feederguard.models.equations.periods import read_periods, start_opf
from feederguard.models.network import Network, NetworkError
from feederguard.models.network.graph import energised_buses
from feederguard.models.network.pi_model import held_substations
from feederguard.models.opf_objectives import set_objective

FORMS = ("polar", "soc")
ENDS = ("from", "to")


def build_ac_opf(
    network: Network,
    form: str = "polar",
    *,
    p_load: ArrayLike | None = None,
    q_load: ArrayLike | None = None,
    p_gen: ArrayLike | None = None,
    gen_p_max: ArrayLike | None = None,
    step_h: float = 1.0,
    batteries: Batteries | None = None,
    objective: Callable[[Any], Any] | None = None,
) -> pyo.ConcreteModel:
    """Return the optimal power flow (1)-(8) of a radial or meshed network in its normal state,
    unsolved.

    form: one of FORMS. p_load, q_load, p_gen (pu per bus) and gen_p_max (pu per generator): one
    row, or (T, n) for T steps of step_h hours; default the network's. objective: a sum of
    `opf_objectives`; default generation cost where any generator has one, else losses.

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
    periods = read_periods(network, p_load, q_load, p_gen, gen_p_max, step_h, batteries)
    model = start_opf(f"AC OPF ({form}) of {network.name}", periods)
    coefficients = branch_coefficients(network)
    model.pair = pyo.RangeSet(0, len(coefficients.pair) - 1)
    if form == "polar":
        _add_polar_voltages(model, network, coefficients)
        _add_angle_limits(model, network)
    else:
        _add_relaxed_voltages(model, network, coefficients)
        _add_relaxed_angle_limits(model, network, coefficients)
    add_branch_flows(model, network, coefficients, _flat_start(network))
    add_balance(model, network)
    _add_branch_limits(model, network)
    _start_generators_inside(model)
    set_objective(model, objective)
    return model


def _refuse_unfed(network: Network) -> None:
    fed = energised_buses(network, network.closed)
    dark = [network.bus_name[i] for i in np.flatnonzero(~fed)]
    if dark:
        raise NetworkError(
            f"{network.name}: no closed branch joins bus {dark[0]!r} to a substation ({len(dark)} "
            "such); close a tie, or "
            "leave out what is dark"
        )


def _voltage_bands(network: Network) -> tuple[list[float], list[float]]:
    """Return the least and greatest |V| of every bus by (2)."""
    low, high = network.v_min.copy(), network.v_max.copy()
    held = held_substations(network)
    # Where the grid above holds it, a substation may stand outside the band asked of the feeder.
    low[network.substation[held]] = high[network.substation[held]] = np.abs(
        network.v_substation[held]
    )
    return low.tolist(), high.tolist()


def _flat_start(network: Network) -> ComplexArray:
    """Return |V| of 1, or the nearest allowed, at the angles at which nothing flows, (n_bus,)."""
    low, high = _voltage_bands(network)
    return np.asarray(np.clip(1.0, low, high) * np.exp(1j * network.no_load_angle))


def _add_polar_voltages(
    model: pyo.ConcreteModel, network: Network, coefficients: BranchCoefficients
) -> None:
    low, high = _voltage_bands(network)
    magnitude, angle = np.abs(_flat_start(network)).tolist(), network.no_load_angle.tolist()
    model.v = pyo.Var(
        model.time,
        model.bus,
        bounds=lambda m, t, i: (low[i], high[i]),
        initialize=lambda m, t, i: magnitude[i],
        doc="(2)",
    )
    model.theta = pyo.Var(model.time, model.bus, initialize=lambda m, t, i: angle[i], doc="rad")
    held = [i for i in model.bus if low[i] == high[i]]
    for t in model.time:
        for i in held:
            model.v[t, i].fix()
        for i in network.substation.tolist():
            model.theta[t, i].fix()

    def product(m: Any, t: int, k: int, part: Callable[[Any], Any]) -> Any:
        i, j = coefficients.pair[k]
        return m.v[t, i] * m.v[t, j] * part(m.theta[t, i] - m.theta[t, j])

    model.w = pyo.Expression(model.time, model.bus, rule=lambda m, t, i: m.v[t, i] ** 2, doc="(6)")
    model.c = pyo.Expression(
        model.time, model.pair, rule=lambda m, t, k: product(m, t, k, pyo.cos), doc="(6)"
    )
    model.s = pyo.Expression(
        model.time, model.pair, rule=lambda m, t, k: product(m, t, k, pyo.sin), doc="(6)"
    )


def _add_relaxed_voltages(
    model: pyo.ConcreteModel, network: Network, coefficients: BranchCoefficients
) -> None:
    low, high = _voltage_bands(network)
    start = _flat_start(network)
    near, far = np.array(coefficients.pair, dtype=np.int64).reshape(-1, 2).T
    magnitude, product = np.abs(start).tolist(), (start[near] * np.conj(start[far])).tolist()
    model.w = pyo.Var(
        model.time,
        model.bus,
        bounds=lambda m, t, i: (low[i] ** 2, high[i] ** 2),
        initialize=lambda m, t, i: magnitude[i] ** 2,
        doc="(2)",
    )
    for t in model.time:
        for i in model.bus:
            if low[i] == high[i]:
                model.w[t, i].fix()

    def bounds(m: Any, t: int, k: int) -> tuple[float, float]:
        i, j = coefficients.pair[k]
        return -high[i] * high[j], high[i] * high[j]

    index = (model.time, model.pair)
    model.c = pyo.Var(
        *index, bounds=bounds, initialize=lambda m, t, k: product[k].real, doc="Re V_i conj(V_j)"
    )
    model.s = pyo.Var(
        *index, bounds=bounds, initialize=lambda m, t, k: product[k].imag, doc="Im V_i conj(V_j)"
    )

    @model.Constraint(*index, doc="(7)")
    def cone(m: Any, t: int, k: int) -> Any:
        i, j = coefficients.pair[k]
        return (m.c[t, k] ** 2 + m.s[t, k] ** 2) / m.w[t, i] <= m.w[t, j]


def _add_angle_limits(model: pyo.ConcreteModel, network: Network) -> None:
    low, high = network.angle_min.tolist(), network.angle_max.tolist()
    limited = [b for b in model.branch if np.isfinite([low[b], high[b]]).any()]

    @model.Constraint(model.time, limited, doc="(5)")
    def angle_limit(m: Any, t: int, b: int) -> Any:
        apart = m.theta[t, int(network.from_bus[b])] - m.theta[t, int(network.to_bus[b])]
        return _bound(low[b]), apart, _bound(high[b])


def _add_relaxed_angle_limits(
    model: pyo.ConcreteModel, network: Network, coefficients: BranchCoefficients
) -> None:
    convex = (network.angle_max - network.angle_min <= np.pi).tolist()  # hence both are finite
    limits = {-1: network.angle_min, 1: network.angle_max}
    place = {
        b: (int(k), float(sign))
        for b, k, sign in zip(
            coefficients.branch.tolist(), coefficients.pair_of, coefficients.sign, strict=True
        )
    }

    @model.Constraint(model.time, [b for b in model.branch if convex[b]], (-1, 1), doc="(8)")
    def angle_limit(m: Any, t: int, b: int, side: int) -> Any:
        (k, sign), limit = place[b], limits[side][b]
        # w sin(theta_i - theta_j - limit): a half-plane of c and s, whichever quadrant the limit is
        # in.
        beyond = sign * float(np.cos(limit)) * m.s[t, k] - float(np.sin(limit)) * m.c[t, k]
        return beyond >= 0 if side == -1 else beyond <= 0


def _add_branch_limits(model: pyo.ConcreteModel, network: Network) -> None:
    s_max, rating = network.s_max.tolist(), network.rating.tolist()

    def end_power(m: Any, t: int, b: int, end: str) -> Any:
        return (
            m.P[t, b] ** 2 + m.Q[t, b] ** 2
            if end == "from"
            else m.P_to[t, b] ** 2 + m.Q_to[t, b] ** 2
        )

    @model.Constraint(
        model.time, [b for b in model.branch if np.isfinite(s_max[b])], ENDS, doc="(3)"
    )
    def power_limit(m: Any, t: int, b: int, end: str) -> Any:
        return end_power(m, t, b, end) <= s_max[b] ** 2

    @model.Constraint(
        model.time,
        [b for b in model.branch if np.isinf(s_max[b]) and np.isfinite(rating[b])],
        ENDS,
        doc="(4)",
    )
    def current_limit(m: Any, t: int, b: int, end: str) -> Any:
        bus = int((network.from_bus if end == "from" else network.to_bus)[b])
        return end_power(m, t, b, end) <= rating[b] ** 2 * m.w[t, bus]


def _start_generators_inside(model: pyo.ConcreteModel) -> None:
    """Start every generator amid its limits: from the edge of them Ipopt takes more steps."""
    for variable in (*model.p_gen.values(), *model.q_gen.values()):
        if variable.lb is not None and variable.ub is not None:
            variable.set_value(0.5 * (variable.lb + variable.ub))


def _bound(limit: float) -> float | None:
    return limit if np.isfinite(limit) else None
