"""Batched exact projection onto two-sided soft rows within a box, and its derivative: the solver
behind the safety layer.

For each item, n unknowns a, m rows G a (shared or its own), and a price 2 R of leaving a row's
interval by one unit,

    (1)  min  |a - a^|^2 + 2 R sum of max(low_i - (G a)_i, 0) + max((G a)_i - high_i, 0),   lo <= a <= hi

Its optimum is unique and is where, with one signed multiplier mu_i in [-R, R] a row and nu_j a
bound,

    (2)  a = a^ + G' mu + nu
    (3)  mu_i > 0 only where (G a)_i <= low_i, mu_i < R only where (G a)_i >= low_i; likewise -R <= mu_i < 0 at high_i
    (4)  nu_j > 0 only at lo_j, nu_j < 0 only at hi_j

Where low_i > high_i, the two prices cancel in between, and (1) is that of the interval [high_i,
low_i] plus a constant.

Method: the dual active-set method of Goldfarb & Idnani, Mathematical Programming 27, 1983, on
(2)-(4). It starts at the clipped proposal, whose active bounds are dual feasible, so most items end
there. Bounds are sets of fixed unknowns, not rows; the tight rows, restricted to free unknowns, are
kept as an orthonormal basis (Gram-Schmidt, twice) since voltages of neighbours are nearly parallel;
a row that depends on the tight ones takes a step in the multipliers alone. A multiplier that
reaches R stays there and its row gives way. Every step raises the dual objective, so no set of
active constraints comes twice. At the end the answer is recomputed from its active set, and (2)-(4)
are verified; an item that fails is NaN and says so.

Derivative: in the free unknowns F with tight rows J, da/da^ = I - G_JF' (G_JF G_JF')^-1 G_JF, zero
elsewhere.

Long, because numba's cache watches one file and inlines only what is compiled together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from feederguard.models.arrays import BoolArray, FloatArray, IntArray, plain, threads_for

ByteArray = NDArray[np.int8]

# What became of an item: the clipped proposal, an answer with rows tight, one that gives way
# somewhere, none.
CLIPPED, TIGHT, SLACK, FAILED = range(4)
STATUSES = ("clipped", "tight", "slack", "failed")

_FEASIBLE = (
    1e-11  # distance to a constraint, in units of a, below which it counts as met during the search
)
_VERIFIED = (
    1e-8  # residual of (2)-(4) that an answer may have, relative to the largest force on an unknown
)
# squared sine of the angle to the tight rows below which a normal counts as lying in them
_DEPENDENT = 1e-14


@dataclass(frozen=True, eq=False)
class Projection:
    """The answers of (1); failed items hold NaN."""

    a: FloatArray  # (B, n)
    mu: FloatArray  # (B, m) multipliers of (2), above zero where low_i pushes
    status: IntArray  # (B,) position in STATUSES
    side: ByteArray  # (B, n) -1 at lo, 1 at hi, 0 free
    kind: (
        ByteArray  # (B, m) 0 inactive, 1 tight at low, -1 tight at high, 2 and -2 giving way there
    )

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
        _project(
            plain(proposal, np.float64),
            plain(lo, np.float64),
            plain(hi, np.float64),
            plain(stacked, np.float64),
            plain(low, np.float64),
            plain(high, np.float64),
            float(cap),
            n_chunk,
            answer.a,
            answer.mu,
            answer.status,
            answer.side,
            answer.kind,
        )
    return answer


def pull_back(answer: Projection, columns: FloatArray, gradient: FloatArray) -> FloatArray:
    """Return the gradient with respect to the proposals, (B, n), from that with respect to the
    answers (B, n).

    columns as in `project`. Failed items give NaN. At a kink it is the derivative with the active
    set as it was found.
    """
    stacked = columns[None] if columns.ndim == 2 else columns
    out = np.empty_like(answer.a)
    with threads_for(0.2 * len(out)):
        n_chunk = max(1, min(8 * numba.get_num_threads(), len(out)))
        _pull_back(
            plain(gradient, np.float64),
            answer.status,
            answer.side,
            answer.kind,
            plain(stacked, np.float64),
            n_chunk,
            out,
        )
    return out


@njit(cache=True, parallel=True, error_model="numpy")
def _project(a0, lo, hi, columns, low, high, cap, n_chunk, a, mu, status, side, kind):  # type: ignore[no-untyped-def]
    n_item, n = a0.shape
    m = low.shape[1]
    most = min(n, m)
    for chunk in prange(n_chunk):
        y, norm = np.empty(m), np.empty(m)
        nu, z, pull = np.empty(n), np.empty(n), np.empty(n)
        basis, tri = np.empty((most + 1, n)), np.empty((most + 1, most + 1))
        r, c = np.empty(most + 1), np.empty(most + 1)
        rows = np.empty(most + 1, np.int64)
        shared = columns.shape[0] == 1
        if shared:
            _norms(columns[0], norm)
        for item in range(chunk * n_item // n_chunk, (chunk + 1) * n_item // n_chunk):
            g = columns[0 if shared else item]
            state = _clip(
                a0[item], lo[item], hi[item], low[item], high[item], a[item], nu, side[item]
            )
            if state != FAILED:
                _product(g, a[item], y)
                if not _all_met(y, low[item], high[item]):
                    if not shared:
                        _norms(g, norm)
                    state = _solve(
                        a0[item],
                        lo[item],
                        hi[item],
                        g,
                        low[item],
                        high[item],
                        cap,
                        norm,
                        y,
                        nu,
                        z,
                        pull,
                        basis,
                        tri,
                        r,
                        c,
                        rows,
                        a[item],
                        mu[item],
                        side[item],
                        kind[item],
                    )
            if state == FAILED:
                a[item, :] = np.nan
                mu[item, :] = np.nan
            status[item] = state


@njit(error_model="numpy")
def _clip(a0, lo, hi, low, high, a, nu, side):  # type: ignore[no-untyped-def]
    """Start at the clipped proposal; FAILED where a number is missing or the box is empty."""
    for j in range(a0.shape[0]):
        v = a0[j]
        side[j] = 0
        if v > hi[j]:
            v = hi[j]
            side[j] = 1
        elif v < lo[j]:
            v = lo[j]
            side[j] = -1
        if not (lo[j] <= hi[j] and abs(v) < np.inf and abs(a0[j]) < np.inf):
            return FAILED
        nu[j] = v - a0[j]
        a[j] = v
    for i in range(low.shape[0]):
        if low[i] != low[i] or high[i] != high[i]:
            return FAILED
    return CLIPPED


@njit(error_model="numpy")
def _norms(g, norm):  # type: ignore[no-untyped-def]
    norm[:] = 0.0
    for j in range(g.shape[0]):
        for i in range(g.shape[1]):
            norm[i] += g[j, i] * g[j, i]
    for i in range(g.shape[1]):
        norm[i] = np.sqrt(norm[i])


@njit(error_model="numpy")
def _product(g, a, y):  # type: ignore[no-untyped-def]
    y[:] = 0.0
    for j in range(g.shape[0]):
        v = a[j]
        for i in range(g.shape[1]):
            y[i] += v * g[j, i]


@njit(error_model="numpy")
def _all_met(y, low, high):  # type: ignore[no-untyped-def]
    broken = False
    for i in range(y.shape[0]):
        # A NaN counts as broken: it then fails in the verification.
        broken |= not (y[i] >= min(low[i], high[i]) and y[i] <= max(low[i], high[i]))
    return not broken


@njit(error_model="numpy")
def _solve(  # type: ignore[no-untyped-def]
    a0,
    lo,
    hi,
    g,
    low,
    high,
    cap,
    norm,
    y,
    nu,
    z,
    pull,
    basis,
    tri,
    r,
    c,
    rows,
    a,
    mu,
    side,
    kind,
):
    """Take constraints in, the most violated one first, until none is violated; return the item's
    status.
    """
    n, m = g.shape
    k = 0
    for _ in range(20 * (n + m)):
        # The most violated: place < n is a bound, else row place - n; sign is the way it must move.
        place, worst, sign = -1, _FEASIBLE, 0.0
        for j in range(n):
            if side[j] == 0:
                if a[j] - hi[j] > worst:
                    place, worst, sign = j, a[j] - hi[j], -1.0
                elif lo[j] - a[j] > worst:
                    place, worst, sign = j, lo[j] - a[j], 1.0
        for i in range(m):
            if kind[i] == 1 or kind[i] == -1 or norm[i] == 0.0:
                continue
            below, above = min(low[i], high[i]), max(low[i], high[i])
            s = 0.0
            if kind[i] == 0:
                gap = below - y[i]
                s = 1.0
                if y[i] - above > gap:
                    gap = y[i] - above
                    s = -1.0
            elif kind[i] == 2:
                gap = y[i] - below
                s = -1.0
            else:
                gap = above - y[i]
                s = 1.0
            if gap > worst * norm[i]:
                place, worst, sign = n + i, gap / norm[i], s
        if place < 0:
            return _finish(
                a0,
                lo,
                hi,
                g,
                low,
                high,
                cap,
                k,
                rows,
                norm,
                y,
                pull,
                basis,
                tri,
                r,
                c,
                a,
                mu,
                side,
                kind,
            )
        k = _take_in(
            place,
            sign,
            lo,
            hi,
            g,
            low,
            high,
            cap,
            k,
            rows,
            nu,
            z,
            y,
            basis,
            tri,
            r,
            c,
            a,
            mu,
            side,
            kind,
        )
        if k < 0:
            return FAILED
        _product(g, a, y)
    return FAILED


@njit(error_model="numpy")
def _take_in(
    place, sign, lo, hi, g, low, high, cap, k, rows, nu, z, y, basis, tri, r, c, a, mu, side, kind
):  # type: ignore[no-untyped-def]
    """Move until the constraint is met, or gives way at its cap; return the number of tight rows,
    -1 on failure.
    """
    n, m = g.shape
    i = place - n  # the row, negative for a bound
    if i >= 0:
        below, above = min(low[i], high[i]), max(low[i], high[i])
        target = above if (kind[i] == -2 or (kind[i] == 0 and sign < 0)) else below
        value = y[i]
        returning = kind[i] != 0
    else:
        target = hi[place] if sign < 0 else lo[place]
        value = a[place]
        returning = False
    left = sign * (target - value)
    own = mu[i] if i >= 0 else 0.0  # the multiplier of this constraint
    for _ in range(4 * (n + m)):
        squared, whole = _direction(place, g, k, rows, basis, tri, r, c, z, side)
        full = left / squared if squared > _DEPENDENT * whole else np.inf
        step, event, which = full, 0, -1
        for q in range(k):
            rate, at = -sign * r[q], mu[rows[q]]
            way = 1.0 if kind[rows[q]] > 0 else -1.0
            t, e = np.inf, 0
            if way * rate < 0:
                t, e = -at / rate, 1
            elif way * rate > 0:
                t, e = (way * cap - at) / rate, 2
            if t < step:
                step, event, which = t, e, q
        for j in range(n):
            if side[j] != 0:
                rate = g[j, i] if i >= 0 else 0.0
                for q in range(k):
                    rate -= r[q] * g[j, rows[q]]
                rate *= -sign
                z[j] = rate  # fixed unknowns do not move: their place in z holds the rate of nu
                # nu is below zero at hi and above it at lo; a bound whose nu comes to zero lets go.
                if side[j] * rate > 0 and -nu[j] / rate < step:
                    step, event, which = max(-nu[j] / rate, 0.0), 3, j
        if i >= 0:
            room = abs(own) if returning else cap - abs(own)
            if room < step:
                step, event = room, 4
        if not step < np.inf:
            return -1
        step = max(step, 0.0)
        for q in range(k):
            mu[rows[q]] -= sign * step * r[q]
        for j in range(n):
            if side[j] == 0:
                a[j] += sign * step * z[j]
            else:
                nu[j] += step * z[j]
        own += sign * step
        left -= step * squared
        if event == 0:
            if i >= 0:
                kind[i] = 1 if target == min(low[i], high[i]) and own > 0 else -1
                mu[i] = own
                rows[k] = i
                return _append(g, k, rows, basis, tri, c, z, side)
            side[place] = 1 if sign < 0 else -1
            nu[place] = own
            a[place] = target
            return _rebuild(g, k, rows, basis, tri, c, side)
        if event == 4:
            mu[i] = 0.0 if returning else (cap if sign > 0 else -cap)
            kind[i] = 0 if returning else (2 if sign > 0 else -2)
            return k
        if event == 3:
            side[which] = 0
            nu[which] = 0.0
        else:
            q = rows[which]
            if event == 1:
                mu[q] = 0.0
                kind[q] = 0
            else:
                mu[q] = cap if kind[q] > 0 else -cap
                kind[q] = 2 if kind[q] > 0 else -2
            for s in range(which, k - 1):
                rows[s] = rows[s + 1]
            k -= 1
        k = _rebuild(g, k, rows, basis, tri, c, side)
        if k < 0:
            return -1
    return -1


@njit(error_model="numpy")
def _direction(place, g, k, rows, basis, tri, r, c, z, side):  # type: ignore[no-untyped-def]
    """Fill z, the normal less its part along the tight rows (free unknowns), and r, that part in
    terms of the rows.

    Returns |z|^2 and the squared length of the normal over the free unknowns.
    """
    n = g.shape[0]
    whole = 0.0
    for j in range(n):
        v = 0.0
        if side[j] == 0:
            v = g[j, place - n] if place >= n else (1.0 if j == place else 0.0)
        z[j] = v
        whole += v * v
    _split(k, n, basis, c, z)
    for q in range(k - 1, -1, -1):
        v = c[q]
        for s in range(q + 1, k):
            v -= tri[q, s] * r[s]
        r[q] = v / tri[q, q]
    squared = 0.0
    for j in range(n):
        squared += z[j] * z[j]
    return squared, whole


@njit(error_model="numpy")
def _split(k, n, basis, c, z):  # type: ignore[no-untyped-def]
    """Take the parts along the basis off z, twice, and leave them in c."""
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


@njit(error_model="numpy")
def _append(g, k, rows, basis, tri, c, z, side):  # type: ignore[no-untyped-def]
    """Add rows[k], whose split is in c and z, to the basis; return the new number of rows."""
    n = g.shape[0]
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


@njit(error_model="numpy")
def _rebuild(g, k, rows, basis, tri, c, side):  # type: ignore[no-untyped-def]
    """Build the basis of the tight rows over the free unknowns anew; return k, -1 where they depend
    on each other.
    """
    n = g.shape[0]
    for q in range(k):
        whole = 0.0
        for j in range(n):
            v = g[j, rows[q]] if side[j] == 0 else 0.0
            basis[q, j] = v
            whole += v * v
        _split(q, n, basis, c, basis[q])
        squared = 0.0
        for j in range(n):
            squared += basis[q, j] * basis[q, j]
        if not squared > 1e-4 * _DEPENDENT * whole:
            return -1
        length = np.sqrt(squared)
        for j in range(n):
            basis[q, j] /= length
        for s in range(q):
            tri[s, q] = c[s]
        tri[q, q] = length
    return k


@njit(error_model="numpy")
def _finish(
    a0, lo, hi, g, low, high, cap, k, rows, norm, y, pull, basis, tri, r, c, a, mu, side, kind
):  # type: ignore[no-untyped-def]
    """Recompute the answer from its active set, verify (2)-(4), and return the status."""
    n, m = g.shape
    force = 1.0
    for j in range(n):
        v = a0[j]
        for i in range(m):
            if kind[i] == 2 or kind[i] == -2:
                v += mu[i] * g[j, i]
        pull[j] = v
        force = max(force, abs(v))
    # Along the basis the tight rows decide, across it the proposal and what gives way.
    for q in range(k):
        i = rows[q]
        v = min(low[i], high[i]) if kind[i] == 1 else max(low[i], high[i])
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
    for q in range(k - 1, -1, -1):
        v = r[q]
        for s in range(q + 1, k):
            v -= tri[q, s] * mu[rows[s]]
        mu[rows[q]] = v / tri[q, q]
    return _verify(lo, hi, g, low, high, cap, force, k, rows, norm, y, pull, a, mu, side, kind)


@njit(error_model="numpy")
def _verify(lo, hi, g, low, high, cap, force, k, rows, norm, y, pull, a, mu, side, kind):  # type: ignore[no-untyped-def]
    n, m = g.shape
    near = _VERIFIED * force
    for q in range(k):
        i = rows[q]
        way = 1.0 if kind[i] > 0 else -1.0
        if not (way * mu[i] * norm[i] >= -near and (way * mu[i] - cap) * norm[i] <= near):
            return FAILED
        for j in range(n):
            pull[j] += mu[i] * g[j, i]
    for j in range(n):
        # (2) and (4): what is left over after the rows is the bound's, and points into the box.
        rest = a[j] - pull[j]
        if side[j] == 0:
            if not (abs(rest) <= near and a[j] >= lo[j] - _VERIFIED and a[j] <= hi[j] + _VERIFIED):
                return FAILED
            a[j] = min(max(a[j], lo[j]), hi[j])
        elif not side[j] * rest <= near:
            return FAILED
    _product(g, a, y)
    status = TIGHT
    for i in range(m):
        below, above, near = min(low[i], high[i]), max(low[i], high[i]), _VERIFIED * norm[i]
        if norm[i] == 0.0:
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


@njit(cache=True, parallel=True, error_model="numpy")
def _pull_back(gradient, status, side, kind, columns, n_chunk, out):  # type: ignore[no-untyped-def]
    n_item, n = gradient.shape
    m = kind.shape[1]
    most = min(n, m)
    for chunk in prange(n_chunk):
        basis, tri = np.empty((most + 1, n)), np.empty((most + 1, most + 1))
        c, z = np.empty(most + 1), np.empty(n)
        rows = np.empty(most + 1, np.int64)
        for item in range(chunk * n_item // n_chunk, (chunk + 1) * n_item // n_chunk):
            if status[item] == FAILED:
                out[item, :] = np.nan
                continue
            for j in range(n):
                z[j] = gradient[item, j] if side[item, j] == 0 else 0.0
            if status[item] != CLIPPED:
                k = 0
                for i in range(m):
                    if kind[item, i] == 1 or kind[item, i] == -1:
                        rows[k] = i
                        k += 1
                g = columns[0 if columns.shape[0] == 1 else item]
                k = _rebuild(g, k, rows, basis, tri, c, side[item])
                if k < 0:
                    out[item, :] = np.nan
                    continue
                _split(k, n, basis, c, z)
            out[item, :] = z
