"""A Network: its arrays, its names and its changes; fields.py is tested here."""

import numpy as np
import pytest

from feederguard.data.networks import load_network
from feederguard.models.network import NetworkError
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
    names = "branch_name kind from_bus to_bus r x g_from b_from g_to b_to tap shift rating"
    names += " closed open_end"
    keep = {name: np.asarray(getattr(drawn(), name))[:3] for name in names.split()}

    assert drawn().with_changes(**keep).s_max.shape == (3,)
    with pytest.raises(NetworkError, match="s_max has 4 entries, expected 3"):
        drawn(s_max=[1, 1, 1, 1]).with_changes(**keep)
