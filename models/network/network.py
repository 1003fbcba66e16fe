"""A feeder: its fields, checked, and its ways in and out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from feederguard.models.arrays import BoolArray, FloatArray
from feederguard.models.network.checks import (
    check_generators,
    check_groups,
    check_names,
    check_reachable,
    check_shapes,
    check_substations,
    check_values,
)
from feederguard.models.network.device_checks import check_devices
from feederguard.models.network.devices import Devices, opening_ends
from feederguard.models.network.fields import BRANCH_DEFAULTS, NetworkError, NetworkFields, coerce
from feederguard.models.network.graph import branches_on_loop, no_load_angles

if TYPE_CHECKING:
    from pandapower.auxiliary import pandapowerNet


@dataclass(frozen=True, eq=False)
class Network(NetworkFields):
    """A feeder of n_bus buses and n_branch branches, radial or meshed.

    It has one or more substations. Raises `NetworkError` when

    - arrays disagree in length, values are not finite or impossible, or names repeat;
    - a branch or generator lies at no bus, or a lower limit is above its upper one;
    - there is no substation, or a generator stands for the grid above at another bus;
    - no path of branches and ties leads to some bus;
    - a device stands nowhere, or its state contradicts that of its branch;
    - a group limit names no branch, or an unknown one, or is not positive.
    """

    def __post_init__(self) -> None:
        coerce(self)
        check_shapes(self)
        check_names(self)
        check_values(self)
        check_devices(self)
        check_generators(self)
        check_substations(self)
        check_groups(self)
        check_reachable(self)
        if self.devices is not None:
            ends = np.where(self.in_service, opening_ends(self.devices, self.open_end), 0)
            ends.setflags(write=False)
            object.__setattr__(self, "open_end", ends)

    @property
    def on_loop(self) -> BoolArray:
        """Branches that lie on a loop when every branch is closed, (n_branch,)."""
        return branches_on_loop(self)

    @property
    def no_load_angle(self) -> FloatArray:
        """Voltage angle of each bus in rad when nothing flows, (n_bus,)."""
        return no_load_angles(self)

    def with_changes(self, **changes: Any) -> Network:
        """Return a copy with some fields replaced, validated anew.

        Devices follow the branches: to their new positions by name, and to their new states.
        """
        if len(changes.get("branch_name", self.branch_name)) != self.n_branch:
            # What says nothing fits any number of branches.
            for name, idle in BRANCH_DEFAULTS.items():
                if (getattr(self, name) == idle).all():
                    changes.setdefault(name, np.zeros(0))
        if len(changes.get("bus_name", self.bus_name)) != self.n_bus and (self.priority == 1).all():
            changes.setdefault("priority", np.zeros(0))
        if len(changes.get("gen_name", self.gen_name)) != self.n_gen and not self.gen_is_grid.any():
            changes.setdefault("gen_is_grid", np.zeros(0))
        if self.devices is not None and "devices" not in changes:
            changes["devices"] = self._devices_after(changes)
        if "gen_cost" in changes or "gen_cost_lines" in changes:
            changes.setdefault("cost_error", "")
        return replace(self, **changes)

    def _devices_after(self, changes: dict[str, Any]) -> Devices:
        """Return the devices as they are once other fields have changed."""
        assert self.devices is not None
        after = self.closed
        if "closed" in changes and len(changes["closed"]) == self.n_branch:
            after = np.asarray(changes["closed"], dtype=bool)
        open_end = np.asarray(changes.get("open_end", self.open_end))
        devices = self.devices.follow(self.closed, after, open_end)
        if "branch_name" not in changes:
            return devices
        place = {name: k for k, name in enumerate(changes["branch_name"])}
        same = len(place) == self.n_branch
        return devices.on_branches(
            [place.get(name, k if same else -1) for k, name in enumerate(self.branch_name)]
        )

    @classmethod
    def from_pandapower(cls, net: pandapowerNet, base_mva: float | None = None) -> Network:
        """Return the feeder of a pandapower net; `pandapower.read` says what becomes what.

        Raises `NetworkError` for what a network cannot hold.
        """
        from feederguard.models.network.pandapower.read import fields_of_pandapower

        return cls(**fields_of_pandapower(net, base_mva))

    def to_pandapower(self) -> pandapowerNet:
        """Return the feeder as a pandapower net; `pandapower.write` says what becomes what."""
        from feederguard.models.network.pandapower.write import network_to_pandapower

        return network_to_pandapower(self)

    @classmethod
    def from_matpower(cls, path: str | Path) -> Network:
        """Return the feeder of a MATPOWER .m file; `matpower.read` says what becomes what.

        Raises `NetworkError` for what a network cannot hold.
        """
        from feederguard.models.network.matpower.read import fields_of_matpower

        given = fields_of_matpower(path)
        try:
            return cls(**given)
        except NetworkError as error:
            reason = str(error).removeprefix(f"{given['name']}: ")
            raise NetworkError(f"{Path(path)}: {reason}") from None
