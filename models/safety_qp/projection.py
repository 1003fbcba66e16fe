"""Batched exact projection onto two-sided soft rows within a box, and its derivative.

For each item: n unknowns a, m rows G a (shared or its own), and a price 2 R of leaving a row's
interval by one unit,

    (1)  min  |a - a^|^2 + 2 R sum of max(low_i - (G a)_i, 0) + max((G a)_i - high_i, 0),
         lo <= a <= hi

The optimum is unique. One signed multiplier mu_i in [-R, R] a row and nu_j a bound mark it:

    (2)  a = a^ + G' mu + nu
    (3)  mu_i > 0 only where (G a)_i <= low_i, mu_i < R only where (G a)_i >= low_i;
         likewise -R <= mu_i < 0 at high_i
    (4)  nu_j > 0 only at lo_j, nu_j < 0 only at hi_j

Where low_i > high_i, the two prices cancel in between, and (1) is that of the interval [high_i,
low_i] plus a constant.

Method: the dual active-set method of Goldfarb & Idnani, Mathematical Programming 27, 1983, on
(2)-(4) (`active_set.py`). It starts at the clipped proposal, whose active bounds are dual feasible,
so most items end there. Bounds are sets of fixed unknowns, not rows. The tight rows, restricted to
the free unknowns, are kept as an orthonormal basis (`tight_rows.py`). A row that depends on the
tight ones takes a step in the multipliers alone. A multiplier that reaches R stays there, and its
row gives way. Every step raises the dual objective, so no set of active constraints comes twice. At
the end the answer is recomputed from its active set, and (2)-(4) are verified (`optimality.py`). An
item that fails is NaN and says so.

Derivative: in the free unknowns F with tight rows J, da/da^ = I - G_JF' (G_JF G_JF')^-1 G_JF, zero
elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from feederguard.models.arrays import BoolArray, FloatArray, IntArray, plain, threads_for
from feederguard.models.safety_qp.active_set import (
    Answers,
    Problems,
    project_items,
    pull_back_items,
)
from feederguard.models.safety_qp.optimality import CLIPPED, FAILED, SLACK, TIGHT

ByteArray = NDArray[np.int8]

__all__ = [
    "CLIPPED",
    "FAILED",
    "SLACK",
    "STATUSES",
    "TIGHT",
    "Projection",
    "project",
    "pull_back",
]

STATUSES = ("clipped", "tight", "slack", "failed")


@dataclass(frozen=True, eq=False)
class Projection:
    """The answers of (1); failed items hold NaN."""

    a: FloatArray  # (B, n)
    mu: FloatArray  # (B, m) multipliers of (2), above zero where low_i pushes
    status: IntArray  # (B,) position in STATUSES
    side: ByteArray  # (B, n) -1 at lo, 1 at hi, 0 free
    # (B, m) 0 inactive, 1 tight at low, -1 tight at high, 2 and -2 giving way there
    kind: ByteArray

    @property
    def failed(self) -> BoolArray:
        """Items without an answer, (B,)."""
        return np.asarray(self.status == FAILED)


def project(
    proposal: FloatArray,
    lo: FloatArray,
    hi: FloatArray,
    columns: FloatArray,
    low: FloatArray,
    high: FloatArray,
    cap: float,
) -> Projection:
    """Return (1) for each item.

    proposal, lo, hi: (B, n); columns: (n, m) or (B, n, m), the transpose of G; low, high: (B, m),
    infinite where a side does not count; cap: R. An item with a NaN, an infinite proposal, or lo
    above hi fails alone.

    Raises ValueError when a shape does not fit or cap is not positive.
    """
    stacked = columns[None] if columns.ndim == 2 else columns
    n_item, n = proposal.shape
    m = stacked.shape[-1]
    shapes = {
        "lo": (lo, (n_item, n)),
        "hi": (hi, (n_item, n)),
        "low": (low, (n_item, m)),
        "high": (high, (n_item, m)),
    }
    for name, (array, shape) in shapes.items():
        if array.shape != shape:
            raise ValueError(f"project: {name} has shape {array.shape}; expected {shape}")
    if stacked.shape[1] != n or len(stacked) not in (1, n_item):
        raise ValueError(
            f"project: columns has shape {columns.shape}; expected ({n}, m) or ({n_item}, {n}, m)"
        )
    if not (np.isfinite(cap) and cap > 0):
        raise ValueError(
            f"project: cap is {cap}; the price of giving way must be a positive number"
        )
    answer = Projection(
        np.empty((n_item, n)),
        np.zeros((n_item, m)),
        np.zeros(n_item, np.int64),
        np.zeros((n_item, n), np.int8),
        np.zeros((n_item, m), np.int8),
    )
    # An item that moves takes some microseconds, one that does not a tenth of one; a third moving,
    # that is about one.
    with threads_for(1.0 * n_item):
        n_chunk = max(1, min(8 * numba.get_num_threads(), n_item))
        start, box_low, box_high, rows, row_low, row_high = (
            plain(array, np.float64) for array in (proposal, lo, hi, stacked, low, high)
        )
        problems = Problems(start, box_low, box_high, rows, row_low, row_high, float(cap))
        project_items(problems, n_chunk, _arrays(answer))
    return answer


def pull_back(answer: Projection, columns: FloatArray, gradient: FloatArray) -> FloatArray:
    """Return the gradient by the proposals, (B, n), from that by the answers (B, n).

    columns as in `project`. Failed items give NaN. At a kink it is the derivative with the active
    set as it was found.
    """
    stacked = columns[None] if columns.ndim == 2 else columns
    out = np.empty_like(answer.a)
    with threads_for(0.2 * len(out)):
        n_chunk = max(1, min(8 * numba.get_num_threads(), len(out)))
        given = (plain(gradient, np.float64), plain(stacked, np.float64))
        pull_back_items(*given, _arrays(answer), n_chunk, out)
    return out


def _arrays(answer: Projection) -> Answers:
    return Answers(answer.a, answer.mu, answer.status, answer.side, answer.kind)
