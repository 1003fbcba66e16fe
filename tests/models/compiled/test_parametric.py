"""Rows and objective of a model with data left open: by hand, and Pyomo at random points."""

import numpy as np
import pyomo.environ as pyo
import pytest

from feederguard.models.compiled import CompileError
from feederguard.models.compiled.parametric import compile_parametric


def model() -> pyo.ConcreteModel:
    """min (x0 - t)^2 + x1 over 1 <= x0 + 2 x1 + 3 t - 4 <= 5 and x1 = 2 t."""
    m = pyo.ConcreteModel("small")
    m.x = pyo.Var(range(2), initialize=0.0)
    m.t = pyo.Param(mutable=True, initialize=0.0)
    m.band = pyo.Constraint(expr=pyo.inequality(1, m.x[0] + 2 * m.x[1] + 3 * m.t - 4, 5))
    m.tied = pyo.Constraint(expr=m.x[1] == 2 * m.t)
    m.objective = pyo.Objective(expr=(m.x[0] - m.t) ** 2 + m.x[1])
    return m


def test_coefficients_by_hand():
    found = compile_parametric(model())

    assert list(found.columns["x"]) == [0, 1] and list(found.parameters["t"]) == [0]
    (below, above), tied = found.rows["band"], found.rows["tied"][0]
    for row in (below, above):  # a row for each side
        np.testing.assert_allclose(found.a[row], [1, 2])
        np.testing.assert_allclose(found.d[row], [3])
    assert found.lower[below] - found.c[below] == 5 and found.upper[above] - found.c[above] == 9
    assert (found.upper[below], found.lower[above]) == (np.inf, -np.inf)
    assert found.lower[tied] == found.upper[tied]
    np.testing.assert_allclose(found.a[tied], [0, 1])
    np.testing.assert_allclose(found.d[tied], [-2])
    np.testing.assert_allclose(found.hessian, [[1, 0], [0, 0]])
    np.testing.assert_allclose(found.cross, [[-2], [0]])
    np.testing.assert_allclose(found.linear, [0, 1])


def test_rows_equal_pyomo_at_random_points():
    m, found, rng = model(), compile_parametric(model()), np.random.default_rng(0)
    for _ in range(20):
        x, t = rng.normal(size=2), rng.normal()
        m.x[0].set_value(x[0]), m.x[1].set_value(x[1])
        m.t.set_value(t)
        for name in ("band", "tied"):
            row = found.rows[name][0]
            value = found.a[row] @ x + found.d[row] @ [t] + found.c[row]
            slack = m.find_component(name).lslack()
            assert value - found.lower[row] == pytest.approx(slack, abs=1e-12)


def test_a_product_of_variable_and_parameter_is_refused():
    m = model()
    m.odd = pyo.Constraint(expr=m.x[0] * m.t <= 1)

    with pytest.raises(CompileError, match="odd"):
        compile_parametric(m)
