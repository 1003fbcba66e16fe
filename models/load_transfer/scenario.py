"""Load-transfer scenarios and decisions, batch first: what a method is given and what it answers."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from feederguard.models.arrays import BoolArray, FloatArray, IntArray
from feederguard.models.load_transfer.shedding import can_shed, kept
from feederguard.models.network import Network
from feederguard.models.network.checks import warn_of_idle_generators


@dataclass(frozen=True, eq=False)
class Scenarios:
    """B faults, each with the demand and local generation of its hour; per unit on the network's
    base.

    Build them with `make_scenarios`, which checks them against a network.
    """

    fault: IntArray  # (B,) failed branch
    p_load: FloatArray  # (B, n_bus) active demand
    q_load: FloatArray  # (B, n_bus) reactive demand
    p_gen: FloatArray  # (B, n_bus) local generation, at unity power factor

    def __len__(self) -> int:
        return len(self.fault)

    def __getitem__(self, items: slice | IntArray | BoolArray | list[int]) -> Scenarios:
        """Return some of the scenarios, still a batch."""
        return Scenarios(*(getattr(self, field.name)[items] for field in fields(self)))


@dataclass(frozen=True, eq=False)
class Decisions:
    """B answers: which branches are closed after the transfer, and how much of each bus's load is
    shed.
    """

    closed: BoolArray  # (B, n_branch)
    # (B, n_bus) fraction of the bus's demand, 0 to 1; a shed load keeps its power factor
    shed: FloatArray

    def __len__(self) -> int:
        return len(self.closed)

    @classmethod
    def join(cls, parts: Sequence[Decisions]) -> Decisions:
        """Return the decisions of several batches as one batch."""
        return cls(
            np.concatenate([part.closed for part in parts]),
            np.concatenate([part.shed for part in parts]),
        )

    def __getitem__(self, items: slice | IntArray | BoolArray | list[int]) -> Decisions:
        """Return some of the decisions, still a batch."""
        return Decisions(self.closed[items], self.shed[items])


def make_scenarios(
    network: Network,
    fault: ArrayLike,
    p_load: ArrayLike | None = None,
    q_load: ArrayLike | None = None,
    p_gen: ArrayLike | None = None,
) -> Scenarios:
    """Return scenarios for one or more faults (branch index or name); default the network's nominal
    load.

    Warns (UserWarning) when reactive generation is left out, or generators for an optimal power
    flow would feed nothing. Raises ValueError when a fault is not a branch, a shape does not fit, a
    value is not finite, or active demand or generation is negative.
    """
    faults = [_branch(network, f) for f in np.atleast_1d(np.asarray(fault, dtype=object))]
    if p_gen is None:
        warn_of_idle_generators(network, "make_scenarios: give p_gen with their output")
    if network.q_gen.any():
        warnings.warn(
            f"{network.name}: reactive power of local generation is left out; scenarios take "
            "generation at unity power factor",
            stacklevel=2,
        )
    for f in faults:
        if not 0 <= f < network.n_branch:
            raise ValueError(
                f"{network.name}: fault at branch {f}; branches are numbered 0 to "
                f"{network.n_branch - 1}"
            )
    if p_load is None and (network.p_load < 0).any():
        # A negative nominal load is a net producer: what it brings is generation, and nobody sheds
        # it.
        p_gen = network.p_gen + np.maximum(-network.p_load, 0.0) if p_gen is None else p_gen
        p_load = np.maximum(network.p_load, 0.0)
    given = {"p_load": p_load, "q_load": q_load, "p_gen": p_gen}
    arrays = {}
    for name, value in given.items():
        array = np.asarray(getattr(network, name) if value is None else value, dtype=float)
        if array.shape not in ((network.n_bus,), (len(faults), network.n_bus)):
            raise ValueError(
                f"{network.name}: {name} has shape {array.shape}; expected ({network.n_bus},) or "
                f"({len(faults)}, {network.n_bus}) for {len(faults)} fault(s)"
            )
        bad = np.argwhere(
            ~np.isfinite(np.atleast_2d(array)) | ((np.atleast_2d(array) < 0) & (name != "q_load"))
        )
        if bad.size:
            item, bus = bad[0]
            raise ValueError(
                f"{network.name}: {name} of bus {network.bus_name[bus]!r} in scenario {item} is "
                f"{np.atleast_2d(array)[item, bus]:g}; it must be finite"
                + (" and not negative" * (name != "q_load"))
            )
        arrays[name] = np.ascontiguousarray(np.broadcast_to(array, (len(faults), network.n_bus)))
    return Scenarios(np.array(faults, dtype=np.int64), **arrays)


def _branch(network: Network, fault: Any) -> int:
    if isinstance(fault, str):
        return network.branch_index(fault)
    if isinstance(fault, bool) or not isinstance(fault, (int, np.integer)):
        raise ValueError(f"{network.name}: fault is {fault!r}; give a branch by number or by name")
    return int(fault)


def demand_after_shedding(
    scenarios: Scenarios, decisions: Decisions
) -> tuple[FloatArray, FloatArray]:
    """Return the net active and reactive demand in pu, (B, n_bus) each; the law is `shedding.py`."""
    share = kept(1.0, can_shed(scenarios.p_load), decisions.shed)
    return scenarios.p_load * share - scenarios.p_gen, scenarios.q_load * share


def shed_power(scenarios: Scenarios, shed: FloatArray, energised: BoolArray) -> FloatArray:
    """Return the shed active power of each bus in pu, (B, n_bus): all of it where the bus is dark."""
    return np.where(energised, shed, 1.0) * scenarios.p_load
