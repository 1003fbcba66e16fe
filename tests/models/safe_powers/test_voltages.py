"""AC voltages of a few items come from the kernel directly, of many from the power flow."""

import inspect

import numpy as np
import pytest

from feederguard.data.networks import load_network
from feederguard.models.battery import Batteries
from feederguard.models.power_flow import solve_power_flow
from feederguard.models.safe_powers.voltages import FLOW_ITERATIONS, FLOW_TOLERANCE_MVA, AcVoltages


@pytest.fixture(scope="module")
def ac():
    network = load_network("ieee33")
    return AcVoltages(network, Batteries.at(network, ["18", "33"], 0.5, 2.0))


def test_few_items_have_the_flows_of_many(ac):
    """The short way is the same kernel with the same limits; no solution is NaN."""
    p = ac.network.p_load * np.array([[0.5], [1.0], [1.2], [-0.5], [1e3]])
    q = np.broadcast_to(ac.network.q_load, p.shape).copy()
    found = ac.solve(p, q)
    np.testing.assert_array_equal(found, solve_power_flow(ac.network, p, q).voltage)
    assert np.isnan(found[4]).all() and np.isfinite(found[:4]).all()
    many = ac.solve(np.tile(p, (4, 1)), np.tile(q, (4, 1)))
    np.testing.assert_allclose(many[:5], found, rtol=1e-12)


def test_its_limits_are_those_of_the_power_flow():
    known = inspect.signature(solve_power_flow).parameters
    assert known["tolerance_mva"].default == FLOW_TOLERANCE_MVA
    assert known["max_iterations"].default == FLOW_ITERATIONS


def test_an_action_of_one_draws_the_whole_power_of_a_battery(ac):
    drawn = ac.demand(np.zeros((1, 33)), np.array([[1.0, -0.5]]))[0]
    assert drawn[17] == 0.5 / ac.network.base_mva and drawn[32] == -0.25 / ac.network.base_mva
    assert np.count_nonzero(drawn) == 2
