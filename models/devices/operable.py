"""Which branches a load transfer may open and close."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from feederguard.models.arrays import BoolArray
from feederguard.models.network import Devices, Network, NetworkError


def operable_branches(
    network: Network, only: Sequence[str] | None = None, blocked: Sequence[str] = ()
) -> BoolArray:
    """Return the branches with a device that may be operated under load, (n_branch,).

    That device must not be blocked, nor may an open one beside it: both must be closed. Open
    disconnectors beside it are closed first, while it is open. Without device data every branch
    counts.

    only: names of the devices, or of the branches whose devices, are left; default all. blocked:
    names of those that are blocked too. Raises `NetworkError` for a name that is neither, and for a
    branch or device of `only` that nobody may operate.
    """
    devices = network.devices
    if devices is None:
        mask = network.in_service.copy()
        if only is not None:
            mask = np.isin(np.arange(network.n_branch), [network.branch_index(n) for n in only])
        mask[[network.branch_index(name) for name in blocked]] = False
        return mask
    shut = np.zeros(len(devices), dtype=bool)
    for name in blocked:
        shut |= devices_named(network, devices, name)
    left = np.ones(len(devices), dtype=bool)
    if only is not None:
        left = np.zeros(len(devices), dtype=bool)
        for name in only:
            chosen = devices_named(network, devices, name)
            if not (chosen & devices.operable).any():
                raise NetworkError(
                    f"{network.name}: {name!r} has no device that may be operated under load; "
                    "name a breaker, recloser or load-break switch that is not blocked"
                )
            left |= chosen
    may = np.zeros(network.n_branch, dtype=bool)
    may[devices.branch[devices.operable & left & ~shut]] = True
    may[devices.branch[~devices.closed & (shut | ~devices.available)]] = False
    return may & network.in_service if only is None else may


def block_devices(network: Network, names: Iterable[str]) -> Network:
    """Return the network with devices blocked, by their names or by those of their branches.

    Raises `NetworkError` for a name that is neither, and where the network has no devices.
    """
    devices = network.devices
    if devices is None:
        raise NetworkError(f"{network.name}: it has no devices to block; name branches instead")
    available = devices.available.copy()
    for name in names:
        available[devices_named(network, devices, name)] = False
    return network.with_changes(devices=devices.with_changes(available=available))


def devices_named(network: Network, devices: Devices, name: str) -> BoolArray:
    """Return the device of that name, or else the devices of the branch of that name, (n_device,).

    Raises `NetworkError` for a name that is neither, or a branch without a device.
    """
    if name in devices.name:
        return np.isin(np.array(devices.name, dtype=str), name)
    if name not in network.branch_name:
        shown = ", ".join(devices.name[:8]) + (", ..." if len(devices) > 8 else "")
        raise NetworkError(f"{network.name}: no device or branch {name!r}; devices are {shown}")
    at = np.isin(devices.branch, network.branch_index(name))
    if not at.any():
        raise NetworkError(
            f"{network.name}: branch {name!r} has no device; name a branch or a device that has"
        )
    return at
