"""The clock of a profile file: its time stamps, as equally spaced beginnings of intervals.

Which columns are the clock, the first rule that applies:

1. `UTC ... (Interval Ending)`, as in EIA's wholesale-market files: each stamp less one step. With a
   `Local ... (Interval Beginning)` column beside it, the result is moved to local standard time, by
   the least difference of the two columns. So the two days on which daylight saving time begins and
   ends keep 24 hours each.
2. `Date` and `Hr_End` (or `Hour_Ending`, `HE`; hours 1 to 24), as in ISO New England's SMD
   workbook: hour h of a day begins h - 1 hours after its midnight.
3. One column whose name contains the word time, timestamp, datetime or date, or whose first value
   is a date. Of several, a column with a time of day goes before one without, then one named
   `beginning` before others, then the leftmost.

A column of rule 3 gives the beginning of each interval. If its name has the word `ending` or `end`,
it gives the end, and one step is subtracted. So `time_hour_ending_eastern` = 2022-01-01 00:00 is
the hour from 2021-12-31 23:00.

A stamp with an offset from UTC is turned into UTC. Any other is taken as written: a file in local
time must then have its daylight saving time removed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from feederguard.models.arrays import FloatArray, IntArray, TimeArray

MINUTES_A_DAY = 1440

_DATE = re.compile(r"\d{4}-\d\d?-\d\d?([ T]\d|$)|\d\d?/\d\d?/\d{4}|\d\d?\.\d\d?\.\d{4}")
_FORMATS = {
    "/": (
        "%m/%d/%Y %H:%M",
        "%m/%d/%Y %H:%M:%S",
        "%m/%d/%Y %I:%M %p",
        "%m/%d/%Y %I:%M:%S %p",
        "%m/%d/%Y",
    ),
    ".": ("%d.%m.%Y %H:%M", "%d.%m.%Y %H:%M:%S", "%d.%m.%Y"),
}
_HOUR_ENDING = (["hr", "end"], ["hour", "ending"], ["hour", "end"], ["he"])
_SUMMER_TIME = (
    "(if this is the hour of daylight saving time, give the times in UTC or standard time)"
)


class ProfileError(ValueError):
    """A profile that cannot be used: the message names the file, the place and the remedy."""


@dataclass(frozen=True, eq=False)
class Clock:
    """The beginnings of a file's intervals, and the place of each row of the file among them."""

    time: TimeArray  # (n_step,) minutes
    step_minutes: int
    position: IntArray  # (n_row,) index into time, ascending
    columns: tuple[str, ...]  # the columns of the file that hold times

    def spread(self, values: FloatArray) -> FloatArray:
        """Return a column of the file (n_row,) on the whole clock (n_step,), its gaps filled.

        A gap takes the mean of the same time one week earlier and later. A straight line is added
        that makes it meet the known values on both sides. Where neither week is known, the gap is a
        straight line between these values. Negative values become zero.
        """
        if len(self.position) == len(self.time):
            return values
        full = np.full(len(self.time), np.nan)
        full[self.position] = values
        week = 7 * MINUTES_A_DAY // self.step_minutes
        around = np.full((2, len(full)), np.nan)
        around[0, week:], around[1, :-week] = full[:-week], full[week:]
        count = np.isfinite(around).sum(axis=0)
        shape = np.where(count > 0, np.nansum(around, axis=0) / np.maximum(count, 1), np.nan)

        gap = np.flatnonzero(np.isnan(full))
        straight = np.interp(gap, self.position, values)
        shaped = shape[gap] + np.interp(gap, self.position, values - shape[self.position])
        full[gap] = np.maximum(np.where(np.isnan(shaped), straight, shaped), 0.0)
        return full


def looks_like_time(cell: str) -> bool:
    """Return whether a cell begins like a date that `read_clock` can read."""
    return _DATE.match(cell) is not None


def words(name: str) -> list[str]:
    """Return the words of a column name in lower case, without digits and separators."""
    return re.findall(r"[a-z]+", name.lower())


def listed(names: Iterable[object]) -> str:
    """Return names for a message: the first eight, and whether there are more."""
    items = [str(name) for name in names]
    return ", ".join(items[:8]) + (", ..." if len(items) > 8 else "")


def read_clock(cells: pd.DataFrame, file: str, max_gap_h: float) -> Clock:
    """Return the clock of a table of text cells whose index is the line number in the file.

    Raises `ProfileError` where a time is missing, unreadable, doubled or out of order. Raises it
    where a gap is longer than `max_gap_h` hours, the step does not divide a day, or the file is
    shorter than a day.
    """
    utc, local = _find(cells, "utc", "ending"), _find(cells, "local", "beginning")
    date, hour = (
        _find(cells, "date"),
        next((str(c) for c in cells if words(str(c)) in _HOUR_ENDING), None),
    )
    if utc is not None:
        used, ending = [utc], True
        stamp = _parse(cells[utc], file)
    elif date is not None and hour is not None:
        used, ending = [date, hour], True
        stamp = _parse(cells[date], file) + _hours(cells[hour], file)
    else:
        used = [_best_column(cells, file)]
        ending = bool({"ending", "end"} & set(words(used[0])))
        stamp = _parse(cells[used[0]], file)

    step = _step_minutes(stamp, file)
    position = _positions(stamp, step, file, max_gap_h)
    start = stamp.iloc[0] - pd.Timedelta(minutes=step if ending else 0)
    if utc is not None and local is not None:
        start += (_parse(cells[local], file) - stamp).min() + pd.Timedelta(minutes=step)
    time = np.datetime64(start, "m") + np.arange(position[-1] + 1) * np.timedelta64(step, "m")
    dated = [str(column) for column in cells if looks_like_time(cells[column].iloc[0])]
    return Clock(time, step, position, tuple(used + dated))


