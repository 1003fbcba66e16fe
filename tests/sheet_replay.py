"""Every state of an N-1 sheet played again: from its files alone, and on the net they are for.

pytest puts tests/ on the import path (`pythonpath` in pyproject.toml), so any test writes

    from sheet_replay import SourceNet, sheet_states
"""

import copy
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import networkx as nx
import numpy as np
import pandapower
import pandas as pd

from feederguard.models.arrays import BoolArray, FloatArray
from feederguard.models.devices import isolate
from feederguard.models.network import Network

Row = dict[str, Any]
_STATES = (
    *(("switch", "closed"), ("line", "in_service"), ("trafo", "in_service")),
    *(("ext_grid", "in_service"), ("load", "scaling"), ("sgen", "scaling")),
)
# Of pandapower's types; disconnectors and fuses isolate, and are not operated under load.
UNDER_LOAD = ("CB", "LBS", "LS")


@dataclass(frozen=True, eq=False)
class SheetState:
    """A line of steps.csv and the state it leads to, in the arrays of the network."""

    row: Row
    closed: BoolArray  # (n_branch,)
    shed: FloatArray  # (n_bus,)
    curtail: FloatArray  # (n_bus,)


def sheet_states(network: Network, steps: pd.DataFrame) -> Iterator[SheetState]:
    """Yield the state after every line, from what the lines say alone."""
    for fault, part in steps.groupby("fault", sort=False):
        closed = network.closed & ~isolate(network, str(fault).split("+")).failed
        shed, curtail = np.zeros(network.n_bus), np.zeros(network.n_bus)
        for row in part.to_dict("records"):
            if row["action"] == "shed":
                for name, target in (("shed", shed), ("curtail", curtail)):
                    for bus, fraction in _fractions(row[f"{name}_fractions"]):
                        target[network.bus_index(bus)] = fraction
            elif row["action"] != "isolate":
                for name in row["element"].split(" + "):
                    closed[network.branch_index(name)] = row["action"] == "close"
            yield SheetState(row, closed.copy(), shed.copy(), curtail.copy())


