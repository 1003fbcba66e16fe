"""A linear or quadratic Pyomo model as arrays, evaluated at millions of points.

It gives the objective and the constraint violations.

A Pyomo model states a cost and its limits once. `compile_model` reads the coefficients out of it,
so that genetic algorithms, rewards and the judge evaluate that same statement without writing it
again:

    objective(x)  = c0 + c' x + sum of Q_ij x_i x_j
    violation_k   = max(lower_k - g_k(x), g_k(x) - upper_k, 0),   g_k linear or quadratic

A point is a row of columns, one column per scalar variable; `point` fills rows from arrays named
like the model's variables, in the order of their index sets. Variables that hold data (fixed in the
model that is solved) become columns when named in `inputs`, so one compiled model serves every
scenario.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Any

import numpy as np
import pyomo.environ as pyo
from numba import njit, prange
from numpy.typing import ArrayLike
from pyomo.repn import generate_standard_repn

from feederguard.models.arrays import FloatArray, IntArray, plain, threads_for


class CompileError(ValueError):
    """What cannot be evaluated as a quadratic; the message says which and why."""


@dataclass(frozen=True, eq=False)
class QuadraticRows:
    """m quadratic functions of n columns: constant, sparse linear part, sparse products."""

    constant: FloatArray  # (m,)
    start: IntArray  # (m + 1,) row k's linear terms are start[k]:start[k + 1]
    column: IntArray
    value: FloatArray
    product_start: IntArray  # (m + 1,)
    product_i: IntArray
    product_j: IntArray
    product_value: FloatArray


@dataclass(frozen=True, eq=False)
class CompiledModel:
    """Objective and limits of a Pyomo model over columns; see the module for the formulas."""

    name: str
    columns: Mapping[str, IntArray]  # variable component -> its columns, in index order
    n_column: int
    cost: QuadraticRows  # one row
    limits: QuadraticRows  # one row per scalar constraint
    lower: FloatArray  # (m,) -inf where there is none
    upper: FloatArray  # (m,) inf where there is none
    limit_name: tuple[str, ...]  # (m,) Pyomo's name of each scalar constraint
    defined: tuple[str, ...]  # scalar variables that follow from others
    defined_column: IntArray  # their columns
    definitions: QuadraticRows  # their values as functions of the other columns

    def point(self, **values: ArrayLike) -> FloatArray:
        """Return rows (B, n_column) from one array per variable component.

        An array is (B, size), (size,) or a scalar.

        Raises `CompileError` when a component is missing, unknown or of the wrong width.
        """
        missing = sorted(set(self.columns) - set(values) - set(self.defined))
        if missing:
            raise CompileError(f"{self.name}: point() needs a value for {', '.join(missing)}")
        arrays = {name: np.asarray(value, dtype=float) for name, value in values.items()}
        sizes = {name: a.shape[0] for name, a in arrays.items() if a.ndim == 2 and a.shape[0] != 1}
        if len(set(sizes.values())) > 1:
            listed = ", ".join(f"{name} has {size} rows" for name, size in sizes.items())
            raise CompileError(f"{self.name}: {listed}; give them the same number")
        n_row = max((a.shape[0] for a in arrays.values() if a.ndim == 2), default=1)
        rows = np.zeros((n_row, self.n_column))
        for name, array in arrays.items():
            if name not in self.columns:
                raise CompileError(
                    f"{self.name}: no variable {name!r}; there are {', '.join(self.columns)}"
                )
            width = len(self.columns[name])
            if array.ndim and array.shape[-1] not in (width, 1):
                raise CompileError(
                    f"{self.name}: {name} has shape {array.shape}; expected ({width},) or (B, "
                    f"{width})"
                )
            rows[:, self.columns[name]] = array
        return rows

    def column_of(self, points: FloatArray, name: str) -> FloatArray:
        """Return the columns of one variable component, (B, size), definitions filled in."""
        return np.asarray(self._filled(points)[:, self.columns[name]])

    def objective(self, points: FloatArray) -> FloatArray:
        """Return the objective of each row of `points` (B, n_column), (B,)."""
        return self._run(_evaluate, self._filled(points), self.cost)[:, 0]

    def violations(self, points: FloatArray) -> FloatArray:
        """Return by how much each row breaks each limit, (B, m), zero where it holds."""
        values = self._run(_evaluate, self._filled(points), self.limits)
        with threads_for(1e-3 * values.size):
            return np.asarray(_excess(values, self.lower, self.upper))

    def worst_violation(self, points: FloatArray) -> FloatArray:
        """Return the largest violation of each row, (B,).

        It is 0 where all limits hold, and NaN where the row has a NaN.
        """
        worst = self.violations(points)
        return worst.max(axis=1) if worst.shape[1] else np.zeros(len(points))

    def _filled(self, points: FloatArray) -> FloatArray:
        checked = self._checked(points)
        if not len(self.defined_column):
            return checked
        return self._run(_define, checked.copy(), self.definitions, self.defined_column)

    def _run(self, kernel: Any, points: FloatArray, rows: QuadraticRows, *more: Any) -> FloatArray:
        # About a nanosecond a term and point.
        with threads_for(1e-3 * len(points) * (len(rows.value) + len(rows.product_value))):
            return np.asarray(kernel(points, *_flat(rows), *more))

    def _checked(self, points: FloatArray) -> FloatArray:
        points = plain(points, np.float64)
        if points.ndim != 2 or points.shape[1] != self.n_column:
            raise CompileError(
                f"{self.name}: points have shape {points.shape}; expected (B, {self.n_column})"
            )
        return points


def compile_model(
    model: pyo.ConcreteModel,
    *,
    objective: pyo.Expression | pyo.Objective | float | None = None,
    constraints: Sequence[str] | None = None,
    inputs: Sequence[str] = (),
    defined: Mapping[str, str] | None = None,
) -> CompiledModel:
    """Return the model's objective and limits as arrays.

    objective: what to evaluate; default the model's active objective (its sign kept). constraints:
    names of constraint components to keep; default every active one. inputs: variable components
    that are columns although they are fixed; any other fixed variable is a constant. defined:
    scalar variables that a linear equality constraint determines (name of the variable -> name of
    that constraint); `point` does not ask for them. Only variables that occur get columns.

    Raises `CompileError` naming the expression when one is not linear or quadratic, or when a name
    is unknown.
    """
    target = objective if objective is not None else _only_objective(model)
    rows = list(_scalar_constraints(model, constraints))
    unfixed = [
        data for name in inputs for data in _component(model, name, pyo.Var).values() if data.fixed
    ]
    for data in unfixed:
        data.unfix()
    try:
        cost_repn = _repn(target.expr if hasattr(target, "expr") else target, "the objective")
        repns = [_repn(constraint.body, constraint.name) for constraint in rows]
        rules = {name: _definition(model, name, rule) for name, rule in (defined or {}).items()}
    finally:
        for data in unfixed:
            data.fix()
    rules = _in_order(model, rules)
    columns, place = _columns(model, [cost_repn, *repns, *rules.values()], (*inputs, *rules))
    return CompiledModel(
        name=model.name,
        columns=columns,
        n_column=len(place),
        cost=_rows([cost_repn], place),
        limits=_rows(repns, place),
        lower=np.array([-np.inf if c.lb is None else c.lb for c in rows], dtype=float),
        upper=np.array([np.inf if c.ub is None else c.ub for c in rows], dtype=float),
        limit_name=tuple(c.name for c in rows),
        defined=tuple(rules),
        defined_column=np.array([columns[name][0] for name in rules], dtype=np.int64),
        definitions=_rows(list(rules.values()), place),
    )


def _only_objective(model: pyo.ConcreteModel) -> Any:
    objectives = list(model.component_data_objects(pyo.Objective, active=True))
    if len(objectives) != 1:
        raise CompileError(
            f"{model.name}: {len(objectives)} active objectives; pass the one to evaluate as "
            "objective="
        )
    return objectives[0]


def _component(model: pyo.ConcreteModel, name: str, kind: Any) -> Any:
    component = model.find_component(name)
    if component is None or component.ctype is not kind:
        known = ", ".join(c.name for c in model.component_objects(kind))
        raise CompileError(f"{model.name}: no {kind.__name__} {name!r}; there are {known}")
    return component


def _scalar_constraints(model: pyo.ConcreteModel, names: Sequence[str] | None) -> Iterable[Any]:
    if names is None:
        yield from model.component_data_objects(pyo.Constraint, active=True)
        return
    for name in names:
        yield from _component(model, name, pyo.Constraint).values()


def _repn(expression: Any, name: str) -> Any:
    repn = generate_standard_repn(expression, quadratic=True, compute_values=True)
    if repn.nonlinear_expr is not None:
        raise CompileError(
            f"{name} is not linear or quadratic; compile the quadratic part of the model only"
        )
    return repn


def _definition(model: pyo.ConcreteModel, name: str, rule: str) -> Any:
    """Return the value of a scalar variable as a linear function, from its equality constraint."""
    variable, constraint = _component(model, name, pyo.Var), _component(model, rule, pyo.Constraint)
    repn = _repn(constraint.body, rule)
    own = [k for k, v in enumerate(repn.linear_vars) if v is variable]
    if not constraint.equality or repn.quadratic_vars or len(own) != 1:
        raise CompileError(f"{model.name}: {rule} is not a linear equality that determines {name}")
    coefficient = repn.linear_coefs[own[0]]
    rest = [
        (v, c)
        for v, c in zip(repn.linear_vars, repn.linear_coefs, strict=True)
        if v is not variable
    ]
    repn.linear_vars = tuple(v for v, _ in rest)
    repn.linear_coefs = tuple(-c / coefficient for _, c in rest)
    repn.constant = (pyo.value(constraint.upper) - repn.constant) / coefficient
    return repn


def _in_order(model: pyo.ConcreteModel, rules: Mapping[str, Any]) -> dict[str, Any]:
    """Return the definitions in an order where each comes after those it uses.

    Raises `CompileError` for a circle.
    """
    variables = {name: model.find_component(name) for name in rules}
    uses = {
        name: {
            other for other, v in variables.items() if any(v is used for used in rule.linear_vars)
        }
        for name, rule in rules.items()
    }
    try:
        return {name: rules[name] for name in TopologicalSorter(uses).static_order()}
    except CycleError as error:
        raise CompileError(
            f"{model.name}: {', '.join(map(str, error.args[1]))} define each other"
        ) from None


def _columns(
    model: Any, repns: list[Any], inputs: Sequence[str]
) -> tuple[dict[str, IntArray], dict[int, int]]:
    """Number the scalar variables that occur, component by component in model order."""
    occurring: set[int] = set()
    for repn in repns:
        occurring.update(id(v) for v in repn.linear_vars)
        occurring.update(id(v) for pair in repn.quadratic_vars for v in pair)
    columns: dict[str, IntArray] = {}
    place: dict[int, int] = {}
    for component in model.component_objects(pyo.Var):
        data = list(component.values())
        # A component is a block of columns as a whole, so that callers fill it with the array they
        # have.
        if component.name in inputs or any(id(v) in occurring for v in data):
            first = len(place)
            columns[component.name] = np.arange(first, first + len(data))
            place.update((id(v), first + k) for k, v in enumerate(data))
    return columns, place


def _rows(repns: list[Any], place: dict[int, int]) -> QuadraticRows:
    linear = [
        [(place[id(v)], float(c)) for v, c in zip(r.linear_vars, r.linear_coefs, strict=True)]
        for r in repns
    ]
    products = [
        [
            (place[id(a)], place[id(b)], float(c))
            for (a, b), c in zip(r.quadratic_vars, r.quadratic_coefs, strict=True)
        ]
        for r in repns
    ]
    return QuadraticRows(
        constant=np.array([float(r.constant) for r in repns]),
        start=np.cumsum([0, *map(len, linear)]).astype(np.int64),
        column=np.array([c for row in linear for c, _ in row], dtype=np.int64),
        value=np.array([v for row in linear for _, v in row], dtype=float),
        product_start=np.cumsum([0, *map(len, products)]).astype(np.int64),
        product_i=np.array([i for row in products for i, _, _ in row], dtype=np.int64),
        product_j=np.array([j for row in products for _, j, _ in row], dtype=np.int64),
        product_value=np.array([v for row in products for _, _, v in row], dtype=float),
    )


def _flat(rows: QuadraticRows) -> tuple[Any, ...]:
    """Return the constants, the linear terms and the products, as the kernels take them."""
    linear = (rows.start, rows.column, rows.value)
    return (
        rows.constant,
        linear,
        (
            rows.product_start,
            rows.product_i,
            rows.product_j,
            rows.product_value,
        ),
    )


@njit(cache=True, parallel=True)
def _evaluate(x, constant, linear, products):  # type: ignore[no-untyped-def]
    """Return the m functions of each row of x (B, n_column), (B, m)."""
    start, column, value = linear
    product_start, product_i, product_j, product_value = products
    n_item, n_row = x.shape[0], constant.shape[0]
    out = np.empty((n_item, n_row))
    for item in prange(n_item):
        for k in range(n_row):
            total = constant[k]
            for t in range(start[k], start[k + 1]):
                total += value[t] * x[item, column[t]]
            for t in range(product_start[k], product_start[k + 1]):
                total += product_value[t] * x[item, product_i[t]] * x[item, product_j[t]]
            out[item, k] = total
    return out


@njit(cache=True, parallel=True)
def _define(x, constant, linear, _products, target):  # type: ignore[no-untyped-def]
    """Write the m linear functions of each row of x into its columns `target` (m,)."""
    start, column, value = linear
    for item in prange(x.shape[0]):
        for k in range(constant.shape[0]):
            total = constant[k]
            for t in range(start[k], start[k + 1]):
                total += value[t] * x[item, column[t]]
            x[item, target[k]] = total
    return x


@njit(cache=True, parallel=True)
def _excess(values, lower, upper):  # type: ignore[no-untyped-def]
    n_item, n_row = values.shape
    for item in prange(n_item):
        for k in range(n_row):
            v = values[item, k]
            # A NaN stays a NaN: a point that could not be computed is never within its limits.
            if v < lower[k]:
                values[item, k] = lower[k] - v
            elif v > upper[k]:
                values[item, k] = v - upper[k]
            elif v == v:
                values[item, k] = 0.0
    return values
