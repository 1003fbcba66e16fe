"""Compiled Newton power flow on trees, with loops closed by link currents.

A closed network is a spanning forest rooted at the substations, plus one *link* for every loop. At
voltage V = e + jf, a bus with net demand s = p + jq and shunt y draws the current

    (1)  I(V) = conj(s / V) + y V

Newton's linearisation about V, with 2 x 2 real matrices acting on (e, f), is exact to second order,

    (2)  I(V') ~ T V' + c,   T = R(y) - conj(s / V^2) C,   c = 2 conj(s / V)

where R(y) multiplies by y and C conjugates. Seen from its parent through a series impedance z, a
subtree that draws T V + c draws, with U the parent's voltage,

    (3)  J = (1 + T Z)^-1 (T U + c),   V = U - z J

One backward pass of (3) from the leaves and one forward pass from the roots make a full Newton
step, in O(n) work. There is no admittance matrix, so a branch may have zero impedance. Off-nominal
taps multiply V and J by complex ratios. A link adds an unknown current that must satisfy its own
voltage drop. The tree's response to unit link currents gives a small dense system (`loops.py`).
The mismatch after a step follows from the remainder of (2), with d = V' - V:

    (4)  |mismatch in power| = |s| |d|^2 / |V|^2

It is exact, and convergence is judged by it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit, prange

from feederguard.models.arrays import BoolArray, ComplexArray, FloatArray, inner
from feederguard.models.power_flow.forest import (
    collect_shunts,
    find_forest,
    forest_room,
    work_room,
)
from feederguard.models.power_flow.loops import close_loops
from feederguard.models.power_flow.subtree import (
    L_FAR_IM,
    L_FAR_RE,
    L_NEAR_IM,
    L_NEAR_RE,
    L_R,
    L_X,
    MATH,
    S_C1,
    S_C2,
    S_E,
    S_F,
    S_J_IM,
    S_J_RE,
    S_M,
    S_T11,
    S_T12,
    S_T21,
    S_T22,
    linearise,
    through_impedance,
    through_ratio,
)

STAMP = "662a71d9c93087b19f19292ff4daec263e714003b3bcf91f8d20ba72caccf0d9"


class Asked(NamedTuple):
    """What a batch of power flows is given. An axis of length 1 counts for the whole batch."""

    p: FloatArray  # (B or 1, n_bus) net active demand
    q: FloatArray  # (B or 1, n_bus) net reactive demand
    closed: BoolArray  # (B or 1, n_branch)
    # (B, 1 or 0, n_bus) voltages to begin with; no row: from no load
    start: ComplexArray


@njit(cache=True, parallel=True, error_model="numpy")
def solve_many_forests(feeder, asked, tolerance, max_iterations, n_chunk, answer):
    """Solve items that each have their own closed branches, radial or meshed; fill `answer`.

    A start voltage that is 0 or not finite counts as none. Items that fail get NaN and -1
    iterations.
    """
    n_item = answer.voltage.shape[0]
    for chunk in prange(n_chunk):
        first, last = chunk * n_item // n_chunk, (chunk + 1) * n_item // n_chunk
        # Writes to a field of a NamedTuple must stand in a called function: numba takes one right
        # here, in a parallel loop, for dead code.
        _solve_items(feeder, asked, tolerance, max_iterations, first, last, answer)


@njit(error_model="numpy")
def _solve_items(feeder, asked, tolerance, max_iterations, first, last, answer):
    """Solve the items from `first` to before `last`."""
    room, work = forest_room(feeder), work_room(feeder)
    p, q, closed, demand = asked.p, asked.q, asked.closed, work.demand
    for item in range(first, last):
        row = closed[item if closed.shape[0] > 1 else 0]
        forest = find_forest(feeder, row, room)
        if feeder.any_branch_shunt:
            collect_shunts(feeder, row, work.shunt)
        pi = item if p.shape[0] > 1 else 0
        qi = item if q.shape[0] > 1 else 0
        for k in range(forest.n_live):
            demand[k, 0], demand[k, 1] = p[pi, forest.order[k]], q[qi, forest.order[k]]
        answer.iterations[item] = solve_item(
            feeder, forest, work, item, tolerance, max_iterations, answer, asked.start
        )
        for bus in range(forest.place.shape[0]):
            answer.energised[item, bus] = forest.place[bus] >= 0


@njit(error_model="numpy", fastmath=MATH)
def solve_item(feeder, forest, work, item, tolerance, max_iterations, answer, start=None):
    """Solve one item, write its voltages and currents; return its iterations, -1 where it failed.

    start: as in `Asked`. Link currents need no start: each step finds them anew from the voltages.
    Everything is indexed in place: a row view here would cost more than the arithmetic on it.
    """
    n, n_root = forest.n_live, feeder.v_substation.shape[0]
    tapped = start_flat(feeder, forest, work.state, work.line)
    if start is not None:
        _start_warm(item, n_root, forest, start, work.state)
    j_link = np.zeros(forest.n_link, np.complex128)
    error = np.inf
    n_iteration = 0
    while n_iteration < max_iterations and not error <= tolerance:
        n_iteration += 1
        _linearise_all(forest, work)
        if forest.n_link:
            close_loops(feeder, forest, work.state, work.line, j_link)
        _backward(n_root, forest, work, tapped)
        error = _forward(n_root, forest, work, tapped)
        if not error < 1e30:
            break
    voltage, current, state = answer.voltage, answer.current, work.state
    if not error <= tolerance:
        voltage[item, :] = complex(np.nan, np.nan)
        current[item, :] = complex(np.nan, np.nan)
        return -1
    voltage[item, :] = 0.0
    current[item, :] = 0.0
    for k in range(n):
        voltage[item, forest.order[k]] = complex(state[k, S_E], state[k, S_F])
        if k >= n_root:
            b = forest.branch[k]
            sign = 1.0 if feeder.from_bus[b] == forest.order[forest.parent[k]] else -1.0
            current[item, b] = complex(sign * state[k, S_J_RE], sign * state[k, S_J_IM])
    for c in range(forest.n_link):
        current[item, forest.links[c]] = j_link[c]
    return n_iteration


@inner()
def start_flat(feeder, forest, state, line):
    """Fill `line` and the no-load voltages; return whether any branch has an off-nominal ratio."""
    tapped = False
    for k in range(forest.n_live):
        if k < feeder.v_substation.shape[0]:
            v = feeder.v_substation[k]
            state[k, S_E], state[k, S_F] = v.real, v.imag
            continue
        b, up = forest.branch[k], forest.parent[k]
        line[k, L_R], line[k, L_X] = feeder.z[b].real, feeder.z[b].imag
        t = feeder.ratio[b]
        if t == 1.0:
            line[k, L_NEAR_RE], line[k, L_NEAR_IM] = 1.0, 0.0
            line[k, L_FAR_RE], line[k, L_FAR_IM] = 1.0, 0.0
            state[k, S_E], state[k, S_F] = state[up, S_E], state[up, S_F]
            continue
        # The ideal transformer sits at the from end: on the parent's side of z, or on the child's.
        tapped = True
        forward = feeder.from_bus[b] == forest.order[up]
        near = 1.0 / t if forward else complex(1.0, 0.0)
        far = complex(1.0, 0.0) if forward else t
        line[k, L_NEAR_RE], line[k, L_NEAR_IM] = near.real, near.imag
        line[k, L_FAR_RE], line[k, L_FAR_IM] = far.real, far.imag
        v = complex(state[up, S_E], state[up, S_F]) * near * far
        state[k, S_E], state[k, S_F] = v.real, v.imag
    return tapped


@inner()
def _start_warm(item, n_root, forest, start, state):
    """Take over the start voltages of one item, but at the substations."""
    if not start.shape[0]:
        return
    row = item if start.shape[0] > 1 else 0
    for k in range(n_root, forest.n_live):
        v = start[row, forest.order[k]]
        if np.isfinite(v.real) and np.isfinite(v.imag) and v != 0:
            state[k, S_E], state[k, S_F] = v.real, v.imag


@inner(fastmath=MATH)
def _linearise_all(forest, work):
    """Write the linear model (2) of every bus into `state`."""
    state, demand = work.state, work.demand
    for k in range(forest.n_live):
        y = work.shunt[forest.order[k]]
        t11, t12, t21, t22, c1, c2, m = linearise(
            state[k, S_E], state[k, S_F], demand[k, 0], demand[k, 1], y.real, y.imag
        )
        state[k, S_T11], state[k, S_T12], state[k, S_T21], state[k, S_T22] = t11, t12, t21, t22
        state[k, S_C1], state[k, S_C2], state[k, S_M] = c1, c2, m


@inner(fastmath=MATH)
def _backward(n_root, forest, work, tapped):
    """Fold every subtree into its parent: equation (3) from the leaves to the roots."""
    state, line = work.state, work.line
    for k in range(forest.n_live - 1, n_root - 1, -1):
        t11, t12, t21, t22 = state[k, S_T11], state[k, S_T12], state[k, S_T21], state[k, S_T22]
        c1, c2 = state[k, S_C1], state[k, S_C2]
        if tapped:
            t11, t12, t21, t22, c1, c2 = through_ratio(
                t11, t12, t21, t22, c1, c2, line[k, L_FAR_RE], line[k, L_FAR_IM]
            )
        t11, t12, t21, t22, c1, c2, _, _, _, _ = through_impedance(
            t11, t12, t21, t22, c1, c2, line[k, L_R], line[k, L_X]
        )
        state[k, S_T11], state[k, S_T12], state[k, S_T21], state[k, S_T22] = t11, t12, t21, t22
        state[k, S_C1], state[k, S_C2] = c1, c2
        if tapped:
            t11, t12, t21, t22, c1, c2 = through_ratio(
                t11, t12, t21, t22, c1, c2, line[k, L_NEAR_RE], line[k, L_NEAR_IM]
            )
        up = forest.parent[k]
        state[up, S_T11] += t11
        state[up, S_T12] += t12
        state[up, S_T21] += t21
        state[up, S_T22] += t22
        state[up, S_C1] += c1
        state[up, S_C2] += c2


@inner(fastmath=MATH)
def _forward(n_root, forest, work, tapped):
    """Walk the new voltages outwards and return the largest mismatch (4)."""
    state, line, demand = work.state, work.line, work.demand
    error = 0.0
    for k in range(n_root, forest.n_live):
        up = forest.parent[k]
        u_re, u_im = state[up, S_E], state[up, S_F]
        if tapped:
            a, b = line[k, L_NEAR_RE], line[k, L_NEAR_IM]
            u_re, u_im = a * u_re - b * u_im, a * u_im + b * u_re
        i_re = state[k, S_T11] * u_re + state[k, S_T12] * u_im + state[k, S_C1]
        i_im = state[k, S_T21] * u_re + state[k, S_T22] * u_im + state[k, S_C2]
        v_re = u_re - line[k, L_R] * i_re + line[k, L_X] * i_im
        v_im = u_im - line[k, L_R] * i_im - line[k, L_X] * i_re
        if tapped:
            a, b = line[k, L_FAR_RE], line[k, L_FAR_IM]
            v_re, v_im = a * v_re - b * v_im, a * v_im + b * v_re
        d_re, d_im = v_re - state[k, S_E], v_im - state[k, S_F]
        state[k, S_E], state[k, S_F] = v_re, v_im
        state[k, S_J_RE], state[k, S_J_IM] = i_re, i_im
        mismatch = (
            (d_re * d_re + d_im * d_im) * state[k, S_M] * (abs(demand[k, 0]) + abs(demand[k, 1]))
        )
        # Written so that a NaN mismatch is kept: it must never look converged.
        if not mismatch <= error:
            error = mismatch
    return error
