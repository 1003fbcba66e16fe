"""What a solver found, and the errors of a model that was not solved."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Solution:
    """What a solver found: `status` is the kind of answer, `reason` why the solver stopped.

    bound and gap are of the objective. A local solver proves none: its bound is -inf or inf, and
    its gap inf.
    """

    status: str  # "optimal", "feasible" (an incumbent, not proven), or "none"
    # "converged", "time_limit", "infeasible", "unbounded", "iteration_limit", or the solver's words
    reason: str
    objective: float  # nan when there is no solution
    bound: float
    seconds: float  # wall time of writing, solving and loading back
    solver: str
    model: str

    @property
    def gap(self) -> float:
        """Relative distance of objective and bound."""
        if not (math.isfinite(self.objective) and math.isfinite(self.bound)):
            return math.inf
        return abs(self.objective - self.bound) / max(abs(self.objective), 1e-9)


class NotSolvedError(RuntimeError):
    """No proven optimum: the message says why and what to change; `.solution` holds the figures."""

    def __init__(self, message: str, solution: Solution) -> None:
        super().__init__(message)
        self.solution = solution


class SolverMissingError(RuntimeError):
    """No installed solver can take the model: the message says which to install."""


def model_name(model: Any) -> str:
    """Return what a model is called; Pyomo puts names with brackets or dots between quotes."""
    return str(model.name).removeprefix("'").removesuffix("'")


def headline(solution: Solution) -> str:
    """Return which solver stopped on which model, why, and after how long."""
    return (
        f"{solution.model}: {solution.solver} stopped with {solution.reason} "
        f"after {solution.seconds:.1f} s"
    )


def explain_stop(solution: Solution, time_limit_s: float, rel_gap: float) -> str:
    """Return the message of a solve that fell short: its headline and what to change."""
    head = headline(solution)
    if solution.status == "feasible":
        return (
            f"{head} (incumbent {solution.objective:.6g}, bound {solution.bound:.6g}, gap "
            f"{100 * solution.gap:.2g} %); raise time_limit_s={time_limit_s:g}, loosen "
            f"rel_gap={rel_gap:g}, or pass accept_incumbent=True"
        )
    if solution.reason == "time_limit":
        return f"{head} without any feasible point; raise time_limit_s={time_limit_s:g}"
    if solution.reason == "infeasible":
        return (
            f"{head}: no point meets every constraint; relax the voltage band or the branch limits"
        )
    if "unbounded" in solution.reason:
        return f"{head}: the objective has no limit; bound the variables it improves with"
    return (
        f"{head}; check the model's bounds and start values, or, for a nonconvex model, use "
        "solver='ipopt' or 'scip'"
    )
