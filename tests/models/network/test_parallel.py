"""Branches of one feed, by hand and against graphs that networkx contracts."""

import itertools

import networkx as nx
import numpy as np
import pytest

from feederguard.data.networks import list_networks, load_network
from feederguard.models.network import NetworkError
from feederguard.models.network.graph import energised_buses, refuse_fixed_loops
from feederguard.models.network.parallel import (
    find_loop,
    has_loop,
    parallels,
    parallels_among,
    team_leads,
    ways_beside,
)
from feeders import feeder


def two_transformers():
    """Return two transformers whose busbars 1 and 2 a coupler joins, and a ring behind them."""
    return feeder(
        "T1:0-1 T2:0-2 k:1-2 f:1-3 g:2-4 t:3~4",
        kind=["trafo", "trafo", "coupler", "line", "line", "tie"],
        x=[0.1, 0.1, 1e-12, 0.1, 0.1, 0.1],
        r=[0.0, 0.0, 0.0, 0.1, 0.1, 0.1],
    )


def pair_in_ring():
    """Return a ring whose first line is two cables; t closes it."""
    return feeder("a:0-1 b:1-0 c:1-2 d:2-3 t:0~3")


def on(network, names):
    return np.isin(network.branch_name, names.split())


def looped(network, names):
    closed = on(network, names)[None]
    return bool(has_loop(network, closed, energised_buses(network, closed))[0])


def loops_by_contraction(network, closed):
    """Return the loops of live feeds: busbars contracted by networkx, parallel edges once."""
    bars = nx.Graph()
    bars.add_nodes_from(range(network.n_bus))
    ends = list(zip(network.from_bus.tolist(), network.to_bus.tolist(), strict=True))
    coupler = np.abs(network.z) < 1e-6
    bars.add_edges_from(ends[b] for b in np.flatnonzero(closed & coupler))
    bar = {i: k for k, part in enumerate(nx.connected_components(bars)) for i in part}
    feeds = {tuple(sorted((bar[i], bar[j]))) for i, j in (ends[b] for b in np.flatnonzero(closed))}
    graph = nx.MultiGraph([(i, j) for i, j in feeds if i != j])
    graph.add_nodes_from(bar.values())
    first, *others = (bar[s] for s in network.substation.tolist())
    graph.add_edges_from((first, other) for other in others)
    live = graph.subgraph(nx.node_connected_component(graph, first))
    return live.number_of_edges() - live.number_of_nodes() + 1


@pytest.mark.parametrize(
    ("names", "expected"),
    [("a b c d", False), ("a c d t", True), ("a b c t", False), ("a b c d t", True)],
)
def test_two_cables_are_one_feed_of_a_ring(names, expected):
    assert looped(pair_in_ring(), names) is expected


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("T1 T2 k f g", False),  # one feed of two transformers
        ("T1 k f g t", True),  # a loop through the closed coupler
        ("T1 T2 f g t", True),  # with the coupler open the transformers feed two busbars
        ("T1 f g t", False),
    ],
)
def test_a_closed_coupler_makes_two_transformers_one_feed(names, expected):
    assert looped(two_transformers(), names) is expected


@pytest.mark.parametrize("seed", range(40))
def test_loops_are_those_of_the_contracted_graph(seed):
    """Every state of random feeders with parallels and couplers, and two substations in half."""
    rng = np.random.default_rng(seed)
    drawn = [f"{rng.integers(0, j)}-{j}" for j in range(1, 5)]
    drawn += ["{}~{}".format(*rng.choice(5, 2, replace=False)) for _ in range(4)]
    names = " ".join(f"b{k}:{branch}" for k, branch in enumerate(drawn))
    x = np.where(rng.random(8) < 0.3, 0.0, 0.1)
    given = {"substation": [0, 4], "v_substation": [1.0, 1.0]} if seed % 2 else {}
    network = feeder(names, r=0.0, x=x, **given)

    states = np.array(list(itertools.product([False, True], repeat=8)))
    found = has_loop(network, states, energised_buses(network, states))

    expected = [_loops_of_all_parts(network, state) for state in states]
    np.testing.assert_array_equal(found, np.array(expected) > 0)


def _loops_of_all_parts(network, state):
    live = energised_buses(network, state)
    inner = state & live[network.from_bus]
    return loops_by_contraction(network, inner)


def test_a_loop_is_named_by_its_branches_and_the_setting_that_allows_it():
    network = pair_in_ring()
    closed = on(network, "a b c d t")

    loop = {network.branch_name[b] for b in find_loop(network, closed)}
    assert loop == {"a", "c", "d", "t"}
    assert find_loop(network, on(network, "a b c d")) == []
    with pytest.raises(
        NetworkError, match=r"cannot be switched form a loop .*'c', 'd', 't'.* setting 'meshed'"
    ):
        refuse_fixed_loops(network, closed)


def test_a_path_between_substations_is_a_loop_even_through_couplers():
    network = feeder("k:0-1 l:1-2", x=0.0, r=0.0, substation=[0, 2], v_substation=[1.0, 1.0])

    assert looped(network, "k l") and not looped(network, "k")
    assert find_loop(network, on(network, "k l")) == [0, 1]


def test_teams_have_the_same_buses_normal_state_and_switchability():
    network = feeder("a:0-1 b:1-0 c:0-1 s:0~1 t:1~0 u:0-2 v:1~2")
    every = np.ones(7, dtype=bool)

    assert team_leads(network, every, every).tolist() == [0, 0, 0, 3, 3, 5, 6]
    assert team_leads(network, ~on(network, "b"), every).tolist() == [0, 1, 0, 3, 3, 5, 6]
    # The next branch leads where the first failed.
    assert team_leads(network, every, ~on(network, "a")).tolist() == [0, 1, 1, 3, 3, 5, 6]


def test_what_lets_a_branch_stand_beside_a_feed():
    network = two_transformers()

    ways = ways_beside(network, np.ones(6, dtype=bool))

    assert ways == {0: [{1, 2}], 1: [{0, 2}], 2: []}
    assert not len(parallels_among(network, ~on(network, "T2")).branches)


@pytest.mark.parametrize("name", list_networks())
def test_no_bundled_feeder_has_parallel_branches(name):
    """What the papers publish rests on feeders where a feed is a branch."""
    assert not len(parallels(load_network(name)).branches)
