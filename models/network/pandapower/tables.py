"""The tables of a pandapower net, checked where they enter.

Nets come from other programs and older versions: tables and columns are missing, numbers are text,
indices repeat. What `pandapower.runpp` does without is filled in as it does. Anything else is one
`NetworkError` that names table, row, column and remedy.
"""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandapower
import pandas as pd
from pandapower.auxiliary import pandapowerNet

from feederguard.models.arrays import BoolArray, FloatArray
from feederguard.models.network.fields import NetworkError

# Columns without which a row in service says nothing.
NEEDED = {
    "bus": "vn_kv",
    "load": "bus p_mw q_mvar",
    "motor": "bus pn_mech_mw cos_phi efficiency_percent loading_percent",
    "storage": "bus p_mw q_mvar",
    "ward": "bus ps_mw qs_mvar pz_mw qz_mvar",
    "asymmetric_load": "bus p_a_mw p_b_mw p_c_mw q_a_mvar q_b_mvar q_c_mvar",
    "shunt": "bus p_mw q_mvar",
    "sgen": "bus p_mw q_mvar",
    "asymmetric_sgen": "bus p_a_mw p_b_mw p_c_mw q_a_mvar q_b_mvar q_c_mvar",
    "ext_grid": "bus vm_pu",
    "gen": "bus p_mw vm_pu",
    "line": "from_bus to_bus length_km r_ohm_per_km x_ohm_per_km c_nf_per_km",
    "trafo": "hv_bus lv_bus sn_mva vn_hv_kv vn_lv_kv vk_percent vkr_percent pfe_kw i0_percent",
    "trafo3w": (
        "hv_bus mv_bus lv_bus sn_hv_mva sn_mv_mva sn_lv_mva vn_hv_kv vn_mv_kv vn_lv_kv "
        "vk_hv_percent vk_mv_percent vk_lv_percent vkr_hv_percent vkr_mv_percent vkr_lv_percent "
        "pfe_kw i0_percent"
    ),
    "impedance": "from_bus to_bus rft_pu xft_pu rtf_pu xtf_pu sn_mva",
    "switch": "bus element",
    "poly_cost": "",
    "pwl_cost": "",
}
# What stands in a column that a table lacks; where it is there, every cell is a number.
_SCALING = {"scaling": 1.0}
_DEFAULTS: dict[str, dict[str, float]] = {
    "load": _SCALING,
    "motor": _SCALING,
    "storage": _SCALING,
    "asymmetric_load": _SCALING,
    "sgen": _SCALING,
    "asymmetric_sgen": _SCALING,
    "gen": _SCALING,
    "shunt": {"step": 1.0},
    "line": {"g_us_per_km": 0.0, "parallel": 1.0, "df": 1.0},
    "trafo": {"parallel": 1.0, "df": 1.0, "shift_degree": 0.0},
    "trafo3w": {"shift_mv_degree": 0.0, "shift_lv_degree": 0.0},
    "impedance": dict.fromkeys("gf_pu bf_pu gt_pu bt_pu".split(), 0.0),
}
# Columns of numbers whose empty cells mean no limit, or nothing.
_MAY_BE_EMPTY = {
    "bus": "min_vm_pu max_vm_pu",
    "ext_grid": "va_degree min_p_mw max_p_mw min_q_mvar max_q_mvar",
    "line": "max_i_ka df max_loading_percent",
    "trafo": "df max_loading_percent",
    "trafo3w": "max_loading_percent",
    "switch": "z_ohm in_ka",
} | dict.fromkeys(
    ("gen", "sgen", "load", "storage"),
    "min_p_mw max_p_mw min_q_mvar max_q_mvar min_vm_pu max_vm_pu const_z_p_percent "
    "const_z_q_percent const_i_p_percent const_i_q_percent const_z_percent const_i_percent",
)
_FLAGS: dict[str, dict[str, bool | None]] = {"switch": {"closed": None}, "gen": {"slack": False}}
_BUS_COLUMNS = ("bus", "from_bus", "to_bus", "hv_bus", "mv_bus", "lv_bus")
# Which rows of other tables refer to a row by its index: their table and its `et`.
_REFERRED = {"line": ("switch", "l"), "trafo": ("switch", "t"), "trafo3w": ("switch", "t3")}
# In these an absent column is the same to pandapower as an empty one.
_FILLED = ("line", "trafo", "trafo3w", "impedance", "shunt", "motor", "ward", "switch", "ext_grid")
_SWITCH_TYPES = ("b", "l", "t", "t3")


def checked_tables(net: pandapowerNet, name: str) -> pandapowerNet:
    """Return the net with whole and clean tables; the net itself is not changed.

    Raises `NetworkError` for what cannot be read.
    """
    checked = copy.copy(net)
    for quantity in ("sn_mva", "f_hz"):
        value = net.get(quantity, _standard()[quantity])
        number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
        if not (number and math.isfinite(value) and value > 0):
            raise NetworkError(f"{name}: net.{quantity} is {value!r}; it must be a positive number")
        checked[quantity] = float(value)
    for table in NEEDED:
        given = _standard()[table] if net.get(table) is None else net[table]
        if not isinstance(given, pd.DataFrame):
            raise NetworkError(
                f"{name}: net.{table} is a {type(given).__name__}; it must be a table (DataFrame)"
            )
        checked[table] = _Checker(given.copy(), table, name).checked()
        _number_anew(checked, table, name)
    buses = checked["bus"]
    if not all(isinstance(index, (int, np.integer)) for index in buses.index):
        raise NetworkError(
            f"{name}: the index of table bus is no list of whole numbers; number its rows, and "
            "use these numbers in the other tables"
        )
    for table, needed in NEEDED.items():
        for column in (column for column in needed.split() if column in _BUS_COLUMNS):
            _settle_bus(checked[table], table, column, buses, name)
    shunt = checked["shunt"]
    shunt["vn_kv"] = shunt["vn_kv"].astype(float).fillna(shunt["bus"].map(buses["vn_kv"]))
    return checked


