"""Faults as a person asks for them, turned into the branches that are out of use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from feederguard.models.arrays import BoolArray, IntArray
from feederguard.models.devices.isolation import isolate
from feederguard.models.network import Network, NetworkError


def failed_branches(network: Network, faults: Any) -> tuple[IntArray, BoolArray]:
    """Return the failed branch of each scenario, (B,), and all that are out of use, (B, n_branch).

    faults: one for each scenario, or a single one: a branch by number, a branch, device or bus by
    name, or a tuple of these for several at once. Where the network has devices, the branches of a
    dead block are out of use and those that isolate it; else a failed branch alone is. The failed
    branch is the first one that is named, or the first one out of use.

    Raises ValueError for what cannot fail, and `NetworkError` where a fault leaves every branch in
    use.
    """
    given = _listed(faults)
    known: dict[tuple[Any, ...], tuple[int, BoolArray]] = {}
    branch = np.empty(len(given), dtype=np.int64)
    failed = np.zeros((len(given), network.n_branch), dtype=bool)
    for item, fault in enumerate(given):
        several = tuple(fault) if isinstance(fault, tuple | list) else (fault,)
        if several not in known:
            known[several] = _failed(network, several)
        branch[item], failed[item] = known[several]
    return branch, failed


def _listed(faults: Any) -> Sequence[Any]:
    if isinstance(faults, np.ndarray):
        return np.atleast_1d(faults).tolist()  # type: ignore[no-any-return]
    if isinstance(faults, str) or not isinstance(faults, Sequence):
        return [faults]
    return faults


def _failed(network: Network, several: tuple[Any, ...]) -> tuple[int, BoolArray]:
    mask = isolate(network, several).failed
    if not mask.any():
        raise NetworkError(
            f"{network.name}: fault {several[0]!r} puts no branch out of use; name one that does"
        )
    for fault in several:
        if isinstance(fault, str) and fault in network.branch_name:
            return network.branch_index(fault), mask
        if not isinstance(fault, str):
            return int(fault), mask
    return int(np.flatnonzero(mask)[0]), mask
