"""A Network refuses what cannot be a feeder, and answers questions about itself."""

import numpy as np
import pytest

from feederguard.data.networks import load_network
from feederguard.models.network import Network, NetworkError


def drawn(**changes):
    """0 --a-- 1 --b-- 2 --c-- 3, and the tie d from 3 back to 1; 10 MVA, 10 kV.

    Line a is the only one on no loop.
    """
    zeros, ones = np.zeros(4), np.ones(4)
    values = {
        "name": "drawn",
        "base_mva": 10.0,
        "bus_name": ("s", "u", "v", "w"),
        "vn_kv": 10 * ones,
        "v_min": 0.9 * ones,
        "v_max": 1.1 * ones,
        "p_load": [0, 0.1, 0.2, 0.3],
        "q_load": zeros,
        "p_gen": zeros,
        "q_gen": zeros,
        "g_shunt": zeros,
        "b_shunt": zeros,
        "substation": [0],
        "v_substation": [1.0],
        "branch_name": ("a", "b", "c", "d"),
        "kind": ("line", "line", "line", "tie"),
        "from_bus": [0, 1, 2, 3],
        "to_bus": [1, 2, 3, 1],
        "r": 0.01 * ones,
        "x": 0.02 * ones,
        "g_from": zeros,
        "b_from": zeros,
        "g_to": zeros,
        "b_to": zeros,
        "tap": ones,
        "shift": zeros,
        "rating": [1.0, 1.0, np.inf, np.inf],
        "closed": [True, True, True, False],
        "open_end": [0, 0, 0, 0],
    }
    return Network(**values | changes)


def test_sizes_impedance_and_ties():
    network = drawn()

    assert (network.n_bus, network.n_branch) == (4, 4)
    np.testing.assert_array_equal(network.z, 0.01 + 0.02j)
    np.testing.assert_array_equal(network.is_tie, [False, False, False, True])
    assert network.paper_limit_mw == np.inf


def test_base_current_is_that_of_the_from_bus():
    """10 MVA at 10 kV is 577.35 A, at 20 kV half of it."""
    network = drawn(vn_kv=[20.0, 10.0, 10.0, 10.0])

    np.testing.assert_allclose(
        network.base_current_a, [288.675, 577.350, 577.350, 577.350], atol=1e-3
    )


def test_arrays_have_their_types_and_cannot_be_changed():
    network = drawn(substation=[0], closed=[1, 1, 1, 0])

    assert network.closed.dtype == bool and network.from_bus.dtype == np.int64
    assert network.v_substation.dtype == complex and network.p_load.dtype == float
    with pytest.raises(ValueError, match="read-only"):
        network.p_load[0] = 1.0


def test_a_network_keeps_its_own_copy():
    load = np.array([0.0, 0.1, 0.2, 0.3])
    network = drawn(p_load=load)

    load[1] = 9.0

    assert network.p_load[1] == 0.1


def test_names_lead_to_positions():
    network = drawn()

    assert network.bus_index("v") == 2 and network.branch_index("d") == 3
    with pytest.raises(NetworkError, match="drawn: no bus 'x'; there are s, u, v, w"):
        network.bus_index("x")
    with pytest.raises(
        NetworkError, match="ieee33: no branch '40'; there are 1, 2, 3, 4, 5, 6, 7, 8, ..."
    ):
        load_network("ieee33").branch_index("40")


def test_loops_are_found_with_every_branch_closed():
    np.testing.assert_array_equal(drawn().on_loop, [False, True, True, True])


def test_parallel_branches_are_a_loop():
    network = drawn(from_bus=[0, 0, 1, 2], to_bus=[1, 1, 2, 3])

    np.testing.assert_array_equal(network.on_loop, [True, True, False, False])


