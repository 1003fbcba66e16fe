"""Which switch states the topology allows, counted against every state of small rings."""

import itertools

import numpy as np
import pyomo.environ as pyo
import pytest
from pyomo.core.expr.visitor import identify_variables

from feederguard.models.equations.radiality import (
    EVERYTHING,
    NOTHING,
    WHOLE_PARTS,
    add_topology,
)
from feederguard.models.network import NetworkError
from feederguard.models.solver import NotSolvedError, solve
from feeders import feeder


def topology(network, free, radial=True, must_be_fed=EVERYTHING):
    model = pyo.ConcreteModel("topology")
    model.bus = pyo.RangeSet(0, network.n_bus - 1)
    model.branch = pyo.RangeSet(0, network.n_branch - 1)
    free = np.asarray(free, dtype=bool)
    add_topology(model, network, free, network.closed & ~free, radial, must_be_fed)
    model.objective = pyo.Objective(expr=sum(model.flow.values(), 0.0 * model.energised[0]))
    return model


def allowed(network, radial=True, must_be_fed=EVERYTHING):
    """Return the states of all branches, free to be switched, that leave the model a solution."""
    found = set()
    for state in itertools.product((0, 1), repeat=network.n_branch):
        model = topology(network, [True] * network.n_branch, radial, must_be_fed)
        for b, closed in enumerate(state):
            model.y[b].fix(closed)
        try:
            solve(model, "highs", explain=False)
        except NotSolvedError:
            continue
        found.add(state)
    return found


def test_radial_states_of_a_ring_are_its_spanning_trees():
    """Four branches round a ring: each may be the one that is open."""
    ring = feeder("0-1 1-2 2-3 3~0")
    assert allowed(ring) == {(0, 1, 1, 1), (1, 0, 1, 1), (1, 1, 0, 1), (1, 1, 1, 0)}


def test_parallel_branches_are_one_feed():
    """A spare may stand beside a line; two branches of one normal state switch as one."""
    assert allowed(feeder("0-1 0~1 1-2")) == {(1, 0, 1), (0, 1, 1), (1, 1, 1)}
    assert allowed(feeder("0-1 1-0 1-2 2~0")) == {(1, 1, 1, 0), (1, 1, 0, 1), (0, 0, 1, 1)}


def test_two_transformers_with_a_closed_coupler_are_one_feed():
    """All states feed buses 1, 2; with both transformers closed the coupler may be either."""
    network = feeder("0-1 0-2 1-2", r=0.0, x=[0.1, 0.1, 0.0])
    assert allowed(network) == {(1, 1, 0), (1, 0, 1), (0, 1, 1), (1, 1, 1)}
    ring = feeder("0-1 0-2 1-2 1-3 3-4 4~2", r=0.0, x=[0.1, 0.1, 0.0, 0.1, 0.1, 0.1])
    assert (1, 1, 1, 1, 1, 0) in allowed(ring) and (1, 1, 0, 1, 1, 1) not in allowed(ring)


def test_a_coupler_between_transformers_that_nobody_switches_is_free():
    model = topology(feeder("0-1 0-2 1-2", r=0.0, x=[0.1, 0.1, 0.0]), [False, False, True])
    for closed in (0, 1):
        model.y[2].fix(closed)
        solve(model, "highs")


def test_two_substations_share_the_buses_between_them():
    row = feeder("0-1 1-2 2~3", substation=[0, 3], v_substation=[1.0, 1.0])
    assert allowed(row) == {(1, 1, 0), (1, 0, 1), (0, 1, 1)}


def test_what_is_not_radial_may_be_meshed_or_dark():
    states = allowed(feeder("0-1 0~1"), radial=False)
    assert states == {(0, 0), (0, 1), (1, 0), (1, 1)}


def test_where_nothing_must_be_fed_every_forest_is_allowed():
    """A ring of four branches: all states but the closed ring, and no more than was closed dark."""
    ring = feeder("0-1 1-2 2-3 3~0")
    states = allowed(ring, must_be_fed=NOTHING)
    assert states == set(itertools.product((0, 1), repeat=4)) - {(1, 1, 1, 1)}


def test_a_part_cut_off_is_fed_or_dark_as_a_whole():
    """Branch 0-1 of the ring is out: the tie feeds 1, 2, 3, or all of them stay dark."""
    ring = feeder("0~1 1-2 2-3 3~0")
    found = {}
    for state in itertools.product((0, 1), repeat=3):
        model = topology(ring, [False] + [True] * 3, must_be_fed=WHOLE_PARTS)
        for b, closed in zip((1, 2, 3), state, strict=True):
            model.y[b].fix(closed)
        try:
            solve(model, "highs", explain=False)
        except NotSolvedError:
            continue
        found[state] = [pyo.value(model.energised[model.zone_of[i]]) for i in (1, 2, 3)]
    assert found.pop((1, 1, 1)) == [1, 1, 1]
    assert all(energised == [0, 0, 0] for energised in found.values())
    assert (1, 1, 0) in found


def test_no_switch_in_a_loop_is_refused():
    network = feeder("0-1 1-2 2-0 2~1")
    with pytest.raises(NetworkError, match="hand: branches that cannot be switched form a loop"):
        topology(network, [False, False, False, True])


def test_the_zones_and_the_ties_to_close():
    model = topology(feeder("0-1 1-2 2-3 3~0"), [False, True, False, True])

    assert [model.zone_of[bus] for bus in range(4)] == [0, 0, 1, 1]
    assert pyo.value(model.least_operations) == 0
    assert model.live_ends == {1: (0, 1), 3: (1, 0)}
    assert model.fed_zones == {0}


def test_there_are_as_many_short_loops_as_independent_ones():
    """Of a ladder of four squares each is cut, and no longer loop."""
    rails = [f"{i}-{i + 1} {i + 5}-{i + 6}" for i in range(4)]
    rungs = [f"{i}-{i + 5}" for i in range(1, 5)]
    ladder = feeder(" ".join([*rails, "0-5", *rungs]))
    model = topology(ladder, [True] * ladder.n_branch)
    assert [len(list(identify_variables(row.body))) for row in model.loop.values()] == [4] * 4
