"""Who is fed: reach, zones, trees, loops and angles at rest."""

import numpy as np
import pytest

from feederguard.data.networks import load_network
from feederguard.models.network import NetworkError
from feederguard.models.network.graph import (
    away_from_substations,
    energised_buses,
    feeding_tree,
    refuse_fixed_loops,
    zones,
)
from feeders import feeder


def ring_with_tail(**changes):
    """0 --a-- 1 --b-- 2 --c-- 3, and the tie d from 3 back to 1. Line a alone is on no loop."""
    return feeder("a:0-1 b:1-2 c:2-3 d:3~1", **changes)


def fork(**changes):
    """0 --a-- 1, 2 --b-- 1 fed backwards, 1 --c-- 3; the tie t from 2 to 3 is open.

    Loads 0.1, 0.2, 0.3 at 1, 2, 3.
    """
    values = {
        "name": "fork",
        "p_load": [0, 0.1, 0.2, 0.3],
        "q_load": [0, 0.0, 0.05, 0.0],
        "x": 0.02,
    }
    return feeder("a:0-1 b:2-1 c:1-3 t:2~3", **values | changes)


def test_loops_are_found_with_every_branch_closed():
    np.testing.assert_array_equal(ring_with_tail().on_loop, [False, True, True, True])


def test_a_branch_leads_away_from_the_substation_or_towards_it():
    """b is drawn towards it; of the tie the from end lies as far as the to end, of e farther."""
    assert away_from_substations(fork()).tolist() == [1, -1, 1, 1]
    tail = feeder("a:0-1 b:1-2 e:2~0")
    assert away_from_substations(tail).tolist() == [1, 1, -1]


def test_parallel_branches_of_one_normal_state_open_together():
    network = ring_with_tail(from_bus=[0, 0, 1, 2], to_bus=[1, 1, 2, 3])
    spare = network.with_changes(closed=[False, True, True, True])

    np.testing.assert_array_equal(network.on_loop, [False] * 4)
    np.testing.assert_array_equal(spare.on_loop, [True, True, False, False])


def test_a_path_between_substations_is_a_loop():
    network = ring_with_tail(substation=[0, 2], v_substation=[1.0, 1.0], to_bus=[1, 2, 3, 2])

    np.testing.assert_array_equal(network.on_loop, [True, True, True, True])
    tail = ring_with_tail(substation=[0, 1], v_substation=[1.0, 1.0], to_bus=[1, 2, 3, 2])
    np.testing.assert_array_equal(tail.on_loop, [True, False, True, True])


def test_reach_of_one_state_and_of_a_batch():
    network = ring_with_tail(substation=[0, 3], v_substation=[1.0, 1.0])
    states = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [1, 1, 1, 1]], dtype=bool)

    batch = energised_buses(network, states)
    np.testing.assert_array_equal(batch, [[1, 1, 0, 1], [1, 0, 0, 1], [1, 0, 1, 1], [1, 1, 1, 1]])
    for state, reached in zip(states, batch, strict=True):
        np.testing.assert_array_equal(energised_buses(network, state), reached)


def test_zones_are_what_joined_branches_hold_together():
    zone = zones(ring_with_tail(), np.array([False, True, False, False]))

    assert zone[1] == zone[2] and len({zone[0], zone[1], zone[3]}) == 3


def test_branches_that_cannot_be_opened_and_make_a_loop_are_refused():
    fixed = np.array([False, True, True, True])

    refuse_fixed_loops(ring_with_tail(), fixed & ~fixed[::-1])
    with pytest.raises(NetworkError, match=r"cannot be switched form a loop .*; so no radial"):
        refuse_fixed_loops(ring_with_tail(), fixed)


def test_angles_at_rest_follow_the_shifts_on_the_way():
    network = ring_with_tail(shift=[0.1, 0.0, 0.2, 0.5], v_substation=[np.exp(0.3j)])

    np.testing.assert_allclose(network.no_load_angle, [0.3, 0.2, 0.2, 0.0], atol=1e-15)


def test_branches_come_after_what_feeds_them():
    walk = [(step.branch, step.near, step.far) for step in feeding_tree(fork())]
    assert walk[0] == (0, 0, 1)
    assert sorted(walk[1:]) == [(1, 1, 2), (2, 1, 3)]


def test_a_loop_is_refused_by_the_branch_that_closes_it():
    with pytest.raises(
        NetworkError, match="fork is meshed: closed branch 't' closes a loop.*use build_ac_opf"
    ):
        feeding_tree(fork(closed=[True] * 4))


def test_two_branches_side_by_side_are_refused_by_name():
    message = "branches 'b' and 'c' are parallel, .* one branch to each bus; make one branch of"
    with pytest.raises(NetworkError, match=message):
        feeding_tree(fork(from_bus=[0, 2, 1, 2], to_bus=[1, 1, 2, 3], closed=[True] * 4))


def test_a_path_between_substations_is_a_loop_too():
    with pytest.raises(NetworkError, match="closed branch 'c' closes a loop or joins substations"):
        feeding_tree(fork(substation=[0, 3], v_substation=[1.0, 1.0]))


def test_a_bus_that_nothing_feeds_is_named():
    with pytest.raises(NetworkError, match="no closed branch feeds bus '3'; close one"):
        feeding_tree(fork(closed=[True, True, False, False]))


@pytest.mark.parametrize("name", ["ieee33", "bus69", "cigre_lv18", "caracas141"])
def test_bundled_feeders_are_radial(name):
    network = load_network(name)
    assert len(feeding_tree(network)) == np.count_nonzero(network.closed)
