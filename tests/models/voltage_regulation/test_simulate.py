"""Simulation of voltage regulation on a two-bus feeder by hand, and over a year.

method.py is tested here.
"""

import numpy as np
import pytest

from feederguard.data.voltage_cases import load_voltage_case
from feederguard.models.battery import Batteries
from feederguard.models.battery.step import allowed_power, next_soc, power_interval
from feederguard.models.voltage_regulation import (
    PlannedMethod,
    VoltageDays,
    carry_year,
    simulate,
)
from feeders import battery, demand_days, pair


class Fixed:
    """The same powers (T, n_bat) every day."""

    name = "fixed"

    def __init__(self, p):
        self.p = np.asarray(p, dtype=float)

    def decide(self, state):
        return self.p[state.step]


class Planned:
    name = "planned"

    def __init__(self, p):
        self.p = np.asarray(p, dtype=float)

    def plan(self, days, soc_start):
        return np.broadcast_to(self.p, (len(days), *self.p.shape))


class Wild:
    """Far beyond every limit, at random."""

    name = "wild"

    def __init__(self, batteries, seed=0):
        self.p_max, self.rng = batteries.p_max, np.random.default_rng(seed)

    def decide(self, state):
        return self.rng.normal(scale=3.0, size=state.soc.shape) * self.p_max


def voltage_at(p):
    """V of bus 1: V^2 - V + 0.1 p = 0."""
    return (1 + np.sqrt(1 - 0.4 * p)) / 2


def test_what_soc_leaves_of_the_power_by_hand():
    # eta 0.8 and 0.5, 1 pu h, quarter of an hour: from 0.9 up 0.1 / (0.8 * 0.25) = 0.5, cut at 0.4;
    # from 0.05 down 0.05 * 0.5 / 0.25 = 0.1.
    one = battery(p_max=0.4)
    low, high = power_interval(one, [[0.9], [0.05], [1.0], [0.0], [0.98]], 0.25)
    assert low[:, 0] == pytest.approx([-0.4, -0.1, -0.4, 0.0, -0.4])
    assert high[:, 0] == pytest.approx([0.4, 0.4, 0.0, 0.4, 0.1])
    assert next_soc(one, [0.05], [-0.1], 0.25) == pytest.approx([0.0], abs=0)
    assert next_soc(one, [0.5], [0.4], 0.25) == pytest.approx([0.58])
    assert allowed_power(one, [0.98], [9.0], 0.25) == pytest.approx([0.1])


def test_any_leading_shape():
    soc = np.full((2, 3, 4, 1), 0.5)
    low, high = power_interval(battery(), soc, 1.0)
    assert low.shape == high.shape == next_soc(battery(), soc, low, 1.0).shape == (2, 3, 4, 1)


def test_a_day_by_hand():
    """The battery is half charged, and discharging 0.25 pu for an hour takes 0.5 of SOC.

    Then nothing is left, and the power asked for is cut to zero.
    """
    outcome = simulate(
        pair(), battery(), demand_days([[0.6, 0.6, -0.2]]), Fixed([[-0.25], [-0.25], [0.3]])
    )
    assert outcome.p_battery[0, :, 0] == pytest.approx([-0.25, 0.0, 0.3])
    assert outcome.soc[0, :, 0] == pytest.approx([0.5, 0.0, 0.0, 0.24])
    assert outcome.v[0, :, 1] == pytest.approx(
        [voltage_at(0.35), voltage_at(0.6), voltage_at(0.1)], abs=1e-8
    )
    assert outcome.v_idle[0, :, 1] == pytest.approx(
        [voltage_at(0.6), voltage_at(0.6), voltage_at(-0.2)], abs=1e-8
    )
    # 0.9359 at 0.6 pu, 0.9637 at 0.35: one step outside.
    assert outcome.n_violation_steps.tolist() == [1]
    assert outcome.worst_excess_pu[0] == pytest.approx(0.95 - voltage_at(0.6), abs=1e-8)
    assert outcome.regulation_mwh[0] == pytest.approx(0.55)
    assert outcome.battery_loss_mwh[0] == pytest.approx(0.2 * 0.3 + (1 / 0.5 - 1) * 0.25)
    assert outcome.soc_short_mwh[0] == pytest.approx(0.26)
    assert outcome.reward[0] == pytest.approx(-0.55 + 1000 * (voltage_at(0.6) - 0.95), abs=1e-5)


