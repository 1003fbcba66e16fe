"""DistFlow, (1) to (4) of `distflow_opf.py`: exact, relaxed to a cone, or linear."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyomo.environ as pyo

from feederguard.models.arrays import FloatArray
from feederguard.models.network import Network
from feederguard.models.network.pi_model import bus_shunts, hanging_shunts


def series_flow(m: Any, network: Network, t: int, b: int) -> tuple[Any, Any]:
    """Return Ps and Qs: what enters the series impedance behind the tap."""
    i, tap2 = int(network.from_bus[b]), float(network.tap[b]) ** 2
    g, c = float(network.g_from[b]) / tap2, float(network.b_from[b]) / tap2
    return (m.P[t, b] - g * m.w[t, i] if g else m.P[t, b]), (
        m.Q[t, b] + c * m.w[t, i] if c else m.Q[t, b]
    )


def add_far_ends(model: pyo.ConcreteModel, network: Network, form: str) -> None:
    """Add Pj, Qj of (1), (2), and the loss in branches."""
    r, x, tap2 = network.r.tolist(), network.x.tolist(), (network.tap**2).tolist()
    near, far = network.from_bus.tolist(), network.to_bus.tolist()
    g_from, g_to, b_to = network.g_from.tolist(), network.g_to.tolist(), network.b_to.tolist()
    loses = form != "linear"
    shunts = [(g_from[b] / tap2[b], near[b]) for b in model.branch] + [
        (g_to[b], far[b]) for b in model.branch
    ]
    shunts += [(g, i) for i, g in enumerate(hanging_shunts(network).real.tolist())]

    def p_far(m: Any, t: int, b: int) -> Any:
        into = -series_flow(m, network, t, b)[0] + (r[b] * m.ell[t, b] if loses else 0.0)
        return into + g_to[b] * m.w[t, far[b]] if g_to[b] else into

    def q_far(m: Any, t: int, b: int) -> Any:
        into = -series_flow(m, network, t, b)[1] + (x[b] * m.ell[t, b] if loses else 0.0)
        return into - b_to[b] * m.w[t, far[b]] if b_to[b] else into

    def loss(m: Any, t: int) -> Any:
        heat = sum(r[b] * m.ell[t, b] for b in m.branch if r[b])
        return heat + sum(g * m.w[t, i] for g, i in shunts if g)

    model.P_to = pyo.Expression(model.time, model.branch, rule=p_far, doc="Pj of (1)")
    model.Q_to = pyo.Expression(model.time, model.branch, rule=q_far, doc="Qj of (2)")
    model.loss = pyo.Expression(model.time, rule=loss, doc="active power lost in branches")


def add_balance(model: pyo.ConcreteModel, network: Network) -> None:
    out_of: list[list[int]] = [[] for _ in range(network.n_bus)]
    into: list[list[int]] = [[] for _ in range(network.n_bus)]
    for b in model.branch:
        out_of[network.from_bus[b]].append(b)
        into[network.to_bus[b]].append(b)
    g, c = (values.tolist() for values in bus_shunts(network))

    # The expressions' contents rather than the expressions: solver files then hold plain linear
    # rows.
    @model.Constraint(model.time, model.bus, doc="(1)")
    def active_balance(m: Any, t: int, i: int) -> Any:
        away = sum(m.P[t, b] for b in out_of[i]) + sum(m.P_to[t, b].expr for b in into[i])
        return (away + g[i] * m.w[t, i] if g[i] else away) == m.p_injected[t, i].expr

    @model.Constraint(model.time, model.bus, doc="(2)")
    def reactive_balance(m: Any, t: int, i: int) -> Any:
        away = sum(m.Q[t, b] for b in out_of[i]) + sum(m.Q_to[t, b].expr for b in into[i])
        return (away - c[i] * m.w[t, i] if c[i] else away) == m.q_injected[t, i].expr


def add_drop(model: pyo.ConcreteModel, network: Network, form: str) -> None:
    r, x, z2 = network.r.tolist(), network.x.tolist(), (np.abs(network.z) ** 2).tolist()
    near, far, tap2 = network.from_bus.tolist(), network.to_bus.tolist(), (network.tap**2).tolist()
    loses = form != "linear"

    @model.Constraint(model.time, model.branch, doc="(3)")
    def voltage_drop(m: Any, t: int, b: int) -> Any:
        p, q = series_flow(m, network, t, b)
        drop = 2 * r[b] * p + 2 * x[b] * q - (z2[b] * m.ell[t, b] if loses else 0.0)
        return m.w[t, far[b]] == m.w[t, near[b]] / tap2[b] - drop


def add_cone(model: pyo.ConcreteModel, network: Network, form: str, reach: FloatArray) -> None:
    near, tap2 = network.from_bus.tolist(), (network.tap**2).tolist()

    @model.Constraint(model.time, model.branch, doc="(4)")
    def cone(m: Any, t: int, b: int) -> Any:
        p, q = series_flow(m, network, t, b)
        product = m.w[t, near[b]] * m.ell[t, b] / tap2[b]
        return p**2 + q**2 - product == 0 if form == "exact" else p**2 + q**2 - product <= 0

    if form == "soc":
        v_low = np.minimum(network.v_min, np.abs(network.v_substation).min())[network.from_bus]
        most = (2 * reach * network.tap / np.maximum(v_low, 1e-3)) ** 2
        for t, b in model.ell:
            if np.isfinite(most[t, b]):
                # A branch with nothing behind it still needs an interior for the solver to move in.
                model.ell[t, b].setub(float(most[t, b]) + 1e-6)
