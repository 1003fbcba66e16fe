"""Readers for a user's profile files: hourly load of ISO New England or the EIA, any timed CSV.

A text file (.csv, .tsv, .txt; comma, semicolon or tab) may begin with lines of remarks: its header
is the last line of names above the first one that holds a date. A line with numbers names columns
only if it names a time among them. A workbook (.xlsx) is ISO New England's SMD
hourly file, of which the sheet "ISO NE CA" is read. `feederguard.data.profiles.clock` says how
times are found and read. Columns, letter case ignored:

- PV: the name starts with `pv` or `solar`.
- Load: the name contains `load` or `demand`, but not `forecast`, nor the word `da` (day-ahead).
  Where no column has such a name, every other column with a name and numbers is a load, unless its
  name contains one of the words of `NOT_A_LOAD`.
- `RT_Demand` is the only load where it stands, since its neighbours are parts of it or other
  measures of the same. So is a load with the word `total` beside EIA's `Interval` time columns.
- A column most of whose values are text is a label. It is left out, unless no load remains.
- Of columns that differ in the unit alone (`load_mw`, `load_pu`) the first of MW, kW, W, none, pu
  is kept. Divided by their peak they are the same, but for digits that pu values have lost.

Every load is divided by its peak in the file. PV in pu is already per unit of installed power. In
any other unit the installed power is unknown, and the peak is taken for it.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import NamedTuple
from zipfile import BadZipFile

import numpy as np
import pandas as pd

from feederguard.data.profiles.clock import (
    Clock,
    ProfileError,
    listed,
    looks_like_time,
    read_clock,
    words,
)
from feederguard.models.arrays import FloatArray, TimeArray

TEXT_ENDINGS = (".csv", ".tsv", ".txt")
SMD_SHEET = "ISO NE CA"
NOT_A_LOAD = frozenset(
    "flag imputed estimated quality status valid id index year month week weekday day hour hr "
    "minute "
    "forecast da price lmp temp temperature bulb dew unnamed".split()
)

TIME_WORDS = frozenset("time timestamp datetime date hour he hr utc interval".split())

_UNIT = re.compile(r"[\s_]*\(?\b(mw|kw|w|pu)\)?$|_(mw|kw|w|pu)$", re.IGNORECASE)
_UNITS = ("mw", "kw", "w", "", "pu")


class FileSeries(NamedTuple):
    """What a profile file holds: beginnings of its intervals, and its series per unit."""

    time: TimeArray  # (n_step,)
    step_minutes: int
    load: FloatArray  # (n_step, n_load) per unit of each series' peak
    pv: FloatArray  # (n_step, n_pv) per unit of installed power or of the peak
    load_name: tuple[str, ...]
    pv_name: tuple[str, ...]


def read_profile_file(path: Path, max_gap_h: float) -> FileSeries:
    """Return the series of a text file or of an ISO New England SMD workbook.

    Gaps of up to `max_gap_h` hours are filled (see `Clock.spread`). Raises `ProfileError`, which
    names file, line and remedy, for:

    - an ending that is not known
    - a file without header, times or loads
    - a time that is missing, doubled or unreadable
    - a value that is empty, text, infinite or negative
    - a load that is zero throughout
    """
    if path.suffix.lower() == ".xlsx":
        cells = _workbook_cells(path)
    elif path.suffix.lower() in TEXT_ENDINGS:
        cells = _text_cells(path)
    else:
        raise ProfileError(
            f"{path.name}: files ending in {path.suffix!r} are not read; save it as .csv or .xlsx"
        )
    if cells.empty:
        raise ProfileError(f"{path.name}: no rows of data below the header; give at least one day")

    clock = read_clock(cells, path.name, max_gap_h)
    load_column, pv_column = _choose_columns(cells, clock)
    if not load_column:
        raise ProfileError(
            f"{path.name}: no load column among {listed(cells)}; "
            "name one 'load' or 'demand', with its unit, such as load_mw, and fill it with numbers"
        )
    load = _series(cells, load_column, clock, path.name)
    pv = _series(cells, pv_column, clock, path.name)
    for k, column in enumerate(load_column):
        if not load[:, k].max() > 0.0:
            raise ProfileError(
                f"{path.name}: {column} is zero throughout; remove the column or give its load"
            )
    measured = np.array([_unit(column) != "pu" for column in pv_column], dtype=bool)
    pv /= np.where(measured & (pv.max(axis=0) > 0.0), pv.max(axis=0), 1.0)
    return FileSeries(
        clock.time,
        clock.step_minutes,
        load / load.max(axis=0),
        pv,
        tuple(_stem(column) for column in load_column),
        tuple(_stem(column) for column in pv_column),
    )


def _text_cells(path: Path) -> pd.DataFrame:
    """Return the table of a text file as text, its index the line numbers of the file."""
    lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    mark = max(",;\t", key=lambda mark: sum(line.count(mark) for line in lines[:50]))
    rows = [[cell.strip() for cell in row] for row in csv.reader(lines, delimiter=mark)]
    table = [(k + 1, row) for k, row in enumerate(rows) if any(row)]
    if not table:
        raise ProfileError(
            f"{path.name}: the file is empty; give a header line and at least one day of data"
        )
    top = _header_position([row for _, row in table[:100]])
    if top < 0:
        raise ProfileError(
            f"{path.name}, line 1: data without a header; name the columns above them, as "
            "time,load_mw"
        )
    line, header = table[top]
    for k, column in enumerate(header):
        if column in header[:k]:
            raise ProfileError(
                f"{path.name}, line {line}: two columns are named {column!r}; give each its own "
                "name"
            )
    for line, row in table[top + 1 :]:
        if len(row) != len(header):
            raise ProfileError(
                f"{path.name}, line {line}: {len(row)} values under a header of {len(header)}; "
                f"separate the values by {mark!r}, without thousands separators"
            )
    below = dict(table[top + 1 :])
    return pd.DataFrame(list(below.values()), index=list(below), columns=header, dtype=str)


def _header_position(rows: list[list[str]]) -> int:
    """Return the position of the row above the first dated one, -1 if there is none above.

    Remarks may hold dates too: the longest dated row below an undated one of the same length goes
    before.
    """
    dated = [k for k, row in enumerate(rows) if len(row) > 1 and any(map(looks_like_time, row))]
    fitting = [
        k for k in dated if k > 0 and k - 1 not in dated and len(rows[k - 1]) == len(rows[k])
    ]
    top = (sorted(fitting, key=lambda k: -len(rows[k])) or dated or [1])[0] - 1
    # A row of data whose time is missing or unreadable names nothing: the header is above it.
    while top >= 0 and not _names_columns(rows[top]):
        top -= 1
    return top


def _names_columns(row: list[str]) -> bool:
    numbers = any(re.fullmatch(r"[-+]?\d*[.,]?\d+([eE][-+]?\d+)?", cell) for cell in row)
    return not numbers or any(TIME_WORDS & set(words(cell)) for cell in row)


def _workbook_cells(path: Path) -> pd.DataFrame:
    """Return the sheet of an SMD workbook as text, its index the row numbers of the sheet."""
    try:
        with pd.ExcelFile(path, engine="openpyxl") as book:
            if SMD_SHEET not in book.sheet_names:
                raise ProfileError(
                    f"{path.name}: no sheet {SMD_SHEET!r} among {listed(book.sheet_names)}; "
                    "save the sheet you want as .csv and give that"
                )
            sheet = book.parse(SMD_SHEET, dtype=object)
    except ImportError:
        raise ProfileError(
            f"{path.name}: reading a workbook needs openpyxl; pip install openpyxl"
        ) from None
    except BadZipFile:
        raise ProfileError(
            f"{path.name}: not a workbook; save it as .xlsx again, or as .csv"
        ) from None
    cells = sheet.astype(object).where(sheet.notna(), "").astype(str)
    cells.index = cells.index + 2
    return cells[(cells != "").any(axis=1)]


def _choose_columns(cells: pd.DataFrame, clock: Clock) -> tuple[list[str], list[str]]:
    """Return the load and the PV columns by the rules on top."""
    free = [str(column) for column in cells if column not in clock.columns]
    numeric = [column for column in free if _holds_numbers(cells[column])]
    pv = [column for column in numeric if _is_pv(column)]
    named = [column for column in free if _is_load(column)]
    other = [
        c
        for c in numeric
        if c and not _is_pv(c) and not _is_load(c) and not NOT_A_LOAD & set(words(c))
    ]
    # Where every column named load holds text, that text is what the user must hear of.
    load = [column for column in named if column in numeric] or named or other
    is_eia = any("interval" in words(column) for column in clock.columns)
    whole = [c for c in load if words(c) == ["rt", "demand"] or is_eia and "total" in words(c)]
    return _best_units(whole[:1] or load), _best_units(pv)


def _is_pv(column: str) -> bool:
    return column.lower().startswith(("pv", "solar"))


def _is_load(column: str) -> bool:
    name = set(words(column))
    return (
        bool(re.search("load|demand", column.lower()))
        and not _is_pv(column)
        and not {"forecast", "da"} & name
    )


def _holds_numbers(cells: pd.Series[str]) -> bool:
    """Whether a column is meant as numbers.

    Empty cells count as numbers, so that they are reported later.
    """
    text = pd.to_numeric(cells, errors="coerce").isna() & (cells != "")
    return bool(text.mean() <= 0.5)


def _unit(column: str) -> str:
    match = _UNIT.search(column)
    return (match[1] or match[2]).lower() if match else ""


def _stem(column: str) -> str:
    return _UNIT.sub("", column) or column


def _best_units(columns: list[str]) -> list[str]:
    """Keep one of the columns that differ in their unit only, at the place of the first."""
    twins: dict[str, list[str]] = {}
    for column in columns:
        twins.setdefault(_stem(column).lower(), []).append(column)
    return [min(group, key=lambda column: _UNITS.index(_unit(column))) for group in twins.values()]


def _series(cells: pd.DataFrame, columns: list[str], clock: Clock, file: str) -> FloatArray:
    """Return columns as numbers on the whole clock, (n_step, n_column), gaps filled."""
    series = np.empty((len(clock.time), len(columns)))
    for k, column in enumerate(columns):
        number = pd.to_numeric(cells[column], errors="coerce").to_numpy(dtype=np.float64)
        bad = np.flatnonzero(~(np.isfinite(number) & (number >= 0.0)))
        if len(bad):
            cell = str(cells[column].iloc[bad[0]])
            raise ProfileError(f"{file}, line {cells.index[bad[0]]}: {column} {_complaint(cell)}")
        series[:, k] = clock.spread(number)
    return series


def _complaint(cell: str) -> str:
    if cell.lower() in ("", "nan", "na", "n/a", "null", "none"):
        shown = "empty" if cell == "" else cell
        return f"is {shown}; give its value, or remove the row and set max_gap_h"
    if np.isnan(pd.to_numeric(pd.Series([cell]), errors="coerce").iloc[0]):
        return f"is {cell!r}, which is not a number; write it with a decimal point and nothing else"
    return (
        f"is {cell}; give a finite value of zero or more, and generation in a column named pv_..."
    )
