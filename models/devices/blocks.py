"""Blocks: the parts of a feeder that no device divides.

A fault anywhere in a block kills all of it until the repair. A device at the end of a branch
divides the branch from the bus at that end.
"""

from __future__ import annotations

from dataclasses import dataclass

from feederguard.models.arrays import IntArray
from feederguard.models.devices.branch_ends import branch_ends
from feederguard.models.network import Network


@dataclass(frozen=True, eq=False)
class Blocks:
    """The block of every bus and branch, by number."""

    bus: IntArray  # (n_bus,)
    branch: IntArray  # (n_branch,)

    @property
    def n_block(self) -> int:
        return int(max(self.bus.max(initial=-1), self.branch.max(initial=-1))) + 1


def blocks(network: Network) -> Blocks:
    """Return the blocks of a network.

    A blocked device divides nothing while it is closed. Feeders without device data can be cut at
    both ends of every branch, so every bus and every branch is a block.
    """
    ends = branch_ends(network)
    number = ends.joined(~ends.cuts)
    return Blocks(number[: network.n_bus], number[network.n_bus :])
