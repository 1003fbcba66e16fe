"""Proofs of the plan search: each bound against all radial states, and against the MISOCP."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from feederguard.baselines import proven_search
from feederguard.baselines.misocp import Misocp
from feederguard.baselines.plan_search import PlanSearch
from feederguard.baselines.proven_search import (
    BY_PROGRAM,
    EVERY_TIE,
    NOT_PROVEN,
    OPERATIONS,
    ProvenSearch,
)
from feederguard.data.networks import load_network
from feederguard.models.arrays import BoolArray
from feederguard.models.load_transfer import Report, Scenarios, judge, make_scenarios
from feederguard.models.load_transfer.least_shedding import Candidates, race_topologies
from feederguard.models.network import Network, NetworkError
from feederguard.models.network.graph import energised_buses
from feederguard.models.switching.plans import SwitchPlans
from feeders import feeder
from switched_feeder import switched_feeder


def test_every_fault_of_ieee33_is_proven_by_all_its_radial_states() -> None:
    """The bound never exceeds the cheapest of all states, and equals the cost: the optimum."""
    network = load_network("ieee33")
    scenarios = make_scenarios(network, np.flatnonzero(network.closed))
    method, plans = ProvenSearch(network, "radial"), SwitchPlans(network, "radial")

    decisions = method.decide(scenarios)

    outcomes = judge(network, scenarios, decisions, "radial")
    bounds = np.array([report.bound for report in method.reports])
    assert outcomes.safe.all()
    np.testing.assert_allclose(bounds, outcomes.cost, rtol=1e-9)
    for k in (1, 2, 21, 23, 28):
        states = plans.every(int(scenarios.fault[k]), 60_000)
        assert states is not None
        race = race_topologies(
            network, scenarios[[k]], Candidates(np.array([0, len(states)]), states), "radial"
        )
        assert race.cost[race.winner[0]] == pytest.approx(bounds[k], rel=1e-6)
    assert {report.reason.split(" (")[0] for report in method.reports} == {
        OPERATIONS,
        "every state of 1 operation",
        "every radial state",
    }


def test_layers_hold_every_state_of_their_number_of_operations() -> None:
    network = load_network("ieee33")
    fault = network.branch_index("22")
    plans = SwitchPlans(network, "radial")
    states = plans.every(fault, 60_000)
    assert states is not None
    idle = np.array([not plans.feeds_all(fault, row) for row in states])
    in_the_dark = (states[idle] != plans.dark(fault)).sum(axis=1)
    assert set(in_the_dark.tolist()) == {0, 2, 4, 6, 8}, "each closing opens one"
    states = states[~idle]
    operations = (states != plans.dark(fault)).sum(axis=1)

    layer = plans.plain(fault)[:-1]
    for n in (3, 5):
        layer = ProvenSearch(network, "radial")._next_layer(fault, layer, n)
        wanted = {row.tobytes() for row in states[operations == n]}
        assert {row.tobytes() for row in layer} == wanted and len(layer) == len(wanted)
    assert set(operations.tolist()) == {1, 3, 5, 7, 9}, "each closing beyond the first opens one"


def test_layers_prove_where_states_are_too_many_to_list(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault 22 sheds 4.4 kW.

    Its cost is just above that of three operations: all states of three operations, and
    floor(5) = 75.
    """
    monkeypatch.setattr(proven_search, "MOST_LOOPS", 0)
    network = load_network("ieee33")
    scenarios = make_scenarios(network, ["22", "2"])
    method = ProvenSearch(network, "radial", prove_s=None)

    decisions = method.decide(scenarios)

    cost = judge(network, scenarios, decisions, "radial").cost
    assert method.reports[0].reason == "every state of 3 operations"
    assert method.reports[0].bound == cost[0] == pytest.approx(27.043, abs=1e-3)
    # Fault 2 sheds so much that no layer could settle it: what is left is nine times the cost of
    # one operation.
    assert method.reports[1].reason == NOT_PROVEN
    assert method.reports[1].bound == pytest.approx(27.0) and cost[1] > 2000


