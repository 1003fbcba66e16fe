"""Solver access: one call that chooses the solver, and one result that says what it found.

linear, mixed-integer linear, convex quadratic objective     HiGHS (highspy)
mixed-integer, quadratic constraints or objective            SCIP (pyscipopt), or without it
                                                             HiGHS by outer approximation
                                                             (convex models)
nonlinear, or continuous with quadratic constraints          Ipopt, see `ipopt_routes.py`
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from time import perf_counter
from typing import Any

import pyomo.environ as pyo

from feederguard.models.solver.choose import (
    SOLVERS,
    ModelClass,
    choose_solver,
    classify,
    degree_of,
    has_integers,
    refuse_unfit,
    the_objective,
)
from feederguard.models.solver.ipopt import run_casadi_ipopt
from feederguard.models.solver.ipopt_routes import find_ipopt
from feederguard.models.solver.least_violations import find_least_violations
from feederguard.models.solver.solution import (
    NotSolvedError,
    Solution,
    explain_stop,
    headline,
    model_name,
)

EXPLANATION_TIME_LIMIT_S = 60.0


def solve(
    model: pyo.ConcreteModel,
    solver: str = "auto",
    time_limit_s: float = 60.0,
    rel_gap: float = 1e-4,
    accept_incumbent: bool = False,
    options: Mapping[str, Any] | None = None,
    explain: bool = True,
) -> Solution:
    """Solve the model, load the values back into it, and return the `Solution`.

    solver: one of SOLVERS. rel_gap: relative gap at which a mixed-integer solve counts as optimal.
    accept_incumbent: whether a feasible point without proof is returned. options: passed to the
    solver under its own names (for SCIP on top of `_SCIP_OPTIONS`). explain: whether an infeasible
    continuous model is solved once more to say why.

    Where HiGHS fails on a QP that "auto" gave it, Ipopt takes over, with a warning.

    Raises `NotSolvedError` for anything short of optimal. For an infeasible continuous model its
    message names the limits that would have to give (`least_violations.py`). That takes at most
    another time_limit_s or `EXPLANATION_TIME_LIMIT_S`, whichever is less. Raises
    `SolverMissingError` when the solver is missing or cannot take this class of model, and
    ValueError for bad arguments.
    """
    if solver not in SOLVERS:
        raise ValueError(f"unknown solver {solver!r}; use one of {', '.join(SOLVERS)}")
    _check_positive(time_limit_s=time_limit_s, rel_gap=rel_gap)
    # Ipopt takes any degree, and finding the degree of a large model costs as much as reading it.
    kind = ModelClass(has_integers(model), 3, 3) if solver == "ipopt" else classify(model)
    chosen = choose_solver(kind, model_name(model)) if solver == "auto" else solver
    refuse_unfit(chosen, kind, model_name(model))
    run = {"highs": _run_highs, "scip": _run_scip, "ipopt": _run_ipopt}.get(
        chosen, _run_outer_approximation
    )
    solution = run(model, time_limit_s, rel_gap, dict(options or {}))
    if (
        solver == "auto"
        and chosen == "highs"
        and kind.objective_degree == 2
        and solution.reason.startswith(_HIGHS_GAVE_UP)
    ):
        # Seen on multi-period QPs (1.15.1); Ipopt takes the same convex problem, without a proven
        # bound.
        warnings.warn(
            f"{model_name(model)}: HiGHS stopped with {solution.reason} on this QP; "
            "Ipopt solves it",
            stacklevel=2,
        )
        solution = _run_ipopt(model, time_limit_s, rel_gap, {})
    if solution.status == "optimal" or (solution.status == "feasible" and accept_incumbent):
        return solution
    if (
        explain
        and solution.status == "none"
        and solution.reason in _PERHAPS_INFEASIBLE
        and not kind.integer
    ):
        raise explain_infeasible(model, solution, time_limit_s)
    raise NotSolvedError(explain_stop(solution, time_limit_s, rel_gap), solution)


def _check_positive(**numbers: float) -> None:
    for name, number in numbers.items():
        if not number > 0:
            raise ValueError(f"{name} is {number}; it must be positive")


def explain_infeasible(model: Any, solution: Solution, time_limit_s: float) -> NotSolvedError:
    """Return the error of an infeasible continuous model; it names the limits that must give.

    That takes at most time_limit_s or `EXPLANATION_TIME_LIMIT_S`, whichever is less.
    """
    words = _what_would_give(model, solution, min(time_limit_s, EXPLANATION_TIME_LIMIT_S))
    return NotSolvedError(f"{headline(solution)}: {words}", solution)


def _run_highs(
    model: Any, time_limit_s: float, rel_gap: float, options: dict[str, Any]
) -> Solution:
    from pyomo.contrib.solver.solvers.highs import Highs

    from feederguard.models.solver.highs import swallow_banner, threads_of

    swallow_banner()
    quadratic = degree_of(the_objective(model).expr) == 2
    with threads_of(options):
        solution = _run_contrib(Highs(), "highs", model, time_limit_s, rel_gap, options)
        left_s = time_limit_s - solution.seconds
        if quadratic and solution.reason in ("error", "unknown") and left_s > 0:
            # Its QP solver (1.16) fails on variables far below 1, as powers per unit are. With
            # variables in units of 2^-8 it answers; units of 2^-16 of the objective keep the
            # Hessian.
            options = {"user_bound_scale": 8, "user_objective_scale": 16} | options
            solution = _run_contrib(Highs(), "highs", model, left_s, rel_gap, options)
    return _verified(model, solution) if quadratic and solution.status == "optimal" else solution


# SCIP spends much time on complementarity and bound-tightening subproblems by default. Network
# models gain nothing from them.
_SCIP_OPTIONS: dict[str, Any] = {
    "heuristics/mpec/freq": -1,
    "propagating/obbt/freq": -1,
}


def _run_scip(model: Any, time_limit_s: float, rel_gap: float, options: dict[str, Any]) -> Solution:
    from pyomo.contrib.solver.solvers.scip.scip_direct import ScipDirect

    return _run_contrib(
        ScipDirect(), "scip", model, time_limit_s, rel_gap, {**_SCIP_OPTIONS, **options}
    )


def _run_outer_approximation(
    model: Any, time_limit_s: float, rel_gap: float, options: dict[str, Any]
) -> Solution:
    from feederguard.models.solver.highs import threads_of
    from feederguard.models.solver.outer_approximation import outer_approximation

    begin = perf_counter()
    with threads_of(options):
        result = outer_approximation(model, time_limit_s, rel_gap, options)
    return Solution(
        result.status,
        result.reason,
        result.objective,
        result.bound,
        perf_counter() - begin,
        "highs_outer_approximation",
        model_name(model),
    )


def _run_ipopt(
    model: Any, time_limit_s: float, rel_gap: float, options: dict[str, Any]
) -> Solution:
    route = find_ipopt()
    unproven = -math.inf if the_objective(model).sense == pyo.minimize else math.inf
    begin = perf_counter()
    if route.executable is None:
        result = run_casadi_ipopt(model, time_limit_s, options)
        status = "optimal" if result.converged else "none"
        reason = "converged" if result.converged else _ipopt_reason(result.reason)
        objective = result.objective if result.converged else math.nan
        return Solution(
            status,
            reason,
            objective,
            unproven,
            perf_counter() - begin,
            "ipopt (casadi)",
            model_name(model),
        )
    from pyomo.contrib.solver.solvers.ipopt import Ipopt

    found = _run_contrib(
        Ipopt(executable=str(route.executable)), "ipopt", model, time_limit_s, None, options
    )
    return Solution(
        found.status,
        found.reason,
        found.objective,
        unproven,
        perf_counter() - begin,
        "ipopt (executable)",
        model_name(model),
    )


def _run_contrib(
    engine: Any,
    name: str,
    model: Any,
    time_limit_s: float,
    rel_gap: float | None,
    options: dict[str, Any],
) -> Solution:
    """Run one of Pyomo's solver interfaces and translate its two statuses into ours."""
    begin = perf_counter()
    gap = {} if rel_gap is None else {"rel_gap": rel_gap}
    results = engine.solve(
        model,
        time_limit=time_limit_s,
        load_solutions=False,
        raise_exception_on_nonoptimal_result=False,
        solver_options=options,
        **gap,
    )
    held = results.solution_status.name
    reason = _REASONS.get(results.termination_condition.name, results.termination_condition.name)
    status = {"optimal": "optimal", "feasible": "feasible"}.get(held, "none")
    if "unbounded" in reason:
        status = "none"
    if status != "none":
        results.solution_loader.load_vars()
    objective = (
        math.nan
        if status == "none" or results.incumbent_objective is None
        else results.incumbent_objective
    )
    bound = math.nan if results.objective_bound is None else results.objective_bound
    return Solution(
        status,
        reason,
        float(objective),
        float(bound),
        perf_counter() - begin,
        name,
        model_name(model),
    )


