"""Branch rows of a pandapower net: lines, impedances, transformer windings and couplers.

Columns of a row, per unit:

- `text`, `table`, `index`: its label; `from_bus`, `to_bus`: its ends by pandapower index
- `z`: its series impedance; `y_from`, `y_to`: its admittances to ground at both ends
- `tap`, `shift`: of the ideal transformer at the from end
- `rating`; `open_from`, `open_to`: whether a switch is open at that end
- `under_repair`: out of service, so that no switch closes it

A winding is rated at its own voltage, as in pandapower's loading: it carries S / (sqrt(3) vn_hv_kv)
however its bus is called. In pu on the buses' voltages the limits at the two ends are

    (1)  |I_from| <= S / u_from,   |I_to| <= S / u_to,   u = rated over nominal voltage

With I_to = tap I_from (the magnetising current apart) both are one limit of the larger current:

    (2)  max(|I_from|, |I_to|) <= S max(1, tap) / max(u_from, tap u_to)
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from pandapower.auxiliary import pandapowerNet
from pandapower.pypower import idx_brch

from feederguard.models.arrays import BoolArray, FloatArray
from feederguard.models.network.fields import COUPLER_X_PU_PER_MVA, NetworkError
from feederguard.models.network.pandapower.switches import SWITCHED, switched_bus
from feederguard.models.network.pandapower.tables import NEEDED
from feederguard.models.network.pi_model import hanging_admittance

# Table, suffix of the label, columns of both ends and of the rated power; in pandapower's order.
_ROWS = (
    ("line", "", "from_bus", "to_bus", ""),
    ("trafo", "", "hv_bus", "lv_bus", "sn_mva"),
    ("trafo3w", " hv", "hv_bus", "star", "sn_hv_mva"),
    ("trafo3w", " mv", "star", "mv_bus", "sn_mv_mva"),
    ("trafo3w", " lv", "star", "lv_bus", "sn_lv_mva"),
    ("impedance", "", "from_bus", "to_bus", "sn_mva"),
    ("switch", "", "bus", "element", ""),
)
# What is kept while it is out of service.
UNDER_REPAIR = ("line", "trafo")
_RATED_KV = {"hv_bus": "vn_hv_kv", "mv_bus": "vn_mv_kv", "lv_bus": "vn_lv_kv"}


def read_branches(
    net: pandapowerNet, part: pandapowerNet, case: dict[str, Any], name: str
) -> pd.DataFrame:
    """Return the branch rows of a net.

    part: what is in service of it. case: the pypower case of that part. Raises `NetworkError` for a
    switch at neither end of its element, and for an impedance that differs by direction.
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
    rows["rating"] *= np.maximum(1.0, rows["tap"]) / np.maximum(
        rows["u_from"], rows["tap"] * rows["u_to"]
    )
    # What cannot be computed while it is out of service is left out.
    numbers = rows[["z", "y_from", "y_to", "tap", "shift"]].to_numpy(np.complex128)
    whole = np.isfinite(numbers).all(axis=1) & (rows["z"] != 0)
    kept: pd.DataFrame = rows[whole | ~rows["under_repair"]]
    return pd.concat([kept, _ideal_couplers(net, part)], ignore_index=True)


def under_repair(net: pandapowerNet, table: str, live: set[int]) -> BoolArray:
    """Return which rows of a table are out of service between two `live` buses, (n_row,).

    Those that lack a number are not among them.
    """
    elements = net[table]
    out: BoolArray = ~elements["in_service"].to_numpy(bool)
    if out.any():
        numbers = elements[[*NEEDED[table].split(), "parallel"]].to_numpy(float)
        out &= np.isfinite(numbers).all(axis=1)
        for column in next(row[2:4] for row in _ROWS if row[0] == table):
            out &= elements[column].isin(live).to_numpy(bool)
    return out


def settle_strays(
    rows: pd.DataFrame, fused: dict[int, int]
) -> tuple[pd.DataFrame, dict[int, complex]]:
    """Return the rows that join two different fused buses, and the admittance of others by bus.

    Others are branches whose ends are fused, and lines with one end at a bus out of service. Such a
    line stays charged from its other end; a transformer is off there, unless a switch is open at
    its missing end.
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
    off = (rows["open_from"] & rows["open_to"]) | rows["under_repair"]
    for row in rows[stray & ~off].to_dict("records"):
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
    """Return the admittance to ground of a branch that hangs, or has both ends at one bus."""
    if open_from:
        return complex(hanging_admittance(y_to, y_from, z))
    if open_to:
        return complex(hanging_admittance(y_from, y_to, z) / tap**2)
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
            "u_from": _rated_over_nominal(part, table, from_column),
            "u_to": _rated_over_nominal(part, table, to_column),
            "open_from": at_from,
            "open_to": at_to,
            "under_repair": elements.get("under_repair", pd.Series(False, elements.index)),
        }
    )


def _rating(part: pandapowerNet, table: str, from_column: str, rated_column: str) -> FloatArray:
    """Return the current limit in pu, that is, of apparent power at 1 pu voltage; inf for none."""
    elements = part[table]
    if rated_column:
        s_mva = elements[rated_column]
    else:
        i_ka = elements["in_ka" if table == "switch" else "max_i_ka"]
        s_mva = np.sqrt(3.0) * elements[from_column].map(part.bus["vn_kv"]) * i_ka
    if table in ("line", "trafo"):
        s_mva = s_mva * elements["df"] * elements["parallel"]
    # pandapower's optimal power flow allows this share of the current; its default is no limit.
    if "max_loading_percent" in elements:
        s_mva = s_mva * elements["max_loading_percent"].astype(float).fillna(100.0) / 100
    return np.asarray((s_mva / part.sn_mva).astype(float).fillna(np.inf))


def _rated_over_nominal(part: pandapowerNet, table: str, column: str) -> FloatArray:
    """Return the rated voltage of a winding over its bus's; 0 at a star, which limits nothing."""
    elements = part[table]
    if column == "star":
        return np.zeros(len(elements))
    if column not in _RATED_KV:
        return np.ones(len(elements))
    return np.asarray(elements[_RATED_KV[column]] / elements[column].map(part.bus["vn_kv"]), float)


def _open_ends(net: pandapowerNet, name: str) -> set[tuple[str, int, str]]:
    """Return (table, index, column of the bus) of every end that a switch holds open."""
    ends: set[tuple[str, int, str]] = set()
    for switch in net.switch[~net.switch["closed"].astype(bool)].itertuples():
        if switch.et == "b":
            ends |= {("switch", switch.Index, column) for column in SWITCHED["b"][1]}
        elif switch.element in net[SWITCHED[switch.et][0]].index:
            ends.add((SWITCHED[switch.et][0], switch.element, switched_bus(net, switch, name)))
    return ends


def _ideal_couplers(net: pandapowerNet, part: pandapowerNet) -> pd.DataFrame:
    """Return the bus-bus switches without impedance as rows of `COUPLER_X_PU_PER_MVA`."""
    switches = net.switch
    part.switch = switches[(switches["et"] == "b") & ~(switches["z_ohm"] > 0)]
    opened = part.switch.index[~part.switch["closed"].astype(bool)]
    open_ends = {("switch", index, column) for index in opened for column in SWITCHED["b"][1]}
    rows = _element_rows(part, *_ROWS[-1], open_ends)
    x = COUPLER_X_PU_PER_MVA * part.sn_mva
    return rows.assign(z=1j * x, y_from=0j, y_to=0j, tap=1.0, shift=0.0)
