"""Whole loads: every method against every state of the switches with every choice of loads.

    no decision sheds a part of a load, and all are safe
    nothing that a method calls proven is beaten, and no bound lies above the best of all

Random feeders of 7 buses with two ties, some loads without active power, no generation.
"""

import itertools

import numpy as np
import pytest

from feederguard.agents.environments.load_transfer import LoadTransferVectorEnv
from feederguard.baselines.enumeration import TieEnumeration
from feederguard.baselines.genetic import Genetic
from feederguard.baselines.misocp import NOT_PROVEN, Misocp
from feederguard.baselines.plan_search import PlanSearch
from feederguard.baselines.proven_search import ProvenSearch
from feederguard.models.load_transfer import Decisions, Setting, judge, make_scenarios
from feeders import feeder

TOLERANCE = 1e-4
SETTING = Setting("whole", True, 0.95, 1.05, whole_loads=True)


def drawn(seed):
    rng = np.random.default_rng(seed)
    load = np.append(0.0, rng.uniform(0.02, 0.2, 6)) * np.append(1, rng.random(6) < 0.9)
    return feeder(
        "0-1 1-2 2-3 0-4 4-5 5-6 3~6 2~5",
        p_load=load,
        q_load=np.where(load > 0, 0.3 * load, 0.02),
        priority=rng.uniform(0.5, 2.0, 7),
        r=rng.uniform(0.02, 0.08, 8),
        x=rng.uniform(0.02, 0.06, 8),
        rating=rng.uniform(0.2, 0.6, 8),
    )


def best_of_all(network, scenario):
    """Return the least cost of all safe states and choices of loads, by the judge."""
    free = SETTING.switchable_branches(network) & ~scenario.failed_branches(8)[0]
    loads = np.flatnonzero(scenario.p_load[0] > 0)
    best = np.inf
    for flips in itertools.product((False, True), repeat=int(free.sum())):
        closed = network.closed & ~scenario.failed_branches(8)[0]
        closed[free] ^= np.array(flips)
        shed = np.zeros((2 ** len(loads), network.n_bus))
        shed[:, loads] = list(itertools.product((0.0, 1.0), repeat=len(loads)))
        n = len(shed)
        outcome = judge(
            network,
            scenario[np.zeros(n, dtype=np.int64)],
            Decisions(np.tile(closed, (n, 1)), shed),
            SETTING,
        )
        best = min(best, outcome.cost[outcome.safe].min(initial=np.inf))
    return best


@pytest.mark.parametrize("seed", range(6))
def test_every_method_against_all_there_is(seed):
    network = drawn(seed)
    scenario = make_scenarios(network, [seed % 6])
    best = best_of_all(network, scenario)
    allowed = TOLERANCE * max(best, 1.0)
    n_proven = 0
    for method in (
        PlanSearch(network, SETTING),
        ProvenSearch(network, SETTING),
        Misocp(network, SETTING, time_limit_s=20.0),
    ):
        decision = method.decide(scenario)
        report, outcome = method.reports[0], judge(network, scenario, decision, SETTING)
        assert set(np.unique(decision.shed)) <= {0.0, 1.0}
        assert outcome.safe[0], method.name
        assert outcome.cost[0] >= best - allowed
        assert report.bound <= best + allowed, method.name
        if report.bound >= outcome.cost[0] - allowed and report.reason != NOT_PROVEN:
            n_proven += 1
            assert outcome.cost[0] <= best + allowed, method.name
    assert n_proven


def test_a_part_of_a_load_is_refused_by_the_judge():
    network = drawn(0)
    scenario = make_scenarios(network, ["0-1"])
    closed = (network.closed & (np.arange(8) != 0))[None]
    half = np.zeros((1, 7))
    half[0, 2] = 0.37
    words = "judge: decision 0 sheds 0.37 of bus '2'; the whole setting sheds whole loads: 0 or 1"
    with pytest.raises(ValueError, match=words):
        judge(network, scenario, Decisions(closed, half), SETTING)
    # A bus without active demand has no load to shed.
    idle = network.with_changes(p_load=[0, 0.1, 0, 0, 0, 0, 0])
    judge(idle, make_scenarios(idle, ["0-1"]), Decisions(closed, half), SETTING)


def test_methods_that_shed_by_fractions_refuse_the_setting():
    network = drawn(0)
    meshed = Setting("whole", False, 0.9, 1.1, whole_loads=True)
    words = "sheds loads by fractions, and the whole setting sheds whole loads; use plan_search"
    with pytest.raises(ValueError, match=f"genetic {words}"):
        Genetic(network, meshed)
    with pytest.raises(ValueError, match=f"enumeration {words}"):
        TieEnumeration(network, meshed)
    with pytest.raises(ValueError, match=f"the environment {words}"):
        LoadTransferVectorEnv(network, make_scenarios(network, ["0-1"]), meshed, num_envs=1)


def test_a_meshed_setting_sheds_whole_loads_too():
    network = drawn(3)
    meshed = Setting("whole", False, 0.95, 1.05, whole_loads=True)
    scenario = make_scenarios(network, ["0-1"])
    search = ProvenSearch(network, meshed)
    decision = search.decide(scenario)
    outcome = judge(network, scenario, decision, meshed)
    assert outcome.safe[0] and set(np.unique(decision.shed)) <= {0.0, 1.0}
    by_parts = ProvenSearch(network, Setting("parts", False, 0.95, 1.05))
    by_parts.decide(scenario)
    assert by_parts.reports[0].bound <= search.reports[0].bound + 1e-6 <= outcome.cost[0] + 2e-6
