"""The inequalities of the feeding direction cut off no optimum, and are left out where wrong."""

import pyomo.environ as pyo
import pytest

from feederguard.data.networks import load_network
from feederguard.models.load_transfer import make_scenarios
from feederguard.models.reconfiguration import build_load_transfer
from feederguard.models.solver import solve


def test_the_optimum_is_the_same_without_them():
    network = load_network("ieee33")
    scenario = make_scenarios(network, "23")
    costs = []
    for keep in (True, False):
        model = build_load_transfer(network, scenario, "radial")
        if not keep:
            for name in (
                "feeds_if_closed",
                "fed_once",
                "flows_forward",
                "flows_backward",
                "falls_forward",
                "falls_backward",
            ):
                model.find_component(name).deactivate()
        solve(model, time_limit_s=3600.0)
        costs.append(pyo.value(model.cost))

    assert costs[0] == pytest.approx(costs[1], rel=2e-4)


def test_a_generator_leaves_them_out():
    network = load_network("ieee33")
    generation = 0.0 * network.p_load
    generation[17] = 0.05

    quiet = build_load_transfer(network, make_scenarios(network, 5), "radial")
    producing = build_load_transfer(network, make_scenarios(network, 5, p_gen=generation), "radial")

    assert quiet.find_component("feeds") is not None
    assert producing.find_component("feeds") is None
