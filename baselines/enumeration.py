"""Every tie state tried with its AC-exact least shedding: the optimum of the paper setting.

With k ties there are 2^k states. The cost of one with N operations and dark load D is at least C_sw
N^2 + C_load (D / S_base)^2, which is its cost with nothing shed. So all states are first judged
with nothing shed, and an AC OPF is solved only for states whose bound lies below the best cost
found. Ipopt's optima are local. The report of a scenario says how many OPFs failed, and its bound
is then no higher than what those states could cost.
"""

from __future__ import annotations

import itertools
from time import perf_counter

import numpy as np

from feederguard.models.arrays import BoolArray
from feederguard.models.load_transfer import (
    Decisions,
    Report,
    Scenarios,
    Setting,
    judge,
    resolve_setting,
)
from feederguard.models.load_transfer.setting import refuse_whole_loads
from feederguard.models.load_transfer.shedding_opf import LeastSheddingSolver
from feederguard.models.network import Network
from feederguard.models.network.parallel import team_leads

MOST_TIES = 12


class TieEnumeration:
    """AC OPF for every state of the switchable branches that could be best; meshed settings only.

    Raises ValueError when the setting is radial or has more than MOST_TIES switchable branches.
    """

    name = "enumeration"

    def __init__(self, network: Network, setting: str | Setting) -> None:
        self.network = network
        self.setting = resolve_setting(network, setting)
        refuse_whole_loads(self.setting, "enumeration")
        self._switchable = self.setting.switchable_branches(network)
        self.ties = np.flatnonzero(self._switchable)
        if self.setting.radial or len(self.ties) > MOST_TIES:
            raise ValueError(
                f"enumeration tries every state of the switchable branches: {len(self.ties)} of "
                f"them in the {self.setting.name} setting of {network.name}; it takes meshed "
                f"settings of at most {MOST_TIES}"
            )
        self.reports: list[Report] = []
        self._least_shedding = LeastSheddingSolver(network, self.setting)

    def decide(self, scenarios: Scenarios) -> Decisions:
        """Return the best AC-feasible decision of each scenario."""
        answers = [self._decide_one(scenarios[k : k + 1]) for k in range(len(scenarios))]
        self.reports = [report for _, report in answers]
        return Decisions.join([decision for decision, _ in answers])

    def _decide_one(self, scenario: Scenarios) -> tuple[Decisions, Report]:
        begin = perf_counter()
        closed = self._states(scenario.failed_branches(self.network.n_branch)[0])
        n = len(closed)
        unshed = Decisions(closed, np.zeros((n, self.network.n_bus)))
        outcome = judge(self.network, scenario[np.zeros(n, dtype=np.int64)], unshed, self.setting)
        best_cost, best = np.inf, None
        solved, failed, unresolved = 0, 0, np.inf
        for k in np.argsort(outcome.cost, kind="stable").tolist():
            if outcome.cost[k] >= best_cost:
                break
            if outcome.safe[k]:
                best_cost, best = float(outcome.cost[k]), unshed[[k]]
                break
            solved += 1
            least = self._least_shedding.solve(scenario, closed[k])
            if not least.found:
                # A state that no OPF answered for may still be the best: its lower bound limits
                # what is proven.
                failed += 1
                unresolved = min(unresolved, float(outcome.cost[k]))
                continue
            decision = Decisions(closed[[k]], least.shed[None], least.curtail[None])
            judged = judge(self.network, scenario, decision, self.setting)
            if judged.safe[0] and judged.cost[0] < best_cost:
                best_cost, best = float(judged.cost[0]), decision
        if best is None:
            # The last resort: everything is shed.
            everything = np.ones((1, self.network.n_bus))
            best, best_cost = Decisions(closed[:1], everything, everything), np.nan
        note = f"{n} states, {solved} AC OPFs" + (f", {failed} of them failed" if failed else "")
        bound = min(best_cost, unresolved) if np.isfinite(best_cost) else -np.inf
        reason = "enumerated" if bound == best_cost else "enumerated but for failed OPFs"
        return best, Report(bound, reason, perf_counter() - begin, False, note)

    def _states(self, failed: BoolArray) -> BoolArray:
        lead = team_leads(self.network, self._switchable, ~failed)
        ties = self.ties[~failed[self.ties] & (lead[self.ties] == self.ties)]
        closed = np.tile(self.network.closed, (2 ** len(ties), 1))
        closed[:, failed] = False
        closed[:, ties] = np.array(
            list(itertools.product([False, True], repeat=len(ties)))
        ).reshape(2 ** len(ties), len(ties))
        return closed[:, lead]