class SourceNet:
    """A pandapower net on which the lines of a sheet are carried out, device by device.

    Its names are taken off, so that the labels of its sheet are pandapower's own indices: bus '7',
    'line 3', 'switch 12'. A line fails that asks for a device that does not exist, is in that state
    already, or may not be operated under load; and so does an isolation that leaves the fault live.
    A net without switches has one in every tie and in every line on a loop. Ties are then lines out
    of service, those of `ties`.
    """

    def __init__(self, net: pandapower.pandapowerNet, ties: frozenset[int] = frozenset()) -> None:
        self.net = copy.deepcopy(net)
        for table in ("bus", "line", "trafo", "switch"):
            self.net[table]["name"] = None
        self.ties = ties
        self._normal = {key: self.net[key[0]][key[1]].copy() for key in _STATES}

    def replay(self, steps: pd.DataFrame, sheet: pd.DataFrame) -> Iterator[Row]:
        """Carry out every line, and yield it when `net` holds the solved state."""
        told = sheet.set_index("fault").to_dict("index")
        for fault, part in steps.groupby("fault", sort=False):
            for (table, column), values in self._normal.items():
                self.net[table][column] = values.copy()
            for row in part.to_dict("records"):
                if row["action"] == "isolate":
                    self._isolate(str(fault), told[fault])
                elif row["action"] == "shed":
                    self._scale("load", row["shed_fractions"])
                    self._scale("sgen", row["curtail_fractions"])
                elif len(self.net.switch):
                    self._operate_devices(row)
                else:
                    self._operate_branch(str(fault), row)
                if self.net.ext_grid["in_service"].any():
                    pandapower.runpp(self.net, calculate_voltage_angles=True, tolerance_mva=1e-10)
                else:
                    # pandapower solves no net without a source.
                    for table in ("bus", "line", "trafo", "switch"):
                        if len(self.net[f"res_{table}"]):
                            self.net[f"res_{table}"].loc[:] = np.nan
                assert not self._is_live(str(fault)), (fault, row["step"])
                yield row

    def _isolate(self, fault: str, told: Row) -> None:
        """Trip, isolate and close again as the sheet says."""
        if not len(self.net.switch):
            table, index = _element(fault)
            self.net[table].loc[index, "in_service"] = False
            return
        again = set(_places(told["reclosed"]))
        tripped = [place for place in _places(told["tripped"]) if place not in again]
        for device, branch, bus in [*tripped, *_places(told["isolated_at"])]:
            if device:
                assert self.net.switch.at[device[0], "closed"], (fault, device)
                assert self.net.switch.at[device[0], "bus"] == bus
                self.net.switch.loc[device[0], "closed"] = False
                continue
            # The breaker at the head of a feeder that the net does not hold.
            grid = self.net.ext_grid["bus"] == bus
            assert grid.any(), (fault, branch, bus)
            if branch is None:
                self.net.ext_grid.loc[grid, "in_service"] = False
            else:
                self.net[branch[0]].loc[branch[1], "in_service"] = False

    def _operate_devices(self, row: Row) -> None:
        opens = row["action"] == "open"
        devices = re.findall(r"switch (\d+) at bus (\d+)", row["devices"])
        assert devices, row
        kinds = []
        for device, bus in devices:
            switch = self.net.switch.loc[int(device)]
            assert switch["bus"] == int(bus) and switch["closed"] == opens, row
            if switch["et"] != "b":
                table = {"l": "line", "t": "trafo"}[switch["et"]]
                assert self.net[table].at[switch["element"], "in_service"], row
                assert f"{table} {switch['element']}" in row["element"].split(" + "), row
            else:
                assert f"switch {device}" in row["element"].split(" + "), row
            kinds.append(switch["type"])
            self.net.switch.loc[int(device), "closed"] = not opens
        assert set(kinds) & set(UNDER_LOAD), row

    def _operate_branch(self, fault: str, row: Row) -> None:
        """Open or close a line of a net without switches: a tie, or a line on a loop."""
        table, index = _element(row["element"])
        opens, line = row["action"] == "open", self.net.line
        assert table == "line" and line.at[index, "in_service"] == opens, row
        assert row["element"] != fault
        if index not in self.ties:
            ends = zip(line["from_bus"], line["to_bus"], strict=True)
            assert nx.has_path(
                nx.Graph(pair for k, pair in zip(line.index, ends, strict=True) if k != index),
                line.at[index, "from_bus"],
                line.at[index, "to_bus"],
            ), row
        line.loc[index, "in_service"] = not opens

    def _scale(self, table: str, told: str) -> None:
        for bus, fraction in _fractions(told):
            at = self.net[table]["bus"] == int(bus)
            assert at.any(), (table, bus)
            self.net[table].loc[at, "scaling"] *= 1 - fraction

    def _is_live(self, fault: str) -> bool:
        table, index = _element(fault)
        if table == "switch":
            return bool(self.net.switch.at[index, "closed"])
        currents = self.net[f"res_{table}"].loc[index].filter(like="ka")
        return bool((currents.abs().fillna(0.0) > 0).any())


def _element(label: str) -> tuple[str, int]:
    table, index = label.split()
    return table, int(index)


def _places(told: str) -> list[tuple[tuple[int, ...], tuple[str, int] | None, int]]:
    """Return device, branch and bus of 'switch 1 (line 3 at bus 7); line 5 at bus 0; ...'."""
    found = []
    for part in filter(None, told.split("; ")):
        match = re.fullmatch(r"(?:switch (\d+) \()?(?:grid above|(\w+ \d+)) at bus (\d+)\)?", part)
        assert match, part
        device, branch, bus = match.groups()
        found.append(
            ((int(device),) if device else (), _element(branch) if branch else None, int(bus))
        )
    return found


def _fractions(told: str) -> list[tuple[str, float]]:
    """Return buses and fractions as a line of steps.csv tells them."""
    pairs = [item.rsplit(":", 1) for item in told.split()]
    return [(bus, float(fraction)) for bus, fraction in pairs]
