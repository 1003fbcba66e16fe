"""Rounds of random walks for one scenario: walk, race the best states met, walk on from the best.

A round runs several walks. FRESH of them begin at plain plans, the next ones of them each time; the
others at the best states of the rounds before. Each round takes longer steps than the one before.
Estimates choose what is raced: the states not raced yet that may beat the best by AC power flow.
"""

from __future__ import annotations

from time import perf_counter

import numpy as np

from feederguard.models.arrays import BoolArray, FloatArray
from feederguard.models.load_transfer import Scenarios
from feederguard.models.switching.budget import Budget
from feederguard.models.switching.racing import Found, race_for
from feederguard.models.switching.walks.walker import Estimated, Walker

ROUNDS = 9  # where nothing limits them
PATIENCE = 3  # rounds that may bring nothing better
FRESH = 0.25  # of the walks begin at plain plans
# Steps of each walk: for each branch that may be operated, then more in each round.
FIRST_STEPS, MORE_STEPS, MOST_STEPS = 2, 1.5, 20_000
LEAST_STEPS = 250
FIRST_SLICE = 0.25  # of the first steps, where time is limited and their speed not known yet
HOT_FRESH = 0.3
HOT = (0.05, 0.2)
ESTIMATES_PER_FLOW = 10
ELITE = 64  # states remembered
STARTS = 16  # of them walks begin at
RACED = 16  # in one round
# An estimate may be so much too high for its state to be raced; TRUSTED are raced in any case.
DOUBT = 1.05
TRUSTED = 2


def walk_on(
    walker: Walker,
    scenarios: Scenarios,
    found: Found,
    k: int,
    n_walk: int,
    max_rounds: int | None,
    budget: Budget,
) -> None:
    """Improve what was found for scenario k by walks, until rounds or budget are spent."""
    rounds = _Rounds(walker, n_walk, budget)
    stop = max_rounds if max_rounds is not None else ROUNDS
    idle, turn = 0, 0
    while True:
        if not budget.limited and (turn >= stop or idle >= PATIENCE):
            break
        if max_rounds is not None and turn >= max_rounds:
            break
        if not rounds.walk(turn, found.closed[k]):
            break
        before = found.cost[k]
        rows = rounds.worth_racing(before)
        if len(rows):
            race_for(walker.plans, scenarios, found, {k: rows}, budget)
        idle = 0 if found.cost[k] < before * (1 - 1e-6) else idle + 1
        turn += 1
    found.n_flows[k] += walker.n_estimate // ESTIMATES_PER_FLOW


class _Rounds:
    """What the rounds of one scenario remember."""

    def __init__(self, walker: Walker, n_walk: int, budget: Budget) -> None:
        self._walker, self._n_walk, self._budget = walker, n_walk, budget
        plain = walker.plain()
        order = np.argsort(walker.estimates(plain), kind="stable")
        self._plain = plain[order]
        self._raced = {row.tobytes() for row in plain}
        self._elite = Estimated(plain[:0], np.zeros(0))
        self._step_s = 0.0  # seconds that a step of all walks takes

    def walk(self, turn: int, best: BoolArray) -> bool:
        """Run the walks of one round; return False where the budget does not allow them."""
        n_walk, budget = self._n_walk, self._budget
        first = max(FIRST_STEPS * self._walker.n_free, LEAST_STEPS)
        n_step = int(min(first * MORE_STEPS**turn, MOST_STEPS))
        if budget.slice_s() < np.inf:
            most = budget.slice_s() / self._step_s if self._step_s else FIRST_SLICE * first
            n_step = min(n_step, int(most))
        n_flows = n_walk * n_step / ESTIMATES_PER_FLOW
        if n_step < 1 or not budget.allows(n_flows):
            return False
        starts, hot = self._starts(turn, best)
        begin = perf_counter()
        met = self._walker.walk(starts, hot, n_step, turn * n_walk)
        self._step_s = (perf_counter() - begin) / n_step
        budget.spend(n_flows)
        self._remember(met)
        return True

    def _starts(self, turn: int, best: BoolArray) -> tuple[BoolArray, FloatArray]:
        n_walk, plain, elite = self._n_walk, self._plain, self._elite.closed
        n_fresh = n_walk if not len(elite) else max(1, int(FRESH * n_walk))
        starts = [plain[(turn * n_fresh + c) % len(plain)] for c in range(n_fresh)]
        hot = [HOT_FRESH] * n_fresh
        for c in range(n_fresh, n_walk):
            # Every other walk begins at the best, by estimate or by AC power flow.
            pick = c * 7 % min(len(elite), STARTS) if c % 2 else 0
            starts.append(best if c == n_fresh else elite[pick])
            hot.append(HOT[(c + turn) % len(HOT)])
        return np.array(starts, dtype=bool), np.array(hot)

    def _remember(self, met: Estimated) -> None:
        closed = np.concatenate([met.closed, self._elite.closed])
        cost = np.concatenate([met.cost, self._elite.cost])
        _, first = np.unique(np.packbits(closed, axis=1), axis=0, return_index=True)
        first = first[np.argsort(cost[first], kind="stable")][:ELITE]
        self._elite = Estimated(closed[first], cost[first])

    def worth_racing(self, cost: float) -> BoolArray:
        """Return the states to race against a cost, (n_state, n_branch), and note them as raced."""
        rows: list[BoolArray] = []
        for closed, estimate in zip(*self._elite, strict=True):
            if (estimate > DOUBT * cost and len(rows) >= TRUSTED) or len(rows) == RACED:
                break
            if closed.tobytes() not in self._raced:
                self._raced.add(closed.tobytes())
                rows.append(closed)
        return np.array(rows, dtype=bool).reshape(len(rows), self._elite.closed.shape[1])
