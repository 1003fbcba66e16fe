"""Small models of every class that a solver takes, with optima known by hand."""

import math

import pyomo.environ as pyo


def two(
    name, objective, *constraints, domain=pyo.Reals, sense=pyo.minimize, start=1.0, bounds=(0, 10)
):
    """A model of two variables; objective and constraints are functions of (x, y)."""
    model = pyo.ConcreteModel(name)
    model.x = pyo.Var(domain=domain, bounds=bounds, initialize=start)
    model.y = pyo.Var(bounds=bounds, initialize=start)
    model.objective = pyo.Objective(expr=objective(model.x, model.y), sense=sense)
    model.limit = pyo.ConstraintList()
    for constraint in constraints:
        model.limit.add(constraint(model.x, model.y))
    return model


def lp():
    """max 3 x + 2 y, x + y <= 4, x + 3 y <= 6: 12 at (4, 0)."""
    return two(
        "lp",
        lambda x, y: 3 * x + 2 * y,
        lambda x, y: x + y <= 4,
        lambda x, y: x + 3 * y <= 6,
        sense=pyo.maximize,
    )


def milp():
    """max 5 x + 4 y with whole x, 6 x + 4 y <= 24, x + 2 y <= 6.

    x = 3, y = 1.5 as in the relaxation; x <= 2.5 moves it.
    """
    return two(
        "milp",
        lambda x, y: 5 * x + 4 * y,
        lambda x, y: 6 * x + 4 * y <= 24,
        lambda x, y: x + 2 * y <= 6,
        lambda x, y: 2 * x <= 5,
        domain=pyo.NonNegativeIntegers,
        sense=pyo.maximize,
    )


def qp():
    """min (x - 1)^2 + (y - 2.5)^2 over x + y <= 2.

    The answer is the foot of the perpendicular, (0.25, 1.75), and its objective 1.125.
    """
    return two("qp", lambda x, y: (x - 1) ** 2 + (y - 2.5) ** 2, lambda x, y: x + y <= 2)


def miqcp(name="miqcp"):
    """max 2 x + y on the disc of radius 2.5 with whole x: x = 2, y = 1.5, 5.5."""
    return two(
        name,
        lambda x, y: 2 * x + y,
        lambda x, y: x**2 + y**2 <= 6.25,
        domain=pyo.Integers,
        sense=pyo.maximize,
    )


def nlp():
    """min exp(x) + y, x y >= e at y = e / x: x^2 exp(x) = e, so x = 1 and the value is 2 e."""
    return two("nlp", lambda x, y: pyo.exp(x) + y, lambda x, y: x * y >= math.e, bounds=(0.1, 10))


def qcp():
    """max x + y on the unit disc: sqrt(2); continuous with a quadratic constraint."""
    return two("qcp", lambda x, y: x + y, lambda x, y: x**2 + y**2 <= 1, sense=pyo.maximize)


def demand_model():
    """min (x0 - d0)^2 + exp(x1) with x1 >= d1; d is data."""
    model = pyo.ConcreteModel("demand")
    model.d = pyo.Var(range(2), initialize=1.0)
    model.d.fix()
    model.x = pyo.Var(range(2), initialize=0.0)
    model.unused = pyo.Var(initialize=7.0)
    model.floor = pyo.Constraint(expr=model.x[1] >= model.d[1])
    model.objective = pyo.Objective(expr=(model.x[0] - model.d[0]) ** 2 + pyo.exp(model.x[1]))
    return model
