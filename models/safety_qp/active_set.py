"""The dual active-set search of `projection.py`, compiled."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from feederguard.models.arrays import FloatArray, IntArray, inner
from feederguard.models.safety_qp.optimality import (
    CLIPPED,
    FAILED,
    Item,
    Room,
    finish,
    product,
)
from feederguard.models.safety_qp.tight_rows import (
    DEPENDENT,
    append,
    direction,
    rebuild,
    split,
    tight_rows,
)

STAMP = "b7f99e0f5323f14fdfe25310d42f22fe3a3d42689387e3cee7ad7655f92408a7"

# Distance to a constraint, in units of a, below which it counts as met during the search.
_FEASIBLE = 1e-11
# What ends a step: the constraint is met, a tight row's multiplier reaches 0 or the cap, a bound
# lets go, the constraint gives way.
_MET, _RELEASED, _CAPPED, _FREED, _GAVE_WAY = range(5)


class Problems(NamedTuple):
    """The data of (1), B items."""

    a0: FloatArray  # (B, n) proposals
    lo: FloatArray  # (B, n)
    hi: FloatArray  # (B, n)
    columns: FloatArray  # (B or 1, n, m) transpose of G
    low: FloatArray  # (B, m)
    high: FloatArray  # (B, m)
    cap: float


class Answers(NamedTuple):
    """The arrays of `Projection`."""

    a: FloatArray
    mu: FloatArray
    status: IntArray
    side: NDArray[np.int8]
    kind: NDArray[np.int8]


class Move(NamedTuple):
    """A constraint that is taken in."""

    place: int  # below n a bound, else row place - n
    row: int  # negative for a bound
    sign: float  # the way its value must move
    target: float  # where its value must come to
    returning: bool  # it gave way before


@njit(cache=True, parallel=True, error_model="numpy")
def project_items(problems, n_chunk, answers):
    """Project every item and fill `answers`."""
    n_item = problems.a0.shape[0]
    for chunk in prange(n_chunk):
        first, last = chunk * n_item // n_chunk, (chunk + 1) * n_item // n_chunk
        _project_some(problems, first, last, answers)


@njit(error_model="numpy")
def _project_some(problems, first, last, answers):
    """Project the items from `first` to before `last`."""
    n, m = problems.a0.shape[1], problems.low.shape[1]
    room = Room(np.empty(m), np.empty(n), np.empty(n), np.empty(n), np.empty(m), tight_rows(n, m))
    shared = problems.columns.shape[0] == 1
    if shared:
        _norms(problems.columns[0], room.norm)
    for b in range(first, last):
        item = Item(
            problems.a0[b],
            problems.lo[b],
            problems.hi[b],
            problems.columns[0 if shared else b],
            problems.low[b],
            problems.high[b],
            room.norm,
            problems.cap,
            answers.a[b],
            answers.mu[b],
            answers.side[b],
            answers.kind[b],
        )
        state = _clip(item, room.nu)
        if state != FAILED:
            product(item.g, item.a, room.y)
            if not _all_met(room.y, item.low, item.high):
                if not shared:
                    _norms(item.g, room.norm)
                state = _search(item, room)
        if state == FAILED:
            answers.a[b, :] = np.nan
            answers.mu[b, :] = np.nan
        answers.status[b] = state


@inner()
def _clip(item, nu):
    """Start at the clipped proposal; FAILED where a number is missing or the box is empty."""
    a0, lo, hi, side = item.a0, item.lo, item.hi, item.side
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
        item.a[j] = v
    for i in range(item.low.shape[0]):
        if item.low[i] != item.low[i] or item.high[i] != item.high[i]:
            return FAILED
    return CLIPPED


@inner()
def _norms(g, norm):
    """Fill `norm` (m,) with the lengths of the rows of G."""
    norm[:] = 0.0
    for j in range(g.shape[0]):
        for i in range(g.shape[1]):
            norm[i] += g[j, i] * g[j, i]
    for i in range(g.shape[1]):
        norm[i] = np.sqrt(norm[i])


@inner()
def _all_met(y, low, high):
    broken = False
    for i in range(y.shape[0]):
        # A NaN counts as broken: it then fails in the verification.
        broken |= not (y[i] >= min(low[i], high[i]) and y[i] <= max(low[i], high[i]))
    return not broken


@inner()
def _search(item, room):
    """Take constraints in, the most violated one first, until none is; return the status."""
    n, m = item.g.shape
    k = 0
    for _ in range(20 * (n + m)):
        place, sign = _most_violated(item, room.y)
        if place < 0:
            return finish(item, k, room)
        k = _take_in(place, sign, k, item, room)
        if k < 0:
            return FAILED
        product(item.g, item.a, room.y)
    return FAILED


@inner()
def _most_violated(item, y):
    """Return the place of the most violated constraint, -1 where there is none, and its sign."""
    n, m = item.g.shape
    a, side, kind, norm = item.a, item.side, item.kind, item.norm
    place, worst, sign = -1, _FEASIBLE, 0.0
    for j in range(n):
        if side[j] == 0:
            if a[j] - item.hi[j] > worst:
                place, worst, sign = j, a[j] - item.hi[j], -1.0
            elif item.lo[j] - a[j] > worst:
                place, worst, sign = j, item.lo[j] - a[j], 1.0
    for i in range(m):
        if kind[i] == 1 or kind[i] == -1 or norm[i] == 0.0:
            continue
        below, above = min(item.low[i], item.high[i]), max(item.low[i], item.high[i])
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
    return place, sign


@inner()
def _take_in(place, sign, k, item, room):
    """Move until the constraint is met, or gives way at its cap.

    Returns the number of tight rows, -1 on failure.
    """
    n, m = item.g.shape
    move, value = _aim(place, sign, item, room.y)
    left = sign * (move.target - value)
    own = item.mu[move.row] if move.row >= 0 else 0.0  # the multiplier of this constraint
    for _ in range(4 * (n + m)):
        squared, whole = direction(place, item.g, k, room.tight, item.side, room.z)
        full = left / squared if squared > DEPENDENT * whole else np.inf
        step, event, which = _first_event(move, own, full, k, item, room)
        if not step < np.inf:
            return -1
        step = max(step, 0.0)
        _advance(sign, step, k, item, room)
        own += sign * step
        left -= step * squared
        if event == _MET:
            return _hold(move, own, k, item, room)
        if event == _GAVE_WAY:
            i = move.row
            item.mu[i] = 0.0 if move.returning else (item.cap if sign > 0 else -item.cap)
            item.kind[i] = 0 if move.returning else (2 if sign > 0 else -2)
            return k
        k = _let_go(event, which, k, item, room)
        if k < 0:
            return -1
    return -1


@inner()
def _aim(place, sign, item, y):
    """Return the `Move` that takes a constraint in, and the value of the constraint."""
    i = place - item.g.shape[0]
    if i < 0:
        target = item.hi[place] if sign < 0 else item.lo[place]
        return Move(place, i, sign, target, False), item.a[place]
    below, above = min(item.low[i], item.high[i]), max(item.low[i], item.high[i])
    kind = item.kind[i]
    target = above if (kind == -2 or (kind == 0 and sign < 0)) else below
    return Move(place, i, sign, target, kind != 0), y[i]


@inner()
def _first_event(move, own, full, k, item, room):
    """Return how far the step goes, what ends it, and the tight row or unknown concerned.

    full: the step that meets the constraint. Writes the rate of nu of fixed unknowns into z.
    """
    g, side, nu, z = item.g, item.side, room.nu, room.z
    rows, r, i, sign = room.tight.rows, room.tight.r, move.row, move.sign
    step, event, which = full, _MET, -1
    for q in range(k):
        rate, at = -sign * r[q], item.mu[rows[q]]
        way = 1.0 if item.kind[rows[q]] > 0 else -1.0
        t, e = np.inf, _MET
        if way * rate < 0:
            t, e = -at / rate, _RELEASED
        elif way * rate > 0:
            t, e = (way * item.cap - at) / rate, _CAPPED
        if t < step:
            step, event, which = t, e, q
    for j in range(g.shape[0]):
        if side[j] != 0:
            rate = g[j, i] if i >= 0 else 0.0
            for q in range(k):
                rate -= r[q] * g[j, rows[q]]
            rate *= -sign
            z[j] = rate
            # nu is below zero at hi and above it at lo; a bound whose nu comes to zero lets go.
            if side[j] * rate > 0 and -nu[j] / rate < step:
                step, event, which = max(-nu[j] / rate, 0.0), _FREED, j
    if i >= 0:
        slack = abs(own) if move.returning else item.cap - abs(own)
        if slack < step:
            step, event = slack, _GAVE_WAY
    return step, event, which


@inner()
def _advance(sign, step, k, item, room):
    """Take the step: multipliers of tight rows, free unknowns, multipliers of fixed ones."""
    rows, r, z = room.tight.rows, room.tight.r, room.z
    for q in range(k):
        item.mu[rows[q]] -= sign * step * r[q]
    for j in range(z.shape[0]):
        if item.side[j] == 0:
            item.a[j] += sign * step * z[j]
        else:
            room.nu[j] += step * z[j]


@inner()
def _hold(move, own, k, item, room):
    """Make the constraint, which is met, tight; return the number of tight rows, -1 on failure."""
    i = move.row
    if i >= 0:
        at_low = move.target == min(item.low[i], item.high[i]) and own > 0
        item.kind[i] = 1 if at_low else -1
        item.mu[i] = own
        room.tight.rows[k] = i
        return append(k, room.tight, item.side, room.z)
    item.side[move.place] = 1 if move.sign < 0 else -1
    room.nu[move.place] = own
    item.a[move.place] = move.target
    return rebuild(item.g, k, room.tight, item.side)


@inner()
def _let_go(event, which, k, item, room):
    """Free a bound, or drop a tight row; return the number of tight rows, -1 on failure."""
    if event == _FREED:
        item.side[which] = 0
        room.nu[which] = 0.0
        return rebuild(item.g, k, room.tight, item.side)
    rows, kind = room.tight.rows, item.kind
    q = rows[which]
    if event == _RELEASED:
        item.mu[q] = 0.0
        kind[q] = 0
    else:
        item.mu[q] = item.cap if kind[q] > 0 else -item.cap
        kind[q] = 2 if kind[q] > 0 else -2
    for s in range(which, k - 1):
        rows[s] = rows[s + 1]
    return rebuild(item.g, k - 1, room.tight, item.side)


@njit(cache=True, parallel=True, error_model="numpy")
def pull_back_items(gradient, columns, answers, n_chunk, out):
    """Fill `out` (B, n) with the gradient by the proposals."""
    n_item = gradient.shape[0]
    for chunk in prange(n_chunk):
        first, last = chunk * n_item // n_chunk, (chunk + 1) * n_item // n_chunk
        _pull_back_some(gradient, columns, answers, first, last, out)


@njit(error_model="numpy")
def _pull_back_some(gradient, columns, answers, first, last, out):
    """Fill the rows from `first` to before `last`."""
    n, m = gradient.shape[1], answers.kind.shape[1]
    tight, z = tight_rows(n, m), np.empty(n)
    for b in range(first, last):
        side, kind = answers.side[b], answers.kind[b]
        if answers.status[b] == FAILED:
            out[b, :] = np.nan
            continue
        for j in range(n):
            z[j] = gradient[b, j] if side[j] == 0 else 0.0
        if answers.status[b] != CLIPPED:
            k = 0
            for i in range(m):
                if kind[i] == 1 or kind[i] == -1:
                    tight.rows[k] = i
                    k += 1
            k = rebuild(columns[0 if columns.shape[0] == 1 else b], k, tight, side)
            if k < 0:
                out[b, :] = np.nan
                continue
            split(k, tight, z)
        out[b, :] = z
