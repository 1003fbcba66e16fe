"""Minimum loss and load transfer: answers by hand, brute force, published 33- and 69-bus optima."""

import itertools

import networkx as nx
import numpy as np
import pyomo.environ as pyo
import pytest
from numpy.typing import ArrayLike, NDArray

import feeders
from feederguard.baselines.enumeration import TieEnumeration
from feederguard.baselines.misocp import read_decision
from feederguard.data.networks import load_network
from feederguard.models.load_transfer import Scenarios, judge, make_scenarios
from feederguard.models.load_transfer.setting import faultable_branches
from feederguard.models.network import Network, NetworkError
from feederguard.models.power_flow import solve_power_flow
from feederguard.models.reconfiguration import build_load_transfer, build_loss_reconfiguration
from feederguard.models.solver import solve

Branch = tuple[str, str, int, int, float, float]


def feeder(
    branches: list[Branch],
    p_mw: list[float],
    q_mvar: list[float] | None = None,
    gen_mw: list[float] | None = None,
    limit_mw: float = np.inf,
) -> Network:
    """Bus 0 is the substation at 1 pu; branches are (name, kind, from, to, r, x) in pu of 1 MVA."""
    names, kinds, starts, ends, r, x = zip(*branches, strict=True)
    drawing = [
        f"{name}:{i}{'~' if kind == 'tie' else '-'}{j}"
        for name, kind, i, j in zip(names, kinds, starts, ends, strict=True)
    ]
    given = {"q_load": [0.0] * len(p_mw) if q_mvar is None else q_mvar}
    given["p_gen"] = [0.0] * len(p_mw) if gen_mw is None else gen_mw
    return feeders.feeder(
        " ".join(drawing), kind=kinds, r=r, x=x, p_load=p_mw, paper_limit_mw=limit_mw, **given
    )


def ring(p2_mw: float, p3_mw: float, limit_mw: float = np.inf) -> Network:
    """The ring of feeders.py."""
    return feeders.ring(p2_mw, p3_mw, paper_limit_mw=limit_mw)


def two_loops(limit_mw: float = np.inf) -> Network:
    """Two ties, lines with losses.

    0 --a-- 1 --b-- 2
    |       .       .
    |       e       f
    |       .       .
    +--c-- 3 --d-- 4
    """
    return feeder(
        [("a", "line", 0, 1, 0.03, 0.02), ("b", "line", 1, 2, 0.12, 0.08), ("c", "line", 0, 3, 0.02, 0.02),
         ("d", "line", 3, 4, 0.04, 0.02), ("e", "tie", 3, 1, 0.01, 0.01), ("f", "tie", 4, 2, 0.02, 0.03)],
        [0.0, 0.30, 0.40, 0.10, 0.20], [0.0, 0.10, 0.20, 0.05, 0.10], limit_mw=limit_mw,
    )  # fmt: skip


def closed_names(network: Network, model: pyo.ConcreteModel) -> set[str]:
    return {network.branch_name[b] for b in model.branch if pyo.value(model.y[b]) > 0.5}


def cone_gap(network: Network, model: pyo.ConcreteModel) -> float:
    """Largest |P^2 + Q^2 - w ell|: how far the relaxed current is from a real one."""
    P, Q, ell = (
        np.array([pyo.value(v[b]) for b in model.branch]) for v in (model.P, model.Q, model.ell)
    )
    w = np.array([pyo.value(model.w[i]) for i in model.bus])[network.from_bus] / network.tap**2
    return float(np.abs(P**2 + Q**2 - w * ell).max())


def is_spanning_tree(network: Network, closed: NDArray[np.bool_]) -> bool:
    ends = zip(network.from_bus[closed].tolist(), network.to_bus[closed].tolist(), strict=True)
    graph = nx.MultiGraph()
    graph.add_nodes_from(range(network.n_bus))
    graph.add_edges_from(ends)
    return bool(nx.is_tree(graph))


