"""Where each limit lies, and rules compiled once; for the cost see tests/laws/test_cost.py."""

import pytest

from feederguard.models.load_transfer import Setting, limit_places, resolve_setting
from feederguard.models.load_transfer.rules import cost_of_squares, shed_per_base, transfer_rules
from feederguard.models.network import NetworkError
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


def test_rules_are_compiled_once() -> None:
    network = ring(0.06, 0.06)
    setting = resolve_setting(network, "radial")
    assert transfer_rules(network, setting) is transfer_rules(network, setting)


def test_a_rating_of_nothing_is_refused() -> None:
    network = ring(0.06, 0.06, rating=[1.0, 0.0, 1.0, 1.0, 1.0])
    with pytest.raises(NetworkError, match="rating of branch 'b' is 0; give its rating in A"):
        transfer_rules(network, Setting("own", True, 0.9, 1.1))
