"""Scenarios and decisions of load transfer: what a method is given, and what it answers."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import ArrayLike

from feederguard.models.arrays import BoolArray, FloatArray, IntArray, plain
from feederguard.models.devices import failed_branches, kills
from feederguard.models.load_transfer.shedding import can_shed, kept
from feederguard.models.network import Network, NetworkError
from feederguard.models.network.checks import warn_of_idle_generators

DEMANDS = ("p_load", "q_load", "p_gen")
# The failed branch of a scenario, or all of them where several fail at once.
Lost = int | tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Scenarios:
    """B faults, each with the demand and local generation of its hour, in pu.

    Build them with `make_scenarios`, which checks them against a network.
    """

    fault: IntArray  # (B,) failed branch, the first one where several fail at once
    p_load: FloatArray  # (B, n_bus) active demand
    q_load: FloatArray  # (B, n_bus) reactive demand
    p_gen: FloatArray  # (B, n_bus) local generation, at unity power factor
    # (B, n_branch) branches that stay open until the repair; None where `fault` is the only one
    failed: BoolArray | None = None

    def __len__(self) -> int:
        return len(self.fault)

    def __getitem__(self, items: slice | IntArray | BoolArray | list[int]) -> Scenarios:
        """Return some of the scenarios, still a batch."""
        some: dict[str, Any] = {}
        for item in fields(self):
            array = getattr(self, item.name)
            some[item.name] = None if array is None else array[items]
        return Scenarios(**some)

    @classmethod
    def join(cls, parts: Sequence[Scenarios]) -> Scenarios:
        """Return the scenarios of several batches of one network as one batch."""
        failed = None
        if any(part.failed is not None for part in parts):
            n_branch = next(part.failed.shape[1] for part in parts if part.failed is not None)
            failed = np.concatenate([part.failed_branches(n_branch) for part in parts])
        names = ("fault", *DEMANDS)
        arrays = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
        return cls(**arrays, failed=failed)

    def failed_branches(self, n_branch: int) -> BoolArray:
        """Return the branches that stay open until the repair, (B, n_branch)."""
        if self.failed is not None:
            return self.failed
        mask = np.zeros((len(self), n_branch), dtype=bool)
        mask[np.arange(len(self)), self.fault] = True
        return mask

    def lost(self, item: int) -> Lost:
        """Return what failed in one scenario: its branch, or a tuple where there are several."""
        fault = int(self.fault[item])
        if self.failed is None:
            return fault
        branches = tuple(np.flatnonzero(self.failed[item]).tolist())
        return fault if branches == (fault,) else branches


@dataclass(frozen=True, eq=False)
class Decisions:
    """B answers: the closed branches after the transfer, and what each bus sheds and curtails."""

    closed: BoolArray  # (B, n_branch)
    shed: FloatArray  # (B, n_bus) from 0 to 1; a shed load keeps its power factor
    # (B, n_bus) fraction of p_gen from 0 to 1; zeros where it is not given
    curtail: FloatArray = field(default_factory=lambda: np.zeros((0, 0)))

    def __post_init__(self) -> None:
        if np.size(self.curtail) == 0:
            object.__setattr__(self, "curtail", np.zeros(np.shape(self.shed)))

    def __len__(self) -> int:
        return len(self.closed)

    @classmethod
    def join(cls, parts: Sequence[Decisions]) -> Decisions:
        """Return the decisions of several batches as one batch."""
        return cls(
            np.concatenate([part.closed for part in parts]),
            np.concatenate([part.shed for part in parts]),
            np.concatenate([part.curtail for part in parts]),
        )

    def __getitem__(self, items: slice | IntArray | BoolArray | list[int]) -> Decisions:
        """Return some of the decisions, still a batch."""
        return Decisions(self.closed[items], self.shed[items], self.curtail[items])


def make_scenarios(
    network: Network,
    fault: ArrayLike,
    p_load: ArrayLike | None = None,
    q_load: ArrayLike | None = None,
    p_gen: ArrayLike | None = None,
) -> Scenarios:
    """Return scenarios for one or more faults.

    A fault is a branch by number, or a branch, device or bus by name; 'bus:7' where a branch is
    called 7 too. A tuple is several at once: `["6", ("6", "12")]` makes two scenarios. Where the
    network has devices, a fault takes its whole block (`models.devices.isolate`).

    p_load, q_load, p_gen: (n_bus,) or (B, n_bus) in pu, default the network's nominal values. A
    negative nominal load counts as generation, which nobody sheds, and negative generation as
    load.

    Warns (UserWarning) when reactive generation is left out, or generators for an optimal power
    flow would feed nothing. Raises ValueError when a fault is none of these, a shape does not fit,
    a value is not finite, active demand or generation is negative, or a fault kills a substation
    bus that has load or generation of its own.
    """
    faults, failed = failed_branches(network, fault)
    if p_gen is None:
        warn_of_idle_generators(network, "make_scenarios: give p_gen with their output")
    if network.q_gen.any():
        warnings.warn(
            f"{network.name}: reactive power of local generation is left out; scenarios take "
            "generation at unity power factor",
            stacklevel=2,
        )
    if p_load is None:
        drawn = np.maximum(-network.p_gen, 0.0) if p_gen is None else 0.0
        produced = np.maximum(-network.p_load, 0.0)
        p_gen = np.maximum(network.p_gen, 0.0) + produced if p_gen is None else p_gen
        p_load = np.maximum(network.p_load, 0.0) + drawn
    arrays = {}
    for name, value in {"p_load": p_load, "q_load": q_load, "p_gen": p_gen}.items():
        array = np.asarray(getattr(network, name) if value is None else value, dtype=float)
        if array.shape not in ((network.n_bus,), (len(faults), network.n_bus)):
            raise ValueError(
                f"{network.name}: {name} has shape {array.shape}; expected ({network.n_bus},) or "
                f"({len(faults)}, {network.n_bus}) for {len(faults)} fault(s)"
            )
        arrays[name] = np.broadcast_to(array, (len(faults), network.n_bus))
    made = Scenarios(faults, **arrays, failed=failed)
    scenarios = check_scenarios(network, made, network.name)
    for name in ("p_load", "p_gen"):
        array = getattr(scenarios, name)
        if (array < 0).any():
            item, bus = np.argwhere(array < 0)[0]
            other, twin = ("feeds in", "p_gen") if name == "p_load" else ("draws", "p_load")
            raise ValueError(
                f"{network.name}: {name} of bus {network.bus_name[bus]!r} in scenario {item} is "
                f"{array[item, bus]:g}; it must not be negative: give what it {other} as {twin}"
            )
    _refuse_dead_sources(network, fault, scenarios)
    return scenarios


def _refuse_dead_sources(network: Network, faults: ArrayLike, scenarios: Scenarios) -> None:
    """Raise `NetworkError` where a fault kills a substation that has load or generation.

    All branches of a dead bus are out of use, so a dead source feeds nothing. Only what is at the
    bus itself would still count as fed.
    """
    at = network.substation
    own = sum(np.abs(getattr(scenarios, name)[:, at]) for name in DEMANDS)
    failed = scenarios.failed_branches(network.n_branch) if np.any(own) else np.zeros((0, 0))
    for item, k in np.argwhere(own) if len(failed) else ():
        bus = int(at[k])
        ends_there = (network.from_bus == bus) | (network.to_bus == bus)
        if failed[item, ends_there].all() and kills(network, faults, int(item), bus):
            name = network.bus_name[bus]
            raise NetworkError(
                f"{network.name}: fault {item} kills the source at bus {name!r}, which has load or "
                "generation of its own; give these a bus of their own behind a branch, or leave "
                "this fault out"
            )


def check_scenarios(network: Network, scenarios: Scenarios, who: str) -> Scenarios:
    """Return the scenarios as compiled kernels take them, after checking that they fit the network.

    who: asks for them, and begins the message. Raises ValueError when a shape does not fit, a fault
    is not a branch, or a demand or generation is not finite.
    """
    n, fault = len(scenarios), np.asarray(scenarios.fault)
    if fault.shape != (n,) or (n and fault.dtype.kind not in "iu"):
        raise ValueError(
            f"{who}: fault holds {fault.dtype} of shape {fault.shape}; give ({n},) branch numbers"
        )
    arrays = []
    for name in DEMANDS:
        array = plain(getattr(scenarios, name), float)
        if array.shape != (n, network.n_bus):
            raise ValueError(
                f"{who}: {name} has shape {array.shape}; expected ({n}, {network.n_bus}) on "
                f"{network.name}"
            )
        arrays.append(array)
    failed = _checked_failed(network, scenarios, fault, who)
    checked = Scenarios(plain(fault, np.int64), arrays[0], arrays[1], arrays[2], failed)
    item, bus = _first_unfit(checked.fault, *arrays, network.n_branch)
    if bus >= 0:
        name, array = next(
            pair
            for pair in zip(DEMANDS, arrays, strict=True)
            if not np.isfinite(pair[1][item, bus])
        )
        raise ValueError(
            f"{who}: {name} of bus {network.bus_name[bus]!r} in scenario {item} is "
            f"{array[item, bus]:g}; give a finite number"
        )
    if item >= 0:
        raise ValueError(
            f"{who}: scenario {item} has its fault at branch {fault[item]}; branches are numbered "
            f"0 to {network.n_branch - 1} on {network.name}"
        )
    return checked


@njit(cache=True)
def _first_unfit(fault, p_load, q_load, p_gen, n_branch):  # type: ignore[no-untyped-def]
    """Return the first scenario with a value that is not finite, and the bus; (-1, -1) for none.

    The bus is -1 where its fault is not a branch.
    """
    for item in range(fault.shape[0]):
        if not 0 <= fault[item] < n_branch:
            return item, -1
        for i in range(p_load.shape[1]):
            finite = np.isfinite(p_load[item, i]) and np.isfinite(q_load[item, i])
            if not (finite and np.isfinite(p_gen[item, i])):
                return item, i
    return -1, -1


def _checked_failed(
    network: Network, scenarios: Scenarios, fault: IntArray, who: str
) -> BoolArray | None:
    if scenarios.failed is None:
        return None
    failed, shape = plain(scenarios.failed), (len(scenarios), network.n_branch)
    if failed.shape != shape or failed.dtype != bool:
        raise ValueError(
            f"{who}: failed holds {failed.dtype} of shape {failed.shape}; give {shape} of True and "
            "False"
        )
    inside = (fault >= 0) & (fault < network.n_branch)
    amiss = np.flatnonzero(~failed[np.arange(len(fault)), np.where(inside, fault, 0)] & inside)
    if amiss.size:
        k = int(amiss[0])
        raise ValueError(
            f"{who}: scenario {k} has its fault at branch {network.branch_name[fault[k]]!r}, which "
            "failed does not hold; set it True there too"
        )
    return failed


def demand_after_shedding(
    scenarios: Scenarios, decisions: Decisions
) -> tuple[FloatArray, FloatArray]:
    """Return the net active and reactive demand in pu, (B, n_bus) each.

    What a shed load still draws is the law of `shedding.py`.
    """
    share = kept(1.0, can_shed(scenarios.p_load), decisions.shed)
    made = scenarios.p_gen * kept(1.0, 1.0, decisions.curtail)
    return scenarios.p_load * share - made, scenarios.q_load * share


def shed_power(scenarios: Scenarios, shed: FloatArray, energised: BoolArray) -> FloatArray:
    """Return the shed active power of each bus in pu, (B, n_bus); a dark bus sheds all of it."""
    return np.where(energised, shed, 1.0) * scenarios.p_load


def curtailed_power(scenarios: Scenarios, curtail: FloatArray, energised: BoolArray) -> FloatArray:
    """Return the curtailed generation of each bus in pu, (B, n_bus); at a dark bus all trips."""
    return np.where(energised, curtail, 1.0) * scenarios.p_gen
