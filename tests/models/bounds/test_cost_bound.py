"""Bounds of the cost after a fault: by hand, against every state, and what theory promises.

chain_program.py is tested here.
chains.py is tested here.
demand.py is tested here.
moved_stubs.py is tested here.
rows.py is tested here.
"""

from __future__ import annotations

import numpy as np
import pytest
from brute_force import Grid
from random_feeders import HIGH, LOW, TOLERANCE, random_feeder

from feederguard.data.networks import load_network
from feederguard.models.bounds import CostBound
from feederguard.models.load_transfer import Setting, make_scenarios
from feeders import feeder, ring

FOREVER_S = 3600.0  # no answer depends on time


def bound_of(network, fault, setting="radial", load=1.0) -> float:
    scenario = make_scenarios(
        network, fault, p_load=load * network.p_load, q_load=load * network.q_load
    )
    return CostBound(network, setting).bound(scenario, time_limit_s=FOREVER_S).value


def test_a_rating_of_the_one_tie_forces_shedding() -> None:
    """Behind b lie 0.1 MW and t carries 0.04 MVA: 22 * 0.6^2 + 3, where the dark costs 22."""
    network = feeder(
        "a:0-1 b:1-2 c:0-3 t:3~2",
        p_load=[0, 0, 0.1, 0],
        r=1e-5,
        x=1e-5,
        rating=[np.inf, np.inf, np.inf, 0.04],
    )
    assert bound_of(network, "b") == pytest.approx(22 * 0.36 + 3, rel=1e-3)
    # A tenth of the load is worth no operation: 0.22 in the dark.
    assert bound_of(network, "b", load=0.1) == pytest.approx(0.22, rel=1e-3)


def test_the_voltage_at_the_end_forces_shedding() -> None:
    """From 1 pu to 0.9 pu over 1 pu of resistance flow 0.09 pu at the far end."""
    network = feeder("a:0-1 b:0~1", p_load=[0, 0.2], r=1.0, x=0.0)
    exact = 22 * 1.1**2 + 3
    found = bound_of(network, "a")
    assert 0.97 * exact < found <= exact


def test_whole_parts_may_stay_dark() -> None:
    """0.02 MW dark costs 22 * 0.2^2, the tie 3; with 0.12 MW the tie is closed."""
    assert bound_of(ring(0.01, 0.01), "b") == pytest.approx(0.88, rel=1e-3)
    assert bound_of(ring(0.06, 0.06), "b") == pytest.approx(3.0, rel=1e-3)


@pytest.mark.parametrize("seed", range(12))
def test_no_bound_is_above_the_best_of_all_states(seed: int) -> None:
    network, fault, switchable = random_feeder(seed)
    setting = Setting("radial", True, LOW, HIGH, switchable=switchable)
    case = make_scenarios(network, [fault])
    grid = Grid(network, LOW, HIGH, True, setting.switchable_branches(network))
    best = grid.best(case).cost

    found = CostBound(network, setting).bound(case, time_limit_s=FOREVER_S)

    assert found.value <= best + TOLERANCE * max(best, 1.0)
    if not (network.p_gen.any() or network.b_from.any() or network.groups):
        assert found.value >= 0.9 * best


def test_more_load_never_costs_less() -> None:
    network, fault, _ = random_feeder(20)
    bounds = [bound_of(network, fault, load=load) for load in (0.5, 1.0, 1.5)]
    assert bounds[0] < bounds[1] < bounds[2]


def test_a_known_cost_is_the_highest_bound() -> None:
    """The cheapest of all 3963 radial states after fault 29 of ieee33 costs 103.5514."""
    scenario = make_scenarios(load_network("ieee33"), "29")
    found = CostBound(load_network("ieee33"), "radial").bound(scenario, 103.5515, FOREVER_S)
    assert 0.9 * 103.5514 < found.value <= 103.5515
    assert CostBound(load_network("ieee33"), "radial").bound(scenario, 20.0).value <= 20.0


def test_settings_with_loops_have_no_bound() -> None:
    found = CostBound(ring(0.06, 0.06), "meshed")
    scenario = make_scenarios(ring(0.06, 0.06), "b")
    assert not found.applies
    assert found.bound(scenario).value == -np.inf and found.bound(scenario).reason == "no bound"
