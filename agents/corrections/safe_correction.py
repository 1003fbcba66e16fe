"""Our correction: any proposal becomes a safe decision, with the least extra shedding.

Where the proposed switches can be made safe, they stay. The least shedding is added to what the
proposal sheds (`models/load_transfer/least_shedding.py`).

Where they cannot be made safe, the cheapest safe plan takes their place. Tried are the plain plans
(`models/switching/plans.py`) and the plans one exchange away from the proposal.

Where no plan can be made safe, everything behind the fault stays dark. The rest is shed as far as
its own limits ask. The certificate then says `impossible`, and why.
"""

from __future__ import annotations

from time import perf_counter

import numpy as np

from feederguard.agents.corrections.certificate import Certificates, certify
from feederguard.models.arrays import BoolArray
from feederguard.models.load_transfer import (
    Decisions,
    Scenarios,
    Setting,
    check_decisions,
    resolve_setting,
)
from feederguard.models.load_transfer.least_shedding import least_shedding
from feederguard.models.network import Network
from feederguard.models.network.graph import energised_buses
from feederguard.models.network.parallel import has_loop
from feederguard.models.switching.fallback import settle
from feederguard.models.switching.plans import SwitchPlans
from feederguard.models.switching.search import Found, search_plans

BEAM, MAX_ROUNDS = 8, 4  # of the search where the proposal and its neighbours cannot be made safe


class SafeCorrection:
    """Makes decisions safe; a drop-in for the paper's correction in acting and in training.

    Raises as `resolve_setting`.
    """

    def __init__(self, network: Network, setting: str | Setting) -> None:
        self.network = network
        self.setting = resolve_setting(network, setting)
        self.plans = SwitchPlans(network, self.setting)

    def correct(self, scenarios: Scenarios, decisions: Decisions) -> Decisions:
        """Return what is applied in place of `decisions`."""
        return self.run(scenarios, decisions).applied

    def run(self, scenarios: Scenarios, decisions: Decisions) -> Certificates:
        """Return the certificates of the decisions made safe; raises ValueError as `judge`."""
        begin = perf_counter()
        proposed = Decisions(np.asarray(decisions.closed), np.asarray(decisions.shed, dtype=float))
        check_decisions(self.network, scenarios, proposed, self.setting)
        kept = least_shedding(self.network, scenarios, proposed.closed, self.setting, proposed.shed)
        found = Found(
            proposed.closed.copy(),
            kept.shed,
            kept.curtail,
            np.zeros(len(scenarios)),
            kept.n_flows,
            kept.active,
        )
        found.cost[~(kept.safe & self._allowed(proposed.closed))] = np.inf
        self._replace(scenarios, found)
        settled = settle(self.plans, scenarios, found, beam=BEAM, max_rounds=MAX_ROUNDS)
        return certify(self.network, self.setting, scenarios, proposed, settled, began=begin)

    def _allowed(self, closed: BoolArray) -> BoolArray:
        """Return which states are radial where the setting asks for it, (B,)."""
        if not self.setting.radial:
            return np.ones(len(closed), dtype=bool)
        return ~has_loop(self.network, closed, energised_buses(self.network, closed))

    def _replace(self, scenarios: Scenarios, found: Found) -> None:
        lost = np.flatnonzero(np.isinf(found.cost))
        if not len(lost):
            return
        start = []
        allowed = self._allowed(found.closed[lost])
        for k, tree in zip(lost.tolist(), allowed.tolist(), strict=True):
            fault = scenarios.lost(k)
            near = [self.plans.neighbours(fault, found.closed[k])] if tree else []
            start.append(np.concatenate([*near, self.plans.plain(fault)]))
        near_plans = search_plans(self.plans, scenarios[lost], start, max_rounds=0)
        found.take_over(lost, near_plans)
