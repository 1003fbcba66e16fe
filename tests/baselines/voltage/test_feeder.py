"""The feeder of the optimum: squared voltages by hand, their slopes by differences."""

import numpy as np
import pytest

from feederguard.baselines.voltage.feeder import FeederDay
from feederguard.models.safety_qp.matrices import safety_matrices
from feeders import battery, demand_days, pair


def feeder(demand, exact=True):
    network, unit = pair(rating=0.01), battery()
    return FeederDay(network, unit, safety_matrices(network, unit), demand_days([demand]), exact)


def test_squared_voltages_by_hand():
    """V^2 - V + 0.1 p = 0 by AC; w = 1 - 0.2 p by LinDistFlow. The second step draws 0.6 - 0.25."""
    p = np.array([[0.0], [-0.25]])
    w, _ = feeder([0.3, 0.6]).voltages(p)
    by_hand = ((1 + np.sqrt(1 - 0.4 * np.array([0.3, 0.35]))) / 2) ** 2
    assert w[:, 0] == pytest.approx(by_hand, abs=1e-8)
    w, slope = feeder([0.3, 0.6], exact=False).voltages(p)
    assert w[:, 0] == pytest.approx([1 - 0.06, 1 - 0.07])
    assert slope[:, 0, 0] == pytest.approx([-0.2, -0.2])


def test_slopes_are_those_of_differences():
    day, p, step = feeder([0.3, -0.6]), np.array([[0.1], [0.2]]), 1e-5
    _, slope = day.voltages(p)
    up, down = day.voltages(p + step)[0], day.voltages(p - step)[0]
    assert slope[:, 0] == pytest.approx((up - down) / (2 * step), rel=1e-4)


def test_a_step_without_solution_has_the_voltages_of_lindistflow():
    """3 pu is more than the line can carry."""
    w, slope = feeder([3.0]).voltages(np.zeros((1, 1)))
    assert w[0, 0] == pytest.approx(1 - 0.6) and slope[0, 0, 0] == pytest.approx(-0.2)


def test_how_far_outside():
    day = feeder([0.0])
    assert day.excess(np.array([[0.9**2], [1.1**2], [1.0]]))[:, 0] == pytest.approx(
        [0.05, 0.05, -0.05]
    )
