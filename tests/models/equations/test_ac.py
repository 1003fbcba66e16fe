"""Coefficients of the AC equations: pairs, signs, and branches without impedance.

The equations themselves are compared with complex arithmetic in tests/laws/test_ac_flow.py.
"""

import numpy as np
import pytest

from feederguard.models.equations.ac import LEAST_IMPEDANCE_PU, branch_coefficients
from feeders import feeder, two_buses


def test_parallel_branches_share_a_pair_and_one_drawn_backwards_has_its_sign():
    coefficients = branch_coefficients(feeder("0-1 1-0 1-2 2~0"))

    assert coefficients.branch.tolist() == [0, 1, 2]
    assert coefficients.pair == ((0, 1), (1, 2))
    assert coefficients.pair_of.tolist() == [0, 0, 1]
    assert coefficients.sign.tolist() == [1.0, -1.0, 1.0]
    np.testing.assert_allclose(coefficients.P[0, [0, 2]], coefficients.P[1, [0, 2]])
    assert coefficients.P[0, 3] == -coefficients.P[1, 3]


def test_a_reactance_of_a_tenth_by_hand():
    """y = -10j: P = 10 s, Q = 10 w_i - 10 c, ell = 100 (w_i + w_j - 2 c)."""
    coefficients = branch_coefficients(two_buses(r=0.0, x=0.1))

    assert coefficients.P[0] == pytest.approx([0, 0, 0, 10])
    assert coefficients.Q[0] == pytest.approx([10, 0, -10, 0])
    assert coefficients.P_to[0] == pytest.approx([0, 0, 0, -10])
    assert coefficients.ell[0] == pytest.approx([100, 100, -200, 0])


def test_a_branch_without_impedance_counts_as_a_small_reactance():
    coefficients = branch_coefficients(two_buses(r=0.0, x=0.0))
    assert coefficients.Q[0, 0] == pytest.approx(1 / LEAST_IMPEDANCE_PU)
