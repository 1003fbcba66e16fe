"""The law of shedding by hand; tests/laws/test_shedding.py holds every use of it."""

import numpy as np
import pyomo.environ as pyo
import pytest

from feederguard.models.load_transfer.shedding import can_shed, kept


def test_only_active_demand_can_be_shed() -> None:
    assert can_shed(np.array([0.0, 0.1])).tolist() == [False, True]
    assert kept(1.0, np.array([False, True]), np.array([0.25, 0.25])).tolist() == [1.0, 0.75]


def test_shed_power_and_shed_fraction_leave_the_same() -> None:
    assert kept(0.4, 1.0, 0.1) == pytest.approx(0.4 * kept(1.0, True, 0.25))


def test_a_pyomo_expression_is_kept_as_one() -> None:
    model = pyo.ConcreteModel()
    model.s = pyo.Var(initialize=0.25)
    assert pyo.value(kept(1.0, 1.0, model.s)) == 0.75