def test_a_path_between_substations_is_a_loop():
    network = drawn(substation=[0, 2], v_substation=[1.0, 1.0], to_bus=[1, 2, 3, 2])

    np.testing.assert_array_equal(network.on_loop, [True, True, True, True])
    tail = drawn(substation=[0, 1], v_substation=[1.0, 1.0], to_bus=[1, 2, 3, 2])
    np.testing.assert_array_equal(tail.on_loop, [True, False, True, True])


def test_changes_are_validated_anew():
    network = drawn()

    assert network.with_changes(name="other").name == "other" and network.name == "drawn"
    with pytest.raises(NetworkError, match="r has 2 entries, expected 4"):
        network.with_changes(r=[0.1, 0.1])


def test_a_network_error_is_a_value_error():
    assert issubclass(NetworkError, ValueError)


GENERATORS = {
    "gen_name": ("g", "h"),
    "gen_bus": [0, 3],
    "gen_p_min": [0.0, -0.1],
    "gen_p_max": [np.inf, 0.2],
    "gen_q_min": [-1.0, -0.1],
    "gen_q_max": [1.0, 0.1],
}


def test_a_network_without_generators_and_limits_of_power_says_so():
    network = drawn()

    assert (
        network.n_gen == 0
        and network.gen_cost.shape == (0, 3)
        and network.gen_bus.dtype == np.int64
    )
    np.testing.assert_array_equal(network.s_max, np.full(4, np.inf))
    np.testing.assert_array_equal(network.angle_min, np.full(4, -np.inf))
    np.testing.assert_array_equal(network.angle_max, np.full(4, np.inf))


def test_generators_carry_limits_and_a_cost_that_is_nothing_by_default():
    network = drawn(**GENERATORS)

    assert network.n_gen == 2 and network.gen_name == ("g", "h")
    np.testing.assert_array_equal(network.gen_cost, np.zeros((2, 3)))
    priced = network.with_changes(gen_cost=[[0.1, 20, 5], [0, 30, 0]])
    np.testing.assert_array_equal(priced.gen_cost[:, 1], [20, 30])
    np.testing.assert_array_equal(priced.gen_p_max, network.gen_p_max)


def test_generators_stand_for_the_grid_above_only_where_that_is_said():
    network = drawn(**GENERATORS)
    assert network.gen_is_grid.dtype == np.bool_ and network.gen_is_grid.tolist() == [False, False]

    grid = network.with_changes(gen_is_grid=[True, False])

    assert grid.with_changes(name="other").gen_is_grid.tolist() == [True, False]
    fewer = {name: np.asarray(value)[:1] for name, value in GENERATORS.items()} | {
        "gen_cost": np.zeros((1, 3))
    }
    assert network.with_changes(**fewer).gen_is_grid.tolist() == [False]
    with pytest.raises(NetworkError, match="gen_is_grid has 2 entries, expected 1"):
        grid.with_changes(**fewer)


def test_limits_that_limit_nothing_fit_any_number_of_branches():
    keep = {
        name: np.asarray(getattr(drawn(), name))[:3]
        for name in (
            *(
                "branch_name",
                "kind",
                "from_bus",
                "to_bus",
                "r",
                "x",
                "g_from",
                "b_from",
                "g_to",
                "b_to",
            ),
            *("tap", "shift", "rating", "closed", "open_end"),
        )
    }

    assert drawn().with_changes(**keep).s_max.shape == (3,)
    with pytest.raises(NetworkError, match="s_max has 4 entries, expected 3"):
        drawn(s_max=[1, 1, 1, 1]).with_changes(**keep)


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
        "branch 'a' has angle_min 0.3 and angle_max 0.2, between which there is nothing; give a "
        "lower limit not above",
    ),
    "generator limits": (
        GENERATORS | {"gen_p_max": [-1, 0]},
        "generator 'g' has gen_p_min 0 and gen_p_max -1, between",
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
        r"2 bus\(es\) form an island that no branch or tie joins to a substation: v, w; add the "
        r"missing branch",
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
