"""Sampled scenarios: reproducible, from the right weeks, at the feeder's own size."""

import numpy as np
import pytest

from feederguard.data.networks import load_network
from feederguard.data.profiles import ProfileError, Profiles, load_profiles
from feederguard.data.sampling import SampledScenarios, sample_scenarios
from feederguard.models.load_transfer import Scenarios
from feederguard.models.load_transfer.setting import faultable_branches
from feederguard.models.network import Network
from feederguard.models.network.graph import energised_buses
from feeders import feeder

PEAK_HOUR = 18


@pytest.fixture(scope="module")
def ieee33() -> Network:
    return load_network("ieee33")


@pytest.fixture(scope="module")
def bundled() -> Profiles:
    return load_profiles()


def month(n_pv: int = 1, start: str = "2022-01-01T00:00", n_load: int = 1) -> Profiles:
    """Eight weeks of hours whose peaks are known.

    Load k is 0.8 of its own peak at PEAK_HOUR + k, else 0.2. PV is 0.5 at noon, else 0.
    """
    n_step = 8 * 7 * 24
    hour = np.arange(n_step) % 24
    load = np.stack([np.where(hour == PEAK_HOUR + k, 0.8, 0.2) for k in range(n_load)], axis=1)
    pv = np.repeat(np.where(hour == 12, 0.5, 0.0)[:, None], n_pv, axis=1)
    time = np.datetime64(start, "m") + np.arange(n_step) * np.timedelta64(60, "m")
    names = (tuple(f"load{k}" for k in range(n_load)), tuple(f"pv{k}" for k in range(n_pv)))
    return Profiles("month", time, 60, load, pv, *names)


def bridge_then_ring(
    p_load: list[float], gen: list[float] | None = None, kind: str = "line"
) -> Network:
    """Losing `head` darkens everything; losing `leaf` only bus 4.

    0 --head-- 1 --a-- 2 --leaf-- 4
               |       .
               +--b-- 3
                 (tie 3-2)
    """
    return feeder(
        "head:0-1 a:1-2 b:1-3 tie:3~2 leaf:2-4",
        p_load=p_load,
        q_load=0.5 * np.array(p_load),
        p_gen=0.0 if gen is None else gen,
        kind=("line", kind, "line", "tie", "line"),
    )


def same(a: SampledScenarios, b: SampledScenarios) -> bool:
    fields = Scenarios.__dataclass_fields__
    alike = all(
        np.array_equal(getattr(a.scenarios, name), getattr(b.scenarios, name)) for name in fields
    )
    return alike and np.array_equal(a.step, b.step)


def test_the_seed_decides_everything(ieee33: Network, bundled: Profiles) -> None:
    first = sample_scenarios(ieee33, bundled, 20, seed=7)
    assert len(first.scenarios) == 20
    assert same(first, sample_scenarios(ieee33, bundled, 20, seed=7))
    other = sample_scenarios(ieee33, bundled, 20, seed=8)
    assert not np.array_equal(first.scenarios.fault, other.scenarios.fault)
    assert not np.array_equal(first.step, other.step)


@pytest.mark.parametrize("weeks", ["test", "train"])
def test_hours_come_from_the_weeks_asked(ieee33: Network, bundled: Profiles, weeks: str) -> None:
    sampled = sample_scenarios(ieee33, bundled, 300, seed=1, weeks=weeks)
    week = bundled.resample(60).week[sampled.step]
    assert set((week % 4).tolist()) == ({3} if weeks == "test" else {0, 1, 2})
    # Every part of the year, not the first weeks of it.
    assert len(set(week.tolist())) > 10


def test_test_weeks_are_the_default(ieee33: Network, bundled: Profiles) -> None:
    asked = sample_scenarios(ieee33, bundled, 30, seed=1, weeks="test")
    assert same(asked, sample_scenarios(ieee33, bundled, 30, seed=1))


@pytest.mark.parametrize("name", ["ieee33", "bus69"])
def test_no_fault_darkens_every_load(name: str, bundled: Profiles) -> None:
    network = load_network(name)
    fault = np.unique(sample_scenarios(network, bundled, 500, seed=2).scenarios.fault)
    assert set(fault.tolist()) <= set(faultable_branches(network).tolist())
    assert network.closed[fault].all()
    for b in fault:
        available = np.arange(network.n_branch) != b
        assert (energised_buses(network, available) & (network.p_load > 0)).any()


