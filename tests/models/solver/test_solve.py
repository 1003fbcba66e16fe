"""One call for every class of model: its solver, its optimum, and its message without one."""

import math
import random
from importlib import import_module

import pyomo.environ as pyo
import pytest
from small_models import lp, milp, miqcp, nlp, qcp, qp, two

from feederguard.data.networks import load_network
from feederguard.models.reconfiguration import build_loss_reconfiguration
from feederguard.models.solver import NotSolvedError, Solution, solve
from feederguard.models.solver.choose import ModelClass, choose_solver, classify

solver = import_module("feederguard.models.solver.solve")


CLASSES = {
    "lp": (lp, ModelClass(False, 1, 1), "highs", 12.0, (4, 0)),
    "milp": (milp, ModelClass(True, 1, 1), "highs", 18.0, (2, 2)),
    "qp": (qp, ModelClass(False, 2, 1), "highs", 1.125, (0.25, 1.75)),
    "miqcp": (miqcp, ModelClass(True, 1, 2), "scip", 5.5, (2, 1.5)),
    "nlp": (nlp, ModelClass(False, 3, 2), "ipopt", 2 * math.e, (1, math.e)),
    "qcp": (qcp, ModelClass(False, 1, 2), "ipopt", math.sqrt(2), (math.sqrt(0.5), math.sqrt(0.5))),
}


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.newest
def test_each_class_goes_to_its_solver_and_reaches_its_known_optimum(name):
    build, kind, chosen, optimum, point = CLASSES[name]
    model = build()
    assert classify(model) == kind
    assert choose_solver(kind, name) == chosen

    solution = solve(model)

    assert solution.solver.split()[0] == chosen
    assert (solution.status, solution.reason, solution.model) == ("optimal", "converged", name)
    assert solution.objective == pytest.approx(optimum, rel=1e-4)
    assert pyo.value(model.objective) == pytest.approx(solution.objective, rel=1e-6)
    assert (model.x.value, model.y.value) == pytest.approx(point, abs=1e-3)
    assert solution.seconds > 0


@pytest.mark.parametrize("build", [lp, milp, miqcp])
def test_a_maximisation_is_bounded_from_above(build):
    solution = solve(build())

    assert solution.bound >= solution.objective - 1e-6
    assert solution.gap <= 1e-4


