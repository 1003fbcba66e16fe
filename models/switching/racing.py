"""Races of switch plans for a search, in slices where time or flows are limited.

What was found so far is the cutoff of every further race.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from feederguard.models.arrays import BoolArray, FloatArray, IntArray
from feederguard.models.load_transfer import Decisions, Scenarios
from feederguard.models.load_transfer.least_shedding import (
    Candidates,
    Race,
    limit_names,
    race_topologies,
)
from feederguard.models.switching.budget import Budget
from feederguard.models.switching.plans import SwitchPlans

AT_ONCE = 8  # plans in a slice


@dataclass(eq=False)
class Found:
    """The best plan found for each scenario.

    Where none can be made safe: its first plan, with everything shed.
    """

    closed: BoolArray  # (B, n_branch)
    shed: FloatArray  # (B, n_bus) fractions
    curtail: FloatArray  # (B, n_bus) fractions of generation
    cost: FloatArray  # (B,) inf where no plan tried can be made safe
    n_flows: IntArray  # (B,) AC power flows spent, estimates of walks counted as parts of one
    active: BoolArray  # (B, n_limit) limits that were broken while the plan's shedding was sought

    @classmethod
    def nothing(cls, plans: SwitchPlans, first: Sequence[BoolArray]) -> Found:
        """Return that nothing was found yet; first: (n_branch,) the first plan of each scenario."""
        n, network = len(first), plans.network
        return cls(
            np.array(first, dtype=bool).reshape(n, network.n_branch),
            np.ones((n, network.n_bus)),
            np.zeros((n, network.n_bus)),
            np.full(n, np.inf),
            np.zeros(n, np.int64),
            np.zeros((n, len(limit_names(network, plans.setting))), dtype=bool),
        )

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

    def take_winners(self, items: IntArray, candidates: Candidates, race: Race) -> None:
        """Take over the winners of a race of these items, which beat what they have."""
        self.n_flows[items] += np.bincount(candidates.scenario, race.n_flows, len(items)).astype(
            np.int64
        )
        won = np.flatnonzero(race.winner >= 0)
        row, item = race.winner[won], items[won]
        self.cost[item] = race.cost[row]
        self.closed[item] = candidates.closed[row]
        self.shed[item] = race.shed[won]
        self.curtail[item] = race.curtail[won]
        self.active[item] = race.active[row]


def race_for(
    plans: SwitchPlans,
    scenarios: Scenarios,
    found: Found,
    tried: dict[int, BoolArray],
    budget: Budget,
) -> dict[int, FloatArray]:
    """Race plans (n_plan, n_branch) of some scenarios against what was found; take over winners.

    Returns the costs or bounds of the plans raced, (n_raced,) for each scenario. A budget with
    limits is for one scenario, whose plans are raced slice by slice while it lasts. The first slice
    is always raced.
    """
    items = np.array(list(tried), dtype=np.int64)
    if budget.limited:
        (k,), rows, costs = tried, next(iter(tried.values())), []
        for begin in range(0, len(rows), AT_ONCE):
            part = rows[begin : begin + AT_ONCE]
            if begin and not budget.allows(2 * len(part)):
                break
            race = _race(plans, scenarios, found, items, [part])
            budget.spend(int(race.n_flows.sum()))
            costs.append(race.cost)
        return {k: np.concatenate([*costs, np.zeros(0)])}
    if not len(items):
        return {}
    race = _race(plans, scenarios, found, items, list(tried.values()))
    parts = np.split(race.cost, np.cumsum([len(rows) for rows in tried.values()])[:-1])
    return dict(zip(tried, parts, strict=True))


def _race(
    plans: SwitchPlans,
    scenarios: Scenarios,
    found: Found,
    items: IntArray,
    rows: list[BoolArray],
) -> Race:
    first = np.concatenate([[0], np.cumsum([len(part) for part in rows])]).astype(np.int64)
    candidates = Candidates(first, np.concatenate(rows))
    race = race_topologies(
        plans.network, scenarios[items], candidates, plans.setting, cutoff=found.cost[items]
    )
    found.take_winners(items, candidates, race)
    return race
