"""Our correction: any proposal becomes a decision that the AC power flow calls safe, with the least extra shedding.

Where the proposed switches can be made safe they stay, and the least shedding is added to what the proposal sheds
(`feederguard.models.least_shedding`: the Pyomo model's compiled limits, re-linearised at the AC solution until that solution
itself is inside). Where they cannot, the cheapest of the plans one exchange away and of the plain plans takes
their place. Where no plan can be made safe, everything behind the fault stays dark and what is left is shed as far as
its own limits ask; the certificate then says `impossible` and why. Equation numbers: Zhou et al. 2024.
"""

from __future__ import annotations

from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from feederguard.agents.certificate import Certificates, certify
from feederguard.models.least_shedding import least_shedding, limit_names
from feederguard.models.load_transfer import check_decisions, energised_buses, judge
from feederguard.models.network import BoolArray, Network
from feederguard.models.plan_search import Found, search_plans
from feederguard.models.scenario import Decisions, Scenarios
from feederguard.models.setting import Setting, resolve_setting
from feederguard.models.switch_plans import SwitchPlans

IMPOSSIBLE = "no switch state tried keeps every limit, however much is shed"
DARK_TOO = "nor does any shedding tried with everything behind the fault dark: this breaks the limits least"
BEAM, MAX_ROUNDS = 8, 4  # of the search where the proposal and its neighbours cannot be made safe


class SafeCorrection:
    """Makes decisions safe; a drop-in for the paper's correction in acting and in training.

    Raises as `resolve_setting`.
    """

    def __init__(self, network: Network, setting: str | Setting) -> None:
        self.network = network
        self.setting = resolve_setting(network, setting)
        self.plans = SwitchPlans(network, self.setting)
        self.limit_names = limit_names(network, self.setting)

    def correct(self, scenarios: Scenarios, decisions: Decisions) -> Decisions:
        """Return what is applied in place of `decisions`."""
        return self.run(scenarios, decisions).applied

    def run(self, scenarios: Scenarios, decisions: Decisions) -> Certificates:
        """Return the certificates of the decisions made safe; raises ValueError as the judge does."""
        begin = perf_counter()
        proposed = Decisions(np.asarray(decisions.closed), np.asarray(decisions.shed, dtype=float))
        check_decisions(self.network, scenarios, proposed, self.setting)
        kept = least_shedding(self.network, scenarios, proposed.closed, self.setting, proposed.shed)
        found = Found(proposed.closed.copy(), kept.shed, np.zeros(len(scenarios)), kept.n_flows, kept.active)
        found.cost[~(kept.safe & self._allowed(proposed.closed))] = np.inf
        self._replace(scenarios, found)
        impossible, reason = fall_back(self.plans, scenarios, found)
        return certify(
            self.network, self.setting, scenarios, proposed, found.decisions, impossible=impossible, reason=reason,
            n_flows=found.n_flows, active=found.active, limit_names=self.limit_names, began=begin,
        )  # fmt: skip

    def _allowed(self, closed: BoolArray) -> BoolArray:
        """Return which states are radial where the setting asks for it, (B,)."""
        if not self.setting.radial:
            return np.ones(len(closed), dtype=bool)
        network = self.network
        live = energised_buses(network, closed)
        inner = closed & live[:, network.from_bus] & live[:, network.to_bus]
        return np.asarray(inner.sum(axis=1) == live.sum(axis=1) - len(network.substation))

    def _replace(self, scenarios: Scenarios, found: Found) -> None:
        lost = np.flatnonzero(np.isinf(found.cost))
        if not len(lost):
            return
        start = []
        allowed = self._allowed(found.closed[lost])
        for k, tree in zip(lost.tolist(), allowed.tolist(), strict=True):
            fault = int(scenarios.fault[k])
            near = [self.plans.neighbours(fault, found.closed[k])] if tree else []
            start.append(np.concatenate([*near, self.plans.plain(fault)]))
        found.put(lost, search_plans(self.plans, scenarios[lost], start, max_rounds=0))
        search_lost(self.plans, scenarios, found, BEAM, MAX_ROUNDS)


def search_lost(plans: SwitchPlans, scenarios: Scenarios, found: Found, beam: int, max_rounds: int) -> None:
    """Search from the plain plans wherever no plan was found: before anything is called impossible."""
    lost = np.flatnonzero(np.isinf(found.cost))
    if len(lost):
        found.put(lost, search_plans(plans, scenarios[lost], beam=beam, max_rounds=max_rounds))


def fall_back(plans: SwitchPlans, scenarios: Scenarios, found: Found) -> tuple[BoolArray, NDArray[np.str_]]:
    """Leave dark what is behind the fault wherever no plan was found; return where that is (B,), and why (B,).

    What is left sheds the least that makes it safe. Where nothing does, of shedding nothing and shedding everything (local
    generation may be the trouble) the one is taken that breaks the limits less, by AC power flow.
    """
    impossible = np.isinf(found.cost)
    reason = np.full(len(scenarios), "", dtype=f"<U{len(IMPOSSIBLE) + len(DARK_TOO) + 2}")
    lost = np.flatnonzero(impossible)
    if not len(lost):
        return impossible, reason
    part = scenarios[lost]
    dark = np.stack([plans.dark(int(fault)) for fault in part.fault])
    rest = least_shedding(plans.network, part, dark, plans.setting)
    none, everything = (np.full(rest.shed.shape, fraction) for fraction in (0.0, 1.0))
    broken = [
        judge(plans.network, part, Decisions(dark, shed), plans.setting).worst_violation for shed in (none, everything)
    ]
    # A flow that does not converge (NaN) breaks more than any that does.
    least = np.where(
        (np.nan_to_num(broken[0], nan=np.inf) <= np.nan_to_num(broken[1], nan=np.inf))[:, None], none, everything
    )
    found.closed[lost] = dark
    found.shed[lost] = np.where(rest.safe[:, None], rest.shed, least)
    found.n_flows[lost] += rest.n_flows + 2
    found.active[lost] |= rest.active
    reason[lost] = np.where(rest.safe, IMPOSSIBLE, f"{IMPOSSIBLE}, {DARK_TOO}")
    return impossible, reason
