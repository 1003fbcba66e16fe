"""Which buses are energised, and that they form trees: a commodity and a count.

Parallel branches (`network/parallel.py`) are one feed. A team has the y of its lead, which alone
appears below. t_b tells whether b is of the forest; t_b = y_b but where b may repeat a feed.

Branches that cannot be switched hold buses together in *zones*. The questions below are asked of
zones, which is equivalent and smaller. e_z tells whether zone z is energised; a zone with a
substation always is.

    (1)  a closed branch joins two zones of one state:   y_b - 1 <= e_z - e_z' <= 1 - y_b
    (2)  one commodity leaves the substations, and every energised zone takes one unit:
             sum into z of f_b - sum out of z of f_b = e_z,     |f_b| <= n_zone t_b
    (3)  a forest:  sum of l_b = energised zones - zones with a substation,
         l_b = t_b e_z, linearised: branch b of the forest is live

Two families of inequalities follow from (2) and (3) for whole t. They shorten proofs:

    (4)  at most one branch is open in a chain of zones with two branches each, and one more for
         each of its zones that is dark:      sum of (1 - t_b) <= 1 + sum of (1 - e_z)
    (5)  at least one branch is open in every loop:  sum of (1 - t_b) >= 1. A dark loop could stay
         closed, but somebody would have had to close it for nothing.

A branch is closed beside the forest only where a set A of the forest makes it repeat a feed, such
as its parallel, or that and a coupler between their busbars:

    (6)  t_b <= y_b <= t_b + sum over A of a_A,     a_A <= t_k for each k in A

What must be fed is the caller's to say: EVERYTHING within reach; WHOLE_PARTS, where each part that
the fault cuts off is fed or dark as one (`load_transfer/shedding.py` tells when that is enough); or
NOTHING.

The count (3) alone would let a loop pay for a detached island, which a local generator could then
seem to feed; (2) forbids that. Jabr, Singh & Pal, IEEE Trans. Power Systems 27(2), 2012, compares
such formulations.
"""

from __future__ import annotations

from typing import Any

import networkx as nx
import numpy as np
import pyomo.environ as pyo

from feederguard.models.arrays import BoolArray, IntArray
from feederguard.models.network import Network
from feederguard.models.network.graph import energised_buses, refuse_fixed_loops, zones
from feederguard.models.network.parallel import find_loop, team_leads, ways_beside

EVERYTHING, WHOLE_PARTS, NOTHING = "everything", "whole parts", "nothing"


