"""Parallel branches as one feed, in every search: by hand, pandapower, and every switch state."""

import itertools

import networkx as nx
import numpy as np
import pandapower as pp
import pytest

from feederguard.baselines.enumeration import TieEnumeration
from feederguard.baselines.genetic import Genetic, GeneticConfig
from feederguard.baselines.misocp import Misocp
from feederguard.baselines.plan_search import PlanSearch
from feederguard.baselines.proven_search import ProvenSearch
from feederguard.models.load_transfer import Decisions, Setting, judge, resolve_setting
from feederguard.models.load_transfer.scenario import make_scenarios
from feederguard.models.load_transfer.setting import faultable_branches
from feederguard.models.load_transfer.shedding_opf import LeastSheddingSolver
from feederguard.models.network import NetworkError
from feederguard.models.network.graph import energised_buses
from feederguard.models.power_flow import solve_power_flow
from feederguard.models.switching.plans import SwitchPlans
from feederguard.models.switching.sequence import order_operations
from feeders import feeder

SEARCHES = (ProvenSearch, PlanSearch, Misocp)


def pair_in_ring(**given):
    """Return a ring of 1.5 MW: two cables a, b of unequal impedance, then c and d; t closes it."""
    return feeder(
        "a:0-1 b:1-0 c:1-2 d:2-3 t:0~3",
        **{"p_load": [0, 0.5, 0.5, 0.5], "x": [0.01, 0.03, 0.01, 0.01, 0.01], **given},
    )


def decide(network, search, fault, setting="radial"):
    scenario = make_scenarios(network, [fault])
    decision = search(network, setting).decide(scenario)
    closed = {n for n, c in zip(network.branch_name, decision.closed[0], strict=True) if c}
    return closed, decision, judge(network, scenario, decision, setting)


@pytest.mark.parametrize("search", SEARCHES)
def test_losing_one_of_two_cables_costs_nothing(search):
    for fault, mate in (("a", "b"), ("b", "a")):
        closed, _, outcome = decide(pair_in_ring(), search, fault)

        assert closed == {mate, "c", "d"}
        assert outcome.safe[0] and outcome.n_operations[0] == 0
        assert outcome.cost[0] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("search", SEARCHES)
def test_the_cable_that_stays_keeps_its_own_rating(search):
    """b alone may carry 1.2 MW: the tie takes over bus 3, and d opens; two operations, 12."""
    network = pair_in_ring(rating=[2.0, 1.2, 2.0, 2.0, 2.0])

    closed, _, outcome = decide(network, search, "a")

    assert outcome.safe[0] and outcome.n_operations[0] == 2
    assert outcome.cost[0] == pytest.approx(12, rel=1e-4)
    assert "t" in closed


@pytest.mark.parametrize("search", SEARCHES)
def test_two_cables_switch_as_one_operation(search):
    """Line c fails and t feeds buses 2, 3. The two cables m, n of a tie close as one: cost 3."""
    network = feeder(
        "a:0-1 c:1-2 d:2-3 m:0~3 n:3~0",
        p_load=[0, 0.5, 0.5, 0.5],
        rating=[2.0, 2.0, 2.0, 0.6, 0.6],
        kind=["line", "line", "line", "tie", "tie"],
    )

    closed, decision, outcome = decide(network, search, "c")

    assert closed == {"a", "d", "m", "n"}
    assert outcome.safe[0] and outcome.n_operations[0] == 1
    assert outcome.cost[0] == pytest.approx(3, rel=1e-4)
    (sequence,) = order_operations(network, make_scenarios(network, ["c"]), decision, "radial")
    assert sequence.operations[0].branches == (3, 4)


def test_one_of_two_cables_alone_is_not_switched():
    network = pair_in_ring()
    decision = Decisions(np.array([[True, False, True, True, False]]), np.zeros((1, 4)))
    with pytest.raises(ValueError, match="one of the parallel branches 'a' and 'b'; they are one"):
        judge(network, make_scenarios(network, ["t"]), decision, "radial")


def test_cables_of_a_tie_are_one_in_meshed_settings_too():
    network = feeder("a:0-1 b:1-2 m:0~2 n:2~0 t:1~2", p_load=[0, 0.5, 0.5])
    loops = Setting("loops", False, 0.9, 1.1)
    assert SwitchPlans(network, loops).n_states(1) == 4
    for search in (*SEARCHES, TieEnumeration):
        closed, _, outcome = decide(network, search, "b", loops)

        assert outcome.safe[0] and outcome.n_operations[0] == 1
        assert closed in ({"a", "m", "n"}, {"a", "t"})


def test_a_chromosome_holds_a_team_together():
    network = pair_in_ring(rating=[2.0, 1.2, 2.0, 2.0, 2.0])
    scenario = make_scenarios(network, ["d"])
    small = GeneticConfig(population=20, generations=5)

    decision = Genetic(network, "radial", small).decide(scenario)

    assert judge(network, scenario, decision, "radial").safe[0]


