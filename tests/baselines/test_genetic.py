"""The genetic algorithm: hand answers, reproducible from its seed, always radial."""

import networkx as nx
import numpy as np
import pytest

import feeders
from feederguard.baselines.enumeration import TieEnumeration
from feederguard.baselines.genetic import Genetic, GeneticConfig
from feederguard.data.networks import load_network
from feederguard.models.load_transfer import judge, make_scenarios
from feederguard.models.network import Network

SMALL = GeneticConfig(population=40, generations=15)

# (load at 2, load at 3, best cost in the paper setting, whether the tie e is closed then), for a
# failed b: 0.01 MW dark costs 22 * 0.1^2 = 0.22, less than the 3 of one operation; 0.06 MW dark
# costs 7.92; e carries it all for 3; of 0.12 MW e carries 0.09: 22 * 0.3^2 + 3 = 4.98, against
# 31.68 in the dark.
HAND = [(0.01, 0.0, 0.22, False), (0.03, 0.03, 3.0, True), (0.06, 0.06, 4.98, True)]


def ring(p2_mw: float, p3_mw: float, tie: bool = True) -> Network:
    """The ring of feeders.py with a paper limit of 0.09 MW."""
    return feeders.ring(p2_mw, p3_mw, tie, paper_limit_mw=0.09)


@pytest.mark.parametrize(("p2_mw", "p3_mw", "cost", "transfers"), HAND)
def test_hand_answers_in_the_paper_setting(
    p2_mw: float, p3_mw: float, cost: float, transfers: bool
) -> None:
    network = ring(p2_mw, p3_mw)
    scenarios = make_scenarios(network, "b")
    decisions = Genetic(network, "paper", SMALL).decide(scenarios)
    found = judge(network, scenarios, decisions, "paper")
    assert found.safe[0]
    assert cost - 1e-3 <= found.cost[0] <= 1.02 * cost
    assert decisions.closed[0].tolist() == [True, False, True, True, transfers]


def test_hand_answer_in_the_radial_setting() -> None:
    network = ring(0.06, 0.06)
    scenarios = make_scenarios(network, ["b", "a"])
    decisions = Genetic(network, "radial", SMALL).decide(scenarios)
    assert decisions.closed.tolist() == [
        [True, False, True, True, True],
        [False, True, True, True, True],
    ]
    assert judge(network, scenarios, decisions, "radial").cost == pytest.approx([3.0, 3.0])


@pytest.mark.parametrize("setting", ["paper", "radial"])
def test_a_feeder_that_can_do_nothing_gets_an_answer(setting: str) -> None:
    # No branch may be switched: 22 (0.12 / 0.1)^2.
    network = ring(0.06, 0.06, tie=False)
    scenarios = make_scenarios(network, "b")
    found = judge(network, scenarios, Genetic(network, setting, SMALL).decide(scenarios), setting)
    assert found.safe[0]
    assert 31.68 - 1e-9 <= found.cost[0] < 33.0


def test_hours_without_demand_have_an_answer() -> None:
    network = ring(0.06, 0.06)
    scenarios = make_scenarios(network, "b", np.zeros(5))
    found = judge(network, scenarios, Genetic(network, "paper", SMALL).decide(scenarios), "paper")
    assert found.cost[0] == 0.0


@pytest.mark.parametrize("setting", ["paper", "radial"])
def test_the_seed_decides_everything(setting: str) -> None:
    network = load_network("ieee33")
    scenarios = make_scenarios(network, [5, 14], 0.8 * network.p_load, 0.8 * network.q_load)
    first, again, other = (
        Genetic(network, setting, SMALL, seed).decide(scenarios) for seed in (3, 3, 4)
    )
    assert np.array_equal(first.closed, again.closed)
    assert np.array_equal(first.shed, again.shed)
    # In the radial setting both seeds find the optimum, which is one and the same.
    if setting == "paper":
        assert not np.array_equal(first.shed, other.shed)


def test_a_decision_does_not_depend_on_its_batch() -> None:
    network = load_network("ieee33")
    scenarios = make_scenarios(network, [5, 14], 0.8 * network.p_load, 0.8 * network.q_load)
    method = Genetic(network, "paper", SMALL, seed=3)
    together, alone = method.decide(scenarios), method.decide(scenarios[1:])
    assert np.array_equal(together.closed[1], alone.closed[0])
    assert np.array_equal(together.shed[1], alone.shed[0])


def test_safe_and_never_better_than_the_enumerated_optimum() -> None:
    network = load_network("ieee33")
    level = np.array([[0.8], [0.6]])
    scenarios = make_scenarios(network, [14, 27], level * network.p_load, level * network.q_load)
    method = Genetic(network, "paper", SMALL)
    assert method.name == "genetic"
    found = judge(network, scenarios, method.decide(scenarios), "paper")
    best = judge(network, scenarios, TieEnumeration(network, "paper").decide(scenarios), "paper")
    assert found.safe.all()
    assert (found.cost >= best.cost * (1 - 1e-4)).all()
    everything = 22 * (network.base_mva * scenarios.p_load.sum(axis=1) / 0.1) ** 2
    assert (found.cost < 0.5 * everything).all()


def test_more_generations_are_no_worse() -> None:
    network = load_network("ieee33")
    scenario = make_scenarios(network, 14, 0.8 * network.p_load, 0.8 * network.q_load)
    short, long = (
        judge(
            network,
            scenario,
            Genetic(network, "paper", GeneticConfig(40, n)).decide(scenario),
            "paper",
        )
        for n in (2, 30)
    )
    assert long.safe[0]
    assert long.cost[0] < short.cost[0] or not short.safe[0]


def test_radial_decisions_are_spanning_trees() -> None:
    network = load_network("ieee33")
    scenarios = make_scenarios(network, [2, 17, 31])
    decisions = Genetic(network, "radial", SMALL).decide(scenarios)
    assert judge(network, scenarios, decisions, "radial").safe.all()
    for closed in decisions.closed:
        graph = nx.Graph(
            zip(network.from_bus[closed].tolist(), network.to_bus[closed].tolist(), strict=True)
        )
        assert nx.is_tree(graph)
        assert graph.number_of_nodes() == network.n_bus
        assert closed.sum() == network.n_bus - 1


def test_behind_a_lost_bridge_the_normal_state_stays() -> None:
    # The first line of the 33-bus feeder is its only way out of the substation.
    network = load_network("ieee33")
    scenarios = make_scenarios(network, 0)
    found = judge(network, scenarios, Genetic(network, "radial", SMALL).decide(scenarios), "radial")
    assert found.shed_ratio[0] == pytest.approx(1.0)
    assert found.n_operations[0] == 0
