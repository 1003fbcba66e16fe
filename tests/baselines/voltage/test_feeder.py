"""The feeder of the optimum: squared voltages by hand, their slopes by differences."""

import numpy as np
import pytest

from feederguard.baselines.voltage.feeder import FeederDay
from feederguard.models.battery import Batteries
from feederguard.models.network import Network
from feederguard.models.safety_qp.matrices import safety_matrices
from feederguard.models.voltage_regulation import VoltageDays
from feeders import two_buses


def pair(**changes) -> Network:
    """0 --r = 0.1-- 1: 0.95 pu is reached at v (1 - v) / r = 0.475 pu, 1.05 pu at -0.525."""
    given = {"v_min": 0.95, "v_max": 1.05, "p_load": [0, 1.0], "rating": 0.01}
    return two_buses(name="pair", **given | changes)


def battery(**changes) -> Batteries:
    values = {
        "bus": [1],
        "p_max": 0.5,
        "energy": 1.0,
        "efficiency_charge": 0.8,
        "efficiency_discharge": 0.5,
    }
    return Batteries(**values | {"name": ("b",)} | changes)


def days(p) -> VoltageDays:
    """Days (B, T) of net demand at bus 1, hours long; below zero it is generation."""
    p = np.atleast_2d(np.asarray(p, dtype=float))
    load = np.stack([np.zeros_like(p), np.maximum(p, 0)], axis=-1)
    made = np.stack([np.zeros_like(p), np.maximum(-p, 0)], axis=-1)
    return VoltageDays(
        load, np.zeros_like(load), made, 1.0, np.datetime64("2016-02-01") + np.arange(len(p))
    )


def feeder(demand, exact=True):
    network, unit = pair(), battery()
    return FeederDay(network, unit, safety_matrices(network, unit), days([demand]), exact)


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
