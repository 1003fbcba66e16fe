"""Counts of radial states: by hand, by the literature, and against brute force."""

import itertools
from typing import Any

import numpy as np
import pytest

from feederguard.data.networks import load_network
from feederguard.models.load_transfer.setting import faultable_branches
from feederguard.models.network import Network
from feederguard.models.network.graph import energised_buses
from feederguard.models.switching.plans import SwitchPlans
from feederguard.models.switching.radial_states import radial_states


def test_ieee33_has_as_many_as_the_literature_counts() -> None:
    """50 751 radial topologies with all five ties, every line switchable."""
    network = load_network("ieee33")
    all_branches = np.ones(network.n_branch, dtype=bool)
    states = radial_states(network, network.closed, all_branches, all_branches, 100_000)
    assert states is not None and len(states) == 50_751
    assert len(np.unique(states, axis=0)) == 50_751
    assert energised_buses(network, states).all() and (states.sum(axis=1) == 32).all()


def test_equals_brute_force_after_a_fault() -> None:
    network = load_network("ieee33")
    # Only the ties and the first twelve lines may be operated, so that all subsets can be tried.
    switchable = network.is_tie | (np.arange(network.n_branch) < 12)
    fault = 5
    usable = np.ones(network.n_branch, dtype=bool)
    usable[fault] = False
    plain = SwitchPlans(network, "radial").plain(fault)[0]
    states = radial_states(network, plain, usable, switchable, 100_000)
    assert states is not None
    free = np.flatnonzero(switchable & usable)
    n_open = int(usable.sum()) - 32
    brute = set()
    for opened in itertools.combinations(free.tolist(), n_open):
        row = usable.copy()
        row[list(opened)] = False
        brute.add(row.tobytes())
    rows = np.array([np.frombuffer(key, dtype=bool) for key in brute])
    trees = rows[energised_buses(network, rows).all(axis=1)]
    assert {row.tobytes() for row in states} == {row.tobytes() for row in trees}


def test_too_many_are_not_listed() -> None:
    network = load_network("caracas141")
    plans = SwitchPlans(network, "radial")
    assert plans.every(int(faultable_branches(network)[3]), 10_000) is None


@pytest.mark.parametrize("name", ["ieee33", "bus69_zhou"])
def test_plain_plans_and_their_neighbours_are_among_them(name: str) -> None:
    network = load_network(name)
    plans = SwitchPlans(network, "radial")
    for fault in faultable_branches(network)[2::11].tolist():
        states = plans.every(fault, 2_000_000)
        assert states is not None
        known = {row.tobytes() for row in states}
        plain = plans.plain(fault)
        assert {
            row.tobytes() for row in np.concatenate([plain, plans.neighbours(fault, plain[0])])
        } <= known


def test_a_loop_that_hangs_from_the_rest_by_one_branch_is_opened_once_in_each_place() -> None:
    """0 -- 1, then the loop 1 - 2 - 3 - 1: each of its three branches may be the open one."""
    zero, one = np.zeros(4), np.ones(4)
    values: dict[str, Any] = {
        "name": "lasso",
        "base_mva": 1.0,
        "bus_name": tuple("0123"),
        "vn_kv": 10 * one,
        "v_min": 0.9 * one,
        "v_max": 1.1 * one,
        "p_load": 0.01 * one,
        "q_load": zero,
        "p_gen": zero,
        "q_gen": zero,
        "g_shunt": zero,
        "b_shunt": zero,
        "substation": [0],
        "v_substation": [1.0],
        "branch_name": tuple("abcd"),
        "kind": ("line", "line", "line", "tie"),
        "from_bus": [0, 1, 2, 3],
        "to_bus": [1, 2, 3, 1],
        "r": 0.01 * one,
        "x": 0.01 * one,
        "g_from": zero,
        "b_from": zero,
        "g_to": zero,
        "b_to": zero,
        "tap": one,
        "shift": zero,
        "rating": np.inf * one,
        "closed": [True, True, True, False],
        "open_end": zero,
    }
    network = Network(**values)
    whole = np.ones(4, dtype=bool)
    states = radial_states(network, np.array([True, True, True, False]), whole, whole, 100)
    assert states is not None
    assert sorted(map(tuple, (~states).nonzero()[1].reshape(-1, 1).tolist())) == [(1,), (2,), (3,)]
