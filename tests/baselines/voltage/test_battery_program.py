"""The batteries' linear program by hand, and its rows of voltage."""

import numpy as np
import pytest

from feederguard.baselines.voltage.battery_program import BatteryProgram
from feederguard.baselines.voltage.feeder import FeederDay
from feederguard.models.safety_qp.matrices import safety_matrices
from feeders import battery, demand_days, pair


def program(demand, wanted=0.5):
    network, unit, day = pair(rating=0.01), battery(), demand_days([demand])
    feeder = FeederDay(network, unit, safety_matrices(network, unit), day, exact=False)
    made = BatteryProgram.read(network, unit, day, np.array([0.5]), np.array([wanted]), 1e4)
    made.begin()
    return feeder, made


def test_the_least_power_that_holds_lindistflow():
    """w = 1 - 0.2 p: 0.9025 leaves 0.4875, so 0.6 of demand asks for 0.1125, put back at 0.8."""
    feeder, made = program([0.2, 0.6, 0.2, 0.2])
    idle = np.zeros((4, 1))
    plan = made.solve(feeder, idle, *feeder.voltages(idle))
    assert plan[1, 0] == pytest.approx(-0.1125, abs=1e-6)
    assert plan.sum() == pytest.approx(0.1125 / 0.5 / 0.8 - 0.1125, abs=1e-6)


def test_an_end_that_no_power_reaches_has_no_plan():
    feeder, made = program([0.2], wanted=1.0)
    idle = np.zeros((1, 1))
    assert made.solve(feeder, idle, *feeder.voltages(idle)) is None


def test_powers_stay_within_reach_of_the_plan():
    feeder, made = program([0.2, 0.6, 0.2], wanted=0.1)
    p = np.array([[0.0], [-0.3], [0.2]])
    plan = made.solve(feeder, p, *feeder.voltages(p), reach=np.array([0.1]))
    assert (np.abs(plan - p) <= 0.1 + 1e-9).all()


def test_days_before_leave_no_rows_behind():
    feeder, made = program([0.2, 0.6, 0.2, 0.2])
    idle = np.zeros((4, 1))
    made.solve(feeder, idle, *feeder.voltages(idle))
    assert len(made.row) > 0
    made.begin()
    assert len(made.row) == 0
