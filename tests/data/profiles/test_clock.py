"""Times of a user's file: EIA and ISO-NE clocks, daylight saving time, gaps, and wrong times."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from feederguard.data.profiles import ProfileError, load_profiles

EIA_HEADER = (
    "UTC Timestamp (Interval Ending),Local Timestamp Eastern Time (Interval Beginning),"
    "Local Timestamp Eastern Time (Interval Ending),Local Date,Hour Number,"
    "Total Load (MW),Asset Related Demand (MW),Native Load (MW)"
)
HOURS = pd.date_range("2022-03-01 00:00", periods=48, freq="h")


def eia_csv(folder: Path, first_day: str, n_day: int, leave_out: tuple[int, ...] = ()) -> Path:
    """Write EIA's layout for local days from `first_day` on; the load of row k is 1000 + k MW."""
    days = pd.date_range(first_day, periods=n_day + 1, freq="D", tz="America/New_York")
    rows = ["ISO New England (ISO-NE)", "Hourly load, MW", "Source: ISO-NE, 2022-11-30", EIA_HEADER]
    for k, begin in enumerate(pd.date_range(days[0], days[-1], freq="h", inclusive="left")):
        end = begin + pd.Timedelta(hours=1)
        stamps = [f"{stamp:%Y-%m-%d %H:%M:%S}" for stamp in (end.tz_convert("UTC"), begin, end)]
        day_and_hour = [f"{begin:%Y-%m-%d}", str(begin.hour + 1)]
        if k not in leave_out:
            rows.append(",".join([*stamps, *day_and_hour, str(1000.0 + k), "200", str(800.0 + k)]))
    path = folder / "isone_load-ard-nat_hr_2022.csv"
    path.write_text("\n".join(rows) + "\n")
    return path


@pytest.mark.parametrize(
    ("first_day", "n_hour"), [("2022-11-05", 73), ("2022-03-12", 71), ("2022-01-01", 72)]
)
def test_eia_file_over_a_change_of_the_clock(tmp_path: Path, first_day: str, n_hour: int) -> None:
    profiles = load_profiles(eia_csv(tmp_path, first_day, 3))
    assert profiles.load_name == ("Total Load",)
    assert profiles.load[:, 0] == pytest.approx((1000 + np.arange(n_hour)) / (999 + n_hour))
    # Local standard time: a day that begins in daylight saving time begins an hour before midnight.
    start = np.datetime64(first_day, "m") - np.timedelta64(60 if n_hour == 73 else 0, "m")
    assert profiles.time[0] == start
    assert profiles.time[-1] == start + np.timedelta64(60 * (n_hour - 1), "m")


def test_missing_hours_of_an_eia_file_can_be_filled(tmp_path: Path) -> None:
    path = eia_csv(tmp_path, "2022-11-01", 3, leave_out=(30, 31))
    message = (
        r"line 35: no row for 2022-11-02 11:00 before it \(2 rows are missing in all\).*max_gap_h=2"
    )
    with pytest.raises(ProfileError, match=message):
        load_profiles(path)
    with pytest.raises(ProfileError, match=message):
        load_profiles(path, max_gap_h=1)
    filled = load_profiles(path, max_gap_h=2)
    assert filled.load[:, 0] == pytest.approx(
        (1000 + np.arange(72)) / 1071
    )  # a straight line stays one


def test_a_gap_takes_the_shape_of_the_weeks_around_it(tmp_path: Path) -> None:
    time = pd.date_range("2022-01-01", periods=21 * 24, freq="h")
    daily = 100 + 40 * np.sin(2 * np.pi * np.arange(len(time)) / 24)
    daily[7 * 24 : 14 * 24] += 10  # the middle week is higher
    kept = np.r_[0 : 8 * 24 + 5, 9 * 24 + 6 : len(time)]
    frame = pd.DataFrame({"time": time[kept].strftime("%Y-%m-%d %H:%M"), "load_mw": daily[kept]})
    frame.to_csv(tmp_path / "gap.csv", index=False)
    profiles = load_profiles(tmp_path / "gap.csv", max_gap_h=25)
    assert profiles.load[:, 0] == pytest.approx(daily / daily.max(), abs=1e-9)


def test_date_and_hour_ending_columns(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {"Date": HOURS.strftime("%m/%d/%Y"), "Hr_End": HOURS.hour + 1, "load": 1.0}
    )
    frame.to_csv(tmp_path / "smd.csv", index=False)
    profiles = load_profiles(tmp_path / "smd.csv")
    assert str(profiles.time[0]) == "2022-03-01T00:00" and profiles.n_step == 48
    frame.loc[3, "Hr_End"] = 25
    frame.to_csv(tmp_path / "smd.csv", index=False)
    with pytest.raises(
        ProfileError, match="smd.csv, line 5: Hr_End is '25'; hours are numbered 1 to 24"
    ):
        load_profiles(tmp_path / "smd.csv")


