"""Convex piecewise linear costs: a cost of two slopes by hand."""

import numpy as np
import pytest

import feeders
from feederguard.models.network import NetworkError
from feederguard.models.network.costs import cost_per_h, lines_by_generator, lines_of

GENERATORS = {
    "gen_name": ("a", "b"),
    "gen_bus": [0, 1],
    "gen_p_min": [0, 0],
    "gen_p_max": [1, 1],
    "gen_q_min": [0, 0],
    "gen_q_max": [0, 0],
    "gen_cost": [[1, 2, 3], [0, 0, 5]],
}


def test_lines_of_points():
    """30 $/MWh up to 0.5 MW and 70 beyond; a point within a piece adds no line."""
    lines = lines_of(np.array([0.0, 0.2, 0.5, 1.5]), np.array([0.0, 6.0, 15.0, 85.0]))

    np.testing.assert_allclose(lines, [[30, 0], [70, -20]], atol=1e-12)


@pytest.mark.parametrize(
    ("p_mw", "cost", "message"),
    [
        ([0, 1, 2], [0, 5, 6], "not convex: its slope falls"),
        ([0, 1, 1], [0, 5, 6], "do not go up"),
        ([0], [0], "fewer than two points"),
        ([0, np.inf], [0, 1], "not finite"),
    ],
)
def test_points_that_make_no_convex_cost(p_mw, cost, message):
    with pytest.raises(ValueError, match=message):
        lines_of(np.array(p_mw, dtype=float), np.array(cost, dtype=float))


def test_cost_of_an_output():
    network = feeders.two_buses(**GENERATORS, gen_cost_lines=[[1, 30, 0], [1, 70, -20]])

    assert list(lines_by_generator(network)) == [1]
    cost = cost_per_h(network, np.array([[2.0, 0.4], [0.0, 1.0]]))
    np.testing.assert_allclose(cost, [[4 + 4 + 3, 5 + 12], [3, 5 + 50]])
    unknown = network.with_changes(cost_error="net: costs are cubic")
    assert np.isnan(cost_per_h(unknown, np.zeros((1, 2)))).all()


def test_lines_of_no_generator_are_refused():
    with pytest.raises(
        NetworkError, match=r"gen_cost_lines must have rows of a generator \(0 to 1"
    ):
        feeders.two_buses(**GENERATORS, gen_cost_lines=[[2, 30, 0]])


def test_new_costs_forget_what_was_wrong_with_the_old_ones():
    network = feeders.two_buses(**GENERATORS, cost_error="net: costs are cubic")

    assert network.with_changes(v_min=np.full(2, 0.9)).cost_error
    assert not network.with_changes(gen_cost=np.zeros((2, 3))).cost_error