def counted_states(
    network: Network, fault: str, monkeypatch: pytest.MonkeyPatch
) -> tuple[Report, int]:
    """Return the report of a proof, and how many states it looked at one by one."""
    looked = []
    look = ProvenSearch._worth_racing

    def noted(self: ProvenSearch, scenario: Scenarios, closed: BoolArray, cost: float) -> Any:
        looked.append(len(closed))
        return look(self, scenario, closed, cost)

    monkeypatch.setattr(ProvenSearch, "_worth_racing", noted)
    method = ProvenSearch(network, "radial")
    method.decide(make_scenarios(network, fault))
    return method.reports[0], sum(looked)


@pytest.mark.parametrize(
    ("fault", "bound", "n_looked"),
    [
        # 35 branches may be operated: 1 + 35 + 595 + 6545 states of at most three.
        ("22", 27.043, 7176),
        # It costs 2000: 26 operations would have to be counted, and those of three are many.
        ("2", 27.0, 631),
    ],
)
def test_states_are_counted_where_that_can_settle_the_cost(
    fault: str, bound: float, n_looked: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cables draw power though nobody else does, so that states are counted one by one."""
    network = load_network("ieee33")
    cables = network.with_changes(b_to=np.full(network.n_branch, 1e-9))

    report, looked = counted_states(cables, fault, monkeypatch)

    assert (report.reason == NOT_PROVEN) == (fault == "2")
    assert report.bound == pytest.approx(bound, abs=1e-3) and looked == n_looked


def test_counting_ends_where_generation_leaves_a_cheaper_state_unsure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Closing one tie would cost 3 if nothing had to be shed; no further state raises that."""
    network = load_network("ieee33")
    p_gen = np.zeros(network.n_bus)
    p_gen[network.bus_index("2")] = 1e-6

    report, looked = counted_states(network.with_changes(p_gen=p_gen), "22", monkeypatch)

    assert report.reason == NOT_PROVEN and report.bound == pytest.approx(3.0) and looked == 36


def test_the_program_bounds_what_no_layer_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proven_search, "MOST_LOOPS", 0)
    network = load_network("bus69")
    scenarios = make_scenarios(network, "57", 1.6 * network.p_load, 1.6 * network.q_load)
    monkeypatch.setattr(proven_search, "BOUND_S", 3600.0)
    method = ProvenSearch(network, "radial", prove_s=3600.0)

    cost = judge(network, scenarios, method.decide(scenarios), "radial").cost

    assert method.reports[0].reason == BY_PROGRAM and method.reports[0].bound <= cost[0]


def test_the_misocp_bounds_what_nothing_else_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proven_search, "MOST_LOOPS", 0)
    network = load_network("ieee33")
    scenarios = make_scenarios(network, "29")
    method = ProvenSearch(network, "radial", prove_s=3600.0)

    decisions = method.decide(scenarios)

    cost = float(judge(network, scenarios, decisions, "radial").cost[0])
    assert method.reports[0].reason == "MISOCP"
    assert cost == pytest.approx(103.5514, abs=1e-4), "the cheapest of all 3963 radial states"
    assert 0.999 * cost < method.reports[0].bound <= cost


def test_a_fault_that_cuts_off_no_load_needs_nothing() -> None:
    """Between two loadless buses nothing is closed, though a tie could feed them."""
    network = load_network("ieee33")
    loads = network.p_load.copy(), network.q_load.copy()
    for array in loads:
        array[network.bus_index("18")] = 0.0
    network = network.with_changes(p_load=loads[0], q_load=loads[1])
    scenarios = make_scenarios(network, "17")
    method = ProvenSearch(network, "radial")

    decisions = method.decide(scenarios)

    outcome = judge(network, scenarios, decisions, "radial")
    assert outcome.n_operations[0] == 0 and outcome.cost[0] == 0 and outcome.safe[0]
    assert (method.reports[0].bound, method.reports[0].reason) == (0.0, OPERATIONS)
    assert (
        judge(
            network, scenarios, PlanSearch(network, "radial").decide(scenarios), "radial"
        ).n_operations[0]
        == 0
    )


