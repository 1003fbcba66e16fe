"""Counts of radial states: by hand, by the literature, and against brute force."""

import itertools

import numpy as np
import pytest

from feederguard.data.networks import load_network
from feederguard.models.load_transfer import energised_buses
from feederguard.models.radial_states import radial_states
from feederguard.models.setting import faultable_branches
from feederguard.models.switch_plans import SwitchPlans


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
        assert {row.tobytes() for row in np.concatenate([plain, plans.neighbours(fault, plain[0])])} <= known
