"""A radial feeder without losses, as arrays: what may flow in each branch, and what does.

Radial means that the closed branches form one tree per substation and reach every bus. Per unit.
The voltages are (3) of `distflow.py` with ell = 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from feederguard.models.arrays import FloatArray
from feederguard.models.equations.distflow import FlowState, voltage_change
from feederguard.models.equations.periods import Periods
from feederguard.models.network import Network
from feederguard.models.network.graph import FedBranch
from feederguard.models.network.pi_model import bus_shunts


@dataclass(frozen=True, eq=False)
class LosslessRange:
    """Bounds of the power into each branch at its from bus without losses, (T, n_branch) each.

    They are infinite where nothing limits the power.
    """

    p_low: FloatArray
    p_high: FloatArray
    q_low: FloatArray
    q_high: FloatArray

    @property
    def largest(self) -> FloatArray:
        """Largest apparent power, (T, n_branch)."""
        return np.asarray(
            np.hypot(
                np.maximum(np.abs(self.p_low), np.abs(self.p_high)),
                np.maximum(np.abs(self.q_low), np.abs(self.q_high)),
            )
        )

    def most(self, cos: float, sin: float) -> FloatArray:
        """Return the largest cos P + sin Q, (T, n_branch)."""
        return _most(cos, self.p_low, self.p_high) + _most(sin, self.q_low, self.q_high)


def lossless_range(periods: Periods, tree: list[FedBranch]) -> LosslessRange:
    """Return what can flow into each branch, whatever generators, batteries and shunts do.

    tree: the closed branches as `feeding_tree` returns them.
    """
    network = periods.network
    p_low, p_high = (np.array(periods.p_load - periods.p_gen) for _ in range(2))
    q_low, q_high = (np.array(periods.q_load - network.q_gen) for _ in range(2))
    for values, per_bus, row in (
        (p_low, network.gen_bus, -periods.gen_p_max),
        (p_high, network.gen_bus, -network.gen_p_min),
        (q_low, network.gen_bus, -network.gen_q_max),
        (q_high, network.gen_bus, -network.gen_q_min),
        (p_low, periods.batteries.bus, -periods.batteries.p_max),
        (p_high, periods.batteries.bus, periods.batteries.p_max),
    ):
        np.add.at(values.T, per_bus, np.broadcast_to(row, (periods.n_step, len(per_bus))).T)
    shunt, charging = _shunt_power(network)
    ranges = np.stack([p_low - shunt, p_high + shunt, q_low - shunt, q_high + shunt])
    into = np.zeros((4, periods.n_step, network.n_branch))
    swapped = [1, 0, 3, 2]
    for step in reversed(tree):
        behind = ranges[:, :, step.far]
        into[:, :, step.branch] = (
            behind if network.from_bus[step.branch] == step.near else -behind[swapped]
        )
        ranges[:, :, step.near] += behind
    into += np.array([-1.0, 1.0, -1.0, 1.0])[:, None, None] * charging
    return LosslessRange(*into)


def lossless_flow(periods: Periods, tree: list[FedBranch]) -> FlowState:
    """Return the flow of the fixed demand and generation, without losses and shunts.

    Generators and batteries are idle. An OPF may start from this flow. tree: the closed branches as
    `feeding_tree` returns them.
    """
    network = periods.network
    shape = (periods.n_step, network.n_branch)
    p, q = np.array(periods.p_load - periods.p_gen), np.array(periods.q_load - network.q_gen)
    P, Q, ell = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    w = np.ones((periods.n_step, network.n_bus))
    w[:, network.substation] = np.abs(network.v_substation) ** 2
    for step in reversed(tree):
        along = 1.0 if network.from_bus[step.branch] == step.near else -1.0
        P[:, step.branch], Q[:, step.branch] = along * p[:, step.far], along * q[:, step.far]
        p[:, step.near] += p[:, step.far]
        q[:, step.near] += q[:, step.far]
    for step in tree:
        b, tap2 = step.branch, network.tap[step.branch] ** 2
        change = voltage_change(network.r[b], network.x[b], P[:, b], Q[:, b], 0.0)
        if network.from_bus[b] == step.near:
            w[:, step.far] = w[:, step.near] / tap2 + change
        else:
            w[:, step.far] = tap2 * (w[:, step.near] - change)
        # Far beyond what the feeder can carry the lossless voltage may fall below zero.
        w[:, step.far] = np.maximum(w[:, step.far], 0.25)
        ell[:, b] = (P[:, b] ** 2 + Q[:, b] ** 2) * tap2 / w[:, network.from_bus[b]]
    return FlowState(P, Q, w, ell)


def _shunt_power(network: Network) -> tuple[FloatArray, FloatArray]:
    """Return the largest power of shunts in pu: by bus, (n_bus,), and by branch, (n_branch,).

    That of a bus includes the charging of the closed branches that end there.
    """
    w_top = np.maximum(network.v_max, np.abs(network.v_substation).max()) ** 2
    y_from = (
        np.abs(network.g_from + 1j * network.b_from)
        / network.tap**2
        * w_top[network.from_bus]
        * network.closed
    )
    y_to = np.abs(network.g_to + 1j * network.b_to) * w_top[network.to_bus] * network.closed
    g, b = bus_shunts(network)
    by_bus = np.abs(g + 1j * b) * w_top
    np.add.at(by_bus, network.from_bus, y_from)
    np.add.at(by_bus, network.to_bus, y_to)
    return by_bus, y_from + y_to


def _most(factor: float, low: FloatArray, high: FloatArray) -> FloatArray:
    """Return the largest factor * power within low and high."""
    # An infinite bound times a cosine that is zero is no limit and no power.
    return (
        np.zeros_like(low)
        if abs(factor) < 1e-12
        else np.asarray(np.maximum(factor * low, factor * high))
    )
