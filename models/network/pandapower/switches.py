"""Switches of a pandapower net as devices.

| net.switch | Devices |
|---|---|
| et 'l', 't', 't3' | at the end of the line, transformer or winding that `bus` names |
| et 'b' | at the from end of a branch of kind 'coupler' |
| type CB; LBS, LS; DS | breaker; load_break; disconnector |
| type recloser, fuse, and every other word of `DEVICE_KINDS` | that kind |
| missing or unknown type | load_break, with a warning |
| closed | normal state |
| remote, minutes, available | columns of ours; by hand, `MANUAL_MINUTES`, not blocked if missing |

Where no switch bears a type, and only bus-bus switches are closed, the switches only say which
branches are open and which buses are one: then there are no device data.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from pandapower.auxiliary import pandapowerNet

from feederguard.models.arrays import BoolArray
from feederguard.models.network.devices import DEVICE_KINDS, Devices, default_minutes
from feederguard.models.network.fields import NetworkError

# Table and columns of the buses of each type of element that a switch may stand at.
SWITCHED = {
    "l": ("line", ("from_bus", "to_bus")),
    "t": ("trafo", ("hv_bus", "lv_bus")),
    "t3": ("trafo3w", ("hv_bus", "mv_bus", "lv_bus")),
    "b": ("switch", ("bus", "element")),
}
_KINDS = {"CB": "breaker", "LBS": "load_break", "LS": "load_break", "DS": "disconnector"}
# What each kind is called in a net.
TYPE_OF_KIND = {kind: kind for kind in DEVICE_KINDS} | {
    "breaker": "CB",
    "load_break": "LBS",
    "disconnector": "DS",
}


def switched_bus(net: pandapowerNet, switch: Any, name: str) -> str:
    """Return the column that holds the bus of a switch in the table of its element.

    Raises `NetworkError` where the element does not end at that bus.
    """
    table, columns = SWITCHED[switch.et]
    for column in columns:
        if net[table][column].at[switch.element] == switch.bus:
            return column
    raise NetworkError(
        f"{name}: switch {switch.Index} is at bus {switch.bus}, where {table} {switch.element} "
        f"does not end; move it to the {' or '.join(columns)} of that {table}"
    )


def read_devices(
    net: pandapowerNet, rows: pd.DataFrame, labels: Sequence[str], name: str
) -> Devices | None:
    """Return the switches at branches of the network as devices; None where there are no data.

    rows: the branches of the network, by `table` and `index`. labels: the name of every switch of
    the net. Raises `NetworkError` for a switch at neither end of its element.
    """
    switches = net.switch
    typed = switches["type"].notna() & (switches["type"].astype(str).str.strip() != "")
    at_branch = switches["closed"].astype(bool) & (switches["et"] != "b")
    if not (typed | at_branch).any():
        return None
    position = {key: k for k, key in enumerate(zip(rows["table"], rows["index"], strict=True))}
    branch, end = [], []
    for switch in switches.itertuples():
        at, side = _place(net, switch, name)
        branch.append(position.get(at, -1))
        end.append(side)
    positions = np.array(branch, dtype=np.int64)
    held = np.flatnonzero(positions >= 0).tolist()
    remote = _flags(switches, "remote", missing=False)
    return Devices(
        name=tuple(labels[k] for k in held),
        branch=positions[held],
        end=np.array(end, dtype=np.int64)[held],
        kind=_kinds(switches.iloc[held], name),
        closed=switches["closed"].to_numpy(bool)[held],
        remote=remote[held],
        minutes=_minutes(switches, remote)[held],
        available=_flags(switches, "available", missing=True)[held],
    )


def _place(net: pandapowerNet, switch: Any, name: str) -> tuple[tuple[str, str], int]:
    """Return table and index of the branch row of a switch, and the end at which it stands."""
    table, columns = SWITCHED[switch.et]
    if switch.et == "b":
        return (table, str(switch.Index)), 0
    if switch.element not in net[table].index:
        return (table, ""), 0
    column = switched_bus(net, switch, name)
    if switch.et == "t3":
        # The other end of each winding is the star point; the high one starts at its bus.
        return (table, f"{switch.element} {column[:2]}"), int(column != "hv_bus")
    return (table, str(switch.element)), columns.index(column)


def _kinds(switches: pd.DataFrame, name: str) -> tuple[str, ...]:
    known = {word.lower(): kind for word, kind in _KINDS.items()} | {k: k for k in DEVICE_KINDS}
    words = ["" if pd.isna(text) else str(text).strip().lower() for text in switches["type"]]
    unknown = [str(k) for k, word in zip(switches.index, words, strict=True) if word not in known]
    if unknown:
        shown = ", ".join(unknown[:10])
        shown += f" and {len(unknown) - 10} more" if len(unknown) > 10 else ""
        warnings.warn(
            f"{name}: switch {shown} has no type that is known; it is taken as a load-break "
            f"switch; set its type to {', '.join(_KINDS)}, recloser or fuse",
            stacklevel=5,
        )
    return tuple(known.get(word, "load_break") for word in words)


def _flags(switches: pd.DataFrame, column: str, missing: bool) -> BoolArray:
    if column not in switches:
        return np.full(len(switches), missing)
    return np.array([missing if pd.isna(flag) else bool(flag) for flag in switches[column]])


def _minutes(switches: pd.DataFrame, remote: BoolArray) -> Any:
    usual = default_minutes(remote)
    if "minutes" not in switches:
        return usual
    given = switches["minutes"].astype(float).to_numpy()
    return np.where(np.isnan(given), usual, given)
