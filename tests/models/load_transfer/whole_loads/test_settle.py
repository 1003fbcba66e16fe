"""Whole loads of one state, against every choice of loads: settle.py, program.py is tested here.

The choices are judged by the judge's AC power flow, all 2^n of them.
"""

import itertools

import numpy as np
import pytest

from feederguard.models.load_transfer import Decisions, Setting, judge, make_scenarios
from feederguard.models.load_transfer.least_shedding import (
    Candidates,
    least_shedding,
    race_topologies,
)
from feederguard.models.load_transfer.whole_loads.program import choose_least
from feederguard.models.network import GroupLimit
from feeders import feeder, row_with_spare

WHOLE = Setting("whole", True, 0.95, 1.05, whole_loads=True)
PARTLY = Setting("partly", True, 0.95, 1.05)


def best_of_all(network, scenario, closed, setting, curtail=0.0):
    """Return the least cost of all choices of loads that are safe with these branches closed."""
    loads = np.flatnonzero(scenario.p_load[0] > 0)
    shed = np.zeros((2 ** len(loads), network.n_bus))
    shed[:, loads] = list(itertools.product((0.0, 1.0), repeat=len(loads)))
    n = len(shed)
    every = Decisions(np.tile(closed, (n, 1)), shed, np.full(shed.shape, curtail))
    outcome = judge(network, scenario[np.zeros(n, dtype=np.int64)], every, setting)
    return outcome.cost[outcome.safe].min(initial=np.inf)


def drawn(seed, **given):
    """Return a feeder of ten loads that sags and is overloaded, and the fault of its spare line."""
    rng = np.random.default_rng(seed)
    network = feeder(
        "0-1 1-2 2-3 3-4 2-5 5-6 1-7 7-8 8-9 9-10 0-11",
        p_load=np.append(np.append(0.0, rng.uniform(0.02, 0.15, 10)), 0.0),
        q_load=np.append(np.append(0.0, rng.uniform(0.0, 0.05, 10)), 0.0),
        priority=np.append(rng.uniform(0.5, 2.0, 11), 1.0),
        r=0.05,
        x=0.04,
        rating=np.append(np.append(rng.uniform(0.4, 0.7), np.full(9, 0.35)), 1.0),
        **given,
    )
    scenario = make_scenarios(network, ["0-11"])
    return network, scenario, network.closed & (np.arange(network.n_branch) != 10)


@pytest.mark.parametrize("seed", range(8))
def test_no_choice_of_loads_is_cheaper(seed):
    groups = [GroupLimit("side", ("1-7",), 0.2)] if seed % 2 else []
    network, scenario, closed = drawn(seed, groups=groups)
    found = least_shedding(network, scenario, closed[None], WHOLE)
    assert found.safe[0] and set(found.shed[0]) == {0.0, 1.0}
    decision = Decisions(closed[None], found.shed, found.curtail)
    outcome = judge(network, scenario, decision, WHOLE)
    assert outcome.safe[0]
    assert outcome.cost[0] == best_of_all(network, scenario, closed, WHOLE)
    # Fractions bound it from below.
    partly = least_shedding(network, scenario, closed[None], PARTLY)
    fractions = Decisions(closed[None], partly.shed, partly.curtail)
    assert judge(network, scenario, fractions, PARTLY).cost[0] < outcome.cost[0]


def test_the_one_load_that_is_enough():
    """0.5 of 0.9 MW must go: 0.5 alone is cheaper than 0.4 and 0.2, and than a part of each."""
    network = row_with_spare([0.5, 0.4, 0.2], rating=[0.6001, 9, 9, 9])
    scenario = make_scenarios(network, ["spare"])
    closed = network.closed & (np.arange(network.n_branch) != 3)
    found = least_shedding(network, scenario, closed[None], WHOLE)
    assert found.shed[0].tolist() == [0, 1, 0, 0, 0]
    # Worth three times as much, it is kept, and the two others go.
    dear = network.with_changes(priority=[1, 3, 1, 1, 1])
    assert least_shedding(dear, scenario, closed[None], WHOLE).shed[0].tolist() == [0, 0, 1, 1, 0]


def test_generation_is_curtailed_by_any_fraction_and_no_load_is_shed_for_it():
    network = row_with_spare([0.1, 0.1], r=0.1, gen_mw=1.0)
    scenario = make_scenarios(network, ["spare"])
    closed = network.closed & (np.arange(network.n_branch) != 2)
    found = least_shedding(network, scenario, closed[None], WHOLE)
    assert found.safe[0] and not found.shed.any()
    assert 0 < found.curtail[0, 2] < 1


def test_a_state_that_nothing_makes_safe_is_none():
    network = row_with_spare([0.0, 0.1], x=0.3, q_load=[0, 0.4, 0.0, 0.0])
    scenario = make_scenarios(network, ["spare"])
    closed = network.closed & (np.arange(network.n_branch) != 2)
    assert not least_shedding(network, scenario, closed[None], WHOLE).safe[0]


def test_the_race_takes_the_state_that_is_cheapest_with_whole_loads():
    """By fractions the first state is cheaper; but its only load must go as a whole."""
    network = feeder(
        "s:0-1 a:0-2 b:0-3 u:2~1 v:3~1",
        p_load=[0, 0.4, 0.1, 0.05],
        rating=[1.0, 0.45, 0.4, 1.0, 1.0],
        priority=[1, 1, 2, 1],
        r=1e-4,
    )
    scenario = make_scenarios(network, ["s"])
    states = np.array([[0, 1, 1, 1, 0], [0, 1, 1, 0, 1]], dtype=bool)
    best = [best_of_all(network, scenario, closed, WHOLE) for closed in states]
    race = race_topologies(network, scenario, Candidates(np.array([0, 2]), states), WHOLE)
    assert race.winner[0] == int(np.argmin(best))
    assert race.cost[race.winner[0]] == pytest.approx(min(best), rel=1e-12)
    assert race.open_cost[0] == np.inf
    # No more than that is to be had, and a cutoff at that cost leaves no winner.
    none = race_topologies(
        network, scenario, Candidates(np.array([0, 2]), states), WHOLE, cutoff=np.array([min(best)])
    )
    assert none.winner[0] == -1


def test_the_program_by_hand():
    """3 x + 2 y + z >= 4 at the costs 3, 1.9, 1.2: x and z; z by half where it is no load."""
    cost, low, cuts = np.array([3.0, 1.9, 1.2]), np.zeros(3), np.array([[-3.0, -2.0, -1.0]])
    found = choose_least(cost, np.full(3, True), low, cuts, np.array([-4.0]))
    assert found.x.tolist() == [1, 0, 1] and found.bound == pytest.approx(4.2)
    found = choose_least(cost, np.array([True, True, False]), low, cuts, np.array([-3.5]))
    assert found.x == pytest.approx([1, 0, 0.5])
    assert choose_least(cost, np.full(3, True), low, cuts, np.array([-7.0])) is None