def test_shares_of_unequal_cables_are_those_of_pandapower():
    """Currents share as 1 / z; the judge's flow is pandapower's to 1e-8 pu."""
    network = pair_in_ring(q_load=[0, 0.1, 0.2, 0.1], rating=2.0)
    flow = solve_power_flow(network)
    net = network.to_pandapower()
    pp.runpp(net, tolerance_mva=1e-12)

    np.testing.assert_allclose(abs(flow.voltage), net.res_bus["vm_pu"], atol=1e-8)
    into_a, into_b = flow.series_current[0], -flow.series_current[1]
    assert into_a * network.z[0] == pytest.approx(into_b * network.z[1])


@pytest.mark.parametrize("search", SEARCHES)
def test_two_transformers_side_by_side_are_one_feeding_point(search):
    """Either may fail by name; the one of 0.7 MVA alone cannot carry 1 MW, and load is shed."""
    network = feeder(
        "T1:0-1 T2:0-1 l:1-2 m:1-3 t:2~3",
        x=[0.05, 0.08, 0.01, 0.01, 0.01],
        r=[0.001, 0.001, 0.01, 0.01, 0.01],
        kind=["trafo", "trafo", "line", "line", "tie"],
        p_load=[0, 0, 0.5, 0.5],
        rating=[1.5, 0.7, 1.5, 1.5, 1.5],
    )

    closed, decision, outcome = decide(network, search, "T2")
    assert closed == {"T1", "l", "m"}
    assert outcome.safe[0] and outcome.cost[0] == pytest.approx(0, abs=1e-6)
    closed, decision, outcome = decide(network, search, "T1")
    assert closed == {"T2", "l", "m"} and outcome.safe[0]
    assert 0.29 < (decision.shed[0] * network.p_load).sum() < 0.36
    assert faultable_branches(network).tolist() == [2, 3]
    assert faultable_branches(network, ("line", "trafo")).tolist() == [0, 1, 2, 3]


def test_the_meshed_setting_allows_loops_within_ratings_and_the_limits_of_the_network():
    """A closed ring loses l: radial refuses its normal state, meshed sheds for the rating of m."""
    network = feeder(
        "l:0-1 m:0-2 n:1-2 t:1~2", p_load=[0, 0.5, 0.5], rating=[2.0, 0.8, 2.0, 2.0], v_min=0.97
    )
    with pytest.raises(NetworkError, match=r"form a loop .*'l', 'm', 'n'.* the setting 'meshed'"):
        ProvenSearch(network, "radial")

    for search in (ProvenSearch, PlanSearch, Misocp, TieEnumeration):
        _, decision, outcome = decide(network, search, "l", "meshed")
        assert outcome.safe[0] and outcome.max_loading[0] == pytest.approx(1.0, abs=1e-3)
        assert 0.19 < (decision.shed[0] * network.p_load).sum() < 0.23
    unlimited = network.with_changes(rating=np.full(4, 2.0), v_min=np.full(3, 0.995))
    _, _, outcome = decide(unlimited, PlanSearch, "l", "meshed")
    assert outcome.safe[0] and outcome.v_min_pu[0] >= 0.995 - 1e-5


def test_two_transformers_with_a_coupler_feed_one_busbar():
    """The outage of either costs nothing while the other carries all, as pandapower confirms."""
    network = feeder(
        "T1:0-1 T2:0-2 k:1-2 f:1-3 g:2-4 t:3~4",
        x=[0.05, 0.06, 1e-12, 0.01, 0.01, 0.01],
        r=[0.001, 0.001, 0.0, 0.01, 0.01, 0.01],
        kind=["trafo", "trafo", "coupler", "line", "line", "tie"],
        p_load=[0, 0, 0, 0.5, 0.5],
        rating=1.5,
    )
    for fault, mate in (("T1", "T2"), ("T2", "T1")):
        for search in SEARCHES:
            closed, _, outcome = decide(network, search, fault)

            assert closed == {mate, "k", "f", "g"}
            assert outcome.safe[0] and outcome.n_operations[0] == 0
    _, _, outcome = decide(network, ProvenSearch, "g")
    assert outcome.safe[0] and outcome.n_operations[0] == 1


def random_feeder(rng):
    """Return a feeder with parallel lines and spares, half with a coupler; None if not radial."""
    n_bus = int(rng.integers(5, 8))
    lines = [(int(rng.integers(max(0, j - 3), j)), j, "-") for j in range(1, n_bus)]
    lines += [(*rng.choice(n_bus, 2, replace=False).tolist(), "~") for _ in range(2)]
    for _ in range(int(rng.integers(1, 3))):
        i, j, mark = lines[rng.integers(len(lines))]
        i, j = (j, i) if rng.random() < 0.5 else (i, j)
        lines.append((i, j, mark if rng.random() < 0.7 else "~"))
    kind = [{"-": "line", "~": "tie"}[line[2]] for line in lines]
    r, x = rng.uniform(0.002, 0.03, (2, len(lines) + 1))
    if rng.random() < 0.5:
        # Bus `old` becomes two busbars; each end that was there lies at one of them.
        old, new = int(rng.integers(0, n_bus)), n_bus
        at = [[new if b == old and rng.random() < 0.5 else b for b in line[:2]] for line in lines]
        lines = [(*ends, line[2]) for ends, line in zip(at, lines, strict=True)]
        lines.append((old, new, "-" if rng.random() < 0.7 else "~"))
        kind.append("coupler")
        r[len(lines) - 1], x[len(lines) - 1], n_bus = 0.0, 1e-12, n_bus + 1
    graph = nx.Graph([line[:2] for line in lines])
    if len(graph) < n_bus or not nx.is_connected(graph):
        return None
    network = feeder(
        " ".join(f"b{k}:{i}{mark}{j}" for k, (i, j, mark) in enumerate(lines)),
        p_load=np.append(0, rng.uniform(0.1, 0.5, n_bus - 1)),
        q_load=np.append(0, rng.uniform(0.0, 0.2, n_bus - 1)),
        r=r[: len(lines)],
        x=x[: len(lines)],
        kind=kind,
        rating=rng.uniform(0.5, 2.0, len(lines)),
    )
    whole = energised_buses(network, network.closed).all()
    return network if whole and loops(network, network.closed) == 0 else None