def add_topology(
    model: pyo.ConcreteModel,
    network: Network,
    free: BoolArray,
    fixed_closed: BoolArray,
    radial: bool,
    must_be_fed: str = EVERYTHING,
) -> None:
    """Add y[branch], energised[zone], (1) and (2); when `radial` also (3)-(5).

    free: (n_branch,) branches to decide; fixed_closed: (n_branch,) those that stay closed. All
    others stay open. Adds the mapping `zone_of` (bus to zone).

    must_be_fed: of a radial model, one of EVERYTHING, WHOLE_PARTS, NOTHING. The model gets `lead`,
    the lead of each team, (n_branch,), and when radial these attributes:
    `tree`, t of the leads that join zones; `beside`, the leads that may be closed beside it;
    `least_operations_all_fed`, the ties to close if nothing is opened and all is fed;
    `least_operations`, the same less those of dark parts;
    `n_dark`, how many of the zones or parts that might be fed are dark;
    `live[b]`, l of (3), and `live_ends`, the zones that each branch to decide joins;
    `fed_zones`, the zones with a substation.

    Raises `NetworkError` when radial and the branches that cannot be switched form a loop.
    """
    zone = zones(network, fixed_closed)
    n_zone = int(zone.max()) + 1
    a, b = zone[network.from_bus], zone[network.to_bus]
    if radial:
        refuse_fixed_loops(network, fixed_closed)
    model.zone = pyo.RangeSet(0, n_zone - 1)
    model.zone_of = {bus: int(zone[bus]) for bus in range(network.n_bus)}
    model.y = pyo.Var(model.branch, domain=pyo.Binary, doc="closed")
    for k in range(network.n_branch):
        if not free[k]:
            model.y[k].fix(int(fixed_closed[k]))
    fed = {int(zone[bus]) for bus in network.substation}
    model.energised = pyo.Var(model.zone, bounds=(0, 1), initialize=1.0, doc="e of (1)")
    for z in fed:
        model.energised[z].fix(1)
    leads = _add_teams(model, network, free, fixed_closed)
    between = [k for k in leads if a[k] != b[k]]
    model.tree = {k: model.y[k] for k in between}
    if radial:
        _add_beside(model, network, leads, fixed_closed)
    _add_commodity(model, between, a, b, fed)
    if radial:
        model.fed_zones = fed
        reached = np.zeros(n_zone, dtype=bool)
        reached[zone[energised_buses(network, free | fixed_closed)]] = True
        normal = [(int(a[k]), int(b[k])) for k in between if network.closed[k]]
        parts = _parts(normal, np.flatnonzero(reached).tolist(), fed, must_be_fed)
        _say_what_is_dark(model, reached, parts)
        _add_forest(model, network, leads, zone)
        # A part of n zones and as many lines less one is one tie fewer to close while it is dark.
        model.least_operations = model.least_operations_all_fed - sum(
            (len(part) - sum(i in part for i, _ in normal)) * (1 - model.energised[min(part)])
            for part in parts
        )


def _add_teams(
    model: pyo.ConcreteModel, network: Network, free: BoolArray, fixed_closed: BoolArray
) -> list[int]:
    """Give each team the y of its lead; return the leads to decide."""
    model.lead = team_leads(network, free, free | fixed_closed)
    model.team = pyo.ConstraintList(doc="a team has the y of its lead")
    for k in np.flatnonzero(free & (model.lead != np.arange(network.n_branch))).tolist():
        model.team.add(model.y[k] == model.y[int(model.lead[k])])
    return [k for k in range(network.n_branch) if free[k] and model.lead[k] == k]


def _add_beside(
    model: pyo.ConcreteModel, network: Network, leads: list[int], fixed_closed: BoolArray
) -> None:
    """Add (6), with a t of its own for each lead that may be closed beside the forest."""
    usable = fixed_closed.copy()
    usable[leads] = True
    usable &= model.lead == np.arange(network.n_branch)
    ways = {k: sets for k, sets in ways_beside(network, usable).items() if not fixed_closed[k]}
    for k in set(ways) - set(model.tree):
        if not find_loop(network, fixed_closed | (np.arange(network.n_branch) == k)):
            ways[k] = [frozenset()]
    model.beside = set(ways)
    model.of_forest = pyo.Var(sorted(model.beside & set(model.tree)), domain=pyo.Binary, doc="t")
    for k in model.of_forest:
        model.tree[k] = model.of_forest[k]
    model.way = pyo.Var(
        [(k, n) for k, sets in sorted(ways.items()) for n in range(len(sets))], bounds=(0, 1)
    )
    model.repeats = pyo.ConstraintList(doc="(6)")
    for k, sets in ways.items():
        in_forest = model.tree.get(k, 0)
        model.repeats.add(model.y[k] - in_forest >= 0)
        model.repeats.add(model.y[k] - in_forest <= sum(model.way[k, n] for n in range(len(sets))))
        for n, others in enumerate(sets):
            for other in others:
                if not fixed_closed[other]:
                    model.repeats.add(model.way[k, n] <= model.tree.get(other, model.y[other]))


