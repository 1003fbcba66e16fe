"""A Pyomo model as sparse linear algebra over shared nonlinear terms, for nonlinear solvers.

    objective  f(x)   = c_0 + a' x + sum over terms k of w_k T_k(x)
    row i      g_i(x) = sum over j of A_ij x_j + sum over terms k of W_ik T_k(x),
               lower_i <= g_i(x) <= upper_i

A term T_k is a *shape* applied to a few variables and numbers: x0 * x1, or x0 * x1 * cos(x2 - x3 -
p0). A network model has few shapes, however many buses, periods and scenarios it has. So each shape
is differentiated once and evaluated for all its terms. A named `Expression` is read once, and equal
terms are one term, wherever they occur. Fixed variables and parameters are numbers. Every shape is
exact: nothing is expanded, approximated or dropped.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyomo.environ as pyo
from scipy import sparse  # type: ignore[import-untyped]

from feederguard.models.arrays import FloatArray, IntArray
from feederguard.models.compiled.expressions import Row, Shape, TermReader


@dataclass(frozen=True, eq=False)
class TermGroup:
    """All terms of one shape."""

    shape: Shape
    columns: IntArray  # (n_term, n_slot) the variables each term is applied to
    numbers: FloatArray  # (n_term, n_number)


@dataclass(frozen=True, eq=False)
class NlpTerms:
    """The model in the notation of this module; terms are numbered through the groups in order."""

    name: str
    variables: tuple[Any, ...]  # Pyomo's variables, one a column
    constraints: tuple[Any, ...]  # Pyomo's constraints, one a row
    maximise: bool
    f_constant: float
    f_linear: FloatArray  # (n_x,)
    f_weights: FloatArray  # (n_term,)
    linear: Any  # A, sparse (n_row, n_x)
    weights: Any  # W, sparse (n_row, n_term)
    lower: FloatArray  # (n_row,)
    upper: FloatArray  # (n_row,)
    x_lower: FloatArray  # (n_x,)
    x_upper: FloatArray  # (n_x,)
    # (n_x,) values of the variables; where there is none, the point of the bounds nearest to zero
    x_start: FloatArray
    groups: tuple[TermGroup, ...]

    @property
    def impossible(self) -> list[str]:
        """Names of rows without any free variable whose bounds exclude the number that is left."""
        free = (self.linear != 0).sum(axis=1) + (self.weights != 0).sum(axis=1)
        bad = (np.asarray(free).ravel() == 0) & ((self.lower > 1e-8) | (self.upper < -1e-8))
        return [self.constraints[i].name for i in np.flatnonzero(bad)]


def read_terms(model: pyo.ConcreteModel) -> NlpTerms:
    """Return the active objective and constraints of the model as terms.

    Raises ValueError unless exactly one objective is active, and `UnreadableExpressionError` for
    external functions, conditions and other expressions that have no shape.
    """
    objectives = list(model.component_data_objects(pyo.Objective, active=True))
    if len(objectives) != 1:
        raise ValueError(
            f"{model.name}: {len(objectives)} active objectives; an NLP needs exactly one"
        )
    reader = TermReader()
    goal = reader.row(objectives[0], objectives[0].expr)
    rows, kept, bounds = [], [], []
    for constraint in model.component_data_objects(pyo.Constraint, active=True):
        lower, body, upper = constraint.to_bounded_expression(evaluate_bounds=True)
        low, high = -math.inf if lower is None else lower, math.inf if upper is None else upper
        if low == -math.inf and high == math.inf:
            continue
        row = reader.row(constraint, body)
        # A row of numbers that holds says nothing; one that does not hold is kept, to be named as
        # impossible.
        if not (row.linear or row.terms) and low - 1e-8 <= row.constant <= high + 1e-8:
            continue
        rows.append(row)
        kept.append(constraint)
        bounds.append((low - row.constant, high - row.constant))
    return _assemble(model.name, reader, objectives[0], goal, rows, kept, bounds)


def _assemble(
    name: str,
    reader: TermReader,
    objective: Any,
    goal: Row,
    rows: list[Row],
    kept: list[Any],
    bounds: list[Any],
) -> NlpTerms:
    n_x, n_term = len(reader.variables), reader.n_term
    # terms were counted as they were met
    met = [term for members in reader.members.values() for term, *_ in members]
    groups = tuple(
        TermGroup(
            shape,
            np.array([columns for _, columns, _ in members], dtype=np.int64).reshape(
                len(members), -1
            ),
            np.array([numbers for *_, numbers in members], dtype=np.float64).reshape(
                len(members), -1
            ),
        )
        for shape, members in reader.members.items()
    )
    limits = np.array(bounds, dtype=np.float64).reshape(-1, 2)
    box = np.array([_bounds(v) for v in reader.variables], dtype=np.float64).reshape(-1, 2)
    start = np.array(
        [
            min(max(0.0, low), high) if v.value is None else v.value
            for v, (low, high) in zip(reader.variables, box.tolist(), strict=True)
        ],
        dtype=np.float64,
    )
    return NlpTerms(
        name=name,
        variables=tuple(reader.variables),
        constraints=tuple(kept),
        maximise=objective.sense == pyo.maximize,
        f_constant=goal.constant,
        f_linear=_matrix(iter([goal.linear]), 1, n_x).toarray()[0],
        f_weights=_matrix(iter([goal.terms]), 1, n_term)[:, met].toarray()[0],
        linear=_matrix((row.linear for row in rows), len(rows), n_x),
        weights=_matrix((row.terms for row in rows), len(rows), n_term)[:, met],
        lower=limits[:, 0],
        upper=limits[:, 1],
        x_lower=box[:, 0],
        x_upper=box[:, 1],
        x_start=start,
        groups=groups,
    )


def _bounds(variable: Any) -> tuple[float, float]:
    low, high = variable.bounds
    return -math.inf if low is None else low, math.inf if high is None else high


def _matrix(rows: Iterator[dict[int, float]], n_row: int, n_column: int) -> Any:
    """Return the rows as a sparse matrix."""
    start, columns, values = [0], list[int](), list[float]()
    for row in rows:
        columns.extend(row.keys())
        values.extend(row.values())
        start.append(len(columns))
    matrix = sparse.csr_matrix((values, columns, start), shape=(n_row, n_column), dtype=np.float64)
    matrix.eliminate_zeros()
    return matrix
