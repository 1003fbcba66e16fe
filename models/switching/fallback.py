"""What is decided where no plan was found: a deeper search, then all behind the fault dark."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from feederguard.models.arrays import BoolArray, FloatArray, IntArray, StrArray
from feederguard.models.load_transfer import Decisions, Scenarios, judge
from feederguard.models.load_transfer.least_shedding import least_shedding
from feederguard.models.switching.plans import SwitchPlans
from feederguard.models.switching.search import Found, search_plans

IMPOSSIBLE = "no switch state tried keeps every limit, however much is shed"
DARK_TOO = (
    "nor does any shedding tried with everything behind the fault dark: this breaks the limits "
    "least"
)


@dataclass(frozen=True, eq=False)
class Settled:
    """A decision for every scenario, and where no plan tried can be made safe."""

    found: Found
    impossible: BoolArray  # (B,) everything behind the fault is dark
    reason: StrArray  # (B,) why it is impossible; empty otherwise

    @property
    def decisions(self) -> Decisions:
        """The decisions."""
        return self.found.decisions


def settle(
    plans: SwitchPlans, scenarios: Scenarios, found: Found, *, beam: int = 0, max_rounds: int = 0
) -> Settled:
    """Return a decision for every scenario, `found` where its cost is finite.

    The others are searched from the plain plans, with `beam` and `max_rounds` as `search_plans`;
    beam 0 skips that. Where no plan is found either, everything behind the fault stays dark, and
    the rest sheds and curtails the least that makes it safe. Where nothing does, it sheds nothing
    or everything and curtails nothing or everything, whichever breaks the limits least.
    """
    lost = np.flatnonzero(np.isinf(found.cost))
    if len(lost) and beam:
        # Nothing is called impossible before the search from the plain plans.
        deeper = search_plans(plans, scenarios[lost], beam=beam, max_rounds=max_rounds)
        found.take_over(lost, deeper)
    impossible = np.isinf(found.cost)
    reason = np.full(len(scenarios), "", dtype=f"<U{len(IMPOSSIBLE) + len(DARK_TOO) + 2}")
    lost = np.flatnonzero(impossible)
    if len(lost):
        safe = _leave_dark(plans, scenarios, found, lost)
        reason[lost] = np.where(safe, IMPOSSIBLE, f"{IMPOSSIBLE}, {DARK_TOO}")
    return Settled(found, impossible, reason)


def _leave_dark(
    plans: SwitchPlans, scenarios: Scenarios, found: Found, lost: IntArray
) -> BoolArray:
    """Write the dark decisions of the lost scenarios into `found`; return which are safe."""
    part = scenarios[lost]
    dark = np.stack([plans.dark(part.lost(k)) for k in range(len(part))])
    rest = least_shedding(plans.network, part, dark, plans.setting)
    none, everything = (np.full(rest.shed.shape, fraction) for fraction in (0.0, 1.0))
    trials = [
        Decisions(dark, shed, off) for shed in (none, everything) for off in (none, everything)
    ]
    broken = np.stack([_broken(plans, part, trial) for trial in trials])
    least = np.argmin(broken, axis=0)
    found.closed[lost] = dark
    for name in ("shed", "curtail"):
        worst = np.stack([getattr(trial, name) for trial in trials])[least, np.arange(len(lost))]
        getattr(found, name)[lost] = np.where(rest.safe[:, None], getattr(rest, name), worst)
    found.n_flows[lost] += rest.n_flows + len(trials)
    found.active[lost] |= rest.active
    return rest.safe


def _broken(plans: SwitchPlans, scenarios: Scenarios, decisions: Decisions) -> FloatArray:
    """Return the worst violation of each decision, (B,); inf where the flow does not converge."""
    outcome = judge(plans.network, scenarios, decisions, plans.setting)
    return np.nan_to_num(outcome.worst_violation, nan=np.inf)
