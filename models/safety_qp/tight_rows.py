"""The tight rows of a projection, restricted to the free unknowns, as an orthonormal basis.

Gram-Schmidt is done twice, since voltages of neighbours are nearly parallel. Notation as in
`projection.py`: rows of G are columns of g (n, m).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from feederguard.models.arrays import FloatArray, IntArray, inner

# Squared sine of the angle to the tight rows below which a normal counts as lying in them.
DEPENDENT = 1e-14


class TightRows(NamedTuple):
    """The tight rows of one item; the first k entries count."""

    rows: IntArray  # (most + 1,) their numbers
    basis: FloatArray  # (most + 1, n) orthonormal
    tri: FloatArray  # (most + 1, most + 1) upper triangular: the rows in terms of the basis
    c: FloatArray  # (most + 1,) part of a vector along the basis
    r: FloatArray  # (most + 1,) the same in terms of the rows


@njit
def tight_rows(n, m):
    """Return room for the tight rows among m rows of n unknowns."""
    most = min(n, m)
    return TightRows(
        np.empty(most + 1, np.int64),
        np.empty((most + 1, n)),
        np.empty((most + 1, most + 1)),
        np.empty(most + 1),
        np.empty(most + 1),
    )


@inner()
def direction(place, g, k, tight, side, z):
    """Fill z with the normal less its part along the tight rows, and r with that part.

    The normal is that of unknown `place`, or of row place - n, over the free unknowns. Returns
    |z|^2 and the squared length of the normal.
    """
    n = g.shape[0]
    whole = 0.0
    for j in range(n):
        v = 0.0
        if side[j] == 0:
            v = g[j, place - n] if place >= n else (1.0 if j == place else 0.0)
        z[j] = v
        whole += v * v
    split(k, tight, z)
    r, c, tri = tight.r, tight.c, tight.tri
    for q in range(k - 1, -1, -1):
        v = c[q]
        for s in range(q + 1, k):
            v -= tri[q, s] * r[s]
        r[q] = v / tri[q, q]
    squared = 0.0
    for j in range(n):
        squared += z[j] * z[j]
    return squared, whole


@inner()
def split(k, tight, z):
    """Take the parts along the first k basis vectors off z, twice, and leave them in c."""
    basis, c = tight.basis, tight.c
    n = z.shape[0]
    for q in range(k):
        c[q] = 0.0
    for _ in range(2):
        for q in range(k):
            v = 0.0
            for j in range(n):
                v += basis[q, j] * z[j]
            for j in range(n):
                z[j] -= v * basis[q, j]
            c[q] += v


@inner()
def append(k, tight, side, z):
    """Add rows[k], whose split is in c and z, to the basis; return the new number of rows."""
    basis, tri, c = tight.basis, tight.tri, tight.c
    n = z.shape[0]
    squared = 0.0
    for j in range(n):
        if side[j] != 0:
            z[j] = 0.0
        squared += z[j] * z[j]
    length = np.sqrt(squared)
    for j in range(n):
        basis[k, j] = z[j] / length
    for q in range(k):
        tri[q, k] = c[q]
    tri[k, k] = length
    return k + 1


@inner()
def rebuild(g, k, tight, side):
    """Build the basis of the first k rows over the free unknowns anew.

    Returns k, or -1 where the rows depend on each other.
    """
    rows, basis, tri, c = tight.rows, tight.basis, tight.tri, tight.c
    n = g.shape[0]
    for q in range(k):
        whole = 0.0
        for j in range(n):
            v = g[j, rows[q]] if side[j] == 0 else 0.0
            basis[q, j] = v
            whole += v * v
        split(q, tight, basis[q])
        squared = 0.0
        for j in range(n):
            squared += basis[q, j] * basis[q, j]
        if not squared > 1e-4 * DEPENDENT * whole:
            return -1
        length = np.sqrt(squared)
        for j in range(n):
            basis[q, j] /= length
        for s in range(q):
            tri[s, q] = c[s]
        tri[q, q] = length
    return k