@pytest.mark.parametrize(
    ("name", "form", "first"),
    [
        ("time", "%Y-%m-%d %H:%M", "2022-03-01T00:00"),
        ("when", "%Y-%m-%dT%H:%M:%SZ", "2022-03-01T00:00"),
        ("timestamp", "%m/%d/%Y %I:%M %p", "2022-03-01T00:00"),
        ("Datum", "%d.%m.%Y %H:%M", "2022-03-01T00:00"),
        ("interval_end", "%Y-%m-%d %H:%M", "2022-02-28T23:00"),
        ("time_hour_ending_eastern", "%Y-%m-%d %H:%M", "2022-02-28T23:00"),
        ("time", "%Y-%m-%dT%H:%M-05:00", "2022-03-01T05:00"),
    ],
)
def test_ways_to_write_times(tmp_path: Path, name: str, form: str, first: str) -> None:
    frame = pd.DataFrame(
        {"load_mw": 1.0, "date": HOURS.strftime("%Y-%m-%d"), name: HOURS.strftime(form)}
    )
    frame.to_csv(tmp_path / "load.csv", index=False)
    assert str(load_profiles(tmp_path / "load.csv").time[0]) == first


def test_clock_jumps_of_local_time_are_explained(tmp_path: Path) -> None:
    for name, day, message in (
        (
            "autumn",
            "2022-11-05",
            "line 28: the time 2022-11-06 01:00 was already on line 27.*UTC or standard",
        ),
        (
            "spring",
            "2022-03-12",
            "line 28: no row for 2022-03-13 02:00 before it .*UTC or standard",
        ),
    ):
        local = pd.date_range(day, periods=73, freq="h", tz="America/New_York")
        frame = pd.DataFrame({"time": local.strftime("%Y-%m-%d %H:%M"), "load": 1.0})
        frame.to_csv(tmp_path / f"{name}.csv", index=False)
        with pytest.raises(ProfileError, match=f"{name}.csv, {message}"):
            load_profiles(tmp_path / f"{name}.csv")


Change = Callable[[list[str]], list[str]]


def put(line: int, *text: str) -> Change:
    """Return a change that writes other lines (or none) in the place of one, counted from 1."""
    return lambda lines: lines[: line - 1] + list(text) + lines[line:]


WRONG: list[tuple[Change, str]] = [
    (
        put(11),
        r", line 11: no row for 2022-03-01 09:00 before it \(1 rows.* add the missing rows, "
        r".*gap_h=1 ",
    ),
    (
        put(6, "2022-03-01 03:00,5"),
        ", line 6: the time 2022-03-01 03:00 was already on line 5; keep one of the",
    ),
    (
        put(9, "2022-02-01 00:00,5"),
        ", line 9: the time 2022-02-01 00:00 is earlier than the one above it; sort",
    ),
    (
        put(4, "2022-03-01 02:20,5"),
        ", line 4: the time 2022-03-01 02:20:00 is off the step of 60 minutes; corr",
    ),
    (
        put(7, "noon,5"),
        ", line 7: time is 'noon', which is not a time; write it like 2022-01-31 13:00",
    ),
    (put(7, ",5"), ", line 7: time is empty; write it like 2022-01-31 13:00"),
    (
        lambda lines: ["a,load_mw", *["1,5"] * 48],
        ": no time column among a, load_mw; add one named 'time'",
    ),
    (lambda lines: lines[:2], ": covers one row; give at least one day"),
    (lambda lines: lines[:13], ": covers 12 h; give at least one day"),
    (
        lambda lines: (
            lines[:1] + [f"{HOURS[0] + k * pd.Timedelta(minutes=7)},5" for k in range(400)]
        ),
        ": rows are 7 minutes apart; resample to a step that divides a day, such as 15 or 60 "
        "minutes",
    ),
]


@pytest.mark.parametrize(("change", "message"), WRONG)
def test_wrong_times(tmp_path: Path, change: Change, message: str) -> None:
    lines = ["time,load_mw", *(f"{time:%Y-%m-%d %H:%M},{100 + k}" for k, time in enumerate(HOURS))]
    path = tmp_path / "load.csv"
    path.write_text("\n".join(lines))
    assert load_profiles(path).n_step == 48
    path.write_text("\n".join(change(lines)))
    with pytest.raises(ProfileError, match=f"^load.csv{message}"):
        load_profiles(path)
