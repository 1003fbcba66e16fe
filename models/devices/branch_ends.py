"""The ends of the branches: where they conduct, where they can be cut, and where they trip.

Buses are the nodes 0 to n_bus - 1, branches the nodes n_bus to n_bus + n_branch - 1. Every branch
has two ends, each an edge from its node to that of its bus. A device stands on such an edge.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array  # type: ignore[import-untyped]
from scipy.sparse.csgraph import connected_components  # type: ignore[import-untyped]

from feederguard.models.arrays import BoolArray, IntArray
from feederguard.models.network import Network

# A fuse blows; nobody operates it.
TRIPPING = ("breaker", "recloser", "fuse")


@dataclass(frozen=True, eq=False)
class BranchEnds:
    """What stands at both ends of each branch; columns: from end, to end.

    A blocked device neither trips nor isolates. Feeders without device data can be cut at every
    end. Where a feeder leaves a substation without a device that trips, the head of the feeder does
    (`head`): every feeder has a breaker there, drawn or not.
    """

    n_bus: int
    bus: IntArray  # (n_branch, 2)
    conducts: BoolArray  # (n_branch, 2) closed in the normal state
    cuts: BoolArray  # (n_branch, 2) open, or can be opened to isolate what is dark
    trips: BoolArray  # (n_branch, 2) interrupts a fault current
    head: BoolArray  # (n_branch, 2) trips though the data have no device for it

    def joined(self, through: BoolArray, without: Iterable[int] = ()) -> IntArray:
        """Return the number of the part of each node, (n_bus + n_branch,).

        Parts are held together by the ends `through`, (n_branch, 2). without: nodes taken out; each
        is a part of its own.
        """
        n_bus, n = self.n_bus, self.n_bus + len(self.bus)
        branch, end = np.nonzero(through)
        ends = np.stack([n_bus + branch, self.bus[branch, end]])
        taken = np.zeros(n, dtype=bool)
        taken[list(without)] = True
        ends = ends[:, ~taken[ends].any(axis=0)]
        graph = coo_array((np.ones(ends.shape[1]), (ends[0], ends[1])), shape=(n, n))
        return np.asarray(connected_components(graph, directed=False)[1], dtype=np.int64)


def branch_ends(network: Network) -> BranchEnds:
    """Return what stands at the ends of the branches of a network."""
    devices, shape = network.devices, (network.n_branch, 2)
    # An open branch is open at the ends that `open_end` says, unless its devices say more.
    says = np.stack([np.isin(network.open_end, (0, 1)), np.isin(network.open_end, (0, 2))], axis=1)
    conducts = network.closed[:, None] | ~says
    usable, trips = np.full(shape, devices is None), np.zeros(shape, dtype=bool)
    if devices is not None:
        conducts[devices.branch[~devices.closed], devices.end[~devices.closed]] = False
        usable[devices.branch[devices.available], devices.end[devices.available]] = True
        tripping = devices.available & np.isin(np.array(devices.kind, dtype=str), TRIPPING)
        trips[devices.branch[tripping], devices.end[tripping]] = True
    bus = np.stack([network.from_bus, network.to_bus], axis=1)
    head = np.isin(bus, network.substation) & ~trips
    coupler = np.array(network.kind, dtype=str) == "coupler"
    head[coupler & usable.any(axis=1)] = False
    return BranchEnds(
        network.n_bus,
        bus,
        conducts=conducts,
        cuts=~conducts | usable | head,
        trips=conducts & (trips | head),
        head=head,
    )
