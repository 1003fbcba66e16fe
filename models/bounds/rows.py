"""A mixed-integer program written row by row, and its proven bound by HiGHS."""

from __future__ import annotations

from dataclasses import dataclass, field

import highspy
import numpy as np

from feederguard.models.solver.highs import silent_highs

MIP_GAP = 1e-4
Terms = dict[int, float]  # coefficient of each column


@dataclass
class Program:
    """min cost x over rows and columns with bounds; some columns are whole numbers."""

    lower: list[float] = field(default_factory=list)
    upper: list[float] = field(default_factory=list)
    whole: list[bool] = field(default_factory=list)
    cost: list[float] = field(default_factory=list)
    row_lower: list[float] = field(default_factory=list)
    row_upper: list[float] = field(default_factory=list)
    start: list[int] = field(default_factory=lambda: [0])
    index: list[int] = field(default_factory=list)
    value: list[float] = field(default_factory=list)

    def column(self, lower: float, upper: float, whole: bool = False, cost: float = 0.0) -> int:
        """Return a new column."""
        self.lower.append(lower)
        self.upper.append(upper)
        self.whole.append(whole)
        self.cost.append(cost)
        return len(self.cost) - 1

    def row(self, terms: Terms, lower: float = -np.inf, upper: float = np.inf) -> None:
        """Add lower <= terms <= upper."""
        kept = {column: value for column, value in terms.items() if value}
        self.index += kept.keys()
        self.value += kept.values()
        self.start.append(len(self.index))
        self.row_lower.append(lower)
        self.row_upper.append(upper)

    def least(self, time_limit_s: float) -> float:
        """Return a lower bound of an optimum that is not negative; inf where no point meets all."""
        program = highspy.HighsLp()
        program.num_col_, program.num_row_ = len(self.cost), len(self.row_lower)
        program.col_cost_, program.col_lower_, program.col_upper_ = (
            np.array(values) for values in (self.cost, self.lower, self.upper)
        )
        program.row_lower_, program.row_upper_ = np.array(self.row_lower), np.array(self.row_upper)
        program.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
        program.a_matrix_.start_ = np.array(self.start, dtype=np.int32)
        program.a_matrix_.index_ = np.array(self.index, dtype=np.int32)
        program.a_matrix_.value_ = np.array(self.value)
        kinds = highspy.HighsVarType.kContinuous, highspy.HighsVarType.kInteger
        program.integrality_ = [kinds[whole] for whole in self.whole]
        highs = silent_highs()
        highs.setOptionValue("time_limit", max(time_limit_s, 0.01))
        highs.setOptionValue("mip_rel_gap", MIP_GAP)
        highs.passModel(program)
        highs.run()
        status, info = highs.getModelStatus(), highs.getInfo()
        if status == highspy.HighsModelStatus.kInfeasible:
            return np.inf
        if status == highspy.HighsModelStatus.kOptimal:
            # Presolve may solve the program, and leave no dual bound.
            return float(info.objective_function_value) * (1 - MIP_GAP)
        bound = float(info.mip_dual_bound)
        return bound if np.isfinite(bound) else -np.inf


def plus(first: Terms, second: Terms) -> Terms:
    """Return the sum of two rows."""
    total = dict(first)
    for column, value in second.items():
        total[column] = total.get(column, 0.0) + value
    return total
