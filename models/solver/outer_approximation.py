"""Convex mixed-integer quadratic models by HiGHS alone: rounds of outer approximation.

Source of the scheme: Duran & Grossmann, Mathematical Programming 36, 1986. Every quadratic
constraint is one of two convex sets:

    x'Qx + q'x + c <= 0      Q positive semidefinite
    x'Qx <= 0                a second-order cone: Q has one negative eigenvalue

P^2 + Q^2 <= w ell is such a cone. A point outside is cut off by the tangent there. For a cone,
written |A x| <= a'x by the eigenvectors of Q, that is

    tangent at x0:  (A'A x0 / |A x0| - a)' x <= 0

The rounds:

    (1)  cut the linear relaxation until its answer is inside
    (2)  solve the mixed-integer linear model: a bound
    (3)  fix its integers and cut the linear model until its answer is inside: an incumbent
    (4)  repeat from (2) until bound and incumbent agree
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import highspy
import numpy as np
import pyomo.environ as pyo

from feederguard.models.arrays import FloatArray, IntArray
from feederguard.models.compiled import CompiledModel, QuadraticRows, compile_model
from feederguard.models.solver.highs import silent_highs

_CUT_TOLERANCE = 1e-7
# Far below _CUT_TOLERANCE: a tangent that the linear program may violate by as much cuts nothing
# off.
_LP_TOLERANCE = 1e-9
_LARGEST_LP_TOLERANCE = 1e-8
_OF_SOLVE = {"time_limit": "time_limit_s", "mip_rel_gap": "rel_gap"}


@dataclass(frozen=True)
class OuterResult:
    """Status and reason as in `Solution`, objective and bound in the model's own sense."""

    status: str
    reason: str
    objective: float
    bound: float


@dataclass(frozen=True, eq=False)
class _Convex:
    """One quadratic constraint over its own few columns."""

    column: IntArray
    matrix: FloatArray  # symmetric Q
    linear: FloatArray  # q
    constant: float  # c
    cone: FloatArray | None  # the vector a where the set is a cone

    def cut(self, x: FloatArray) -> tuple[FloatArray, float] | None:
        """Return coefficients and upper limit of the tangent that cuts x off, None inside."""
        v = x[self.column]
        if self.cone is None:
            g = v @ self.matrix @ v + self.linear @ v + self.constant
            if g <= _CUT_TOLERANCE * (1.0 + abs(self.linear) @ abs(v)):
                return None
            gradient = 2 * self.matrix @ v + self.linear
            return gradient, float(gradient @ v - g)
        # |A x|^2 = x'Qx + (a'x)^2
        positive = self.matrix + np.outer(self.cone, self.cone)
        norm, reach = math.sqrt(max(float(v @ positive @ v), 0.0)), float(self.cone @ v)
        if norm - reach <= _CUT_TOLERANCE * (1.0 + abs(reach)) or norm == 0.0:
            return None
        return positive @ v / norm - self.cone, 0.0


def outer_approximation(
    model: pyo.ConcreteModel, time_limit_s: float, rel_gap: float, options: dict[str, Any]
) -> OuterResult:
    """Solve the model, load the incumbent into it, and return how that ended.

    options: of HiGHS, by its names. Raises ValueError naming a constraint that is not a convex set,
    or an option that HiGHS does not take or that the rounds cannot work with.
    """
    deadline = perf_counter() + time_limit_s
    highs, tolerance = _highs_with(options)
    compiled = compile_model(model)
    variables = [v for name in compiled.columns for v in model.find_component(name).values()]
    sense = next(model.component_data_objects(pyo.Objective, active=True)).sense
    sign = 1.0 if sense == pyo.minimize else -1.0
    sets = _linear_part(highs, compiled, variables, sign)
    integer = np.array(
        [k for k, v in enumerate(variables) if v.is_integer() and not v.fixed], dtype=np.int64
    )
    n_column = compiled.n_column
    best, best_x, bound, reason = math.inf, None, -math.inf, "time_limit"

    _set_integer(highs, integer, False)
    _cut_until_inside(highs, sets, n_column, deadline, tolerance)
    while perf_counter() < deadline:
        _set_integer(highs, integer, True)
        highs.setOptionValue("mip_rel_gap", rel_gap / 4)
        x, value = _solve(highs, deadline, n_column, tolerance)
        if x is None:
            words = highs.modelStatusToString(highs.getModelStatus()).lower().replace(" ", "_")
            reason = {
                "time_limit_reached": "time_limit",
                "primal_infeasible_or_unbounded": "infeasible or unbounded",
            }.get(words, words)
            break
        bound = max(bound, highs.getInfo().mip_dual_bound if len(integer) else value)
        whole = np.round(x[integer])
        _set_integer(highs, integer, False)
        _hold(highs, integer, whole)
        x, value = _cut_until_inside(highs, sets, n_column, deadline, tolerance)
        if x is not None and value < best:
            best, best_x = value, x
        _release(highs, integer, variables)
        if best_x is not None and best - bound <= rel_gap * max(abs(best), 1e-9):
            reason = "converged"
            break
    if best_x is None:
        return OuterResult("none", reason, math.nan, sign * bound)
    for variable, value in zip(variables, best_x[:n_column].tolist(), strict=True):
        if not variable.fixed:
            variable.set_value(
                round(value) if variable.is_integer() else value, skip_validation=True
            )
    return OuterResult(
        "optimal" if reason == "converged" else "feasible", reason, sign * best, sign * bound
    )


