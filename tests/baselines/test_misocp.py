"""The exact method: hand answers, agreement with enumeration, honest reports."""

import networkx as nx
import numpy as np
import pytest

import feeders
from feederguard.baselines.enumeration import TieEnumeration
from feederguard.baselines.misocp import Misocp
from feederguard.data.networks import load_network
from feederguard.data.profiles import load_profiles
from feederguard.data.sampling import sample_scenarios
from feederguard.models.load_transfer import Decisions, judge, make_scenarios
from feederguard.models.network import Network
from feederguard.models.solver import NotSolvedError

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
    decisions = Misocp(network, "paper").decide(scenarios)
    found = judge(network, scenarios, decisions, "paper")
    assert found.safe[0]
    assert found.cost[0] == pytest.approx(cost, abs=1e-3)
    assert decisions.closed[0].tolist() == [True, False, True, True, transfers]


def test_the_radial_setting_feeds_all_it_can_and_proves_it() -> None:
    network = ring(0.06, 0.06)
    scenarios = make_scenarios(network, ["b", "a"])
    method = Misocp(network, "radial")
    decisions = method.decide(scenarios)
    found = judge(network, scenarios, decisions, "radial")
    assert found.safe.all() and found.connected.all()
    assert found.cost == pytest.approx([3.0, 3.0], abs=1e-6)
    assert decisions.closed.tolist() == [
        [True, False, True, True, True],
        [False, True, True, True, True],
    ]
    assert len(method.reports) == 2
    for report, cost in zip(method.reports, found.cost, strict=True):
        assert report.reason == "converged"
        assert cost * (1 - 1e-3) <= report.bound <= cost * (1 + 1e-9)
        assert report.seconds > 0


@pytest.mark.parametrize("setting", ["paper", "radial"])
def test_a_feeder_that_can_do_nothing_gets_an_answer(setting: str) -> None:
    network = ring(0.06, 0.06, tie=False)
    scenarios = make_scenarios(network, "b")
    found = judge(network, scenarios, Misocp(network, setting).decide(scenarios), setting)
    assert found.cost[0] == pytest.approx(31.68, rel=1e-6)
    assert found.safe[0]


def test_agrees_with_enumeration_in_the_paper_setting() -> None:
    network = load_network("ieee33")
    # The model's angles are linear: where its shedding breaks an AC limit it is repaired, at little
    # cost.
    scenarios = sample_scenarios(network, load_profiles(), 2, seed=1).scenarios
    method = Misocp(network, "paper")
    solved = judge(network, scenarios, method.decide(scenarios), "paper")
    counted = judge(network, scenarios, TieEnumeration(network, "paper").decide(scenarios), "paper")
    assert solved.safe.all() and counted.safe.all()
    assert solved.cost == pytest.approx(counted.cost, rel=0.01)
    # The approximate model bounds nothing and must not say so.
    assert [report.bound for report in method.reports] == [-np.inf, -np.inf]


def test_radial_answers_on_ieee33_are_safe_spanning_trees() -> None:
    network = load_network("ieee33")
    scenarios = make_scenarios(network, [5, 24])
    decisions = Misocp(network, "radial").decide(scenarios)
    assert judge(network, scenarios, decisions, "radial").safe.all()
    for closed in decisions.closed:
        ends = zip(network.from_bus[closed].tolist(), network.to_bus[closed].tolist(), strict=True)
        assert nx.is_tree(nx.Graph(ends)) and closed.sum() == network.n_bus - 1


