"""Random walks over radial switch states that cool down, by estimated cost alone; compiled.

A step exchanges branches once or twice (`plans.py`), joins a dark part, or opens a branch and
closes nothing. It is taken where the estimate (`rough_cost.py`) rises by no more than

    (1)  heat * best * ln(1 / u),   u uniform in (0, 1)

which is the rule of Metropolis; the heat falls from `hot` to COLD in equal ratios (simulated
annealing: Kirkpatrick, Gelatt and Vecchi, Science 220, 1983). Drawing u first tells what a state
may cost, so that most estimates end early. Half of the exchanges move an open point by a branch or
a few. Every walk keeps the best states that it met. Walks are numbered, and their numbers are their
seeds: the same walks give the same states.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit, prange

from feederguard.models.arrays import BoolArray, FloatArray, IntArray
from feederguard.models.power_flow.forest import find_forest, forest_room
from feederguard.models.switching.walks.rough_cost import Draw, estimate_shed, sweep_room

STAMP = "824e5ad0fad59b761c75920aeab9c9d9cc659151771038dfd24502bd5a7f9951"

COLD = 1e-3
OPENING = 0.03  # of the steps only open a branch
TWICE = 0.3  # of the exchanges are two at once
NEARBY = 0.5  # of the exchanges open a branch near the one they close
SETTLING = 4  # estimates of the first state, until its voltages stand
# States whose operations alone cost so much of the best cost are passed by.
TOO_DEAR = 2.0


class Walks(NamedTuple):
    """Where walks over one scenario begin, and what they may do."""

    closed: BoolArray  # (C, n_branch) where each begins, a forest
    hot: FloatArray  # (C,)
    seed: IntArray  # (C,)
    # Fields of `Draw`: a parallel loop takes no tuple within a tuple.
    p: FloatArray
    q: FloatArray
    g: FloatArray
    first: IntArray
    idle: BoolArray  # (n_branch,) from which operations are counted
    free: BoolArray  # (n_branch,) may be operated
    opens: BoolArray  # (n_branch,) may be opened with nothing closed


class Met(NamedTuple):
    """The best states that each walk met, in no order."""

    closed: BoolArray  # (C, n_kept, n_branch)
    cost: FloatArray  # (C, n_kept) estimates, inf where there are fewer states
    key: IntArray  # (C, n_kept)
    n_estimate: IntArray  # (C,)


class Place(NamedTuple):
    """Where a walk stands, and its buffers."""

    closed: BoolArray  # (n_branch,)
    trial: BoolArray  # (n_branch,)
    keys: IntArray  # (n_branch,) random; a state's key is the exclusive or of its operated ones
    open: IntArray  # (n_branch,) free open branches, the first of them in use
    loop: IntArray  # (n_branch,)
    state: IntArray  # (2,) number of operations and key of `trial`
    random: IntArray  # (1,) unsigned


@njit(cache=True, parallel=True, error_model="numpy")
def walk_all(feeder, rough, walks, n_step, met):
    """Take n_step steps in each walk; fill `met`."""
    for c in prange(walks.seed.shape[0]):
        _walk(feeder, rough, walks, c, n_step, met)


@njit(cache=True, error_model="numpy")
def estimate_all(feeder, rough, draw, closed, idle, cost):
    """Fill `cost` (n_state,) with the estimates of states (n_state, n_branch), forests."""
    room, forests = sweep_room(feeder.y_bus.shape[0]), forest_room(feeder)
    for s in range(closed.shape[0]):
        forest = find_forest(feeder, closed[s], forests)
        n = 0
        for b in range(closed.shape[1]):
            n += closed[s, b] != idle[b]
        for _ in range(SETTLING if s == 0 else 1):
            shed = estimate_shed(feeder, rough, draw, forest, room, np.inf)
        cost[s] = rough.per_shed * shed * shed + rough.per_operation * n * n


@njit(error_model="numpy")
def _walk(feeder, rough, walks, c, n_step, met):
    draw, free = Draw(walks.p, walks.q, walks.g, walks.first), walks.free
    place = _begin(walks, c)
    room, spare = sweep_room(feeder.y_bus.shape[0]), forest_room(feeder)
    forest = find_forest(feeder, place.closed, forest_room(feeder))
    shed = 0.0
    for _ in range(SETTLING):
        shed = estimate_shed(feeder, rough, draw, forest, room, np.inf)
    n, key = place.state[0], place.state[1]
    now = rough.per_shed * shed * shed + rough.per_operation * n * n
    best, n_estimate = now, SETTLING
    _keep(met, c, place.closed, now, key)
    n_open = _list_open(free, place)
    hot = walks.hot[c]
    for step in range(n_step):
        place.state[0], place.state[1] = n, key
        changed = _change(feeder, walks, forest, n_open, place)
        if changed and _uniform(place.random) < TWICE:
            halfway = find_forest(feeder, place.trial, spare)
            _change(feeder, walks, halfway, n_open, place)
        cost, limit = np.inf, now
        operations = rough.per_operation * place.state[0] ** 2
        if changed and operations < TOO_DEAR * best:
            heat = hot * (COLD / hot) ** (step / n_step)
            limit = now - heat * best * np.log(_uniform(place.random))
        if limit > operations and changed:
            other = find_forest(feeder, place.trial, spare)
            most = np.sqrt((limit - operations) / rough.per_shed)
            shed = estimate_shed(feeder, rough, draw, other, room, most)
            n_estimate += 1
            cost = rough.per_shed * shed * shed + operations
            if cost <= limit:
                spare, forest = forest, other
                now, n, key = cost, place.state[0], place.state[1]
                place.closed[:] = place.trial
                n_open = _list_open(free, place)
                best = min(best, cost)
                _keep(met, c, place.closed, cost, key)
        if not cost <= limit:
            place.trial[:] = place.closed
    met.n_estimate[c] = n_estimate


@njit
def _begin(walks, c):
    """Return the place where walk c begins."""
    n_branch = walks.closed.shape[1]
    random = np.full(1, 88172645463325252)
    place = Place(
        walks.closed[c].copy(),
        walks.closed[c].copy(),
        np.empty(n_branch, np.int64),
        np.empty(n_branch, np.int64),
        np.empty(n_branch, np.int64),
        np.zeros(2, np.int64),
        random,
    )
    # The same keys in every walk, so that walks over one scenario can be put together.
    for k in range(n_branch):
        place.keys[k] = _next(random)
    random[0] ^= 7919 * (walks.seed[c] + 1)
    for _ in range(10):
        _next(random)
    for k in range(n_branch):
        if place.closed[k] != walks.idle[k]:
            place.state[0] += 1
            place.state[1] ^= place.keys[k]
    return place


@njit
def _list_open(free, place):
    """List the free open branches of `closed`; return how many there are."""
    n_open = 0
    for b in range(free.shape[0]):
        if free[b] and not place.closed[b]:
            place.open[n_open] = b
            n_open += 1
    return n_open


@njit
def _change(feeder, walks, forest, n_open, place):
    """Change `trial`, whose forest this is, by a random exchange; return whether that was done."""
    free = walks.free
    if n_open == 0 or _uniform(place.random) < OPENING:
        m = int(_uniform(place.random) * free.shape[0])
        if not (free[m] and place.trial[m] and walks.opens[m]):
            return False
        _toggle(walks.idle, m, place)
        return True
    t = place.open[int(_uniform(place.random) * n_open)]
    if place.trial[t]:
        return False
    i, j = forest.place[feeder.from_bus[t]], forest.place[feeder.to_bus[t]]
    if i < 0 and j < 0:
        return False
    if i >= 0 and j >= 0:
        m = _branch_of_loop(free, forest, i, j, place)
        if m < 0:
            return False
        _toggle(walks.idle, m, place)
    _toggle(walks.idle, t, place)
    return True


@njit
def _branch_of_loop(free, forest, i, j, place):
    """Return a random free branch of the loop that joining places i and j makes, -1 for none."""
    n_branch, n_left, right = free.shape[0], 0, free.shape[0]
    loop, parent, branch = place.loop, forest.parent, forest.branch
    # Places grow outwards: the later of two is not the nearer one to a root.
    while i != j:
        if i > j:
            if parent[i] < 0:
                break
            if free[branch[i]]:
                loop[n_left] = branch[i]
                n_left += 1
            i = parent[i]
        else:
            if parent[j] < 0:
                break
            if free[branch[j]]:
                right -= 1
                loop[right] = branch[j]
            j = parent[j]
    n_right = n_branch - right
    if n_left + n_right == 0:
        return -1
    u = _uniform(place.random)
    if u >= NEARBY:
        pick = int(_uniform(place.random) * (n_left + n_right))
        return loop[pick] if pick < n_left else loop[right + pick - n_left]
    reach = 1 + int(3.0 * _uniform(place.random) ** 2)
    if n_right == 0 or (u < 0.5 * NEARBY and n_left):
        return loop[min(reach, n_left) - 1]
    return loop[n_branch - min(reach, n_right)]


@njit
def _toggle(idle, b, place):
    """Change branch b of `trial`, and the number of operations and the key with it."""
    place.trial[b] = not place.trial[b]
    place.state[0] += 1 if place.trial[b] != idle[b] else -1
    place.state[1] ^= place.keys[b]


@njit
def _keep(met, c, closed, cost, key):
    """Keep a state of walk c among its best, unless it is there."""
    worst = 0
    for t in range(met.cost.shape[1]):
        if met.key[c, t] == key and met.cost[c, t] < np.inf:
            met.cost[c, t] = min(met.cost[c, t], cost)
            return
        if met.cost[c, t] > met.cost[c, worst]:
            worst = t
    if cost < met.cost[c, worst]:
        met.closed[c, worst] = closed
        met.cost[c, worst] = cost
        met.key[c, worst] = key


@njit
def _next(random):
    """Return the next number of a xorshift generator (Marsaglia, J. Stat. Software 8(14), 2003)."""
    x = np.uint64(random[0])
    x ^= x << np.uint64(13)
    x ^= x >> np.uint64(7)
    x ^= x << np.uint64(17)
    random[0] = np.int64(x)
    return random[0]


@njit
def _uniform(random):
    return ((_next(random) >> 11) & 0x1FFFFFFFFFFFFF) / 9007199254740992.0