def _find(cells: pd.DataFrame, *wanted: str) -> str | None:
    return next((str(column) for column in cells if set(wanted) <= set(words(str(column)))), None)


def _best_column(cells: pd.DataFrame, file: str) -> str:
    ranked: list[tuple[bool, bool, bool, int]] = []
    for k, column in enumerate(cells):
        first, name = cells[column].iloc[0], set(words(str(column)))
        dated = looks_like_time(first)
        if dated or name & {"time", "timestamp", "datetime", "date"}:
            ranked.append((not (dated and ":" in first), not dated, "beginning" not in name, k))
    if not ranked:
        raise ProfileError(
            f"{file}: no time column among {listed(cells)}; add one named 'time' with values like "
            "2022-01-31 13:00"
        )
    return str(cells.columns[min(ranked)[-1]])


def _parse(cells: pd.Series[str], file: str) -> pd.Series[pd.Timestamp]:
    separator = next((mark for mark in _FORMATS if mark in cells.iloc[0][:3]), None)
    attempts = [
        pd.to_datetime(cells, format=form, errors="coerce", utc=True)
        for form in (_FORMATS[separator] if separator else ("ISO8601",))
    ]
    stamp = min(attempts, key=lambda attempt: attempt.isna().sum()).dt.tz_localize(None)
    bad = cells.index[stamp.isna() | ~cells.map(looks_like_time)]
    if len(bad):
        cell = cells[bad[0]]
        what = f"is {cell!r}, which is not a time" if cell else "is empty"
        raise ProfileError(
            f"{file}, line {bad[0]}: {cells.name} {what}; write it like 2022-01-31 13:00"
        )
    return stamp


def _hours(cells: pd.Series[str], file: str) -> pd.Series[pd.Timedelta]:
    hour = pd.to_numeric(cells, errors="coerce")
    bad = cells.index[~hour.isin(range(1, 25))]
    if len(bad):
        raise ProfileError(
            f"{file}, line {bad[0]}: {cells.name} is {cells[bad[0]]!r}; hours are numbered 1 to "
            "24, write one of these"
        )
    return pd.to_timedelta(hour, unit="h")


def _minutes_between(stamp: pd.Series[pd.Timestamp]) -> FloatArray:
    """Return the distance of each stamp from the one above, (n_row - 1,)."""
    return np.diff(stamp.to_numpy(dtype="datetime64[ns]")) / np.timedelta64(1, "m")


def _step_minutes(stamp: pd.Series[pd.Timestamp], file: str) -> int:
    """Return the most frequent step, after checking that the stamps rise."""
    doubled = stamp.index[stamp.duplicated()]
    if len(doubled):
        time = stamp[doubled[0]]
        raise ProfileError(
            f"{file}, line {doubled[0]}: the time {time:%Y-%m-%d %H:%M} was already on line "
            f"{stamp.index[stamp == time][0]}; keep one of the two {_SUMMER_TIME}"
        )
    distance = _minutes_between(stamp)
    falling = stamp.index[1:][distance < 0.0]
    if len(falling):
        raise ProfileError(
            f"{file}, line {falling[0]}: the time {stamp[falling[0]]:%Y-%m-%d %H:%M} is earlier "
            "than the one "
            "above it; sort the rows by time"
        )
    if not len(distance):
        raise ProfileError(f"{file}: covers one row; give at least one day")
    values, counts = np.unique(distance, return_counts=True)
    step = float(values[counts.argmax()])
    if not step.is_integer() or MINUTES_A_DAY % step:
        raise ProfileError(
            f"{file}: rows are {step:g} minutes apart; resample to a step that divides a day, such "
            "as 15 or 60 minutes"
        )
    return int(step)


def _positions(stamp: pd.Series[pd.Timestamp], step: int, file: str, max_gap_h: float) -> IntArray:
    """Return which step each stamp is; a stamp between steps or a long gap is refused."""
    distance = _minutes_between(stamp)
    crooked = stamp.index[1:][distance % step != 0.0]
    if len(crooked):
        raise ProfileError(
            f"{file}, line {crooked[0]}: the time {stamp[crooked[0]]:%Y-%m-%d %H:%M:%S} is off the "
            "step of "
            f"{step} minutes; correct it, or resample the file"
        )
    gap = distance - step
    too_long = np.flatnonzero(gap > 60.0 * max_gap_h)
    if len(too_long):
        absent = stamp.iloc[too_long[0]] + pd.Timedelta(minutes=step)
        raise ProfileError(
            f"{file}, line {stamp.index[too_long[0] + 1]}: no row for {absent:%Y-%m-%d %H:%M} "
            "before it "
            f"({gap.sum() / step:g} rows are missing in all); add the missing rows, or fill the "
            "gaps with "
            f"max_gap_h={gap.max() / 60:g} {_SUMMER_TIME}"
        )
    position: IntArray = np.concatenate([[0], np.cumsum(distance / step)]).astype(np.int64)
    hours = (int(position[-1]) + 1) * step / 60
    if hours < 24:
        raise ProfileError(f"{file}: covers {hours:g} h; give at least one day")
    return position