def _highs_with(options: dict[str, Any]) -> tuple[Any, float]:
    """Return HiGHS with these options, and the feasibility tolerance of its linear models."""
    highs = silent_highs()
    for name, value in options.items():
        if name in _OF_SOLVE:
            raise ValueError(f"options: {name} is what {_OF_SOLVE[name]} sets; give that instead")
        if highs.setOptionValue(name, value) != highspy.HighsStatus.kOk:
            raise ValueError(f"options: HiGHS does not take {name}={value!r}; see its options")
    tolerance = float(options.get("primal_feasibility_tolerance", _LP_TOLERANCE))
    if tolerance > _LARGEST_LP_TOLERANCE:
        raise ValueError(
            f"options: primal_feasibility_tolerance is {tolerance:g}; outer approximation needs at "
            f"most {_LARGEST_LP_TOLERANCE:g}, or its tangents cut nothing off"
        )
    return highs, tolerance


def _linear_part(
    highs: Any, compiled: CompiledModel, variables: list[Any], sign: float
) -> list[_Convex]:
    """Write the linear rows into HiGHS, and return the quadratic ones as convex sets.

    A quadratic objective gets a column of its own, the last.
    """
    lower = [
        v.value if v.fixed else (-highspy.kHighsInf if v.lb is None else v.lb) for v in variables
    ]
    upper = [
        v.value if v.fixed else (highspy.kHighsInf if v.ub is None else v.ub) for v in variables
    ]
    cost, bounds = compiled.cost, (np.array(lower, dtype=float), np.array(upper, dtype=float))
    quadratic_cost = len(cost.product_value) > 0
    linear_cost = np.zeros(len(variables))
    np.add.at(linear_cost, cost.column, sign * cost.value)
    for k in range(len(variables)):
        highs.addVar(float(lower[k]), float(upper[k]))
        highs.changeColCost(k, 0.0 if quadratic_cost else float(linear_cost[k]))
    highs.changeObjectiveOffset(0.0 if quadratic_cost else sign * float(cost.constant[0]))
    sets: list[_Convex] = []
    if quadratic_cost:
        # Minimise e with e >= objective.
        e = len(variables)
        highs.addVar(-highspy.kHighsInf, highspy.kHighsInf)
        highs.changeColCost(e, 1.0)
        one = _convex(cost, 0, sign, 0.0, "the objective", *bounds, epigraph=e)
        sets.append(one)
        # A first tangent bounds the new column.
        v = np.append(np.clip(0.0, lower, upper), 0.0)[one.column]
        gradient = 2 * one.matrix @ v + one.linear
        highs.addRow(
            -highspy.kHighsInf,
            float(v @ one.matrix @ v - one.constant),
            len(v),
            one.column.astype(np.int32),
            gradient,
        )
    rows = compiled.limits
    for k, name in enumerate(compiled.limit_name):
        if rows.product_start[k] == rows.product_start[k + 1]:
            span = slice(rows.start[k], rows.start[k + 1])
            shift = rows.constant[k]
            highs.addRow(
                float(compiled.lower[k] - shift),
                float(compiled.upper[k] - shift),
                int(span.stop - span.start),
                rows.column[span].astype(np.int32),
                rows.value[span],
            )
            continue
        for side, limit in ((1.0, compiled.upper[k]), (-1.0, -compiled.lower[k])):
            if np.isfinite(limit):
                sets.append(_convex(rows, k, side, float(limit), name, *bounds))
    return sets


