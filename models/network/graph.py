"""Who is fed: trees, zones and loops of a feeder."""

from __future__ import annotations

from dataclasses import dataclass

import networkx as nx
import numpy as np
from numba import njit, prange

from feederguard.models.arrays import BoolArray, FloatArray, IntArray, plain, threads_for
from feederguard.models.network.fields import NetworkError, NetworkFields
from feederguard.models.network.parallel import refuse_loops


def energised_buses(network: NetworkFields, closed: BoolArray) -> BoolArray:
    """Return which buses a path of closed branches joins to a substation, (..., n_bus).

    closed: (n_branch,) or (B, n_branch), the branches that conduct, or that might in a question of
    what could be reached.
    """
    states = plain(closed, np.bool_)
    ends = network.from_bus.copy(), network.to_bus.copy()
    reached = np.zeros((*states.shape[:-1], network.n_bus), dtype=np.bool_)
    reached[..., network.substation] = True
    if states.ndim == 1:
        _spread(states, *ends, reached)
        return reached
    # A comparison takes about a nanosecond, and a few sweeps over the branches reach everything.
    with threads_for(4e-3 * states.size):
        _spread_each(states, *ends, reached)
    return reached


@njit(cache=True)
def _spread(closed, from_bus, to_bus, reached):  # type: ignore[no-untyped-def]
    """Add to `reached` (n_bus,) what closed branches join to it."""
    grew = True
    while grew:
        grew = False
        for b in range(closed.shape[0]):
            i, j = from_bus[b], to_bus[b]
            if closed[b] and reached[i] != reached[j]:
                reached[i] = reached[j] = True
                grew = True


@njit(cache=True, parallel=True)
def _spread_each(closed, from_bus, to_bus, reached):  # type: ignore[no-untyped-def]
    for item in prange(closed.shape[0]):
        _spread(closed[item], from_bus, to_bus, reached[item])


def away_from_substations(network: NetworkFields) -> FloatArray:
    """Return 1 where the from end of a branch is nearer to a substation, else -1, (n_branch,).

    Distance counts normally closed branches. Where both ends are as near, it is 1.
    """
    graph = nx.Graph()
    graph.add_nodes_from(range(network.n_bus))
    ends = network.from_bus[network.closed], network.to_bus[network.closed]
    graph.add_edges_from(zip(*(end.tolist() for end in ends), strict=True))
    distance = np.full(network.n_bus, network.n_bus)
    near = nx.multi_source_dijkstra_path_length(graph, set(network.substation.tolist()))
    distance[list(near)] = list(near.values())
    return np.where(distance[network.from_bus] <= distance[network.to_bus], 1.0, -1.0)


def zones(network: NetworkFields, joined: BoolArray) -> IntArray:
    """Return the number of the zone of each bus, (n_bus,).

    A zone is a set of buses that `joined` branches, (n_branch,), hold together.
    """
    graph = nx.Graph()
    graph.add_nodes_from(range(network.n_bus))
    graph.add_edges_from(
        zip(network.from_bus[joined].tolist(), network.to_bus[joined].tolist(), strict=True)
    )
    zone = np.empty(network.n_bus, dtype=np.int64)
    for number, buses in enumerate(nx.connected_components(graph)):
        zone[list(buses)] = number
    return zone


def refuse_fixed_loops(network: NetworkFields, fixed_closed: BoolArray) -> None:
    """Raise `NetworkError` when branches that stay closed form a loop or join two substations.

    fixed_closed: (n_branch,) branches that cannot be opened. Parallel ones are one feed.
    """
    refuse_loops(
        network,
        fixed_closed,
        "branches that cannot be switched",
        "so no radial topology exists; make one of them switchable, open it in the network",
    )


@dataclass(frozen=True)
class FedBranch:
    """A closed branch, with the bus it is fed from and the bus it feeds."""

    branch: int
    near: int
    far: int


