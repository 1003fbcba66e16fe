"""Compiled search for the cheapest safe decision among topologies, each with least shedding.

For one topology with AC voltages V at the shed fractions s:

    (1)  value of limit k       g_k(x),  x = (w, P, ell, y) of the AC state, g_k linear
    (2)  its sensitivity        G_ki = d g_k / d s_i = lambda_k,i . conj((p_i + j q_i) / V_i)
    (3)  adjoint                Y' lambda_k = d g_k / d V,  Y the linearised nodal matrix
    (4)  least shedding         min sum of p_i s_i   s.t.  every cut so far,  floor_i <= s_i <= 1
         cut (k, s0)            g_k(s0) + sum of G_ki (s_i - s0_i) <= u_k

The transpose of a nodal matrix in real form belongs to the same network, with conjugate impedances
and transposed bus terms T. So the tree sweep of the power flow solves (3), loops included. (4) is
solved by `bounded_simplex.py`. Cuts of earlier rounds are kept (Kelley, J. SIAM 8(4), 1960). Losses
make the limits convex in s where power flows towards the loads, so the value of (4) bounds the
least shedding from below. The least shedding often splits a little between many loads, while a
vertex of (4) sheds all or nothing of most: vertices jump about it, and which one comes next hangs
on last digits. So from round HALF_WAY on a step goes only half the way to the vertex. The shed
power then is a mean of lower bounds, so what is safe is still least. From round ONLY_MORE on an
item sheds only ever more, which ends it.

Each topology gets one round first. Then the one with the lowest bound is finished, and so on until
no bound is below the best cost found.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit, prange

from feederguard.models.arrays import BoolArray, FloatArray, IntArray
from feederguard.models.load_transfer.ac_state import (
    Limits,
    LimitState,
    limit_columns,
    limit_excess,
    limit_state,
)
from feederguard.models.load_transfer.bounded_simplex import shed_least
from feederguard.models.load_transfer.shedding import net_after_shedding
from feederguard.models.load_transfer.shedding_cuts import MAX_CUTS, MAX_NEW, add_cuts, choose_rows
from feederguard.models.power_flow.forest import (
    Answer,
    Feeder,
    Forest,
    Work,
    answer_room,
    collect_shunts,
    find_forest,
    forest_room,
    work_room,
)
from feederguard.models.power_flow.newton_sweep import solve_item

STAMP = "dcdd0e7a07f6eed806ba7ba533a6c318500ac72a1d267c4e1e951609a5f92def"

MAX_ROUNDS = 25
HALF_WAY = 3
ONLY_MORE = 16
# What became of a candidate.
SKIPPED, BOUNDED, SAFE, UNSAFE = range(4)


class Batch(NamedTuple):
    """Scenarios and their candidates: scenario b has the candidates first[b]:first[b + 1]."""

    p_load: FloatArray  # (B, n_bus)
    q_load: FloatArray  # (B, n_bus)
    p_gen: FloatArray  # (B, n_bus)
    floor: FloatArray  # (B, n_bus) least shed fractions
    cutoff: FloatArray  # (B,) costs to beat
    first: IntArray  # (B + 1,)
    closed: BoolArray  # (K, n_branch)
    fixed_cost: FloatArray  # (K,) cost of the candidate without shedding


class Aims(NamedTuple):
    """What a search works towards."""

    load_cost: FloatArray  # (3,) polynomial of the cost in total shed power, pu
    flow_tolerance: float  # of AC flows, pu
    tolerance: float  # of limits
    finish_all: bool  # finish every candidate, bounds or not


class Found(NamedTuple):
    """What a search writes."""

    winner: IntArray  # (B,) candidate, -1 where none is safe and beats the cutoff
    shed: FloatArray  # (B, n_bus) shed fractions of the winner
    cost: FloatArray  # (K,) a bound where the status is BOUNDED
    n_flow: IntArray  # (K,) flows spent
    status: IntArray  # (K,)
    active: BoolArray  # (K, n_limit) limits that were broken on the way


class Case(NamedTuple):
    """One candidate of one scenario."""

    feeder: Feeder
    limits: Limits
    p_load: FloatArray  # (n_bus,)
    q_load: FloatArray  # (n_bus,)
    p_gen: FloatArray  # (n_bus,)
    closed: BoolArray  # (n_branch,)


class Room(NamedTuple):
    """Buffers of one thread."""

    forest: Forest
    work: Work
    answer: Answer  # of one item
    limit: LimitState
    cuts: FloatArray  # (MAX_CUTS, n_bus) of (4), by position
    right: FloatArray  # (MAX_CUTS,)
    rows: IntArray  # (MAX_NEW,) limits linearised in a round
    trial: FloatArray  # (n_bus,) shed fractions tried
    low: FloatArray  # (n_bus,) lower bounds of (4)


@njit(cache=True, parallel=True, error_model="numpy")
def race(feeder, limits, batch, aims, n_chunk, found):
    """Find for each scenario the cheapest safe candidate and its least shedding; fill `found`."""
    n_scenario = batch.p_load.shape[0]
    for chunk in prange(n_chunk):
        first, last = chunk * n_scenario // n_chunk, (chunk + 1) * n_scenario // n_chunk
        _race_some(feeder, limits, batch, aims, first, last, found)


@njit(error_model="numpy")
def _race_some(feeder, limits, batch, aims, first, last, found):
    """Race the candidates of the scenarios from `first` to before `last`."""
    n_bus = batch.p_load.shape[1]
    room = Room(
        forest_room(feeder),
        work_room(feeder),
        answer_room(feeder),
        limit_state(limits),
        np.zeros((MAX_CUTS, n_bus)),
        np.zeros(MAX_CUTS),
        np.empty(MAX_NEW, np.int64),
        np.empty(n_bus),
        np.empty(n_bus),
    )
    for b in range(first, last):
        best = batch.cutoff[b]
        found.winner[b] = -1
        # One round for all first; then whole runs, the lowest bound first. `_run` is called in one
        # place, since every call of it is compiled in place.
        k, screening = batch.first[b], not aims.finish_all
        while True:
            if not screening and not aims.finish_all:
                k = _lowest_bound(batch.first[b], batch.first[b + 1], best, found)
                if k < 0:
                    break
            elif k == batch.first[b + 1]:
                if aims.finish_all:
                    break
                screening = False
                continue
            elif batch.fixed_cost[k] >= best:
                k += 1
                continue
            case = Case(
                feeder, limits, batch.p_load[b], batch.q_load[b], batch.p_gen[b], batch.closed[k]
            )
            n_round = 1 if screening else MAX_ROUNDS
            for i in range(n_bus):
                room.trial[i] = room.low[i] = batch.floor[b, i]
            cost = _run(case, aims, batch.fixed_cost[k], k, n_round, best, room, found)
            if cost < best:
                best = cost
                found.winner[b] = k
                for i in range(n_bus):
                    found.shed[b, i] = room.trial[i]
            k += 1


@njit(error_model="numpy")
def _lowest_bound(first, last, best, found):
    """Return the unfinished candidate with the lowest bound below `best`, -1 for none."""
    k = -1
    for other in range(first, last):
        if (
            found.status[other] == BOUNDED
            and found.cost[other] < best
            and (k < 0 or found.cost[other] < found.cost[k])
        ):
            k = other
    return k


@njit(error_model="numpy")
def _run(case, aims, fixed_cost, k, n_round, best, room, found):
    """Give candidate k up to n_round rounds; return its cost if it is safe, else infinity.

    Starts at the shed fractions `room.trial`. Stops once the bound of the cost reaches `best`.
    """
    forest = find_forest(case.feeder, case.closed, room.forest)
    if case.feeder.any_branch_shunt:
        collect_shunts(case.feeder, case.closed, room.work.shunt)
    dark = 0.0
    for i in range(case.p_load.shape[0]):
        if forest.place[i] < 0:
            dark += case.p_load[i]
    status, cost, n_cut = found.status, found.cost, 0
    status[k] = UNSAFE
    cost[k] = np.inf
    for turn in range(n_round):
        live = _load(case, forest, room)
        found.n_flow[k] += 1
        iterations = solve_item(
            case.feeder, forest, room.work, 0, aims.flow_tolerance, 20, room.answer
        )
        if iterations < 0:
            # No state to linearise at: shed half of what is left.
            if _shed_half(room.trial):
                status[k] = UNSAFE
                return np.inf
            status[k] = BOUNDED
            cost[k] = fixed_cost + _polynomial(aims.load_cost, dark)
            continue
        limit_columns(case.feeder, case.limits, forest, case.closed, room.answer, room.limit.x)
        if limit_excess(case.limits, forest, room.limit) <= aims.tolerance:
            status[k] = SAFE
            cost[k] = fixed_cost + _polynomial(aims.load_cost, dark + live)
            return cost[k]
        n_new = choose_rows(room.limit.excess, aims.tolerance, found.active[k], room.rows)
        n_cut = add_cuts(case, forest, room, n_new, n_cut)
        if turn >= ONLY_MORE:
            room.low[:] = room.trial
        share = 0.5 if HALF_WAY <= turn < ONLY_MORE else 1.0
        cuts, right = room.cuts[:n_cut, : forest.n_live], room.right[:n_cut]
        moved, live = shed_least(forest, cuts, right, case.p_load, room.low, share, room.trial)
        status[k] = BOUNDED
        cost[k] = fixed_cost + _polynomial(aims.load_cost, dark + live)
        if cost[k] >= best:
            return np.inf
        if not moved:
            # Linearised, nothing more can be done.
            break
    if n_round > 1:
        status[k] = UNSAFE
    return np.inf


@njit(error_model="numpy")
def _load(case, forest, room):
    """Fill the demand at the shed fractions `room.trial`; return the power shed at live buses."""
    live, demand = 0.0, room.work.demand
    for k in range(forest.n_live):
        i = forest.order[k]
        live += case.p_load[i] * room.trial[i]
        demand[k, 0], demand[k, 1] = net_after_shedding(
            case.p_load[i], case.q_load[i], case.p_gen[i], room.trial[i]
        )
    return live


@njit(error_model="numpy")
def _shed_half(trial):
    """Shed half of what is left, all where little is; return whether all was shed before."""
    everything = True
    for i in range(trial.shape[0]):
        everything = everything and trial[i] == 1.0
        trial[i] = trial[i] + 0.5 * (1.0 - trial[i]) if trial[i] < 0.98 else 1.0
    return everything


@njit(error_model="numpy")
def _polynomial(coefficients, s):
    return coefficients[0] + s * (coefficients[1] + s * coefficients[2])
