"""Ipopt prepared once for many solves: other data, other starts, and what it refuses."""

import math

import numpy as np
import pyomo.environ as pyo
import pytest
from small_models import demand_model

from feederguard.models.solver.ipopt import PreparedNlp


def test_a_prepared_model_is_solved_again_for_other_data():
    model = demand_model()
    prepared = PreparedNlp(model, inputs=["d"])
    assert model.d[0].fixed and model.d[0].value == 1.0

    for d in ([3.0, 0.5], [-2.0, -1.0]):
        result = prepared.solve(d=d)

        assert result.converged and not result.infeasible and result.seconds >= 0
        assert result.objective == pytest.approx(math.exp(d[1]), rel=1e-6)
        np.testing.assert_allclose(prepared.value("x"), d, atol=1e-5)
        np.testing.assert_allclose(prepared.value("d"), d)
    assert math.isnan(prepared.value("unused")[0])
    prepared.load()
    assert (model.x[0].value, model.d[0].value) == (pytest.approx(-2.0, abs=1e-5), 1.0)


def test_a_prepared_model_starts_where_it_is_told():
    """(x^2 - 1)^2 has a minimum on either side of the start."""
    model = pyo.ConcreteModel("two wells")
    model.x = pyo.Var(initialize=2.0)
    model.objective = pyo.Objective(expr=(model.x**2 - 1) ** 2)
    prepared = PreparedNlp(model)

    prepared.solve()
    right = prepared.point()
    prepared.solve(start=-2 * right)

    assert right[0] == pytest.approx(1.0, abs=1e-4)
    assert prepared.value("x")[0] == pytest.approx(-1.0, abs=1e-4)


def test_a_prepared_maximisation_keeps_its_sign():
    model = demand_model()
    model.objective.deactivate()
    model.most = pyo.Objective(
        expr=4 - (model.x[0] - model.d[0]) ** 2 - pyo.exp(model.x[1]), sense=pyo.maximize
    )

    result = PreparedNlp(model, inputs=["d"]).solve(d=[1.0, 0.0])

    assert result.objective == pytest.approx(3.0, rel=1e-6)


def test_a_prepared_model_reports_what_its_data_make_infeasible():
    model = demand_model()
    model.ceiling = pyo.Constraint(expr=model.x[1] ** 2 <= 4)
    prepared = PreparedNlp(model, inputs=["d"])

    result = prepared.solve(d=[0.0, 5.0])
    again = prepared.solve(d=[0.0, 1.0])

    assert (
        result.infeasible
        and not result.converged
        and result.reason == "Infeasible_Problem_Detected"
    )
    assert again.converged


def test_a_prepared_model_refuses_unknown_inputs_and_missing_objectives():
    with pytest.raises(
        ValueError, match="demand: no variable 'e' to take as input; there are d, x, unused"
    ):
        PreparedNlp(demand_model(), inputs=["e"])
    with pytest.raises(ValueError, match="empty: 0 active objectives; an NLP needs exactly one"):
        PreparedNlp(pyo.ConcreteModel("empty"))


def test_a_prepared_model_names_a_value_it_does_not_know():
    with pytest.raises(ValueError, match="demand: no variable 'e'"):
        PreparedNlp(demand_model(), inputs=["d"]).solve(e=1.0)
