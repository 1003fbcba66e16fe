"""A Pyomo model whose mutable parameters become columns too.

Its rows are linear in variables and parameters alike.

`quadratic.py` evaluates a model at millions of points; this file is for models that are solved
millions of times, each time with other data. Over the unfixed variables x and the mutable
parameters theta, every active constraint is a row

    (1)  lower <= A x + D theta + c <= upper

and the objective is a quadratic, x' H x + x' K theta + (linear terms in x) + (terms without x). A
product of a variable and a parameter in a constraint has no row like (1), and is refused.

Equalities that determine variables y are solved for them once. What remains depends on the other
variables and on theta only:

    (2)  y = Y x + Z theta + y_0
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyomo.environ as pyo
from pyomo.core.expr.visitor import ExpressionReplacementVisitor
from pyomo.repn import generate_standard_repn

from feederguard.models.arrays import FloatArray, IntArray
from feederguard.models.compiled.quadratic import CompileError


@dataclass(frozen=True, eq=False)
class ParametricModel:
    """The rows (1) of a model and the quadratic part of its objective, dense."""

    name: str
    # variable component -> its columns in x, in index order; -1 where fixed
    columns: Mapping[str, IntArray]
    # mutable parameter component -> its columns in theta, in index order
    parameters: Mapping[str, IntArray]
    rows: Mapping[str, IntArray]  # constraint component -> its rows, in index order
    a: FloatArray  # (n_row, n_x)
    d: FloatArray  # (n_row, n_theta)
    c: FloatArray  # (n_row,)
    lower: FloatArray  # (n_row,) -inf where there is none
    upper: FloatArray  # (n_row,) inf where there is none
    hessian: FloatArray  # (n_x, n_x) H of the objective x' H x, symmetric
    cross: FloatArray  # (n_x, n_theta) K
    linear: FloatArray  # (n_x,) objective terms in x alone


@dataclass(frozen=True, eq=False)
class Eliminated:
    """(2): the variables that equalities determine, as functions of the others."""

    by_x: FloatArray  # (n_y, n_x) zero in the columns of y
    by_theta: FloatArray  # (n_y, n_theta)
    constant: FloatArray  # (n_y,)


def compile_parametric(model: pyo.ConcreteModel) -> ParametricModel:
    """Return constraints and objective over the unfixed variables and mutable parameters.

    Raises `CompileError` when a constraint is not linear in both together, the objective not
    quadratic, or there is not exactly one active objective.
    """
    variables, columns = _numbered(model, pyo.Var)
    data, parameters = _numbered(model, pyo.Param)
    stand_ins = pyo.VarList()
    stand_ins.construct()
    substitute = {id(parameter): stand_ins.add() for parameter in data}
    place = {id(v): k for k, v in enumerate(variables)}
    shadow = {id(v): k for k, v in enumerate(substitute.values())}
    replacer = ExpressionReplacementVisitor(substitute=substitute)
    rows: dict[str, IntArray] = {}
    found: list[tuple[Any, float, float]] = []
    for component in model.component_objects(pyo.Constraint, active=True):
        first = len(found)
        for constraint in component.values():
            if constraint.active:
                found += _sides(constraint, replacer)
        rows[component.name] = np.arange(first, len(found))
    a, d = np.zeros((len(found), len(variables))), np.zeros((len(found), len(data)))
    for k, (repn, _, _) in enumerate(found):
        for variable, value in zip(repn.linear_vars, repn.linear_coefs, strict=True):
            target, column = (
                (a, place[id(variable)]) if id(variable) in place else (d, shadow[id(variable)])
            )
            target[k, column] += value
    hessian, cross, linear = _objective(model, replacer, place, shadow)
    return ParametricModel(
        model.name,
        columns,
        parameters,
        rows,
        a,
        d,
        np.array([float(repn.constant) for repn, _, _ in found]),
        np.array([low for _, low, _ in found]),
        np.array([high for _, _, high in found]),
        hessian,
        cross,
        linear,
    )


def eliminate(
    compiled: ParametricModel, constraints: Sequence[str], variables: Sequence[str]
) -> Eliminated:
    """Return (2): the unfixed `variables` that the equality constraints determine.

    The result's rows are in the order of `variables`, fixed ones left out. Raises `CompileError`
    when the constraints are not equalities or do not determine them.
    """
    row = np.concatenate([compiled.rows[name] for name in constraints])
    y = np.concatenate([compiled.columns[name] for name in variables])
    y = y[y >= 0]
    target = compiled.lower[row]
    if not (target == compiled.upper[row]).all():
        raise CompileError(
            f"{compiled.name}: {', '.join(constraints)} are not all equalities; name those that are"
        )
    if len(row) != len(y) or np.linalg.matrix_rank(compiled.a[np.ix_(row, y)]) < len(y):
        raise CompileError(
            f"{compiled.name}: {len(row)} equalities do not determine the {len(y)} variables of "
            f"{', '.join(variables)}"
        )
    others = compiled.a[row].copy()
    others[:, y] = 0.0
    right = np.hstack([-others, -compiled.d[row], (target - compiled.c[row])[:, None]])
    answer = np.linalg.solve(compiled.a[np.ix_(row, y)], right)
    n_x = compiled.a.shape[1]
    return Eliminated(answer[:, :n_x], answer[:, n_x:-1], answer[:, -1])


def _numbered(model: pyo.ConcreteModel, kind: Any) -> tuple[list[Any], dict[str, IntArray]]:
    """Return the unfixed variables, or the mutable parameters, and each component's columns."""
    items: list[Any] = []
    columns: dict[str, IntArray] = {}
    for component in model.component_objects(kind):
        if kind is pyo.Param and not component.mutable:
            continue
        place = []
        for item in component.values():
            free = kind is pyo.Param or not item.fixed
            place.append(len(items) if free else -1)
            if free:
                items.append(item)
        columns[component.name] = np.array(place, dtype=np.int64)
    return items, columns


