"""A subtree of a feeder as its parent sees it: the two-port algebra of the Newton sweep.

Equations (2) and (3) of `newton_sweep.py`, one bus or one branch at a time.
"""

from __future__ import annotations

from numba import njit

# Contraction and reassociation only. NaN and infinity must keep their meaning: they mark items
# that failed.
MATH = {"contract", "reassoc", "arcp", "nsz"}

# Columns of the array `state`, by position: the voltage, the linear model (2) and then (3),
# |V|^-2, the current J.
S_E, S_F, S_T11, S_T12, S_T21, S_T22, S_C1, S_C2, S_M, S_J_RE, S_J_IM = range(11)
# Columns of the array `line`, by position: series impedance, complex ratios on the parent's and
# on the child's side.
L_R, L_X, L_NEAR_RE, L_NEAR_IM, L_FAR_RE, L_FAR_IM = range(6)
N_STATE, N_LINE = 11, 6


@njit(error_model="numpy", fastmath=MATH)
def linearise(e, f, p, q, g, b):
    """Return T11, T12, T21, T22, c1, c2 of equation (2), and 1 / |V|^2."""
    m = 1.0 / (e * e + f * f)
    i_re = (p * e + q * f) * m
    i_im = (p * f - q * e) * m
    k_re = (i_re * e - i_im * f) * m
    k_im = (i_re * f + i_im * e) * m
    return g - k_re, -k_im - b, b - k_im, g + k_re, 2.0 * i_re, 2.0 * i_im, m


@njit(error_model="numpy", fastmath=MATH)
def through_impedance(t11, t12, t21, t22, c1, c2, r, x):
    """Return (1 + T Z)^-1 (T, c) of equation (3), then the four entries of (1 + T Z)^-1."""
    n11 = 1.0 + t11 * r + t12 * x
    n12 = t12 * r - t11 * x
    n21 = t21 * r + t22 * x
    n22 = 1.0 + t22 * r - t21 * x
    d = 1.0 / (n11 * n22 - n12 * n21)
    m11, m12, m21, m22 = n22 * d, -n12 * d, -n21 * d, n11 * d
    return (
        m11 * t11 + m12 * t21,
        m11 * t12 + m12 * t22,
        m21 * t11 + m22 * t21,
        m21 * t12 + m22 * t22,
        m11 * c1 + m12 * c2,
        m21 * c1 + m22 * c2,
        m11,
        m12,
        m21,
        m22,
    )


@njit(error_model="numpy", fastmath=MATH)
def through_ratio(t11, t12, t21, t22, c1, c2, a, b):
    """Return R(conj k) T R(k), conj(k) c for k = a + jb: a subtree behind a transformer."""
    u11, u12 = t11 * a + t12 * b, t12 * a - t11 * b
    u21, u22 = t21 * a + t22 * b, t22 * a - t21 * b
    return (
        a * u11 + b * u21,
        a * u12 + b * u22,
        a * u21 - b * u11,
        a * u22 - b * u12,
        a * c1 + b * c2,
        a * c2 - b * c1,
    )
