"""What a load transfer may do and must respect: two settings of the problem, and a user's own.

paper    meshed operation allowed; ties switchable; 0.90-1.10 pu; one limit on active power in every
         branch away from the substations (Zhou et al., Energy Engineering 121(6), 2024; the limit
         is a calibration, see the feeder's meta.json)
radial   always a spanning tree; ties and every line on a loop switchable; 0.90-1.05 pu; ratings

Where a feeder has devices, only branches with a device that may be operated are switchable.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from feederguard.models.arrays import BoolArray, IntArray
from feederguard.models.devices import block_devices, operable_branches
from feederguard.models.network import Network, NetworkError
from feederguard.models.network.graph import energised_buses

SETTING_NAMES = ("paper", "radial")


@dataclass(frozen=True)
class Setting:
    """Topology rule, switchable branches and limits of a load transfer."""

    name: str
    radial: bool
    v_min_pu: float
    v_max_pu: float
    # On branches away from a substation; None: thermal ratings instead.
    active_limit_mw: float | None = None
    # Names of branches or devices; None: ties, and when radial every branch on a loop that a device
    # can open. Without device data, lines on a loop count as such.
    switchable: tuple[str, ...] | None = None
    # Names of branches or devices that are not operated.
    blocked: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0 < self.v_min_pu < self.v_max_pu:
            raise ValueError(
                f"setting {self.name!r}: voltage band {self.v_min_pu}..{self.v_max_pu} pu is empty"
            )
        if self.active_limit_mw is not None and not self.active_limit_mw > 0:
            raise ValueError(
                f"setting {self.name!r}: active_limit_mw is {self.active_limit_mw}; it must be "
                "positive"
            )

    def switchable_branches(self, network: Network) -> BoolArray:
        """Return which branches may change state, (n_branch,).

        Raises `NetworkError` for an unknown name, and for one that no device may operate.
        """
        may = operable_branches(network, self.switchable, self.blocked)
        if self.switchable is not None:
            return may
        return may & (loop_switches(network) if self.radial else network.is_tie)

    def limited_branches(self, network: Network) -> BoolArray:
        """Return the branches that carry the limit on active power, (n_branch,)."""
        at_substation = np.isin(network.from_bus, network.substation) | np.isin(
            network.to_bus, network.substation
        )
        return ~at_substation


def loop_switches(network: Network) -> BoolArray:
    """Return the ties and every branch on a loop that a device can open, (n_branch,).

    Without device data these are the lines, as the papers assume.
    """
    if network.devices is not None:
        return operable_branches(network) & (network.is_tie | network.on_loop)
    return np.asarray(network.is_tie | (network.on_loop & (np.array(network.kind) == "line")))


def resolve_setting(network: Network, setting: str | Setting) -> Setting:
    """Return the setting of this name with the network's limits; a `Setting` is returned unchanged.

    Raises ValueError for an unknown name, and `NetworkError` when the network has no limit for the
    paper setting.
    """
    if isinstance(setting, Setting):
        return setting
    if setting == "radial":
        return Setting("radial", True, 0.90, 1.05)
    if setting == "paper":
        if not np.isfinite(network.paper_limit_mw):
            raise NetworkError(
                f"{network.name}: the paper setting needs a uniform active-power limit and this "
                "feeder has none; give it paper_limit_mw, use the radial setting, or pass a Setting"
            )
        return Setting("paper", False, 0.90, 1.10, network.paper_limit_mw)
    raise ValueError(
        f"unknown setting {setting!r}; use one of {', '.join(SETTING_NAMES)}, or a Setting"
    )


def restrict(
    network: Network, setting: Setting, switchable: tuple[str, ...], blocked: tuple[str, ...]
) -> tuple[Network, Setting]:
    """Return network and setting when only some devices are operated, and some are blocked.

    switchable, blocked: names of branches or devices; no name: no restriction. A blocked device
    does not isolate either, and a line that it cannot open hangs from its end. Raises
    `NetworkError` for an unknown name, and for one of `switchable` that no device may operate.
    """
    if network.devices is not None and blocked:
        network = block_devices(network, blocked)
    setting = replace(setting, switchable=switchable or setting.switchable, blocked=blocked)
    setting.switchable_branches(network)
    return network, setting


def device_note(network: Network) -> str:
    """Return in words which devices the answers for a network rest on."""
    if network.devices is None:
        return (
            f"{network.name} has no device data: a switch is assumed in every tie and in every "
            "line on a loop"
        )
    n = int(operable_branches(network).sum())
    return f"{len(network.devices)} devices of {network.name}; {n} branches can be operated by them"


def faultable_branches(network: Network) -> IntArray:
    """Return the branches whose loss makes a load-transfer problem, in file order.

    These are the normally closed lines, but for those whose loss cuts off every load whatever is
    switched.
    """
    candidates = [
        b for b in range(network.n_branch) if network.closed[b] and network.kind[b] == "line"
    ]
    loaded = network.p_load > 0
    bridge = ~network.on_loop
    keep = []
    for b in candidates:
        available = np.ones(network.n_branch, dtype=bool)
        available[b] = False
        if not bridge[b] or (energised_buses(network, available) & loaded).any():
            keep.append(b)
    return np.array(keep, dtype=np.int64)
