"""Where each limit lies, and rules compiled once; for the cost see tests/laws/test_cost.py."""

import numpy as np
import pytest

from feederguard.models.load_transfer import (
    Decisions,
    Setting,
    judge,
    limit_places,
    limit_violations,
    make_scenarios,
    resolve_setting,
)
from feederguard.models.load_transfer.rules import cost_of_squares, shed_per_base, transfer_rules
from feederguard.models.network import GroupLimit, NetworkError
from feederguard.models.power_flow import solve_power_flow
from feeders import ring


def test_cost_by_hand() -> None:
    # 0.2 MW are two bases of 0.1 MW: 22 * 2^2 + 3 * 1^2.
    network = ring(0.06, 0.06)
    assert cost_of_squares(shed_per_base(network, 0.2) ** 2, 1) == pytest.approx(91)


def test_every_limit_has_its_bus_or_branch() -> None:
    network = ring(0.06, 0.06, paper_limit_mw=0.1, rating=1.0)
    radial = limit_places(network, "radial")
    assert radial.bus.tolist() == [1, 2, 3, 4] + [-1] * 5
    assert radial.branch.tolist() == [-1] * 4 + [0, 1, 2, 3, 4]
    # Power is limited in both directions at both ends, away from the substation.
    paper = limit_places(network, "paper")
    assert sorted(set(paper.branch.tolist())) == [-1, 1, 2, 4]
    assert (paper.branch == 1).sum() == 4


def test_a_group_limit_has_its_group_and_its_direction() -> None:
    """Branch d is drawn towards the substation; what leaves by it counts positive all the same."""
    group = GroupLimit("heads", ("a", "d"), 0.1)
    network = ring(0.06, 0.06, rating=1.0, groups=[group])
    backwards = network.with_changes(from_bus=[0, 1, 2, 4, 4], to_bus=[1, 2, 3, 0, 3])
    for drawn in (network, backwards):
        places = limit_places(drawn, "radial")
        assert places.group.tolist() == [-1] * 9 + [0]
        assert places.name[-1] == "group_limit[0]" and places.branch[-1] == places.bus[-1] == -1
        flow = solve_power_flow(drawn, drawn.p_load[None], drawn.q_load[None])
        # 0.22 MW leave the substation, 120 % more than the limit.
        assert limit_violations(drawn, "radial", flow)[0, -1] == pytest.approx(1.2, abs=1e-3)
        easier = Setting("easier", True, 0.9, 1.05, rating_factor=1.5)
        assert limit_violations(drawn, easier, flow)[0, -1] == pytest.approx(
            0.22 / 0.15 - 1, abs=1e-3
        )
    idle = Decisions(network.closed[None] & (np.arange(5) != 4), np.zeros((1, 5)))
    outcome = judge(network, make_scenarios(network, ["e"]), idle, "radial")
    assert not outcome.safe[0] and outcome.max_loading[0] == pytest.approx(2.2, abs=1e-3)


def test_what_feeds_back_through_a_group_is_limited_too() -> None:
    network = ring(0.0, 0.0, p_gen=[0, 0, 0, 0.5, 0], groups=[GroupLimit("head", ("a",), 0.3)])
    flow = solve_power_flow(network, (network.p_load - network.p_gen)[None], network.q_load[None])
    assert limit_violations(network, "radial", flow)[0, -1] == pytest.approx(0.45 / 0.3 - 1)


def test_rules_are_compiled_once() -> None:
    network = ring(0.06, 0.06)
    setting = resolve_setting(network, "radial")
    assert transfer_rules(network, setting) is transfer_rules(network, setting)


def test_a_rating_of_nothing_is_refused() -> None:
    network = ring(0.06, 0.06, rating=[1.0, 0.0, 1.0, 1.0, 1.0])
    with pytest.raises(NetworkError, match="rating of branch 'b' is 0; give its rating in A"):
        transfer_rules(network, Setting("own", True, 0.9, 1.1))
