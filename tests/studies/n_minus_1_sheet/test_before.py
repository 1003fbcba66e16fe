"""What a feeder breaks before any fault, by hand, and what of it a fault leaves as it was."""

import numpy as np
import pytest

from feederguard.models.load_transfer import Decisions, Setting, make_scenarios
from feederguard.models.network import GroupLimit
from feederguard.models.switching.sequence import order_operations
from feederguard.studies.n_minus_1_sheet.before import (
    HELPLESS,
    before_fault,
    lasting_columns,
    told_before,
)
from feeders import feeder

OWN = Setting("own", True, 0.9, 1.05)


def drawn(**given):
    """a bears 0.2 of the 0.3 pu that 1 and 2 draw; d feeds bus 3 alone, and e ties it to 2."""
    values = {"p_load": [0, 0.1, 0.2, 0.1], "r": 1e-4, "rating": [0.2, 9, 9, 9]}
    return feeder("a:0-1 b:1-2 d:0-3 e:3~2", **(values | given))


def test_an_overload_before_any_fault_is_listed_with_its_limit():
    network = drawn(groups=[GroupLimit("heads", ("a", "d"), 0.25)])
    before = before_fault(network, OWN, make_scenarios(network, ["a"]))
    lines = before.table.to_dict("records")
    assert [line["limit"] for line in lines] == ["current of branch 'a'", "power of group 'heads'"]
    amperes = 1e3 / (np.sqrt(3) * 10)
    assert lines[0]["value"] == pytest.approx(0.3 * amperes, rel=1e-3)
    assert lines[0]["high"] == pytest.approx(0.2 * amperes) and lines[0]["unit"] == "A"
    assert lines[1]["value"] == pytest.approx(0.4, rel=1e-3) and lines[1]["low"] == -0.25
    assert not any(line["helpless"] for line in lines)
    told = "broken before any fault (before.csv): 2, among them current of branch 'a' (17.32 A), "
    assert told_before(before) == [f"{told}power of group 'heads' (0.4 MW)"]


def test_what_cannot_be_helped_says_so():
    network = drawn(
        v_substation=[0.93],
        v_min=0.95,
        b_from=[0, 0.2, 0, 0],
        b_to=[0, 0.1, 0, 0],
        p_load=[0, 0, 0, 0.1],
    )
    with pytest.warns(UserWarning):
        before = before_fault(network, OWN, make_scenarios(network, ["d"]))
    table = before.table.set_index("limit")
    assert set(table.index) == {
        *(f"voltage of bus '{i}'" for i in (1, 2, 3)),
        "current of branch 'a'",
    }
    assert (table["helpless"] == HELPLESS).all()
    assert table.loc["voltage of bus '3'", "low"] == 0.95
    # The judge lets them pass, since shedding cannot help.
    assert not before.excess.any()


def test_nothing_broken_is_an_empty_table():
    network = drawn(rating=9.0)
    before = before_fault(network, OWN, make_scenarios(network, ["a"]))
    assert before.table.empty and told_before(before) == []


def test_no_power_flow_is_said():
    network = drawn(p_load=[0, 0.1, 90.0, 0.1], r=0.1, rating=9.0)
    before = before_fault(network, OWN, make_scenarios(network, ["d"]))
    assert before.table["limit"].tolist() == ["every limit: no power flow solution"]
    assert len(told_before(before)) == 1


def test_what_stays_broken_is_told_apart_from_what_was_broken_before():
    """d fails: closing e takes bus 3 to line a, which was overloaded; leaving it open does not."""
    network = drawn()
    scenarios = make_scenarios(network, ["d", "d", "b"])
    closed = np.array([[1, 1, 0, 0], [1, 1, 0, 1], [1, 0, 1, 1]], dtype=bool)
    decisions = Decisions(closed, np.zeros((3, 4)))
    sequences = order_operations(network, scenarios, decisions, OWN)
    before = before_fault(network, OWN, scenarios[:1])
    columns = lasting_columns(network, OWN, scenarios, sequences, before)
    assert columns["broken"] == ["", "current of branch 'a'", ""]
    assert columns["broken_before"] == ["current of branch 'a'", "", ""]
