"""The functions that Ipopt asks for, built from a model's terms without a file in between.

In the notation of `compiled/terms.py`, with dT and ddT the first and second derivatives of a term
by its own few variables:

    f, g           = c + a' x + w' T,  A x + W T
    gradient of f  = a + S_f dT
    Jacobian of g  : nonzeros = those of A + S_J dT
    Hessian        : nonzeros = S_H (mu ddT),   mu = lam_f w + W' lam_g
                     of the Lagrangian lam_f f + lam_g' g

CasADi differentiates each shape once and evaluates it for all its terms. The sparse matrices S
place the results; numpy finds them once. With many periods, differentiating one flat graph of the
whole model would cost more than the solve.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add, mul, truediv
from typing import Any

import casadi
import numpy as np
from scipy import sparse  # type: ignore[import-untyped]

from feederguard.models.arrays import FloatArray, IntArray
from feederguard.models.compiled.terms import NlpTerms, TermGroup


def build_nlp_functions(nlp: NlpTerms) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the problem (x, f, g) and its derivative functions, as `casadi.nlpsol` takes them.

    f is to be minimised: a maximised objective is negated.
    """
    sign = -1.0 if nlp.maximise else 1.0
    x, p = casadi.MX.sym("x", len(nlp.variables)), casadi.MX.sym("p", 0)
    lam_f, lam_g = casadi.MX.sym("lam_f"), casadi.MX.sym("lam_g", len(nlp.constraints))
    shapes = [_Shape.of(group) for group in nlp.groups]
    slots = [[x[column.tolist()] for column in group.columns.T] for group in nlp.groups]

    def evaluate(name: str, mu: Any) -> Any:
        parts = casadi.vertsplit(
            mu, np.cumsum([0, *(len(group.columns) for group in nlp.groups)]).tolist()
        )
        given = zip(shapes, slots, parts, strict=False)
        return _join(
            getattr(shape, name).call([*columns, part], True, False)[0]
            for shape, columns, part in given
        )

    one = casadi.MX.ones(len(nlp.f_weights))
    values, slopes = evaluate("value", one), evaluate("slope", one)
    # An objective of no terms, or rows of none, would be sparse.
    f = casadi.densify(
        sign
        * (nlp.f_constant + _times(nlp.f_linear[None], x) + _times(nlp.f_weights[None], values))
    )
    g = casadi.densify(_times(nlp.linear, x) + _times(nlp.weights, values))
    gradient = casadi.densify(sign * (casadi.DM(nlp.f_linear) + _times(_gradient_map(nlp), slopes)))
    pattern, constants, by_slope = _jacobian_map(nlp)
    jacobian = casadi.MX(pattern, casadi.DM(constants) + _times(by_slope, slopes))
    mu = _times(sign * nlp.f_weights[:, None], lam_f) + _times(nlp.weights.T, lam_g)
    triangle, by_curve = _hessian_map(nlp, shapes)
    hessian = casadi.MX(triangle, _times(by_curve, evaluate("curve", mu)))
    functions = {
        "grad_f": casadi.Function(
            "nlp_grad_f", [x, p], [f, gradient], ["x", "p"], ["f", "grad_f_x"]
        ),
        "jac_g": casadi.Function("nlp_jac_g", [x, p], [g, jacobian], ["x", "p"], ["g", "jac_g_x"]),
        "hess_lag": casadi.Function(
            "nlp_hess_l",
            [x, p, lam_f, lam_g],
            [hessian],
            ["x", "p", "lam_f", "lam_g"],
            ["triu_hess_gamma_x_x"],
        ),
    }
    return {"x": x, "f": f, "g": g}, functions


@dataclass(frozen=True, eq=False)
class _Shape:
    """A shape's functions of vectors, an entry per term, and its nonzero second derivatives."""

    value: Any  # slots..., multiplier -> values
    slope: Any  # -> first derivatives, slot after slot
    curve: Any  # -> multiplier times second derivatives, pair after pair
    first: IntArray  # (n_pair,) slot of each second derivative
    second: IntArray  # (n_pair,) its other slot

    @classmethod
    def of(cls, group: TermGroup) -> _Shape:
        n_term, n_slot = group.columns.shape
        first, second = _curved_pairs(group)
        x = [casadi.MX.sym(f"x{slot}", n_term) for slot in range(n_slot)]
        mu = casadi.MX.sym("mu", n_term)
        value = _write(iter(group.shape), x, iter([_vector(column) for column in group.numbers.T]))
        # Each entry depends on its own term alone, so the transposed Jacobian is diagonal.
        slopes = [casadi.jtimes(value, slot, casadi.DM.ones(n_term), True) for slot in x]
        curves = [
            casadi.jtimes(slopes[i], x[j], mu, True) for i, j in zip(first, second, strict=True)
        ]
        functions = [
            casadi.Function(name, [*x, mu], [_join(parts)])
            for name, parts in (
                ("value", [value]),
                ("slope", slopes),
                ("curve", casadi.cse(curves) if curves else []),
            )
        ]
        value_of, slope_of, curve_of = functions
        return cls(value_of, slope_of, curve_of, first, second)


def _curved_pairs(group: TermGroup) -> tuple[IntArray, IntArray]:
    """Return the pairs of slots with a second derivative, the first not after the second."""
    x = casadi.SX.sym("x", group.columns.shape[1])
    value = _write(
        iter(group.shape),
        casadi.vertsplit(x),
        iter(casadi.SX.sym("p", group.numbers.shape[1]).nonzeros()),
    )
    rows, columns = casadi.triu(casadi.hessian(value, x)[0]).sparsity().get_triplet()
    return np.array(rows, dtype=np.int64), np.array(columns, dtype=np.int64)


