"""The state of charge: the step and the netting against `pyomo.value` of equations/battery.py."""

from types import SimpleNamespace

import numpy as np
import pyomo.environ as pyo
import pytest

from feederguard.models.battery import Batteries
from feederguard.models.battery.netting import _soc
from feederguard.models.battery.step import next_soc, power_interval, soc_change
from feederguard.models.equations.battery import add_batteries

N_STEP, STEP_H = 6, 0.25


def batteries() -> Batteries:
    """Three batteries, of different efficiencies, whose limits leave room for a few steps."""
    return Batteries(
        bus=np.array([1, 2, 3]),
        p_max=np.array([0.4, 0.2, 0.3]),
        energy=np.array([2.0, 1.0, 0.7]),
        efficiency_charge=np.array([0.95, 0.8, 1.0]),
        efficiency_discharge=np.array([0.9, 1.0, 0.7]),
    )


def statement(charge: np.ndarray, discharge: np.ndarray) -> pyo.ConcreteModel:
    """Return (1)-(3) with the powers set, (N_STEP, 3), and soc as (1) asks for it."""
    model = pyo.ConcreteModel()
    model.time = pyo.RangeSet(0, N_STEP - 1)
    add_batteries(model, batteries(), STEP_H)
    for t, k in np.ndindex(*charge.shape):
        model.p_charge[t, k].set_value(charge[t, k], skip_validation=True)
        model.p_discharge[t, k].set_value(discharge[t, k], skip_validation=True)
        model.soc[t, k].set_value(0.0, skip_validation=True)
        # soc enters (1) alone and with coefficient 1, so the residual at 0 is what it must be.
        constraint = model.soc_balance[t, k]
        residual = pyo.value(constraint.body) - pyo.value(constraint.upper)
        model.soc[t, k].set_value(-residual, skip_validation=True)
    return model


def stated_soc(model: pyo.ConcreteModel) -> np.ndarray:
    return np.array([[pyo.value(model.soc[t, k]) for k in range(3)] for t in range(N_STEP)])


@pytest.mark.parametrize("seed", range(3))
def test_every_use_of_the_law_gives_the_soc_of_the_statement(seed: int) -> None:
    rng, own = np.random.default_rng(seed), batteries()
    # Both ways at once too: a solved OPF may hold that.
    charge, discharge = rng.uniform(0, own.p_max / 4, (2, N_STEP, 3))
    expected = stated_soc(statement(charge, discharge))

    periods = SimpleNamespace(batteries=own, step_h=STEP_H)
    np.testing.assert_allclose(_soc(periods, charge, discharge), expected, atol=1e-12)
    change = soc_change(own, charge, discharge, STEP_H)
    np.testing.assert_allclose(change[1:], np.diff(expected, axis=0), atol=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_a_step_at_one_power_is_that_of_the_statement(seed: int) -> None:
    rng, own = np.random.default_rng(seed), batteries()
    p = rng.uniform(-own.p_max / 4, own.p_max / 4, (N_STEP, 3))
    expected = stated_soc(statement(np.maximum(p, 0.0), np.maximum(-p, 0.0)))

    soc = own.soc_start
    for t in range(N_STEP):
        soc = next_soc(own, soc, p[t], STEP_H)
        np.testing.assert_allclose(soc, expected[t], atol=1e-12)


def test_the_interval_ends_where_the_statement_meets_a_limit() -> None:
    own = batteries()
    near_empty, near_full = own.soc_min + 0.01, own.soc_max - 0.01
    low, high = (
        power_interval(own, near_empty, STEP_H)[0],
        power_interval(own, near_full, STEP_H)[1],
    )
    assert (low > -own.p_max).all() and (high < own.p_max).all()

    emptied = statement(np.zeros((N_STEP, 3)), np.vstack([-low, np.zeros((N_STEP - 1, 3))]))
    filled = statement(np.vstack([high, np.zeros((N_STEP - 1, 3))]), np.zeros((N_STEP, 3)))
    np.testing.assert_allclose(stated_soc(emptied)[0] - own.soc_start, -0.01, atol=1e-12)
    np.testing.assert_allclose(stated_soc(filled)[0] - own.soc_start, 0.01, atol=1e-12)
