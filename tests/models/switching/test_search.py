"""The search against enumeration, the MISOCP's proof, and its own promises."""

import numpy as np
import pytest

from feederguard.baselines.enumeration import TieEnumeration
from feederguard.baselines.misocp import Misocp
from feederguard.data.networks import load_network
from feederguard.data.profiles import load_profiles
from feederguard.data.sampling import sample_scenarios
from feederguard.models.load_transfer import Scenarios, judge
from feederguard.models.switching.plans import SwitchPlans
from feederguard.models.switching.search import search_plans


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