def _vector(numbers: FloatArray) -> Any:
    """Return the numbers as a CasADi constant: one number where all are equal."""
    return float(numbers[0]) if (numbers == numbers[0]).all() else casadi.MX(casadi.DM(numbers))


def _write(tokens: Iterator[Any], x: Sequence[Any], numbers: Iterator[Any]) -> Any:
    """Return the shape as a CasADi expression of its slots x; uses up tokens and numbers."""
    token = next(tokens)
    if isinstance(token, int):
        return x[token]
    if token == "p":
        return next(numbers)
    if token == "power":
        exponent = next(tokens)
        return _write(tokens, x, numbers) ** exponent
    if token == "sum":
        return reduce(add, [_write(tokens, x, numbers) for _ in range(next(tokens))])
    first = _write(tokens, x, numbers)
    if token in _TWO:
        return _TWO[token](first, _write(tokens, x, numbers))
    return -first if token == "-" else getattr(casadi, token)(first)


_TWO: dict[str, Callable[[Any, Any], Any]] = {"*": mul, "/": truediv, "^": pow}


def _slope_places(nlp: NlpTerms) -> tuple[IntArray, IntArray]:
    """Return the term and the column of each entry of dT: shape by shape, slot by slot."""
    count = [len(group.columns) for group in nlp.groups]
    begin = np.cumsum([0, *count])
    terms = [
        np.tile(np.arange(a, a + n), g.columns.shape[1])
        for a, n, g in zip(begin, count, nlp.groups, strict=False)
    ]
    return _flat(terms), _flat([group.columns.T.ravel() for group in nlp.groups])


def _gradient_map(nlp: NlpTerms) -> Any:
    """Return S_f, (n_x, n_slope)."""
    term, column = _slope_places(nlp)
    return sparse.csr_matrix(
        (nlp.f_weights[term], (column, np.arange(len(term)))), shape=(len(nlp.variables), len(term))
    )


def _jacobian_map(nlp: NlpTerms) -> tuple[Any, FloatArray, Any]:
    """Return the Jacobian's pattern, its nonzeros where dT = 0, and S_J.

    The nonzeros are (n_nonzero,), S_J is (n_nonzero, n_slope).
    """
    term, column = _slope_places(nlp)
    a = nlp.linear.tocoo()
    # Row i holds slope k with its weight of the slope's term: an entry per slot of each term.
    w = nlp.weights.tocsc()[:, term].tocoo()
    n_row = max(1, len(nlp.constraints))
    places = _flat([a.col, column[w.col]]) * n_row + _flat([a.row, w.row])
    found, nonzero = np.unique(places, return_inverse=True)
    pattern = _pattern(len(nlp.constraints), len(nlp.variables), found % n_row, found // n_row)
    constants = np.bincount(nonzero[: a.nnz], a.data, len(found)).astype(np.float64)
    by_slope = sparse.csr_matrix((w.data, (nonzero[a.nnz :], w.col)), shape=(len(found), len(term)))
    return pattern, constants, by_slope


def _hessian_map(nlp: NlpTerms, shapes: Sequence[_Shape]) -> tuple[Any, Any]:
    """Return the pattern of the Hessian's upper triangle and S_H, (n_nonzero, n_curve)."""
    n_x = max(1, len(nlp.variables))
    i = _flat(
        [
            group.columns.T[shape.first].ravel()
            for group, shape in zip(nlp.groups, shapes, strict=True)
        ]
    )
    j = _flat(
        [
            group.columns.T[shape.second].ravel()
            for group, shape in zip(nlp.groups, shapes, strict=True)
        ]
    )
    found, nonzero = np.unique(np.maximum(i, j) * n_x + np.minimum(i, j), return_inverse=True)
    pattern = _pattern(len(nlp.variables), len(nlp.variables), found % n_x, found // n_x)
    entries = (np.ones(len(i)), (nonzero, np.arange(len(i))))
    return pattern, sparse.csr_matrix(entries, shape=(len(found), len(i)))


def _flat(parts: Sequence[Any]) -> IntArray:
    """Return the integers of all parts in one array, empty without parts."""
    return np.concatenate([np.empty(0, np.int64), *parts]).astype(np.int64)


def _pattern(n_row: int, n_column: int, row: IntArray, column: IntArray) -> Any:
    """Return the sparsity of entries sorted by column, then row."""
    start = np.concatenate([[0], np.cumsum(np.bincount(column, minlength=n_column))])
    return casadi.Sparsity(n_row, n_column, start.tolist(), row.tolist())


def _times(matrix: Any, vector: Any) -> Any:
    """Return the constant sparse matrix times a CasADi vector."""
    by_column = sparse.csc_matrix(matrix)
    by_column.sort_indices()
    pattern = casadi.Sparsity(
        by_column.shape[0],
        by_column.shape[1],
        by_column.indptr.tolist(),
        by_column.indices.tolist(),
    )
    return casadi.mtimes(casadi.MX(casadi.DM(pattern, by_column.data)), vector)


def _join(rows: Any) -> Any:
    """Return the columns of all matrices below one another."""
    return casadi.vertcat(casadi.MX(0, 1), *(casadi.vec(row) for row in rows))
