"""The bundled year, its split, another step, and which bus follows which series."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from feederguard.data.profiles import (
    ProfileError,
    Profiles,
    bus_series,
    list_profiles,
    load_profiles,
)
from feederguard.models.network import Network
from feeders import feeder

ROOT = Path(__file__).resolve().parents[3]
ISONE = ROOT.parent / "shared" / "data" / "profiles" / "isone_2022_hourly_load.csv"


@pytest.fixture(scope="module")
def bundled() -> Profiles:
    return load_profiles()


def ramp(
    n_step: int, step_minutes: int = 60, start: str = "2022-01-01T00:00", n_pv: int = 1
) -> Profiles:
    """Two loads counting up and down, and PV at a tenth of the first."""
    time = np.datetime64(start, "m") + np.arange(n_step) * np.timedelta64(step_minutes, "m")
    up = np.arange(n_step) / n_step
    load = np.stack([up, up[::-1]], axis=1)
    pv = np.repeat(up[:, None] / 10, n_pv, axis=1)
    return Profiles(
        "ramp", time, step_minutes, load, pv, ("up", "down"), tuple(f"pv{k}" for k in range(n_pv))
    )


def star_feeder(p_load: list[float], p_gen: list[float]) -> Network:
    """Bus 0 is the substation; every other bus hangs from it by a line of its own.

    0 --- 1
    0 --- 2
    0 --- 3 ...
    """
    return feeder(" ".join(f"0-{k}" for k in range(1, len(p_load))), p_load=p_load, p_gen=p_gen)


def test_bundled_year_is_35040_quarter_hours(bundled: Profiles) -> None:
    assert list_profiles() == ["simbench_2016"]
    assert bundled.name == "simbench_2016"
    assert (bundled.n_step, bundled.step_minutes, bundled.steps_per_day) == (35_040, 15, 96)
    assert bundled.load.shape == (35_040, bundled.n_load) and bundled.n_load >= 30
    assert bundled.pv.shape == (35_040, bundled.n_pv) and bundled.n_pv >= 4
    assert (
        str(bundled.time[0]) == "2016-01-01T00:00" and str(bundled.time[-1]) == "2016-12-30T23:45"
    )
    assert len(set(bundled.load_name)) == bundled.n_load
    assert len(set(bundled.pv_name)) == bundled.n_pv


def test_bundled_loads_are_distinct_and_peak_at_one(bundled: Profiles) -> None:
    assert bundled.load.min() >= 0.0
    assert (bundled.load.max(axis=0) == 1.0).all()
    correlation = np.corrcoef(bundled.load.T) - np.eye(bundled.n_load)
    assert correlation.max() < 0.99
    assert (bundled.load.std(axis=0) > 0.03).all()


def test_bundled_pv_is_per_installed_power_and_dark_at_night(bundled: Profiles) -> None:
    hour = (bundled.time - bundled.time.astype("datetime64[D]")) // np.timedelta64(60, "m")
    assert bundled.pv.min() == 0.0
    assert (bundled.pv.max(axis=0) > 0.5).all() and bundled.pv.max() <= 1.0
    assert (bundled.pv[(hour >= 22) | (hour < 3)] == 0.0).all()
    assert (bundled.pv[(hour >= 9) & (hour < 15)].mean(axis=0) > 0.1).all()
    summer = (bundled.time >= np.datetime64("2016-05-01")) & (
        bundled.time < np.datetime64("2016-09-01")
    )
    assert (bundled.pv[summer].mean(axis=0) > 1.5 * bundled.pv[~summer].mean(axis=0)).all()


def test_arrays_are_read_only(bundled: Profiles) -> None:
    with pytest.raises(ValueError, match="read-only"):
        bundled.load[0, 0] = 2.0


def test_bundled_file_has_its_notice_and_is_small() -> None:
    notice = (ROOT / "data" / "days" / "simbench_2016.LICENSE.md").read_text(encoding="utf-8")
    assert "Open Database License (ODbL)" in notice and "Energies 13(12), 3290" in notice
    assert (ROOT / "data" / "days" / "simbench_2016.npz").stat().st_size < 3e6


def test_every_fourth_week_is_test(bundled: Profiles) -> None:
    train, test = bundled.train_steps, bundled.test_steps
    assert np.array_equal(np.sort(np.concatenate([train, test])), np.arange(bundled.n_step))
    assert len(test) == 13 * 7 * 96
    assert (
        str(bundled.time[test[0]]) == "2016-01-22T00:00"
        and bundled.time[test[0]] == bundled.time[21 * 96]
    )
    assert test[7 * 96] == 7 * 7 * 96  # the second test week is week 7
    assert set(np.unique(bundled.week[test])) == set(range(3, 52, 4))
    assert bundled.week.max() == 52


def test_weeks_are_of_calendar_days() -> None:
    late = ramp(24 * 23, start="2021-12-31T23:00")
    assert str(late.time[late.test_steps[0]]) == "2022-01-21T00:00"  # the first day has one hour


def test_no_test_week_in_three_weeks() -> None:
    assert len(ramp(21 * 24).train_steps) == 21 * 24
    with pytest.raises(
        ProfileError, match="ramp: covers 21 days, .* begins on day 22; give at least 22 days"
    ):
        _ = ramp(21 * 24).test_steps


def test_resample_to_hours_by_hand() -> None:
    load = np.array([[0.1], [0.2], [0.3], [0.6], [1.0], [0.0], [0.0], [0.2], [0.9]])
    time = np.datetime64("2022-01-01T00:00", "m") + np.arange(9) * np.timedelta64(15, "m")
    hourly = Profiles("nine", time, 15, load, 2 * load, ("a",), ("b",)).resample(60)
    assert hourly.load[:, 0] == pytest.approx([0.3, 0.3])  # the ninth quarter is an incomplete hour
    assert hourly.pv[:, 0] == pytest.approx([0.6, 0.6])
    assert [str(t) for t in hourly.time] == ["2022-01-01T00:00", "2022-01-01T01:00"]
    assert (hourly.step_minutes, hourly.n_step, hourly.load_name) == (60, 2, ("a",))


def test_resample_keeps_energy_and_split(bundled: Profiles) -> None:
    hourly = bundled.resample(60)
    assert hourly.n_step == 8_760
    assert hourly.load.mean(axis=0) == pytest.approx(bundled.load.mean(axis=0), abs=1e-12)
    assert np.array_equal(hourly.test_steps, np.unique(bundled.test_steps // 4))
    back = hourly.resample(15)
    assert np.array_equal(back.time, bundled.time)
    assert np.array_equal(back.load[::4], hourly.load) and np.array_equal(
        back.load[3::4], hourly.load
    )


@pytest.mark.parametrize("step", [0, -60, 25, 50, 7])
def test_resample_to_an_odd_step(step: int) -> None:
    with pytest.raises(
        ProfileError, match=f"ramp: cannot resample from 60 to {step} minutes; give a divisor"
    ):
        ramp(48).resample(step)


def test_resample_without_pv() -> None:
    assert ramp(48, n_pv=0).resample(120).pv.shape == (24, 0)


def test_bus_series_deals_in_file_order() -> None:
    network = star_feeder([0, 0.1, 0, 0.1, 0.1, 0.1], [0, 0, 0.2, 0, 0.2, 0])
    load_series, pv_series = bus_series(ramp(24), network)
    assert load_series.tolist() == [-1, 0, -1, 1, 0, 1]
    assert pv_series.tolist() == [-1, -1, 0, -1, 0, -1]
    assert bus_series(ramp(24, n_pv=0), network)[1].tolist() == [-1] * 6


def test_bus_series_with_a_seed(bundled: Profiles) -> None:
    network = star_feeder([0.0] + [0.1] * 32, [0.0] * 33)
    first, again, other = (bus_series(bundled, network, seed)[0] for seed in (1, 1, 2))
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    assert len(set(first[1:].tolist())) == 32 and first[0] == -1
    assert bus_series(bundled, network)[0].tolist() == [-1, *range(32)]


def test_unknown_name() -> None:
    with pytest.raises(
        ProfileError, match="unknown profiles 'simbanch'; bundled are simbench_2016, and the path"
    ):
        load_profiles("simbanch")


def test_file_not_found(tmp_path: Path) -> None:
    with pytest.raises(
        ProfileError, match="profile file .*load.csv does not exist; give a .csv or .xlsx file"
    ):
        load_profiles(tmp_path / "load.csv")
    with pytest.raises(ProfileError, match="is a folder, not a file"):
        load_profiles(tmp_path)


def test_profiles_check_themselves() -> None:
    good = ramp(24)
    with pytest.raises(ProfileError, match="ramp: load has shape"):
        replace(good, load=good.load[:-1])
    with pytest.raises(ProfileError, match="ramp: pv holds negative or infinite values"):
        replace(good, pv=good.pv - 1.0)
    with pytest.raises(ProfileError, match="time is not equally spaced by step_minutes=30"):
        replace(good, step_minutes=30)
    with pytest.raises(ProfileError, match="ramp: 24 steps of 0 loads"):
        replace(good, load=good.load[:, :0], load_name=())


@pytest.mark.skipif(
    not ISONE.is_file(), reason="needs ../shared/data/profiles/isone_2022_hourly_load.csv"
)
def test_isone_2022_sample() -> None:
    profiles = load_profiles(ISONE)
    assert profiles.name == "isone_2022_hourly_load"
    assert (profiles.n_step, profiles.step_minutes, profiles.n_load, profiles.n_pv) == (
        8_760,
        60,
        1,
        0,
    )
    assert profiles.load_name == ("load",)  # load_mw and load_pu are one series, imputed is a flag
    assert (
        str(profiles.time[0]) == "2021-12-31T23:00"
    )  # the stamps are hour ending, the first 2022-01-01 00:00
    peak = profiles.load[:, 0].argmax()
    assert profiles.load[peak, 0] == 1.0 and str(profiles.time[peak]) == "2022-07-20T18:00"
    assert profiles.load[0, 0] == pytest.approx(11_758.4 / 24_232.9, abs=1e-12)
    assert len(profiles.test_steps) == 13 * 7 * 24
