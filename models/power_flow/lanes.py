"""The Newton sweep of many items on one radial forest, LANES of them side by side.

The arithmetic is that of `newton_sweep.py`. The loops over lanes run in vector registers.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit, prange

from feederguard.models.arrays import BoolArray, ComplexArray, IntArray, inner
from feederguard.models.power_flow.subtree import (
    MATH,
    linearise,
    through_impedance,
    through_ratio,
)

STAMP = "9fb3e9dc39ac36e1b8d6042ea0d7c46cd107fbff021c0f0d143c8bc72acb7c9a"

LANES = 32  # below 16 the compiler unrolls the lanes instead of using vector registers

# Fields of a row: one row per position, each field LANES wide. Constant distances between the
# fields of one row let the compiler use vector registers for the loops over lanes below.
_FIELDS = 14
_E, _F, _P, _Q, _W, _M, _T11, _T12, _T21, _T22, _C1, _C2, _J_RE, _J_IM = range(
    0, _FIELDS * LANES, LANES
)


class RadialForest(NamedTuple):
    """A forest without loops, by position in walking order, (n_live,) each."""

    order: IntArray  # bus
    parent: IntArray  # position of the parent, -1 at a root
    forward: BoolArray  # whether the branch to the parent runs away from the root
    branch: IntArray  # branch to the parent
    near: ComplexArray  # ratio on the parent's side of that branch
    far: ComplexArray  # ratio on the child's side
    z: ComplexArray  # its series impedance
    shunt: ComplexArray  # shunt admittance of the bus
    v_root: ComplexArray  # voltage of a root


@njit(cache=True, parallel=True, error_model="numpy")
def solve_one_forest(forest, p, q, tolerance, max_iterations, n_chunk, answer):
    """Solve all items on one `RadialForest`; fill voltage, current and iterations of `answer`.

    p, q: (B or 1, n_bus) net demand.
    """
    n_item = answer.voltage.shape[0]
    n_block = (n_item + LANES - 1) // LANES
    for chunk in prange(n_chunk):
        first, last = chunk * n_block // n_chunk, (chunk + 1) * n_block // n_chunk
        _solve_blocks(forest, p, q, tolerance, max_iterations, first, last, answer)


@njit(error_model="numpy")
def _solve_blocks(forest, p, q, tolerance, max_iterations, first_block, last_block, answer):
    """Solve the blocks of LANES items from `first_block` to before `last_block`."""
    n_item = answer.voltage.shape[0]
    rows = np.zeros((forest.order.shape[0], _FIELDS * LANES))
    error = np.zeros(LANES)
    for block in range(first_block, last_block):
        first = block * LANES
        width = min(LANES, n_item - first)
        _load_block(forest, first, width, p, q, rows)
        n_iteration = 0
        while n_iteration < max_iterations:
            n_iteration += 1
            _step_block(forest, rows, error)
            if error.max() <= tolerance:
                break
        for lane in range(width):
            failed = not error[lane] <= tolerance
            answer.iterations[first + lane] = -1 if failed else n_iteration
        _store_block(forest, first, width, rows, answer)


@inner()
def _load_block(forest, first, width, p, q, rows):
    """Lay the demand of `width` items into lanes and start from no load.

    The last item fills the lanes that are left.
    """
    for k in range(forest.order.shape[0]):
        row = rows[k]
        bus = forest.order[k]
        if forest.parent[k] < 0:
            v = forest.v_root[k]
        else:
            up = rows[forest.parent[k]]
            v = complex(up[_E], up[_F]) * forest.near[k] * forest.far[k]
        for lane in range(LANES):
            item = first + min(lane, width - 1)
            row[_P + lane] = p[item if p.shape[0] > 1 else 0, bus]
            row[_Q + lane] = q[item if q.shape[0] > 1 else 0, bus]
            row[_W + lane] = abs(row[_P + lane]) + abs(row[_Q + lane])
            row[_E + lane] = v.real
            row[_F + lane] = v.imag


@inner()
def _step_block(forest, rows, error):
    """Take one Newton step in every lane; `error` receives the largest mismatch (4) of each."""
    parent, near, far, z, shunt = forest.parent, forest.near, forest.far, forest.z, forest.shunt
    n = parent.shape[0]
    for k in range(n):
        _linearise_row(rows[k], shunt[k].real, shunt[k].imag)
    for k in range(n - 1, -1, -1):
        if parent[k] < 0:
            continue
        if near[k] == 1.0 and far[k] == 1.0:
            _fold_row(rows[k], rows[parent[k]], z[k].real, z[k].imag)
        else:
            _turn_row(rows[k], far[k].real, far[k].imag)
            _fold_row(rows[k], rows[parent[k]], z[k].real, z[k].imag, near[k].real, near[k].imag)
    error[:] = 0.0
    for k in range(n):
        if parent[k] >= 0:
            _unfold_row(rows[k], rows[parent[k]], z[k], near[k], far[k], error)


@inner(fastmath=MATH)
def _linearise_row(row, g, b):
    for i in range(LANES):
        t11, t12, t21, t22, c1, c2, m = linearise(
            row[_E + i], row[_F + i], row[_P + i], row[_Q + i], g, b
        )
        row[_T11 + i] = t11
        row[_T12 + i] = t12
        row[_T21 + i] = t21
        row[_T22 + i] = t22
        row[_C1 + i] = c1
        row[_C2 + i] = c2
        row[_M + i] = m


@inner(fastmath=MATH)
def _turn_row(row, a, b):
    for i in range(LANES):
        t11, t12, t21, t22, c1, c2 = through_ratio(
            row[_T11 + i],
            row[_T12 + i],
            row[_T21 + i],
            row[_T22 + i],
            row[_C1 + i],
            row[_C2 + i],
            a,
            b,
        )
        row[_T11 + i] = t11
        row[_T12 + i] = t12
        row[_T21 + i] = t21
        row[_T22 + i] = t22
        row[_C1 + i] = c1
        row[_C2 + i] = c2


@inner(fastmath=MATH)
def _fold_row(row, up, r, x, a=1.0, b=0.0):
    for i in range(LANES):
        t11, t12, t21, t22, c1, c2, _, _, _, _ = through_impedance(
            row[_T11 + i],
            row[_T12 + i],
            row[_T21 + i],
            row[_T22 + i],
            row[_C1 + i],
            row[_C2 + i],
            r,
            x,
        )
        row[_T11 + i] = t11
        row[_T12 + i] = t12
        row[_T21 + i] = t21
        row[_T22 + i] = t22
        row[_C1 + i] = c1
        row[_C2 + i] = c2
        t11, t12, t21, t22, c1, c2 = through_ratio(t11, t12, t21, t22, c1, c2, a, b)
        up[_T11 + i] += t11
        up[_T12 + i] += t12
        up[_T21 + i] += t21
        up[_T22 + i] += t22
        up[_C1 + i] += c1
        up[_C2 + i] += c2


@inner(fastmath=MATH)
def _unfold_row(row, up, z, near, far, error):
    r, x, a, b, h, w = z.real, z.imag, near.real, near.imag, far.real, far.imag
    for i in range(LANES):
        u_re = a * up[_E + i] - b * up[_F + i]
        u_im = a * up[_F + i] + b * up[_E + i]
        i_re = row[_T11 + i] * u_re + row[_T12 + i] * u_im + row[_C1 + i]
        i_im = row[_T21 + i] * u_re + row[_T22 + i] * u_im + row[_C2 + i]
        s_re = u_re - r * i_re + x * i_im
        s_im = u_im - r * i_im - x * i_re
        v_re = h * s_re - w * s_im
        v_im = h * s_im + w * s_re
        d_re = v_re - row[_E + i]
        d_im = v_im - row[_F + i]
        row[_E + i] = v_re
        row[_F + i] = v_im
        row[_J_RE + i] = i_re
        row[_J_IM + i] = i_im
        mismatch = (d_re * d_re + d_im * d_im) * row[_M + i] * row[_W + i]
        # Written so that a NaN mismatch is kept: it must never look converged.
        error[i] = error[i] if mismatch <= error[i] else mismatch


@inner()
def _store_block(forest, first, width, rows, answer):
    """Write voltages and currents of the items of a block, NaN where `iterations` is -1."""
    voltage, current, iterations = answer.voltage, answer.current, answer.iterations
    for lane in range(width):
        failed = iterations[first + lane] < 0
        voltage[first + lane, :] = complex(np.nan, np.nan) if failed else complex(0.0, 0.0)
        current[first + lane, :] = complex(np.nan, np.nan) if failed else complex(0.0, 0.0)
    for k in range(forest.order.shape[0]):
        row = rows[k]
        sign = 1.0 if forest.forward[k] else -1.0
        for lane in range(width):
            if iterations[first + lane] < 0:
                continue
            voltage[first + lane, forest.order[k]] = complex(row[_E + lane], row[_F + lane])
            if forest.parent[k] >= 0:
                current[first + lane, forest.branch[k]] = complex(
                    sign * row[_J_RE + lane], sign * row[_J_IM + lane]
                )
