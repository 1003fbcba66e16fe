"""The switching devices of a feeder: breakers, reclosers, switches, disconnectors and fuses.

A device stands at one end of a branch, between the branch and its bus. A coupler of two buses is a
branch of kind 'coupler', and its device stands at an end of it. A branch conducts while all its
devices are closed.

Breakers, reclosers and load-break switches are operated under load. Disconnectors and fuses are
not: they isolate what is dark.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from feederguard.models.arrays import BoolArray, FloatArray, IntArray

DEVICE_KINDS = ("breaker", "recloser", "load_break", "disconnector", "fuse")
OPERATED_UNDER_LOAD = ("breaker", "recloser", "load_break")
# Our assumption where the data do not say how long an operation takes.
REMOTE_MINUTES, MANUAL_MINUTES = 1.0, 30.0

_TYPES = {
    "branch": np.int64,
    "end": np.int64,
    "closed": np.bool_,
    "remote": np.bool_,
    "minutes": np.float64,
    "available": np.bool_,
}


@dataclass(frozen=True, eq=False)
class Devices:
    """The devices of a feeder, n_device of them, in file order.

    `Network` checks them: names, kinds, places, and states against those of the branches.
    """

    name: tuple[str, ...]
    branch: IntArray  # (n_device,) the branch it switches
    end: IntArray  # (n_device,) where it stands: 0 at the from end, 1 at the to end
    kind: tuple[str, ...]  # (n_device,) each of DEVICE_KINDS
    closed: BoolArray  # (n_device,) normal state
    remote: BoolArray  # (n_device,) operated from afar; else by hand
    minutes: FloatArray  # (n_device,) how long it takes to operate
    available: BoolArray  # (n_device,) not blocked

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", tuple(str(name) for name in self.name))
        object.__setattr__(self, "kind", tuple(str(kind) for kind in self.kind))
        for name, dtype in _TYPES.items():
            array: NDArray[Any] = np.array(getattr(self, name), dtype=dtype)
            array.setflags(write=False)
            object.__setattr__(self, name, array)

    def __len__(self) -> int:
        return len(self.name)

    def __repr__(self) -> str:
        return f"Devices(name={self.name};{self.text})"

    @property
    def operated_under_load(self) -> BoolArray:
        """Devices whose kind may break or make a load current, (n_device,)."""
        return np.isin(np.array(self.kind, dtype=str), OPERATED_UNDER_LOAD)

    @property
    def operable(self) -> BoolArray:
        """Devices that a load transfer may operate: under load, and not blocked, (n_device,)."""
        return self.operated_under_load & self.available

    @property
    def text(self) -> str:
        """Every field but the names in one line, for fingerprints."""
        arrays = {name: getattr(self, name).tolist() for name in _TYPES}
        return f"kind={self.kind};{arrays}"

    def with_changes(self, **changes: Any) -> Devices:
        """Return a copy with some fields replaced."""
        return replace(self, **changes)

    def on_branches(self, kept: ArrayLike) -> Devices:
        """Return the devices on other branches: branch b becomes kept[b], or goes where that is -1.

        kept: (n_branch,) new positions.
        """
        position = np.asarray(kept, dtype=np.int64)[self.branch]
        items = np.flatnonzero(position >= 0)
        arrays = {name: getattr(self, name)[items] for name in _TYPES}
        arrays["branch"] = position[items]
        return Devices(
            name=tuple(self.name[k] for k in items),
            kind=tuple(self.kind[k] for k in items),
            **arrays,
        )

    def follow(self, before: BoolArray, after: BoolArray, open_end: IntArray) -> Devices:
        """Return the devices with states that fit new states of the branches.

        before, after: (n_branch,) closed branches. A branch that is closed has all its devices
        closed. One that is opened has one device open at each end that `open_end` says.
        """
        closed = self.closed.copy()
        closed[(after & ~before)[self.branch]] = True
        for branch in np.flatnonzero(before & ~after):
            at = np.flatnonzero(self.branch == branch)
            chosen = self.opening(at, int(open_end[branch]))
            closed[chosen] = False
        return self.with_changes(closed=closed)

    def opening(self, at: IntArray, open_end: int) -> list[int]:
        """Return which of the devices `at` of a branch open it, one at each end of `open_end`.

        An operable one goes before any other.
        """
        chosen = []
        for end in (0, 1):
            here = [int(k) for k in at if self.end[k] == end and open_end in (0, end + 1)]
            if here:
                chosen.append(max(here, key=lambda k: bool(self.operable[k])))
        return chosen


def opening_ends(devices: Devices, open_end: IntArray) -> IntArray:
    """Return `open_end` of every branch as its devices have it, (n_branch,).

    An open branch is open where a device is. A closed one will be opened by its operable devices,
    or by any where none is operable: at both ends where both have one, or at the one that
    `open_end` names. Branches without devices keep what `open_end` says.
    """
    ends = np.array(open_end, dtype=np.int64)
    settled = np.zeros(len(ends), dtype=bool)
    every = np.ones(len(devices), dtype=bool)
    for chosen, may_choose in ((~devices.closed, False), (devices.operable, True), (every, True)):
        at = np.zeros((len(ends), 2), dtype=bool)
        at[devices.branch[chosen], devices.end[chosen]] = True
        new = at.any(axis=1) & ~settled
        kept = at.all(axis=1) & (ends > 0) & may_choose
        ends[new & ~kept] = np.where(at.all(axis=1), 0, np.where(at[:, 0], 1, 2))[new & ~kept]
        settled |= new
    return ends


def default_minutes(remote: Sequence[bool] | BoolArray) -> FloatArray:
    """Return how long devices take to operate where the data do not say, in minutes."""
    return np.where(np.asarray(remote, dtype=bool), REMOTE_MINUTES, MANUAL_MINUTES)
