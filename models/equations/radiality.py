"""Which buses are energised, and that they form trees: a commodity and a count.

Branches that cannot be switched hold buses together in *zones*. The questions below are asked of
zones, which is equivalent and smaller. e_z tells whether zone z is energised; a zone with a
substation always is.

    (1)  a closed branch joins two zones of one state:   y_b - 1 <= e_z - e_z' <= 1 - y_b
    (2)  one commodity leaves the substations, and every energised zone takes one unit:
             sum into z of f_b - sum out of z of f_b = e_z,     |f_b| <= n_zone y_b
    (3)  a forest:  sum of y_b over branches between energised zones
                    = energised zones - zones with a substation

Two families of inequalities follow from (2) and (3) for whole y. They shorten proofs:

    (4)  at most one branch is open in a chain of zones with two branches each:
             sum of (1 - y_b) <= 1
    (5)  at least one branch is open in every loop:  sum of (1 - y_b) >= 1

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


def add_topology(
    model: pyo.ConcreteModel,
    network: Network,
    free: BoolArray,
    fixed_closed: BoolArray,
    radial: bool,
) -> None:
    """Add y[branch], energised[zone], (1) and (2); when `radial` also (3)-(5).

    free: (n_branch,) branches to decide; fixed_closed: (n_branch,) those that stay closed. All
    others stay open. Adds the mapping `zone_of` (bus to zone).

    When radial, every zone within reach is energised, and the model gets three attributes:
    `least_operations`, the ties to close if nothing is opened;
    `live_ends`, the zones that each branch to decide joins;
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
    between = [k for k in range(network.n_branch) if free[k] and a[k] != b[k]]
    model.flow = pyo.Var(between, bounds=(-n_zone, n_zone), doc="commodity of (2)")

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
        return sign * m.flow[k] <= n_zone * m.y[k]

    if radial:
        _add_forest(model, network, free, fixed_closed, zone, between, fed)


def _add_forest(
    model: pyo.ConcreteModel,
    network: Network,
    free: BoolArray,
    fixed_closed: BoolArray,
    zone: IntArray,
    between: list[int],
    fed: set[int],
) -> None:
    """Energise every zone within reach, and add (3)-(5)."""
    a, b = zone[network.from_bus], zone[network.to_bus]
    reached = np.zeros(len(model.zone), dtype=bool)
    reached[zone[energised_buses(network, free | fixed_closed)]] = True
    for z in model.zone:
        model.energised[z].fix(int(reached[z]))
    # A free branch within one zone could only close a loop.
    within = [k for k in range(network.n_branch) if free[k] and a[k] == b[k]]
    for k in within:
        model.y[k].fix(0)
    # Where no path reaches, switching does nothing: keep the normal state.
    for k in between:
        if not reached[a[k]]:
            model.y[k].fix(int(network.closed[k]))
    live = [k for k in between if reached[a[k]]]
    n_closed = int(reached.sum()) - len(fed)
    if live:
        model.forest = pyo.Constraint(expr=sum(model.y[k] for k in live) == n_closed, doc="(3)")
    # Operations where no closed branch opens by choice. Each branch that does open needs one more
    # tie in its place.
    forced_open = int(network.closed[within].sum())
    model.least_operations = n_closed - int(network.closed[live].sum()) + forced_open
    model.live_ends = {k: (int(a[k]), int(b[k])) for k in live}
    model.fed_zones = fed
    _add_chains_and_loops(model, [(*ends, k) for k, ends in model.live_ends.items()], fed)


def _add_chains_and_loops(
    model: pyo.ConcreteModel, edges: list[tuple[int, int, int]], fed: set[int]
) -> None:
    """Add (4) and (5); edges: (zone, zone, branch) of every branch to decide."""
    graph = nx.MultiGraph()
    graph.add_edges_from(edges)
    model.chain = pyo.ConstraintList(doc="(4)")
    for chain in _chains(graph, fed):
        if len(chain) > 1:
            model.chain.add(sum(1 - model.y[k] for k in chain) <= 1)
    model.loop = pyo.ConstraintList(doc="(5)")
    simple = nx.Graph(graph)
    for nodes in nx.minimum_cycle_basis(simple):
        around = list(zip(nodes, nodes[1:] + nodes[:1], strict=True))
        # The basis lists the nodes of a cycle. It is of use only where that list goes round it.
        if all(simple.has_edge(i, j) for i, j in around):
            model.loop.add(sum(1 - model.y[k] for i, j in around for k in graph[i][j]) >= 1)
    for i, j in simple.edges:
        if graph.number_of_edges(i, j) > 1:
            model.loop.add(
                sum(1 - model.y[k] for k in graph[i][j]) >= graph.number_of_edges(i, j) - 1
            )


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
