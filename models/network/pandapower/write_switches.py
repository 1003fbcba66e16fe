"""The couplers, devices and open ends of a `Network` as switches of a pandapower net."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandapower
from pandapower.auxiliary import pandapowerNet

from feederguard.models.arrays import BoolArray
from feederguard.models.network.devices import Devices
from feederguard.models.network.fields import COUPLER_X_PU_PER_MVA, NetworkError, NetworkFields
from feederguard.models.network.pandapower.switches import TYPE_OF_KIND

# Of the resistance to the reactance of a bus-bus switch, pandapower's default.
SWITCH_RX_RATIO = 2.0
_OURS = ("remote", "minutes", "available")


def bus_switches(network: NetworkFields) -> BoolArray:
    """Return which branches are bus-bus switches in pandapower, (n_branch,).

    They are those without impedance, and couplers with an impedance as pandapower has it.
    """
    least = 2 * COUPLER_X_PU_PER_MVA * network.base_mva
    like = np.isclose(network.r, SWITCH_RX_RATIO * network.x, rtol=1e-9, atol=0)
    coupler = np.array(network.kind, dtype=str) == "coupler"
    return np.asarray((network.z == 0) | (coupler & ((np.abs(network.z) <= least) | like)))


def write_switches(
    net: pandapowerNet, network: NetworkFields, ideal: BoolArray, wound: BoolArray
) -> None:
    """Write every device in order, then what no device stands for: couplers and open ends.

    ideal, wound: (n_branch,) bus-bus switches and trafos; other branches are lines. Raises
    `NetworkError` for a coupler with several devices, which pandapower does not have.
    """
    places = _Places(network, ideal, wound)
    devices, rows = network.devices, []
    if devices is not None:
        _refuse_several(network, devices, ideal)
        for d, (branch, end) in enumerate(zip(devices.branch, devices.end, strict=True)):
            name = network.branch_name[branch] if ideal[branch] else devices.name[d]
            ours = {column: getattr(devices, column)[d] for column in _OURS}
            out = ideal[branch] and not network.in_service[branch]
            if out:
                ours["available"] = False
            rows.append(
                places.row(int(branch), int(end), bool(devices.closed[d]) and not out)
                | {"name": name, "type": TYPE_OF_KIND[devices.kind[d]]}
                | ours
            )
    held = set() if devices is None else set(devices.branch.tolist())
    for branch in range(network.n_branch):
        if branch in held:
            continue
        closed, open_end = bool(network.closed[branch]), network.open_end[branch]
        ends = [0] if ideal[branch] else [end for end in (0, 1) if open_end in (0, end + 1)]
        if ideal[branch] or not closed and network.in_service[branch]:
            rows += [places.row(branch, end, closed) for end in ends]
    for row in rows:
        ours = {column: row.pop(column) for column in _OURS if column in row}
        index = pandapower.create_switch(net, **row)
        for column, value in ours.items():
            if column not in net.switch:
                net.switch[column] = np.nan if column == "minutes" else None
            net.switch.at[index, column] = value


@dataclass(frozen=True)
class _Places:
    """Where the switches of a network stand in the net that is written for it."""

    network: NetworkFields
    ideal: BoolArray  # (n_branch,)
    wound: BoolArray  # (n_branch,)

    def row(self, branch: int, end: int, closed: bool) -> dict[str, object]:
        """Return the columns of a switch at an end of a branch."""
        network = self.network
        ends = int(network.from_bus[branch]), int(network.to_bus[branch])
        given = {"closed": closed, "name": network.branch_name[branch]}
        if self.ideal[branch]:
            base_ka = network.base_current_a[branch] / 1e3
            z_ohm = abs(network.z[branch]) * network.vn_kv[ends[0]] ** 2 / network.base_mva
            tiny = abs(network.z[branch]) <= 2 * COUPLER_X_PU_PER_MVA * network.base_mva
            rated = {"z_ohm": 0.0 if tiny else z_ohm, "in_ka": network.rating[branch] * base_ka}
            return {"bus": ends[0], "element": ends[1], "et": "b", **rated, **given}
        alike = self.wound if self.wound[branch] else ~self.wound & ~self.ideal
        element = int(alike[:branch].sum())
        et = "t" if self.wound[branch] else "l"
        return {"bus": ends[end], "element": element, "et": et, **given}


def _refuse_several(network: NetworkFields, devices: Devices, ideal: BoolArray) -> None:
    for branch in np.flatnonzero(ideal):
        here = [devices.name[d] for d in np.flatnonzero(devices.branch == branch)]
        if len(here) > 1:
            raise NetworkError(
                f"{network.name}: coupler {network.branch_name[branch]!r} has devices "
                f"{', '.join(here)}; pandapower has one switch in a coupler, so keep one, or put a "
                "bus between them"
            )