def _add_commodity(
    model: pyo.ConcreteModel, between: list[int], a: IntArray, b: IntArray, fed: set[int]
) -> None:
    """Add (1) and (2) on the branches between zones; a, b: (n_branch,) zones of their ends."""
    model.flow = pyo.Var(
        between, bounds=(-len(model.zone), len(model.zone)), doc="commodity of (2)"
    )

    @model.Constraint(between, (-1, 1), doc="(1)")
    def state_crosses(m: Any, k: int, sign: int) -> Any:
        return sign * (m.energised[int(a[k])] - m.energised[int(b[k])]) <= 1 - m.y[k]

    @model.Constraint(model.zone, doc="(2)")
    def commodity_balance(m: Any, z: int) -> Any:
        if z in fed:
            return pyo.Constraint.Skip
        arriving = sum(m.flow[k] for k in between if b[k] == z) - sum(
            m.flow[k] for k in between if a[k] == z
        )
        return arriving == m.energised[z]

    @model.Constraint(between, (-1, 1), doc="(2)")
    def commodity_needs_closed(m: Any, k: int, sign: int) -> Any:
        return sign * m.flow[k] <= len(model.zone) * m.tree[k]


def dark(model: Any, bus: int) -> Any:
    """Return 1 - e of a bus: a number where it is known, else an expression."""
    energised = model.energised[model.zone_of[bus]]
    return 1 - (energised.value if energised.fixed else energised)


def _parts(
    normal: list[tuple[int, int]], reached: list[int], fed: set[int], must_be_fed: str
) -> list[set[int]]:
    """Return the sets of zones that are fed or dark as one; zones in none of them are fed.

    normal: ends of the branches that are normally closed and whole.
    """
    if must_be_fed == EVERYTHING:
        return []
    if must_be_fed == NOTHING:
        return [{z} for z in reached if z not in fed]
    graph = nx.Graph(normal)
    graph.add_nodes_from(reached)
    within = set(reached)
    return [
        part & within for part in nx.connected_components(graph) if part & within and not part & fed
    ]


def _say_what_is_dark(model: pyo.ConcreteModel, reached: BoolArray, parts: list[set[int]]) -> None:
    """Fix e where it is known, and tie it together in parts; set n_dark."""
    free = set().union(*parts)
    for z in model.zone:
        if z not in free:
            model.energised[z].fix(int(reached[z]))
    model.part = pyo.ConstraintList(doc="fed or dark as one")
    for part in parts:
        # Whole by itself where y is, but a solver that knows may branch on it.
        model.energised[min(part)].domain = pyo.Binary
        for z in sorted(part)[1:]:
            model.part.add(model.energised[z] == model.energised[min(part)])
    model.n_dark = sum(1 - model.energised[min(part)] for part in parts)
    model.parts = parts


def _add_forest(
    model: pyo.ConcreteModel, network: Network, leads: list[int], zone: IntArray
) -> None:
    """Add (3)-(5) to a model that says what is dark."""
    a, b = zone[network.from_bus], zone[network.to_bus]
    between = list(model.tree)
    fed: set[int] = model.fed_zones
    reached = np.array([not (e.fixed and e.value == 0) for e in model.energised.values()])
    # A free branch within one zone could only close a loop, or stand beside a feed.
    within = [k for k in leads if a[k] == b[k] and k not in model.beside]
    for k in within:
        model.y[k].fix(0)
    # Where no path reaches, switching does nothing: keep the normal state.
    for k in between:
        if not reached[a[k]]:
            model.y[k].fix(int(network.closed[k]))
    live = [k for k in between if reached[a[k]]]
    n_closed = int(reached.sum()) - len(fed)
    model.live_ends = {k: (int(a[k]), int(b[k])) for k in live}
    _add_live(model)
    if live:
        energised = sum(model.energised[z] for z in np.flatnonzero(reached).tolist())
        model.forest = pyo.Constraint(
            expr=sum(model.live[k] for k in live) == energised - len(fed), doc="(3)"
        )
    # Operations where no closed branch opens by choice. Each branch that does open needs one more
    # tie in its place.
    forced_open = int(network.closed[within].sum())
    model.least_operations_all_fed = n_closed - int(network.closed[live].sum()) + forced_open
    _add_chains_and_loops(model, [(*ends, k) for k, ends in model.live_ends.items()], fed)


