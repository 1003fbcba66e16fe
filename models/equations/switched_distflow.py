"""DistFlow on branches that can be switched: the network equations of reconfiguration.

Source: Baran & Wu, IEEE Trans. Power Delivery 4(2), 1989, relaxed to a second-order cone as in
Farivar & Low, IEEE Trans. Power Systems 28(3), 2013. Per unit. Branch b runs from bus i to bus j
behind a ratio t_b. P_b, Q_b enter its series impedance at i; w = |V|^2 and ell = |J|^2. y_b tells
whether b is closed; p and q are net demand. The equations of one branch are those of `distflow.py`.

    (1)  sum into j of (P_b - r_b ell_b) - sum out of j of P_b = p_j + g_j w_j + branch conductances
    (2)  sum into j of (Q_b - x_b ell_b) - sum out of j of Q_b = q_j - b_j w_j - branch susceptances
    (3)  w_j = w_i / t_b^2 - 2 (r_b P_b + x_b Q_b) + |z_b|^2 ell_b        where y_b = 1
    (4)  P_b^2 + Q_b^2 <= ell_b w_i / t_b^2
    (5)  |P_b|, |Q_b| <= v_max I_b y_b,  ell_b <= I_b^2 y_b
    (6)  theta_i - theta_j - shift_b = x_b P_b - r_b Q_b      where y_b = 1, in meshed operation
    (7)  v_min^2 e_j <= w_j <= v_max^2 e_j
    (8)  A_b = A_k      where b and k join the same two buses and y_b = y_k = 1, in radial operation
         A_b = t_b e^{j shift_b} (w_i / t_b^2 - (P_b + j Q_b) (r_b - j x_b)) = V_i conj(V_j)

By (8) parallel branches share their current as 1 / z, and the cone loses no more than in a tree. A
coupler between the busbars of two transformers makes a loop whose angles nothing holds: the optimum
still bounds the cost from below, and the AC judge decides what is safe.

e_j tells whether the zone of bus j is energised (`radiality.py`). By (7) what is dark has no
voltage, so its lines charge nothing, its transformers lose nothing and its shunts draw nothing.

On an open branch (3) and (6) are relaxed by the widest difference that the bands of its two buses
allow. Between two live buses without a tap that is v_max^2 - v_min^2. Angles are bounded about
those at no load. Line charging is exact: the product u = y w of a switchable branch is linearised,
which is exact for binary y. Without (6), (1)-(5) relax the AC equations of any topology. With it,
meshed flows are right to first order only.
"""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pyomo.environ as pyo

from feederguard.models.arrays import FloatArray
from feederguard.models.equations.distflow import cone_excess, series_end, voltage_change
from feederguard.models.equations.feeding_direction import only_consumes
from feederguard.models.equations.radiality import dark
from feederguard.models.network import Network
from feederguard.models.network.pi_model import branch_admittances

THETA_MAX_RAD = 0.35  # about the angle at no load


def add_branch_flow(
    model: pyo.ConcreteModel,
    network: Network,
    current: FloatArray,
    v_min: float | FloatArray,
    v_max: float | FloatArray,
    angles: bool,
) -> None:
    """Add (1)-(5), (7), and (6) when `angles`, else (8), to a model with a topology.

    It has p_net and q_net[i].

    current: (n_branch,) I_b of (5) in pu. v_min, v_max: the band of |V| in pu, a number or
    (n_bus,). Adds the variables P, Q, ell[b] and w[i], and theta[i] and u where they are needed.
    """
    lows, highs = (
        np.array([v**2 for v in np.broadcast_to(limit, network.n_bus).tolist()])
        for limit in (v_min, v_max)
    )
    capacity = max(float(np.max(v_max)), float(np.abs(network.v_substation).max())) * current
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
    lows[network.substation] = highs[network.substation] = np.abs(network.v_substation) ** 2
    _add_voltages(model, network, lows, highs)
    _add_charging(model, network, lows, highs)
    _add_balance(model, network)
    _add_drop(model, network, lows, highs)
    _add_capacity(model, capacity, current)
    if angles:
        _add_angles(model, network)
    else:
        _add_shares(model, network, capacity, highs)


def highest_voltage(network: Network, p_net: FloatArray, q_net: FloatArray, v_max: Any) -> Any:
    """Return the highest voltage that a bus can have in pu, at most v_max, a number or (n_bus,).

    Where everything only consumes, it is that of the highest substation.
    """
    if not only_consumes(network, p_net, q_net):
        return v_max
    return np.minimum(v_max, np.abs(network.v_substation).max())


