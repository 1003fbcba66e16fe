"""The judge: verdicts on days by hand."""

import numpy as np
import pyomo.environ as pyo
import pytest

from feederguard.models.battery import Batteries
from feederguard.models.distflow_opf import build_distflow_opf
from feederguard.models.network import Network
from feederguard.models.opf_objectives import regulation_power
from feederguard.models.voltage_regulation import VoltageDays, simulate
from feeders import two_buses


def pair(**changes) -> Network:
    """0 --r = 0.1-- 1 on 1 MVA, band 0.95..1.05."""
    return two_buses(name="pair", **{"v_min": 0.95, "v_max": 1.05, "p_load": [0, 1.0]} | changes)


def battery(**changes) -> Batteries:
    values = {
        "bus": [1],
        "p_max": 0.5,
        "energy": 1.0,
        "efficiency_charge": 0.8,
        "efficiency_discharge": 0.5,
        "name": ("b",),
    }
    return Batteries(**values | changes)


def days(p, step_h=1.0) -> VoltageDays:
    """Days (B, T) of net demand at bus 1; below zero it is generation."""
    p = np.atleast_2d(np.asarray(p, dtype=float))
    load = np.stack([np.zeros_like(p), np.maximum(p, 0)], axis=-1)
    made = np.stack([np.zeros_like(p), np.maximum(-p, 0)], axis=-1)
    dates = np.datetime64("2016-02-01") + np.arange(len(p))
    return VoltageDays(load, np.zeros_like(load), made, step_h, dates)


class Fixed:
    """The same powers (T, n_bat) every day."""

    name = "fixed"

    def __init__(self, p):
        self.p = np.asarray(p, dtype=float)

    def decide(self, state):
        return self.p[state.step]


def test_a_fixed_end_is_what_is_missing():
    outcome = simulate(pair(), battery(soc_end=0.9), days([[0.1, 0.1]]), Fixed([[0.0], [0.25]]))
    assert outcome.soc_short_mwh[0] == pytest.approx(0.9 - 0.7)


def test_the_battery_term_is_the_objective_of_the_optimum():
    """0.001 per kW and step is `regulation_power`, in MW summed over steps.

    It holds for a plan that never charges and discharges at once.
    """
    p = np.array([[-0.2], [0.1], [0.3]])
    p_load = np.array([[0.0, 0.1]] * 3)
    model = build_distflow_opf(
        pair(), "linear", p_load=p_load, batteries=battery(), objective=regulation_power
    )
    for t in range(3):
        model.p_charge[t, 0].set_value(float(max(p[t, 0], 0)))
        model.p_discharge[t, 0].set_value(float(max(-p[t, 0], 0)))
    outcome = simulate(pair(), battery(), days([[0.1] * 3]), Fixed(p))
    assert (outcome.v[0, :, 1] >= 0.95).all()
    assert -outcome.reward[0] == pytest.approx(pyo.value(regulation_power(model)))
    assert outcome.regulation_mwh[0] == pytest.approx(pyo.value(regulation_power(model)))


def test_a_step_without_solution_is_a_violation_and_never_a_number():
    """2.5 pu is the most the line can carry; 3 pu has no AC solution."""
    outcome = simulate(pair(), battery(), days([[3.0, 0.1]]), Fixed([[0.0], [0.0]]))
    assert outcome.converged.tolist() == [[False, True]]
    assert outcome.n_violation_steps.tolist() == [1] and np.isinf(outcome.worst_excess_pu[0])
    assert (
        np.isnan(outcome.v[0, 0]).all()
        and np.isnan(outcome.loss_mwh[0])
        and np.isnan(outcome.grid_mwh[0])
    )
    assert outcome.reward[0] == pytest.approx(-950.0)
