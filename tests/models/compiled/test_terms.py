"""A model read as terms says the same as Pyomo does."""

import math

import numpy as np
import pyomo.environ as pyo
import pytest

from feederguard.models.compiled.expressions import UnreadableExpressionError
from feederguard.models.compiled.terms import read_terms


def small():
    """min x^2 + 3 y + 4 subject to g1 and g2.

    g1: 2 x + y cos(x - z) in [1, 5]; g2: P^2 = 2, where P = x y + z is a named expression.
    """
    model = pyo.ConcreteModel("small")
    model.x = pyo.Var(bounds=(-1, 1), initialize=0.5)
    model.y = pyo.Var(domain=pyo.NonNegativeReals)
    model.z = pyo.Var(initialize=2.0)
    model.P = pyo.Expression(expr=model.x * model.y + model.z)
    model.g1 = pyo.Constraint(expr=(1, 2 * model.x + model.y * pyo.cos(model.x - model.z), 5))
    model.g2 = pyo.Constraint(expr=model.P**2 == 2)
    model.objective = pyo.Objective(expr=model.x**2 + 3 * model.y + 4)
    return model


def test_linear_parts_bounds_and_starts_are_read():
    terms = read_terms(small())

    names = [v.name for v in terms.variables]
    assert sorted(names) == ["x", "y", "z"]
    x, y = names.index("x"), names.index("y")
    assert terms.f_constant == 4 and terms.f_linear[y] == 3 and terms.f_linear[x] == 0
    assert [c.name for c in terms.constraints] == ["g1", "g2"]
    assert terms.linear.toarray()[0, x] == 2 and terms.linear.nnz == 1
    np.testing.assert_array_equal([terms.lower, terms.upper], [[1, 2], [5, 2]])
    assert (terms.x_lower[x], terms.x_upper[x], terms.x_start[x]) == (-1, 1, 0.5)
    assert (terms.x_lower[y], terms.x_upper[y], terms.x_start[y]) == (0, math.inf, 0)
    assert not terms.maximise and terms.impossible == []


def test_equal_shapes_are_one_group_and_equal_terms_one_term():
    model = pyo.ConcreteModel("many")
    model.x = pyo.Var(range(6), initialize=1.0)
    model.flow = pyo.Expression(range(5), rule=lambda m, k: 2.0 * m.x[k] * m.x[k + 1])
    model.balance = pyo.Constraint(range(5), rule=lambda m, k: m.flow[k] + m.x[k] == 1)
    model.again = pyo.Constraint(range(5), rule=lambda m, k: 3 * m.flow[k] <= 7)
    model.objective = pyo.Objective(expr=sum(model.flow[k] for k in range(5)))

    terms = read_terms(model)

    assert len(terms.groups) == 1 and terms.groups[0].columns.shape == (5, 2)
    assert terms.weights.shape == (10, 5) and terms.weights.nnz == 10


def test_fixed_variables_and_parameters_are_numbers():
    model = small()
    model.rate = pyo.Param(initialize=3.0, mutable=True)
    model.y.fix(2.0)
    model.g3 = pyo.Constraint(
        expr=model.rate * model.y * model.x / (model.rate + 1) <= model.rate * model.y
    )

    terms = read_terms(model)

    assert sorted(v.name for v in terms.variables) == ["x", "z"]
    x = [v.name for v in terms.variables].index("x")
    row = [c.name for c in terms.constraints].index("g3")
    assert terms.linear[row, x] == pytest.approx(3 * 2 / 4) and terms.upper[row] == 6
    assert terms.f_constant == 10


def test_rows_of_numbers_are_dropped_when_they_hold_and_named_when_they_do_not():
    model = small()
    model.x.fix(0.5)
    model.holds = pyo.Constraint(expr=2 * model.x <= 1)
    model.fails = pyo.Constraint(expr=model.x**2 >= 1)

    terms = read_terms(model)

    assert "holds" not in [c.name for c in terms.constraints]
    assert terms.impossible == ["fails"]


def test_what_has_no_shape_is_refused_by_name():
    model = small()
    model.choice = pyo.Constraint(expr=pyo.Expr_if(model.x >= 0, model.x, model.y) <= 3)

    with pytest.raises(
        UnreadableExpressionError,
        match="small: choice holds an expression of kind Expr_ifExpression; "
        "write it flat, with arithmetic",
    ):
        read_terms(model)
    model.choice.deactivate()
    model.step = pyo.Constraint(expr=pyo.ceil(model.x) <= 3)
    with pytest.raises(UnreadableExpressionError, match="small: step holds the function ceil"):
        read_terms(model)


def test_two_objectives_are_refused():
    model = small()
    model.second = pyo.Objective(expr=model.x)

    with pytest.raises(ValueError, match="small: 2 active objectives; an NLP needs exactly one"):
        read_terms(model)
