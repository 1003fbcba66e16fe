"""Branches as their buses see them: charging, taps, and what hangs from one end, by hand."""

import numpy as np

from feederguard.models.network.pi_model import (
    branch_admittances,
    bus_shunts,
    hanging_shunts,
    held_substations,
)
from feeders import feeder

CABLE = {"r": 0.1, "x": 0.2, "g_from": 0.01, "b_from": 0.04, "g_to": 0.02, "b_to": 0.06}
Z, FROM, TO = 0.1 + 0.2j, 0.01 + 0.04j, 0.02 + 0.06j


def test_a_closed_branch_shows_each_bus_its_own_shunt():
    y = branch_admittances(feeder("0-1", **CABLE, tap=0.5))

    np.testing.assert_allclose(y.closed, [[FROM / 0.25, TO]])


def test_an_open_branch_shows_the_far_shunt_behind_its_impedance():
    y = branch_admittances(feeder("0-1", **CABLE, tap=0.5))

    np.testing.assert_allclose(
        y.open, [[(FROM + 1 / (Z + 1 / TO)) / 0.25, TO + 1 / (Z + 1 / FROM)]]
    )


def test_a_branch_hangs_from_the_end_that_stays_closed():
    network = feeder("a:0-1 b:0~1 c:0~1 d:0~1", **CABLE, open_end=[2, 0, 1, 2])
    y = branch_admittances(network)

    np.testing.assert_array_equal(y.hanging[1], [0, 0])
    np.testing.assert_array_equal(y.hanging[2], [0, y.open[2, 1]])
    np.testing.assert_array_equal(y.hanging[3], [y.open[3, 0], 0])
    at_from, at_to = y.at_ends(network.closed)
    np.testing.assert_array_equal(at_from, [y.closed[0, 0], 0, 0, y.open[3, 0]])
    np.testing.assert_array_equal(at_to, [y.closed[0, 1], 0, y.open[2, 1], 0])
    np.testing.assert_array_equal(hanging_shunts(network), [y.open[3, 0], y.open[2, 1]])


def test_a_bus_has_its_own_shunt_and_what_hangs_from_it():
    network = feeder("a:0-1 b:0~1", **CABLE, open_end=[0, 1], g_shunt=0.3, b_shunt=0.4)

    g, b = bus_shunts(network)
    hanging = TO + 1 / (Z + 1 / FROM)
    np.testing.assert_allclose(g + 1j * b, [0.3 + 0.4j, 0.3 + 0.4j + hanging])


def test_a_substation_with_a_generator_for_the_grid_above_is_not_held():
    limits = {"gen_p_min": [0], "gen_p_max": [1], "gen_q_min": [0], "gen_q_max": [1]}
    network = feeder(
        "0-1 1-2",
        substation=[0, 2],
        v_substation=[1, 1],
        gen_name=("g",),
        gen_bus=[2],
        **limits,
        gen_is_grid=[True],
    )

    np.testing.assert_array_equal(held_substations(network), [True, False])