def test_dark_without_any_tie_is_proven_by_its_dark_load() -> None:
    network = load_network("ieee33")
    scenarios = make_scenarios(network, "1")
    method = ProvenSearch(network, "radial")

    outcome = judge(network, scenarios, method.decide(scenarios), "radial")

    # 3.715 MW in units of 100 kW, squared, times 22.
    assert outcome.cost[0] == pytest.approx(22 * 37.15**2)
    assert (
        method.reports[0].bound == pytest.approx(outcome.cost[0])
        and method.reports[0].reason == OPERATIONS
    )


def test_meshed_settings_are_proven_by_every_tie_state() -> None:
    network = load_network("ieee33")
    scenarios = make_scenarios(
        network, ["5", "22"], p_load=0.5 * network.p_load, q_load=0.5 * network.q_load
    )
    method = ProvenSearch(network, "paper")

    decisions = method.decide(scenarios)

    assert [report.reason for report in method.reports] == [EVERY_TIE, EVERY_TIE]
    cost = judge(network, scenarios, decisions, "paper").cost
    assert [report.bound for report in method.reports] == pytest.approx(cost.tolist())


def test_normal_states_with_a_loop_are_refused() -> None:
    network = load_network("ieee33")
    closed = network.closed.copy()
    closed[-1] = True
    with pytest.raises(
        NetworkError,
        match=r"closed in its normal state form a loop .*'24', .*'37'; open one of them.*'meshed'",
    ):
        ProvenSearch(network.with_changes(closed=closed), "radial")


def test_prove_s_must_be_positive() -> None:
    with pytest.raises(
        ValueError, match="prove_s is 0.0; give the proof some seconds, or None for none"
    ):
        ProvenSearch(load_network("ieee33"), "radial", prove_s=0.0)


@pytest.mark.parametrize("method", [ProvenSearch, PlanSearch, Misocp])
def test_a_dead_substation_feeds_nothing(method: type) -> None:
    """Its five buses of 150 kW go to the other one by a tie: cost 3, where dark costs 49.5."""
    network = switched_feeder(p_load=[0.0 if bus in (0, 6) else bus / 100 for bus in range(12)])
    scenario = make_scenarios(network, ["bus:0"])

    decision = method(network, "radial").decide(scenario)

    outcome = judge(network, scenario, decision, "radial")
    closed = {network.branch_name[b] for b in np.flatnonzero(decision.closed[0])}
    assert outcome.safe[0] and outcome.cost[0] == pytest.approx(3.0, abs=1e-3)
    assert "a" not in closed and len(closed & {"t", "u"}) == 1
    fed = energised_buses(network, decision.closed[0] & ~np.isin(network.branch_name, ["a"]))
    assert fed.all()


@pytest.mark.parametrize("method", [ProvenSearch, PlanSearch, Misocp])
def test_of_two_parts_that_are_cut_off_the_small_one_stays_dark(method: type) -> None:
    """10 kW dark cost 0.22; feeding them takes a second operation, which costs 9 more."""
    network = feeder(
        "a:0-1 b:0-2 c:2-3 d:0-4 s:4~1 t:4~3", p_load=[0, 0.01, 0.1, 0.2, 0.1], rating=1.0
    )
    scenario = make_scenarios(network, [("a", "b")])
    search = method(network, "radial")

    decision = search.decide(scenario)

    outcome = judge(network, scenario, decision, "radial")
    assert outcome.safe[0] and outcome.cost[0] == pytest.approx(3.22, rel=1e-3)
    closed = {network.branch_name[b] for b in np.flatnonzero(decision.closed[0])}
    assert closed == {"c", "d", "t"}
    assert search.reports[0].bound <= 3.22 + 1e-9
    if method is ProvenSearch:
        assert search.reports[0].bound == pytest.approx(outcome.cost[0])
