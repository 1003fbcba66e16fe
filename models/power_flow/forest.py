"""A feeder as arrays for the kernels, and its spanning forest under given switches."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from feederguard.models.arrays import BoolArray, ComplexArray, FloatArray, IntArray


class Feeder(NamedTuple):
    """What the kernels need of a network, in per unit."""

    start: IntArray  # (n_bus + 1,) branches of bus i are near_branch[start[i]:start[i + 1]]
    near_branch: IntArray  # (2 n_branch,) branches by bus
    near_bus: IntArray  # (2 n_branch,) the bus at their other end
    from_bus: IntArray  # (n_branch,)
    to_bus: IntArray  # (n_branch,)
    z: ComplexArray  # (n_branch,) series impedance
    ratio: ComplexArray  # (n_branch,) tap and shift at the from end
    any_branch_shunt: bool
    open_end: IntArray  # (n_branch,) as in `Network`
    y_closed: ComplexArray  # (n_branch, 2) shunts of a closed branch at its from and to end
    y_open: ComplexArray  # (n_branch, 2) shunt of an open branch at the end it hangs from
    y_bus: ComplexArray  # (n_bus,) shunts of the bus itself
    substation: IntArray  # (n_substation,)
    v_substation: ComplexArray  # (n_substation,)


class Forest(NamedTuple):
    """The spanning forest of the closed branches, in walking order from the substations.

    As room for `find_forest`, only the arrays count.
    """

    n_live: int  # buses with a path to a substation
    n_link: int  # closed branches outside the forest, each of which closes a loop
    order: IntArray  # (n_bus,) bus at each position
    parent: IntArray  # (n_bus,) position of the parent, -1 at a root
    branch: IntArray  # (n_bus,) branch to the parent, -1 at a root
    place: IntArray  # (n_bus,) position of each bus, -1 where it is dark
    links: IntArray  # (n_branch,) the first n_link entries are links
    seen: BoolArray  # (n_branch,) branches met on the walk


class Answer(NamedTuple):
    """AC states of a batch, as the kernels write them."""

    voltage: ComplexArray  # (B, n_bus)
    current: ComplexArray  # (B, n_branch) through the series impedance, from -> to
    iterations: IntArray  # (B,) -1 where the item failed
    energised: BoolArray  # (B, n_bus)


class Work(NamedTuple):
    """Buffers of one thread, by position in walking order but for `shunt`."""

    demand: FloatArray  # (n_bus, 2) net active and reactive demand
    shunt: ComplexArray  # (n_bus,) by bus
    state: FloatArray  # (n_bus, N_STATE), columns in `subtree.py`
    line: FloatArray  # (n_bus, N_LINE), columns in `subtree.py`


@njit
def forest_room(feeder):
    """Return an empty `Forest` to be filled by `find_forest`."""
    n_bus, n_branch = feeder.y_bus.shape[0], feeder.z.shape[0]
    return Forest(
        0,
        0,
        np.empty(n_bus, np.int64),
        np.empty(n_bus, np.int64),
        np.empty(n_bus, np.int64),
        np.empty(n_bus, np.int64),
        np.empty(n_branch, np.int64),
        np.empty(n_branch, np.bool_),
    )


@njit
def work_room(feeder):
    """Return buffers for one thread; `shunt` holds the shunts of the buses themselves."""
    n_bus = feeder.y_bus.shape[0]
    return Work(
        np.empty((n_bus, 2)), feeder.y_bus.copy(), np.zeros((n_bus, 11)), np.zeros((n_bus, 6))
    )


@njit
def answer_room(feeder):
    """Return an `Answer` for one item."""
    n_bus, n_branch = feeder.y_bus.shape[0], feeder.z.shape[0]
    return Answer(
        np.empty((1, n_bus), np.complex128),
        np.empty((1, n_branch), np.complex128),
        np.empty(1, np.int64),
        np.empty((1, n_bus), np.bool_),
    )


@njit(cache=True)
def find_forest(feeder, closed, room):
    """Walk the closed branches (n_branch,) outwards from the substations; return the `Forest`.

    The arrays of `room` are overwritten and handed on.
    """
    order, parent, branch, place = room.order, room.parent, room.branch, room.place
    links, seen = room.links, room.seen
    start, near_branch, near_bus = feeder.start, feeder.near_branch, feeder.near_bus
    place[:] = -1
    seen[:] = False
    n_live = 0
    n_link = 0
    for bus in feeder.substation:
        order[n_live] = bus
        parent[n_live] = -1
        branch[n_live] = -1
        place[bus] = n_live
        n_live += 1
    head = 0
    while head < n_live:
        bus = order[head]
        for k in range(start[bus], start[bus + 1]):
            b = near_branch[k]
            if not closed[b] or seen[b]:
                continue
            seen[b] = True
            other = near_bus[k]
            if place[other] >= 0:
                links[n_link] = b
                n_link += 1
                continue
            place[other] = n_live
            order[n_live] = other
            parent[n_live] = head
            branch[n_live] = b
            n_live += 1
        head += 1
    return Forest(n_live, n_link, order, parent, branch, place, links, seen)


@njit
def collect_shunts(feeder, closed, total):
    """Fill `total` (n_bus,) with the shunts of buses, closed branches and hanging open branches."""
    total[:] = feeder.y_bus
    for b in range(closed.shape[0]):
        if closed[b]:
            total[feeder.from_bus[b]] += feeder.y_closed[b, 0]
            total[feeder.to_bus[b]] += feeder.y_closed[b, 1]
        elif feeder.open_end[b] == 2:
            total[feeder.from_bus[b]] += feeder.y_open[b, 0]
        elif feeder.open_end[b] == 1:
            total[feeder.to_bus[b]] += feeder.y_open[b, 1]
