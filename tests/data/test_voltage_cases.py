"""The bundled voltage cases: loads, days and weeks, violations on both sides, and errors."""

from dataclasses import replace

import numpy as np
import pytest

from feederguard.data.networks import load_network
from feederguard.data.profiles import ProfileError, Profiles, load_profiles
from feederguard.data.voltage_cases import load_voltage_case, voltage_case
from feederguard.models.battery import Batteries
from feederguard.models.network import NetworkError
from feederguard.models.voltage_regulation.demand import idle_voltages

FEEDERS = ("cigre_lv18", "ieee33", "bus69", "caracas141")


def short(
    n_step: int, step_minutes: int = 15, first: str = "2016-01-01T00:00", n_pv: int = 1
) -> Profiles:
    """Profiles whose values tell series and step apart.

    Load series k is (k + 1) (step + 1) over the largest, and PV series likewise.
    """
    time = np.datetime64(first) + np.arange(n_step) * np.timedelta64(step_minutes, "m")
    rising = (np.arange(n_step) + 1.0)[:, None] / n_step
    return Profiles(
        "short",
        time,
        step_minutes,
        rising * [[1.0, 0.5]],
        rising * np.ones((1, n_pv)),
        ("a", "b"),
        tuple(f"pv{k}" for k in range(n_pv)),
    )


@pytest.fixture(scope="module")
def feeder():
    network = load_network("ieee33")
    return network.with_changes(p_gen=np.where(np.arange(33) == 17, 0.1, 0.0))


@pytest.fixture(scope="module")
def one(feeder):
    return Batteries.at(feeder, ["18"], 0.5, 2.0)


def test_the_year_of_the_benchmark():
    case = load_voltage_case(weeks="all")
    network, days = case.network, case.days
    assert (len(days), days.n_step, days.step_h) == (365, 96, 0.25)
    assert [network.bus_name[b] for b in case.batteries.bus] == [f"R{k}" for k in range(1, 19)]
    assert days.p_load.sum(axis=2).max() * network.base_mva == pytest.approx(0.25)
    loads = days.p_load.reshape(-1, network.n_bus)
    assert (loads.max(axis=0)[2:] > 0).all() and not loads[:, :2].any()
    # Every bus has a series of its own.
    shape = loads[:, 2:] / loads[:, 2:].max(axis=0)
    assert (np.abs(np.corrcoef(shape.T) - np.eye(18)) < 0.999).all()
    np.testing.assert_allclose(days.q_load, days.p_load * np.tan(np.arccos(0.95)))
    producing = [network.bus_name[b] for b in np.flatnonzero(days.p_gen.any(axis=(0, 1)))]
    assert producing == [f"R{k}" for k in range(11, 19)]


def test_loads_follow_their_series():
    case, year = load_voltage_case(weeks="all"), load_profiles()
    r3 = case.days.p_load.reshape(-1, 20)[:, case.network.bus_index("R3")]
    np.testing.assert_allclose(r3 / r3.max(), year.load[:, 2], atol=1e-12)
    r12 = case.days.p_gen.reshape(-1, 20)[:, case.network.bus_index("R12")]
    np.testing.assert_allclose(r12 * case.network.base_mva, 0.11 * year.pv[:, 1], atol=1e-12)


def test_weeks_are_those_of_the_profiles():
    year = load_profiles()
    day = year.time.astype("datetime64[D]")
    for weeks, steps in (("train", year.train_steps), ("test", year.test_steps)):
        assert load_voltage_case(weeks=weeks).days.date.tolist() == np.unique(day[steps]).tolist()


