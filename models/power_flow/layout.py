"""A network laid out for the kernels of the power flow, once."""

from __future__ import annotations

import numpy as np

from feederguard.models.arrays import BoolArray
from feederguard.models.network import Network
from feederguard.models.network.pi_model import branch_admittances
from feederguard.models.once_per_object import once_per_object
from feederguard.models.power_flow.forest import Feeder, Forest, collect_shunts, find_forest
from feederguard.models.power_flow.lanes import RadialForest


@once_per_object
def prepare(network: Network) -> Feeder:
    """Return the arrays of the network as the kernels take them, the same ones every time."""
    ends = np.concatenate([network.from_bus, network.to_bus])
    others = np.concatenate([network.to_bus, network.from_bus])
    by_bus = np.argsort(ends, kind="stable")
    start = np.concatenate([[0], np.cumsum(np.bincount(ends, minlength=network.n_bus))]).astype(
        np.int64
    )
    y = branch_admittances(network)
    return Feeder(
        start=start,
        near_branch=(by_bus % network.n_branch).astype(np.int64),
        near_bus=others[by_bus],
        from_bus=network.from_bus.copy(),
        to_bus=network.to_bus.copy(),
        z=network.z,
        ratio=network.tap * np.exp(1j * network.shift),
        any_branch_shunt=bool(np.any(y.closed) or np.any(y.hanging)),
        open_end=network.open_end.copy(),
        y_closed=y.closed,
        y_open=y.open,
        y_bus=network.g_shunt + 1j * network.b_shunt,
        substation=network.substation.copy(),
        v_substation=network.v_substation.copy(),
    )


def forest_of(feeder: Feeder, closed: BoolArray) -> Forest:
    """Return the spanning forest of the closed branches (n_branch,)."""
    n_bus, n_branch = len(feeder.y_bus), len(feeder.z)
    order, parent, branch, place = (np.empty(n_bus, np.int64) for _ in range(4))
    links, seen = np.empty(n_branch, np.int64), np.empty(n_branch, np.bool_)
    room = Forest(0, 0, order, parent, branch, place, links, seen)
    found: Forest = find_forest(feeder, closed, room)
    return found


def radial_forest(feeder: Feeder, closed: BoolArray) -> RadialForest | None:
    """Return the forest of the closed branches (n_branch,), or None where they make a loop."""
    forest = forest_of(feeder, closed)
    if forest.n_link:
        return None
    order, parent, branch = (
        array[: forest.n_live].copy() for array in (forest.order, forest.parent, forest.branch)
    )
    total = feeder.y_bus.copy()
    if feeder.any_branch_shunt:
        collect_shunts(feeder, closed, total)
    root = parent < 0
    forward = ~root & (feeder.from_bus[branch] == order[parent])
    v_root = np.zeros(forest.n_live, np.complex128)
    v_root[: len(feeder.substation)] = feeder.v_substation
    return RadialForest(
        order=order,
        parent=parent,
        forward=forward,
        branch=branch,
        near=np.where(forward, 1.0 / feeder.ratio[branch], 1.0 + 0j),
        far=np.where(forward | root, 1.0 + 0j, feeder.ratio[branch]),
        z=np.where(root, 0, feeder.z[branch]),
        shunt=total[order],
        v_root=v_root,
    )