def test_cables_and_transformers_that_stay_dark_draw_nothing() -> None:
    """Fault b leaves 2 and 3 dark whatever is switched: 0.1 MW in units of 0.1 MW, 22 in all.

    Their cable, the iron losses and a capacitor would have nobody to feed them.
    """
    network = feeders.feeder(
        "a:0-1 b:1-2 c:2-3 d:0-4 t:4~1",
        p_load=[0.0, 0.05, 0.05, 0.05, 0.05],
        b_from=[0.0, 0.0, 0.0, 0.4, 0.0],
        b_to=[0.0, 0.0, 0.0, 0.4, 0.0],
        g_from=[0.0, 0.0, 0.0, 0.01, 0.0],
        b_shunt=[0.0, 0.0, 0.0, 0.1, 0.0],
    )
    scenarios = make_scenarios(network, "b")
    method = Misocp(network, "radial")
    found = judge(network, scenarios, method.decide(scenarios), "radial")
    assert found.safe[0] and found.n_operations[0] == 0
    assert found.cost[0] == pytest.approx(22.0, abs=1e-4)
    assert method.reports[0].bound == pytest.approx(22.0, abs=2e-3)


def test_a_tie_stays_open_where_the_dark_is_cheaper() -> None:
    """0.02 MW dark costs 22 * 0.2^2 = 0.88, the tie 3; the radial setting feeds nobody for free."""
    network = ring(0.01, 0.01)
    scenarios = make_scenarios(network, "b")
    method = Misocp(network, "radial")
    found = judge(network, scenarios, method.decide(scenarios), "radial")
    assert found.safe[0] and not found.connected[0] and found.n_operations[0] == 0
    assert found.cost[0] == pytest.approx(0.88, abs=1e-4)
    assert 0.879 < method.reports[0].bound <= 0.88 + 1e-6


def test_one_topology_whose_relaxation_is_not_tight_has_its_ac_optimum() -> None:
    """Generation lifts bus 2 above its limit, nothing can be switched, and losses cost nothing."""
    network = feeders.feeder(
        "a:0-1 b:1-2 c:0-3", p_load=[0, 0.05, 0.05, 0.05], p_gen=[0, 0, 1.0, 0], r=0.06, x=0.01
    )
    scenario = make_scenarios(network, "c")
    method = Misocp(network, "radial")
    outcome = judge(network, scenario, method.decide(scenario), "radial")
    assert outcome.safe[0]
    assert method.reports[0].bound <= outcome.cost[0] * (1 + 1e-9)


def test_no_answer_is_worse_than_its_start() -> None:
    """In 10 ms nothing is found: the start comes back, with what bound there is; e is optimal."""
    network = ring(0.06, 0.06)
    scenario = make_scenarios(network, "b")
    best = Misocp(network, "radial").decide(scenario)
    method = Misocp(network, "radial", time_limit_s=0.01)

    kept = method.decide(scenario, start=best)

    assert kept.closed.tolist() == best.closed.tolist()
    assert method.reports[0].bound <= 3.0 + 1e-9
    dark = Decisions(network.closed[None] & (np.arange(5) != 1), np.zeros((1, network.n_bus)))
    better = Misocp(network, "radial").decide(scenario, start=dark)
    assert judge(network, scenario, better, "radial").cost[0] == pytest.approx(3.0)


def test_no_feasible_decision_raises() -> None:
    # 3 Mvar at bus 1 that nobody can shed, behind a line that nobody can open.
    network = feeders.feeder("a:0-1 b:1-2 c:1~2", p_load=[0, 0.0, 0.1], q_load=[0, 3.0, 0], x=0.1)
    scenarios = make_scenarios(network, "b")
    with pytest.raises(NotSolvedError, match="infeasible"):
        Misocp(network, "radial").decide(scenarios)


@pytest.mark.slow
def test_agrees_with_enumeration_on_twelve_paper_scenarios() -> None:
    network = load_network("ieee33")
    scenarios = sample_scenarios(network, load_profiles(), 12, seed=3).scenarios
    solved = judge(network, scenarios, Misocp(network, "paper").decide(scenarios), "paper")
    counted = judge(network, scenarios, TieEnumeration(network, "paper").decide(scenarios), "paper")
    assert solved.safe.all() and counted.safe.all()
    assert solved.cost.sum() == pytest.approx(counted.cost.sum(), rel=0.01)
