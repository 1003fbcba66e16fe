"""The unlearned competitor of the agents: it searches switch plans anew for every scenario.

It starts from the plain plans (`models/switching/plans.py`), gives each its least shedding by AC
power flow, and changes the best by exchanges and random walks (`models/switching/search.py`), until
rounds bring nothing better or a limit of time or flows strikes. A meshed setting of at most nine
ties has no more states than plain plans. Every state is then tried, and the answer is the
enumerated optimum by that least shedding. With generation the least shedding is a local optimum,
and the report says so and bounds nothing.
"""

from __future__ import annotations

from time import perf_counter

import numpy as np

from feederguard.models.load_transfer import Decisions, Report, Scenarios, Setting, resolve_setting
from feederguard.models.network import Network
from feederguard.models.switching.budget import Budget
from feederguard.models.switching.fallback import settle
from feederguard.models.switching.plans import SwitchPlans
from feederguard.models.switching.search import Found, search_plans

LOCAL = "every state tried, the least shedding of each a local optimum"


class PlanSearch:
    """The search on one network and setting; a report says whether every state was tried.

    beam, max_rounds, time_limit_s, max_flows: as `search_plans`, the last two for each scenario.
    Raises ValueError when beam is below 1, max_rounds negative or a limit not positive, and as
    `resolve_setting`.
    """

    name = "plan_search"

    def __init__(
        self,
        network: Network,
        setting: str | Setting,
        beam: int = 4,
        max_rounds: int | None = None,
        time_limit_s: float | None = None,
        max_flows: int | None = None,
    ) -> None:
        if beam < 1:
            raise ValueError(f"plan_search: beam is {beam}; exchange at least one plan a round")
        if max_rounds is not None and max_rounds < 0:
            raise ValueError(f"plan_search: max_rounds is {max_rounds}; it must be zero or more")
        self.plans = SwitchPlans(network, resolve_setting(network, setting))
        self.beam, self.max_rounds = beam, max_rounds
        Budget(time_limit_s, max_flows)
        self.time_limit_s, self.max_flows = time_limit_s, max_flows
        self.reports: list[Report] = []

    def decide(self, scenarios: Scenarios) -> Decisions:
        """Return the best plan found for each scenario.

        Where none can be made safe, all behind the fault stays dark
        (`models/switching/fallback.py`).
        """
        begin = perf_counter()
        found = search_plans(
            self.plans,
            scenarios,
            beam=self.beam,
            max_rounds=self.max_rounds,
            time_limit_s=self.time_limit_s,
            max_flows=self.max_flows,
        )
        settled = settle(self.plans, scenarios, found)
        seconds = (perf_counter() - begin) / max(len(scenarios), 1)
        self.reports = [
            self._report(scenarios[k : k + 1], found, k, seconds) for k in range(len(scenarios))
        ]
        return settled.decisions

    def _report(self, scenario: Scenarios, found: Found, k: int, seconds: float) -> Report:
        fault = scenario.lost(0)
        note = f"{found.n_flows[k]} AC power flows"
        if np.isinf(found.cost[k]):
            return Report(-np.inf, "no plan tried can be made safe", seconds, False, note)
        if len(self.plans.plain(fault)) < self.plans.n_states(fault):
            return Report(-np.inf, "searched", seconds, False, note)
        if self.plans.setting.whole_loads and found.shed[k].any():
            return Report(-np.inf, "searched", seconds, False, note)
        if scenario.p_gen.any():
            # With generation the least shedding of a state is a local optimum.
            return Report(-np.inf, LOCAL, seconds, False, note)
        return Report(float(found.cost[k]), "every state tried", seconds, False, note)