def _sides(constraint: Any, replacer: Any) -> list[tuple[Any, float, float]]:
    """Return the constraint as rows (repn, lower, upper).

    It is one row, or one per side where a limit is a parameter.
    """
    lower, body, upper = constraint.to_bounded_expression()
    if constraint.equality:
        return [(_linear(replacer.walk_expression(body - upper), constraint.name), 0.0, 0.0)]
    sides = []
    if lower is not None:
        sides.append(
            (_linear(replacer.walk_expression(body - lower), constraint.name), 0.0, np.inf)
        )
    if upper is not None:
        sides.append(
            (_linear(replacer.walk_expression(body - upper), constraint.name), -np.inf, 0.0)
        )
    return sides


def _linear(expression: Any, name: str) -> Any:
    repn = generate_standard_repn(expression, quadratic=True, compute_values=True)
    if repn.nonlinear_expr is not None or repn.quadratic_vars:
        raise CompileError(
            f"{name} is not linear in variables and parameters together; multiply neither by the "
            "other in a constraint"
        )
    return repn


def _objective(
    model: Any, replacer: Any, place: dict[int, int], shadow: dict[int, int]
) -> tuple[FloatArray, FloatArray, FloatArray]:
    objectives = list(model.component_data_objects(pyo.Objective, active=True))
    if len(objectives) != 1:
        raise CompileError(
            f"{model.name}: {len(objectives)} active objectives; deactivate all but one"
        )
    expression = objectives[0].expr if objectives[0].is_minimizing() else -objectives[0].expr
    repn = generate_standard_repn(
        replacer.walk_expression(expression), quadratic=True, compute_values=True
    )
    if repn.nonlinear_expr is not None:
        raise CompileError(f"{model.name}: the objective is not quadratic; write it as a quadratic")
    n_x, n_theta = len(place), len(shadow)
    hessian, cross, linear = np.zeros((n_x, n_x)), np.zeros((n_x, n_theta)), np.zeros(n_x)
    for variable, value in zip(repn.linear_vars, repn.linear_coefs, strict=True):
        if id(variable) in place:
            linear[place[id(variable)]] += value
    for (u, v), value in zip(repn.quadratic_vars, repn.quadratic_coefs, strict=True):
        i, j = place.get(id(u)), place.get(id(v))
        if i is not None and j is not None:
            hessian[i, j] += 0.5 * value
            hessian[j, i] += 0.5 * value
        elif i is not None:
            cross[i, shadow[id(v)]] += value
        elif j is not None:
            cross[j, shadow[id(u)]] += value
    return hessian, cross, linear
