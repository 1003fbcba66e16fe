"""Functions built from terms against Pyomo's values, finite differences and the .nl route."""

import casadi
import numpy as np
import pyomo.environ as pyo
import pytest
from pyomo.repn.plugins.nl_writer import NLWriter

from feederguard.data.networks import load_network
from feederguard.models.compiled.terms import read_terms
from feederguard.models.load_transfer.shedding_opf import build_transfer_opf
from feederguard.models.reconfiguration import build_loss_reconfiguration
from feederguard.models.solver.ipopt import PreparedNlp, start_ipopt
from feederguard.models.solver.ipopt_functions import build_nlp_functions


def every_function(sense=pyo.minimize):
    """Two copies of every function and operation, with numbers that differ.

    Some terms are shared, and there is a named expression.
    """
    model = pyo.ConcreteModel("functions")
    model.x = pyo.Var(range(4), bounds=(0.1, 0.9), initialize={0: 0.3, 1: 0.5, 2: 0.7, 3: 0.2})
    x = model.x
    model.shared = pyo.Expression(expr=x[0] * x[1] / (x[2] + 1.5))
    unary = (
        "sin",
        "cos",
        "tan",
        "asin",
        "acos",
        "atan",
        "sinh",
        "cosh",
        "tanh",
        "asinh",
        "atanh",
        "exp",
        "log",
        "sqrt",
    )
    model.rows = pyo.ConstraintList()
    for k, name in enumerate(unary):
        for i in (0, 1):
            model.rows.add(getattr(pyo, name)(0.5 * x[i] + 0.1 * x[i + 1]) * x[3] <= 10.0 + k)
    model.rows.add(pyo.log10(x[0]) + abs(x[1] - 0.2) - x[2] ** 3 <= 4)
    model.rows.add(x[0] ** x[1] + 2 ** x[2] + pyo.acosh(1.5 + x[3]) <= 9)
    model.rows.add(3 * model.shared - model.shared**2 + (x[0] - 2 * x[3]) * -(x[1] + 1) >= -50)
    model.goal = pyo.Objective(expr=model.shared + x[3] ** 2 * x[0] + 2 * x[1], sense=sense)
    return model


def values(model):
    return [pyo.value(c.body) for c in model.component_data_objects(pyo.Constraint, active=True)]


@pytest.mark.parametrize(("sense", "sign"), [(pyo.minimize, 1.0), (pyo.maximize, -1.0)])
def test_values_are_those_of_pyomo_and_derivatives_those_of_differences(sense, sign):
    model = every_function(sense)
    terms = read_terms(model)
    problem, functions = build_nlp_functions(terms)
    x = terms.x_start

    f, gradient = functions["grad_f"](x, [])
    g, jacobian = functions["jac_g"](x, [])

    assert float(f) == pytest.approx(sign * pyo.value(model.goal), rel=1e-12)
    expected = np.array(values(model))
    shift = np.array([c.ub if c.ub is not None else c.lb for c in terms.constraints])
    bound = np.where(np.isfinite(terms.upper), terms.upper, terms.lower)
    np.testing.assert_allclose(np.array(g).ravel() - bound, expected - shift, atol=1e-12)
    # CasADi differentiates the same problem as one flat graph.
    flat = casadi.Function("flat", [problem["x"]], [problem["f"], problem["g"]])
    s = casadi.SX.sym("s", len(x))
    lam = np.linspace(-1, 2, len(expected))
    f_flat, g_flat = flat(s)
    lagrangian = 0.7 * f_flat + casadi.dot(casadi.DM(lam), g_flat)
    check = casadi.Function(
        "check",
        [s],
        [
            casadi.gradient(f_flat, s),
            casadi.jacobian(g_flat, s),
            casadi.triu(casadi.hessian(lagrangian, s)[0]),
        ],
    )(x)
    np.testing.assert_allclose(np.array(gradient), np.array(check[0]), rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(np.array(jacobian), np.array(check[1]), rtol=1e-12, atol=1e-13)
    hessian = functions["hess_lag"](x, [], 0.7, lam)
    np.testing.assert_allclose(np.array(hessian), np.array(check[2]), rtol=1e-10, atol=1e-11)
    step = 1e-6
    moved = np.array(functions["jac_g"](x + step * np.eye(len(x))[0], [])[0]).ravel()
    np.testing.assert_allclose(
        (moved - np.array(g).ravel()) / step, np.array(jacobian)[:, 0], atol=1e-4
    )


def test_a_model_without_constraints_or_without_curvature_is_built():
    model = pyo.ConcreteModel("free")
    model.x = pyo.Var(initialize=3.0)
    model.objective = pyo.Objective(expr=(model.x - 1) ** 2)
    assert PreparedNlp(model).solve().objective == pytest.approx(0.0, abs=1e-12)

    model.del_component("objective")
    model.floor = pyo.Constraint(expr=model.x >= 2)
    model.objective = pyo.Objective(expr=model.x)
    assert PreparedNlp(model).solve().objective == pytest.approx(2.0, abs=1e-6)


def solve_by_file(model, folder):
    """The optimum by an .nl file that Pyomo writes and CasADi reads, by the same Ipopt."""
    path = folder / "model.nl"
    with path.open("w") as stream:
        variables = NLWriter().write(model, stream, linear_presolve=False).variables
    builder = casadi.NlpBuilder()
    builder.import_nl(str(path))
    problem = {"x": casadi.vertcat(*builder.x), "f": builder.f, "g": casadi.vertcat(*builder.g)}
    solver = start_ipopt(problem, {"expand": True}, {})
    start = [
        min(max(0.0, low), high) if v.value is None else v.value
        for v, low, high in zip(variables, builder.x_lb, builder.x_ub, strict=True)
    ]
    answer = solver(
        x0=start, lbx=builder.x_lb, ubx=builder.x_ub, lbg=builder.g_lb, ubg=builder.g_ub
    )
    assert solver.stats()["success"]
    return float(answer["f"])


def smooth():
    """Rosenbrock's valley with a circle and a hyperbola around its end."""
    model = pyo.ConcreteModel("valley")
    model.x, model.y = pyo.Var(initialize=-1.0), pyo.Var(bounds=(-2, 2))
    model.circle = pyo.Constraint(expr=model.x**2 + model.y**2 <= 1.5)
    model.hyperbola = pyo.Constraint(expr=pyo.exp(model.x) * model.y >= -5 / (model.x + 3))
    model.objective = pyo.Objective(expr=(1 - model.x) ** 2 + 100 * (model.y - model.x**2) ** 2)
    return model


def transfer():
    return build_transfer_opf(load_network("ieee33"), "radial")


def losses():
    model = build_loss_reconfiguration(load_network("ieee33"))
    closed = load_network("ieee33").closed
    for k in model.y:
        model.y[k].fix(float(closed[k]))
    return model


@pytest.mark.parametrize("build", [smooth, transfer, losses])
def test_the_answer_is_that_of_the_nl_route(build, tmp_path):
    ours = PreparedNlp(build()).solve()

    assert ours.converged
    assert ours.objective == pytest.approx(solve_by_file(build(), tmp_path), rel=1e-6, abs=1e-7)
