"""What is done where no plan was found: a deeper search, and then everything behind the fault dark."""

from __future__ import annotations

import numpy as np

from feederguard.models.arrays import BoolArray, StrArray
from feederguard.models.load_transfer import Decisions, Scenarios, judge
from feederguard.models.load_transfer.least_shedding import least_shedding
from feederguard.models.switching.plans import SwitchPlans
from feederguard.models.switching.search import Found, search_plans

IMPOSSIBLE = "no switch state tried keeps every limit, however much is shed"
DARK_TOO = "nor does any shedding tried with everything behind the fault dark: this breaks the limits least"


def search_lost(
    plans: SwitchPlans, scenarios: Scenarios, found: Found, beam: int, max_rounds: int
) -> None:
    """Search from the plain plans wherever no plan was found: before anything is called impossible."""
    lost = np.flatnonzero(np.isinf(found.cost))
    if len(lost):
        found.put(lost, search_plans(plans, scenarios[lost], beam=beam, max_rounds=max_rounds))


def fall_back(plans: SwitchPlans, scenarios: Scenarios, found: Found) -> tuple[BoolArray, StrArray]:
    """Leave dark what is behind the fault wherever no plan was found; return where that is (B,),
    and why (B,).

    What is left sheds the least that makes it safe. Where nothing does, of shedding nothing and
    shedding everything (local generation may be the trouble) the one is taken that breaks the
    limits less, by AC power flow.
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
        judge(plans.network, part, Decisions(dark, shed), plans.setting).worst_violation
        for shed in (none, everything)
    ]
    # A flow that does not converge (NaN) breaks more than any that does.
    least = np.where(
        (np.nan_to_num(broken[0], nan=np.inf) <= np.nan_to_num(broken[1], nan=np.inf))[:, None],
        none,
        everything,
    )
    found.closed[lost] = dark
    found.shed[lost] = np.where(rest.safe[:, None], rest.shed, least)
    found.n_flows[lost] += rest.n_flows + 2
    found.active[lost] |= rest.active
    reason[lost] = np.where(rest.safe, IMPOSSIBLE, f"{IMPOSSIBLE}, {DARK_TOO}")
    return impossible, reason
