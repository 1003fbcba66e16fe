"""The search for the best switch plan: race some plans, exchange branches of the best, repeat.

The race (`load_transfer/least_shedding.py`) gives every plan its least shedding and its cost by AC
power flow. A scenario is settled when its best plan feeds all and curtails nothing. The others go
on with what one exchange makes of their best plans (`plans.py`). In a meshed setting with few ties
the plain plans are all states, so starting from them enumerates. Elsewhere this is a beam search
and promises no optimum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from feederguard.models.arrays import BoolArray, FloatArray, IntArray
from feederguard.models.load_transfer import Decisions, Scenarios
from feederguard.models.load_transfer.least_shedding import Candidates, Race, race_topologies
from feederguard.models.load_transfer.scenario import Lost
from feederguard.models.network.graph import energised_buses
from feederguard.models.switching.plans import SwitchPlans


@dataclass(eq=False)
class Found:
    """The best plan found for each scenario.

    Where none can be made safe: its first plan, with everything shed.
    """

    closed: BoolArray  # (B, n_branch)
    shed: FloatArray  # (B, n_bus) fractions
    curtail: FloatArray  # (B, n_bus) fractions of generation
    cost: FloatArray  # (B,) inf where no plan tried can be made safe
    n_flows: IntArray  # (B,) AC power flows spent
    active: BoolArray  # (B, n_limit) limits that were broken while the plan's shedding was sought

    @property
    def decisions(self) -> Decisions:
        """The plans as decisions."""
        return Decisions(self.closed, self.shed, self.curtail)

    def take_over(self, items: IntArray, other: Found) -> None:
        """Take over what another search found for these items; its power flows are added."""
        for name in ("closed", "shed", "curtail", "cost"):
            getattr(self, name)[items] = getattr(other, name)
        self.n_flows[items] += other.n_flows
        self.active[items] |= other.active


def search_plans(
    plans: SwitchPlans,
    scenarios: Scenarios,
    start: Sequence[BoolArray] | None = None,
    *,
    beam: int = 4,
    max_rounds: int = 4,
) -> Found:
    """Return the best plan found for each scenario.

    start: per scenario the plans to begin with, (n_plan, n_branch) each and at least one; default
    the plain ones. beam: how many plans of a round, by cost or its bound, are exchanged further.
    max_rounds: of exchanges; a scenario ends earlier when a round brings nothing new.
    """
    network, n = plans.network, len(scenarios)
    faults = [scenarios.lost(k) for k in range(n)]
    tried = [plans.plain(fault) for fault in faults] if start is None else list(start)
    raced = _race(plans, scenarios, tried, None)
    first = np.array([rows[0] for rows in tried], dtype=bool).reshape(n, network.n_branch)
    found = Found(
        first,
        np.ones((n, network.n_bus)),
        np.zeros((n, network.n_bus)),
        np.full(n, np.inf),
        np.zeros(n, np.int64),
        np.zeros((n, raced.race.active.shape[1]), dtype=bool),
    )
    _take(found, np.arange(n), raced)
    dark = ~energised_buses(network, found.closed) & (scenarios.p_load + scenarios.p_gen > 0)
    costs_power = (dark | (found.shed > 0) | (found.curtail > 0)).any(axis=1)
    open_items = np.flatnonzero(costs_power & (max_rounds > 0))
    # A meshed setting whose every state was tried has nothing left to exchange.
    open_items = open_items[[len(tried[k]) < plans.n_states(faults[k]) for k in open_items]]
    seen = {k: {row.tobytes() for row in tried[k]} for k in open_items.tolist()}
    frontier = {k: raced.closest(k, beam) for k in open_items.tolist()}
    for _ in range(max_rounds):
        fresh = {k: _fresh(plans, faults[k], frontier[k], seen[k]) for k in frontier}
        fresh = {k: rows for k, rows in fresh.items() if len(rows)}
        if not fresh:
            break
        items = np.array(list(fresh))
        raced = _race(plans, scenarios[items], list(fresh.values()), found.cost[items])
        _take(found, items, raced)
        frontier = {k: raced.closest(i, beam) for i, k in enumerate(fresh)}
    return found


@dataclass(frozen=True, eq=False)
class _Raced:
    candidates: Candidates
    race: Race

    def closest(self, k: int, beam: int) -> BoolArray:
        """Return the `beam` plans of scenario k with the lowest costs or bounds."""
        rows = slice(self.candidates.first[k], self.candidates.first[k + 1])
        order = np.argsort(self.race.cost[rows], kind="stable")[:beam]
        return self.candidates.closed[rows][order]


def _race(
    plans: SwitchPlans, scenarios: Scenarios, tried: Sequence[BoolArray], cutoff: FloatArray | None
) -> _Raced:
    first = np.concatenate([[0], np.cumsum([len(rows) for rows in tried])]).astype(np.int64)
    candidates = Candidates(
        first, np.concatenate([*tried, np.zeros((0, plans.network.n_branch), dtype=bool)])
    )
    return _Raced(
        candidates,
        race_topologies(plans.network, scenarios, candidates, plans.setting, cutoff=cutoff),
    )


def _take(found: Found, items: IntArray, raced: _Raced) -> None:
    """Take over the winners of a race that beat what these items have."""
    race = raced.race
    found.n_flows[items] += np.bincount(raced.candidates.scenario, race.n_flows, len(items)).astype(
        np.int64
    )
    won = np.flatnonzero(race.winner >= 0)
    row, item = race.winner[won], items[won]
    found.cost[item] = race.cost[row]
    found.closed[item] = raced.candidates.closed[row]
    found.shed[item] = race.shed[won]
    found.curtail[item] = race.curtail[won]
    found.active[item] = race.active[row]


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
