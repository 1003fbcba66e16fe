"""What happens by itself after each fault of a sheet, and by which devices it is isolated.

A feeder without device data is taken to have a breaker at the head of every feeder, and something
at both ends of every branch that isolates it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from feederguard.models.arrays import FloatArray, IntArray
from feederguard.models.devices import FaultResponse, isolate
from feederguard.models.devices.fault_response import Place
from feederguard.models.network import Network


@dataclass(frozen=True, eq=False)
class SheetFault:
    """A fault of the sheet: what fails, in the user's words, and how the feeder responds."""

    label: str
    kind: str  # line, tie, trafo, coupler, bus, device, or "several"
    elements: tuple[str | int, ...]
    response: FaultResponse


def ask_faults(network: Network, names: tuple[str, ...]) -> list[SheetFault]:
    """Return the faults of these names, or of every closed branch where there are none.

    A name is that of a branch, bus or device; `A+B` fails both at once. Raises ValueError for a
    fault that is named twice or normally open, and `NetworkError` for an unknown name.
    """
    asked = [_split(network, name) for name in names] or [
        (network.branch_name[b],) for b in np.flatnonzero(network.closed)
    ]
    if len(set(asked)) < len(asked):
        raise ValueError(f"{network.name}: a fault is named twice; name each once")
    return [_ask(network, elements) for elements in asked]


def device_text(network: Network, branch: int, opens: bool) -> str:
    """Return by which devices a branch is opened or closed; nothing without device data."""
    devices = network.devices
    if devices is None or branch < 0:
        return ""
    at = np.flatnonzero(devices.branch == branch)
    chosen = (
        devices.opening(at, int(network.open_end[branch]))
        if opens
        else [int(k) for k in at if not devices.closed[k]]
    )
    ends = (network.from_bus[branch], network.to_bus[branch])
    return "; ".join(
        f"{devices.name[k]} at bus {network.bus_name[ends[devices.end[k]]]}" for k in chosen
    )


def response_columns(
    network: Network, faults: list[SheetFault], p_load: FloatArray, customers: IntArray | None
) -> dict[str, Any]:
    """Return what each fault trips and interrupts, and what isolates it, as columns.

    p_load: (B, n_bus) in pu. customers: (n_bus,), None to count load points.
    """
    p_kw = 1e3 * network.base_mva * p_load
    counted = (network.p_load > 0).astype(np.int64) if customers is None else customers
    name = "load_points_interrupted" if customers is None else "customers_interrupted"
    dark = np.array([fault.response.dark for fault in faults]).reshape(p_kw.shape)
    return {
        "tripped": [_told(network, fault.response.tripped) for fault in faults],
        "tripped_kw": (p_kw * dark).sum(axis=1),
        name: (counted * dark).sum(axis=1),
        "isolated_at": [_told(network, fault.response.isolating) for fault in faults],
        "reclosed": [_told(network, fault.response.reclosing) for fault in faults],
    }


def _told(network: Network, places: tuple[Place, ...]) -> str:
    return "; ".join(place.text(network) for place in places)


def _split(network: Network, name: str) -> tuple[str, ...]:
    """Return the elements of a fault: a name that stands for itself may hold a plus sign."""
    known = {*network.branch_name, *network.bus_name}
    if network.devices is not None:
        known |= set(network.devices.name)
    return (name,) if name in known else tuple(part.strip() for part in name.split("+"))


def _ask(network: Network, elements: tuple[str, ...]) -> SheetFault:
    for name in elements:
        if name in network.branch_name and not network.closed[network.branch_index(name)]:
            raise ValueError(
                f"{network.name}: branch {name!r} is normally open; only a branch in service can "
                "fail here"
            )
    response = isolate(network, elements)
    kind = "several" if len(elements) > 1 else response.faults[0].split()[0]
    if kind == "branch":
        kind = network.kind[network.branch_index(elements[0].removeprefix("branch:"))]
    return SheetFault("+".join(elements), kind, elements, response)
