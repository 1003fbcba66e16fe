"""Columns and values of a user's file: EIA, ISO-NE's workbook, plain CSV, and every wrong value."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from feederguard.data.profiles import ProfileError, load_profiles

HOURS = pd.date_range("2022-03-01 00:00", periods=48, freq="h")


def test_eia_zones_without_a_total_are_series_of_their_own(tmp_path: Path) -> None:
    zones = "Maine Actual Load (MW),Vermont Actual Load (MW),Vermont Forecast Load (MW)"
    lines = ["remark", "", f"UTC Timestamp (Interval Ending),Hour Number,{zones}"]
    lines += [
        f"{time:%Y-%m-%d %H:%M:%S},{time.hour},{50 + k},{90 - k},7" for k, time in enumerate(HOURS)
    ]
    path = tmp_path / "isone_load_act_hr_2022.csv"
    path.write_text("\n".join(lines))
    profiles = load_profiles(path)
    assert profiles.load_name == ("Maine Actual Load", "Vermont Actual Load")
    assert str(profiles.time[0]) == "2022-02-28T23:00"
    path.write_text("\n".join(lines).replace("Vermont Actual", "ISONE Total Actual"))
    assert load_profiles(path).load_name == ("ISONE Total Actual Load",)


@pytest.mark.newest
def test_columns_of_a_plain_csv(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {"time": HOURS.strftime("%Y-%m-%d %H:%M"), "house_load_kw": 2.0, "house_load_pu": 0.5}
    )
    frame["shop_demand_mw"] = np.arange(48) / 10
    frame["load_zone"], frame["load_forecast"], frame["wind_mw"] = "north", 9.0, 3.0
    frame["pv_roof_pu"], frame["Solar park (MW)"], frame["pv_off_mw"] = 0.6, 4.0, 0.0
    frame.to_csv(tmp_path / "plain.csv", index=False, sep=";")
    profiles = load_profiles(str(tmp_path / "plain.csv"))
    assert (profiles.name, profiles.step_minutes) == ("plain", 60)
    assert profiles.load_name == ("house_load", "shop_demand")
    assert profiles.pv_name == ("pv_roof", "Solar park", "pv_off")
    assert (profiles.load[:, 0] == 1.0).all()
    assert profiles.load[24, 1] == pytest.approx(24 / 47)
    assert (profiles.pv == [0.6, 1.0, 0.0]).all()  # pu as it is, MW by its peak


def test_unnamed_loads_are_all_numbers_but_flags_and_calendar(tmp_path: Path) -> None:
    frame = pd.DataFrame({"time": HOURS.strftime("%Y-%m-%d %H:%M"), "north": 1.0, "south": 2.0})
    frame["is_imputed"], frame["hour"], frame["comment"] = 0, HOURS.hour, "ok"
    frame.to_csv(tmp_path / "feeders.csv")  # pandas adds an index column without a name
    assert load_profiles(tmp_path / "feeders.csv").load_name == ("north", "south")


def test_of_load_mw_and_load_pu_the_first_is_read(tmp_path: Path) -> None:
    load = 1000 + np.arange(48) / 7
    frame = pd.DataFrame(
        {"time": HOURS.strftime("%Y-%m-%d %H:%M"), "load_pu": 0.9, "load_mw": load, "imputed": 0}
    )
    frame.to_csv(tmp_path / "twins.csv", index=False)
    profiles = load_profiles(tmp_path / "twins.csv")
    assert profiles.load_name == ("load",)
    assert profiles.load[:, 0] == pytest.approx(load / load.max(), abs=1e-12)


def smd_sheet() -> pd.DataFrame:
    sheet = pd.DataFrame({"Date": HOURS.normalize(), "Hr_End": HOURS.hour + 1, "DA_Demand": 7.0})
    return sheet.assign(RT_Demand=10.0 + HOURS.hour, RT_LMP=-3.0, System_Load=8.0)


def test_smd_sheet_saved_as_csv(tmp_path: Path) -> None:
    smd_sheet().to_csv(tmp_path / "smd.csv", index=False)
    profiles = load_profiles(tmp_path / "smd.csv")
    assert profiles.load_name == ("RT_Demand",)
    assert profiles.load[:2, 0] == pytest.approx([10 / 33, 11 / 33])


@pytest.mark.newest
def test_smd_workbook(tmp_path: Path) -> None:
    pytest.importorskip(
        "openpyxl", reason="needs openpyxl to write a workbook: pip install openpyxl"
    )
    path = tmp_path / "2022_smd_hourly.xlsx"
    with pd.ExcelWriter(path, engine="openpyxl") as writer:
        pd.DataFrame({"Notes": ["values are hour ending"]}).to_excel(
            writer, sheet_name="Notes", index=False
        )
        smd_sheet().to_excel(writer, sheet_name="ISO NE CA", index=False)
    profiles = load_profiles(path)
    assert (profiles.name, profiles.load_name) == ("2022_smd_hourly", ("RT_Demand",))
    assert str(profiles.time[0]) == "2022-03-01T00:00" and profiles.n_step == 48
    assert profiles.load[:2, 0] == pytest.approx([10 / 33, 11 / 33])

    smd_sheet().to_excel(path, sheet_name="ME", index=False)
    with pytest.raises(
        ProfileError, match="no sheet 'ISO NE CA' among ME; save the sheet you want as .csv"
    ):
        load_profiles(path)
    path.write_text("no workbook")
    with pytest.raises(
        ProfileError, match="2022_smd_hourly.xlsx: not a workbook; save it as .xlsx again"
    ):
        load_profiles(path)


def test_workbook_without_openpyxl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    (tmp_path / "2022_smd_hourly.xlsx").write_bytes(b"")
    with pytest.raises(
        ProfileError, match="2022_smd_hourly.xlsx: .* needs openpyxl; pip install openpyxl"
    ):
        load_profiles(tmp_path / "2022_smd_hourly.xlsx")


Change = Callable[[list[str]], list[str]]


def put(line: int, text: str) -> Change:
    """Return a change that writes another line in the place of one, counted from 1."""
    return lambda lines: [*lines[: line - 1], text, *lines[line:]]


WRONG: list[tuple[Change, str]] = [
    (
        put(9, "2022-03-01 07:00,"),
        ", line 9: load_mw is empty; give its value, or remove the row and set max_gap",
    ),
    (
        put(9, "2022-03-01 07:00,NaN"),
        ", line 9: load_mw is NaN; give its value, or remove the row and set max_gap",
    ),
    (
        put(9, "2022-03-01 07:00,12 MW"),
        ", line 9: load_mw is '12 MW', which is not a number; write it with a dec",
    ),
    (
        put(9, "2022-03-01 07:00,inf"),
        ", line 9: load_mw is inf; give a finite value of zero or more, and generat",
    ),
    (
        put(9, "2022-03-01 07:00,-5"),
        ", line 9: load_mw is -5; give a finite value of zero or more, and generation",
    ),
    (
        put(9, "2022-03-01 07:00,1,107"),
        ", line 9: 3 values under a header of 2; separate the values by ','",
    ),
    (
        put(1, "time,temperature"),
        ": no load column among time, temperature; name one 'load' or 'demand', with it",
    ),
    (
        lambda lines: ["time;load", *(line.split(",")[0] + ";0,5" for line in lines[1:])],
        ", line 2: load is '0,5', which is not a number; write it with a decimal point and nothing "
        "else",
    ),
    (put(1, "time,time"), ", line 1: two columns are named 'time'; give each its own name"),
    (
        lambda lines: lines[1:],
        ", line 1: data without a header; name the columns above them, as time,load_mw",
    ),
    (put(2, ",100"), ", line 2: time is empty; write it like 2022-01-31 13:00"),
    (put(2, "31/31/2022,100"), ", line 2: time is '31/31/2022', which is not a time"),
    (put(2, "first,100"), ", line 2: time is 'first', which is not a time"),
    (
        lambda lines: [",100", *lines[2:]],
        ", line 1: data without a header; name the columns above them, as time,load_mw",
    ),
    (lambda lines: lines[:1], ": no rows of data below the header; give at least one day"),
    (lambda lines: [], ": the file is empty; give a header line and at least one day of data"),
    (
        lambda lines: [lines[0], *(line.split(",")[0] + ",0" for line in lines[1:])],
        ": load_mw is zero throughout; remove the column or give its load",
    ),
]


@pytest.mark.parametrize(("change", "message"), WRONG)
def test_wrong_values(tmp_path: Path, change: Change, message: str) -> None:
    lines = ["time,load_mw", *(f"{time:%Y-%m-%d %H:%M},{100 + k}" for k, time in enumerate(HOURS))]
    path = tmp_path / "load.csv"
    path.write_text("\n".join(lines))
    assert load_profiles(path).load[:, 0] == pytest.approx((100 + np.arange(48)) / 147)
    path.write_text("\n".join(change(lines)))
    with pytest.raises(ProfileError, match=f"^load.csv{message}"):
        load_profiles(path)


def test_an_ending_that_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "load.xls").write_bytes(b"")
    message = "load.xls: files ending in '.xls' are not read; save it as .csv or .xlsx"
    with pytest.raises(ProfileError, match=message):
        load_profiles(tmp_path / "load.xls")
