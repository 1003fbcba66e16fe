"""Small dense linear systems, such as those of loop currents.

Loop systems have two rows a loop. At that size a library call costs more than the arithmetic.
"""

from __future__ import annotations

import numpy as np

from feederguard.models.arrays import inner


@inner()
def solve_dense(a, b):
    """Overwrite b (n,) with the solution of a x = b, NaN where a is singular.

    Gaussian elimination with partial pivoting; a is overwritten too.
    """
    n = b.shape[0]
    for c in range(n):
        best = c
        for i in range(c + 1, n):
            if abs(a[i, c]) > abs(a[best, c]):
                best = i
        if a[best, c] == 0.0:
            b[:] = np.nan
            return
        if best != c:
            for k in range(c, n):
                a[c, k], a[best, k] = a[best, k], a[c, k]
            b[c], b[best] = b[best], b[c]
        for i in range(c + 1, n):
            factor = a[i, c] / a[c, c]
            if factor != 0.0:
                for k in range(c, n):
                    a[i, k] -= factor * a[c, k]
                b[i] -= factor * b[c]
    for c in range(n - 1, -1, -1):
        for k in range(c + 1, n):
            b[c] -= a[c, k] * b[k]
        b[c] /= a[c, c]


@inner()
def solve_columns(a, b, tolerance):
    """Overwrite b (n, m) with the solution of a x = b for m right-hand sides; return -1.

    Where no pivot of a column exceeds `tolerance` times the largest entry of a, fill b with NaN and
    return that column. Gauss-Jordan elimination with partial pivoting, real or complex; a is
    overwritten too. It rounds differently from `solve_dense`, so neither stands for the other.
    """
    n, width = a.shape[0], b.shape[1]
    largest = 0.0
    for c in range(n):
        for k in range(n):
            largest = max(largest, abs(a[c, k]))
    for c in range(n):
        best = c
        for i in range(c + 1, n):
            if abs(a[i, c]) > abs(a[best, c]):
                best = i
        if not abs(a[best, c]) > tolerance * largest:
            b[:] = np.nan
            return c
        if best != c:
            for k in range(c, n):
                a[c, k], a[best, k] = a[best, k], a[c, k]
            for k in range(width):
                b[c, k], b[best, k] = b[best, k], b[c, k]
        for i in range(n):
            if i != c and a[i, c] != 0.0:
                factor = a[i, c] / a[c, c]
                for k in range(c, n):
                    a[i, k] -= factor * a[c, k]
                for k in range(width):
                    b[i, k] -= factor * b[c, k]
    for c in range(n):
        for k in range(width):
            b[c, k] /= a[c, c]
    return -1
