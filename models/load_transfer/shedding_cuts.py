"""Limits linearised in the levers of `shedding_sweep.py` at an AC state: its cuts.

Equations (1)-(4) stand there.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from feederguard.models.arrays import inner
from feederguard.models.load_transfer.ac_state import (
    COLUMN_ELL,
    COLUMN_P,
    COLUMN_W,
    end_currents,
)
from feederguard.models.power_flow.dense import solve_columns
from feederguard.models.power_flow.loops import add_unit_currents, respond
from feederguard.models.power_flow.subtree import L_R, L_X, N_STATE, linearise

MAX_CUTS = 48  # in one linear program; the slackest gives way
MAX_NEW = 16  # limits linearised in one round, the most broken ones
LEAST_IMPEDANCE = 1e-6  # a branch of no impedance gets this one in the sensitivities
# Aim this far inside a limit, so that the AC solution lands within the judge's tolerance.
INSIDE = 1e-6


@inner()
def choose_rows(excess, tolerance, broken, rows):
    """List the MAX_NEW most broken limits in `rows`, mark all broken ones; return how many.

    excess, broken: (n_limit,).
    """
    n_row = 0
    for i in range(excess.shape[0]):
        if not excess[i] > tolerance:
            continue
        broken[i] = True
        if n_row < MAX_NEW:
            rows[n_row] = i
            n_row += 1
            continue
        least = 0
        for c in range(1, MAX_NEW):
            if excess[rows[c]] < excess[rows[least]]:
                least = c
        if excess[i] > excess[rows[least]]:
            rows[least] = i
    return n_row


@inner()
def choose_all_rows(excess, tolerance, broken, rows):
    """List in `rows` the limits that were ever broken, mark all broken ones; return how many.

    excess, broken: (n_limit,). Where there are more than MAX_CUTS, the most broken now.
    """
    n_row = 0
    for i in range(excess.shape[0]):
        broken[i] = broken[i] or excess[i] > tolerance
        if not broken[i]:
            continue
        if n_row < MAX_CUTS:
            rows[n_row] = i
            n_row += 1
            continue
        least = 0
        for c in range(1, MAX_CUTS):
            if excess[rows[c]] < excess[rows[least]]:
                least = c
        if excess[i] > excess[rows[least]]:
            rows[least] = i
    return n_row


@njit(error_model="numpy")
def add_cuts(case, forest, room, n_row, n_cut):
    """Append the cuts of the first n_row chosen limits at `room.trial`; return the number of cuts.

    Cut c is sum of cuts[c, k] s_k <= right[c], k by lever.
    """
    cuts, right, trial, n_lever = room.cuts, room.right, room.trial, room.n_lever[0]
    gradient = _sensitivities(case, forest, room, n_row)
    for c in range(n_row):
        place = n_cut
        if n_cut < MAX_CUTS:
            n_cut += 1
        else:
            # Full: the cut with most room at this point gives way.
            slack = -np.inf
            for i in range(MAX_CUTS):
                spare = right[i]
                for k in range(n_lever):
                    spare -= cuts[i, k] * trial[room.levers[k]]
                if spare > slack:
                    place, slack = i, spare
        right[place] = -(room.limit.excess[room.rows[c]] + INSIDE)
        for k in range(n_lever):
            cuts[place, k] = gradient[c, k]
            right[place] += gradient[c, k] * trial[room.levers[k]]
    return n_cut


@njit(error_model="numpy")
def _sensitivities(case, forest, room, n_row):
    """Return G of (2) for the chosen rows, (n_row, n_lever).

    A lower bound counts as an upper one of -g.
    """
    n, n_link = forest.n_live, forest.n_link
    n_column = n_row + 2 * n_link
    re, im = np.zeros((n, n_column)), np.zeros((n, n_column))
    for c in range(n_row):
        _add_limit_gradient(case, forest, room, c, re, im)
    lifted = _adjoint(forest, room)
    add_unit_currents(case.feeder, forest, n_row, re, im)
    respond(forest, np.zeros((n, N_STATE)), room.work.line, lifted, re, im)
    if n_link:
        _close_loops(case.feeder, forest, n_row, re, im)
    n_bus = case.p_load.shape[0]
    gradient = np.zeros((n_row, room.n_lever[0]))
    for k in range(room.n_lever[0]):
        lever = room.levers[k]
        if not room.price[lever] > 0:
            continue
        bus = lever if lever < n_bus else lever - n_bus
        # Less generation is more demand.
        power = (
            complex(case.p_load[bus], case.q_load[bus])
            if lever < n_bus
            else complex(-case.p_gen[bus], 0.0)
        )
        change = np.conj(power / room.answer.voltage[0, bus])
        place = forest.place[bus]
        for c in range(n_row):
            gradient[c, k] = re[place, c] * change.real + im[place, c] * change.imag
    return gradient


@inner()
def _add_limit_gradient(case, forest, room, c, re, im):
    """Subtract the gradient of chosen limit c, by bus voltage, from column c of (re, im)."""
    feeder, limits, answer = case.feeder, case.limits, room.answer
    k = room.rows[c]
    for t in range(limits.start[k], limits.start[k + 1]):
        col, scale = limits.column[t], room.limit.side[k] * limits.value[t]
        what, i = limits.kind[col], limits.index[col]
        if what == COLUMN_W:
            place = forest.place[i]
            if place >= 0:
                re[place, c] -= 2.0 * scale * answer.voltage[0, i].real
                im[place, c] -= 2.0 * scale * answer.voltage[0, i].imag
        elif what == COLUMN_P or what == COLUMN_ELL:
            which = _SENT if what == COLUMN_P else (_LOST if limits.by_power else _CURRENT)
            if which == _LOST:
                r = feeder.z[i].real
                if not r > 0:
                    continue
                scale = scale / r
            by_from, by_to = _branch_gradient(feeder, case.closed, answer, i, which)
            from_place, to_place = forest.place[feeder.from_bus[i]], forest.place[feeder.to_bus[i]]
            if from_place >= 0:
                re[from_place, c] -= scale * by_from.real
                im[from_place, c] -= scale * by_from.imag
            if to_place >= 0:
                re[to_place, c] -= scale * by_to.real
                im[to_place, c] -= scale * by_to.imag


_SENT, _LOST, _CURRENT = range(3)


@inner()
def _branch_gradient(feeder, closed, answer, b, which):
    """Return the gradients of P sent, P lost or the squared current by both end voltages."""
    v_from, v_to = answer.voltage[0, feeder.from_bus[b]], answer.voltage[0, feeder.to_bus[b]]
    at_from, at_to = end_currents(feeder, closed, answer, b)
    y_from, y_to = feeder.y_closed[b, 0], feeder.y_closed[b, 1]
    if not closed[b]:
        y_from = feeder.y_open[b, 0] if feeder.open_end[b] == 2 else complex(0.0, 0.0)
        y_to = feeder.y_open[b, 1] if feeder.open_end[b] == 1 else complex(0.0, 0.0)
    ratio, z = feeder.ratio[b], feeder.z[b]
    by_from, by_to, by_j = 0j, 0j, 0j
    if which == _SENT or which == _LOST:
        by_from += at_from + np.conj(y_from) * v_from
        by_j += v_from / ratio
    if which == _LOST:
        by_to += at_to + np.conj(y_to) * v_to
        by_j -= v_to
    if which == _CURRENT:
        if abs(at_from) >= abs(at_to):
            by_from += 2.0 * np.conj(y_from) * at_from
            by_j += 2.0 * at_from / ratio
        else:
            by_to += 2.0 * np.conj(y_to) * at_to
            by_j -= 2.0 * at_to
    if closed[b]:
        if abs(z) < LEAST_IMPEDANCE:
            z = complex(0.0, LEAST_IMPEDANCE)
        by_from += np.conj(1.0 / (ratio * z)) * by_j
        by_to -= np.conj(1.0 / z) * by_j
    return by_from, by_to


@njit(error_model="numpy")
def _adjoint(forest, room):
    """Return T of each bus transposed, (n_live, 4), and conjugate the impedances in `line`.

    That is the network whose sweep solves (3).
    """
    line, demand = room.work.line, room.work.demand
    lifted = np.empty((forest.n_live, 4))
    for k in range(forest.n_live):
        bus = forest.order[k]
        v, y = room.answer.voltage[0, bus], room.work.shunt[bus]
        t11, t12, t21, t22, _, _, _ = linearise(
            v.real, v.imag, demand[k, 0], demand[k, 1], y.real, y.imag
        )
        lifted[k, 0], lifted[k, 1], lifted[k, 2], lifted[k, 3] = t11, t21, t12, t22
        line[k, L_X] = -line[k, L_X]
        if forest.parent[k] >= 0 and line[k, L_R] ** 2 + line[k, L_X] ** 2 < LEAST_IMPEDANCE**2:
            line[k, L_R], line[k, L_X] = 0.0, -LEAST_IMPEDANCE
    return lifted


@njit(error_model="numpy")
def _close_loops(feeder, forest, n_row, re, im):
    """Add to the first n_row columns the link currents that close the loops.

    The columns behind them answer unit link currents. Impedances are conjugate.
    """
    size = 2 * forest.n_link
    system, current = np.zeros((size, size)), np.zeros((size, n_row))
    for row in range(forest.n_link):
        b = forest.links[row]
        k, w = forest.place[feeder.from_bus[b]], forest.place[feeder.to_bus[b]]
        into = 1.0 / feeder.ratio[b]
        for c in range(size + n_row):
            d_re = into.real * re[k, c] - into.imag * im[k, c] - re[w, c]
            d_im = into.real * im[k, c] + into.imag * re[k, c] - im[w, c]
            if c < n_row:
                current[2 * row, c], current[2 * row + 1, c] = -d_re, -d_im
            else:
                system[2 * row, c - n_row], system[2 * row + 1, c - n_row] = d_re, d_im
        r, x = feeder.z[b].real, -feeder.z[b].imag
        if r * r + x * x < LEAST_IMPEDANCE**2:
            r, x = 0.0, -LEAST_IMPEDANCE
        system[2 * row, 2 * row] -= r
        system[2 * row, 2 * row + 1] += x
        system[2 * row + 1, 2 * row] -= x
        system[2 * row + 1, 2 * row + 1] -= r
    solve_columns(system, current, 0.0)
    for k in range(forest.n_live):
        for c in range(n_row):
            for u in range(size):
                re[k, c] += re[k, n_row + u] * current[u, c]
                im[k, c] += im[k, n_row + u] * current[u, c]