def largest_current(
    network: Network, p: FloatArray, q: FloatArray, v_min: float, v_max: float, radial: bool
) -> float:
    """Return a bound in pu of the current of any branch.

    In a tree, no branch carries more than all demand p and q, (n_bus,) pu, drawn at v_min.
    """
    highest = max(v_max, float(np.abs(network.v_substation).max()))
    shunts = np.abs(network.g_shunt + 1j * network.b_shunt).sum()
    charging = np.abs(
        np.concatenate([network.b_from, network.b_to, network.g_from, network.g_to])
    ).sum()
    # In a mesh current may also circulate.
    return (
        float(
            (1.0 if radial else 1.5)
            * (np.hypot(p, q).sum() / v_min + (shunts + 2 * charging) * highest)
        )
        + 1e-6
    )


def _add_voltages(
    model: pyo.ConcreteModel, network: Network, lows: FloatArray, highs: FloatArray
) -> None:
    """Add w[i] with (7); lows, highs: (n_bus,) of a live bus."""
    model.w = pyo.Var(
        model.bus,
        bounds=lambda m, i: (0.0, float(highs[i])),
        initialize=1.0,
        doc="squared voltage",
    )
    model.voltage_band = pyo.ConstraintList(doc="(7)")
    for i in model.bus:
        low, high, off = float(lows[i]), float(highs[i]), dark(model, i)
        if i in network.substation:
            # The grid above may hold a substation outside the feeder's band.
            model.w[i].fix(high)
        elif isinstance(off, (int, float)):
            model.w[i].setlb(low * (1 - off))
            model.w[i].setub(high * (1 - off))
        else:
            model.voltage_band.add(model.w[i] >= low * (1 - off))
            model.voltage_band.add(model.w[i] <= high * (1 - off))


def _add_balance(model: pyo.ConcreteModel, network: Network) -> None:
    into: list[list[int]] = [[] for _ in range(network.n_bus)]
    out_of: list[list[int]] = [[] for _ in range(network.n_bus)]
    for b in range(network.n_branch):
        into[network.to_bus[b]].append(b)
        out_of[network.from_bus[b]].append(b)
    substations = set(network.substation.tolist())

    def leaving(m: Any, b: int) -> tuple[Any, Any]:
        return series_end(network.r[b], network.x[b], m.P[b], m.Q[b], m.ell[b])

    @model.Constraint(model.bus, doc="(1)")
    def active_balance(m: Any, j: int) -> Any:
        if j in substations:
            return pyo.Constraint.Skip
        supply = sum(leaving(m, b)[0] for b in into[j])
        supply -= sum(m.P[b] for b in out_of[j])
        return supply == m.p_net[j] + network.g_shunt[j] * m.w[j] + m.charging[j][0]

    @model.Constraint(model.bus, doc="(2)")
    def reactive_balance(m: Any, j: int) -> Any:
        if j in substations:
            return pyo.Constraint.Skip
        supply = sum(leaving(m, b)[1] for b in into[j])
        supply -= sum(m.Q[b] for b in out_of[j])
        return supply == m.q_net[j] - network.b_shunt[j] * m.w[j] - m.charging[j][1]


def _add_drop(
    model: pyo.ConcreteModel, network: Network, lows: FloatArray, highs: FloatArray
) -> None:
    near, far, tap2 = network.from_bus, network.to_bus, network.tap**2
    widest = highs[far] - lows[near] / tap2
    narrowest = lows[far] - highs[near] / tap2

    def far_minus_near(m: Any, b: int) -> Any:
        near = m.w[int(network.from_bus[b])] / network.tap[b] ** 2
        change = voltage_change(network.r[b], network.x[b], m.P[b], m.Q[b], m.ell[b])
        return m.w[int(network.to_bus[b])] - near - change

    @model.Constraint(model.branch, doc="(3), upper side")
    def drop_above(m: Any, b: int) -> Any:
        if m.y[b].fixed and m.y[b].value == 1:
            return far_minus_near(m, b) == 0
        # A live bus beside a dark one, which has no voltage.
        i = int(near[b])
        beside = float(lows[i] / tap2[b]) * dark(m, i)
        return far_minus_near(m, b) <= float(widest[b]) * (1 - m.y[b]) + beside

    @model.Constraint(model.branch, doc="(3), lower side")
    def drop_below(m: Any, b: int) -> Any:
        if m.y[b].fixed and m.y[b].value == 1:
            return pyo.Constraint.Skip
        beside = float(lows[far[b]]) * dark(m, int(far[b]))
        return far_minus_near(m, b) >= float(narrowest[b]) * (1 - m.y[b]) - beside

    @model.Constraint(model.branch, doc="(4)")
    def cone(m: Any, b: int) -> Any:
        near = m.w[int(network.from_bus[b])] / network.tap[b] ** 2
        return cone_excess(near, m.P[b], m.Q[b], m.ell[b]) <= 0


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
    """Set charging[j]: what the shunts of branches draw at bus j, (conductances, susceptances).

    at_end[b, at_from] is what the shunt of closed branch b draws at its from or to end.
    """
    # An end that has a shunt: (branch, bus, admittance while closed, while it hangs from this end).
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
    model.at_end = {}
    for k, (b, bus, closed, hanging) in enumerate(ends):
        if k in free:
            seen, w, is_closed = model.u[k], model.w[bus], model.y[b]
            low, high, off = float(lows[bus]), float(highs[bus]), dark(model, bus)
            model.product.add(seen <= high * is_closed)
            model.product.add(seen >= low * (is_closed - off))
            model.product.add(w - seen <= high * (1 - is_closed))
            model.product.add(w - seen >= low * (1 - is_closed - off))
            if not isinstance(off, (int, float)):
                model.product.add(w - seen >= 0)
        else:
            seen = model.w[bus] * model.y[b].value
        model.at_end[b, bus == network.from_bus[b]] = closed.real * seen, closed.imag * seen
        for part, admittance in (
            (0, (closed.real, hanging.real)),
            (1, (closed.imag, hanging.imag)),
        ):
            charging[bus][part] += admittance[0] * seen + admittance[1] * (model.w[bus] - seen)
    model.charging = charging


