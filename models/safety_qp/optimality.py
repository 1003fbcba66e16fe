"""The end of a projection: the answer from its active set, and the check of (2)-(4).

Equations stand in `projection.py`.
"""

from __future__ import annotations

from typing import NamedTuple

from feederguard.models.arrays import FloatArray, inner
from feederguard.models.safety_qp.tight_rows import TightRows

# What became of an item: the clipped proposal, an answer with rows tight, one that gives way
# somewhere, none.
CLIPPED, TIGHT, SLACK, FAILED = range(4)

# Residual of (2)-(4) that an answer may have, relative to the largest force on an unknown.
_VERIFIED = 1e-8


class Item(NamedTuple):
    """One projection: the data of (1) and what is found."""

    a0: FloatArray  # (n,) proposal
    lo: FloatArray  # (n,)
    hi: FloatArray  # (n,)
    g: FloatArray  # (n, m) transpose of G
    low: FloatArray  # (m,)
    high: FloatArray  # (m,)
    norm: FloatArray  # (m,) lengths of the rows
    cap: float
    a: FloatArray  # (n,) answer
    mu: FloatArray  # (m,) multipliers of the rows
    side: FloatArray  # (n,) int8, as in `Projection`
    kind: FloatArray  # (m,) int8, as in `Projection`


class Room(NamedTuple):
    """Buffers of one thread."""

    y: FloatArray  # (m,) G a
    nu: FloatArray  # (n,) multipliers of the bounds
    z: FloatArray  # (n,) direction of a step; at fixed unknowns the rate of nu
    pull: FloatArray  # (n,) a^ and what the rows pull
    norm: FloatArray  # (m,)
    tight: TightRows


@inner()
def product(g, a, y):
    """Fill y with G a."""
    y[:] = 0.0
    for j in range(g.shape[0]):
        v = a[j]
        for i in range(g.shape[1]):
            y[i] += v * g[j, i]


@inner()
def finish(item, k, room):
    """Recompute the answer from its active set, verify (2)-(4), and return the status."""
    g, mu, kind, pull = item.g, item.mu, item.kind, room.pull
    n, m = g.shape
    force = 1.0
    for j in range(n):
        v = item.a0[j]
        for i in range(m):
            if kind[i] == 2 or kind[i] == -2:
                v += mu[i] * g[j, i]
        pull[j] = v
        force = max(force, abs(v))
    _place(item, k, room)
    rows, tri, r = room.tight.rows, room.tight.tri, room.tight.r
    for q in range(k - 1, -1, -1):
        v = r[q]
        for s in range(q + 1, k):
            v -= tri[q, s] * mu[rows[s]]
        mu[rows[q]] = v / tri[q, q]
    if not _forces_balance(item, force, k, room):
        return FAILED
    product(g, item.a, room.y)
    return _status(item, room.y)


@inner()
def _place(item, k, room):
    """Compute the free unknowns: along the basis the tight rows decide, across it `pull`.

    Leaves in r what the tight rows move along the basis.
    """
    g, a, side, pull = item.g, item.a, item.side, room.pull
    rows, basis, tri, r, c = (
        room.tight.rows,
        room.tight.basis,
        room.tight.tri,
        room.tight.r,
        room.tight.c,
    )
    n = g.shape[0]
    for q in range(k):
        i = rows[q]
        low, high = item.low[i], item.high[i]
        v = min(low, high) if item.kind[i] == 1 else max(low, high)
        for j in range(n):
            if side[j] != 0:
                v -= g[j, i] * a[j]
        for s in range(q):
            v -= tri[s, q] * c[s]
        c[q] = v / tri[q, q]
    for j in range(n):
        if side[j] == 0:
            a[j] = pull[j]
    for q in range(k):
        v = 0.0
        for j in range(n):
            if side[j] == 0:
                v += basis[q, j] * a[j]
        for j in range(n):
            if side[j] == 0:
                a[j] += (c[q] - v) * basis[q, j]
        r[q] = c[q] - v


@inner()
def _forces_balance(item, force, k, room):
    """Return whether (2), (4) and the signs of the tight rows hold; cut rounding off the box."""
    g, a, side, pull, rows = item.g, item.a, item.side, room.pull, room.tight.rows
    n = g.shape[0]
    near = _VERIFIED * force
    for q in range(k):
        i = rows[q]
        way = 1.0 if item.kind[i] > 0 else -1.0
        mu, norm = item.mu[i], item.norm[i]
        if not (way * mu * norm >= -near and (way * mu - item.cap) * norm <= near):
            return False
        for j in range(n):
            pull[j] += mu * g[j, i]
    for j in range(n):
        # (2) and (4): what is left over after the rows is the bound's, and points into the box.
        rest, lo, hi = a[j] - pull[j], item.lo[j], item.hi[j]
        if side[j] == 0:
            if not (abs(rest) <= near and a[j] >= lo - _VERIFIED and a[j] <= hi + _VERIFIED):
                return False
            a[j] = min(max(a[j], lo), hi)
        elif not side[j] * rest <= near:
            return False
    return True


@inner()
def _status(item, y):
    """Return the status of an item whose rows have the values y; FAILED where (3) does not hold."""
    kind = item.kind
    status = TIGHT
    for i in range(y.shape[0]):
        below, above = min(item.low[i], item.high[i]), max(item.low[i], item.high[i])
        near = _VERIFIED * item.norm[i]
        if item.norm[i] == 0.0:
            # Nothing moves this row: it holds or gives way as it is.
            if not (y[i] >= below and y[i] <= above):
                status = SLACK
            continue
        if kind[i] == 0:
            good = y[i] >= below - near and y[i] <= above + near
        elif kind[i] == 1:
            good = abs(y[i] - below) <= near
        elif kind[i] == -1:
            good = abs(y[i] - above) <= near
        elif kind[i] == 2:
            good = y[i] <= below + near
            status = SLACK
        else:
            good = y[i] >= above - near
            status = SLACK
        if not good:
            return FAILED
    return status
