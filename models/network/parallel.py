"""Branches of one feed: parallel cables, transformers side by side, couplers between busbars.

A *coupler* is a branch of that kind, or one without impedance. Buses that closed couplers join are
one *busbar*. Closed branches between the same two busbars are one *feed*, and what lies within one
busbar is part of it. Radial means that feeds form no loop:

    (1)  closed branches - live buses + substations - surplus = 0

where the surplus counts the closed branches that repeat a feed or a busbar, and live buses are
those with a path to a substation. On a network without parallel branches there is no surplus.

A *team* is what an operator switches as one: branches between the same two buses, of the same
normal state, all switchable or none. A failed branch is in no team. Its first branch leads it.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import networkx as nx
import numpy as np
from numba import njit, prange

from feederguard.models.arrays import BoolArray, IntArray, plain, threads_for
from feederguard.models.network.fields import NetworkError, NetworkFields
from feederguard.models.once_per_object import once_per_object

_GRID_ABOVE = -1  # joins all substations: a path between two of them counts as a loop


class Parallels(NamedTuple):
    """What may be parallel in some state of a network; empty where nothing can."""

    coupler: IntArray  # couplers between whose busbars something may be parallel
    # Branches that may be of one feed: member[start[k]:start[k + 1]].
    start: IntArray
    member: IntArray

    @property
    def branches(self) -> IntArray:
        """All of them, couplers first."""
        return np.concatenate([self.coupler, self.member])


@once_per_object
def parallels(network: NetworkFields) -> Parallels:
    """Return what may be parallel in some state of the network."""
    return parallels_among(network, np.ones(network.n_branch, dtype=bool))


def parallels_among(network: NetworkFields, usable: BoolArray) -> Parallels:
    """Return what may be parallel where only usable branches, (n_branch,), are closed."""
    usable = usable & network.in_service
    is_coupler = couplers(network) & usable
    groups: dict[tuple[int, int], list[int]] = {}
    bar = _busbars(network, is_coupler)
    for b in np.flatnonzero(usable & ~is_coupler).tolist():
        i, j = sorted((int(bar[network.from_bus[b]]), int(bar[network.to_bus[b]])))
        groups.setdefault((i, j), []).append(b)
    found = [
        (ends, group) for ends, group in groups.items() if len(group) > 1 or ends[0] == ends[1]
    ]
    touched = {k for ends, group in found for k in ends if _spread_out(network, group, bar, k)}
    looped = _couplers_on_loop(network, is_coupler)
    used = [
        b
        for b in np.flatnonzero(is_coupler).tolist()
        if looped[b] or int(bar[network.from_bus[b]]) in touched
    ]
    return Parallels(
        np.array(used, dtype=np.int64),
        np.cumsum([0, *(len(group) for _, group in found)], dtype=np.int64),
        np.array([b for _, group in found for b in group], dtype=np.int64),
    )


def couplers(network: NetworkFields) -> BoolArray:
    """Return the branches that join two busbars into one, (n_branch,)."""
    plain_ratio = (network.tap == 1) & (network.shift == 0)
    is_coupler = (np.array(network.kind, dtype=str) == "coupler") | (network.z == 0)
    return np.asarray(is_coupler & plain_ratio)


def has_loop(network: NetworkFields, closed: BoolArray, live: BoolArray) -> BoolArray:
    """Return whether feeds between live buses form a loop, (B,); two substations are one point.

    closed: (B, n_branch); live: (B, n_bus) buses that closed branches join to a substation.
    """
    closed, live = plain(closed, np.bool_), plain(live, np.bool_)
    found = np.empty(len(closed), dtype=np.bool_)
    with threads_for(1e-3 * closed.size):
        ends = network.from_bus.copy(), network.to_bus.copy()
        _look_for_loops(parallels(network), *ends, network.substation.copy(), closed, live, found)
    return found


@njit(cache=True, parallel=True)
def _look_for_loops(  # type: ignore[no-untyped-def]
    parallel, from_bus, to_bus, substation, closed, live, found
):
    """Fill `found` by (1)."""
    for item in prange(closed.shape[0]):
        n = 0
        for bus in substation:
            n += live[item, bus]
        for i in range(live.shape[1]):
            n -= live[item, i]
        for b in range(closed.shape[1]):
            n += closed[item, b] and live[item, from_bus[b]] and live[item, to_bus[b]]
        if n > 0 and parallel.coupler.shape[0] + parallel.member.shape[0] > 0:
            n -= _surplus(parallel, from_bus, to_bus, closed[item], live[item])
        found[item] = n > 0


@njit
def _surplus(parallel, from_bus, to_bus, closed, live):  # type: ignore[no-untyped-def]
    """Return how many closed live branches repeat a feed or a busbar."""
    bar = np.arange(live.shape[0])
    n = 0
    for b in parallel.coupler:
        if closed[b] and live[from_bus[b]]:
            i, j = _bar_of(bar, from_bus[b]), _bar_of(bar, to_bus[b])
            n += i == j
            bar[i] = j
    for k in range(parallel.start.shape[0] - 1):
        first, last = parallel.start[k], parallel.start[k + 1]
        for m in range(first, last):
            b = parallel.member[m]
            if not (closed[b] and live[from_bus[b]]):
                continue
            i, j = _bar_of(bar, from_bus[b]), _bar_of(bar, to_bus[b])
            repeats = i == j
            for other in parallel.member[first:m]:
                p, q = _bar_of(bar, from_bus[other]), _bar_of(bar, to_bus[other])
                same = (i == p and j == q) or (i == q and j == p)
                repeats = repeats or (closed[other] and same)
            n += repeats
    return n


@njit
def _bar_of(bar, bus):  # type: ignore[no-untyped-def]
    while bar[bus] != bus:
        bus = bar[bus]
    return bus


def find_loop(network: NetworkFields, closed: BoolArray) -> list[int]:
    """Return the branches of one loop that closed branches (n_branch,) form; none: an empty list.

    Of a feed one branch is named. A path between two substations counts as a loop.
    """
    is_coupler = couplers(network)
    bar = _busbars(network, closed & is_coupler)
    tree = nx.Graph([(_GRID_ABOVE, s) for s in network.substation.tolist()])
    known = nx.utils.UnionFind([_GRID_ABOVE, *range(network.n_bus)])
    known.union(_GRID_ABOVE, *network.substation.tolist())
    seen: set[frozenset[int]] = set()
    ordered = [*np.flatnonzero(closed & is_coupler), *np.flatnonzero(closed & ~is_coupler)]
    for b in map(int, ordered):
        i, j = int(network.from_bus[b]), int(network.to_bus[b])
        ends = frozenset((int(bar[i]), int(bar[j])))
        if not is_coupler[b]:
            if len(ends) == 1 or ends in seen:
                continue
            seen.add(ends)
        if known[i] != known[j]:
            known.union(i, j)
            tree.add_edge(i, j, branch=b)
            continue
        path = nx.shortest_path(tree, i, j)
        # Couplers come first, so that a loop of theirs away from the grid above is one busbar.
        if not is_coupler[b] or _GRID_ABOVE in path:
            steps = [tree.edges[step] for step in pairwise(path)]
            return [step["branch"] for step in steps if "branch" in step] + [b]
    return []


def refuse_loops(network: NetworkFields, closed: BoolArray, what: str, remedy: str) -> None:
    """Raise `NetworkError` when closed branches (n_branch,) form a loop, and name its branches.

    what: are they, such as "branches that cannot be switched"; remedy: what to do with one of them.
    """
    loop = find_loop(network, closed)
    if loop:
        names = [repr(network.branch_name[b]) for b in loop]
        shown = ", ".join(names[:12]) + (f" and {len(names) - 12} more" if names[12:] else "")
        raise NetworkError(
            f"{network.name}: {what} form a loop or join two substations: {shown}; {remedy}, or "
            "allow loops with the setting 'meshed'"
        )


def team_leads(network: NetworkFields, switchable: BoolArray, intact: BoolArray) -> IntArray:
    """Return the branch that leads the team of each branch, (n_branch,); itself where it is alone.

    switchable, intact: (n_branch,).
    """
    lead = np.arange(network.n_branch)
    first: dict[tuple[int, int, bool, bool], int] = {}
    for b in parallels(network).branches.tolist():
        if intact[b] and network.in_service[b]:
            i, j = sorted((int(network.from_bus[b]), int(network.to_bus[b])))
            lead[b] = first.setdefault((i, j, bool(network.closed[b]), bool(switchable[b])), b)
    return lead


def ways_beside(network: NetworkFields, usable: BoolArray) -> dict[int, list[frozenset[int]]]:
    """Return for each usable branch the sets of others beside which it repeats a feed.

    usable: (n_branch,). A set is a parallel branch with the couplers that join their ends, or the
    couplers that join the branch's own ends. With such a set closed, so may it be.
    """
    among = parallels_among(network, usable)
    graph = nx.MultiGraph()
    graph.add_nodes_from(range(network.n_bus))
    for b in among.coupler.tolist():
        graph.add_edge(int(network.from_bus[b]), int(network.to_bus[b]), key=b)

    def paths(i: int, j: int, less: int) -> list[frozenset[int]]:
        if i == j:
            return [frozenset()]
        found = (frozenset(k for *_, k in path) for path in nx.all_simple_edge_paths(graph, i, j))
        return [path for path in found if less not in path]

    groups = [[b] for b in among.coupler.tolist()]
    groups += [part.tolist() for part in np.split(among.member, among.start[1:-1])]
    ways: dict[int, list[frozenset[int]]] = {}
    for group in groups:
        for b in group:
            i, j = int(network.from_bus[b]), int(network.to_bus[b])
            sets = set(paths(i, j, b))
            for d in (d for d in group if d != b):
                p, q = int(network.from_bus[d]), int(network.to_bus[d])
                for near, far in ((p, q), (q, p)):
                    sets |= {
                        one | other | {d} for one in paths(i, near, b) for other in paths(j, far, b)
                    }
            ways[b] = sorted(sets, key=sorted)
    return ways


def _busbars(network: NetworkFields, joined: BoolArray) -> IntArray:
    """Return the number of the busbar of each bus, (n_bus,); joined: (n_branch,) couplers."""
    known = nx.utils.UnionFind(range(network.n_bus))
    for b in np.flatnonzero(joined).tolist():
        known.union(int(network.from_bus[b]), int(network.to_bus[b]))
    return np.array([known[i] for i in range(network.n_bus)], dtype=np.int64)


def _spread_out(network: NetworkFields, group: list[int], bar: IntArray, k: int) -> bool:
    """Return whether branches of a group end at different buses of busbar k."""
    ends = np.concatenate([network.from_bus[group], network.to_bus[group]])
    return len(set(ends[bar[ends] == k].tolist())) > 1


def _couplers_on_loop(network: NetworkFields, is_coupler: BoolArray) -> BoolArray:
    """Return the couplers on a loop of couplers alone, (n_branch,)."""
    graph = nx.MultiGraph()
    for b in np.flatnonzero(is_coupler).tolist():
        graph.add_edge(int(network.from_bus[b]), int(network.to_bus[b]), key=b)
    simple = nx.Graph(graph)
    bridges = {frozenset(edge) for edge in nx.bridges(simple)} if len(simple) else set()
    looped = np.zeros(network.n_branch, dtype=bool)
    for i, j, b in graph.edges(keys=True):
        looped[b] = frozenset((i, j)) not in bridges or graph.number_of_edges(i, j) > 1
    return looped
