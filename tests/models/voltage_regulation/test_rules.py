"""Reward and band by hand. Every use of both is held against Pyomo in tests/laws."""

import numpy as np
import pytest

from feederguard.data.voltage_cases import load_voltage_case
from feederguard.models.power_flow import solve_power_flow
from feederguard.models.voltage_regulation.rules import (
    band_excess,
    judged_buses,
    outside_band,
    regulation_reward,
    step_rules,
)
from feeders import pair


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


def test_the_voltage_term_counts_every_bus():
    case = load_voltage_case(weeks="test")
    flow = solve_power_flow(
        case.network, case.days.p_load[0, 72] * 1.6, case.days.q_load[0, 72] * 1.6
    )
    v = np.abs(flow.voltage)
    assert (v < 0.95).sum() > 3
    by_hand = sum(min(0.0, 1000 * (0.05 - abs(1 - v[i]))) for i in range(1, case.network.n_bus))
    assert regulation_reward(case.network, np.zeros(18), v) == pytest.approx(by_hand)


def test_the_numbers_are_those_of_the_statement():
    rules = step_rules(pair(v_min=[0.9, 0.94], v_max=[1.1, 1.03]))
    assert (rules.price_per_kw, rules.price_per_pu) == (0.001, 1000.0)
    assert rules.bus.tolist() == [1]
    assert (rules.v_min.tolist(), rules.v_max.tolist()) == ([0.94], [1.03])


def test_a_feeder_is_compiled_once():
    network = pair()
    assert step_rules(network) is step_rules(network)


def test_how_far_a_voltage_is_outside():
    v = np.array([0.93, 0.95, 1.0, 1.07, np.nan])
    wanted = [0.02, 0.0, -0.05, 0.02, np.nan]
    np.testing.assert_allclose(
        outside_band(v, np.full(5, 0.95), np.full(5, 1.05)), wanted, atol=1e-15
    )
