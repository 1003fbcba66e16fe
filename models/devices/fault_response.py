"""What happens after a fault, in words and masks: trip, isolation, re-closing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from feederguard.models.arrays import BoolArray
from feederguard.models.network import Network


@dataclass(frozen=True)
class Place:
    """A device at the end of a branch, or that end where the data have no device there."""

    device: int  # -1 where the data have none
    branch: int  # -1 for the grid above at a substation
    end: int  # 0 from, 1 to
    bus: int

    def text(self, network: Network) -> str:
        """Return it in words: 'B1 (line 3 at bus 7)', 'line 3 at bus 7', 'grid above at bus 0'."""
        bus = network.bus_name[self.bus]
        if self.branch < 0:
            return f"grid above at bus {bus}"
        where = f"{network.branch_name[self.branch]} at bus {bus}"
        if self.device < 0 or network.devices is None:
            return where
        return f"{network.devices.name[self.device]} ({where})"


@dataclass(frozen=True, eq=False)
class FaultResponse:
    """What one fault, or several at once, do to a feeder in its normal state."""

    faults: tuple[str, ...]  # in words
    tripped: tuple[Place, ...]  # open by themselves; a fuse has blown
    dark: BoolArray  # (n_bus,) without supply after the trip
    dead_bus: BoolArray  # (n_bus,) in the dead blocks, till the repair
    dead_branch: BoolArray  # (n_branch,) in the dead blocks
    isolating: tuple[Place, ...]  # to be opened; what is open already is left out
    # (n_branch,) out of use till the repair: dead, or opened to isolate
    failed: BoolArray
    reclosing: tuple[Place, ...]  # of the tripped ones, what may be closed once isolated
    dark_reclosed: BoolArray  # (n_bus,) without supply once isolated and re-closed

    def open_after_trip(self, network: Network) -> BoolArray:
        """Return the branches that the trip opens, (n_branch,)."""
        mask = np.zeros(network.n_branch, dtype=bool)
        mask[[place.branch for place in self.tripped if place.branch >= 0]] = True
        return mask

    def dark_kw(self, network: Network, p_load: ArrayLike | None = None) -> float:
        """Return the demand that the trip leaves dark, in kW; p_load in pu, default nominal."""
        p = network.p_load if p_load is None else np.asarray(p_load, dtype=float)
        return float(1e3 * network.base_mva * np.maximum(p, 0.0)[self.dark].sum())
