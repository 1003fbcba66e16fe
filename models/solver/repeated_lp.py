"""A linear program solved again and again while its rows change, each time from the last basis.

    min  c' x    lower <= x <= upper,   row_lower <= A x <= row_upper

It uses HiGHS's own interface. Rows that change by some parts in a thousand cost the dual simplex a
few steps instead of a solve. The answer stays at its vertex while that is still the best one.
"""

from __future__ import annotations

from typing import Any

import highspy
import numpy as np
from scipy import sparse  # type: ignore[import-untyped]

from feederguard.models.arrays import FloatArray
from feederguard.models.solver.highs import silent_highs

_TOLERANCE = 1e-9  # of rows and bounds; HiGHS takes none below 1e-10


class RepeatedLp:
    """The program without its changing rows.

    cost: (n_column,); base: sparse (n_row, n_column); row_lower, row_upper: (n_row,). Raises
    ValueError when sizes disagree.
    """

    def __init__(
        self, cost: FloatArray, base: Any, row_lower: FloatArray, row_upper: FloatArray
    ) -> None:
        if base.shape != (len(row_lower), len(cost)) or len(row_lower) != len(row_upper):
            raise ValueError(
                f"RepeatedLp: {base.shape} rows and columns for {len(row_lower)} limits and "
                f"{len(cost)} costs"
            )
        self.cost, self.base, self.row_lower, self.row_upper = (
            cost,
            sparse.csr_matrix(base),
            row_lower,
            row_upper,
        )
        self._basis: Any = None

    def forget(self) -> None:
        """Start the next solve without a basis."""
        self._basis = None

    def solve(
        self,
        lower: FloatArray,
        upper: FloatArray,
        rows: Any,
        row_lower: FloatArray,
        row_upper: FloatArray,
    ) -> FloatArray | None:
        """Return the optimal x, (n_column,), or None where no point meets every row and bound.

        rows: sparse (n, n_column), the rows of this solve. Those of the last solve come first and
        in the same order, new ones after them. Raises RuntimeError where HiGHS ends in any other
        way.
        """
        matrix = sparse.vstack([self.base, rows], format="csr")
        program = highspy.HighsLp()
        program.num_row_, program.num_col_ = matrix.shape
        program.col_cost_, program.col_lower_, program.col_upper_ = self.cost, lower, upper
        program.row_lower_ = np.concatenate([self.row_lower, row_lower])
        program.row_upper_ = np.concatenate([self.row_upper, row_upper])
        program.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
        program.a_matrix_.start_, program.a_matrix_.index_ = matrix.indptr, matrix.indices
        program.a_matrix_.value_ = matrix.data
        return self._run(program)

    def _run(self, program: Any) -> FloatArray | None:
        highs = silent_highs()
        for option, value in (
            ("parallel", "off"),
            ("solver", "simplex"),
            ("primal_feasibility_tolerance", _TOLERANCE),
            ("dual_feasibility_tolerance", _TOLERANCE),
        ):
            highs.setOptionValue(option, value)
        highs.passModel(program)
        if self._basis is not None:
            highs.setBasis(self._with_new_rows(self._basis, program.num_row_))
        highs.run()
        status = highs.getModelStatus()
        if status == highspy.HighsModelStatus.kInfeasible:
            self._basis = None
            return None
        if status != highspy.HighsModelStatus.kOptimal:
            raise RuntimeError(
                f"RepeatedLp: HiGHS stopped with {highs.modelStatusToString(status)}; check the "
                "rows for values that are not finite"
            )
        self._basis = highs.getBasis()
        return np.array(highs.getSolution().col_value)

    @staticmethod
    def _with_new_rows(known: Any, n_row: int) -> Any:
        basis = highspy.HighsBasis()
        basis.col_status = known.col_status
        status = list(known.row_status)
        basis.row_status = status + [highspy.HighsBasisStatus.kBasic] * (n_row - len(status))
        basis.valid = True
        return basis
