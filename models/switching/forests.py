"""Spanning forests from keys, batched: real vectors become radial topologies.

Kruskal's rule: take usable branches by falling key, and keep each that joins two trees. Substations
start as one tree, so the result feeds every bus from exactly one of them. Branches that cannot be
switched come first, in any order.

What may be parallel (`network/parallel.py`) joins a forest afterwards: normally closed branches
that form no loop, so that one feed stays one feed, and the team of a branch that was taken.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from feederguard.models.arrays import BoolArray, FloatArray, IntArray, threads_for
from feederguard.models.network import Network
from feederguard.models.network.graph import energised_buses
from feederguard.models.network.parallel import has_loop, parallels, team_leads


def spanning_forests(
    network: Network, keys: FloatArray, usable: BoolArray, fixed_closed: BoolArray
) -> BoolArray:
    """Return closed branches (B, n_branch): a maximal forest of usable ones, high keys first.

    What belongs to its feeds is closed too. keys: (B, n_branch) finite. usable: (B, n_branch)
    branches that may be closed. fixed_closed: (n_branch,) branches that stay closed wherever they
    are usable.
    """
    closed = bare_forests(network, keys, usable, fixed_closed)
    return _complete_feeds(network, closed, usable, ~fixed_closed)


def bare_forests(
    network: Network, keys: FloatArray, usable: BoolArray, fixed_closed: BoolArray
) -> BoolArray:
    """Return the forest of `spanning_forests` alone, (B, n_branch)."""
    order = np.argsort(np.where(fixed_closed, -np.inf, -keys), axis=1, kind="stable").astype(
        np.int64
    )
    # A union-find step takes some 10 ns.
    with threads_for(1e-2 * order.size):
        return np.asarray(
            _forests(
                order,
                np.array(usable),
                network.from_bus.copy(),
                network.to_bus.copy(),
                network.substation.copy(),
                network.n_bus,
            )
        )


def _complete_feeds(
    network: Network, closed: BoolArray, usable: BoolArray, switchable: BoolArray
) -> BoolArray:
    """Return the states (B, n_branch) with what belongs to their feeds closed beside the forest.

    usable: (B, n_branch); switchable: (n_branch,).
    """
    team = team_leads(network, switchable, np.ones(network.n_branch, dtype=bool))
    for b in parallels(network).branches.tolist():
        with_mates = closed[:, team == team[b]].any(axis=1) | network.closed[b]
        rows = np.flatnonzero(with_mates & usable[:, b] & ~closed[:, b])
        trial = closed[rows]
        trial[:, b] = True
        loop = has_loop(network, trial, energised_buses(network, trial))
        closed[rows[~loop], b] = True
    return closed


@njit(cache=True, parallel=True)
def _forests(  # type: ignore[no-untyped-def]
    order: IntArray,
    usable: BoolArray,
    from_bus: IntArray,
    to_bus: IntArray,
    substation: IntArray,
    n_bus: int,
):
    n_item, n_branch = order.shape
    closed = np.zeros((n_item, n_branch), np.bool_)
    for item in prange(n_item):
        tree = np.arange(n_bus)
        for bus in substation:
            tree[bus] = substation[0]
        for k in range(n_branch):
            b = order[item, k]
            if not usable[item, b]:
                continue
            i, j = from_bus[b], to_bus[b]
            while tree[i] != i:
                tree[i] = tree[tree[i]]
                i = tree[i]
            while tree[j] != j:
                tree[j] = tree[tree[j]]
                j = tree[j]
            if i != j:
                tree[i] = j
                closed[item, b] = True
    return closed
