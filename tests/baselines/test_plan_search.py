"""The unlearned search: the best of all tie states, its claims, and where nothing is safe."""

import itertools

import numpy as np
import pytest
from pandapower.networks import create_cigre_network_mv

from feederguard.baselines.enumeration import TieEnumeration
from feederguard.baselines.no_transfer import NoTransfer
from feederguard.baselines.plan_search import LOCAL, PlanSearch
from feederguard.data.networks import load_network
from feederguard.models.load_transfer import (
    Decisions,
    Scenarios,
    judge,
    make_scenarios,
    resolve_setting,
)
from feederguard.models.load_transfer.least_shedding import least_shedding
from feederguard.models.load_transfer.setting import faultable_branches
from feederguard.models.network import Network
from feeders import feeder


def some_scenarios(count: int) -> Scenarios:
    network = load_network("ieee33")
    rng = np.random.default_rng(3)
    scale = rng.uniform(0.3, 0.9, (count, 1))
    fault = rng.choice(faultable_branches(network), count)
    return make_scenarios(network, fault, scale * network.p_load, scale * network.q_load)


def test_in_a_meshed_setting_it_is_the_best_of_every_tie_state() -> None:
    network, scenarios = load_network("ieee33"), some_scenarios(8)
    method = PlanSearch(network, "paper")
    outcome = judge(network, scenarios, method.decide(scenarios), "paper")
    best = np.full(8, np.inf)
    for state in itertools.product([False, True], repeat=5):
        closed = np.tile(network.closed, (8, 1))
        closed[:, network.is_tie] = state
        closed[np.arange(8), scenarios.fault] = False
        least = least_shedding(network, scenarios, closed, "paper")
        judged = judge(network, scenarios, Decisions(closed, least.shed), "paper")
        best = np.where(judged.safe, np.minimum(best, judged.cost), best)

    assert outcome.safe.all()
    np.testing.assert_allclose(outcome.cost, best, rtol=1e-6)
    assert [report.reason for report in method.reports] == ["every state tried"] * 8
    np.testing.assert_allclose([report.bound for report in method.reports], outcome.cost, rtol=1e-9)


def test_with_generation_it_claims_no_bound() -> None:
    """Least shedding is then a local optimum: random feeder 93 was beaten by 0.34 % so."""
    network = feeder("a:0-1 b:1-2 t:0~2", p_load=[0, 0.1, 0.1], paper_limit_mw=1.0)
    for made, bounded in ((0.0, True), (0.05, False)):
        method = PlanSearch(network, "paper")
        method.decide(make_scenarios(network, "a", p_gen=[0, made, 0]))
        assert np.isfinite(method.reports[0].bound) == bounded
        assert (method.reports[0].reason == LOCAL) is not bounded


def test_it_finds_what_the_enumeration_by_ac_opf_finds() -> None:
    network, scenarios = load_network("ieee33"), some_scenarios(3)
    ours = judge(network, scenarios, PlanSearch(network, "paper").decide(scenarios), "paper")
    exact = judge(network, scenarios, TieEnumeration(network, "paper").decide(scenarios), "paper")
    np.testing.assert_allclose(ours.cost, exact.cost, rtol=2e-3)


def test_in_a_radial_setting_it_is_safe_and_claims_no_bound() -> None:
    network, scenarios = load_network("ieee33"), some_scenarios(8)
    method = PlanSearch(network, "radial")
    outcome = judge(network, scenarios, method.decide(scenarios), "radial")
    idle = judge(network, scenarios, NoTransfer(network).decide(scenarios), "radial")
    assert outcome.safe.all()
    assert (outcome.cost <= idle.cost + 1e-9)[idle.safe].all()
    assert all(report.bound == -np.inf and report.reason == "searched" for report in method.reports)


def test_more_rounds_never_cost_more() -> None:
    network, scenarios = load_network("ieee33"), some_scenarios(8)
    short, long = (
        judge(
            network,
            scenarios,
            PlanSearch(network, "radial", max_rounds=rounds).decide(scenarios),
            "radial",
        ).cost
        for rounds in (0, 3)
    )
    assert (long <= short + 1e-9).all()


def test_where_nothing_is_safe_what_lies_behind_the_fault_stays_dark() -> None:
    # 3 Mvar at bus 1 that nobody can shed, behind a line that nobody can open.
    network = feeder("a:0-1 b:1-2 c:1~2", p_load=[0, 0, 0.1], q_load=[0, 3.0, 0], x=0.1)
    scenarios = make_scenarios(network, ["b"] * 2)
    method = PlanSearch(network, "radial")
    decisions = method.decide(scenarios)
    np.testing.assert_array_equal(decisions.closed, NoTransfer(network).decide(scenarios).closed)
    assert not judge(network, scenarios, decisions, "radial").safe.any()
    assert [report.reason for report in method.reports] == ["no plan tried can be made safe"] * 2
    assert all(report.bound == -np.inf for report in method.reports)


@pytest.mark.parametrize(
    ("beam", "rounds", "words"), [(0, 4, "beam is 0"), (4, -1, "max_rounds is -1")]
)
def test_wrong_sizes_are_refused(beam: int, rounds: int, words: str) -> None:
    network = load_network("ieee33")
    with pytest.raises(ValueError, match=words):
        PlanSearch(network, resolve_setting(network, "paper"), beam, rounds)


@pytest.mark.filterwarnings("ignore")
def test_only_switches_that_the_source_net_has_are_operated() -> None:
    """On create_cigre_network_mv, three of whose lines have load-break switches."""
    net = create_cigre_network_mv()
    net.line["name"] = [f"line {index}" for index in net.line.index]
    network = Network.from_pandapower(net)
    lines = net.line.index[network.closed[: len(net.line)]]
    scenarios = make_scenarios(network, [f"line {index}" for index in lines])

    decisions = PlanSearch(network, "radial").decide(scenarios)

    moved = (decisions.closed != network.closed) & ~scenarios.failed_branches(network.n_branch)
    operated = {network.branch_name[b] for b in np.flatnonzero(moved.any(axis=0))}
    switched = net.switch[net.switch["et"] == "l"]["element"]
    trafos = {
        name
        for name, kind in zip(network.branch_name, network.kind, strict=True)
        if kind == "trafo"
    }
    assert operated <= {f"line {index}" for index in switched} | trafos
    assert not (decisions.closed & scenarios.failed_branches(network.n_branch)).any()