def spanning_trees(network: Network) -> NDArray[np.bool_]:
    found = []
    for chosen in itertools.combinations(range(network.n_branch), network.n_bus - 1):
        closed = np.isin(np.arange(network.n_branch), chosen)
        if is_spanning_tree(network, closed):
            found.append(closed)
    return np.array(found)


def test_transfer_over_the_tie_is_best_where_it_is_strong_enough() -> None:
    # Without b, buses 2 and 3 are dark: 22 (0.12 / 0.1)^2 = 31.68. Closing e feeds both: 3 * 1^2 =
    # 3.
    network = ring(0.06, 0.06)
    model = build_load_transfer(network, make_scenarios(network, "b"), "radial")
    solution = solve(model)
    assert solution.objective == pytest.approx(3.0, abs=1e-3)
    assert pyo.value(model.cost) == pytest.approx(3.0, abs=1e-3)
    assert closed_names(network, model) == {"a", "c", "d", "e"}


def test_what_the_tie_cannot_carry_is_shed() -> None:
    # e may carry 0.09 of the 0.12 MW behind it: 0.03 MW is shed, 22 * 0.3^2 + 3 * 1^2 = 4.98.
    network = ring(0.06, 0.06, limit_mw=0.09)
    model = build_load_transfer(network, make_scenarios(network, "b"), "paper")
    solve(model)
    assert pyo.value(model.cost) == pytest.approx(4.98, abs=1e-3)
    assert pyo.value(model.total_shed) == pytest.approx(0.03, abs=1e-5)
    assert closed_names(network, model) == {"a", "c", "d", "e"}


def test_little_load_is_left_dark() -> None:
    # 0.03 MW dark costs 22 * 0.3^2 = 1.98, less than the 3 of one switch operation.
    network = ring(0.02, 0.01, limit_mw=0.09)
    model = build_load_transfer(network, make_scenarios(network, "b"), "paper")
    solve(model)
    assert pyo.value(model.cost) == pytest.approx(1.98, abs=1e-3)
    assert closed_names(network, model) == {"a", "c", "d"}
    # The radial setting asks for no more.
    model = build_load_transfer(network, make_scenarios(network, "b"), "radial")
    solve(model)
    assert pyo.value(model.cost) == pytest.approx(1.98, abs=1e-3)


def test_each_further_operation_costs_more_than_the_one_before() -> None:
    # Without a, buses 1 and 2 (0.35 MW) need a tie, and no limit is near: one tie costs 3, both 3 *
    # 2^2 = 12.
    network = two_loops(limit_mw=5.0)
    scenario = make_scenarios(network, "a", network.p_load / 2, network.q_load / 2)
    model = build_load_transfer(network, scenario, "paper")
    solve(model)
    assert pyo.value(model.n_operations) == pytest.approx(1.0)
    assert pyo.value(model.cost) == pytest.approx(3.0, abs=1e-3)


def test_least_loss_is_that_of_the_best_spanning_tree() -> None:
    network = two_loops()
    trees = spanning_trees(network)
    flow = solve_power_flow(network, closed=trees)
    assert flow.converged.all()
    assert len(trees) > 8
    best = int(np.argmin(flow.loss_mw))
    model = build_loss_reconfiguration(network)
    solve(model, rel_gap=1e-5)
    assert pyo.value(model.loss_kw) == pytest.approx(1e3 * flow.loss_mw[best], rel=1e-4)
    assert closed_names(network, model) == {
        network.branch_name[b] for b in np.flatnonzero(trees[best])
    }
    # The normal state loses more: there was something to find.
    assert pyo.value(model.loss_kw) < 0.99e3 * float(solve_power_flow(network).loss_mw)


def test_least_loss_follows_the_demand_asked() -> None:
    network = two_loops()
    p, q = np.array([0.0, 0.0, 0.6, 0.0, 0.0]), np.zeros(5)
    flow = solve_power_flow(network, p, q, spanning_trees(network))
    model = build_loss_reconfiguration(network, p, q)
    solve(model, rel_gap=1e-5)
    assert pyo.value(model.loss_kw) == pytest.approx(1e3 * np.nanmin(flow.loss_mw), rel=1e-4)


