"""Feeders: the bundled ones by name, and a user's own from files.

A user's feeder is a CSV folder, a pandapower .json or a MATPOWER .m file. A CSV folder holds three
files, a fourth where its switching devices are known, and a fifth for limits of groups. Other
columns and keys are ignored.

    buses.csv      bus, vn_kv, type (slack | pq), p_mw, q_mvar, vmin_pu, vmax_pu, sgen_p_mw
    branches.csv   branch, from_bus, to_bus, kind (line | tie | trafo | coupler), normally_open
                   (0 | 1), r_ohm, x_ohm, b_us, rating_a (empty: no limit); optional: in_service
                   (0 | 1; 0 while it is out for repair and nobody may close it; default 1)
    meta.json      an object; base_mva (default 10), v_slack_pu (default 1), paper_limit_mw
                   (default: none) and emergency_voltage_factor (widens vmin_pu..vmax_pu about 1 pu
                   after a fault; default 1, not at all) are used; title, source and licence say
                   where the data are from
    switches.csv   device, branch, bus (the end at which it stands), kind (breaker | recloser |
                   load_break | disconnector | fuse), normally_open (0 | 1); and where known remote
                   (0 | 1; default 0), minutes (to operate it; default 1, or 30 by hand), available
                   (0: blocked; default 1)
    groups.csv     group, branch, p_limit_mw: a row for each branch of a group, and the active power
                   that all of them carry together at most, the same in every row of the group

A negative sgen_p_mw is demand, as in pandapower, added to p_mw. b_us is the charging of the whole
branch, half of it at each end. For a trafo, r_ohm, x_ohm, b_us
and rating_a are referred to the voltage of its from_bus. Its ratio is that of the nominal voltages
of its two buses. A coupler joins two buses of a busbar and has no impedance; r_ohm and x_ohm are 0.

Wrong units are found by what they would imply. A feeder outside these limits is refused with the
unit that was expected:

- vn_kv 0.1 to 1000; voltage limits and v_slack_pu 0.5 to 1.5; rating_a at least 1
- r_ohm and x_ohm at most 100 pu on base_mva; only a trafo joins two nominal voltages
- the load or the generation of one bus at most 10 kA; the feeder's load at most 100 base_mva
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from feederguard.models.arrays import FloatArray, IntArray
from feederguard.models.network import Devices, GroupLimit, Network, NetworkError
from feederguard.models.network.devices import DEVICE_KINDS, default_minutes
from feederguard.models.network.fields import BRANCH_KINDS, COUPLER_X_PU_PER_MVA

MAX_IMPEDANCE_PU = 100.0
MAX_BUS_CURRENT_KA = 10.0
MAX_LOAD_IN_BASES = 100.0

# importlib.resources cannot open a folder of a namespace package that is installed editable.
_FEEDERS = Path(__file__).with_name("feeders")

# For each column of numbers: lowest and highest value, and what the error asks for.
_BUS_NUMBERS = {
    "vn_kv": (0.1, 1e3, "the nominal line-to-line voltage in kV, 0.1 to 1000 (0.4 kV, not 400 V)"),
    "p_mw": (-np.inf, np.inf, "the active demand in MW, 0 where there is none"),
    "q_mvar": (-np.inf, np.inf, "the reactive demand in Mvar, 0 where there is none"),
    "vmin_pu": (0.5, 1.5, "the lower voltage limit in per unit of vn_kv, 0.5 to 1.5"),
    "vmax_pu": (0.5, 1.5, "the upper voltage limit in per unit of vn_kv, 0.5 to 1.5"),
    "sgen_p_mw": (-np.inf, np.inf, "the local generation in MW, 0 where there is none"),
}
_BRANCH_NUMBERS = {
    "r_ohm": (0.0, np.inf, "the series resistance in ohm, zero or more"),
    "x_ohm": (0.0, np.inf, "the series reactance in ohm, zero or more"),
    "b_us": (0.0, np.inf, "the charging susceptance in microsiemens, zero or more"),
    "rating_a": (
        1.0,
        np.inf,
        "the current limit in A, at least 1 (255 A, not 0.255 kA), or nothing for no limit",
    ),
}
# The keys of meta.json that are used: default, lowest and highest value.
_META_NUMBERS = {
    "base_mva": (10.0, 1e-3, 1e6),
    "v_slack_pu": (1.0, 0.5, 1.5),
    "paper_limit_mw": (np.inf, 1e-6, np.inf),
    "emergency_voltage_factor": (1.0, 0.1, 10.0),
}
_BUS_CHOICES = {"type": ("slack", "pq")}
_BRANCH_CHOICES = {"kind": BRANCH_KINDS, "normally_open": ("0", "1")}
_OPTIONAL_CHOICES = {"in_service": ("0", "1")}
_DEVICE_CHOICES = {"kind": DEVICE_KINDS, "normally_open": ("0", "1")}
# Columns beside the key, the numbers and the choices.
_ENDS = {"branch": ("from_bus", "to_bus"), "device": ("branch", "bus"), "group": ("branch",)}
_MAY_BE_EMPTY = {"rating_a": np.inf, "minutes": np.nan, "priority": 1.0}
_PRIORITY = (1e-6, 1e6, "what shedding at the bus weighs, 1 or nothing for an ordinary bus")
_GROUP_LIMIT = (1e-9, np.inf, "the active power in MW that the branches of the group share")
_MINUTES = (0.0, 1e5, "the minutes that it takes to operate the device, or nothing")


def list_networks() -> list[str]:
    """Return the names of the bundled feeders, sorted."""
    return sorted(meta.parent.name for meta in _FEEDERS.glob("*/meta.json"))


def load_network(name: str | Path) -> Network:
    """Return the bundled feeder of that name, or else what `read_network` makes of that path.

    Raises `NetworkError` listing the bundled feeders where the name is neither.
    """
    if str(name) not in list_networks() and Path(name).exists():
        return read_network(name)
    return _read_folder(_bundled(str(name)), str(name))


def load_meta(name: str) -> dict[str, Any]:
    """Return meta.json of a bundled feeder: title, source, licence, base_mva, v_slack_pu, ...

    paper_limit_mw is inf where the feeder has none.
    """
    return _read_meta(_bundled(name))


def read_network(path: str | Path) -> Network:
    """Return the feeder of a CSV folder, a pandapower .json file or a MATPOWER .m file.

    Raises `NetworkError` naming file, line, element, what is allowed and the remedy.
    """
    path = Path(path)
    if path.is_dir():
        return _read_folder(path, path.resolve().name)
    if not path.exists():
        raise NetworkError(f"{path}: no such file or folder; give the path of a feeder")
    if path.suffix == ".m":
        return Network.from_matpower(path)
    if path.suffix == ".json":
        return _read_pandapower(path)
    raise NetworkError(
        f"{path}: not a feeder; give a folder with buses.csv, branches.csv and meta.json, a "
        "pandapower .json file or a MATPOWER .m file"
    )


def _read_pandapower(path: Path) -> Network:
    import pandapower  # takes seconds, and only this reader needs it

    try:
        net = pandapower.from_json(str(path))
    except Exception as error:  # on foreign JSON pandapower raises whatever it stumbles over
        raise NetworkError(
            f"{path}: pandapower cannot read it ({error}); write it with pandapower.to_json"
        ) from error
    if not net.get("name"):
        net["name"] = path.stem
    return Network.from_pandapower(net)


def _bundled(name: str) -> Path:
    if name not in list_networks():
        raise NetworkError(
            f"no feeder {name!r}; the bundled ones are {', '.join(list_networks())}; a path may be "
            "given too (CSV folder, pandapower .json, MATPOWER .m)"
        )
    return _FEEDERS / name


def _read_folder(folder: Path, name: str) -> Network:
    meta = _read_meta(folder)
    buses = _read_table(folder, "buses.csv", "bus", _BUS_NUMBERS, _BUS_CHOICES)
    if "priority" in buses.text:
        buses.number["priority"] = _numbers(buses, "priority", *_PRIORITY)
    branches = _read_table(folder, "branches.csv", "branch", _BRANCH_NUMBERS, _BRANCH_CHOICES)
    _check_loads(buses, meta["base_mva"])
    ends = _branch_ends(branches, buses)
    _check_impedances(branches, buses.number["vn_kv"][ends], meta["base_mva"])
    if "slack" not in buses.text["type"]:
        raise NetworkError(
            f"{buses.path}: no bus is of type 'slack'; mark the one that feeds the network"
        )
    devices, groups = _read_devices(folder, buses, branches, ends), _read_groups(folder)
    try:
        return _network(name, meta, buses, branches, ends, devices, groups)
    except NetworkError as error:
        raise NetworkError(f"{folder}: {str(error).removeprefix(f'{name}: ')}") from None


def _network(
    name: str,
    meta: Mapping[str, Any],
    buses: _Table,
    branches: _Table,
    ends: IntArray,
    devices: Devices | None,
    groups: list[GroupLimit],
) -> Network:
    """Return the feeder in per unit; ends is (2, n_branch), the from and to buses."""
    base_mva, bus, branch = meta["base_mva"], buses.number, branches.number
    vn_kv = bus["vn_kv"][ends[0]]
    z_base, current_base_a = vn_kv**2 / base_mva, 1e3 * base_mva / (np.sqrt(3) * vn_kv)
    half_b = branch["b_us"] * 1e-6 * z_base / 2
    slack = np.flatnonzero(np.array(buses.text["type"]) == "slack")
    # Only a coupler may have none.
    no_impedance = (branch["r_ohm"] == 0) & (branch["x_ohm"] == 0)
    in_service = np.array(branches.text.get("in_service", ["1"] * len(vn_kv))) == "1"
    no_bus, no_branch = np.zeros(len(vn_bus := bus["vn_kv"])), np.zeros(len(vn_kv))
    return Network(
        name=name,
        base_mva=base_mva,
        bus_name=tuple(buses.text["bus"]),
        vn_kv=vn_bus,
        v_min=bus["vmin_pu"],
        v_max=bus["vmax_pu"],
        # Negative generation is demand, as in pandapower.
        p_load=(bus["p_mw"] - np.minimum(bus["sgen_p_mw"], 0.0)) / base_mva,
        q_load=bus["q_mvar"] / base_mva,
        p_gen=np.maximum(bus["sgen_p_mw"], 0.0) / base_mva,
        priority=bus.get("priority", no_bus + 1.0),
        q_gen=no_bus,
        g_shunt=no_bus,
        b_shunt=no_bus,
        substation=slack,
        v_substation=np.full(slack.size, meta["v_slack_pu"], dtype=np.complex128),
        branch_name=tuple(branches.text["branch"]),
        kind=tuple(branches.text["kind"]),
        from_bus=ends[0],
        to_bus=ends[1],
        r=branch["r_ohm"] / z_base,
        x=np.where(no_impedance, COUPLER_X_PU_PER_MVA * base_mva, branch["x_ohm"] / z_base),
        g_from=no_branch,
        b_from=half_b,
        g_to=no_branch,
        b_to=half_b,
        tap=no_branch + 1.0,
        shift=no_branch,
        rating=branch["rating_a"] / current_base_a,
        closed=(np.array(branches.text["normally_open"]) == "0") & in_service,
        open_end=np.zeros(len(vn_kv), dtype=np.int64),
        in_service=in_service,
        emergency_voltage_factor=meta["emergency_voltage_factor"],
        paper_limit_mw=meta["paper_limit_mw"],
        devices=devices,
        groups=groups,
    )


def _read_devices(folder: Path, buses: _Table, branches: _Table, ends: IntArray) -> Devices | None:
    """Return what stands in switches.csv; None where there is no such file."""
    if not (folder / "switches.csv").exists():
        return None
    table = _read_table(folder, "switches.csv", "device", {}, _DEVICE_CHOICES)
    n, place = len(table.lines), {name: k for k, name in enumerate(branches.text["branch"])}
    branch, end = np.empty(n, dtype=np.int64), np.empty(n, dtype=np.int64)
    for row, (name, bus) in enumerate(zip(table.text["branch"], table.text["bus"], strict=True)):
        if name not in place:
            raise NetworkError(
                f"{table.place(row)}: branch {name!r} is not in branches.csv; add it or correct "
                "the name"
            )
        branch[row] = place[name]
        at = [buses.text["bus"][i] for i in ends[:, branch[row]]]
        if bus not in at:
            raise NetworkError(
                f"{table.place(row)}: branch {name!r} does not end at bus {bus!r}; use "
                f"{at[0]} or {at[1]}"
            )
        end[row] = at.index(bus)
    flags = {}
    for column, missing in (("remote", "0"), ("available", "1")):
        cells = [cell or missing for cell in table.text.get(column, [missing] * n)]
        table.text[column] = cells
        _check_choice(table, column, ("0", "1"))
        flags[column] = np.array(cells) == "1"
    minutes = default_minutes(flags["remote"])
    if "minutes" in table.text:
        given = [k for k, cell in enumerate(table.text["minutes"]) if cell]
        minutes[given] = _numbers(table, "minutes", *_MINUTES)[given]
    return Devices(
        name=tuple(table.text["device"]),
        branch=branch,
        end=end,
        kind=tuple(table.text["kind"]),
        closed=np.array(table.text["normally_open"]) == "0",
        minutes=minutes,
        **flags,
    )


def _read_groups(folder: Path) -> list[GroupLimit]:
    """Return what stands in groups.csv; nothing where there is no such file."""
    if not (folder / "groups.csv").exists():
        return []
    limits = {"p_limit_mw": _GROUP_LIMIT}
    table = _read_table(folder, "groups.csv", "group", limits, {}, named_once=False)
    found: dict[str, GroupLimit] = {}
    rows = zip(table.text["group"], table.text["branch"], table.number["p_limit_mw"], strict=True)
    for row, (name, branch, limit) in enumerate(rows):
        before = found.get(name, GroupLimit(name, (), float(limit)))
        if before.p_limit_mw != limit:
            raise NetworkError(
                f"{table.place(row)}: p_limit_mw is {limit:g}, and {before.p_limit_mw:g} in an "
                "earlier row of the group; give one limit"
            )
        found[name] = GroupLimit(name, (*before.branches, branch), float(limit))
    return list(found.values())


@dataclass(frozen=True)
class _Table:
    """A CSV file read and checked cell by cell."""

    path: str
    key: str  # the column that names the rows
    lines: list[int]  # the line of the file on which each row stands
    text: dict[str, list[str]]
    number: dict[str, FloatArray]

    def place(self, row: int) -> str:
        """Return file, line and element of a row, as errors name them."""
        return f"{self.path}, line {self.lines[row]} ({self.key} {self.text[self.key][row]!r})"


def _read_table(
    folder: Path,
    file: str,
    key: str,
    numbers: Mapping[str, tuple[float, float, str]],
    choices: Mapping[str, tuple[str, ...]],
    named_once: bool = True,
) -> _Table:
    path, rows = f"{folder}/{file}", csv.reader(io.StringIO(_read_text(folder, file)))
    header = [name.strip() for name in next(rows, [])]
    wanted = [key, *numbers, *choices, *_ENDS.get(key, ())]
    if missing := [name for name in wanted if name not in header]:
        raise NetworkError(
            f"{path}: column {', '.join(missing)} is missing; the first line must name, separated "
            f"by commas, {', '.join(wanted)}"
        )
    lines, cells = [], []
    for row in rows:
        if any(cell.strip() for cell in row):
            if len(row) != len(header):
                raise NetworkError(
                    f"{path}, line {rows.line_num}: {len(row)} values for {len(header)} columns; "
                    "give one each"
                )
            lines.append(rows.line_num)
            cells.append([cell.strip() for cell in row])
    if not cells and key == "bus":
        raise NetworkError(f"{path}: no rows; write one for each bus")
    text = {name: [row[i] for row in cells] for i, name in enumerate(header)}
    table = _Table(path, key, lines, text, {})
    _check_names(table, named_once)
    given = {name: allowed for name, allowed in _OPTIONAL_CHOICES.items() if name in text}
    for name, allowed in {**choices, **given}.items():
        _check_choice(table, name, allowed)
    table.number.update({name: _numbers(table, name, *limits) for name, limits in numbers.items()})
    return table


def _read_text(folder: Path, file: str) -> str:
    try:
        return (folder / file).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise NetworkError(
            f"{folder}/{file}: no such file; a feeder folder holds buses.csv, branches.csv and "
            "meta.json"
        ) from None
    except UnicodeDecodeError as error:
        raise NetworkError(f"{folder}/{file}: not UTF-8 text ({error}); save it as UTF-8") from None


def _read_meta(folder: Path) -> dict[str, Any]:
    path = f"{folder}/meta.json"
    try:
        meta = json.loads(_read_text(folder, "meta.json"))
    except json.JSONDecodeError as error:
        raise NetworkError(
            f"{path}, line {error.lineno}: not JSON ({error.msg}); correct it"
        ) from None
    if not isinstance(meta, dict):
        raise NetworkError(
            f'{path}: an object is expected; write {{"title": ..., "source": ..., ...}}'
        )
    for key, (default, low, high) in _META_NUMBERS.items():
        value = meta.setdefault(key, default)
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not low <= value <= high
        ):
            raise NetworkError(
                f"{path}: {key} is {value!r}; give a number from {low:g} to {high:g}"
            )
        meta[key] = float(value)
    return meta


def _check_names(table: _Table, named_once: bool) -> None:
    seen: dict[str, int] = {}
    for row, name in enumerate(table.text[table.key]):
        if not name:
            raise NetworkError(
                f"{table.path}, line {table.lines[row]}: {table.key} is empty; give it a name"
            )
        if named_once and name in seen:
            raise NetworkError(
                f"{table.place(row)}: line {seen[name]} has that name too; give every {table.key} "
                "its own"
            )
        seen[name] = table.lines[row]


def _check_choice(table: _Table, column: str, allowed: tuple[str, ...]) -> None:
    for row, value in enumerate(table.text[column]):
        if value not in allowed:
            raise NetworkError(
                f"{table.place(row)}: {column} is {value!r}; use {' or '.join(allowed)}"
            )


def _numbers(table: _Table, column: str, low: float, high: float, wanted: str) -> FloatArray:
    """Return a column as floats; an empty cell of `_MAY_BE_EMPTY` has the value given there."""
    values = np.empty(len(table.lines))
    for row, text in enumerate(table.text[column]):
        if column in _MAY_BE_EMPTY and not text:
            values[row] = _MAY_BE_EMPTY[column]
            continue
        try:
            values[row] = float(text)
        except ValueError:
            values[row] = np.nan
        if not (np.isfinite(values[row]) and low <= values[row] <= high):
            raise NetworkError(f"{table.place(row)}: {column} is {text or 'empty'}; give {wanted}")
    return values


def _branch_ends(branches: _Table, buses: _Table) -> IntArray:
    """Return the positions of the from and to buses, (2, n_branch)."""
    position = {bus: i for i, bus in enumerate(buses.text["bus"])}
    ends = np.empty((2, len(branches.lines)), dtype=np.int64)
    for side, column in enumerate(("from_bus", "to_bus")):
        for row, bus in enumerate(branches.text[column]):
            if bus not in position:
                raise NetworkError(
                    f"{branches.place(row)}: {column} {bus!r} is not in buses.csv; add it or "
                    "correct the name"
                )
            ends[side, row] = position[bus]
    return ends


def _check_loads(buses: _Table, base_mva: float) -> None:
    load, vn_kv = np.hypot(buses.number["p_mw"], buses.number["q_mvar"]), buses.number["vn_kv"]
    for columns, power in (("p_mw and q_mvar", load), ("sgen_p_mw", buses.number["sgen_p_mw"])):
        current_ka = np.abs(power) / (np.sqrt(3) * vn_kv)
        worst = int(current_ka.argmax())
        if current_ka[worst] > MAX_BUS_CURRENT_KA:
            raise NetworkError(
                f"{buses.place(worst)}: {power[worst]:g} MVA at {vn_kv[worst]:g} kV would be "
                f"{current_ka[worst]:.0f} kA; write {columns} in MW and Mvar, not kW and kvar"
            )
    if load.sum() > MAX_LOAD_IN_BASES * base_mva:
        raise NetworkError(
            f"{buses.path}: the loads add up to {load.sum():g} MVA, over {MAX_LOAD_IN_BASES:g} "
            f"times the base_mva of {base_mva:g}; write p_mw and q_mvar in MW and Mvar, not kW, or "
            "raise base_mva in meta.json"
        )


def _check_impedances(branches: _Table, vn_kv: FloatArray, base_mva: float) -> None:
    """Check each branch against the voltages of its ends, vn_kv (2, n_branch)."""
    for row, kind in enumerate(branches.text["kind"]):
        r, x, z_base = (
            branches.number["r_ohm"][row],
            branches.number["x_ohm"][row],
            vn_kv[0, row] ** 2 / base_mva,
        )
        problem = ""
        if r == 0 and x == 0 and kind != "coupler":
            problem = "r_ohm and x_ohm are both 0; give one of them, or make its kind coupler"
        elif max(r, x) > MAX_IMPEDANCE_PU * z_base:
            problem = (
                f"r_ohm {r:g} and x_ohm {x:g} are beyond {MAX_IMPEDANCE_PU:g} pu of {z_base:g} "
                "ohm; give ohms of the whole branch, not milliohms, and check vn_kv"
            )
        elif kind != "trafo" and vn_kv[0, row] != vn_kv[1, row]:
            problem = (
                f"a {kind} cannot join {vn_kv[0, row]:g} kV and {vn_kv[1, row]:g} kV; make its "
                "kind trafo or correct vn_kv in buses.csv"
            )
        elif kind == "tie" and branches.text["normally_open"][row] == "0":
            problem = "a tie is normally open; set normally_open to 1 or its kind to line"
        if problem:
            raise NetworkError(f"{branches.place(row)}: {problem}")
