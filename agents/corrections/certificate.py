"""The certificate of a decision made safe: what was proposed, what is applied, and why.

as_proposed   the proposal is safe as it is
corrected     the proposed switches stay, more load is shed
replaced      other switches are taken: the proposed ones cannot be made safe, or cost more
impossible    of the switch states tried, none that feeds all that can be fed can be made safe;
              everything behind the fault stays dark
"""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter

import numpy as np

from feederguard.models.arrays import BoolArray, FloatArray, IntArray, StrArray
from feederguard.models.load_transfer import (
    Decisions,
    Outcomes,
    Scenarios,
    Setting,
    judge_with_flow,
)
from feederguard.models.load_transfer.least_shedding import limit_names
from feederguard.models.load_transfer.shedding import can_shed
from feederguard.models.network import Network
from feederguard.models.switching.fallback import Settled

CERTIFICATE_STATUSES = ("as_proposed", "corrected", "replaced", "impossible")


@dataclass(frozen=True, eq=False)
class Certificates:
    """One certificate per decision of a batch."""

    fault: IntArray  # (B,) failed branch, the first of several
    failed: BoolArray  # (B, n_branch) branches that stay open until the repair
    proposed: Decisions
    applied: Decisions
    status: StrArray  # (B,) one of CERTIFICATE_STATUSES
    outcome: Outcomes  # of what is applied, by the judge: cost, safe, v_min_pu, max_loading, ...
    residual_mva: FloatArray  # (B,) largest power mismatch of the AC solution at any bus
    n_flows: IntArray  # (B,) AC power flows spent on the decision, the last check included
    seconds: float  # of the whole batch, that check included
    live_load: BoolArray  # (B, n_bus) buses that demand something and are energised
    active: BoolArray  # (B, n_limit) limits that asked for shedding
    limit_names: tuple[str, ...]  # (n_limit,) as the Pyomo model names them
    reason: StrArray  # (B,) why it is impossible; empty otherwise

    def __len__(self) -> int:
        return len(self.status)

    def sentence(self, network: Network, k: int = 0) -> str:
        """Return certificate k in words."""
        out, shed = self.outcome, self.applied.shed[k]
        closed, opened = self._operated(network, k)
        parts = [f"{self.status[k]}: {'safe' if out.safe[k] else 'NOT SAFE'}"]
        if self.reason[k]:
            parts.append(str(self.reason[k]))
        parts.append(
            f"close {', '.join(closed) or 'nothing'}, open {', '.join(opened) or 'nothing'}"
        )
        n_shed = int((shed[self.live_load[k]] > 0).sum())
        parts.append(
            f"shed {out.shed_ratio[k]:.1%} of the load at {n_shed} buses, the dark ones not counted"
        )
        parts.append(f"cost {out.cost[k]:.2f}")
        parts.append(
            f"lowest voltage {out.v_min_pu[k]:.4f} pu, highest loading {out.max_loading[k]:.1%}"
        )
        parts.append(
            f"AC residual {self.residual_mva[k]:.1e} MVA after {self.n_flows[k]} power flows"
        )
        broken = [self.limit_names[i] for i in np.flatnonzero(self.active[k])]
        if broken:
            more = f" and {len(broken) - 3} more" if len(broken) > 3 else ""
            parts.append(f"held against {', '.join(broken[:3])}{more}")
        return "; ".join(parts)

    def _operated(self, network: Network, k: int) -> tuple[list[str], list[str]]:
        changed = self.applied.closed[k] != network.closed
        changed[self.failed[k]] = False
        return (
            [network.branch_name[b] for b in np.flatnonzero(changed & ~network.closed)],
            [network.branch_name[b] for b in np.flatnonzero(changed & network.closed)],
        )


def certify(
    network: Network,
    setting: Setting,
    scenarios: Scenarios,
    proposed: Decisions,
    settled: Settled,
    *,
    began: float,
) -> Certificates:
    """Return the certificates of settled decisions, each judged by a fresh AC power flow.

    began: `perf_counter()` when the work on the decisions started.
    """
    applied = settled.decisions
    outcome, flow = judge_with_flow(network, scenarios, applied, setting)
    same = (proposed.closed == applied.closed).all(axis=1)
    live = flow.energised & can_shed(scenarios.p_load)
    # A dark bus sheds everything, whatever the fraction is.
    extra = (np.abs(applied.shed - proposed.shed) * live).max(axis=1, initial=0.0) > 1e-9
    status = np.where(settled.impossible, 3, np.where(~same, 2, np.where(extra, 1, 0)))
    return Certificates(
        scenarios.fault,
        scenarios.failed_branches(network.n_branch),
        proposed,
        applied,
        np.array(CERTIFICATE_STATUSES)[status],
        outcome,
        flow.mismatch_mva,
        settled.found.n_flows + 1,
        perf_counter() - began,
        live,
        settled.found.active,
        limit_names(network, setting),
        settled.reason,
    )
