"""Devices: their states and open ends follow the branches, and the network keeps them consistent.

device_checks.py is tested here.
"""

import numpy as np
import pytest

from feederguard.models.network import Devices, NetworkError
from feederguard.models.network.devices import MANUAL_MINUTES, REMOTE_MINUTES, default_minutes
from feederguard.models.power_flow import solve_power_flow
from feeders import feeder

PLACES = ((0, 0, "breaker"), (1, 1, "load_break"), (2, 0, "disconnector"), (2, 1, "recloser"))
PLACES += ((3, 0, "load_break"), (3, 1, "load_break"))


def devices(**changes):
    """Branch 0 has a device at its from end, 1 at its to end, 2 and 3 at both; the tie 3 is open
    at its to end.
    """
    branch, end, kind = zip(*PLACES, strict=True)
    values = {
        "name": [f"d{k}" for k in range(6)],
        "branch": branch,
        "end": end,
        "kind": kind,
        "closed": [True] * 5 + [False],
        "remote": [True, False] * 3,
        "minutes": [1, 30] * 3,
        "available": [True] * 6,
    }
    return Devices(**(values | changes))


def network(**changes):
    """A ring of three lines and a tie, with a charging that tells from which end a line hangs."""
    given = {"devices": devices(), "b_from": 0.1, "b_to": 0.1, "x": 0.01, **changes}
    return feeder("a:0-1 b:1-2 c:0-3 t:3~2", **given)


def test_a_branch_hangs_from_the_end_without_an_open_device():
    """a opens at its from end, b at its to end, c at its recloser alone, t where it is open now."""
    assert network().open_end.tolist() == [1, 2, 2, 2]


def test_with_two_operable_devices_it_opens_at_both_ends_or_where_the_data_say():
    two = devices(kind=["load_break"] * 6)

    assert network(devices=two).open_end.tolist() == [1, 2, 0, 2]
    assert network(devices=two, open_end=[0, 1, 1, 1]).open_end.tolist() == [1, 2, 1, 2]


def test_a_blocked_device_leaves_the_opening_to_the_other_one():
    blocked = devices(kind=["load_break"] * 6, available=[True, True, True, False, True, True])

    assert network(devices=blocked).open_end.tolist() == [1, 2, 1, 2]


def test_devices_follow_the_branches_to_their_new_states():
    now = network().with_changes(closed=[True, True, False, True])

    assert now.devices.closed.tolist() == [True, True, True, False, True, True]
    back = now.with_changes(closed=network().closed)
    assert back.devices.closed.tolist() == network().devices.closed.tolist()
    assert back.open_end.tolist() == network().open_end.tolist()


def test_an_opened_line_draws_its_charging_at_the_end_it_hangs_from():
    """c is opened by its recloser at bus 3, and hangs from bus 0."""
    now = network().with_changes(closed=[True, True, False, True])

    flow = solve_power_flow(now)

    drawn = abs(flow.s_from[2]), abs(flow.s_to[2])
    assert drawn == pytest.approx((0.2, 0.0), rel=0.01, abs=1e-12)


def test_devices_follow_their_branches_by_name():
    small = feeder("c:0-1 a:1-2").with_changes(devices=None)
    values = {
        name: getattr(small, name)
        for name in ("bus_name", "branch_name", "from_bus", "to_bus", "kind", "closed", "open_end")
    }
    per_bus = ("vn_kv", "v_min", "v_max", "p_load", "q_load", "p_gen", "q_gen", "g_shunt")
    per_branch = ("r", "x", "g_from", "b_from", "g_to", "b_to", "tap", "shift", "rating")
    values |= {name: getattr(small, name) for name in (*per_bus, "b_shunt", *per_branch)}

    now = network().with_changes(**values)

    assert now.devices.name == ("d0", "d2", "d3")
    assert now.devices.branch.tolist() == [1, 0, 0]


def test_what_may_be_operated():
    assert devices().operable.tolist() == [True, True, False, True, True, True]
    blocked = devices(kind=["fuse"] * 6, available=np.arange(6) < 3)
    assert not blocked.operable.any() and not blocked.operated_under_load.any()


def test_minutes_are_assumed_where_the_data_do_not_say():
    assert default_minutes([True, False]).tolist() == [REMOTE_MINUTES, MANUAL_MINUTES]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": ["d0"] * 6}, r"hand: device 'd0' appears twice; give every device its own name"),
        ({"kind": ["valve"] * 6}, r"hand: device 'd0' is of kind 'valve'; use one of breaker, rec"),
        ({"branch": [0, 1, 2, 2, 3, 4]}, r"hand: device 'd5' stands at branch 4; .* 0 to 3"),
        ({"end": [0, 1, 0, 1, 0, 2]}, r"hand: device 'd5' stands at end 2 of branch 't'; use 0"),
        ({"minutes": [-1] * 6}, r"hand: device 'd0' takes -1\.0 minutes; give zero or more"),
        ({"remote": [True]}, r"hand: devices\.remote has 1 entries for 6 devices; give one for"),
        (
            {"closed": [False] + [True] * 4 + [False]},
            r"hand: device 'd0' of branch 'a' at bus '0' is open, but the branch is closed; close",
        ),
        (
            {"closed": [True] * 6},
            r"hand: device 'd4' of branch 't' at bus '3' is closed like every device of the "
            r"branch, but the branch is open; open a device, or close the branch",
        ),
    ],
)
def test_a_device_that_cannot_be_is_refused(changes, message):
    with pytest.raises(NetworkError, match=message):
        network(devices=devices(**changes))