_REASONS = {
    "convergenceCriteriaSatisfied": "converged",
    "maxTimeLimit": "time_limit",
    "iterationLimit": "iteration_limit",
    "provenInfeasible": "infeasible",
    "locallyInfeasible": "infeasible",
    "infeasibleOrUnbounded": "infeasible or unbounded",
}


def _ipopt_reason(words: str) -> str:
    return {
        "Infeasible_Problem_Detected": "infeasible",
        "Maximum_WallTime_Exceeded": "time_limit",
        "Maximum_CpuTime_Exceeded": "time_limit",
        "Maximum_Iterations_Exceeded": "iteration_limit",
        "Diverging_Iterates": "unbounded",
    }.get(words, words)


def _verified(model: Any, solution: Solution) -> Solution:
    """Return the solution, or status "none" where the point loaded violates a constraint.

    HiGHS's QP solver has been seen to call NaN or a violating point optimal (1.15.1).
    """
    worst = 0.0
    for constraint in model.component_data_objects(pyo.Constraint, active=True):
        slack = constraint.slack()
        worst = max(worst, -slack if math.isfinite(slack) else math.inf)
    if worst <= 1e-5 and math.isfinite(solution.objective):
        return solution
    return Solution(
        "none",
        f"{_FALSE_OPTIMUM} by {worst:.1e} called optimal; use solver='ipopt'",
        math.nan,
        solution.bound,
        solution.seconds,
        solution.solver,
        solution.model,
    )