def test_every_useful_fault_is_drawn_and_no_other() -> None:
    network = bridge_then_ring([0.0, 0.1, 0.1, 0.1, 0.1])
    drawn = sample_scenarios(network, month(), 200, seed=0).scenarios.fault
    assert {network.branch_name[b] for b in drawn} == {"a", "b", "leaf"}


def test_transformers_do_not_fail() -> None:
    network = bridge_then_ring([0.0, 0.1, 0.1, 0.1, 0.1], kind="trafo")
    drawn = sample_scenarios(network, month(), 200, seed=0).scenarios.fault
    assert {network.branch_name[b] for b in drawn} == {"b", "leaf"}


def test_the_peak_hour_carries_nominal_load() -> None:
    network = bridge_then_ring([0.0, 0.1, 0.2, 0.3, 0.0])
    sampled = sample_scenarios(network, month(), 200, seed=0)
    at_peak = sampled.step % 24 == PEAK_HOUR
    assert 0 < at_peak.sum() < 200
    # 0.8 of the series is the peak of the feeder: nominal; 0.2 is a quarter of it.
    assert sampled.scenarios.p_load[at_peak] == pytest.approx(
        np.tile(network.p_load, (at_peak.sum(), 1))
    )
    assert sampled.scenarios.p_load[~at_peak] == pytest.approx(
        np.tile(network.p_load / 4, ((~at_peak).sum(), 1))
    )


def test_the_peak_is_that_of_the_sum_where_buses_differ() -> None:
    # Bus 1 peaks at 18:00 and bus 2, three times larger, at 19:00. In series units 18:00 is 0.1 *
    # 0.8 + 0.3 * 0.2 = 0.14 and 19:00 is 0.1 * 0.2 + 0.3 * 0.8 = 0.26: the peak, and so nominal,
    # 0.4 MW.
    network = bridge_then_ring([0.0, 0.1, 0.3, 0.0, 0.0])
    sampled = sample_scenarios(network, month(n_load=2), 300, seed=0)
    total = sampled.scenarios.p_load.sum(axis=1)
    hour = sampled.step % 24
    assert total[hour == PEAK_HOUR + 1] == pytest.approx(0.4)
    assert total[hour == PEAK_HOUR] == pytest.approx(0.4 * 0.14 / 0.26)
    assert sampled.scenarios.p_load[hour == PEAK_HOUR + 1][0] == pytest.approx(
        [0.0, 0.4 * 0.02 / 0.26, 0.4 * 0.24 / 0.26, 0.0, 0.0]
    )


def test_no_hour_of_the_bundled_year_exceeds_nominal(ieee33: Network, bundled: Profiles) -> None:
    total = sample_scenarios(ieee33, bundled, 500, seed=3).scenarios.p_load.sum(axis=1)
    assert total.max() <= ieee33.p_load.sum() * (1 + 1e-12)
    assert total.max() > 0.5 * ieee33.p_load.sum()


def test_every_load_keeps_its_power_factor(ieee33: Network, bundled: Profiles) -> None:
    scenarios = sample_scenarios(ieee33, bundled, 50, seed=4).scenarios
    assert scenarios.p_load[:, 1:].min() > 0
    np.testing.assert_allclose(
        scenarios.q_load * ieee33.p_load, scenarios.p_load * ieee33.q_load, atol=1e-15
    )


def test_pv_share_scales_generation_and_nothing_else(ieee33: Network, bundled: Profiles) -> None:
    none, some, double = (
        sample_scenarios(ieee33, bundled, 60, seed=5, pv_share=share) for share in (0.0, 0.2, 0.4)
    )
    assert not none.scenarios.p_gen.any()
    assert some.scenarios.p_gen.any()
    np.testing.assert_allclose(double.scenarios.p_gen, 2 * some.scenarios.p_gen)
    assert np.array_equal(none.scenarios.p_load, double.scenarios.p_load)
    assert np.array_equal(none.scenarios.fault, double.scenarios.fault)
    # Installed power is a share of nominal demand.
    assert (some.scenarios.p_gen <= 0.2 * ieee33.p_load + 1e-12).all()