@functools.cache
def _standard() -> pandapowerNet:
    return pandapower.create_empty_network()


class _Checker:
    """One table, cleaned column by column; `live`: its rows in service."""

    def __init__(self, frame: pd.DataFrame, table: str, name: str) -> None:
        self.frame, self.table, self.name = frame, table, name
        self.live: BoolArray = np.ones(len(frame), dtype=bool)

    def checked(self) -> pd.DataFrame:
        """Return the table; raises `NetworkError` where it cannot be read."""
        frame, table, standard = self.frame, self.table, _standard()[self.table]
        if not len(frame):
            return frame.reindex(columns=[*frame, *(c for c in standard if c not in frame)])
        if "in_service" in standard:
            frame["in_service"] = self.live = self.flags("in_service", True)
        for column, default in _FLAGS.get(table, {}).items():
            frame[column] = self.flags(column, default)
        empty = _MAY_BE_EMPTY.get(table, "").split()
        for column in NEEDED[table].split():
            frame[column] = self.numbers(column, np.isfinite)
        for column, number in _DEFAULTS.get(table, {}).items():
            if column not in frame:
                frame[column] = number
            elif column not in empty:
                frame[column] = self.numbers(column, lambda value: ~np.isnan(value))
        for column in empty:
            if column in frame:
                frame[column] = self.numbers(column, lambda value: np.full(len(value), True))
        for column in ("name", *(standard if table in _FILLED else ())):
            if column not in frame:
                kind = standard[column].dtype.kind if column in standard else "O"
                frame[column] = {"O": None, "b": False}.get(kind, np.nan)
        if table == "switch":
            frame["element"] = frame["element"].astype(np.int64)
            self.refuse(
                ~self.column("et").isin(_SWITCH_TYPES), "et", f"use {', '.join(_SWITCH_TYPES)}"
            )
        return frame

    def numbers(self, column: str, good: Callable[[FloatArray], BoolArray]) -> FloatArray:
        """Return a column as numbers, those in service `good` ones."""
        cells = self.column(column)
        if cells.dtype.kind in "fiu":
            values = cells.to_numpy(float)
        else:
            values = pd.to_numeric(cells, errors="coerce").to_numpy(float, na_value=np.nan)
            text = cells.map(lambda cell: isinstance(cell, str)).to_numpy(bool)
            text |= np.isnan(values) & cells.notna().to_numpy()
            self.refuse(text & self.live, column, "give a number")
        self.refuse(~good(values) & self.live, column, "give a finite number")
        return values

    def flags(self, column: str, default: bool | None) -> BoolArray:
        """Return a column as True and False; a column that is missing holds the default."""
        if column not in self.frame and default is not None:
            return np.full(len(self.frame), default)
        cells = self.column(column)
        if cells.dtype.kind == "b":
            return cells.to_numpy(bool)
        self.refuse(~cells.isin([True, False]).to_numpy(), column, "give True or False")
        return cells.to_numpy(object).astype(bool)

    def column(self, column: str) -> pd.Series[Any]:
        if column not in self.frame:
            raise NetworkError(f"{self.name}: table {self.table} has no column {column}; add it")
        return self.frame[column]

    def refuse(self, bad: Any, column: str, remedy: str) -> None:
        """Raise `NetworkError` for the first bad row."""
        rows = np.flatnonzero(bad)
        if rows.size:
            row, value = self.frame.index[rows[0]], self.frame[column].iloc[rows[0]]
            raise NetworkError(
                f"{self.name}: {column} of {self.table} {row} is {_shown(value)}; {remedy}"
            )


def _shown(value: Any) -> str:
    return repr(value) if isinstance(value, str) else str(value)


def _settle_bus(
    frame: pd.DataFrame, table: str, column: str, buses: pd.DataFrame, name: str
) -> None:
    """Make a column of buses whole numbers, -1 in rows out of service that name no bus."""
    if not len(frame):
        return
    known = frame[column].isin(buses.index).to_numpy()
    live = frame["in_service"].to_numpy() if "in_service" in frame else np.ones(len(frame), bool)
    lost = np.flatnonzero(~known & live)
    if lost.size:
        raise NetworkError(
            f"{name}: {column} of {table} {frame.index[lost[0]]} is "
            f"{frame[column].iloc[lost[0]]:g}, which table bus does not list; add that bus or "
            "correct the number"
        )
    frame[column] = np.where(known, frame[column], -1).astype(np.int64)


def _number_anew(net: pandapowerNet, table: str, name: str) -> None:
    """Give a row that has the index of an earlier one a new index, if nothing refers to it."""
    index = net[table].index
    if not index.has_duplicates:
        return
    again = index.duplicated()
    referring = [(costs, table) for costs in ("poly_cost", "pwl_cost")]
    for where, kind in (*referring, *([_REFERRED[table]] if table in _REFERRED else ())):
        others = net.get(where)
        if table == "bus" or (
            isinstance(others, pd.DataFrame) and "et" in others and (others["et"] == kind).any()
        ):
            raise NetworkError(
                f"{name}: table {table} has two rows of index {index[again][0]}, and other tables "
                "refer to rows by it; give every row its own"
            )
    taken = [k for k in index if isinstance(k, (int, np.integer))]
    fresh = iter(range(max(taken, default=-1) + 1, len(index) + max(taken, default=-1) + 1))
    net[table].index = [next(fresh) if twice else k for k, twice in zip(index, again, strict=True)]
