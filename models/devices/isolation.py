"""How a fault is isolated: what trips, which block is dead, what is opened and re-closed.

    (1)  A fault of a branch or bus kills its block; that of a device kills both blocks it divides.
    (2)  The nearest breaker, recloser or fuse between the fault and each source of supply trips;
         where there is none, the head of the feeder does. What it fed is dark.
    (3)  At every end between a dead and a sound part a device is opened, of whatever kind: all
         around it is dark.
    (4)  A sound branch that is cut from a dead bus is out of use as well. It is opened at the ends
         that `open_end` says too, so that it is in the state that every model gives it.
    (5)  What has tripped is closed again, unless it stands at the edge of a dead block.

Several faults at once trip each their own devices.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from feederguard.models.arrays import BoolArray, IntArray
from feederguard.models.devices.branch_ends import TRIPPING, BranchEnds, branch_ends
from feederguard.models.devices.fault_response import FaultResponse, Place
from feederguard.models.network import Network, NetworkError
from feederguard.models.once_per_object import once_per_object

Fault = str | int
_PREFIXES = ("branch", "device", "bus")


def isolate(network: Network, faults: Fault | Sequence[Fault]) -> FaultResponse:
    """Return what one fault, or several at once, do to a network in its normal state.

    A fault is a branch by number, or a branch, device or bus by name, looked for in this order;
    'branch:7', 'device:7' or 'bus:7' chooses where names are shared. Raises `NetworkError` for an
    unknown name or number, and for no fault.
    """
    given = [faults] if isinstance(faults, str | int | np.integer) else list(faults)
    if not given:
        raise NetworkError(f"{network.name}: no fault is given; name a branch, device or bus")
    parts = _parts_of(network)
    elements = [find_element(network, fault) for fault in given]
    dead = np.zeros(network.n_bus + network.n_branch, dtype=bool)
    tripped: dict[Place, None] = {}
    for kind, index in elements:
        killed = np.isin(parts.block, parts.block[_nodes(network, kind, index)])
        dead |= killed
        tripped |= dict.fromkeys(_trip(network, parts, killed))
    dead_bus, dead_branch = dead[: network.n_bus], dead[network.n_bus :]
    edge = dead_branch[:, None] != dead_bus[parts.ends.bus]
    cut = edge | _opened_too(network, edge & ~dead_branch[:, None])
    stays = [place for place in tripped if _stays(place, cut, dead_bus, dead_branch)]
    opened = [_opening(network, parts.ends, stays, int(b), int(e)) for b, e in np.argwhere(cut)]
    reclosing = tuple(place for place in tripped if place not in stays)
    return FaultResponse(
        faults=tuple(_words(network, kind, index) for kind, index in elements),
        tripped=tuple(tripped),
        dark=~_supplied(
            network, parts.ends, list(tripped), np.zeros_like(cut), np.zeros_like(dead)
        ),
        dead_bus=dead_bus,
        dead_branch=dead_branch,
        isolating=tuple(place for place in opened if place is not None),
        failed=dead_branch | edge.any(axis=1),
        reclosing=reclosing,
        dark_reclosed=~_supplied(network, parts.ends, stays, cut, dead),
    )


@dataclass(frozen=True, eq=False)
class _Parts:
    """The ends of a network's branches, and the parts of its nodes."""

    ends: BranchEnds
    block: IntArray  # (n_bus + n_branch,)
    zone: IntArray  # (n_bus + n_branch,) held together by what conducts and does not trip


@once_per_object
def _parts_of(network: Network) -> _Parts:
    ends = branch_ends(network)
    return _Parts(ends, ends.joined(~ends.cuts), ends.joined(ends.conducts & ~ends.trips))


def find_element(network: Network, fault: Fault) -> tuple[str, int]:
    """Return what has failed, 'branch', 'device' or 'bus', and its position.

    Raises `NetworkError` as `isolate`.
    """
    names = {
        "branch": network.branch_name,
        "device": network.devices.name if network.devices is not None else (),
        "bus": network.bus_name,
    }
    if isinstance(fault, str):
        for kind in _PREFIXES:
            if fault in names[kind]:
                return kind, names[kind].index(fault)
        kind, _, name = fault.partition(":")
        if name in names.get(kind, ()):
            return kind, names[kind].index(name)
        shown = ", ".join(network.branch_name[:8]) + (", ..." if network.n_branch > 8 else "")
        raise NetworkError(
            f"{network.name}: no branch, device or bus {fault!r}; branches are {shown}"
        )
    if isinstance(fault, bool) or not isinstance(fault, int | np.integer):
        raise NetworkError(
            f"{network.name}: fault is {fault!r}; give a branch by number, or a branch, device or "
            "bus by name"
        )
    if not 0 <= fault < network.n_branch:
        raise NetworkError(
            f"{network.name}: fault is {fault}; branches are numbered 0 to {network.n_branch - 1}"
        )
    return "branch", int(fault)


