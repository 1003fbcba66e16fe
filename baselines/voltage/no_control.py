"""Leave the batteries idle: what the feeder does by itself."""

from __future__ import annotations

import numpy as np

from feederguard.models.arrays import FloatArray
from feederguard.models.voltage_regulation import VoltageState


class NoControl:
    """Every battery at zero power."""

    name = "no_control"

    def decide(self, state: VoltageState) -> FloatArray:
        """Return zeros, (B, n_bat) pu."""
        return np.zeros(state.soc.shape)