def test_least_loss_with_one_loop_held_as_it_is() -> None:
    # With e held open, one of a, b, c, d, f must be open: five trees.
    network = two_loops()
    trees = spanning_trees(network)
    trees = trees[~trees[:, network.branch_index("e")]]
    assert len(trees) == 5
    model = build_loss_reconfiguration(network, switchable=["a", "b", "c", "d", "f"])
    solve(model, rel_gap=1e-5)
    assert pyo.value(model.loss_kw) == pytest.approx(
        1e3 * float(solve_power_flow(network, closed=trees).loss_mw.min()), rel=1e-4
    )


@pytest.mark.parametrize("fault", [5, 15, 24])
def test_ieee33_faults_need_one_operation_at_nominal_load(fault: int) -> None:
    network = load_network("ieee33")
    scenario = make_scenarios(network, fault)
    model = build_load_transfer(network, scenario, "radial")
    solution = solve(model)
    assert solution.status == "optimal"
    assert pyo.value(model.cost) == pytest.approx(3.0, abs=1e-3)
    assert pyo.value(model.total_shed) == pytest.approx(0.0, abs=1e-6)
    assert cone_gap(network, model) < 1e-5
    decision = read_decision(model, scenario)
    outcome = judge(network, scenario, decision, "radial")
    assert outcome.safe[0]
    assert outcome.n_operations[0] == 1
    assert is_spanning_tree(network, decision.closed[0])


def test_cone_is_tight_where_shedding_is_needed() -> None:
    # Without a, all 1.0 MW and 0.45 MVAr come through c, rated 0.8: shedding is what is left to do.
    network = two_loops().with_changes(rating=np.full(6, 0.8))
    scenario = make_scenarios(network, "a")
    model = build_load_transfer(network, scenario, "radial")
    solve(model)
    assert pyo.value(model.total_shed) > 0.1
    assert cone_gap(network, model) < 1e-5
    outcome = judge(network, scenario, read_decision(model, scenario), "radial")
    assert outcome.safe[0]
    assert outcome.max_loading[0] == pytest.approx(1.0, abs=1e-4)


def generator_island(p3_mw: float, limit_mw: float = np.inf) -> Network:
    """The generator at 4 covers the load at 3 exactly; tie e can close a loop elsewhere.

    0 --a-- 1 --b-- 2 --c-- 3 --d-- 4 (generator)
    .       .       .               .
    + . . . . . e . +               .
            .                       .
            + . . . . . f . . . . . +
    """
    return feeder(
        [("a", "line", 0, 1, 0.0, 0.01), ("b", "line", 1, 2, 0.0, 0.01), ("c", "line", 2, 3, 0.0, 0.01),
         ("d", "line", 3, 4, 0.0, 0.01), ("e", "tie", 0, 2, 0.0, 0.01), ("f", "tie", 1, 4, 0.0, 0.01)],
        [0.0, 0.05, 0.05, p3_mw, 0.0], gen_mw=[0.0, 0.0, 0.0, 0.0, p3_mw], limit_mw=limit_mw,
    )  # fmt: skip


def test_a_loop_does_not_pay_for_a_detached_generator() -> None:
    # With f left alone nothing reaches 3 and 4. Closing e (cost 3) makes the count of branches
    # right, with 3-4 an island fed by its generator; the answer is to shed bus 3 and to trip
    # its generator, of which a twentieth counts: 22 ((0.1 + 0.005) / 0.1)^2 = 24.255.
    network = generator_island(0.1)
    scenario = make_scenarios(network, "c")
    model = build_load_transfer(network, scenario, "radial", switchable=["a", "b", "d", "e"])
    solve(model)
    assert pyo.value(model.cost) == pytest.approx(24.255, abs=1e-3)
    assert pyo.value(model.shed[3]) == pytest.approx(0.1)
    assert pyo.value(model.energised[model.zone_of[3]]) == pytest.approx(0.0)