def feeding_tree(network: NetworkFields) -> list[FedBranch]:
    """Return the closed branches, each after the one that feeds it.

    Raises `NetworkError` when closed branches are parallel, when one closes a loop or joins two
    substations, or when a bus is not fed.
    """
    grid_above = -1  # joins all substations, so that a path between two of them counts as a loop
    graph = nx.Graph()
    known = nx.utils.UnionFind([grid_above, *range(network.n_bus)])
    for s in network.substation.tolist():
        known.union(grid_above, s)
        graph.add_edge(grid_above, s)
    for b in np.flatnonzero(network.closed).tolist():
        i, j = int(network.from_bus[b]), int(network.to_bus[b])
        if known[i] == known[j]:
            beside = graph.edges[i, j].get("branch") if graph.has_edge(i, j) else None
            if beside is not None:
                raise NetworkError(
                    f"{network.name}: closed branches {network.branch_name[beside]!r} and "
                    f"{network.branch_name[b]!r} are parallel, and a radial model has one branch "
                    "to each bus; make one branch of them (their joint impedance, rated at what "
                    "they carry when the first of them is full), or open one with "
                    "network.with_changes(closed=...)"
                )
            raise NetworkError(
                f"{network.name} is meshed: closed branch {network.branch_name[b]!r} closes a loop "
                "or joins substations; open it with network.with_changes(closed=...), or use "
                "build_ac_opf of "
                "feederguard.models.ac_opf"
            )
        known.union(i, j)
        graph.add_edge(i, j, branch=b)
    dark = np.flatnonzero(~energised_buses(network, network.closed))
    if dark.size:
        raise NetworkError(
            f"{network.name}: no closed branch feeds bus {network.bus_name[dark[0]]!r}; "
            "close one with network.with_changes(closed=...), or remove the bus"
        )
    return [
        FedBranch(graph.edges[i, j]["branch"], i, j)
        for i, j in nx.bfs_edges(graph, grid_above)
        if i != grid_above
    ]


def branches_on_loop(network: NetworkFields) -> BoolArray:
    """Return the branches that lie on a loop when all in service are closed, (n_branch,).

    Opening one of them cuts no bus off. A branch out of service lies on none. Parallel branches of
    one normal state open together.
    """
    graph = nx.Graph()
    graph.add_nodes_from(range(network.n_bus))
    # A path from one substation to another is a loop through the grid above, so all are one point.
    root = int(network.substation[0])
    merged = {int(bus): root for bus in network.substation}
    pairs = []
    teams: dict[frozenset[int], set[tuple[frozenset[int], bool]]] = {}
    columns = (network.from_bus, network.to_bus, network.closed, network.in_service)
    for i, j, closed, in_service in zip(*(column.tolist() for column in columns), strict=True):
        pair = frozenset((merged.get(i, i), merged.get(j, j)))
        pairs.append(pair)
        if in_service:
            graph.add_edge(min(pair), max(pair))
            teams.setdefault(pair, set()).add((frozenset((i, j)), closed))
    bridges = {frozenset(edge) for edge in nx.bridges(graph)}
    on_loop = [pair not in bridges or len(teams[pair]) > 1 for pair in pairs]
    return np.array(on_loop, dtype=bool) & network.in_service


def no_load_angles(network: NetworkFields) -> FloatArray:
    """Return the voltage angle of each bus in rad when nothing flows, (n_bus,).

    It is that of its substation less the shifts on the way.
    """
    graph = nx.Graph()
    graph.add_nodes_from(range(network.n_bus))
    for k, (i, j) in enumerate(
        zip(network.from_bus.tolist(), network.to_bus.tolist(), strict=True)
    ):
        if network.closed[k] or (network.in_service[k] and not graph.has_edge(i, j)):
            graph.add_edge(i, j, branch=k, weight=1 if network.closed[k] else network.n_bus)
    angle = np.zeros(network.n_bus)
    angle[network.substation] = np.angle(network.v_substation)
    _, paths = nx.multi_source_dijkstra(graph, set(network.substation.tolist()))
    for bus, path in sorted(paths.items(), key=lambda item: len(item[1])):
        if len(path) > 1:
            k = graph.edges[path[-2], bus]["branch"]
            angle[bus] = angle[path[-2]] + (
                -network.shift[k] if network.from_bus[k] == path[-2] else network.shift[k]
            )
    return angle