@pytest.mark.parametrize(("sense", "bound"), [(pyo.minimize, -math.inf), (pyo.maximize, math.inf)])
def test_a_local_solver_proves_no_bound(sense, bound):
    sign = 1 if sense == pyo.minimize else -1
    model = two(
        "nlp",
        lambda x, y: sign * (pyo.exp(x) + y),
        lambda x, y: x * y >= math.e,
        sense=sense,
        bounds=(0.1, 10),
    )

    solution = solve(model)

    assert solution.objective == pytest.approx(sign * 2 * math.e, rel=1e-6)
    assert solution.bound == bound and solution.gap == math.inf


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"solver": "gurobi"},
            "unknown solver 'gurobi'; use one of auto, highs, scip, highs_outer_approximation, "
            "ipopt",
        ),
        ({"time_limit_s": 0.0}, "time_limit_s is 0.0; it must be positive"),
        ({"time_limit_s": math.nan}, "time_limit_s is nan; it must be positive"),
        ({"rel_gap": -1.0}, "rel_gap is -1.0; it must be positive"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        solve(lp(), **arguments)


IMPOSSIBLE = {
    "highs": (lambda x, y: x + y, pyo.Reals),
    "scip": (lambda x, y: x + y**2, pyo.Integers),
    "highs_outer_approximation": (lambda x, y: x + y**2, pyo.Integers),
    "ipopt": (lambda x, y: x + y**2, pyo.Reals),
}


@pytest.mark.parametrize("engine", IMPOSSIBLE)
def test_infeasible_names_model_reason_and_remedy(engine):
    body, domain = IMPOSSIBLE[engine]
    model = two("too much", body, lambda x, y: x + y >= 25, domain=domain)

    # A continuous model is solved once more, with slacks, to say what would have to give: x + y
    # reaches 20 of 25.
    remedy = (
        r"limit at index 1 below its limit by .*; relax these limits"
        if domain is pyo.Reals
        else "relax the voltage band"
    )
    with pytest.raises(
        NotSolvedError, match=f"^'?too much'?: .* stopped with infeasible .*{remedy}"
    ) as raised:
        solve(model, engine)
    assert raised.value.solution.status == "none" and math.isnan(raised.value.solution.objective)
    with pytest.raises(NotSolvedError, match="infeasible"):
        solve(model, engine, accept_incumbent=True)


def test_an_infeasible_convex_quadratic_is_no_solution():
    model = two("square", lambda x, y: x**2 + y**2, lambda x, y: x + y >= 25)

    with pytest.raises(NotSolvedError, match="square: highs stopped with infeasible"):
        solve(model)


def test_unbounded_is_said_to_be_unbounded():
    model = two("free fall", lambda x, y: x, bounds=(None, None))

    with pytest.raises(
        NotSolvedError,
        match="free fall: highs stopped with unbounded after .* bound the variables it improves",
    ):
        solve(model)


def market_split(quadratic):
    """Split 30 items in halves by 4 measures at once.

    Good splits are found at once, and none is proven in seconds.
    """
    rng = random.Random(1)
    model = pyo.ConcreteModel("market split")
    model.x = pyo.Var(range(30), domain=pyo.Binary)
    model.s = pyo.Var(range(4), bounds=(0, 1e4))
    model.split = pyo.ConstraintList()
    for k in range(4):
        sizes = [rng.randrange(100) for _ in range(30)]
        excess = sum(sizes[i] * model.x[i] for i in range(30)) - sum(sizes) // 2
        model.split.add(excess <= model.s[k])
        model.split.add(-excess <= model.s[k])
    if quadratic:
        model.cap = pyo.Constraint(expr=sum(model.s[k] ** 2 for k in range(4)) <= 1e8)
    model.objective = pyo.Objective(expr=1 + sum(model.s[k] for k in range(4)))
    return model


@pytest.mark.parametrize("engine", ["highs", "scip"])
def test_a_time_limit_raises_unless_the_incumbent_is_accepted(engine):
    model = market_split(engine == "scip")

    with pytest.raises(
        NotSolvedError,
        match=r"market split: \w+ stopped with time_limit .*incumbent .*bound .*"
        r"raise time_limit_s=2, loosen rel_gap=0.0001, or pass accept_incumbent=True",
    ) as raised:
        solve(model, time_limit_s=2)
    assert raised.value.solution.solver == engine

    solution = solve(model, time_limit_s=2, accept_incumbent=True)
    assert (solution.status, solution.reason, solution.solver) == ("feasible", "time_limit", engine)
    assert 1 <= solution.bound < solution.objective and solution.gap > 1e-4
    assert pyo.value(model.objective) == pytest.approx(solution.objective, rel=1e-5)
    worst = min(c.slack() for c in model.component_data_objects(pyo.Constraint))
    assert worst > -1e-3


@pytest.mark.slow
def test_a_large_reconfiguration_reports_its_time_limit():
    model = build_loss_reconfiguration(load_network("mantovani136"))

    with pytest.raises(
        NotSolvedError, match="minimum loss of mantovani136: scip stopped with time_limit"
    ):
        solve(model, time_limit_s=3.0)


def test_a_time_limit_of_ipopt_is_reported():
    with pytest.raises(NotSolvedError, match="nlp: ipopt .* stopped with (time|iteration)_limit"):
        solve(nlp(), options={"max_iter": 1})


def test_options_reach_the_solver():
    with pytest.raises(NotSolvedError, match="iteration_limit"):
        solve(lp(), "highs", options={"simplex_iteration_limit": 0, "presolve": "off"})


def test_a_quadratic_answer_that_breaks_a_constraint_is_not_believed():
    model = qp()
    model.x.set_value(5.0)
    model.y.set_value(0.0)
    claimed = Solution("optimal", "converged", 22.25, 22.25, 0.1, "highs", "qp")

    checked = solver._verified(model, claimed)

    assert checked.status == "none" and "violates a constraint by 3.0e" in checked.reason
    assert "use solver='ipopt'" in checked.reason
    model.x.set_value(1.0)
    assert solver._verified(model, claimed) is claimed


def test_where_highs_fails_on_a_qp_ipopt_takes_over_and_says_so(monkeypatch):
    failed = Solution("none", "error", math.nan, math.nan, 0.1, "highs", "qp")
    expected = solve(qp()).objective
    monkeypatch.setattr(solver, "_run_highs", lambda *_: failed)

    with pytest.warns(
        UserWarning, match="qp: HiGHS stopped with error on this QP; Ipopt solves it"
    ):
        solution = solve(qp())
    assert solution.solver.startswith("ipopt") and solution.objective == pytest.approx(
        expected, rel=1e-6
    )
    with pytest.raises(NotSolvedError, match="qp: highs stopped with error"):
        solve(qp(), "highs")


def test_a_start_that_leads_nowhere_is_told_from_an_infeasible_model(monkeypatch):
    failed = Solution("none", "infeasible", math.nan, -math.inf, 0.1, "ipopt (casadi)", "m")
    monkeypatch.setattr(solver, "_run_ipopt", lambda *_: failed)

    with pytest.raises(
        NotSolvedError, match="a re-solve with slacks meets every limit, so the start is at fault"
    ):
        solve(nlp())
