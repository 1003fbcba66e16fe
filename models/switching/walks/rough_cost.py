"""The cost of a radial switch state, estimated by current sweeps in some microseconds.

An AC power flow with its least shedding takes fifty times as long. Per unit, with V the voltages
remembered from the state before, f the share of its load that a bus keeps, y its shunts:

    (1)  I_i = conj((f_i (p_i + j q_i) - g_i) / V_i) + y_i V_i
    (2)  J_j = I_j + sum of J_k over the children k of j
    (3)  V_j = V_i - z_j J_j
    (4)  voltage   while a bus lies below its limit, the worst one first: the loads that lift it
                   most at their price are shed, one by one, the last in part
    (5)  current   then, from the leaves upwards, each branch above its limit sheds of what it
                   feeds, the loads of the worst power factor first
    (6)  cost      (1) of `load_transfer/rules.py` with what (4), (5) shed and what is dark

(4) and (5) are the cheapest shedding for one limit. Together they are neither a bound nor exact: an
estimate ranks states, AC power flow decides.
Voltages that are too high are ignored, links too: the state counts as a forest.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from feederguard.models.arrays import ComplexArray, FloatArray, IntArray
from feederguard.models.power_flow.subtree import MATH

MOST_TURNS = 20  # of (4)
LEAST_LACK = 1e-5  # pu of voltage
# A voltage below this says that the state has no solution as it stands; it is not remembered.
LEAST_VOLTAGE = 0.5
FIRST_VOLTAGE = 0.97


class Rough(NamedTuple):
    """What an estimate needs of a network and setting, teams of parallel branches as one."""

    z: ComplexArray  # (n_branch,)
    ratio: FloatArray  # (n_branch,) size of the tap
    limit: FloatArray  # (n_branch,) current, inf for none
    low: FloatArray  # (n_bus,) lower limit of voltage
    y: ComplexArray  # (n_bus,) shunts in the normal state
    price: FloatArray  # (n_bus,) of shed power
    curtail_price: float
    per_shed: float  # cost of S^2, S in pu
    per_operation: float  # cost of N^2


class Draw(NamedTuple):
    """Demand and generation of one scenario, (n_bus,) each."""

    p: FloatArray
    q: FloatArray
    g: FloatArray
    first: IntArray  # buses in the order in which (5) sheds


class Sweep(NamedTuple):
    """Buffers, by position in walking order but for `memory`."""

    kept: FloatArray  # (n_bus,) f of (1)
    own: FloatArray  # (n_bus, 2) I of (1)
    total: FloatArray  # (n_bus, 2) J of (2)
    v: FloatArray  # (n_bus, 2) V of (3)
    r: FloatArray  # (n_bus,) impedance of the way from the root
    x: FloatArray
    gain: FloatArray  # (n_bus,) what shedding a load lifts a bus by, at its price
    mark: IntArray  # (n_bus,)
    memory: FloatArray  # (n_bus, 2) V by bus


@njit
def sweep_room(n_bus):
    """Return buffers for a feeder of n_bus buses."""
    memory = np.zeros((n_bus, 2))
    memory[:, 0] = FIRST_VOLTAGE
    return Sweep(
        np.ones(n_bus),
        np.zeros((n_bus, 2)),
        np.zeros((n_bus, 2)),
        np.zeros((n_bus, 2)),
        np.zeros(n_bus),
        np.zeros(n_bus),
        np.zeros(n_bus),
        np.zeros(n_bus, np.int64),
        memory,
    )


@njit(error_model="numpy")
def estimate_shed(feeder, rough, draw, forest, room, most):
    """Return the S of (6) in pu, or any number above `most` once it is known to exceed that."""
    n_root, n, place = feeder.v_substation.shape[0], forest.n_live, forest.place
    room.kept[:n] = 1.0
    shed = 0.0
    if n < place.shape[0]:
        for i in range(place.shape[0]):
            if place[i] < 0:
                shed += rough.price[i] * draw.p[i] + rough.curtail_price * draw.g[i]
        if shed > most:
            return shed
    for _ in range(MOST_TURNS):
        _collect(rough, draw, forest, room)
        _fold(forest, n_root, room)
        worst, lack = _unfold(feeder, rough, forest, n_root, room)
        if worst < 0:
            break
        shed += _lift(rough, draw, forest, n_root, worst, lack, most - shed, room)
        if shed > most:
            return shed
    more = _fold_within_limits(rough, draw, forest, n_root, most - shed, room)
    if shed + more > most:
        return shed + more
    if more > 0:
        _collect(rough, draw, forest, room)
        _fold(forest, n_root, room)
        _unfold(feeder, rough, forest, n_root, room)
    for k in range(n_root, n):
        if room.v[k, 0] > LEAST_VOLTAGE:
            i = forest.order[k]
            room.memory[i, 0], room.memory[i, 1] = room.v[k, 0], room.v[k, 1]
    return shed + more


@njit(error_model="numpy", fastmath=MATH)
def _collect(rough, draw, forest, room):
    """Write (1) of every live bus."""
    for k in range(forest.n_live):
        i = forest.order[k]
        e, f = room.memory[i, 0], room.memory[i, 1]
        per = 1.0 / (e * e + f * f)
        p, q = (draw.p[i] * room.kept[k] - draw.g[i]) * per, draw.q[i] * room.kept[k] * per
        g, b = rough.y[i].real, rough.y[i].imag
        room.own[k, 0] = p * e + q * f + g * e - b * f
        room.own[k, 1] = p * f - q * e + g * f + b * e


@njit(error_model="numpy", fastmath=MATH)
def _fold(forest, n_root, room):
    """Sum the currents up to (2)."""
    total = room.total
    total[: forest.n_live] = room.own[: forest.n_live]
    for k in range(forest.n_live - 1, n_root - 1, -1):
        up = forest.parent[k]
        total[up, 0] += total[k, 0]
        total[up, 1] += total[k, 1]


@njit(error_model="numpy", fastmath=MATH)
def _fold_within_limits(rough, draw, forest, n_root, most, room):
    """Sum the currents up to (2) with (5); return what that sheds, and stop above `most`."""
    total, shed = room.total, 0.0
    total[: forest.n_live] = room.own[: forest.n_live]
    for k in range(forest.n_live - 1, n_root - 1, -1):
        up = forest.parent[k]
        limit = rough.limit[forest.branch[k]]
        if total[k, 0] ** 2 + total[k, 1] ** 2 > limit * limit:
            shed += _shed_behind(rough, draw, forest, k, limit, room)
            if shed > most:
                return shed
        total[up, 0] += total[k, 0]
        total[up, 1] += total[k, 1]
    return shed


@njit(error_model="numpy", fastmath=MATH)
def _shed_behind(rough, draw, forest, k, limit, room):
    """Shed (5) for the branch at place k; return the price."""
    total, own, mark = room.total, room.own, room.mark
    size = np.sqrt(total[k, 0] ** 2 + total[k, 1] ** 2)
    e, f = total[k, 0] / size, total[k, 1] / size
    shed, over = 0.0, size - limit
    mark[:k] = 0
    mark[k] = 1
    for j in range(k + 1, forest.n_live):
        mark[j] = mark[forest.parent[j]]
    for i in draw.first:
        j = forest.place[i]
        if j < k or not mark[j] or not room.kept[j] > 0:
            continue
        # What the current falls by when all that is left of this load goes.
        less = own[j, 0] * e + own[j, 1] * f
        if draw.p[i] <= 0 or less <= 0:
            continue
        share = min(over / less, 1.0)
        shed += share * room.kept[j] * rough.price[i] * draw.p[i]
        total[k, 0] -= share * own[j, 0]
        total[k, 1] -= share * own[j, 1]
        own[j, 0] *= 1.0 - share
        own[j, 1] *= 1.0 - share
        room.kept[j] *= 1.0 - share
        over -= share * less
        if over <= 1e-9:
            return shed
    # What flows out is generation, which is curtailed.
    shed += rough.curtail_price * over
    total[k, 0] -= over * e
    total[k, 1] -= over * f
    return shed


@njit(error_model="numpy", fastmath=MATH)
def _unfold(feeder, rough, forest, n_root, room):
    """Walk the voltages (3) outwards; return the place furthest below its limit, and by how much.

    The place is -1 where all hold.
    """
    worst, lack, v, total = -1, LEAST_LACK, room.v, room.total
    for k in range(n_root):
        v[k, 0], v[k, 1] = feeder.v_substation[k].real, feeder.v_substation[k].imag
        room.r[k] = room.x[k] = 0.0
    for k in range(n_root, forest.n_live):
        b, up = forest.branch[k], forest.parent[k]
        r, x = rough.z[b].real, rough.z[b].imag
        e, f, t = v[up, 0], v[up, 1], rough.ratio[b]
        if t != 1.0:
            t = 1.0 / t if feeder.from_bus[b] == forest.order[up] else t
            e, f = e * t, f * t
        e -= r * total[k, 0] - x * total[k, 1]
        f -= r * total[k, 1] + x * total[k, 0]
        v[k, 0], v[k, 1] = e, f
        room.r[k], room.x[k] = room.r[up] + r, room.x[up] + x
        low = rough.low[forest.order[k]]
        square = e * e + f * f
        if square < low * low:
            short = low - np.sqrt(square)
            if short > lack:
                worst, lack = k, short
    return worst, lack


@njit(error_model="numpy", fastmath=MATH)
def _lift(rough, draw, forest, n_root, k, lack, most, room):
    """Shed (4) for the bus at place k; return the price, and stop above `most`."""
    own, mark, gain = room.own, room.mark, room.gain
    size = np.sqrt(room.v[k, 0] ** 2 + room.v[k, 1] ** 2)
    e, f = room.v[k, 0] / size, room.v[k, 1] / size
    # `mark` is where the way to a bus leaves the way to bus k.
    mark[: forest.n_live] = -1
    here = k
    while here >= 0:
        mark[here] = here
        here = forest.parent[here]
    for j in range(forest.n_live):
        if mark[j] < 0:
            mark[j] = mark[forest.parent[j]] if forest.parent[j] >= 0 else 0
        at, i = mark[j], forest.order[j]
        price = rough.price[i] * draw.p[i]
        active, reactive = own[j, 0] * e + own[j, 1] * f, own[j, 0] * f - own[j, 1] * e
        lifts = room.r[at] * active + room.x[at] * reactive
        gain[j] = lifts / (price * room.kept[j]) if price > 0 and room.kept[j] > 0 else 0.0
    shed = 0.0
    while lack > 0 and shed <= most:
        best = 0
        for j in range(1, forest.n_live):
            if gain[j] > gain[best]:
                best = j
        if not gain[best] > 0:
            break
        i = forest.order[best]
        price = rough.price[i] * draw.p[i] * room.kept[best]
        share = min(lack / (gain[best] * price), 1.0)
        shed += share * price
        lack -= share * gain[best] * price
        room.kept[best] *= 1.0 - share
        gain[best] = 0.0
    return shed
