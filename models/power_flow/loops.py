"""Loops of a meshed network: the currents of its links within one Newton step.

A link is a closed branch outside the spanning forest. Its current J is unknown and must satisfy its
own voltage drop,

    (1)  V_from / t - V_to = z J

The tree answers linearly to link currents, so (1) over all links is a small dense system.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from feederguard.models.arrays import inner
from feederguard.models.power_flow.dense import solve_dense
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
    S_T11,
    S_T12,
    S_T21,
    S_T22,
    through_impedance,
    through_ratio,
)


@njit(error_model="numpy", fastmath=MATH)
def close_loops(feeder, forest, state, line, j_link):
    """Find the link currents of this Newton step and add them to the demand terms c of `state`.

    Column 0 of the response is the tree without link currents. Columns 1 + 2 l and 2 + 2 l answer a
    unit real and imaginary current in link l.
    """
    n, n_link, links, place = forest.n_live, forest.n_link, forest.links, forest.place
    n_column = 1 + 2 * n_link
    lifted = np.zeros((n, 4))
    re = np.zeros((n, n_column))
    im = np.zeros((n, n_column))
    for k in range(n):
        re[k, 0], im[k, 0] = state[k, S_C1], state[k, S_C2]
        lifted[k, 0], lifted[k, 1] = state[k, S_T11], state[k, S_T12]
        lifted[k, 2], lifted[k, 3] = state[k, S_T21], state[k, S_T22]
    add_unit_currents(feeder, forest, 1, re, im)
    respond(forest, state, line, lifted, re, im)
    system = np.zeros((2 * n_link, 2 * n_link))
    right = np.zeros(2 * n_link)
    _voltage_drops(feeder, forest, re, im, system, right)
    solve_dense(system, right)
    for c in range(n_link):
        j_link[c] = complex(right[2 * c], right[2 * c + 1])
        k, w = place[feeder.from_bus[links[c]]], place[feeder.to_bus[links[c]]]
        drawn = j_link[c] / np.conj(feeder.ratio[links[c]])
        state[k, S_C1] += drawn.real
        state[k, S_C2] += drawn.imag
        state[w, S_C1] -= j_link[c].real
        state[w, S_C2] -= j_link[c].imag


@inner(fastmath=MATH)
def add_unit_currents(feeder, forest, first, re, im):
    """Add to the columns first + 2 l and first + 2 l + 1 what a unit current in link l draws.

    The first of the two stands for a real current, the second for an imaginary one.
    """
    for c in range(forest.n_link):
        b = forest.links[c]
        k, w = forest.place[feeder.from_bus[b]], forest.place[feeder.to_bus[b]]
        into = 1.0 / np.conj(feeder.ratio[b])
        a = first + 2 * c
        re[k, a] += into.real
        im[k, a] += into.imag
        re[k, a + 1] -= into.imag
        im[k, a + 1] += into.real
        re[w, a] -= 1.0
        im[w, a + 1] -= 1.0


@inner(fastmath=MATH)
def _voltage_drops(feeder, forest, re, im, system, right):
    """Write (1) of every link, by real and imaginary part, into `system` and `right`."""
    n_link = forest.n_link
    for row in range(n_link):
        b = forest.links[row]
        k, w = forest.place[feeder.from_bus[b]], forest.place[feeder.to_bus[b]]
        into, z = 1.0 / feeder.ratio[b], feeder.z[b]
        right[2 * row] = re[w, 0] - into.real * re[k, 0] + into.imag * im[k, 0]
        right[2 * row + 1] = im[w, 0] - into.real * im[k, 0] - into.imag * re[k, 0]
        for c in range(2 * n_link):
            system[2 * row, c] = into.real * re[k, c + 1] - into.imag * im[k, c + 1] - re[w, c + 1]
            system[2 * row + 1, c] = (
                into.real * im[k, c + 1] + into.imag * re[k, c + 1] - im[w, c + 1]
            )
        system[2 * row, 2 * row] -= z.real
        system[2 * row, 2 * row + 1] += z.imag
        system[2 * row + 1, 2 * row] -= z.imag
        system[2 * row + 1, 2 * row + 1] -= z.real


@inner(fastmath=MATH)
def respond(forest, state, line, lifted, re, im):
    """Turn the columns of demand terms (re, im) into the columns of voltages they cause.

    re, im: (n_live, n_column). lifted: (n_live, 4) T of (2) in `newton_sweep.py`, overwritten.
    Column 0 starts from the voltages of the roots in `state`, the others from 0.
    """
    n, n_column = forest.n_live, re.shape[1]
    for k in range(n - 1, -1, -1):
        up = forest.parent[k]
        if up < 0:
            continue
        h, w, a, b = line[k, L_FAR_RE], line[k, L_FAR_IM], line[k, L_NEAR_RE], line[k, L_NEAR_IM]
        t11, t12, t21, t22, _, _ = through_ratio(
            lifted[k, 0], lifted[k, 1], lifted[k, 2], lifted[k, 3], 0.0, 0.0, h, w
        )
        t11, t12, t21, t22, _, _, m11, m12, m21, m22 = through_impedance(
            t11, t12, t21, t22, 0.0, 0.0, line[k, L_R], line[k, L_X]
        )
        lifted[k, 0], lifted[k, 1], lifted[k, 2], lifted[k, 3] = t11, t12, t21, t22
        t11, t12, t21, t22, _, _ = through_ratio(t11, t12, t21, t22, 0.0, 0.0, a, b)
        lifted[up, 0] += t11
        lifted[up, 1] += t12
        lifted[up, 2] += t21
        lifted[up, 3] += t22
        for c in range(n_column):
            d_re = h * re[k, c] + w * im[k, c]
            d_im = h * im[k, c] - w * re[k, c]
            j_re = m11 * d_re + m12 * d_im
            j_im = m21 * d_re + m22 * d_im
            re[k, c] = j_re
            im[k, c] = j_im
            re[up, c] += a * j_re + b * j_im
            im[up, c] += a * j_im - b * j_re
    for k in range(n):
        up = forest.parent[k]
        if up < 0:
            re[k, :] = 0.0
            im[k, :] = 0.0
            re[k, 0], im[k, 0] = state[k, S_E], state[k, S_F]
            continue
        h, w, a, b = line[k, L_FAR_RE], line[k, L_FAR_IM], line[k, L_NEAR_RE], line[k, L_NEAR_IM]
        r, x = line[k, L_R], line[k, L_X]
        for c in range(n_column):
            u_re = a * re[up, c] - b * im[up, c]
            u_im = a * im[up, c] + b * re[up, c]
            i_re = lifted[k, 0] * u_re + lifted[k, 1] * u_im + re[k, c]
            i_im = lifted[k, 2] * u_re + lifted[k, 3] * u_im + im[k, c]
            v_re = u_re - r * i_re + x * i_im
            v_im = u_im - r * i_im - x * i_re
            re[k, c] = h * v_re - w * v_im
            im[k, c] = h * v_im + w * v_re
