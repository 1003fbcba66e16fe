"""Compiled search for the cheapest safe decision among topologies, each with least shedding.

For one topology with AC voltages V at the shed fractions s:

    (1)  value of limit k       g_k(x),  x = (w, P, ell, y) of the AC state, g_k linear
    (2)  its sensitivity        G_ki = d g_k / d s_i = lambda_k,i . conj((p_i + j q_i) / V_i)
    (3)  adjoint                Y' lambda_k = d g_k / d V,  Y the linearised nodal matrix
    (4)  least shedding         min sum of c_i s_i   s.t.  every cut so far,  floor_i <= s_i <= 1
         cut (k, s0)            g_k(s0) + sum of G_ki (s_i - s0_i) <= u_k

The fractions s_i are those of loads shed, at the price c_i = priority p_i, and of generation
curtailed, at CURTAIL_WEIGHT g_i with (p_i, q_i) = (-g_i, 0) in (2): see `rules.py`.

The transpose of a nodal matrix in real form belongs to the same network, with conjugate impedances
and transposed bus terms T. So the tree sweep of the power flow solves (3), loops included. (4) is
solved by `bounded_simplex.py`. Cuts of earlier rounds are kept (Kelley, J. SIAM 8(4), 1960). Losses
make the limits convex in s where power flows towards the loads, so the value of (4) bounds the
least shedding from below. The least shedding often splits a little between many loads, while a
vertex of (4) sheds all or nothing of most: vertices jump about it, and which one comes next hangs
on last digits. So from round HALF_WAY on a step goes only half the way to the vertex. The shed
power then is a mean of lower bounds, so what is safe is still least. From round ONLY_MORE on an
item sheds only ever more, which ends it.

Generation bends the limits the other way: cuts of earlier rounds may then cut off the optimum. So
where a live bus generates, a safe state is a new start: every limit that was ever broken is
linearised there, the earlier cuts go, and so on until a safe state is no cheaper than the one
before. The value of (4) then bounds nothing for sure; a candidate is dropped only where TRUST times
what it sheds is already too dear.

Each topology gets one round first. Then the one with the lowest bound is finished, and so on until
no bound is below the best cost found.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit, prange

from feederguard.models.arrays import BoolArray, FloatArray, IntArray, inner
from feederguard.models.load_transfer.ac_state import (
    Limits,
    LimitState,
    limit_columns,
    limit_excess,
    limit_state,
)
from feederguard.models.load_transfer.bounded_simplex import shed_least
from feederguard.models.load_transfer.shedding import net_after_shedding
from feederguard.models.load_transfer.shedding_cuts import (
    MAX_CUTS,
    add_cuts,
    choose_all_rows,
    choose_rows,
)
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

STAMP = "453f489043cea3f9dc1e1ddf5d6189652787083c8dfc3b90cc12c14e2c909df6"

MAX_ROUNDS = 25
HALF_WAY = 3
ONLY_MORE = 16
TRUST = 0.8  # of the linearised least shedding, where generation makes it no bound
LEAST_GAIN = 1e-7  # of the cost, for which a safe state is improved on
# What became of a candidate.
SKIPPED, BOUNDED, SAFE, UNSAFE = range(4)


class Batch(NamedTuple):
    """Scenarios and their candidates: scenario b has the candidates first[b]:first[b + 1]."""

    p_load: FloatArray  # (B, n_bus)
    q_load: FloatArray  # (B, n_bus)
    p_gen: FloatArray  # (B, n_bus)
    floor: FloatArray  # (B, n_bus) least shed fractions
    weight: FloatArray  # (n_bus,) price of shed power
    curtail_weight: float  # price of curtailed power
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
    curtail: FloatArray  # (B, n_bus) curtailed fractions of the winner
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
    """Buffers of one thread.

    Places of levers: the load of bus i at i, its generation at n_bus + i.
    """

    forest: Forest
    work: Work
    answer: Answer  # of one item
    limit: LimitState
    cuts: FloatArray  # (MAX_CUTS, 2 n_bus) of (4), by column
    right: FloatArray  # (MAX_CUTS,)
    rows: IntArray  # (MAX_CUTS,) limits linearised in a round
    levers: IntArray  # (2 n_bus,) place of each column of (4)
    n_lever: IntArray  # (1,) columns in use
    price: FloatArray  # (2 n_bus,) of each lever, 0 where it moves nothing
    trial: FloatArray  # (2 n_bus,) fractions tried
    kept: FloatArray  # (2 n_bus,) fractions of the best safe state
    low: FloatArray  # (2 n_bus,) lower bounds of (4)


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
    room = _room(feeder, limits, n_bus)
    for b in range(first, last):
        best = batch.cutoff[b]
        found.winner[b] = -1
        for i in range(n_bus):
            room.price[i] = batch.weight[i] * batch.p_load[b, i] if batch.p_load[b, i] > 0 else 0.0
            room.price[n_bus + i] = max(batch.curtail_weight * batch.p_gen[b, i], 0.0)
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
                room.trial[n_bus + i] = room.low[n_bus + i] = 0.0
            cost = _run(case, aims, batch.fixed_cost[k], k, n_round, best, room, found)
            if cost < best:
                best = cost
                found.winner[b] = k
                for i in range(n_bus):
                    found.shed[b, i] = room.trial[i]
                    found.curtail[b, i] = room.trial[n_bus + i]
            k += 1


@njit(cache=True, error_model="numpy")
def cuts_at(case, aims, price, trial, broken):
    """Return the largest excess of a limit at the fractions `trial`, inf without a power flow.

    And the levers of the live buses, with the cuts of the limits most broken there, (n_cut,
    n_lever) and (n_cut,). price, trial: (2 n_bus,). broken: (n_limit,) is marked where a limit is
    broken.
    """
    room = _room(case.feeder, case.limits, case.p_load.shape[0])
    room.price[:], room.trial[:] = price, trial
    forest = find_forest(case.feeder, case.closed, room.forest)
    if case.feeder.any_branch_shunt:
        collect_shunts(case.feeder, case.closed, room.work.shunt)
    _list_levers(case, forest, room)
    _load(case, forest, room)
    levers = room.levers[: room.n_lever[0]].copy()
    worst, n_cut = np.inf, 0
    if solve_item(case.feeder, forest, room.work, 0, aims.flow_tolerance, 20, room.answer) >= 0:
        limit_columns(case.feeder, case.limits, forest, case.closed, room.answer, room.limit.x)
        worst = limit_excess(case.limits, forest, room.limit)
        n_new = choose_rows(room.limit.excess, aims.tolerance, broken, room.rows)
        n_cut = add_cuts(case, forest, room, n_new, 0)
    return worst, levers, room.cuts[:n_cut, : len(levers)].copy(), room.right[:n_cut].copy()


@njit(error_model="numpy")
def _room(feeder, limits, n_bus):
    """Return the buffers of one thread."""
    return Room(
        forest_room(feeder),
        work_room(feeder),
        answer_room(feeder),
        limit_state(limits),
        np.zeros((MAX_CUTS, 2 * n_bus)),
        np.zeros(MAX_CUTS),
        np.empty(MAX_CUTS, np.int64),
        np.empty(2 * n_bus, np.int64),
        np.zeros(1, np.int64),
        np.zeros(2 * n_bus),
        np.zeros(2 * n_bus),
        np.zeros(2 * n_bus),
        np.zeros(2 * n_bus),
    )


@inner()
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
    dark = _list_levers(case, forest, room)
    levers = room.levers[: room.n_lever[0]]
    refine = len(levers) > forest.n_live
    status, cost, n_cut, safe_cost = found.status, found.cost, 0, np.inf
    status[k], cost[k] = BOUNDED, fixed_cost + _polynomial(aims.load_cost, dark)
    if cost[k] >= best:
        return np.inf
    status[k], cost[k] = UNSAFE, np.inf
    for turn in range(n_round):
        live = _load(case, forest, room)
        found.n_flow[k] += 1
        iterations = solve_item(
            case.feeder, forest, room.work, 0, aims.flow_tolerance, 20, room.answer
        )
        if iterations < 0:
            # No state to linearise at: shed half of what is left.
            if safe_cost < np.inf or _shed_half(room.trial):
                status[k] = UNSAFE
                break
            status[k], cost[k] = BOUNDED, fixed_cost + _polynomial(aims.load_cost, dark)
            continue
        limit_columns(case.feeder, case.limits, forest, case.closed, room.answer, room.limit.x)
        if limit_excess(case.limits, forest, room.limit) <= aims.tolerance:
            now = fixed_cost + _polynomial(aims.load_cost, dark + live)
            gained = safe_cost - now
            if gained > 0:
                safe_cost = now
                room.kept[:] = room.trial
            if not refine or turn == 0 or not gained > LEAST_GAIN * now:
                break
            n_cut = 0
        afresh = safe_cost < np.inf and n_cut == 0
        n_cut = _linearise_limits(case, aims, forest, room, found.active[k], n_cut, afresh)
        if turn >= ONLY_MORE and not safe_cost < np.inf:
            room.low[:] = room.trial
        share = 0.5 if HALF_WAY <= turn < ONLY_MORE else 1.0
        cuts, right = room.cuts[:n_cut, : len(levers)], room.right[:n_cut]
        moved, live = shed_least(levers, cuts, right, room.price, room.low, share, room.trial)
        trusted = TRUST * live if refine else live
        status[k], cost[k] = BOUNDED, fixed_cost + _polynomial(aims.load_cost, dark + trusted)
        if cost[k] >= best:
            return np.inf
        if not moved:
            # Linearised, nothing more can be done.
            break
    if safe_cost < np.inf:
        status[k], cost[k] = SAFE, safe_cost
        room.trial[:] = room.kept
        return safe_cost
    if n_round > 1:
        status[k] = UNSAFE
    return np.inf


@njit(error_model="numpy")
def _linearise_limits(case, aims, forest, room, broken, n_cut, afresh):
    """Add the cuts of broken limits to n_cut earlier ones; return how many there are then.

    afresh: add those of all limits ever broken, (n_limit,) `broken`.
    """
    excess = room.limit.excess
    if afresh:
        n_new = choose_all_rows(excess, aims.tolerance, broken, room.rows)
    else:
        n_new = choose_rows(excess, aims.tolerance, broken, room.rows)
    return add_cuts(case, forest, room, n_new, n_cut)


@inner()
def _list_levers(case, forest, room):
    """List the levers of the live buses: all loads, and what generates; return the price of dark.

    The price of what is dark is that of all its levers.
    """
    n_bus, n_lever, dark = case.p_load.shape[0], forest.n_live, 0.0
    for k in range(forest.n_live):
        room.levers[k] = forest.order[k]
    for k in range(forest.n_live):
        generation = n_bus + forest.order[k]
        if room.price[generation] > 0:
            room.levers[n_lever] = generation
            n_lever += 1
    for i in range(n_bus):
        if forest.place[i] < 0:
            dark += room.price[i] + room.price[n_bus + i]
    room.n_lever[0] = n_lever
    return dark


@inner()
def _load(case, forest, room):
    """Fill the demand at the fractions `room.trial`; return the price of them at live buses."""
    live, demand, n_bus = 0.0, room.work.demand, case.p_load.shape[0]
    for k in range(forest.n_live):
        i = forest.order[k]
        live += room.price[i] * room.trial[i] + room.price[n_bus + i] * room.trial[n_bus + i]
        demand[k, 0], demand[k, 1] = net_after_shedding(
            case.p_load[i], case.q_load[i], case.p_gen[i], room.trial[i], room.trial[n_bus + i]
        )
    return live


@inner()
def _shed_half(trial):
    """Shed half of what is left, all where little is; return whether all was shed before."""
    everything = True
    for i in range(trial.shape[0]):
        everything = everything and trial[i] == 1.0
        trial[i] = trial[i] + 0.5 * (1.0 - trial[i]) if trial[i] < 0.98 else 1.0
    return everything


@inner()
def _polynomial(coefficients, s):
    return coefficients[0] + s * (coefficients[1] + s * coefficients[2])
