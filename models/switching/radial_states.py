"""Every radial state of a network: all maximal forests of its usable branches, chain by chain.

Branches in a row between two junctions form a chain: opening two of one chain would cut off what
lies between. So a forest of a network with L loops opens one branch in each of L chains, such that
the other chains hold the junctions together. Each branch of those L chains may be the one, so the
states are the products of the chain lengths. The 33-bus feeder with its five ties has 50 751.

Parallel branches (`network/parallel.py`) add states: what repeats a feed may be closed beside it.
"""

from __future__ import annotations

import itertools

import networkx as nx
import numpy as np

from feederguard.models.arrays import BoolArray, IntArray
from feederguard.models.network import Network
from feederguard.models.network.graph import energised_buses
from feederguard.models.network.parallel import has_loop, parallels, parallels_among, team_leads
from feederguard.models.switching.forests import bare_forests

MOST_TRIED = 2_000_000  # forests times choices of what stands beside them


def radial_states(
    network: Network, forest: BoolArray, usable: BoolArray, switchable: BoolArray, most: int
) -> BoolArray | None:
    """Return every forest of usable branches that feeds what `forest` feeds, (n_state, n_branch).

    forest: (n_branch,) one of them. usable, switchable: (n_branch,); usable branches that are not
    switchable stay closed. None where there are more than `most`.
    """
    if not len(parallels(network).branches):
        return _forests_like(network, forest, usable, switchable, most)
    lead = team_leads(network, switchable & usable, usable)
    leads = usable & (lead == np.arange(network.n_branch))
    tree = bare_forests(
        network, forest[None].astype(np.float64), (forest & leads)[None], leads & ~switchable
    )[0]
    # What is closed beside the tree and stays so: what nobody switches, and what nobody can feed.
    live = energised_buses(network, forest)
    stays = forest & leads & ~tree & ~(switchable & live[network.from_bus])
    states = _forests_like(network, tree, leads & ~stays, switchable, most)
    may_repeat = parallels_among(network, leads).branches
    beside = [b for b in may_repeat if switchable[b] and live[network.from_bus[b]]]
    if states is None or len(states) * 2.0 ** len(beside) > MOST_TRIED:
        return None
    states = np.repeat(states, 2 ** len(beside), axis=0)
    choices = np.array(list(itertools.product([False, True], repeat=len(beside))), dtype=bool)
    states[:, beside] |= np.tile(choices, (len(states) // len(choices), 1))
    states = np.unique((states | stays)[:, lead], axis=0)
    states = states[~has_loop(network, states, energised_buses(network, states))]
    return states if len(states) <= most else None


def _forests_like(
    network: Network, forest: BoolArray, usable: BoolArray, switchable: BoolArray, most: int
) -> BoolArray | None:
    """Return every forest that feeds what `forest` feeds where no two branches are one feed."""
    graph, chains = _chains(network, forest, usable)
    n_loop = (
        graph.number_of_edges() - graph.number_of_nodes() + nx.number_connected_components(graph)
    )
    openable = [chain[switchable[chain]] for chain in chains]
    groups: list[tuple[int, ...]] = []
    total = 0
    for opened in itertools.combinations(
        [k for k, chain in enumerate(openable) if len(chain)], n_loop
    ):
        if not _holds(graph, set(opened)):
            continue
        total += int(np.prod([len(openable[k]) for k in opened]))
        if total > most:
            return None
        groups.append(opened)
    on_chain = np.concatenate([*chains, np.zeros(0, dtype=np.int64)])
    whole = forest.copy()
    whole[on_chain] = True
    parts = [np.zeros((0, network.n_branch), dtype=bool)]
    for opened in groups:
        picks = np.array(
            list(itertools.product(*(openable[k].tolist() for k in opened))), dtype=np.int64
        )
        rows = np.tile(whole, (len(picks), 1))
        rows[np.arange(len(picks))[:, None], picks] = False
        parts.append(rows)
    return np.concatenate(parts)


def _chains(
    network: Network, forest: BoolArray, usable: BoolArray
) -> tuple[nx.MultiGraph, list[IntArray]]:
    """Return the graph of junctions, and the branches of each chain; an edge's key is its chain.

    Only what lies on a loop is in it; the substations are one junction.
    """
    root = int(network.substation[0])
    merged = {int(bus): root for bus in network.substation}
    ends = [
        (merged.get(i, i), merged.get(j, j))
        for i, j in zip(network.from_bus, network.to_bus, strict=True)
    ]
    live = nx.Graph([ends[b] for b in np.flatnonzero(forest)])
    fed = nx.node_connected_component(live, root) if root in live else {root}
    graph = nx.MultiGraph()
    for b in np.flatnonzero(usable).tolist():
        i, j = (int(end) for end in ends[b])
        if i in fed and j in fed and i != j:
            graph.add_edge(i, j, key=b)
    simple = nx.Graph(graph)
    for i, j in list(nx.bridges(simple)):
        if graph.number_of_edges(i, j) == 1:
            graph.remove_edge(i, j)
    graph.remove_nodes_from([n for n in list(graph) if graph.degree(n) == 0])
    members: dict[int, list[int]] = {b: [b] for _, _, b in graph.edges(keys=True)}
    for node in list(graph):
        if graph.degree(node) != 2 or node == root:
            continue
        edges = list(graph.edges(node, keys=True))
        if len(edges) == 1:
            # A whole loop that hangs from the rest by one bus: a chain from that bus to itself.
            continue
        (_, a, first), (_, c, second) = edges
        graph.remove_node(node)
        members[first] += members.pop(second)
        graph.add_edge(a, c, key=first)
    numbered = nx.MultiGraph()
    numbered.add_nodes_from(graph)
    chains: list[IntArray] = []
    for a, c, b in graph.edges(keys=True):
        numbered.add_edge(a, c, key=len(chains))
        chains.append(np.array(sorted(members[b]), dtype=np.int64))
    return numbered, chains


def _holds(graph: nx.MultiGraph, opened: set[int]) -> bool:
    """Return whether the chains that stay whole hold the junctions together as the graph does."""
    left = nx.Graph()
    left.add_nodes_from(graph)
    left.add_edges_from((a, c) for a, c, k in graph.edges(keys=True) if k not in opened)
    return bool(nx.number_connected_components(left) == nx.number_connected_components(graph))