_FALSE_OPTIMUM = "a point that violates a constraint"
_HIGHS_GAVE_UP = ("error", "unknown", "iteration_limit", _FALSE_OPTIMUM)

_OUT_OF_TIME = ("Maximum_WallTime_Exceeded", "Maximum_CpuTime_Exceeded")

# The reasons of a solver that found no feasible point.
_PERHAPS_INFEASIBLE = ("infeasible", "infeasible or unbounded", "Restoration_Failed")


def _what_would_give(model: Any, solution: Solution, time_limit_s: float) -> str:
    """Return the least violations of an infeasible model in words."""
    found = find_least_violations(model, time_limit_s)
    if not found.found and found.reason in _OUT_OF_TIME:
        more = (
            "time_limit_s"
            if time_limit_s < EXPLANATION_TIME_LIMIT_S
            else "the time_limit_s of find_least_violations"
        )
        return (
            "no point meets every constraint, and what would have to give was not found within "
            f"{time_limit_s:g} s; raise {more}, or relax the voltage band or the branch limits"
        )
    if not found.found:
        return (
            "no point meets every constraint, and what would have to give was not found "
            f"({found.reason}); relax the voltage band or the branch limits"
        )
    if found.unmet:
        return (
            "the demand cannot be met, not even outside the limits; the least violation is "
            f"{found.describe()}; lower the demand, or add generation or branches"
        )
    if found.violations:
        return (
            f"no point meets every limit; the least violation is {found.describe()}; "
            "relax these limits or the demand"
        )
    if "unbounded" in solution.reason:
        return (
            "some point meets every limit, so the objective has none; bound the variables it "
            "improves with"
        )
    return (
        "a re-solve with slacks meets every limit, so the start is at fault; give the variables "
        "other values to start from"
    )