def _add_live(model: pyo.ConcreteModel) -> None:
    """Add live[b], l of (3): t itself where both ends are fed for sure."""
    sure = {k for k, ends in model.live_ends.items() if all(model.energised[z].fixed for z in ends)}
    model.closed_and_live = pyo.Var(
        [k for k in model.live_ends if k not in sure], bounds=(0, 1), doc="l of (3)"
    )
    model.live = {
        k: model.tree[k] if k in sure else model.closed_and_live[k] for k in model.live_ends
    }

    @model.Constraint(list(model.closed_and_live), (0, 1), doc="(3)")
    def live_is_fed(m: Any, k: int, end: int) -> Any:
        return m.live[k] <= m.energised[m.live_ends[k][end]]

    @model.Constraint(list(model.closed_and_live), doc="(3)")
    def live_is_closed(m: Any, k: int) -> Any:
        return m.live[k] <= m.tree[k]

    @model.Constraint(list(model.closed_and_live), doc="(3)")
    def closed_and_fed_is_live(m: Any, k: int) -> Any:
        return m.live[k] >= m.tree[k] + m.energised[m.live_ends[k][0]] - 1


def _add_chains_and_loops(
    model: pyo.ConcreteModel, edges: list[tuple[int, int, int]], fed: set[int]
) -> None:
    """Add (4) and (5); edges: (zone, zone, branch) of every branch to decide."""
    graph = nx.MultiGraph()
    graph.add_edges_from(edges)
    model.chain = pyo.ConstraintList(doc="(4)")
    dark = {z: 1 - model.energised[min(part)] for part in model.parts for z in part}
    for chain in _chains(graph, fed):
        if len(chain) > 1:
            on_it = {z for k in chain for z in model.live_ends[k]}
            parts = [part for part in model.parts if part & on_it]
            model.chain.add(
                sum(1 - model.tree[k] for k in chain) <= 1 + sum(dark[min(part)] for part in parts)
            )
    model.loop = pyo.ConstraintList(doc="(5)")
    simple = nx.Graph(graph)
    for nodes in _short_loops(simple):
        around = zip(nodes, nodes[1:] + nodes[:1], strict=True)
        model.loop.add(sum(1 - model.tree[k] for i, j in around for k in graph[i][j]) >= 1)
    for i, j in simple.edges:
        if graph.number_of_edges(i, j) > 1:
            model.loop.add(
                sum(1 - model.tree[k] for k in graph[i][j]) >= graph.number_of_edges(i, j) - 1
            )


def _short_loops(graph: nx.Graph) -> list[list[int]]:
    """Return the nodes of a shortest loop through each edge outside a spanning forest.

    As many as a cycle basis has. Short loops make strong cuts (5), and any loop makes a valid one.
    """
    chords = nx.difference(graph, nx.minimum_spanning_tree(graph)).edges
    loops = {}
    for i, j in list(chords):
        graph.remove_edge(i, j)
        nodes = nx.shortest_path(graph, i, j)
        graph.add_edge(i, j)
        loops[frozenset(nodes)] = nodes
    return list(loops.values())


def _chains(graph: nx.MultiGraph, fed: set[int]) -> list[list[int]]:
    """Return the branches of every longest path whose inner zones have two branches, none fed."""
    inner = {z for z in graph.nodes if graph.degree(z) == 2 and z not in fed}
    seen: set[int] = set()
    chains = []
    for start in (z for z in graph.nodes if z not in inner):
        for _, following, first in graph.edges(start, keys=True):
            if first in seen:
                continue
            chain, zone = [first], following
            while zone in inner:
                chain.append(next(k for _, _, k in graph.edges(zone, keys=True) if k != chain[-1]))
                i, j, _ = next(e for e in graph.edges(zone, keys=True) if e[2] == chain[-1])
                zone = j if i == zone else i
            seen.update(chain)
            chains.append(chain)
    return chains
