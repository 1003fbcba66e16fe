"""Expressions taken apart: rows by hand; values and derivatives as Pyomo gives at random points."""

import numpy as np
import pyomo.environ as pyo
import pytest
from pyomo.core.expr.calculus.derivatives import Modes, differentiate

from feederguard.models.compiled.expressions import FUNCTIONS, TermReader, UnreadableExpressionError
from feederguard.models.compiled.terms import read_terms
from feederguard.models.solver.ipopt_functions import build_nlp_functions


def three() -> pyo.ConcreteModel:
    """x, y, z in (0.1, 0.9), a fixed variable of 2 and a parameter of 3."""
    model = pyo.ConcreteModel("three")
    model.x, model.y, model.z = (pyo.Var(bounds=(0.1, 0.9), initialize=v) for v in (0.3, 0.5, 0.7))
    model.two = pyo.Var(initialize=2.0)
    model.two.fix()
    model.rate = pyo.Param(initialize=3.0, mutable=True)
    return model


def row_of(model, expression):
    """Return constant, linear part by name, and terms as (weight, shape, names, numbers)."""
    model.c = pyo.Constraint(expr=expression <= 1)
    reader = TermReader()
    row = reader.row(model.c, model.c.body)
    names = [v.name for v in reader.variables]
    linear = {names[k]: a for k, a in row.linear.items()}
    members = {
        term: (shape, c, n) for shape, group in reader.members.items() for term, c, n in group
    }
    terms = [
        (weight, members[k][0], tuple(names[c] for c in members[k][1]), members[k][2])
        for k, weight in row.terms.items()
    ]
    return row.constant, linear, terms


class TestRowsByHand:
    def test_sums_are_opened_and_numbers_pulled_out(self):
        m = three()
        expression = 2 * (m.x + 3) - (m.y - m.two) / 4 + m.rate * (m.x - m.rate) - (-m.z)
        assert row_of(m, expression) == (6 + 0.5 - 9, {"x": 5.0, "y": -0.25, "z": 1.0}, [])

    def test_a_product_of_variables_is_one_term_with_its_weight(self):
        m = three()
        assert row_of(m, 3 * (m.x * m.y) + 2 * (m.x * m.y) / 4) == (
            0,
            {},
            [(3.5, ("*", 0, 1), ("x", "y"), ())],
        )

    def test_a_variable_that_comes_twice_has_one_slot(self):
        m = three()
        shape = ("*", "cos", "sum", 2, 0, "*", "p", 1, 0)
        assert row_of(m, pyo.cos(m.y - m.x) * m.y) == (0, {}, [(1, shape, ("y", "x"), (-1.0,))])

    def test_powers_keep_their_exponent_in_the_shape_and_the_first_power_is_none(self):
        m = three()
        _, linear, terms = row_of(m, m.x**m.two + m.y**1 + m.z ** (m.rate - 2))
        assert linear == {"y": 1.0, "z": 1.0}
        assert terms == [(1, ("power", 2.0, 0), ("x",), ())]

    def test_a_product_by_zero_is_gone(self):
        m = three()
        m.two.fix(0.0)
        assert row_of(m, m.two * pyo.exp(m.x) + m.y) == (0, {"y": 1.0}, [])

    def test_functions_of_numbers_are_numbers(self):
        m = three()
        read = row_of(m, pyo.sqrt(m.rate + 1) * m.x + pyo.exp(m.two * m.rate))
        assert read == (pytest.approx(np.exp(6.0)), {"x": 2.0}, [])

    def test_a_named_expression_is_read_once_and_its_terms_shared(self):
        m = three()
        m.flow = pyo.Expression(expr=m.x * m.y + 4 * m.z + 1)
        constant, linear, terms = row_of(m, m.flow - 3 * m.flow + 5 * (m.x * m.y))
        assert (constant, linear) == (-2, {"z": -8.0})
        assert terms == [(3.0, ("*", 0, 1), ("x", "y"), ())]


def scaled(function):
    """Return y f(0.8 x + 0.1 z) as a function of the model."""
    return lambda m: m.y * function(0.8 * m.x + 0.1 * m.z)


