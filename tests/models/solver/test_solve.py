"""The right solver for each class of model, and an honest word about what it found."""

import functools
import math
import random
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pyomo.environ as pyo
import pytest

from feederguard.data.networks import load_network
from feederguard.models.reconfiguration import build_loss_reconfiguration
from feederguard.models.solver import (
    NotSolvedError,
    Solution,
    SolverMissingError,
    available_solvers,
    choose,
    solve,
)
from feederguard.models.solver import ipopt_routes as solver_ipopt
from feederguard.models.solver.choose import ModelClass, choose_solver, classify
from feederguard.models.solver.ipopt import PreparedNlp
from feederguard.models.solver.ipopt_routes import find_ipopt

solver = import_module("feederguard.models.solver.solve")


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
    """max 5 x + 4 y with whole x, 6 x + 4 y <= 24, x + 2 y <= 6: x = 3, y = 1.5 as in the
    relaxation; x <= 2.5 moves it.
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
    """min (x - 1)^2 + (y - 2.5)^2 over x + y <= 2: the foot of the perpendicular (0.25, 1.75),
    1.125.
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


def test_gap_is_relative_and_infinite_without_figures():
    def gap(objective, bound):
        return Solution("feasible", "time_limit", objective, bound, 1.0, "scip", "m").gap

    assert gap(10.0, 9.0) == pytest.approx(0.1)
    assert gap(-10.0, -11.0) == pytest.approx(0.1)
    assert gap(math.nan, 1.0) == gap(1.0, math.nan) == gap(1.0, -math.inf) == math.inf


def test_fixed_variables_count_as_numbers():
    model = miqcp()
    model.x.fix(2)

    assert classify(model) == ModelClass(False, 1, 2)
    model.y.fix(1)
    assert classify(model) == ModelClass(False, 1, 1)


def test_two_objectives_are_refused():
    model = lp()
    model.second = pyo.Objective(expr=model.x)

    with pytest.raises(ValueError, match="lp: 2 active objectives; deactivate all but one"):
        solve(model)


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
        match="free fall: highs stopped with unbounded after .* bound the variables it improves with",
    ):
        solve(model)