def test_a_detached_generator_feeds_nobody_in_the_paper_setting() -> None:
    # Left dark, bus 3 and its generator cost 22 (0.3 + 0.015)^2 = 2.183; fed by the generator it
    # would cost nothing.
    network = generator_island(0.03, limit_mw=1.0)
    scenario = make_scenarios(network, "c")
    model = build_load_transfer(network, scenario, "paper")
    solve(model)
    assert pyo.value(model.cost) == pytest.approx(2.18295, abs=1e-3)
    assert pyo.value(model.energised[model.zone_of[4]]) == pytest.approx(0.0, abs=1e-6)
    # The power flow agrees: the judge counts the same load as dark.
    outcome = judge(network, scenario, read_decision(model, scenario), "paper")
    assert outcome.cost[0] == pytest.approx(2.18295, abs=1e-3)


def test_a_generator_on_the_tie_relieves_it() -> None:
    # Without b, e feeds 0.12 MW through a limit of 0.09 MW; 0.02 MW produced at bus 2 leaves 0.01
    # MW to shed.
    network = ring(0.06, 0.06, limit_mw=0.09)
    scenario = make_scenarios(network, "b", p_gen=[0.0, 0.0, 0.02, 0.0, 0.0])
    model = build_load_transfer(network, scenario, "paper")
    solve(model)
    assert pyo.value(model.cost) == pytest.approx(22 * 0.1**2 + 3, abs=1e-3)


def test_switchable_by_name_and_by_mask_are_the_same() -> None:
    network = two_loops()
    scenario = make_scenarios(network, "a")
    mask = np.isin(network.branch_name, ["b", "f"])
    costs = []
    for switchable in (["b", "f"], mask):
        model = build_load_transfer(network, scenario, "radial", switchable=switchable)
        solve(model)
        assert closed_names(network, model) == {"b", "c", "d", "f"}
        costs.append(pyo.value(model.cost))
    assert costs[0] == pytest.approx(costs[1], abs=1e-6)


@pytest.mark.parametrize("switchable", [[], np.zeros(5, dtype=bool), ["b"], ["a"]])
@pytest.mark.parametrize("setting", ["paper", "radial"])
def test_switches_that_cannot_help_leave_the_load_dark(switchable: ArrayLike, setting: str) -> None:
    # b has failed, and a can only cut off more: 22 (0.12 / 0.1)^2.
    network = ring(0.06, 0.06, limit_mw=0.09)
    model = build_load_transfer(
        network, make_scenarios(network, "b"), setting, switchable=switchable
    )
    solve(model)
    assert pyo.value(model.cost) == pytest.approx(31.68, rel=1e-4)


def test_least_loss_of_a_tree_that_cannot_change() -> None:
    network = ring(0.06, 0.06)
    network = network.with_changes(r=np.full(network.n_branch, 0.02))
    model = build_loss_reconfiguration(network, switchable=[])
    solve(model)
    assert pyo.value(model.loss_kw) == pytest.approx(
        1e3 * float(solve_power_flow(network).loss_mw), rel=1e-4
    )


def test_meshed_relaxation_bounds_the_enumerated_optimum_on_two_loops() -> None:
    network = two_loops(limit_mw=0.3)
    for fault in ("a", "b", "c", "d"):
        scenario = make_scenarios(network, fault)
        solution = solve(build_load_transfer(network, scenario, "paper", angles=False))
        best = judge(network, scenario, TieEnumeration(network, "paper").decide(scenario), "paper")
        assert best.safe[0]
        assert best.cost[0] > 1.0
        assert solution.bound <= best.cost[0] * (1 + 1e-4)


def test_meshed_relaxation_bounds_the_enumerated_optimum_on_ieee33() -> None:
    network = load_network("ieee33")
    scenario = make_scenarios(network, 14, 0.8 * network.p_load, 0.8 * network.q_load)
    solution = solve(build_load_transfer(network, scenario, "paper", angles=False))
    best = judge(network, scenario, TieEnumeration(network, "paper").decide(scenario), "paper")
    assert 0 < solution.bound <= best.cost[0] * (1 + 1e-4)