UNARY = {name: scaled(getattr(pyo, name)) for name in FUNCTIONS if name not in ("abs", "acosh")}
EXPRESSIONS = UNARY | {
    "acosh": lambda m: pyo.acosh(1.5 + m.x * m.y),
    "abs": lambda m: abs(m.x - 2 * m.y) * m.z - abs(3 + m.x),
    "products": lambda m: (m.x - 2) * (m.y + m.z) * -(m.x + m.y * m.z),
    "quotients": lambda m: m.x / (m.y + m.z) - (m.rate / m.x) / (m.two * m.y) + m.z / m.two,
    "powers": lambda m: m.x**3 + m.y**m.two - m.z**-1.5 + (m.x + m.y) ** (1 / m.two),
    "exponents": lambda m: m.x**m.y + m.two**m.z + (m.x + 1) ** (m.y - m.z),
    "branch flow": lambda m: (
        m.rate * m.x**2 - m.x * m.y * (m.rate * pyo.cos(m.z - 0.1) + 4 * pyo.sin(m.z - 0.1))
    ),
}
HYPERBOLIC = (
    "sinh",
    "cosh",
    "tanh",
    "asinh",
    "acosh",
    "atanh",
)  # only sympy differentiates these for Pyomo


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_values_and_derivatives_are_those_of_pyomo(name):
    """At five random points: the value, the gradient and the Hessian of min f."""
    mode = Modes.sympy if name in HYPERBOLIC else Modes.reverse_symbolic
    m = three()
    m.goal = pyo.Objective(expr=EXPRESSIONS[name](m))
    terms = read_terms(m)
    _, functions = build_nlp_functions(terms)
    variables = list(terms.variables)
    slopes = differentiate(m.goal.expr, wrt_list=variables, mode=mode)
    curves = [differentiate(slope, wrt_list=variables, mode=mode) for slope in slopes]
    rng = np.random.default_rng(len(name))

    for _ in range(5):
        point = rng.uniform(0.1, 0.9, len(variables))
        for variable, value in zip(variables, point, strict=True):
            variable.set_value(value)
        value, gradient = functions["grad_f"](point, [])
        hessian = np.array(functions["hess_lag"](point, [], 1.0, []))

        assert float(value) == pytest.approx(pyo.value(m.goal), rel=1e-13)
        np.testing.assert_allclose(
            np.array(gradient).ravel(), [pyo.value(s) for s in slopes], rtol=1e-11, atol=1e-13
        )
        expected = np.array([[pyo.value(c) for c in row] for row in curves])
        np.testing.assert_allclose(hessian, np.triu(expected), rtol=1e-10, atol=1e-12)


def test_fixed_variables_keep_the_value_they_had_when_read():
    m = three()
    m.goal = pyo.Objective(expr=m.two * m.x + m.two * m.x * m.y)
    terms = read_terms(m)
    m.two.fix(100.0)
    f, _ = build_nlp_functions(terms)[1]["grad_f"]([0.5] * 2, [])
    assert float(f) == pytest.approx(2 * 0.5 + 2 * 0.25)


class TestWhatCannotBeRead:
    def refused(self, message, expression_of):
        m = three()
        with pytest.raises(UnreadableExpressionError, match=message):
            row_of(m, expression_of(m))

    def test_a_condition(self):
        self.refused(
            "^three: c holds an expression of kind Expr_ifExpression; write it flat, with "
            "arithmetic, powers and sin, cos,",
            lambda m: pyo.Expr_if(m.x >= 0.5, m.x, m.y),
        )

    @pytest.mark.parametrize("name", ["ceil", "floor"])
    def test_a_function_with_steps(self, name):
        self.refused(
            f"^three: c holds the function {name}; write it flat",
            lambda m: getattr(pyo, name)(m.x) + m.y,
        )

    def test_what_is_nested_too_deeply(self):
        def deep(m):
            expression = m.x
            for _ in range(3000):
                expression = pyo.sin(expression)
            return expression

        self.refused("^three: c holds expressions nested too deeply; write it flat", deep)

    @pytest.mark.parametrize(
        ("expression_of", "why"),
        [
            (lambda m: m.x / (m.two * (m.rate - 3)), "float division by zero"),
            (lambda m: m.x * m.y / (m.rate - 3), "float division by zero"),
            (lambda m: m.x * pyo.log(m.rate - 5), "math domain error"),
        ],
    )
    def test_numbers_that_give_no_value(self, expression_of, why):
        self.refused(
            rf"^three: the numbers of c give no value \({why}\); give every fixed variable",
            expression_of,
        )

    def test_a_parameter_without_a_value(self):
        m = three()
        m.empty = pyo.Param(mutable=True)
        with pytest.raises(
            UnreadableExpressionError,
            match=r"the numbers of c give no value \(.*empty.*\); give every",
        ):
            row_of(m, m.empty * m.x)
