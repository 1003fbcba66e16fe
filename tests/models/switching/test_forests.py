"""Spanning forests from keys, held against networkx."""

import networkx as nx
import numpy as np
import pytest

from feederguard.data.networks import load_network
from feederguard.models.switching.forests import spanning_forests


def forests(network, keys, usable=None, fixed_closed=None):
    usable = np.ones_like(keys, dtype=bool) if usable is None else usable
    fixed_closed = np.zeros(network.n_branch, dtype=bool) if fixed_closed is None else fixed_closed
    return spanning_forests(network, keys, usable, fixed_closed)


def merged_graph(network, mask, keys):
    """The network as a graph in which all substations are one node."""
    root = int(network.substation[0])
    roots = set(network.substation.tolist())
    graph = nx.MultiGraph()
    graph.add_nodes_from(root if bus in roots else bus for bus in range(network.n_bus))
    for b in np.flatnonzero(mask):
        i, j = (
            root if int(bus) in roots else int(bus)
            for bus in (network.from_bus[b], network.to_bus[b])
        )
        if i != j:
            graph.add_edge(i, j, key=int(b), weight=keys[b])
    return graph


@pytest.mark.parametrize("name", ["ieee33", "mantovani136", "kraftringen533"])
def test_all_usable_gives_spanning_trees_of_highest_keys(name):
    network = load_network(name)
    keys = np.random.default_rng(1).random((40, network.n_branch))

    closed = forests(network, keys)

    assert closed.shape == keys.shape and closed.dtype == bool
    assert (closed.sum(axis=1) == network.n_bus - len(network.substation)).all()
    for k in range(40):
        best = nx.maximum_spanning_edges(
            merged_graph(network, np.ones(network.n_branch), keys[k]), data=False
        )
        assert sorted(np.flatnonzero(closed[k])) == sorted(key for *_, key in best)


def test_several_substations_each_feed_their_own_tree():
    network = load_network("ieee33").with_changes(
        substation=[0, 17, 24], v_substation=[1.0, 1.0, 1.0]
    )
    keys = np.random.default_rng(2).random((30, network.n_branch))

    for mask, weights in zip(forests(network, keys), keys, strict=True):
        graph = nx.Graph(merged_graph(network, mask, weights))
        assert mask.sum() == network.n_bus - 3
        assert nx.is_tree(graph)


def test_unusable_branches_stay_open_and_what_they_cut_off_is_still_a_forest():
    network = load_network("ieee33")
    rng = np.random.default_rng(3)
    keys, usable = rng.random((50, network.n_branch)), rng.random((50, network.n_branch)) < 0.7

    closed = forests(network, keys, usable)

    assert not (closed & ~usable).any()
    for k in range(50):
        whole, chosen = (merged_graph(network, mask, keys[k]) for mask in (usable[k], closed[k]))
        assert nx.is_forest(chosen)
        assert set(map(frozenset, nx.connected_components(chosen))) == set(
            map(frozenset, nx.connected_components(whole))
        )


def test_fixed_branches_are_closed_whatever_their_keys_unless_unusable():
    network = load_network("ieee33")
    fixed = np.zeros(network.n_branch, dtype=bool)
    fixed[[0, 6, 19, 36]] = True
    keys = np.random.default_rng(4).random((20, network.n_branch))
    keys[:, fixed] = -1e9
    usable = np.ones_like(keys, dtype=bool)
    usable[10:, 6] = False

    closed = forests(network, keys, usable, fixed)

    assert closed[:10, fixed].all()
    assert closed[10:, [0, 19, 36]].all() and not closed[10:, 6].any()
    assert (closed.sum(axis=1) == 32).all()


def test_equal_keys_take_branches_in_file_order():
    network = load_network("ieee33")

    closed = forests(network, np.zeros((1, network.n_branch)))

    np.testing.assert_array_equal(closed[0], network.closed)


def test_no_item_gives_no_forest():
    network = load_network("ieee33")

    assert forests(network, np.empty((0, network.n_branch))).shape == (0, 37)
