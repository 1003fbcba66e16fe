"""What cannot be a feeder is refused, and the message names the element and the rule.

The group limits of groups.py are tested here.
"""

import numpy as np
import pytest

from feederguard.models.network import GroupLimit, NetworkError
from feederguard.models.network.checks import warn_of_idle_generators
from feeders import feeder


def drawn(**changes):
    """0 --a-- 1 --b-- 2 --c-- 3, and the tie d from 3 back to 1; 10 MVA, 10 kV.

    Line a is the only one on no loop.
    """
    values = {
        "name": "drawn",
        "base_mva": 10.0,
        "bus_name": ("s", "u", "v", "w"),
        "p_load": [0, 0.1, 0.2, 0.3],
        "x": 0.02,
        "rating": [1.0, 1.0, np.inf, np.inf],
    }
    return feeder("a:0-1 b:1-2 c:2-3 d:3~1", **values | changes)


GENERATORS = {
    "gen_name": ("g", "h"),
    "gen_bus": [0, 3],
    "gen_p_min": [0.0, -0.1],
    "gen_p_max": [np.inf, 0.2],
    "gen_q_min": [-1.0, -0.1],
    "gen_q_max": [1.0, 0.1],
}


REFUSED = {
    "short array": ({"p_load": [0.0]}, "drawn: p_load has 1 entries, expected 4"),
    "two voltages": ({"v_substation": [1.0, 1.0]}, "v_substation has 2 entries, expected 1"),
    "same bus": (
        {"bus_name": ("s", "u", "u", "w")},
        "bus 'u' appears twice; give every bus its own name",
    ),
    "same branch": ({"branch_name": ("a", "b", "a", "d")}, "branch 'a' appears twice"),
    "base": ({"base_mva": 0.0}, "base_mva is 0.0; it must be positive"),
    "infinite base": ({"base_mva": np.inf}, "base_mva is inf; it must be positive"),
    "nan load": ({"p_load": [0, 0, np.nan, 0]}, "p_load of bus 'v' is nan; give a finite number"),
    "infinite x": ({"x": [0, np.inf, 0, 0]}, "x of branch 'b' is inf; give a finite number"),
    "nan tap": ({"tap": [1, 1, 1, np.nan]}, "tap of branch 'd' is nan; give a finite number"),
    "negative r": (
        {"r": [0.1, -0.2, 0.1, 0.1]},
        "r of branch 'b' is -0.2; it must be zero or more",
    ),
    "zero kV": ({"vn_kv": [10, 10, 0, 10]}, "vn_kv of bus 'v' is 0; it must be positive"),
    "zero tap": ({"tap": [1, 0, 1, 1]}, "tap of branch 'b' is 0; it must be positive"),
    "negative rating": (
        {"rating": [1, 1, -1, 1]},
        "rating of branch 'c' is -1; it must be zero or more",
    ),
    "nan rating": (
        {"rating": [1, 1, np.nan, 1]},
        "rating of branch 'c' is nan; it must be zero or more",
    ),
    "band": ({"v_min": [0.9, 1.2, 0.9, 0.9]}, "bus 'u' has v_min 1.2 above v_max 1.1; swap them"),
    "kind": (
        {"kind": ("line", "cable", "line", "tie")},
        "branch 'b' is of kind 'cable'; use one of line, tie, trafo",
    ),
    "open end": (
        {"open_end": [0, 3, 0, 0]},
        r"open_end must be 0 \(both ends\), 1 \(from\) or 2 \(to\)",
    ),
    "from bus": (
        {"from_bus": [0, 7, 2, 3]},
        "from_bus of branch 'b' is 7; buses are numbered 0 to 3",
    ),
    "to bus": ({"to_bus": [1, 2, -1, 1]}, "to_bus of branch 'c' is -1; buses are numbered 0 to 3"),
    "to itself": ({"to_bus": [1, 1, 3, 1]}, "branch 'b' starts and ends at bus 'u'; remove it"),
    "no substation": (
        {"substation": [], "v_substation": []},
        r"no substation; mark the bus .* \(type 'slack'\)",
    ),
    "substation outside": ({"substation": [4]}, "substation is outside buses 0 to 3"),
    "substation twice": (
        {"substation": [0, 0], "v_substation": [1, 1]},
        "a bus is named twice as substation",
    ),
    "dead substation": ({"v_substation": [0.0]}, "v_substation must be finite and not zero"),
    "negative s_max": (
        {"s_max": [1, -1, 1, 1]},
        "s_max of branch 'b' is -1; it must be zero or more",
    ),
    "short s_max": ({"s_max": [1, 1]}, "s_max has 2 entries, expected 4"),
    "angles": (
        {"angle_min": [0.3, -1, -1, -1], "angle_max": [0.2, 1, 1, 1]},
        "branch 'a' has angle_min 0.3 and angle_max 0.2; give a lower limit not above",
    ),
    "generator limits": (
        GENERATORS | {"gen_p_max": [-1, 0]},
        "generator 'g' has gen_p_min 0 and gen_p_max -1; give",
    ),
    "generator without q": (
        GENERATORS | {"gen_q_min": [np.nan, 0]},
        "generator 'g' has gen_q_min nan and gen_q_max 1",
    ),
    "generator at inf": (
        GENERATORS | {"gen_q_min": [-1, np.inf], "gen_q_max": [1, np.inf]},
        "'h' has gen_q_min inf",
    ),
    "short limits": (GENERATORS | {"gen_q_max": [1]}, "gen_q_max has 1 entries, expected 2"),
    "same generator": (
        GENERATORS | {"gen_name": ("g", "g")},
        "generator 'g' appears twice; give every generator",
    ),
    "generator outside": (
        GENERATORS | {"gen_bus": [0, 4]},
        "gen_bus of generator 'h' is 4; buses are numbered 0 to 3",
    ),
    "grid elsewhere": (
        GENERATORS | {"gen_is_grid": [True, True]},
        r"generator 'h' stands for the grid above \(gen_is_grid\) at bus 'w', which is no "
        r"substation; move it to one, or set",
    ),
    "two coefficients": (
        GENERATORS | {"gen_cost": [[1, 2], [3, 4]]},
        r"gen_cost has shape \(2, 2\), expected \(2, 3\); give c2, c1 and c0 of every generator",
    ),
    "nan cost": (
        GENERATORS | {"gen_cost": [[0, 1, 0], [0, np.nan, 0]]},
        "gen_cost of generator 'h' is .* three finite",
    ),
    "island": (
        {"from_bus": [0, 0, 2, 3], "to_bus": [1, 1, 3, 2]},
        r"2 bus\(es\) form an island that no branch or tie in service joins to a substation: v, w; "
        r"add the "
        r"missing branch",
    ),
    "group of nothing": (
        {"groups": [GroupLimit("G", (), 1.0)]},
        "drawn: group 'G' has no branches; name those that it limits, or remove it",
    ),
    "group of strangers": (
        {"groups": [GroupLimit("G", ("a", "z"), 1.0)]},
        "group 'G' holds branch 'z', which is not there; correct the name",
    ),
    "branch twice in a group": (
        {"groups": [GroupLimit("G", ("a", "a"), 1.0)]},
        "group 'G' names a branch twice; name each once",
    ),
    "group without a limit": (
        {"groups": [GroupLimit("G", ("a",), 0.0)]},
        "group 'G' has a limit of 0 MW; give a positive number, or remove it",
    ),
    "endless group": ({"groups": [GroupLimit("G", ("a",), np.inf)]}, "has a limit of inf MW"),
    "group twice": (
        {"groups": [GroupLimit("G", ("a",), 1.0), GroupLimit("G", ("b",), 1.0)]},
        "group 'G' appears twice; give every group its own name",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_a_feeder_is_refused_by_name(case):
    changes, message = REFUSED[case]

    with pytest.raises(NetworkError, match=message):
        drawn(**changes)


def test_the_star_of_a_transformer_may_have_negative_resistance():
    network = drawn(r=[0.1, -0.01, 0.1, 0.1], kind=("line", "trafo", "line", "tie"))

    assert network.r[1] == -0.01


def test_a_bus_fed_only_through_an_open_tie_is_no_island():
    network = drawn(closed=[True, True, False, False])

    assert not network.closed[2:].any()


def test_only_generators_that_do_not_stand_for_the_grid_are_idle():
    with pytest.warns(UserWarning, match="drawn: its 1 dispatchable generators .*; do this"):
        warn_of_idle_generators(drawn(**GENERATORS, gen_is_grid=[True, False]), "do this")
