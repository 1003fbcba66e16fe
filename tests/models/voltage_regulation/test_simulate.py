"""The judge of voltage regulation: a two-bus feeder by hand, batteries' limits under any wish,
energy over a year.
"""

import numpy as np
import pyomo.environ as pyo
import pytest

from feederguard.data.voltage_cases import load_voltage_case
from feederguard.models.battery import Batteries
from feederguard.models.battery.step import allowed_power, next_soc, power_interval
from feederguard.models.distflow_opf import build_distflow_opf
from feederguard.models.network import Network
from feederguard.models.opf_objectives import regulation_power
from feederguard.models.power_flow import solve_power_flow
from feederguard.models.voltage_regulation import VoltageDays, VoltageState, carry_year, simulate
from feederguard.models.voltage_regulation.rules import band_excess, judged_buses, regulation_reward


def pair(**changes) -> Network:
    """0 --r = 0.1-- 1 on 1 MVA, band 0.95..1.05."""
    zero = np.zeros(2)
    values = {
        "name": "pair",
        "base_mva": 1.0,
        "bus_name": ("0", "1"),
        "vn_kv": zero + 10.0,
        "v_min": zero + 0.95,
        "v_max": zero + 1.05,
        "p_load": [0, 1.0],
        "q_load": zero,
        "p_gen": zero,
        "q_gen": zero,
        "g_shunt": zero,
        "b_shunt": zero,
        "substation": [0],
        "v_substation": [1.0],
        "branch_name": ("l",),
        "kind": ("line",),
        "from_bus": [0],
        "to_bus": [1],
        "r": [0.1],
        "x": [0.0],
        "g_from": [0],
        "b_from": [0],
        "g_to": [0],
        "b_to": [0],
        "tap": [1],
        "shift": [0],
        "rating": [np.inf],
        "closed": [True],
        "open_end": [0],
    }
    return Network(**values | changes)


def battery(**changes) -> Batteries:
    values = {
        "bus": [1],
        "p_max": 0.5,
        "energy": 1.0,
        "efficiency_charge": 0.8,
        "efficiency_discharge": 0.5,
        "name": ("b",),
    }
    return Batteries(**values | changes)


