"""Plans after a fault: counted by hand on a ring; radial ones legal, feeding all they can."""

import numpy as np
import pytest

from feederguard.data.networks import load_network
from feederguard.models.load_transfer.setting import faultable_branches
from feederguard.models.network import Network
from feederguard.models.network.graph import energised_buses
from feederguard.models.switching.plans import SwitchPlans
from feeders import feeder


def ladder() -> Network:
    """Two feeders of two buses each from one substation, with two ties between them.

    0 --a-- 1 --b-- 2
    |       :t1     :t2
    +--c--- 3 --d-- 4
    """
    return feeder(
        "a:0-1 b:1-2 c:0-3 d:3-4 t1:1~3 t2:2~4",
        name="ladder",
        p_load=[0, 0.1, 0.1, 0.1, 0.1],
        rating=1.0,
        paper_limit_mw=1.0,
    )


def names(network: Network, plans: np.ndarray) -> set[str]:
    return {" ".join(network.branch_name[b] for b in np.flatnonzero(row)) for row in plans}


def test_plain_radial_plans_by_hand() -> None:
    # After the loss of a, buses 1 and 2 come back over t1 or t2, every line kept, or stay dark.
    network = ladder()
    plain = SwitchPlans(network, "radial").plain(0)
    assert names(network, plain) == {"b c d t1", "b c d t2", "b c d"}


def test_of_several_detached_parts_each_may_stay_dark() -> None:
    """With a and d lost, {1, 2} and {4} are dark. t2 needs t1, or feeds nobody."""
    network = ladder()
    plans = SwitchPlans(network, "radial")
    fault = (network.branch_index("a"), network.branch_index("d"))

    assert plans.n_detached(fault) == 2 and plans.n_detached(0) == 1
    assert names(network, plans.plain(fault)) == {"b c t1 t2", "b c t1", "b c"}
    assert names(network, plans.plain(fault)[-1:]) == {"b c"}
    assert plans.every(fault, 1000) is None


def test_radial_exchanges_by_hand() -> None:
    # From b c d t1: closing t2 makes the loop t1 b t2 d; opening one of the other three breaks it.
    network = ladder()
    plans = SwitchPlans(network, "radial")
    start = np.array([0, 1, 1, 1, 1, 0], dtype=bool)
    assert names(network, plans.neighbours(0, start)) == {"b c d t2", "c d t1 t2", "b c t1 t2"}


def test_a_dark_part_is_joined_and_where_cables_charge_a_line_may_open_alone() -> None:
    network = ladder()
    dark = np.array([0, 1, 1, 1, 0, 0], dtype=bool)
    plans = SwitchPlans(network, "radial")
    assert names(network, plans.neighbours(0, dark)) == {"b c d t1", "b c d t2"}
    plans = SwitchPlans(network.with_changes(b_to=np.full(6, 0.1)), "radial")
    joined = {"b c d t1", "b c d t2"}
    assert names(network, plans.neighbours(0, dark)) == joined | {"b d", "b c"}


def test_meshed_plans_are_all_tie_states() -> None:
    network = ladder()
    plans = SwitchPlans(network, "paper")
    assert names(network, plans.plain(0)) == {"b c d", "b c d t1", "b c d t2", "b c d t1 t2"}
    assert plans.plain(0)[0].sum() == 3  # fewest operations first
    assert plans.n_states(0) == 4
    assert names(network, plans.neighbours(0, plans.plain(0)[1])) == {
        "b c d",
        "b c d t1 t2",
        "b c d t2",
    }


def test_many_ties_leave_single_ones_as_plain_plans() -> None:
    network = load_network("mantovani136").with_changes(paper_limit_mw=5.0)
    plans = SwitchPlans(network, "paper")
    fault = int(faultable_branches(network)[0])
    assert len(plans.plain(fault)) == 22  # none, or one of 21
    assert plans.n_states(fault) == 2.0**21


@pytest.mark.parametrize("name", ["ieee33", "bus69_zhou", "caracas141", "mantovani136"])
def test_radial_plans_and_exchanges_are_forests_that_feed_all(name: str) -> None:
    network = load_network(name)
    plans = SwitchPlans(network, "radial")
    for fault in faultable_branches(network)[::9].tolist():
        usable = (network.closed | plans.switchable)[None].copy()
        usable[0, fault] = False
        reachable = energised_buses(network, usable)[0]
        plain = plans.plain(fault)
        if not plans.feeds_all(fault, plans.dark(fault)):
            np.testing.assert_array_equal(plain[-1], plans.dark(fault))
            plain = plain[:-1]
        rows = np.concatenate([plain, plans.neighbours(fault, plain[0])])
        live = energised_buses(network, rows)
        assert (live == reachable).all()
        inner = rows & live[:, network.from_bus] & live[:, network.to_bus]
        assert (inner.sum(axis=1) == reachable.sum() - 1).all()
        assert not rows[:, fault].any()
        changed = rows != network.closed
        changed[:, fault] = False
        assert not (changed & ~plans.switchable).any()
        assert len(np.unique(rows[len(plain) :], axis=0)) == len(rows) - len(plain)


def test_dark_plan_opens_the_fault_alone() -> None:
    network = ladder()
    assert names(network, SwitchPlans(network, "radial").dark(1)[None]) == {"a c d"}
