"""The AC equations of closed branches and of buses, written once for every form of voltages.

Source: MATPOWER User's Manual 8.1, branch model: the pi-model with an ideal transformer at the from
end. For the products c and s as unknowns: Jabr, IEEE Trans. Power Systems 21(3), 2006. Per unit.
Branch b runs from bus i to bus j behind the ratio t_b at the angle shift_b. y_b = g_b + j b_b =
1 / z_b; g_f + j b_f and g_t + j b_t go to ground at its ends. The step t is left out.

    w_i = |V_i|^2,   c_ij + j s_ij = V_i conj(V_j)
    C_b + j S_b = e^{-j shift_b} (c_ij + j s_ij) / t_b

    (1)  P_b    =  (g_b + g_f) w_i / t_b^2 - g_b C_b - b_b S_b
    (2)  Q_b    = -(b_b + b_f) w_i / t_b^2 + b_b C_b - g_b S_b
    (3)  P_to_b =  (g_b + g_t) w_j - g_b C_b + b_b S_b
    (4)  Q_to_b = -(b_b + b_t) w_j + b_b C_b + g_b S_b
    (5)  ell_b  =  |y_b|^2 (w_i / t_b^2 + w_j - 2 C_b)

P, Q enter a branch at its from end, and P_to, Q_to at its to end, charging included. ell is the
squared current through r + jx. p_i, q_i are the injections of `periods.py`. A pair is two buses
that branches join; parallel branches share its c and s. `ac_voltages.py` adds w, c and s.

    (6)  p_i = sum of P_b out of i + sum of P_to_b into i + g_i w_i
    (7)  q_i = sum of Q_b out of i + sum of Q_to_b into i - b_i w_i

An open branch that hangs from one end (`Network.open_end`) counts as a shunt there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyomo.environ as pyo

from feederguard.models.arrays import ComplexArray, FloatArray, IntArray
from feederguard.models.network import Network
from feederguard.models.network.pi_model import bus_shunts, hanging_shunts

# A branch without impedance has no admittance. At this impedance its voltage drop is negligible.
LEAST_IMPEDANCE_PU = 1e-6


@dataclass(frozen=True, eq=False)
class BranchCoefficients:
    """The coefficients of (1)-(5): a row per closed branch, columns w_i, w_j, c_ij, s_ij."""

    branch: IntArray  # (n_closed,) positions in the Network
    pair: tuple[tuple[int, int], ...]  # from and to bus of the first branch of each pair
    pair_of: IntArray  # (n_closed,) number of the branch's pair
    sign: FloatArray  # (n_closed,) 1, or -1 where the branch runs from j to i: s_ji = -s_ij
    P: FloatArray  # (n_closed, 4)
    Q: FloatArray
    P_to: FloatArray
    Q_to: FloatArray
    ell: FloatArray


def branch_coefficients(network: Network) -> BranchCoefficients:
    """Return the coefficients of (1)-(5) of every closed branch."""
    k = np.flatnonzero(network.closed)
    i, j = network.from_bus[k], network.to_bus[k]
    z = np.where(np.abs(network.z[k]) < LEAST_IMPEDANCE_PU, 1j * LEAST_IMPEDANCE_PU, network.z[k])
    y, y_from = 1 / z, network.g_from[k] + 1j * network.b_from[k]
    y_to, tap2 = network.g_to[k] + 1j * network.b_to[k], network.tap[k] ** 2

    first: dict[frozenset[int], int] = {}
    pair: list[tuple[int, int]] = []
    pair_of, sign = np.empty(len(k), np.int64), np.ones(len(k))
    for row, ends in enumerate(zip(i.tolist(), j.tolist(), strict=True)):
        place = first.setdefault(frozenset(ends), len(pair))
        if place == len(pair):
            pair.append(ends)
        pair_of[row] = place
        sign[row] = 1.0 if pair[place] == ends else -1.0

    turn = np.exp(-1j * network.shift[k]) / network.tap[k]
    zero = np.zeros(len(k))
    # The product of the two voltages as the branch sees it, C + jS, per unit of c and of s.
    by_c, by_s = turn, 1j * turn * sign

    def columns(w_i: FloatArray, w_j: FloatArray, c: FloatArray, s: FloatArray) -> FloatArray:
        return np.stack([w_i, w_j, c, s], axis=1)

    from_c, from_s = -np.conj(y) * by_c, -np.conj(y) * by_s
    to_c, to_s = -np.conj(y) * np.conj(by_c), -np.conj(y) * np.conj(by_s)
    own_from, own_to = np.conj(y + y_from) / tap2, np.conj(y + y_to)
    size = np.abs(y) ** 2
    return BranchCoefficients(
        k,
        tuple(pair),
        pair_of,
        sign,
        P=columns(own_from.real, zero, from_c.real, from_s.real),
        Q=columns(own_from.imag, zero, from_c.imag, from_s.imag),
        P_to=columns(zero, own_to.real, to_c.real, to_s.real),
        Q_to=columns(zero, own_to.imag, to_c.imag, to_s.imag),
        ell=columns(size / tap2, size, -2 * size * by_c.real, -2 * size * by_s.real),
    )


def add_branch_flows(
    model: pyo.ConcreteModel,
    network: Network,
    coefficients: BranchCoefficients,
    start: ComplexArray,
) -> None:
    """Add P, Q, P_to, Q_to[t, b] with (1)-(4); ell[t, b] of (5) and loss[t] are expressions.

    The model has w, c and s. start: (n_bus,) complex voltages in pu; the variables start at the
    flows of these.
    """
    products = _products(network, coefficients, start)
    row_of = {b: row for row, b in enumerate(coefficients.branch.tolist())}

    def terms(m: Any, t: int, b: int, row: list[float]) -> Any:
        pair = int(coefficients.pair_of[row_of[b]])
        products = (
            m.w[t, int(network.from_bus[b])],
            m.w[t, int(network.to_bus[b])],
            m.c[t, pair],
            m.s[t, pair],
        )
        return pyo.quicksum(a * x for a, x in zip(row, products, strict=True) if a)

    for number, name in (("(1)", "P"), ("(2)", "Q"), ("(3)", "P_to"), ("(4)", "Q_to")):
        rows = dict(zip(row_of, getattr(coefficients, name).tolist(), strict=True))
        first = dict(
            zip(row_of, (getattr(coefficients, name) * products).sum(axis=1).tolist(), strict=True)
        )
        flow = pyo.Var(model.time, model.branch, initialize=lambda m, t, b, first=first: first[b])
        model.add_component(name, flow)
        model.add_component(
            f"{name}_flow",
            pyo.Constraint(
                model.time,
                model.branch,
                doc=number,
                rule=lambda m, t, b, flow=flow, rows=rows: flow[t, b] == terms(m, t, b, rows[b]),
            ),
        )
    rows = dict(zip(row_of, coefficients.ell.tolist(), strict=True))
    model.ell = pyo.Expression(
        model.time, model.branch, rule=lambda m, t, b: terms(m, t, b, rows[b]), doc="(5)"
    )
    hanging = [(i, g) for i, g in enumerate(hanging_shunts(network).real.tolist()) if g]
    model.loss = pyo.Expression(
        model.time,
        doc="active power lost in branches",
        rule=lambda m, t: (
            pyo.quicksum(m.P[t, b] + m.P_to[t, b] for b in m.branch)
            + sum(g * m.w[t, i] for i, g in hanging)
        ),
    )


def add_balance(model: pyo.ConcreteModel, network: Network) -> None:
    """Add (6), (7) as active_balance, reactive_balance[t, i]; the injections are `start_opf`'s."""
    out_of, into = _incident(network, network.from_bus), _incident(network, network.to_bus)
    g, b = (values.tolist() for values in bus_shunts(network))

    @model.Constraint(model.time, model.bus, doc="(6)")
    def active_balance(m: Any, t: int, i: int) -> Any:
        away = [m.P[t, b] for b in out_of[i]] + [m.P_to[t, b] for b in into[i]]
        return pyo.quicksum(away) + g[i] * m.w[t, i] == m.p_injected[t, i].expr

    @model.Constraint(model.time, model.bus, doc="(7)")
    def reactive_balance(m: Any, t: int, i: int) -> Any:
        away = [m.Q[t, b] for b in out_of[i]] + [m.Q_to[t, b] for b in into[i]]
        return pyo.quicksum(away) - b[i] * m.w[t, i] == m.q_injected[t, i].expr


def _products(network: Network, coefficients: BranchCoefficients, v: ComplexArray) -> FloatArray:
    """Return w_i, w_j, c_ij and s_ij of every closed branch at these voltages, (n_closed, 4)."""
    near, far = np.array(coefficients.pair, dtype=np.int64).reshape(-1, 2)[coefficients.pair_of].T
    product = v[near] * np.conj(v[far])
    i, j = network.from_bus[coefficients.branch], network.to_bus[coefficients.branch]
    return np.stack([np.abs(v[i]) ** 2, np.abs(v[j]) ** 2, product.real, product.imag], axis=1)


def _incident(network: Network, end: IntArray) -> list[list[int]]:
    """Return for every bus the closed branches that have it at this end, from_bus or to_bus."""
    at: list[list[int]] = [[] for _ in range(network.n_bus)]
    for b in np.flatnonzero(network.closed).tolist():
        at[end[b]].append(b)
    return at
