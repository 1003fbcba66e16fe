"""Do nothing: the fault is isolated, everything behind it stays dark."""

from __future__ import annotations

import numpy as np

from feederguard.models.load_transfer import Decisions, Scenarios
from feederguard.models.network import Network


class NoTransfer:
    """Leave every switch in its normal state and shed nothing that is still fed."""

    name = "no_transfer"

    def __init__(self, network: Network) -> None:
        self.network = network

    def decide(self, scenarios: Scenarios) -> Decisions:
        """Return the normal state less what failed."""
        closed = np.tile(self.network.closed, (len(scenarios), 1))
        closed[scenarios.failed_branches(self.network.n_branch)] = False
        return Decisions(closed, np.zeros(scenarios.p_load.shape))
