"""The judge: verdicts on days by hand."""

import numpy as np
import pyomo.environ as pyo
import pytest

from feederguard.models.distflow_opf import build_distflow_opf
from feederguard.models.opf_objectives import regulation_power
from feederguard.models.voltage_regulation import simulate
from feeders import battery, demand_days, pair


class Fixed:
    """The same powers (T, n_bat) every day."""

    name = "fixed"

    def __init__(self, p):
        self.p = np.asarray(p, dtype=float)

    def decide(self, state):
        return self.p[state.step]


def test_a_fixed_end_is_what_is_missing():
    outcome = simulate(
        pair(), battery(soc_end=0.9), demand_days([[0.1, 0.1]]), Fixed([[0.0], [0.25]])
    )
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
    outcome = simulate(pair(), battery(), demand_days([[0.1] * 3]), Fixed(p))
    assert (outcome.v[0, :, 1] >= 0.95).all()
    assert -outcome.reward[0] == pytest.approx(pyo.value(regulation_power(model)))
    assert outcome.regulation_mwh[0] == pytest.approx(pyo.value(regulation_power(model)))


def test_a_step_without_solution_is_a_violation_and_never_a_number():
    """2.5 pu is the most the line can carry; 3 pu has no AC solution."""
    outcome = simulate(pair(), battery(), demand_days([[3.0, 0.1]]), Fixed([[0.0], [0.0]]))
    assert outcome.converged.tolist() == [[False, True]]
    assert outcome.n_violation_steps.tolist() == [1] and np.isinf(outcome.worst_excess_pu[0])
    assert (
        np.isnan(outcome.v[0, 0]).all()
        and np.isnan(outcome.loss_mwh[0])
        and np.isnan(outcome.grid_mwh[0])
    )
    assert outcome.reward[0] == pytest.approx(-950.0)
