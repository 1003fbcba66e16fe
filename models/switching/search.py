"""The search for the best switch plan: race some plans, change the best ones, repeat.

The race (`load_transfer/least_shedding.py`) gives every plan its least shedding and its cost by AC
power flow. A scenario is settled when its best plan feeds all and curtails nothing. The others go
on:

    exchanges   what one exchange makes of the best plans (`plans.py`) is raced, round by round
    walks       random walks over radial states by estimated cost (`walks/`) find plans to race

Walks are for radial settings, where the best plan costs more than CHEAP: so many operations may be
worth it that single exchanges stop short. In a meshed setting with few ties the plain plans are all
states, so starting from them enumerates. Elsewhere no optimum is promised.

With a limit of time or flows the search goes on until it strikes. Without a limit of time its steps
depend on nothing but the scenario: more flows continue the same search, so their answer is never
dearer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

import numpy as np

from feederguard.models.arrays import BoolArray, FloatArray
from feederguard.models.load_transfer import Scenarios
from feederguard.models.load_transfer.rules import cost_of_squares
from feederguard.models.load_transfer.scenario import Lost
from feederguard.models.network.graph import energised_buses
from feederguard.models.switching.budget import Budget
from feederguard.models.switching.plans import SwitchPlans
from feederguard.models.switching.racing import Found, race_for
from feederguard.models.switching.walks.walker import Walker
from feederguard.models.switching.walks.walking import walk_on
from feederguard.models.switching.whole_plans import plans_by_parts, settle_whole

__all__ = ["Found", "search_plans"]

ROUNDS = 4  # of exchanges
MANY = 1000
# Below, no more than three operations may be worth it: one exchange of a plain plan.
CHEAP = cost_of_squares(0.0, 5.0**2)


def search_plans(
    plans: SwitchPlans,
    scenarios: Scenarios,
    start: Sequence[BoolArray] | None = None,
    *,
    beam: int = 4,
    max_rounds: int | None = None,
    time_limit_s: float | None = None,
    max_flows: int | None = None,
) -> Found:
    """Return the best plan found for each scenario.

    start: per scenario the plans to begin with, (n_plan, n_branch) each and at least one; default
    the plain ones. With a start only exchanges are made. beam: how many plans of a round, by cost
    or its bound, are exchanged further; twice as many walks run at once. max_rounds: of exchanges
    or walks; a scenario ends earlier when rounds bring nothing new. Default: ROUNDS of exchanges
    and `walking.ROUNDS` of walks; with a limit, as many walks as it allows, and in a meshed setting
    as many exchanges. time_limit_s, max_flows: for each scenario;
    `walking.ESTIMATES_PER_FLOW` estimates count as one flow. The plans to begin with are all raced
    in any case. Raises ValueError when a limit is not positive.
    """
    limits = (time_limit_s, max_flows)
    if plans.setting.whole_loads:
        by_parts = plans_by_parts(plans), scenarios, start, beam, max_rounds
        return settle_whole(plans, scenarios, _search_within(*by_parts, limits))
    return _search_within(plans, scenarios, start, beam, max_rounds, limits)


def _search_within(
    plans: SwitchPlans,
    scenarios: Scenarios,
    start: Sequence[BoolArray] | None,
    beam: int,
    max_rounds: int | None,
    limits: tuple[float | None, int | None],
) -> Found:
    if not Budget(*limits).limited or len(scenarios) == 0:
        return _search(plans, scenarios, start, beam, max_rounds, Budget())
    parts = []
    for k in range(len(scenarios)):
        begin = None if start is None else start[k : k + 1]
        parts.append(_search(plans, scenarios[k : k + 1], begin, beam, max_rounds, Budget(*limits)))
    return Found(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Found)))


def _search(
    plans: SwitchPlans,
    scenarios: Scenarios,
    start: Sequence[BoolArray] | None,
    beam: int,
    max_rounds: int | None,
    budget: Budget,
) -> Found:
    """Search scenarios; a budget with limits is for the one scenario there is then."""
    n = len(scenarios)
    faults = [scenarios.lost(k) for k in range(n)]
    tried = [plans.plain(fault) for fault in faults] if start is None else list(start)
    found = Found.nothing(plans, [rows[0] for rows in tried])
    # All of them, whatever the limits are: proofs take it that the plain plans were raced.
    costs = race_for(plans, scenarios, found, dict(enumerate(tried)), Budget())
    budget.spend(int(found.n_flows.sum()))
    dark = ~energised_buses(plans.network, found.closed) & (scenarios.p_load + scenarios.p_gen > 0)
    costs_power = (dark | (found.shed > 0) | (found.curtail > 0)).any(axis=1)
    open_items = np.flatnonzero(costs_power & (max_rounds != 0))
    # A meshed setting whose every state was tried has nothing left to exchange.
    open_items = open_items[[len(tried[k]) < plans.n_states(faults[k]) for k in open_items]]
    walked = (found.cost[open_items] > CHEAP) & plans.setting.radial & (start is None)
    frontier = {k: _closest(tried[k], costs[k], beam) for k in open_items[~walked].tolist()}
    seen = {k: {row.tobytes() for row in tried[k]} for k in frontier}
    most = MANY if budget.limited and not plans.setting.radial else ROUNDS
    for _ in range(most if max_rounds is None else max_rounds):
        fresh = {k: _fresh(plans, faults[k], frontier[k], seen[k]) for k in frontier}
        fresh = {k: rows for k, rows in fresh.items() if len(rows)}
        if not fresh or not budget.allows(1):
            break
        costs = race_for(plans, scenarios, found, fresh, budget)
        frontier = {k: _closest(rows, costs[k], beam) for k, rows in fresh.items()}
    for k in open_items[walked].tolist():
        walker = Walker(plans, scenarios[k : k + 1])
        walk_on(walker, scenarios, found, k, 2 * beam, max_rounds, budget)
    return found


def _closest(rows: BoolArray, costs: FloatArray, beam: int) -> BoolArray:
    """Return the `beam` plans with the lowest costs or bounds, of those that were raced."""
    return rows[: len(costs)][np.argsort(costs, kind="stable")[:beam]]


def _fresh(plans: SwitchPlans, fault: Lost, frontier: BoolArray, seen: set[bytes]) -> BoolArray:
    """Return the neighbours of the frontier that were not tried yet, and note them as tried."""
    new: dict[bytes, BoolArray] = {}
    for closed in frontier:
        for row in plans.neighbours(fault, closed):
            key = row.tobytes()
            if key not in seen:
                new[key] = row
    seen.update(new)
    return np.array(list(new.values()), dtype=bool).reshape(len(new), plans.network.n_branch)
