"""Which loads to shed, as a mixed-integer linear program over cuts.

    (1)  min  sum of c_k x_k   s.t.  sum of A_ck x_k <= b_c for every cut c,   low_k <= x_k <= 1

x_k is 0 or 1 for a load, and any fraction in between for generation that is curtailed.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import highspy
import numpy as np
from scipy import sparse  # type: ignore[import-untyped]

from feederguard.models.arrays import BoolArray, FloatArray
from feederguard.models.solver.highs import silent_highs

REL_GAP = 1e-7  # between the answer and its bound
MOST_NODES = 150  # of branch and bound, so that no time limit decides


class Choice(NamedTuple):
    """An answer of (1)."""

    x: FloatArray  # (n,)
    bound: float  # of the cost, from below


def choose_least(
    cost: FloatArray, whole: BoolArray, low: FloatArray, cuts: FloatArray, right: FloatArray
) -> Choice | None:
    """Return the cheapest choice, or None where none was found.

    cost, low: (n,); whole: (n,) whether x_k is 0 or 1; cuts: (n_cut, n), right: (n_cut,).
    """
    matrix = sparse.csr_matrix(cuts)
    program = highspy.HighsLp()
    program.num_row_, program.num_col_ = cuts.shape
    program.col_cost_, program.col_lower_ = cost, low
    program.col_upper_ = np.ones(len(cost))
    program.row_lower_, program.row_upper_ = np.full(len(right), -np.inf), right
    program.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    program.a_matrix_.start_, program.a_matrix_.index_ = matrix.indptr, matrix.indices
    program.a_matrix_.value_ = matrix.data
    kinds = highspy.HighsVarType.kContinuous, highspy.HighsVarType.kInteger
    if whole.any():
        program.integrality_ = [kinds[int(integer)] for integer in whole]
    highs = _opened()
    highs.passModel(program)
    highs.run()
    found = highs.getSolution()
    if not found.value_valid or not highs.getInfo().primal_solution_status == 2:
        return None
    x = np.clip(np.array(found.col_value), low, 1.0)
    bound = _bound(highs) if whole.any() else float(cost @ x)
    return Choice(np.where(whole, np.round(x), x), bound)


def _opened() -> Any:
    highs = silent_highs()
    for option, value in (
        ("parallel", "off"),
        ("presolve", "off"),
        ("mip_allow_restart", False),
        ("mip_rel_gap", REL_GAP),
        ("mip_abs_gap", 1e-12),
        ("mip_max_nodes", MOST_NODES),
        ("mip_feasibility_tolerance", 1e-9),
        ("primal_feasibility_tolerance", 1e-9),
    ):
        highs.setOptionValue(option, value)
    return highs


def _bound(highs: Any) -> float:
    bound = highs.getInfo().mip_dual_bound
    return float(bound) if np.isfinite(bound) else 0.0
