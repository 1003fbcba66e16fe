"""Faults as a person asks for them, turned into the branches that are out of use."""

from __future__ import annotations

from typing import Any

import numpy as np

from feederguard.models.arrays import BoolArray, IntArray
from feederguard.models.devices.isolation import find_element, isolate
from feederguard.models.network import Network, NetworkError

Several = tuple[Any, ...]


def failed_branches(network: Network, faults: Any) -> tuple[IntArray, BoolArray | None]:
    """Return the failed branch of each scenario, (B,), and all that are out of use, (B, n_branch).

    faults: one for each scenario, or a single one: a branch by number, a branch, device or bus by
    name as for `isolate`, or a tuple of these for several at once. Where the network has devices,
    the branches of a dead block are out of use, and those that isolate it; else a failed branch
    alone is. The failed branch is the first one that is named, or else the first one out of use.
    The mask is None where every failed branch is alone.

    Raises `NetworkError` for what cannot fail, for what fails twice at once, and where a fault
    leaves every branch in use.
    """
    given = [_several(network, fault) for fault in _listed(faults)]
    known: dict[Several, tuple[int, BoolArray]] = {}
    for several in given:
        if several not in known:
            known[several] = _failed(network, several)
    branch = np.array([known[several][0] for several in given], dtype=np.int64)
    if all(mask.sum() == 1 for _, mask in known.values()):
        return branch, None
    return branch, np.stack([known[several][1] for several in given])


def kills(network: Network, faults: Any, item: int, bus: int) -> bool:
    """Return whether one of the faults that `failed_branches` takes puts this bus out of use."""
    return bool(isolate(network, _several(network, _listed(faults)[item])).dead_bus[bus])


def _listed(faults: Any) -> list[Any]:
    """Return the faults one by one; a tuple in a list is one fault of several elements."""
    if isinstance(faults, str) or np.ndim(np.asarray(faults, dtype=object)) == 0:
        return [faults]
    return list(faults)


def _several(network: Network, fault: Any) -> Several:
    several = tuple(fault) if isinstance(fault, tuple | list | np.ndarray) else (fault,)
    if len(set(several)) < len(several):
        raise NetworkError(f"{network.name}: fault {fault!r} names one twice; name each once")
    return several


def _failed(network: Network, several: Several) -> tuple[int, BoolArray]:
    elements = [find_element(network, fault) for fault in several]
    branches = [index for kind, index in elements if kind == "branch"]
    if network.devices is None and elements and len(branches) == len(elements):
        mask = np.zeros(network.n_branch, dtype=bool)
        mask[branches] = True
        return branches[0], mask
    mask = isolate(network, several).failed
    if not mask.any():
        raise NetworkError(
            f"{network.name}: fault {several[0]!r} puts no branch out of use; name one that does"
        )
    return branches[0] if branches else int(np.flatnonzero(mask)[0]), mask
