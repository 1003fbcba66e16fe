"""The batteries' linear program by hand, and its rows of voltage."""

import numpy as np
import pytest

from feederguard.baselines.voltage.battery_program import BatteryProgram
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


def program(demand, wanted=0.5):
    network, unit, day = pair(), battery(), days([demand])
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
