"""A bounded dual simplex that sheds least, compiled.

    (1)  min  sum of c_k s_k   s.t.  sum of A_ck s_k <= b_c for every cut c,   low_k <= s_k <= 1

with c_k > 0. A lever k is the load or the generation of a bus, s_k the fraction of it that is shed
or curtailed. It starts dual feasible at s = low, since shedding only costs. With bound flipping it
takes about one pivot per active cut.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from feederguard.models.arrays import BoolArray, FloatArray, IntArray, inner


class Dictionary(NamedTuple):
    """slack_c = beta_c + sum of table_cj x_j over the nonbasic x_j, each at a bound.

    Column j stands for lever j while that is nonbasic, after a pivot for the variable that left.
    Lower bounds are 0.
    """

    table: FloatArray  # (n_row, n)
    beta: FloatArray  # (n_row,) values of the basic variables
    high: FloatArray  # (n_row,) upper bounds of the basic variables
    basic: IntArray  # (n_row,) variable of each row: lever, or n + row for a slack
    owner: IntArray  # (n,) variable in each column, likewise
    width: FloatArray  # (n,) range of the nonbasic variable in each column
    at_upper: BoolArray  # (n,)
    cost: FloatArray  # (n,) reduced costs


@njit(error_model="numpy")
def shed_least(levers, cuts, right, price, low, share, trial):
    """Solve (1) from the floor `low` and move `trial` this share of the way to the solution.

    levers: (n,) places of the columns in price, trial and low; cuts: (n_row, n), right: (n_row,). A
    place without a price is not moved. Returns whether the solution lies elsewhere than `trial`,
    and what it costs, the sum (1). A row that every variable at its best bound cannot satisfy is
    left broken: the caller sees it in the next AC solution.
    """
    n_row, n = cuts.shape
    d = _at_floor(levers, cuts, right, price, low)
    given_up = np.zeros(n_row, np.bool_)
    for _ in range(20 * (n_row + 1)):
        row, short, up = -1, 1e-9, True
        for c in range(n_row):
            if given_up[c]:
                continue
            if -d.beta[c] > short:
                row, short, up = c, -d.beta[c], True
            elif d.beta[c] - d.high[c] > short:
                row, short, up = c, d.beta[c] - d.high[c], False
        if row < 0:
            break
        if not _pivot(row, short, up, d):
            given_up[row] = True
    answer = np.zeros(n)
    for k in range(n):
        if d.owner[k] < n and d.at_upper[k]:
            answer[d.owner[k]] = d.width[k]
    for c in range(n_row):
        if d.basic[c] < n:
            answer[d.basic[c]] = min(max(d.beta[c], 0.0), d.high[c])
    total, moved = 0.0, False
    for k in range(n):
        place = levers[k]
        if price[place] > 0:
            new = min(low[place] + answer[k], 1.0)
            moved = moved or abs(new - trial[place]) > 1e-12
            trial[place] = new if share == 1.0 else trial[place] + share * (new - trial[place])
            total += price[place] * new
    return moved, total


@njit(error_model="numpy")
def _at_floor(levers, cuts, right, price, low):
    """Return the dictionary with every lever at its floor."""
    n_row, n = cuts.shape
    d = Dictionary(
        -cuts,
        right.copy(),
        np.full(n_row, np.inf),
        n + np.arange(n_row),
        np.arange(n),
        np.zeros(n),
        np.zeros(n, np.bool_),
        np.zeros(n),
    )
    for k in range(n):
        place = levers[k]
        if price[place] > 0:
            d.width[k] = max(1.0 - low[place], 0.0)
            d.cost[k] = price[place]
            for c in range(n_row):
                d.beta[c] += d.table[c, k] * low[place]
    return d


@inner()
def _pivot(row, short, up, d):
    """Raise (up) or lower the basic variable of `row` by `short`; return False where it cannot.

    Flips bounds first, then exchanges.
    """
    n_row, n = d.table.shape
    direction = 1.0 if up else -1.0
    while True:
        best, best_ratio, best_size = -1, np.inf, 0.0
        for j in range(n):
            if d.width[j] <= 0.0:
                continue
            slope = direction * d.table[row, j]
            # From its lower bound a variable can only rise, from its upper bound only fall.
            if d.at_upper[j]:
                slope = -slope
            if slope <= 1e-11:
                continue
            ratio = abs(d.cost[j]) / slope
            if ratio < best_ratio - 1e-12 or (ratio < best_ratio + 1e-12 and slope > best_size):
                best, best_ratio, best_size = j, ratio, slope
        if best < 0:
            return False
        if best_size * d.width[best] >= short:
            break
        # Its whole range is not enough: take all of it, go on with the next.
        step = -d.width[best] if d.at_upper[best] else d.width[best]
        for c in range(n_row):
            d.beta[c] += d.table[c, best] * step
        short -= best_size * d.width[best]
        d.at_upper[best] = not d.at_upper[best]
        # At its other bound the variable has nothing left to give to this row.
        if short <= 1e-12:
            return True
    _exchange(row, best, direction * short, up, d)
    return True


@inner()
def _exchange(row, j, rise, up, d):
    """Make column j basic in `row`, whose variable moves by `rise` to its bound and stays there."""
    table, cost = d.table, d.cost
    n_row, n = table.shape
    pivot = table[row, j]
    step = rise / pivot
    for c in range(n_row):
        d.beta[c] += table[c, j] * step
    entering = (d.width[j] if d.at_upper[j] else 0.0) + step
    leaving_high, leaving = d.high[row], d.basic[row]
    d.basic[row], d.owner[j] = d.owner[j], leaving
    d.high[row] = d.width[j]
    d.width[j] = leaving_high
    d.at_upper[j] = not up
    d.beta[row] = entering
    # x_j = (basic - beta - sum of the others) / pivot, put into every other row and into the
    # objective.
    for k in range(n):
        table[row, k] = 1.0 / pivot if k == j else -table[row, k] / pivot
    for c in range(n_row):
        if c != row:
            factor = table[c, j]
            for k in range(n):
                table[c, k] = (
                    factor * table[row, k] if k == j else table[c, k] + factor * table[row, k]
                )
    factor = cost[j]
    for k in range(n):
        cost[k] = factor * table[row, k] if k == j else cost[k] + factor * table[row, k]