def add_end_currents(model: pyo.ConcreteModel, network: Network, rating: FloatArray) -> None:
    """Limit the current at both ends of every branch that has shunts, as (P^2 + Q^2) / w.

    rating: (n_branch,) pu. Such a branch carries another current there than in its impedance.
    """
    branches = {b for b, _ in model.at_end if np.isfinite(rating[b])}

    @model.Constraint([(b, end) for b in sorted(branches) for end in (0, 1)], doc="(5)")
    def end_current(m: Any, b: int, end: int) -> Any:
        if end == 0:
            bus, p, q = int(network.from_bus[b]), m.P[b], m.Q[b]
        else:
            bus = int(network.to_bus[b])
            p, q = series_end(network.r[b], network.x[b], m.P[b], m.Q[b], m.ell[b])
            p, q = -p, -q
        g, susceptance = m.at_end.get((b, end == 0), (0.0, 0.0))
        return (p + g) ** 2 + (q - susceptance) ** 2 <= float(rating[b]) ** 2 * m.w[bus]


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


def _add_shares(
    model: pyo.ConcreteModel, network: Network, capacity: FloatArray, highs: FloatArray
) -> None:
    """Add (8) to a model that has the lead of each team."""
    usable = [b for b in model.branch if not (model.y[b].fixed and model.y[b].value == 0)]
    groups: dict[tuple[int, int], list[int]] = {}
    for b in usable:
        i, j = sorted((int(network.from_bus[b]), int(network.to_bus[b])))
        groups.setdefault((i, j), []).append(b)
    pairs = [pair for group in groups.values() for pair in combinations(group, 2)]

    def product(m: Any, b: int) -> tuple[Any, Any]:
        """Return A_b, of the bus of the lower number times the conjugate of the other."""
        i, r, x, tap = int(network.from_bus[b]), network.r[b], network.x[b], network.tap[b]
        real = m.w[i] / tap - tap * (r * m.P[b] + x * m.Q[b])
        imag = tap * (x * m.P[b] - r * m.Q[b])
        cos, sin = np.cos(network.shift[b]), np.sin(network.shift[b])
        sign = 1.0 if i < network.to_bus[b] else -1.0
        return cos * real - sin * imag, sign * (sin * real + cos * imag)

    @model.Constraint(pairs, (0, 1), (-1, 1), doc="(8)")
    def shares(m: Any, b: int, k: int, part: int, sign: int) -> Any:
        apart = product(m, b)[part] - product(m, k)[part]
        alike = all(
            getattr(network, name)[b] == getattr(network, name)[k]
            for name in ("from_bus", "tap", "shift")
        )
        if all(m.y[n].fixed for n in (b, k)) or (alike and m.lead[b] == m.lead[k]):
            # (8) holds for a team of like branches that is open, too.
            return apart == 0 if sign == 1 else pyo.Constraint.Skip
        most = sum(
            2 * highs[network.from_bus[n]] / network.tap[n]
            + 2 * network.tap[n] * (abs(network.r[n]) + abs(network.x[n])) * capacity[n]
            for n in (b, k)
        )
        return sign * apart <= float(most) * (2 - m.y[b] - m.y[k])