def _convex(
    rows: QuadraticRows,
    k: int,
    side: float,
    upper: float,
    name: str,
    lower: FloatArray,
    upper_bound: FloatArray,
    epigraph: int | None = None,
) -> _Convex:
    """Return side * g_k(x) <= upper as a convex set; raises ValueError where it is not convex."""
    span, products = (
        slice(rows.start[k], rows.start[k + 1]),
        slice(rows.product_start[k], rows.product_start[k + 1]),
    )
    column = np.unique(
        np.concatenate([rows.column[span], rows.product_i[products], rows.product_j[products]])
    )
    if epigraph is not None:
        column = np.append(column, epigraph)
    place = {int(c): p for p, c in enumerate(column)}
    matrix, linear = np.zeros((len(column), len(column))), np.zeros(len(column))
    for c, v in zip(rows.column[span], rows.value[span], strict=True):
        linear[place[int(c)]] += side * v
    i_j_v = zip(
        rows.product_i[products],
        rows.product_j[products],
        rows.product_value[products],
        strict=True,
    )
    for i, j, v in i_j_v:
        matrix[place[int(i)], place[int(j)]] += side * v / 2
        matrix[place[int(j)], place[int(i)]] += side * v / 2
    constant = side * float(rows.constant[k]) - (upper if epigraph is None else 0.0)
    if epigraph is not None:
        linear[place[epigraph]] -= 1.0
    values, vectors = np.linalg.eigh(matrix)
    scale = max(abs(values).max(), 1e-12)
    negative = np.flatnonzero(values < -1e-9 * scale)
    if len(negative) == 0:
        return _Convex(column, matrix, linear, constant, None)
    if len(negative) == 1 and not linear.any() and constant == 0.0:
        axis = vectors[:, negative[0]] * math.sqrt(-values[negative[0]])
        axis[abs(axis) < 1e-9 * abs(axis).max()] = 0.0
        used = axis != 0
        # The bounds of the variables leave one half of the double cone.
        for half in (axis, -axis):
            ends = half[used] * np.where(
                half[used] > 0, lower[column[used]], upper_bound[column[used]]
            )
            if ends.sum() >= 0:
                return _Convex(column, matrix, linear, constant, half)
    raise ValueError(
        f"{name} is not a convex set, so outer approximation cannot be used; use solver='scip'"
    )


def _cut_until_inside(
    highs: Any, sets: list[_Convex], n_column: int, deadline: float, tolerance: float
) -> tuple[FloatArray | None, float]:
    """Solve the linear model, adding tangents until every set holds; return point and value."""
    while True:
        x, value = _solve(highs, deadline, n_column, tolerance)
        if x is None:
            return None, math.inf
        cuts = [(one.column, cut) for one in sets if (cut := one.cut(x)) is not None]
        if not cuts:
            return x, value
        if perf_counter() > deadline:
            return None, math.inf
        for column, (coefficients, upper) in cuts:
            highs.addRow(
                -highspy.kHighsInf, upper, len(column), column.astype(np.int32), coefficients
            )


def _solve(
    highs: Any, deadline: float, n_column: int, tolerance: float
) -> tuple[FloatArray | None, float]:
    # A mixed-integer solve of HiGHS 1.16 leaves its own, coarser tolerance behind.
    highs.setOptionValue("primal_feasibility_tolerance", tolerance)
    highs.setOptionValue("time_limit", max(0.01, highs.getRunTime() + deadline - perf_counter()))
    highs.run()
    if highs.getModelStatus() != highspy.HighsModelStatus.kOptimal:
        return None, math.inf
    return np.array(highs.getSolution().col_value), float(highs.getInfo().objective_function_value)


def _set_integer(highs: Any, integer: IntArray, on: bool) -> None:
    kind = highspy.HighsVarType.kInteger if on else highspy.HighsVarType.kContinuous
    for k in integer.tolist():
        highs.changeColIntegrality(k, kind)


def _hold(highs: Any, integer: IntArray, whole: FloatArray) -> None:
    for k, value in zip(integer.tolist(), whole.tolist(), strict=True):
        highs.changeColBounds(k, value, value)


def _release(highs: Any, integer: IntArray, variables: list[Any]) -> None:
    for k in integer.tolist():
        highs.changeColBounds(
            k,
            -highspy.kHighsInf if variables[k].lb is None else float(variables[k].lb),
            highspy.kHighsInf if variables[k].ub is None else float(variables[k].ub),
        )