def _words(network: Network, kind: str, index: int) -> str:
    if kind == "device":
        assert network.devices is not None
        return f"device {network.devices.name[index]}"
    return f"{kind} {(network.branch_name if kind == 'branch' else network.bus_name)[index]}"


def _nodes(network: Network, kind: str, index: int) -> list[int]:
    """Return the nodes that a failed element is, or stands between."""
    n_bus, devices = network.n_bus, network.devices
    if kind == "bus":
        return [index]
    if kind == "branch":
        return [n_bus + index]
    assert devices is not None
    branch = devices.branch[index]
    bus = (network.from_bus, network.to_bus)[devices.end[index]][branch]
    return [n_bus + int(branch), int(bus)]


def _trip(network: Network, parts: _Parts, killed: BoolArray) -> list[Place]:
    """Return what trips by (2) for a fault that kills these nodes."""
    ends = parts.ends
    hit = np.isin(parts.zone, parts.zone[killed])
    hit_branch, hit_bus = hit[network.n_bus :, None], hit[ends.bus]
    border = ends.trips & (hit_branch != hit_bus)
    # Fault current comes from the side that sources supply without the part that is hit.
    supplied = ends.joined(ends.conducts, without=np.flatnonzero(hit))
    source = np.isin(supplied, supplied[network.substation[~hit[network.substation]]]) & ~hit
    fed = np.where(hit_branch, source[ends.bus], source[network.n_bus :, None])
    found = [_tripping(network, ends, int(b), int(e)) for b, e in np.argwhere(border & fed)]
    return found + [
        Place(-1, -1, 0, int(bus)) for bus in network.substation[hit[network.substation]]
    ]


def _tripping(network: Network, ends: BranchEnds, branch: int, end: int) -> Place:
    """Return what trips at this end: its first device that does, or the head of the feeder."""
    devices, bus = network.devices, int(ends.bus[branch, end])
    if devices is not None and not ends.head[branch, end]:
        for d in np.flatnonzero((devices.branch == branch) & (devices.end == end)):
            if devices.available[d] and devices.kind[d] in TRIPPING:
                return Place(int(d), branch, end, bus)
    return Place(-1, branch, end, bus)


def _opened_too(network: Network, cut: BoolArray) -> BoolArray:
    """Return the further ends at which sound branches that are cut are opened, by (4)."""
    says = np.stack([np.isin(network.open_end, (0, 1)), np.isin(network.open_end, (0, 2))], axis=1)
    return np.asarray(cut.any(axis=1, keepdims=True) & says)


def _stays(place: Place, cut: BoolArray, dead_bus: BoolArray, dead_branch: BoolArray) -> bool:
    if place.branch < 0:
        return bool(dead_bus[place.bus])
    inside = dead_bus[place.bus] and dead_branch[place.branch]
    return bool(cut[place.branch, place.end] or inside)


def _opening(
    network: Network, ends: BranchEnds, stays: Iterable[Place], branch: int, end: int
) -> Place | None:
    """Return what is opened at an end to cut it; None where it is open already."""
    devices, bus = network.devices, int(ends.bus[branch, end])
    if not ends.conducts[branch, end]:
        return None
    if devices is not None:
        at = (devices.branch == branch) & (devices.end == end) & devices.available
        here = [int(d) for d in np.flatnonzero(at)]
        if any(place.device in here for place in stays):
            return None
        if here:
            quickest = min(here, key=lambda d: float(devices.minutes[d]))
            return Place(quickest, branch, end, bus)
    if any((place.branch, place.end) == (branch, end) for place in stays):
        return None
    return Place(-1, branch, end, bus)


def _supplied(
    network: Network,
    ends: BranchEnds,
    tripped: Sequence[Place],
    cut: BoolArray,
    dead: BoolArray,
) -> BoolArray:
    """Return the buses with supply while some places are tripped and ends are cut, (n_bus,)."""
    through = ends.conducts & ~cut
    off = {place.bus for place in tripped if place.branch < 0}
    for place in tripped:
        if place.branch >= 0:
            through[place.branch, place.end] = False
    part = ends.joined(through, without=np.flatnonzero(dead))
    sources = [int(bus) for bus in network.substation if int(bus) not in off and not dead[bus]]
    return np.isin(part, part[sources])[: network.n_bus]