def test_a_plan_is_simulated_like_decisions():
    p = np.random.default_rng(0).uniform(-0.5, 0.5, (4, 1))
    a = simulate(pair(), battery(), demand_days([[0.6, 0.2, -0.3, 0.1]] * 2), Fixed(p))
    b = simulate(pair(), battery(), demand_days([[0.6, 0.2, -0.3, 0.1]] * 2), Planned(p))
    for name in ("p_battery", "soc", "v", "reward"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


def test_soc_stays_inside_under_wild_actions():
    case = load_voltage_case(weeks="test")
    limits = {"soc_min": 0.1, "soc_max": 0.9}
    batteries = Batteries(
        case.batteries.bus,
        case.batteries.p_max,
        case.batteries.energy,
        name=case.batteries.name,
        **limits,
    )
    outcome = simulate(case.network, batteries, case.days, Wild(batteries))
    assert outcome.soc.min() == 0.1 and outcome.soc.max() == 0.9
    assert (np.abs(outcome.p_battery) <= batteries.p_max).all()


def test_energy_balances_over_a_year_of_carried_soc():
    case = load_voltage_case(weeks="all")
    outcome = carry_year(case.network, case.batteries, case.days, Wild(case.batteries))
    np.testing.assert_array_equal(outcome.soc[1:, 0], outcome.soc[:-1, -1])
    base, h = case.network.base_mva, case.days.step_h
    stored = base * ((outcome.soc[-1, -1] - outcome.soc[0, 0]) * case.batteries.energy).sum()
    drawn = base * h * outcome.p_battery.sum()
    assert drawn == pytest.approx(stored + outcome.battery_loss_mwh.sum(), rel=1e-9, abs=1e-9)
    demand = base * h * (case.days.p_load - case.days.p_gen).sum()
    grid = outcome.grid_mwh.sum()
    assert grid == pytest.approx(
        demand + stored + outcome.battery_loss_mwh.sum() + outcome.loss_mwh.sum(), rel=1e-9
    )
    assert outcome.battery_loss_mwh.sum() > 100 and abs(stored) > 0.01


def test_the_same_seed_gives_the_same_numbers():
    case = load_voltage_case(weeks="test")
    a, b = (
        simulate(case.network, case.batteries, case.days[:5], Wild(case.batteries, 7))
        for _ in range(2)
    )
    for name in ("p_battery", "soc", "v", "reward", "regulation_mwh"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


def test_days_in_a_batch_are_days_alone():
    case = load_voltage_case(weeks="test")
    p = np.random.default_rng(1).uniform(-1, 1, (96, 18)) * case.batteries.p_max
    together = simulate(case.network, case.batteries, case.days[:9], Fixed(p))
    alone = simulate(case.network, case.batteries, case.days[4], Fixed(p))
    np.testing.assert_allclose(together.v[4], alone.v[0], atol=1e-9)
    np.testing.assert_array_equal(together.soc[4], alone.soc[0])


def test_a_start_can_be_given():
    outcome = simulate(
        pair(), battery(), demand_days([[0.1], [0.1]]), Fixed([[-1.0]]), soc_start=[[1.0], [0.2]]
    )
    assert outcome.p_battery[:, 0, 0] == pytest.approx([-0.5, -0.1])
    with pytest.raises(
        ValueError,
        match="soc_start of battery 'b' is 1.2; it must lie between soc_min 0 and soc_max 1",
    ):
        simulate(pair(), battery(), demand_days([[0.1]]), Fixed([[0.0]]), soc_start=[1.2])
    with pytest.raises(
        ValueError,
        match=r"pair: soc_start has shape \(3,\); give \(1,\) or \(1, 1\), one per battery",
    ):
        simulate(pair(), battery(), demand_days([[0.1]]), Fixed([[0.0]]), soc_start=[0.5] * 3)


def test_answers_that_are_none_are_refused():
    with pytest.raises(
        ValueError,
        match="fixed: the power of battery 'b' on 2016-02-01 at step 1 is nan; answer with",
    ):
        simulate(pair(), battery(), demand_days([[0.1, 0.1]]), Fixed([[0.0], [np.nan]]))
    with pytest.raises(
        ValueError,
        match="planned: the power of battery 'b' on 2016-02-01 at step 1 is inf; answer with",
    ):
        simulate(pair(), battery(), demand_days([[0.1, 0.1]]), Planned([[0.0], [np.inf]]))
    with pytest.raises(
        ValueError,
        match=r"fixed: the powers have shape \(1, 2\); expected \(1, 1\), one per battery",
    ):
        simulate(pair(), battery(), demand_days([[0.1]]), Fixed([[0.0, 0.0]]))


def test_no_days_and_days_of_another_feeder_are_refused():
    for judge in (simulate, carry_year):
        with pytest.raises(ValueError, match="pair: there are no days; give at least one"):
            judge(pair(), battery(), demand_days([[0.1]])[:0], Fixed([[0.0]]))
    with pytest.raises(
        ValueError, match="pair: the days have 3 buses and the feeder 2; make days of this feeder"
    ):
        three = np.zeros((1, 1, 3))
        simulate(
            pair(), battery(), VoltageDays(three, three, three, 1.0, "2016-02-01"), Fixed([[0.0]])
        )


def test_a_battery_at_no_bus_is_refused():
    with pytest.raises(
        ValueError,
        match="pair: battery 'b' is at bus 5; buses are numbered 0 to 1, or use Batteries.at",
    ):
        simulate(pair(), battery(bus=[5]), demand_days([[0.1]]), Fixed([[0.0]]))


def test_soc_limits_that_cross_are_refused():
    with pytest.raises(
        ValueError,
        match="battery 'b': soc_min 0.8 is above soc_max 0.2; exchange them, or give others",
    ):
        battery(soc_min=0.8, soc_max=0.2)


def test_a_method_that_plans_is_told_from_one_that_decides():
    assert isinstance(Planned([[0.0]]), PlannedMethod)
    assert not isinstance(Fixed([[0.0]]), PlannedMethod)
