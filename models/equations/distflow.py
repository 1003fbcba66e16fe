"""DistFlow: the AC equations of a radial feeder in powers and squares; also as a cone, or linear.

Source of the equations: Baran & Wu, IEEE Trans. Power Delivery 4(2), 1989; of the cone: Farivar &
Low, IEEE Trans. Power Systems 28(3), 2013. Per unit. Branch b runs from bus i to bus j. P_b, Q_b
enter it at i, and Pj_b, Qj_b at j. w = |V|^2, and ell is the squared current through the series
impedance r + jx. u_b = w_i / tap_b^2 is the squared voltage behind its transformer. Ps_b = P_b -
g_from u_b and Qs_b = Q_b + b_from u_b enter the series impedance there.

    (1)  p_i = g_i w_i + sum of P_b out of i + sum of Pj_b into i,
         Pj_b = r ell_b - Ps_b + g_to w_j
    (2)  q_i = -b_i w_i + sum of Q_b out of i + sum of Qj_b into i,
         Qj_b = x ell_b - Qs_b - b_to w_j
    (3)  w_j = u_b - 2 (r Ps_b + x Qs_b) + |z|^2 ell_b
    (4)  Ps_b^2 + Qs_b^2 = u_b ell_b                              exact;   <= in soc
    (5)  v_min^2 <= w_i <= v_max^2;   w_i = |v_s|^2 at a substation that the grid above holds

p_i, q_i are the injections of `periods.py`. g_i, b_i are the shunt of bus i and of the open
branches that hang from it. In linear form ell = 0 in (1)-(3). `series_end`, `voltage_change` and
`cone_excess` state (1)-(4) of one branch. `switched_distflow.py` and `lossless.py` use them too.

So that current that costs nothing is bounded, soc has

    (6)  ell_b <= (2 S_b tap_b / v_min_i)^2

S_b is the largest power that the buses behind the branch can draw or feed. A current above (6)
would lose more than is delivered.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyomo.environ as pyo

from feederguard.models.arrays import FloatArray
from feederguard.models.equations.periods import voltage_bands
from feederguard.models.network import Network
from feederguard.models.network.pi_model import bus_shunts, hanging_shunts, held_substations


@dataclass(frozen=True, eq=False)
class FlowState:
    """Values of the variables of DistFlow over T steps."""

    p: FloatArray  # (T, n_branch) into each branch at its from bus
    q: FloatArray  # (T, n_branch)
    w: FloatArray  # (T, n_bus) squared voltage
    ell: FloatArray  # (T, n_branch) squared series current


def series_end(r: float, x: float, P: Any, Q: Any, ell: Any) -> tuple[Any, Any]:
    """Return the powers that leave a series impedance, where P, Q enter it: (1), (2)."""
    return P - r * ell, Q - x * ell


def voltage_change(r: float, x: float, P: Any, Q: Any, ell: Any) -> Any:
    """Return w_j - u of (3): how the squared voltage changes along a series impedance."""
    return -2 * (r * P + x * Q) + (r**2 + x**2) * ell


def cone_excess(u: Any, P: Any, Q: Any, ell: Any) -> Any:
    """Return P^2 + Q^2 - u ell of (4)."""
    return P**2 + Q**2 - u * ell


def series_flow(m: Any, network: Network, t: int, b: int) -> tuple[Any, Any]:
    """Return Ps and Qs: the powers that enter the series impedance behind the tap."""
    i, tap2 = int(network.from_bus[b]), float(network.tap[b]) ** 2
    g, c = float(network.g_from[b]) / tap2, float(network.b_from[b]) / tap2
    return (m.P[t, b] - g * m.w[t, i] if g else m.P[t, b]), (
        m.Q[t, b] + c * m.w[t, i] if c else m.Q[t, b]
    )


def add_state(model: pyo.ConcreteModel, network: Network, form: str, start: FlowState) -> None:
    """Add P, Q, ell[t, b] and w[t, i] within (5), with the values of `start`.

    In linear form ell is an expression: the squared current at nominal voltage.
    """
    low, high = (band.tolist() for band in voltage_bands(network))
    held = set(network.substation[held_substations(network)].tolist())
    index, tap2 = (model.time, model.branch), (network.tap**2).tolist()
    p, q, w, ell = (values.tolist() for values in (start.p, start.q, start.w, start.ell))
    model.P = pyo.Var(
        *index, initialize=lambda m, t, b: p[t][b], doc="active power into b at its from bus"
    )
    model.Q = pyo.Var(
        *index, initialize=lambda m, t, b: q[t][b], doc="reactive power into b at its from bus"
    )

    def bounds(m: Any, t: int, i: int) -> tuple[float | None, float | None]:
        return (None, None) if i in held else (low[i] ** 2, high[i] ** 2)

    def w_start(m: Any, t: int, i: int) -> float:
        return float(w[t][i] if i in held else min(max(w[t][i], low[i] ** 2), high[i] ** 2))

    model.w = pyo.Var(model.time, model.bus, bounds=bounds, initialize=w_start, doc="(5)")
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


def add_far_ends(model: pyo.ConcreteModel, network: Network, form: str) -> None:
    """Add expressions P_to, Q_to[t, b], the Pj and Qj of (1), (2), and loss[t] in branches."""
    r, x, tap2 = network.r.tolist(), network.x.tolist(), (network.tap**2).tolist()
    near, far = network.from_bus.tolist(), network.to_bus.tolist()
    g_from, g_to, b_to = network.g_from.tolist(), network.g_to.tolist(), network.b_to.tolist()
    shunts = [(g_from[b] / tap2[b], near[b]) for b in model.branch] + [
        (g_to[b], far[b]) for b in model.branch
    ]
    shunts += [(g, i) for i, g in enumerate(hanging_shunts(network).real.tolist())]

    def leaving(m: Any, t: int, b: int) -> tuple[Any, Any]:
        ell = 0.0 if form == "linear" else m.ell[t, b]
        return series_end(r[b], x[b], *series_flow(m, network, t, b), ell)

    def p_far(m: Any, t: int, b: int) -> Any:
        into = -leaving(m, t, b)[0]
        return into + g_to[b] * m.w[t, far[b]] if g_to[b] else into

    def q_far(m: Any, t: int, b: int) -> Any:
        into = -leaving(m, t, b)[1]
        return into - b_to[b] * m.w[t, far[b]] if b_to[b] else into

    def loss(m: Any, t: int) -> Any:
        heat = sum(r[b] * m.ell[t, b] for b in m.branch if r[b])
        return heat + sum(g * m.w[t, i] for g, i in shunts if g)

    model.P_to = pyo.Expression(model.time, model.branch, rule=p_far, doc="Pj of (1)")
    model.Q_to = pyo.Expression(model.time, model.branch, rule=q_far, doc="Qj of (2)")
    model.loss = pyo.Expression(model.time, rule=loss, doc="active power lost in branches")


def add_balance(model: pyo.ConcreteModel, network: Network) -> None:
    """Add (1) and (2) as active_balance and reactive_balance[t, i]."""
    out_of: list[list[int]] = [[] for _ in range(network.n_bus)]
    into: list[list[int]] = [[] for _ in range(network.n_bus)]
    for b in model.branch:
        out_of[network.from_bus[b]].append(b)
        into[network.to_bus[b]].append(b)
    g, c = (values.tolist() for values in bus_shunts(network))

    # `.expr` takes the contents of an expression: solver files then hold plain linear rows.
    @model.Constraint(model.time, model.bus, doc="(1)")
    def active_balance(m: Any, t: int, i: int) -> Any:
        away = sum(m.P[t, b] for b in out_of[i]) + sum(m.P_to[t, b].expr for b in into[i])
        return (away + g[i] * m.w[t, i] if g[i] else away) == m.p_injected[t, i].expr

    @model.Constraint(model.time, model.bus, doc="(2)")
    def reactive_balance(m: Any, t: int, i: int) -> Any:
        away = sum(m.Q[t, b] for b in out_of[i]) + sum(m.Q_to[t, b].expr for b in into[i])
        return (away - c[i] * m.w[t, i] if c[i] else away) == m.q_injected[t, i].expr


def add_drop(model: pyo.ConcreteModel, network: Network, form: str) -> None:
    """Add (3) as voltage_drop[t, b]."""
    r, x, tap2 = network.r.tolist(), network.x.tolist(), (network.tap**2).tolist()
    near, far = network.from_bus.tolist(), network.to_bus.tolist()

    @model.Constraint(model.time, model.branch, doc="(3)")
    def voltage_drop(m: Any, t: int, b: int) -> Any:
        ell = 0.0 if form == "linear" else m.ell[t, b]
        change = voltage_change(r[b], x[b], *series_flow(m, network, t, b), ell)
        return m.w[t, far[b]] == m.w[t, near[b]] / tap2[b] + change


def add_cone(model: pyo.ConcreteModel, network: Network, form: str, reach: FloatArray) -> None:
    """Add (4) as cone[t, b] in exact or soc form, and (6) as upper bounds of ell in soc.

    reach: (T, n_branch) S of (6); infinite where nothing limits it.
    """
    near, tap2 = network.from_bus.tolist(), (network.tap**2).tolist()

    @model.Constraint(model.time, model.branch, doc="(4)")
    def cone(m: Any, t: int, b: int) -> Any:
        u = m.w[t, near[b]] / tap2[b]
        excess = cone_excess(u, *series_flow(m, network, t, b), m.ell[t, b])
        return excess == 0 if form == "exact" else excess <= 0

    if form == "soc":
        v_low = np.minimum(network.v_min, np.abs(network.v_substation).min())[network.from_bus]
        most = (2 * reach * network.tap / np.maximum(v_low, 1e-3)) ** 2
        for t, b in model.ell:
            if np.isfinite(most[t, b]):
                # A branch with nothing behind it still needs an interior for the solver to move in.
                model.ell[t, b].setub(float(most[t, b]) + 1e-6)