def loops(network, closed):
    """Return how many loops the live feeds form; busbars are contracted by networkx."""
    ends = list(zip(network.from_bus.tolist(), network.to_bus.tolist(), strict=True))
    bars = nx.Graph([(i, i) for i in range(network.n_bus)])
    coupler = np.array(network.kind) == "coupler"
    bars.add_edges_from(ends[b] for b in np.flatnonzero(closed & coupler))
    bar = {i: k for k, part in enumerate(nx.connected_components(bars)) for i in part}
    graph = nx.Graph([(bar[ends[b][0]], bar[ends[b][1]]) for b in np.flatnonzero(closed)])
    graph.remove_edges_from(list(nx.selfloop_edges(graph)))
    graph.add_node(bar[0])
    live = graph.subgraph(nx.node_connected_component(graph, bar[0]))
    return live.number_of_edges() - live.number_of_nodes() + 1


def every_state(network, setting, fault):
    """Return all radial states, their operations, and whether they feed what can be fed."""
    free = setting.switchable_branches(network)
    start = network.closed.copy()
    start[fault] = False
    reach = energised_buses(network, (start | free) & (np.arange(network.n_branch) != fault))
    teams = {}
    for b in np.flatnonzero(free & reach[network.from_bus]).tolist():
        if b != fault:
            ends = frozenset((int(network.from_bus[b]), int(network.to_bus[b])))
            teams.setdefault((ends, bool(network.closed[b])), []).append(b)
    states, operations, whole = [], [], []
    for choice in itertools.product([False, True], repeat=len(teams)):
        state = start.copy()
        for team, closed in zip(teams.values(), choice, strict=True):
            state[team] = closed
        if loops(network, state) == 0:
            states.append(state)
            whole.append((energised_buses(network, state) == reach).all())
            operations.append(sum(c != n for c, (_, n) in zip(choice, teams, strict=True)))
    return np.array(states), operations, np.array(whole)


def least_cost(network, setting, scenario, states):
    """Return the least cost of all states: nothing shed where that is safe, else Ipopt's least."""
    solver, best = LeastSheddingSolver(network, setting), np.inf
    rows = np.zeros(len(states), dtype=np.int64)
    unshed = Decisions(states, np.zeros((len(states), network.n_bus)))
    outcome = judge(network, scenario[rows], unshed, setting)
    for k in np.argsort(outcome.cost, kind="stable"):
        if outcome.cost[k] >= best:
            break
        if outcome.safe[k]:
            return float(outcome.cost[k])
        least = solver.solve(scenario, states[k])
        if least.found:
            shed = judge(network, scenario, Decisions(states[[k]], least.shed[None]), setting)
            best = min(best, float(shed.cost[0])) if shed.safe[0] else best
    return best


@pytest.mark.parametrize("seed", range(2))
def test_nothing_beats_what_is_proven_on_feeders_with_parallels(seed):
    """All states of a random feeder, for each fault; searches and bounds against them."""
    rng = np.random.default_rng(seed)
    network = next(found for found in iter(lambda: random_feeder(rng), 0) if found is not None)
    setting = resolve_setting(network, "radial")
    plans, search = SwitchPlans(network, setting), ProvenSearch(network, setting)
    exact = Misocp(network, setting)
    for fault in range(network.n_branch):
        scenario = make_scenarios(network, [fault])
        states, operations, whole = every_state(network, setting, fault)
        listed = plans.every(fault, 10**6)
        assert {row.tobytes() for row in states[whole]} <= {row.tobytes() for row in listed}
        assert {row.tobytes() for row in listed} <= {row.tobytes() for row in states}
        np.testing.assert_array_equal(plans.operations(fault, states), operations)
        least = least_cost(network, setting, scenario, states)

        for method in (search, exact):
            decision = method.decide(scenario)
            outcome = judge(network, scenario, decision, setting)
            report = method.reports[0]
            assert report.bound <= least * (1 + 1e-4) + 1e-6
            proven = report.bound >= outcome.cost[0] * (1 - 1e-4) - 1e-3
            if proven:
                assert outcome.safe[0]
                assert outcome.cost[0] <= least * (1 + 1e-3) + 1e-3
