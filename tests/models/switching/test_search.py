"""The search against enumeration, the MISOCP's proof, every state, and its own promises.

budget.py and racing.py are tested here.
"""

import numpy as np
import pytest

from feederguard.baselines.enumeration import TieEnumeration
from feederguard.baselines.misocp import Misocp
from feederguard.data.networks import load_network
from feederguard.data.profiles import load_profiles
from feederguard.data.sampling import sample_scenarios
from feederguard.models.load_transfer import Scenarios, judge, make_scenarios
from feederguard.models.load_transfer.least_shedding import Candidates, race_topologies
from feederguard.models.network import Network
from feederguard.models.switching.budget import Budget
from feederguard.models.switching.plans import SwitchPlans
from feederguard.models.switching.search import search_plans
from feeders import feeder


def heavy(count: int, seed: int, factor: float) -> Scenarios:
    network = load_network("ieee33")
    some = sample_scenarios(network, load_profiles(), count, seed).scenarios
    return Scenarios(some.fault, factor * some.p_load, factor * some.q_load, some.p_gen)


def test_paper_setting_equals_the_enumeration_by_ipopt() -> None:
    network, scenarios = load_network("ieee33"), heavy(4, 11, 1.0)
    found = search_plans(SwitchPlans(network, "paper"), scenarios)
    exact = judge(network, scenarios, TieEnumeration(network, "paper").decide(scenarios), "paper")
    assert found.cost == pytest.approx(exact.cost, rel=2e-3)


def test_radial_setting_reaches_the_proven_optimum() -> None:
    network, scenarios = load_network("ieee33"), heavy(6, 4, 1.5)
    found = search_plans(SwitchPlans(network, "radial"), scenarios, beam=8)
    assert (found.cost > 3.0).any()
    method = Misocp(network, "radial", time_limit_s=3600.0)
    method.decide(scenarios)
    bounds = np.array([report.bound for report in method.reports])
    assert (found.cost >= bounds * (1 - 1e-6)).all()
    assert found.cost.sum() == pytest.approx(bounds.sum(), rel=1e-2)


@pytest.mark.parametrize("setting", ["paper", "radial"])
def test_cost_is_the_judges_and_every_plan_safe(setting: str) -> None:
    network, scenarios = load_network("ieee33"), heavy(30, 3, 1.3)
    found = search_plans(SwitchPlans(network, setting), scenarios)
    outcome = judge(network, scenarios, found.decisions, setting)
    assert outcome.safe.all()
    assert outcome.cost == pytest.approx(found.cost, rel=1e-9)


def test_more_rounds_never_cost_more() -> None:
    network, scenarios = load_network("ieee33"), heavy(30, 3, 1.5)
    plans = SwitchPlans(network, "radial")
    costs = [search_plans(plans, scenarios, max_rounds=rounds).cost for rounds in (0, 1, 3)]
    assert (costs[1] <= costs[0] + 1e-9).all() and (costs[2] <= costs[1] + 1e-9).all()
    assert costs[2].sum() < 0.9 * costs[0].sum()


def test_start_plans_are_the_only_ones_without_rounds() -> None:
    network, scenarios = load_network("ieee33"), heavy(5, 1, 1.0)
    plans = SwitchPlans(network, "paper")
    start = [plans.plain(fault)[3:4] for fault in scenarios.fault.tolist()]
    found = search_plans(plans, scenarios, start, max_rounds=0)
    assert (found.closed == np.concatenate(start)).all()


def three_feeders(seed: int) -> Network:
    """Return three overloaded feeders of four buses each and five ties, with random loads."""
    p = np.concatenate([[0.0], np.random.default_rng(seed).uniform(0.2, 0.8, 12).round(2)])
    return feeder(
        "a:0-1 b:1-2 c:2-3 d:3-4 e:0-5 f:5-6 g:6-7 h:7-8 i:0-9 j:9-10 k:10-11 l:11-12 "
        "s:4~8 t:2~6 u:7~11 v:8~12 w:6~10",
        p_load=p,
        q_load=0.3 * p,
        rating=1.9,
        v_min=0.8,
        r=0.005,
        x=0.005,
    )


def best_of_all(network: Network, fault: str) -> float:
    scenarios = make_scenarios(network, [fault])
    states = SwitchPlans(network, "radial").every(scenarios.lost(0), 20_000)
    assert states is not None
    candidates = Candidates(np.array([0, len(states)]), states)
    race = race_topologies(network, scenarios, candidates, "radial")
    return float(race.cost[race.winner[0]])


@pytest.mark.parametrize("seed", range(5))
def test_overloaded_feeders_reach_the_best_of_all_states(seed: int) -> None:
    network = three_feeders(seed)
    found = search_plans(SwitchPlans(network, "radial"), make_scenarios(network, ["a", "b", "i"]))
    best = [best_of_all(network, fault) for fault in ("a", "b", "i")]
    assert found.cost == pytest.approx(best, rel=1e-6)


def test_walks_go_on_where_no_single_exchange_helps() -> None:
    network = three_feeders(22)
    plans, scenarios = SwitchPlans(network, "radial"), make_scenarios(network, ["b"])
    start = [plans.plain(scenarios.lost(0))]
    stuck = search_plans(plans, scenarios, start, beam=1, max_rounds=20).cost[0]
    best = best_of_all(network, "b")
    assert stuck > best + 1.0
    assert search_plans(plans, scenarios).cost[0] == pytest.approx(best, rel=1e-6)


def test_more_flows_never_cost_more_and_the_same_flows_cost_the_same() -> None:
    network = load_network("mantovani136")
    network = network.with_changes(p_load=1.6 * network.p_load, q_load=1.6 * network.q_load)
    plans, scenarios = SwitchPlans(network, "radial"), make_scenarios(network, ["81"])
    found = [search_plans(plans, scenarios, max_flows=most) for most in (20, 200, 400, 800, 800)]
    costs = [part.cost[0] for part in found]
    assert costs == sorted(costs, reverse=True)
    assert costs[2] < 0.9 * costs[0] and costs[3] == costs[4]
    assert (found[3].closed == found[4].closed).all()
    assert (found[3].shed == found[4].shed).all()
    assert all(
        part.n_flows[0] <= most + 200 for part, most in zip(found, (20, 200, 400), strict=False)
    )


def test_a_limit_of_time_still_gives_a_safe_decision_for_each_scenario() -> None:
    network = three_feeders(22)
    scenarios = make_scenarios(network, ["a", "b", "i"])
    found = search_plans(SwitchPlans(network, "radial"), scenarios, time_limit_s=1e-6)
    assert judge(network, scenarios, found.decisions, "radial").safe.all()
    assert np.isfinite(found.cost).all()


def test_limits_must_be_positive() -> None:
    with pytest.raises(ValueError, match="time_limit_s is 0; give a positive number"):
        Budget(time_limit_s=0)
    with pytest.raises(ValueError, match="max_flows is -1; give a positive number"):
        Budget(max_flows=-1)


def test_a_budget_allows_what_is_left() -> None:
    budget = Budget(max_flows=10)
    budget.spend(7)
    assert budget.allows(3) and not budget.allows(4)
    assert budget.limited and budget.slice_s() == np.inf and not Budget().limited