@pytest.mark.parametrize("feeder_name", FEEDERS)
@pytest.mark.parametrize("weeks", ["train", "test"])
def test_without_control_both_limits_are_left(feeder_name, weeks):
    """10 to 30 % of the steps of either set, with at least 2.5 % of all steps on each side."""
    case = load_voltage_case(feeder_name, weeks)
    v = idle_voltages(case.network, case.days)[..., 1:]
    low, high = (v < 0.95 - 1e-5).any(axis=2), (v > 1.05 + 1e-5).any(axis=2)
    assert 0.10 <= (low | high).mean() <= 0.30
    assert low.mean() >= 0.025 and high.mean() >= 0.025


def test_power_scales_with_the_peak_of_the_year_and_keeps_its_factor(feeder, one):
    case = voltage_case(feeder, one, short(192))
    assert (
        len(case.days) == 2
        and case.days.date.tolist() == np.array(["2016-01-01", "2016-01-02"], "M8[D]").tolist()
    )
    total = case.days.p_load.sum(axis=2)
    assert total.max() == pytest.approx(feeder.p_load.sum()) and total[0, 0] == pytest.approx(
        total.max() / 192
    )
    loaded = feeder.p_load > 0
    ratio = case.days.q_load[1, 5, loaded] / case.days.p_load[1, 5, loaded]
    np.testing.assert_allclose(ratio, feeder.q_load[loaded] / feeder.p_load[loaded])
    assert (
        case.days.p_gen[1, -1, 17] == pytest.approx(0.1)
        and case.days.p_gen.sum() == case.days.p_gen[..., 17].sum()
    )


def test_only_whole_days_are_kept(feeder, one):
    days = voltage_case(feeder, one, short(96 + 60, first="2016-01-01T12:00")).days
    assert len(days) == 1 and days.date.tolist() == np.array(["2016-01-02"], "M8[D]").tolist()


def test_profiles_without_sun_take_that_of_the_bundled_year(feeder, one):
    # 2020 has a 29 February and a 31 December; the bundled year, of 365 days of 2016, ends on 30
    # December.
    year = short(366 * 24, 60, "2020-01-01T00:00", n_pv=0)
    days = voltage_case(feeder, one, year).days
    sun = load_profiles().resample(60).pv[:, 0].reshape(-1, 24)
    np.testing.assert_allclose(days.p_gen[:365, :, 17], 0.1 * sun)
    np.testing.assert_allclose(days.p_gen[365, :, 17], 0.1 * sun[-1])


def test_profiles_shorter_than_a_day_are_refused(feeder, one):
    with pytest.raises(
        ProfileError,
        match="short: 95 steps of 15 minutes hold no whole day of 96; give at least one from mid",
    ):
        voltage_case(feeder, one, short(95))
    with pytest.raises(
        ProfileError, match="first test week begins on day 22; give at least 22 days"
    ):
        voltage_case(feeder, one, short(960), "test")


def test_what_cannot_be_a_case_is_refused(feeder, one):
    with pytest.raises(
        ValueError,
        match="no voltage case of feeder 'nowhere'; bundled are cigre_lv18, ieee33, bus69, caracas",
    ):
        load_voltage_case("nowhere")
    with pytest.raises(ValueError, match="weeks is 'holidays'; use one of train, test, all"):
        load_voltage_case(weeks="holidays")
    with pytest.raises(NetworkError, match="ieee33: no bus 'R1'; there are 1, 2, 3"):
        Batteries.at(feeder, ["R1"], 0.1, 0.2)
    with pytest.raises(
        ValueError, match="ieee33: battery 'far' is at bus 40; buses are numbered 0 to 32"
    ):
        voltage_case(feeder, Batteries([40], 0.1, 0.2, name=("far",)), short(96))
    with pytest.raises(
        ValueError, match="soc_start is 0.5; it must lie between soc_min 0.7 and soc_max 0.9"
    ):
        Batteries.at(feeder, ["18"], 0.1, 0.2, soc_min=0.7, soc_max=0.9)
    with pytest.raises(
        ValueError,
        match="ieee33: demand is zero in every step of short; give loads or another profile",
    ):
        voltage_case(feeder, one, replace(short(96), load=np.zeros((96, 2))))
