"""Branch rows of a pandapower net: lines, impedances, transformer windings and bus-bus ties in
service.

A row has its label (`text`, `table`, `index`), its end buses by pandapower index, `z` in series and
`y_from`, `y_to` to ground at its ends behind an ideal transformer `tap`, `shift` at the from end,
all per unit, its `rating`, and `open_from`, `open_to`: whether a switch is open there.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from pandapower.auxiliary import pandapowerNet
from pandapower.pypower import idx_brch

from feederguard.models.arrays import FloatArray
from feederguard.models.network.fields import NetworkError

BUS_TIE_X_PU = 1e-6

# Table, suffix of the label, columns of the two ends and of the rated power, in pandapower's order
# of branches.
_ROWS = (
    ("line", "", "from_bus", "to_bus", ""),
    ("trafo", "", "hv_bus", "lv_bus", "sn_mva"),
    ("trafo3w", " hv", "hv_bus", "star", "sn_hv_mva"),
    ("trafo3w", " mv", "star", "mv_bus", "sn_mv_mva"),
    ("trafo3w", " lv", "star", "lv_bus", "sn_lv_mva"),
    ("impedance", "", "from_bus", "to_bus", "sn_mva"),
    ("switch", "", "bus", "element", ""),
)
_SWITCHED = {
    "l": ("line", ("from_bus", "to_bus")),
    "t": ("trafo", ("hv_bus", "lv_bus")),
    "t3": ("trafo3w", ("hv_bus", "mv_bus", "lv_bus")),
    "b": ("switch", ("bus", "element")),
}


def read_branches(
    net: pandapowerNet, part: pandapowerNet, case: dict[str, Any], name: str
) -> pd.DataFrame:
    """Return the branch rows of a net, `part` being what is in service of it and `case` that part's
    pypower case.

    Raises `NetworkError` for a switch at neither end of its element, and an impedance that differs
    by direction.
    """
    open_ends = _open_ends(net, name)
    rows = pd.concat(
        [_element_rows(part, *columns, open_ends) for columns in _ROWS], ignore_index=True
    )
    matrix = case["branch"].real
    assert len(matrix) == len(rows), "pandapower orders its branches in another way"
    # to_ppc has these columns beside its matrix, and only where one of them is not zero.
    r_skew, x_skew, g, g_skew, b_skew = (
        np.real(case.get(f"branch_{column}", np.zeros(len(rows))))
        for column in ("r_asym", "x_asym", "g", "g_asym", "b_asym")
    )
    skewed = np.flatnonzero((r_skew != 0) | (x_skew != 0))
    if skewed.size:
        raise NetworkError(
            f"{name}: impedance {rows['index'][skewed[0]]} differs by direction; "
            "give rtf_pu and xtf_pu the values of rft_pu and xft_pu"
        )
    rows["z"] = matrix[:, idx_brch.BR_R] + 1j * matrix[:, idx_brch.BR_X]
    rows["y_from"] = (g + 1j * matrix[:, idx_brch.BR_B]) / 2
    rows["y_to"] = rows["y_from"] + (g_skew + 1j * b_skew) / 2
    rows["tap"] = matrix[:, idx_brch.TAP]
    rows["shift"] = np.deg2rad(matrix[:, idx_brch.SHIFT])
    return pd.concat([rows, _ideal_bus_ties(net, part)], ignore_index=True)


def settle_strays(
    rows: pd.DataFrame, fused: dict[int, int]
) -> tuple[pd.DataFrame, dict[int, complex]]:
    """Return the rows that join two different fused buses, and the admittance to ground that others
    leave, by bus.

    Others: a line with one end at a bus out of service, which stays charged from its other end (a
    transformer is off then, unless a switch is open at its missing end), and a branch whose two
    ends are fused.
    """
    rows = rows.assign(from_bus=rows["from_bus"].map(fused), to_bus=rows["to_bus"].map(fused))
    line = rows["table"] == "line"
    rows["open_from"] |= rows["from_bus"].isna() & line
    rows["open_to"] |= rows["to_bus"].isna() & line
    rows = rows[
        (rows["from_bus"].notna() | rows["open_from"]) & (rows["to_bus"].notna() | rows["open_to"])
    ]

    stray = rows["from_bus"].isna() | rows["to_bus"].isna() | (rows["from_bus"] == rows["to_bus"])
    left: dict[int, complex] = {}
    for row in rows[stray & ~(rows["open_from"] & rows["open_to"])].to_dict("records"):
        bus = int(row["to_bus"] if row["open_from"] else row["from_bus"])
        left[bus] = left.get(bus, 0j) + _stray_admittance(
            **{str(key): value for key, value in row.items()}
        )
    return rows[~stray].astype({"from_bus": np.int64, "to_bus": np.int64}), left


def _stray_admittance(
    *,
    z: complex,
    y_from: complex,
    y_to: complex,
    tap: float,
    shift: float,
    open_from: bool,
    open_to: bool,
    **_label: object,
) -> complex:
    """Return the admittance to ground of a branch that hangs from one end, or has both ends at one
    bus.
    """
    if open_from:
        return y_to + y_from / (1 + z * y_from)
    if open_to:
        return (y_from + y_to / (1 + z * y_to)) / tap**2
    # With equal voltages at both ends only the ratio of a transformer drives a series current.
    ratio = complex(tap * np.exp(1j * shift))
    return y_from / tap**2 + y_to + (0j if ratio == 1 else abs(1 / ratio - 1) ** 2 / z)


def _element_rows(
    part: pandapowerNet,
    table: str,
    suffix: str,
    from_column: str,
    to_column: str,
    rated_column: str,
    open_ends: set[tuple[str, int, str]],
) -> pd.DataFrame:
    elements = part[table]
    at_from, at_to = (
        np.array([(table, index, column) in open_ends for index in elements.index], dtype=bool)
        for column in (from_column, to_column)
    )
    return pd.DataFrame(
        {
            "text": [f"{text}{suffix}" if suffix else text for text in elements["name"]],
            "table": table,
            "index": [f"{index}{suffix}" for index in elements.index],
            "from_bus": elements[from_column].to_numpy(np.int64),
            "to_bus": elements[to_column].to_numpy(np.int64),
            "rating": _rating(part, table, from_column, rated_column),
            "open_from": at_from,
            "open_to": at_to,
        }
    )


def _rating(part: pandapowerNet, table: str, from_column: str, rated_column: str) -> FloatArray:
    """Return the limit in pu of current, which is apparent power at 1 pu voltage; infinite where
    none is given.
    """
    elements = part[table]
    if rated_column:
        s_mva = elements[rated_column]
    else:
        i_ka = elements["in_ka" if table == "switch" else "max_i_ka"]
        s_mva = np.sqrt(3.0) * elements[from_column].map(part.bus["vn_kv"]) * i_ka
    if table in ("line", "trafo"):
        s_mva = s_mva * elements["df"] * elements["parallel"]
    # What pandapower's optimal power flow allows is a share of the current, its default being no
    # limit at all.
    if "max_loading_percent" in elements:
        s_mva = s_mva * elements["max_loading_percent"].astype(float).fillna(100.0) / 100
    return np.asarray((s_mva / part.sn_mva).astype(float).fillna(np.inf))


def _open_ends(net: pandapowerNet, name: str) -> set[tuple[str, int, str]]:
    """Return (table, index, column of the bus) for every end of an element that a switch holds
    open.
    """
    ends: set[tuple[str, int, str]] = set()
    for switch in net.switch[~net.switch["closed"].astype(bool)].itertuples():
        table, columns = _SWITCHED[switch.et]
        if switch.et == "b":
            ends |= {(table, switch.Index, column) for column in columns}
        elif switch.element in net[table].index:
            at = [
                column for column in columns if net[table][column].at[switch.element] == switch.bus
            ]
            if not at:
                raise NetworkError(
                    f"{name}: switch {switch.Index} is at bus {switch.bus}, where {table} "
                    f"{switch.element} does "
                    f"not end; move it to the {' or '.join(columns)} of that {table}"
                )
            ends.add((table, switch.element, at[0]))
    return ends


def _ideal_bus_ties(net: pandapowerNet, part: pandapowerNet) -> pd.DataFrame:
    """Return the open bus-bus switches of no impedance as rows of `BUS_TIE_X_PU`, open at both
    ends.
    """
    switches = net.switch
    part.switch = switches[
        (switches["et"] == "b") & ~switches["closed"].astype(bool) & ~(switches["z_ohm"] > 0)
    ]
    open_ends = {
        ("switch", index, column) for index in part.switch.index for column in ("bus", "element")
    }
    rows = _element_rows(part, *_ROWS[-1], open_ends)
    return rows.assign(z=1j * BUS_TIE_X_PU, y_from=0j, y_to=0j, tap=1.0, shift=0.0)