def days(p, step_h=1.0) -> VoltageDays:
    """Days (B, T) of net demand at bus 1; below zero it is generation."""
    p = np.atleast_2d(np.asarray(p, dtype=float))
    load = np.stack([np.zeros_like(p), np.maximum(p, 0)], axis=-1)
    made = np.stack([np.zeros_like(p), np.maximum(-p, 0)], axis=-1)
    dates = np.datetime64("2016-02-01") + np.arange(len(p))
    return VoltageDays(load, np.zeros_like(load), made, step_h, dates)


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
    """Half charged: discharging 0.25 pu for an hour takes 0.5; then nothing is left, and a wish is
    cut to zero.
    """
    outcome = simulate(
        pair(), battery(), days([[0.6, 0.6, -0.2]]), Fixed([[-0.25], [-0.25], [0.3]])
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


def test_a_fixed_end_is_what_is_missing():
    outcome = simulate(pair(), battery(soc_end=0.9), days([[0.1, 0.1]]), Fixed([[0.0], [0.25]]))
    assert outcome.soc_short_mwh[0] == pytest.approx(0.9 - 0.7)


def test_a_plan_is_simulated_like_decisions():
    p = np.random.default_rng(0).uniform(-0.5, 0.5, (4, 1))
    a = simulate(pair(), battery(), days([[0.6, 0.2, -0.3, 0.1]] * 2), Fixed(p))
    b = simulate(pair(), battery(), days([[0.6, 0.2, -0.3, 0.1]] * 2), Planned(p))
    for name in ("p_battery", "soc", "v", "reward"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


def test_the_reward_is_that_of_the_paper_on_its_band():
    v = np.array([[1.0, 0.94], [1.0, 1.0501], [1.0, 0.95], [1.0, 1.02]])
    p_kw = np.array([[-3.0, 4.0]] * 4)
    by_hand = -0.001 * 7.0 + np.minimum(0, 1000 * (0.05 - np.abs(1 - v[:, 1])))
    assert regulation_reward(pair(), p_kw, v) == pytest.approx(by_hand)
    wide = pair(v_min=np.array([0.9, 0.9]), v_max=np.array([1.1, 1.1]))
    assert regulation_reward(wide, p_kw, v) == pytest.approx(-0.007)


def test_a_held_substation_is_not_judged():
    # The grid above holds bus 0 at 1.1, outside the band, and nobody here can change that.
    high = pair(v_substation=[1.1])
    assert judged_buses(high).tolist() == [1]
    assert regulation_reward(high, [0.0], np.array([1.1, 1.0])) == pytest.approx(0.0)
    assert band_excess(high, np.array([1.1, 1.04])) == pytest.approx(-0.01)


def test_the_battery_term_is_the_objective_of_the_optimum():
    """0.001 per kW and step is `regulation_power`, MW summed over steps, for a plan that goes one
    way at a time.
    """
    p = np.array([[-0.2], [0.1], [0.3]])
    p_load = np.array([[0.0, 0.1]] * 3)
    model = build_distflow_opf(
        pair(), "linear", p_load=p_load, batteries=battery(), objective=regulation_power
    )
    for t in range(3):
        model.p_charge[t, 0].set_value(float(max(p[t, 0], 0)))
        model.p_discharge[t, 0].set_value(float(max(-p[t, 0], 0)))
    outcome = simulate(pair(), battery(), days([[0.1] * 3]), Fixed(p))
    assert (outcome.v[0, :, 1] >= 0.95).all()
    assert -outcome.reward[0] == pytest.approx(pyo.value(regulation_power(model)))
    assert outcome.regulation_mwh[0] == pytest.approx(pyo.value(regulation_power(model)))


def test_the_voltage_term_counts_every_bus():
    case = load_voltage_case(weeks="test")
    flow = solve_power_flow(
        case.network, case.days.p_load[0, 72] * 1.6, case.days.q_load[0, 72] * 1.6
    )
    v = np.abs(flow.voltage)
    assert (v < 0.95).sum() > 3
    by_hand = sum(min(0.0, 1000 * (0.05 - abs(1 - v[i]))) for i in range(1, case.network.n_bus))
    assert regulation_reward(case.network, np.zeros(18), v) == pytest.approx(by_hand)


def test_a_step_without_solution_is_a_violation_and_never_a_number():
    """2.5 pu is the most the line can carry; 3 pu has no AC solution."""
    outcome = simulate(pair(), battery(), days([[3.0, 0.1]]), Fixed([[0.0], [0.0]]))
    assert outcome.converged.tolist() == [[False, True]]
    assert outcome.n_violation_steps.tolist() == [1] and np.isinf(outcome.worst_excess_pu[0])
    assert (
        np.isnan(outcome.v[0, 0]).all()
        and np.isnan(outcome.loss_mwh[0])
        and np.isnan(outcome.grid_mwh[0])
    )
    assert outcome.reward[0] == pytest.approx(-950.0)


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
        pair(), battery(), days([[0.1], [0.1]]), Fixed([[-1.0]]), soc_start=[[1.0], [0.2]]
    )
    assert outcome.p_battery[:, 0, 0] == pytest.approx([-0.5, -0.1])
    with pytest.raises(
        ValueError,
        match="soc_start of battery 'b' is 1.2; it must lie between soc_min 0 and soc_max 1",
    ):
        simulate(pair(), battery(), days([[0.1]]), Fixed([[0.0]]), soc_start=[1.2])
    with pytest.raises(
        ValueError,
        match=r"pair: soc_start has shape \(3,\); give \(1,\) or \(1, 1\), one per battery",
    ):
        simulate(pair(), battery(), days([[0.1]]), Fixed([[0.0]]), soc_start=[0.5] * 3)


def test_answers_that_are_none_are_refused():
    with pytest.raises(
        ValueError,
        match="fixed: the power of battery 'b' on 2016-02-01 at step 1 is nan; answer with",
    ):
        simulate(pair(), battery(), days([[0.1, 0.1]]), Fixed([[0.0], [np.nan]]))
    with pytest.raises(
        ValueError,
        match="planned: the power of battery 'b' on 2016-02-01 at step 1 is inf; answer with",
    ):
        simulate(pair(), battery(), days([[0.1, 0.1]]), Planned([[0.0], [np.inf]]))
    with pytest.raises(
        ValueError,
        match=r"fixed: the powers have shape \(1, 2\); expected \(1, 1\), one per battery",
    ):
        simulate(pair(), battery(), days([[0.1]]), Fixed([[0.0, 0.0]]))


@pytest.mark.parametrize("name", ["p_load", "q_load", "p_gen"])
def test_demand_that_is_no_number_is_named(name):
    values = {key: np.zeros((2, 3, 2)) for key in ("p_load", "q_load", "p_gen")}
    values[name][1, 2, 1] = np.nan
    with pytest.raises(
        ValueError,
        match=f"days: {name} of bus 1 on 2016-02-02 at step 2 is nan; give a finite number",
    ):
        VoltageDays(**values, step_h=1.0, date=np.array(["2016-02-01", "2016-02-02"]))


def test_days_that_do_not_fit_are_refused():
    zero = np.zeros((2, 3, 2))
    date = np.array(["2016-02-01", "2016-02-02"])
    with pytest.raises(
        ValueError,
        match=r"days: q_load has shape \(2, 3, 1\); expected \(2, 3, 2\), that of p_load",
    ):
        VoltageDays(zero, zero[..., :1], zero, 1.0, date)
    with pytest.raises(
        ValueError,
        match=r"days: p_load has shape \(3, 2\); give \(B, T, n_bus\), T steps of B days",
    ):
        VoltageDays(zero[0], zero[0], zero[0], 1.0, date)
    with pytest.raises(ValueError, match="days: 2 dates for 1 days; give each day its date"):
        VoltageDays(zero[:1], zero[:1], zero[:1], 1.0, date)
    with pytest.raises(
        ValueError,
        match="days: step_h is 0; it must be a positive number of hours".replace("0;", "0.0;"),
    ):
        VoltageDays(zero, zero, zero, 0.0, date)
    with pytest.raises(ValueError, match="days: date of day 1 is NaT; give a calendar day"):
        VoltageDays(zero, zero, zero, 1.0, np.array(["2016-02-01", "NaT"], dtype="datetime64[D]"))
    with pytest.raises(
        ValueError, match="days: date is 'someday'; give calendar days, such as '2016-01-31'"
    ):
        VoltageDays(zero[:1], zero[:1], zero[:1], 1.0, "someday")
    for judge in (simulate, carry_year):
        with pytest.raises(ValueError, match="pair: there are no days; give at least one"):
            judge(pair(), battery(), days([[0.1]])[:0], Fixed([[0.0]]))
    with pytest.raises(
        ValueError, match="pair: the days have 3 buses and the feeder 2; make days of this feeder"
    ):
        three = np.zeros((1, 1, 3))
        simulate(pair(), battery(), VoltageDays(three, three, three, 1.0, date[:1]), Fixed([[0.0]]))


def test_a_battery_at_no_bus_is_refused():
    with pytest.raises(
        ValueError,
        match="pair: battery 'b' is at bus 5; buses are numbered 0 to 1, or use Batteries.at",
    ):
        simulate(pair(), battery(bus=[5]), days([[0.1]]), Fixed([[0.0]]))


def test_soc_limits_that_cross_are_refused():
    with pytest.raises(
        ValueError,
        match="battery 'b': soc_min 0.8 is above soc_max 0.2; exchange them, or give others",
    ):
        battery(soc_min=0.8, soc_max=0.2)


def test_a_bus_that_is_not_fed_is_refused():
    dark = pair(closed=[False])
    with pytest.raises(
        ValueError, match="pair: bus '1' is not fed in the normal state; close a branch to it"
    ):
        simulate(dark, battery(), days([[0.1]]), Fixed([[0.0]]))


def test_days_are_picked_by_number_slice_and_mask():
    three = days([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]])
    assert len(three) == 3 and three.n_step == 2
    assert (
        three[1].p_load[0, :, 1].tolist() == [0.3, 0.4]
        and three[1].date.tolist() == three.date[1:2].tolist()
    )
    assert len(three[1:]) == 2 and three[np.array([True, False, True])].p_load[1, 1, 1] == 0.6
    with pytest.raises(ValueError, match="read-only"):
        three.p_load[0, 0, 0] = 1.0


def test_states_are_picked_alike():
    state = VoltageState(np.eye(3), np.eye(3), np.eye(3), np.full((3, 1), 0.5), np.arange(3))
    assert len(state[1:]) == 2 and state[1:].step.tolist() == [1, 2] and state[1:].step_h is None
    known = VoltageState(
        np.eye(3), np.eye(3), np.eye(3), np.full((3, 1), 0.5), np.arange(3), 0.5, 48
    )
    assert (known[[0]].step_h, known[[0]].n_step) == (0.5, 48)
