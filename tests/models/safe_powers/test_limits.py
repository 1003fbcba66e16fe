"""Limits of actions by hand, on a lossless-by-hand feeder of three buses."""

import numpy as np
import pytest

from feederguard.models.battery import Batteries
from feederguard.models.power_flow import solve_power_flow
from feederguard.models.safe_powers.limits import StateLimits
from feederguard.models.soc_tube import SocTube
from feederguard.models.voltage_regulation import VoltageState
from feeders import row

NETWORK = row(3, r=0.05, x=0.0, v_min=0.95, v_max=1.05)
BATTERIES = Batteries([1, 2], [0.2, 0.4], [0.4, 0.8], name=("a", "b"))


def limits(tube=None, step_h=1.0):
    return StateLimits(NETWORK, BATTERIES, step_h, tube, 1e-5)


def state(p, soc=0.5, step=0):
    p = np.array([[0.0, 0.0, p]])
    v = np.abs(solve_power_flow(NETWORK, p, 0 * p).voltage)
    return VoltageState(p, 0 * p, v, np.full((1, 2), soc), np.array([step]))


def test_voltage_limits_by_hand():
    """w falls by 2 r p on each line; the margin of the low side is what the losses take."""
    low, high = limits().voltage(state(0.3))
    lossless = np.array([1 - 0.1 * 0.3, 1 - 0.2 * 0.3])
    true = state(0.3).v_idle[0, 1:] ** 2
    assert (true < lossless).all()
    assert low[0] == pytest.approx(0.95**2 - true, abs=1e-12)
    assert high[0] == pytest.approx(1.05**2 - lossless, abs=1e-12)


def test_without_an_idle_solution_there_is_no_margin():
    blind = state(0.3)
    blind.v_idle[:] = np.nan
    low, _ = limits().voltage(blind)
    assert low[0] == pytest.approx(0.95**2 - np.array([0.97, 0.94]), abs=1e-12)


def test_power_and_soc_limits_are_shares_of_p_max():
    low, high = limits().physical(state(0.0, soc=0.9))
    assert low[0] == pytest.approx([-1.0, -1.0])
    charging = 0.1 * BATTERIES.energy / BATTERIES.efficiency_charge / BATTERIES.p_max
    assert high[0] == pytest.approx(charging)


def test_the_tube_asks_for_no_more_than_all_have_room_for():
    """At 0.94 of squared voltage under 0.9025 the end bus has little room for charging."""
    tube = SocTube(np.full((3, 2), 0.8), np.ones((3, 2)), 1.0)
    given = limits(tube)
    heavy = state(0.3, soc=0.3)
    low, high = given.interval(heavy, given.voltage(heavy))
    room = -given.voltage(heavy)[0][0] / np.abs(given.matrices.columns.sum(axis=0))
    kappa = 0.95 / (2 * 0.95 - 1)
    assert 0 < room.min() < 1
    assert low[0] == pytest.approx(room.min() / kappa)
    assert (high[0] >= low[0]).all()


def test_bad_states_are_named():
    given = limits(SocTube(np.zeros((3, 2)), np.ones((3, 2)), 1.0))
    with pytest.raises(ValueError, match="soc of battery 'a' in item 0 is 1.5; give a fraction"):
        given.actions(state(0.0, soc=1.5), np.zeros((1, 2)))
    with pytest.raises(ValueError, match="step 2 lies outside the 2 steps of the SOC tube; comp"):
        given.actions(state(0.0, step=2), np.zeros((1, 2)))
    with pytest.raises(ValueError, match="p_proposed of battery 'b' in item 0 is inf"):
        given.actions(state(0.0), np.array([[0.0, np.inf]]))
    with pytest.raises(ValueError, match=r"expects \(1, 2\)"):
        given.actions(state(0.0), np.zeros((2, 2)))
