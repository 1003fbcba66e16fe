"""The linear program that is solved repeatedly: optima by hand, and rows that come and change."""

import numpy as np
import pytest
from scipy import sparse

from feederguard.models.solver.repeated_lp import RepeatedLp

NONE = sparse.csr_matrix((0, 2))


def program():
    """min x + 2 y, x + y >= 1, x and y in 0..1."""
    return RepeatedLp(np.array([1.0, 2.0]), np.ones((1, 2)), np.array([1.0]), np.array([np.inf]))


def solve(lp, rows=NONE, lower=(), upper=(), most=1.0):
    return lp.solve(
        np.zeros(2),
        np.full(2, most),
        rows,
        np.array(lower, dtype=float),
        np.array(upper, dtype=float),
    )


def test_rows_come_and_change():
    lp = program()

    np.testing.assert_allclose(solve(lp), [1, 0], atol=1e-9)
    np.testing.assert_allclose(
        solve(lp, sparse.csr_matrix([[1.0, 0.0]]), [0], [0.25]), [0.25, 0.75], atol=1e-9
    )
    two = sparse.csr_matrix([[2.0, 0.0], [0.0, 1.0]])
    np.testing.assert_allclose(solve(lp, two, [0, 0.8], [0.25, 1]), [0.125, 0.875], atol=1e-9)
    lp.forget()
    np.testing.assert_allclose(solve(lp), [1, 0], atol=1e-9)


def test_no_point_is_none_and_the_next_solve_is_sound():
    lp = program()

    assert solve(lp, most=0.4) is None
    np.testing.assert_allclose(solve(lp), [1, 0], atol=1e-9)


def test_sizes_that_disagree():
    with pytest.raises(ValueError, match=r"\(1, 2\) rows and columns for 2 limits and 2 costs"):
        RepeatedLp(np.ones(2), np.ones((1, 2)), np.zeros(2), np.zeros(2))


def test_an_objective_without_limit_is_an_error():
    lp = RepeatedLp(np.array([-1.0, 0.0]), np.ones((1, 2)), np.array([0.0]), np.array([np.inf]))

    with pytest.raises(RuntimeError, match="HiGHS stopped with"):
        solve(lp, most=np.inf)
