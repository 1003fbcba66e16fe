"""Doing nothing: the normal state less the fault, dark load and all."""

import numpy as np
import pytest

from feederguard.baselines.no_transfer import NoTransfer
from feederguard.data.networks import load_network
from feederguard.models.load_transfer import judge, make_scenarios


def test_name() -> None:
    assert NoTransfer(load_network("ieee33")).name == "no_transfer"


@pytest.mark.parametrize("setting", ["paper", "radial"])
def test_only_the_faulted_branch_opens(setting: str) -> None:
    network = load_network("ieee33")
    fault = np.array([1, 5, 31])
    scenarios = make_scenarios(network, fault)
    decisions = NoTransfer(network).decide(scenarios)
    changed = decisions.closed != network.closed
    assert [np.flatnonzero(row).tolist() for row in changed] == [[1], [5], [31]]
    assert not decisions.shed.any()
    found = judge(network, scenarios, decisions, setting)
    assert found.n_operations.tolist() == [0, 0, 0]
    assert found.converged.all()
    assert not found.connected.any()


def test_cost_of_what_lies_behind_the_fault() -> None:
    # Branch 32 of the 33-bus feeder feeds bus 33 alone: 0.06 MW, 22 * 0.6^2 = 7.92.
    network = load_network("ieee33")
    scenarios = make_scenarios(network, "32")
    found = judge(network, scenarios, NoTransfer(network).decide(scenarios), "radial")
    assert found.cost[0] == pytest.approx(7.92)
    assert found.shed_ratio[0] == pytest.approx(0.06 / 3.715)


def test_a_failed_tie_changes_nothing() -> None:
    network = load_network("ieee33")
    tie = int(np.flatnonzero(network.is_tie)[0])
    scenarios = make_scenarios(network, tie)
    decisions = NoTransfer(network).decide(scenarios)
    assert np.array_equal(decisions.closed[0], network.closed)
    assert judge(network, scenarios, decisions, "radial").cost[0] == 0.0
