"""A network laid out for the kernels of the power flow, once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from feederguard.models.arrays import BoolArray, ComplexArray, IntArray
from feederguard.models.network import Network
from feederguard.models.network.pi_model import branch_admittances
from feederguard.models.once_per_object import once_per_object
from feederguard.models.power_flow.newton_sweep import collect_shunts, find_forest


@dataclass(frozen=True, eq=False)
class Prepared:
    """What the kernels need of a network, laid out once."""

    graph: tuple[IntArray, IntArray, IntArray]
    branches: tuple[IntArray, IntArray, ComplexArray, ComplexArray]
    shunts: tuple[bool, IntArray, ComplexArray, ComplexArray, ComplexArray]
    substation: IntArray
    v_substation: ComplexArray


@once_per_object
def prepare(network: Network) -> Prepared:
    """Return the network laid out for the kernels."""
    ends = np.concatenate([network.from_bus, network.to_bus])
    others = np.concatenate([network.to_bus, network.from_bus])
    by_bus = np.argsort(ends, kind="stable")
    start = np.concatenate([[0], np.cumsum(np.bincount(ends, minlength=network.n_bus))]).astype(
        np.int64
    )
    y = branch_admittances(network)
    return Prepared(
        (start, (by_bus % network.n_branch).astype(np.int64), others[by_bus]),
        (
            network.from_bus.copy(),
            network.to_bus.copy(),
            network.z,
            network.tap * np.exp(1j * network.shift),
        ),
        (
            bool(np.any(y.closed) or np.any(y.hanging)),
            network.open_end.copy(),
            y.closed,
            y.open,
            network.g_shunt + 1j * network.b_shunt,
        ),
        network.substation.copy(),
        network.v_substation.copy(),
    )


def radial_forest(prepared: Prepared, closed: BoolArray) -> tuple[IntArray, Any] | None:
    """Return the walking order and the arguments of `solve_one_forest`, or None where the network
    is meshed.
    """
    from_bus, to_bus, z, ratio = prepared.branches
    any_branch_shunt, open_end, y_closed, y_open, y_bus = prepared.shunts
    n_bus = len(y_bus)
    order, parent, branch, place = (np.empty(n_bus, np.int64) for _ in range(4))
    links, seen = np.empty(len(z), np.int64), np.empty(len(z), np.bool_)
    n_live, n_link = find_forest(
        closed, *prepared.graph, prepared.substation, order, parent, branch, links, seen, place
    )
    if n_link:
        return None
    order, parent, branch = order[:n_live].copy(), parent[:n_live].copy(), branch[:n_live].copy()
    total = y_bus.copy()
    if any_branch_shunt:
        collect_shunts(closed, from_bus, to_bus, open_end, y_closed, y_open, y_bus, total)
    root = parent < 0
    forward = ~root & (from_bus[branch] == order[parent])
    near = np.where(forward, 1.0 / ratio[branch], 1.0 + 0j)
    far = np.where(forward | root, 1.0 + 0j, ratio[branch])
    v_root = np.zeros(n_live, np.complex128)
    v_root[: len(prepared.substation)] = prepared.v_substation
    return order, (
        order,
        parent,
        forward,
        branch,
        near,
        far,
        np.where(root, 0, z[branch]),
        total[order],
        v_root,
    )
