"""What a load transfer may do and must respect: two settings of the problem, and a user's own.

paper    meshed operation allowed; ties switchable; 0.90-1.10 pu; one limit on active power in every
         branch away from the substations (Zhou et al., Energy Engineering 121(6), 2024; the limit
         is a calibration, see the feeder's meta.json)
radial   always a spanning tree; ties and every line on a loop switchable; 0.90-1.05 pu; ratings
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from feederguard.models.arrays import BoolArray, IntArray
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
    # Branch names; None: ties, and when radial every line on a loop.
    switchable: tuple[str, ...] | None = None

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

        Raises `NetworkError` for an unknown name.
        """
        if self.switchable is not None:
            mask = np.zeros(network.n_branch, dtype=bool)
            mask[[network.branch_index(name) for name in self.switchable]] = True
            return mask
        if not self.radial:
            return network.is_tie
        return loop_switches(network)

    def limited_branches(self, network: Network) -> BoolArray:
        """Return the branches that carry the limit on active power, (n_branch,)."""
        at_substation = np.isin(network.from_bus, network.substation) | np.isin(
            network.to_bus, network.substation
        )
        return ~at_substation


def loop_switches(network: Network) -> BoolArray:
    """Return the ties and every line on a loop, (n_branch,)."""
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