def market_split(quadratic):
    """Split 30 items in halves by 4 measures at once: good splits are found at once, and none is
    proven in seconds.
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
        match=r"market split: \w+ stopped with time_limit .*incumbent .*bound .*raise time_limit_s=2, loosen "
        r"rel_gap=0.0001, or pass accept_incumbent=True",
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


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            miqcp,
            r"miqcp: HiGHS takes no quadratic constraints; use solver='scip' \(pip install "
            r"pyscipopt\), "
            "solver='highs_outer_approximation'",
        ),
        (
            qcp,
            r"qcp: HiGHS takes no quadratic constraints; .*pip install pyscipopt\) or "
            r"solver='ipopt'",
        ),
        (
            lambda: two("miqp", lambda x, y: x**2 + y, domain=pyo.Integers),
            r"miqp: HiGHS takes no an? ?integer quadratic objective; use solver='scip' \(pip "
            r"install pyscipopt\)",
        ),
    ],
)
def test_highs_refuses_what_it_cannot_take(build, message):
    with pytest.raises(SolverMissingError, match=message):
        solve(build(), "highs")


def test_ipopt_refuses_integers_and_outer_approximation_the_nonlinear():
    with pytest.raises(
        SolverMissingError,
        match="miqcp: Ipopt takes no integer variables; use solver='scip', or fix them",
    ):
        solve(miqcp(), "ipopt")
    with pytest.raises(
        SolverMissingError,
        match="nlp: outer approximation takes quadratic models; use solver='scip'",
    ):
        solve(nlp(), "highs_outer_approximation")


@pytest.fixture
def without_scip(monkeypatch):
    installed = choose._installed
    monkeypatch.setattr(
        choose, "_installed", lambda package: package != "pyscipopt" and installed(package)
    )


@pytest.mark.usefixtures("without_scip")
def test_without_scip_a_convex_integer_quadratic_goes_to_outer_approximation():
    solution = solve(miqcp())

    assert solution.solver == "highs_outer_approximation"
    assert solution.objective == pytest.approx(5.5, rel=1e-4)


@pytest.mark.usefixtures("without_scip")
def test_without_scip_what_needs_it_says_how_to_install_it():
    with pytest.raises(
        SolverMissingError, match="miqcp: SCIP is not installed; pip install pyscipopt"
    ):
        solve(miqcp(), "scip")
    whole = two("minlp", lambda x, y: pyo.exp(x) + y, domain=pyo.Integers)
    with pytest.raises(
        SolverMissingError,
        match="minlp: a mixed-integer nonlinear model needs SCIP; pip install pyscipopt",
    ):
        solve(whole)


def test_installed_looks_for_the_package():
    assert choose._installed("highspy") and not choose._installed("no_such_solver_package")


def test_a_quadratic_answer_that_breaks_a_constraint_is_not_believed():
    model = qp()
    model.x.set_value(5.0)
    model.y.set_value(0.0)
    claimed = Solution("optimal", "converged", 22.25, 22.25, 0.1, "highs", "qp")

    checked = solver._verified(model, claimed)

    assert checked.status == "none" and "breaks a constraint by 3.0e" in checked.reason
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


def place_ipopt(monkeypatch, idaes=None, path=None):
    def which(name, path_searched=path, **options):
        return (
            str(idaes / name)
            if "path" in options and idaes
            else (None if "path" in options else path_searched)
        )

    monkeypatch.setattr(solver_ipopt, "_idaes_bin_directory", lambda: (idaes, ""))
    monkeypatch.setattr(solver_ipopt.shutil, "which", which)


def test_ipopt_of_idaes_comes_first(monkeypatch):
    place_ipopt(monkeypatch, idaes=Path("/idaes/bin"), path="/usr/bin/ipopt")

    route = find_ipopt()

    assert route.executable == Path("/idaes/bin/ipopt")
    assert route.description == "executable of idaes get-extensions (/idaes/bin/ipopt)"


def test_ipopt_on_the_path_comes_second(monkeypatch):
    place_ipopt(monkeypatch, path="/usr/bin/ipopt")

    assert find_ipopt().executable == Path("/usr/bin/ipopt")
    assert find_ipopt().description == "executable on the PATH (/usr/bin/ipopt)"


def test_ipopt_of_casadi_comes_last(monkeypatch):
    place_ipopt(monkeypatch)

    route = find_ipopt()

    assert route.executable is None and route.description.startswith("bundled with CasADi 3.")
    assert solve(nlp()).solver == "ipopt (casadi)"


def test_available_solvers_say_what_they_solve():
    rows = available_solvers()

    assert [row[0] for row in rows] == ["HiGHS", "SCIP", "Ipopt", "Ipopt", "Ipopt"]
    assert all(len(row) == 4 and all(row) for row in rows)
    assert sum("in use" in row[3] for row in rows) == 1
    assert rows[4][1].startswith("3.")


def test_each_route_to_ipopt_says_how_to_get_it(monkeypatch):
    place_ipopt(monkeypatch)

    rows = available_solvers()[2:]

    assert rows[0][1:3] == ("-", "missing: executable of idaes get-extensions")
    assert "idaes get-extensions" in rows[0][3] and "PATH" in rows[1][3]
    assert rows[2][2].startswith("bundled with CasADi") and "in use" in rows[2][3]


def test_an_idaes_that_fails_to_start_is_a_route_that_is_missing(monkeypatch, tmp_path):
    """Importing it makes folders in the user's home; where that cannot be written to, it raises
    what it likes.
    """
    (tmp_path / "idaes").mkdir()
    (tmp_path / "idaes" / "__init__.py").write_text(
        "raise PermissionError('cannot write to /home/me')"
    )
    for name in [name for name in sys.modules if name.split(".")[0] == "idaes"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(solver_ipopt.shutil, "which", lambda *_, **__: None)
    monkeypatch.setattr(
        solver_ipopt,
        "_idaes_bin_directory",
        functools.cache(solver_ipopt._idaes_bin_directory.__wrapped__),
    )

    rows = available_solvers()[2:]

    assert rows[0][2] == "missing: executable of idaes get-extensions"
    assert (
        "idaes does not start (PermissionError: cannot write to /home/me); set HOME or IDAES_DATA"
        in rows[0][3]
    )
    assert find_ipopt().executable is None and solve(nlp()).solver == "ipopt (casadi)"


def test_models_whose_names_pyomo_quotes_are_called_without_quotes():
    model = nlp()
    model.name = "a model (of mine)"
    assert model.name != "a model (of mine)", "Pyomo puts it between quotes"
    assert solve(model).model == "a model (of mine)"
    model.never = pyo.Constraint(expr=sum(model.component_data_objects(pyo.Var)) ** 2 <= -1)
    with pytest.raises(NotSolvedError, match=r"^a model \(of mine\): ipopt"):
        solve(model)


def test_an_executable_that_does_not_run_has_no_version(monkeypatch):
    place_ipopt(monkeypatch, path="/no/such/folder/ipopt")

    rows = available_solvers()[2:]

    assert rows[1][1:] == (
        "-",
        "executable on the PATH (/no/such/folder/ipopt)",
        "nonlinear, continuous (in use)",
    )


def test_an_executable_is_asked_for_its_version(monkeypatch, tmp_path):
    program = tmp_path / "ipopt"
    program.write_text("#!/bin/sh\necho 'Ipopt 3.13.2 (x86_64-linux-gnu), ASL(20190605)'\n")
    program.chmod(0o755)
    place_ipopt(monkeypatch, path=str(program))

    assert available_solvers()[3][1] == "3.13.2"


def test_a_start_that_leads_nowhere_is_told_from_an_infeasible_model(monkeypatch):
    failed = Solution("none", "infeasible", math.nan, -math.inf, 0.1, "ipopt (casadi)", "m")
    monkeypatch.setattr(solver, "_run_ipopt", lambda *_: failed)

    with pytest.raises(
        NotSolvedError, match="a re-solve with slacks meets every limit, so the start is at fault"
    ):
        solve(nlp())


def test_a_missing_solver_says_how_to_install_it(monkeypatch):
    def version(package):
        raise choose.PackageNotFoundError(package)

    monkeypatch.setattr(choose, "version", version)

    assert available_solvers()[1] == ("SCIP", "-", "missing", "pip install pyscipopt")


def test_the_module_prints_its_table():
    done = subprocess.run(
        [sys.executable, "-m", "feederguard.models.solver"],
        capture_output=True,
        text=True,
        check=True,
    )

    for words in ("solver", "HiGHS", "SCIP", "Ipopt", "highspy"):
        assert words in done.stdout
