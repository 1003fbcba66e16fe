"""Which solver takes a class of model, what each refuses, and the table of those installed.

__main__.py is tested here: it prints that table.
"""

import subprocess
import sys

import pyomo.environ as pyo
import pytest
from small_models import lp, miqcp, nlp, qcp, two

from feederguard.models.solver import SolverMissingError, available_solvers, choose, solve
from feederguard.models.solver.choose import ModelClass, classify


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


def test_available_solvers_say_what_they_solve():
    rows = available_solvers()

    assert [row[0] for row in rows] == ["HiGHS", "SCIP", "Ipopt", "Ipopt", "Ipopt"]
    assert all(len(row) == 4 and all(row) for row in rows)
    assert sum("in use" in row[3] for row in rows) == 1
    assert rows[4][1].startswith("3.")


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
