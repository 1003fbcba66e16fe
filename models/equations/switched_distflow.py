"""DistFlow on branches that can be switched: the network equations of the reconfiguration models.

Source: Baran & Wu, IEEE Trans. Power Delivery 4(2), 1989, relaxed to a second-order cone as in
Farivar & Low, IEEE Trans. Power Systems 28(3), 2013. Per unit. Branch b runs from bus i to bus j
behind a ratio t_b; P_b, Q_b enter its series impedance at i, w = |V|^2, ell = |J|^2, y_b tells
whether it is closed, p and q are net demand.

    (1)  sum into j of (P_b - r_b ell_b) - sum out of j of P_b = p_j + g_j w_j + branch conductances
    (2)  sum into j of (Q_b - x_b ell_b) - sum out of j of Q_b = q_j - b_j w_j - branch susceptances
    (3)  w_j = w_i / t_b^2 - 2 (r_b P_b + x_b Q_b) + |z_b|^2 ell_b        where y_b = 1
    (4)  P_b^2 + Q_b^2 <= ell_b w_i / t_b^2
    (5)  |P_b|, |Q_b| <= v_max I_b y_b,  ell_b <= I_b^2 y_b
    (6)  theta_i - theta_j - shift_b = x_b P_b - r_b Q_b                    where y_b = 1, in meshed operation only

(3) and (6) are held off an open branch by the widest difference that its two buses' bands allow: between two ordinary
buses of a feeder without taps that is v_max^2 - v_min^2. Angles are bounded about those at no load.
Line charging is exact: the product u = y w of a switchable branch is linearised (y is binary).
Without (6), (1)-(5) relax the AC equations of any topology; with it, meshed flows are right to
first order only.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyomo.environ as pyo

from feederguard.models.arrays import FloatArray
from feederguard.models.network import Network
from feederguard.models.network.pi_model import branch_admittances

THETA_MAX_RAD = 0.35


def add_branch_flow(
    model: pyo.ConcreteModel,
    network: Network,
    current: FloatArray,
    v_min: float,
    v_max: float,
    angles: bool,
) -> None:
    """Add (1)-(5), and (6) when `angles`, to a model that has `y` (branches) and expressions
    `p_net`, `q_net` (buses).

    current: (n_branch,) I_b of (5), pu. Adds variables P, Q, ell, w (and theta, u) and sets bus,
    branch if absent.
    """
    low, high = v_min**2, v_max**2
    capacity = max(v_max, float(np.abs(network.v_substation).max())) * current
    model.P = pyo.Var(
        model.branch, bounds=lambda m, b: (-capacity[b], capacity[b]), doc="active power, sending"
    )
    model.Q = pyo.Var(
        model.branch, bounds=lambda m, b: (-capacity[b], capacity[b]), doc="reactive power, sending"
    )
    model.ell = pyo.Var(
        model.branch,
        bounds=lambda m, b: (0, current[b] ** 2),
        initialize=0.0,
        doc="squared series current",
    )
    model.w = pyo.Var(model.bus, bounds=(low, high), initialize=1.0, doc="squared voltage")
    for bus, v in zip(network.substation.tolist(), network.v_substation.tolist(), strict=True):
        # A substation is held where the grid above holds it, even outside the band asked of the
        # feeder.
        model.w[bus].setlb(None)
        model.w[bus].setub(None)
        model.w[bus].fix(abs(v) ** 2)
    lows, highs = np.full(network.n_bus, low), np.full(network.n_bus, high)
    lows[network.substation] = highs[network.substation] = np.abs(network.v_substation) ** 2
    _add_charging(model, network, lows, highs)
    _add_balance(model, network)
    _add_drop(model, network, lows, highs)
    _add_capacity(model, capacity, current)
    if angles:
        _add_angles(model, network)


def _add_balance(model: pyo.ConcreteModel, network: Network) -> None:
    into: list[list[int]] = [[] for _ in range(network.n_bus)]
    out_of: list[list[int]] = [[] for _ in range(network.n_bus)]
    for b in range(network.n_branch):
        into[network.to_bus[b]].append(b)
        out_of[network.from_bus[b]].append(b)
    substations = set(network.substation.tolist())

    @model.Constraint(model.bus, doc="(1)")
    def active_balance(m: Any, j: int) -> Any:
        if j in substations:
            return pyo.Constraint.Skip
        supply = sum(m.P[b] - network.r[b] * m.ell[b] for b in into[j]) - sum(
            m.P[b] for b in out_of[j]
        )
        return supply == m.p_net[j] + network.g_shunt[j] * m.w[j] + m.charging[j][0]

    @model.Constraint(model.bus, doc="(2)")
    def reactive_balance(m: Any, j: int) -> Any:
        if j in substations:
            return pyo.Constraint.Skip
        supply = sum(m.Q[b] - network.x[b] * m.ell[b] for b in into[j]) - sum(
            m.Q[b] for b in out_of[j]
        )
        return supply == m.q_net[j] - network.b_shunt[j] * m.w[j] - m.charging[j][1]


def _add_drop(
    model: pyo.ConcreteModel, network: Network, lows: FloatArray, highs: FloatArray
) -> None:
    near, far, tap2 = network.from_bus, network.to_bus, network.tap**2
    widest = highs[far] - lows[near] / tap2
    narrowest = lows[far] - highs[near] / tap2

    def far_minus_near(m: Any, b: int) -> Any:
        r, x = network.r[b], network.x[b]
        near = m.w[int(network.from_bus[b])] / network.tap[b] ** 2
        drop = -2 * (r * m.P[b] + x * m.Q[b]) + (r**2 + x**2) * m.ell[b]
        return m.w[int(network.to_bus[b])] - near - drop

    @model.Constraint(model.branch, doc="(3), upper side")
    def drop_above(m: Any, b: int) -> Any:
        if m.y[b].fixed and m.y[b].value == 1:
            return far_minus_near(m, b) == 0
        return far_minus_near(m, b) <= float(widest[b]) * (1 - m.y[b])

    @model.Constraint(model.branch, doc="(3), lower side")
    def drop_below(m: Any, b: int) -> Any:
        if m.y[b].fixed and m.y[b].value == 1:
            return pyo.Constraint.Skip
        return far_minus_near(m, b) >= float(narrowest[b]) * (1 - m.y[b])

    @model.Constraint(model.branch, doc="(4)")
    def cone(m: Any, b: int) -> Any:
        near = m.w[int(network.from_bus[b])] / network.tap[b] ** 2
        return m.P[b] ** 2 + m.Q[b] ** 2 <= near * m.ell[b]


def _add_capacity(model: pyo.ConcreteModel, capacity: FloatArray, current: FloatArray) -> None:
    @model.Constraint(model.branch, ("P", "Q"), (-1, 1), doc="(5)")
    def open_carries_nothing(m: Any, b: int, kind: str, sign: int) -> Any:
        return sign * getattr(m, kind)[b] <= capacity[b] * m.y[b]

    @model.Constraint(model.branch, doc="(5)")
    def open_has_no_current(m: Any, b: int) -> Any:
        return m.ell[b] <= current[b] ** 2 * m.y[b]


def _add_charging(
    model: pyo.ConcreteModel, network: Network, lows: FloatArray, highs: FloatArray
) -> None:
    """Collect per bus the squared voltages that branch shunts see: `charging[j]` = (conductance,
    susceptance) terms.
    """
    # Both ends of every branch that has a shunt: (branch, bus, admittance closed, admittance while
    # hanging open).
    y = branch_admittances(network)
    ends = []
    for b in range(network.n_branch):
        for column, bus in enumerate((network.from_bus[b], network.to_bus[b])):
            closed, hanging = complex(y.closed[b, column]), complex(y.hanging[b, column])
            if closed or hanging:
                ends.append((b, int(bus), closed, hanging))
    free = {k for k, (b, *_) in enumerate(ends) if not model.y[b].fixed}
    model.u = pyo.Var(
        sorted(free),
        bounds=(0, float(highs.max())),
        doc="y w at the end of a switchable branch that has a shunt",
    )
    model.product = pyo.ConstraintList(doc="u = y w, exact for binary y")
    charging: dict[int, list[Any]] = {j: [0.0, 0.0] for j in range(network.n_bus)}
    for k, (b, bus, closed, hanging) in enumerate(ends):
        if k in free:
            seen, w, is_closed = model.u[k], model.w[bus], model.y[b]
            low, high = float(lows[bus]), float(highs[bus])
            model.product.add(seen <= high * is_closed)
            model.product.add(seen >= low * is_closed)
            model.product.add(w - seen <= high * (1 - is_closed))
            model.product.add(w - seen >= low * (1 - is_closed))
        else:
            seen = model.w[bus] * model.y[b].value
        for part, admittance in (
            (0, (closed.real, hanging.real)),
            (1, (closed.imag, hanging.imag)),
        ):
            charging[bus][part] += admittance[0] * seen + admittance[1] * (model.w[bus] - seen)
    model.charging = charging


def _add_angles(model: pyo.ConcreteModel, network: Network) -> None:
    rest = network.no_load_angle
    model.theta = pyo.Var(
        model.bus,
        bounds=lambda m, i: (rest[i] - THETA_MAX_RAD, rest[i] + THETA_MAX_RAD),
        initialize=dict(enumerate(rest.tolist())),
        doc="voltage angle in rad",
    )
    # Across an open branch the angles at rest may differ by what its shift does not explain.
    apart = np.abs(rest[network.from_bus] - rest[network.to_bus] - network.shift)
    for bus, v in zip(network.substation.tolist(), network.v_substation.tolist(), strict=True):
        model.theta[bus].fix(float(np.angle(v)))

    @model.Constraint(model.branch, (-1, 1), doc="(6)")
    def loop_angle(m: Any, b: int, sign: int) -> Any:
        i, j = int(network.from_bus[b]), int(network.to_bus[b])
        turned = (
            m.theta[i]
            - m.theta[j]
            - network.shift[b]
            - network.x[b] * m.P[b]
            + network.r[b] * m.Q[b]
        )
        return sign * turned <= (2 * THETA_MAX_RAD + apart[b]) * (1 - m.y[b])
