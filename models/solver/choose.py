"""Which solver takes a model, and which are installed."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import pyomo.environ as pyo

from feederguard.models.solver.ipopt import ipopt_version
from feederguard.models.solver.ipopt_routes import find_ipopt, ipopt_routes
from feederguard.models.solver.solution import SolverMissingError, model_name

SOLVERS = ("auto", "highs", "scip", "highs_outer_approximation", "ipopt")


@dataclass(frozen=True)
class ModelClass:
    """What kind of problem a model is, as far as choosing a solver goes."""

    integer: bool
    objective_degree: int  # 1, 2, or 3 for anything beyond quadratic
    constraint_degree: int


def solver_for(model: pyo.ConcreteModel, solver: str = "auto") -> str:
    """Return which of SOLVERS `solve` would use.

    Raises `SolverMissingError` when no installed solver fits.
    """
    return choose_solver(classify(model), model_name(model)) if solver == "auto" else solver


def classify(model: pyo.ConcreteModel) -> ModelClass:
    """Return the class of a model by its active components; fixed variables count as numbers."""
    objective = the_objective(model)
    degree = 1
    for constraint in model.component_data_objects(pyo.Constraint, active=True):
        degree = max(degree, degree_of(constraint.body))
        if degree == 3:
            break
    return ModelClass(has_integers(model), degree_of(objective.expr), degree)


def choose_solver(kind: ModelClass, name: str) -> str:
    """Return the solver for a class of model.

    Raises `SolverMissingError` when none fits; the message says what to install.
    """
    if max(kind.objective_degree, kind.constraint_degree) <= 1 or (
        kind.constraint_degree <= 1 and kind.objective_degree == 2 and not kind.integer
    ):
        return "highs"
    if not kind.integer:
        return "ipopt"
    if _installed("pyscipopt"):
        return "scip"
    if max(kind.objective_degree, kind.constraint_degree) == 2:
        return "highs_outer_approximation"
    raise SolverMissingError(
        f"{name}: a mixed-integer nonlinear model needs SCIP; pip install pyscipopt"
    )


def refuse_unfit(solver: str, kind: ModelClass, name: str) -> None:
    """Raise `SolverMissingError` when `solver` is missing or cannot take this class of model."""
    quadratic = max(kind.objective_degree, kind.constraint_degree) >= 2
    if solver == "highs" and (
        kind.constraint_degree >= 2 or kind.objective_degree > 2 or (quadratic and kind.integer)
    ):
        what = (
            "quadratic constraints"
            if kind.constraint_degree >= 2
            else "an integer quadratic objective"
        )
        raise SolverMissingError(
            f"{name}: HiGHS takes no {what}; use solver='scip' (pip install pyscipopt)"
            + (", solver='highs_outer_approximation'" if kind.integer else " or solver='ipopt'")
        )
    if solver == "scip" and not _installed("pyscipopt"):
        raise SolverMissingError(f"{name}: SCIP is not installed; pip install pyscipopt")
    if solver == "ipopt" and kind.integer:
        raise SolverMissingError(
            f"{name}: Ipopt takes no integer variables; use solver='scip', or fix them"
        )
    if (
        solver == "highs_outer_approximation"
        and max(kind.objective_degree, kind.constraint_degree) > 2
    ):
        raise SolverMissingError(
            f"{name}: outer approximation takes quadratic models; use solver='scip'"
        )


def available_solvers() -> list[tuple[str, str, str, str]]:
    """Return rows (solver, version, where from, what it solves or how to install it).

    Ipopt has a row for each route, in the order of `ipopt_routes.py`. The first that is not missing
    is used.
    """
    rows = []
    for name, package, job in (
        ("HiGHS", "highspy", "linear, mixed-integer linear, convex quadratic objective"),
        ("SCIP", "pyscipopt", "mixed-integer with quadratic or nonlinear parts"),
    ):
        try:
            rows.append((name, version(package), f"PyPI {package}", job))
        except PackageNotFoundError:
            rows.append((name, "-", "missing", f"pip install {package}"))
    used = find_ipopt()
    for route in ipopt_routes():
        job = "nonlinear, continuous" + (" (in use)" if route == used else "")
        if route.missing:
            rows.append(("Ipopt", "-", f"missing: {route.description}", route.missing))
        else:
            rows.append(("Ipopt", ipopt_version(route), route.description, job))
    return rows


def _installed(package: str) -> bool:
    try:
        import_module(package)
    except ImportError:
        return False
    return True


def the_objective(model: pyo.ConcreteModel) -> Any:
    """Return the model's active objective; raises ValueError where there is not exactly one."""
    objectives = list(model.component_data_objects(pyo.Objective, active=True))
    if len(objectives) != 1:
        raise ValueError(
            f"{model_name(model)}: {len(objectives)} active objectives; deactivate all but one"
        )
    return objectives[0]


def has_integers(model: pyo.ConcreteModel) -> bool:
    """Return whether any free variable is an integer."""
    return any(
        v.is_integer() and not v.fixed for v in model.component_data_objects(pyo.Var, active=True)
    )


def degree_of(expression: Any) -> int:
    """Return 1 for a linear or constant expression, 2 for a quadratic one, else 3."""
    degree = expression.polynomial_degree() if hasattr(expression, "polynomial_degree") else 0
    return 3 if degree is None else max(1, min(3, int(degree)))


def print_solvers() -> None:
    """Print the table of `available_solvers`."""
    from rich.console import Console
    from rich.table import Table

    table = Table("solver", "version", "from", "solves / how to install")
    for row in available_solvers():
        table.add_row(*row)
    Console().print(table)
