"""Every tie state tried: hand answers, the best of all states, and refusals."""

import itertools

import numpy as np
import pytest

import feeders
from feederguard.baselines.enumeration import TieEnumeration
from feederguard.data.networks import load_network
from feederguard.models.load_transfer import Decisions, Setting, judge, make_scenarios
from feederguard.models.load_transfer.shedding_opf import LeastSheddingSolver
from feederguard.models.network import Network

# (load at 2, load at 3, best cost in the paper setting, whether the tie e is closed then), for a
# failed b: 0.01 MW dark costs 22 * 0.1^2 = 0.22, less than the 3 of one operation; 0.06 MW dark
# costs 7.92; e carries it all for 3; of 0.12 MW e carries 0.09: 22 * 0.3^2 + 3 = 4.98, against
# 31.68 in the dark.
HAND = [(0.01, 0.0, 0.22, False), (0.03, 0.03, 3.0, True), (0.06, 0.06, 4.98, True)]


def ring(p2_mw: float, p3_mw: float, tie: bool = True) -> Network:
    """The ring of feeders.py with a paper limit of 0.09 MW."""
    return feeders.ring(p2_mw, p3_mw, tie, paper_limit_mw=0.09)


@pytest.mark.parametrize(("p2_mw", "p3_mw", "cost", "transfers"), HAND)
def test_hand_answers(p2_mw: float, p3_mw: float, cost: float, transfers: bool) -> None:
    network = ring(p2_mw, p3_mw)
    scenarios = make_scenarios(network, "b")
    method = TieEnumeration(network, "paper")
    assert method.name == "enumeration"
    decisions = method.decide(scenarios)
    found = judge(network, scenarios, decisions, "paper")
    assert found.safe[0]
    assert found.cost[0] == pytest.approx(cost, abs=1e-4)
    assert decisions.closed[0].tolist() == [True, False, True, True, transfers]
    assert method.reports[0].bound == pytest.approx(found.cost[0], rel=1e-9)
    assert method.reports[0].reason == "enumerated"


def test_scenarios_are_answered_in_order() -> None:
    network = ring(0.06, 0.06)
    level = np.array([[1.0], [0.5], [1.0]])
    scenarios = make_scenarios(network, ["b", "b", "c"], level * network.p_load)
    found = judge(network, scenarios, TieEnumeration(network, "paper").decide(scenarios), "paper")
    # c lost: bus 3 alone, 0.06 MW, through e for 3.
    assert found.cost == pytest.approx([4.98, 3.0, 3.0], abs=1e-4)


def test_no_state_of_ieee33_is_better() -> None:
    network = load_network("ieee33")
    scenario = make_scenarios(network, 14, 0.8 * network.p_load, 0.8 * network.q_load)
    chosen = judge(network, scenario, TieEnumeration(network, "paper").decide(scenario), "paper")
    assert chosen.safe[0]
    least = LeastSheddingSolver(network, "paper")
    ties = np.flatnonzero(network.is_tie)
    costs = []
    for state in itertools.product([False, True], repeat=len(ties)):
        closed = network.closed.copy()
        closed[14] = False
        closed[ties] = state
        answer = least.solve(scenario, closed)
        if answer.found:
            found = judge(network, scenario, Decisions(closed[None], answer.shed[None]), "paper")
            costs.append(found.cost[0] if found.safe[0] else np.inf)
    assert len(costs) > 16
    assert chosen.cost[0] == pytest.approx(min(costs), rel=1e-6)


def test_a_feeder_without_ties_has_one_state() -> None:
    # 22 (0.12 / 0.1)^2: the normal state is the only answer.
    network = ring(0.06, 0.06, tie=False)
    scenarios = make_scenarios(network, "b")
    found = judge(network, scenarios, TieEnumeration(network, "paper").decide(scenarios), "paper")
    assert found.cost[0] == pytest.approx(31.68)


def test_the_loss_of_the_only_tie_leaves_one_state() -> None:
    network = ring(0.03, 0.03)
    scenarios = make_scenarios(network, "e")
    found = judge(network, scenarios, TieEnumeration(network, "paper").decide(scenarios), "paper")
    assert found.cost[0] == pytest.approx(0.0)


def test_what_cannot_be_counted_is_refused() -> None:
    with pytest.raises(ValueError, match="in the radial setting of ieee33; it takes meshed"):
        TieEnumeration(load_network("ieee33"), "radial")
    many = Setting("many", False, 0.9, 1.1, 1.0)
    with pytest.raises(
        ValueError,
        match="21 of them in the many setting of mantovani136; it takes meshed .* at most 12",
    ):
        TieEnumeration(load_network("mantovani136"), many)
