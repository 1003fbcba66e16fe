"""The rules that the devices of a network keep, checked when it is made."""

from __future__ import annotations

import numpy as np

from feederguard.models.network.devices import DEVICE_KINDS, Devices
from feederguard.models.network.fields import NetworkError, NetworkFields

_PER_DEVICE = ("branch", "end", "kind", "closed", "remote", "minutes", "available")


def check_devices(network: NetworkFields) -> None:
    """Raise `NetworkError` when a device is impossible, or contradicts the state of its branch.

    All devices of a closed branch are closed. An open branch in service that has devices has an
    open one.
    """
    if network.devices is None:
        return
    _check_places(network, network.devices)
    _check_states(network, network.devices)


def _check_places(network: NetworkFields, devices: Devices) -> None:
    for name in _PER_DEVICE:
        length = len(getattr(devices, name))
        if length != len(devices):
            raise NetworkError(
                f"{network.name}: devices.{name} has {length} entries for {len(devices)} devices; "
                "give one for each"
            )
    seen: set[str] = set()
    for name, kind in zip(devices.name, devices.kind, strict=True):
        if name in seen:
            raise NetworkError(
                f"{network.name}: device {name!r} appears twice; give every device its own name"
            )
        seen.add(name)
        if kind not in DEVICE_KINDS:
            raise NetworkError(
                f"{network.name}: device {name!r} is of kind {kind!r}; use one of "
                f"{', '.join(DEVICE_KINDS)}"
            )
    astray = np.flatnonzero((devices.branch < 0) | (devices.branch >= network.n_branch))
    if astray.size:
        k = astray[0]
        raise NetworkError(
            f"{network.name}: device {devices.name[k]!r} stands at branch {devices.branch[k]}; "
            f"branches are numbered 0 to {network.n_branch - 1}"
        )
    astray = np.flatnonzero(~np.isin(devices.end, (0, 1)))
    if astray.size:
        k = astray[0]
        raise NetworkError(
            f"{network.name}: device {devices.name[k]!r} stands at end {devices.end[k]} of branch "
            f"{network.branch_name[devices.branch[k]]!r}; use 0 (from) or 1 (to)"
        )
    bad = np.flatnonzero(~(np.isfinite(devices.minutes) & (devices.minutes >= 0)))
    if bad.size:
        raise NetworkError(
            f"{network.name}: device {devices.name[bad[0]]!r} takes {devices.minutes[bad[0]]} "
            "minutes; give zero or more"
        )


def _check_states(network: NetworkFields, devices: Devices) -> None:
    on_closed, in_service = network.closed[devices.branch], network.in_service[devices.branch]
    bad = np.flatnonzero(on_closed & ~devices.closed)
    if bad.size:
        raise NetworkError(
            f"{_place(network, devices, int(bad[0]))} is open, but the branch is closed; close the "
            "device, or open the branch"
        )
    held_open = np.zeros(network.n_branch, dtype=bool)
    held_open[devices.branch[~devices.closed]] = True
    bad = np.flatnonzero(~on_closed & in_service & ~held_open[devices.branch])
    if bad.size:
        raise NetworkError(
            f"{_place(network, devices, int(bad[0]))} is closed like every device of the branch, "
            "but the branch is open; open a device, or close the branch"
        )


def _place(network: NetworkFields, devices: Devices, device: int) -> str:
    end, branch = devices.end[device], devices.branch[device]
    bus = (network.from_bus, network.to_bus)[end][branch]
    return (
        f"{network.name}: device {devices.name[device]!r} of branch "
        f"{network.branch_name[branch]!r} at bus {network.bus_name[bus]!r}"
    )