def test_sunshine_by_hand() -> None:
    network = bridge_then_ring([0.0, 0.1, 0.2, 0.0, 0.0])
    sampled = sample_scenarios(network, month(n_pv=2), 200, seed=0, pv_share=0.5)
    noon = sampled.step % 24 == 12
    assert noon.any()
    # Half of the installed half of the nominal demand.
    assert sampled.scenarios.p_gen[noon][0] == pytest.approx([0.0, 0.025, 0.05, 0.0, 0.0])
    assert not sampled.scenarios.p_gen[~noon].any()


def test_generation_of_the_feeder_itself_replaces_the_share() -> None:
    network = bridge_then_ring([0.0, 0.1, 0.2, 0.0, 0.0], gen=[0.0, 0.0, 0.0, 0.4, 0.0])
    sampled = sample_scenarios(network, month(), 200, seed=0, pv_share=0.5)
    noon = sampled.step % 24 == 12
    assert sampled.scenarios.p_gen[noon][0] == pytest.approx([0.0, 0.0, 0.0, 0.2, 0.0])


def test_a_profile_without_sunshine_borrows_that_of_the_same_hour(ieee33: Network) -> None:
    winter = sample_scenarios(ieee33, month(n_pv=0), 300, seed=0)
    summer = sample_scenarios(ieee33, month(n_pv=0, start="2022-06-01T00:00"), 300, seed=0)
    for sampled in (winter, summer):
        hour = sampled.step % 24
        produced = sampled.scenarios.p_gen.sum(axis=1)
        assert not produced[hour <= 1].any()
        assert (produced[(hour >= 11) & (hour <= 12)] > 0).all()
    assert summer.scenarios.p_gen.sum() > 1.5 * winter.scenarios.p_gen.sum()


def test_a_leap_day_at_the_end_of_a_year_has_sunshine(ieee33: Network) -> None:
    # The last hours of a leap year lie beyond the 8760 of a common one.
    profiles = month(n_pv=0, start="2024-11-06T00:00")
    sampled = sample_scenarios(ieee33, profiles, 100, seed=0)
    assert np.isfinite(sampled.scenarios.p_gen).all()
    assert sampled.scenarios.p_gen.any()


def test_numbers_that_make_no_sample_are_refused(ieee33: Network, bundled: Profiles) -> None:
    with pytest.raises(ValueError, match="count is 0; sample at least one scenario"):
        sample_scenarios(ieee33, bundled, 0, seed=0)
    with pytest.raises(ValueError, match="weeks is 'all'; use 'test' or 'train'"):
        sample_scenarios(ieee33, bundled, 1, seed=0, weeks="all")
    for share in (-0.1, float("nan")):
        with pytest.raises(ValueError, match=rf"pv_share is {share}; it must be zero or more"):
            sample_scenarios(ieee33, bundled, 1, seed=0, pv_share=share)


def test_a_feeder_without_a_useful_fault_is_refused() -> None:
    # Of the lines only `head` is in use, and nothing can be fed without it.
    network = bridge_then_ring([0.0, 0.1, 0.1, 0.1, 0.1])
    network = network.with_changes(closed=np.array([True, False, False, False, False]))
    with pytest.raises(
        ValueError, match="hand: no line whose loss leaves a load that could be fed"
    ):
        sample_scenarios(network, month(), 1, seed=0)


def test_a_profile_too_short_for_a_test_week_is_refused(ieee33: Network) -> None:
    hours = 10 * 24
    time = np.datetime64("2022-01-01T00:00", "m") + np.arange(hours) * np.timedelta64(60, "m")
    short = Profiles(
        "short", time, 60, np.ones((hours, 1)), np.ones((hours, 1)), ("load",), ("pv",)
    )
    with pytest.raises(ProfileError, match="short: covers 10 days"):
        sample_scenarios(ieee33, short, 1, seed=0)


@pytest.mark.parametrize("kind", ["dark", "silent"])
def test_demand_that_is_zero_all_year_is_refused(kind: str) -> None:
    network = bridge_then_ring([0.0] * 5 if kind == "dark" else [0.0, 0.1, 0.1, 0.1, 0.1])
    hours = 28 * 24
    time = np.datetime64("2022-01-01T00:00", "m") + np.arange(hours) * np.timedelta64(60, "m")
    level = np.ones((hours, 1)) if kind == "dark" else np.zeros((hours, 1))
    profiles = Profiles("flat", time, 60, level, level, ("load",), ("pv",))
    with pytest.raises(ValueError, match="zero"):
        sample_scenarios(network, profiles, 1, seed=0)