def test_a_batch_of_scenarios_is_refused() -> None:
    network = ring(0.06, 0.06)
    with pytest.raises(
        ValueError, match=r"takes one scenario, got 2; pass scenarios\[k : k \+ 1\]"
    ):
        build_load_transfer(network, make_scenarios(network, ["a", "b"]), "radial")
    empty = Scenarios(np.zeros(0, dtype=np.int64), *(np.zeros((0, 5)) for _ in range(3)))
    with pytest.raises(ValueError, match="takes one scenario, got 0"):
        build_load_transfer(network, empty, "radial")


def test_an_unknown_switchable_branch_is_refused() -> None:
    network = ring(0.06, 0.06)
    with pytest.raises(NetworkError, match=r"hand: no branch 'g'; there are a, b, c, d, e"):
        build_loss_reconfiguration(network, switchable=["a", "g"])
    with pytest.raises(NetworkError, match="no branch 'g'"):
        build_load_transfer(network, make_scenarios(network, "b"), "radial", switchable=["g"])
    with pytest.raises(NetworkError, match=r"switchable has shape \(3,\); expected \(5,\)"):
        build_loss_reconfiguration(network, switchable=np.ones(3, dtype=bool))


def test_a_loop_that_nobody_may_open_is_refused() -> None:
    network = two_loops().with_changes(closed=np.array([True, True, True, True, True, False]))
    with pytest.raises(
        NetworkError,
        match=r"cannot be switched form a loop .*'c', 'a', 'e'; .* make one of them switchable",
    ):
        build_loss_reconfiguration(network, switchable=["b", "f"])
    with pytest.raises(NetworkError, match=r"cannot be switched form a loop"):
        build_load_transfer(network, make_scenarios(network, "b"), "radial", switchable=["f"])


def test_demand_of_the_wrong_length_is_refused() -> None:
    with pytest.raises(ValueError, match="shape"):
        build_loss_reconfiguration(ring(0.06, 0.06), p=[0.1, 0.1])


def test_a_rating_of_zero_is_refused_in_the_radial_setting() -> None:
    network = ring(0.06, 0.06)
    network = network.with_changes(rating=np.array([1.0, 1.0, 0.0, 1.0, 1.0]))
    with pytest.raises(NetworkError, match="rating of branch 'c' is 0; give its rating in A"):
        build_load_transfer(network, make_scenarios(network, "b"), "radial")


@pytest.mark.slow
@pytest.mark.parametrize(("name", "loss_kw"), [("ieee33", 139.551), ("bus69", 98.605)])
def test_published_least_loss(name: str, loss_kw: float) -> None:
    network = load_network(name)
    model = build_loss_reconfiguration(network)
    solve(model, time_limit_s=3600)
    closed = np.array([pyo.value(model.y[b]) > 0.5 for b in model.branch])
    assert is_spanning_tree(network, closed)
    assert pyo.value(model.loss_kw) == pytest.approx(loss_kw, rel=1e-3)
    assert 1e3 * float(solve_power_flow(network, closed=closed).loss_mw) == pytest.approx(
        loss_kw, rel=1e-4
    )


@pytest.mark.slow
def test_every_fault_of_ieee33_at_nominal_load() -> None:
    network = load_network("ieee33")
    faults = faultable_branches(network)
    assert len(faults) == 31
    for fault in faults.tolist():
        scenario = make_scenarios(network, fault)
        model = build_load_transfer(network, scenario, "radial")
        solution = solve(model, time_limit_s=3600)
        assert solution.gap <= 1e-4
        assert cone_gap(network, model) < 1e-5
        outcome = judge(network, scenario, read_decision(model, scenario), "radial")
        assert outcome.converged[0]
        assert outcome.worst_violation[0] <= 1e-3
