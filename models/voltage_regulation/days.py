"""Days of demand and generation, and the states that a voltage-regulation method decides from.

Batch first; per unit.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from feederguard.models.arrays import BoolArray, FloatArray, IntArray, TimeArray
from feederguard.models.network import Network


@dataclass(frozen=True, eq=False)
class VoltageDays:
    """B days of T steps; per unit on the feeder's base. Arrays become read-only.

    `days[k]` (a number, a slice, numbers or a mask) is again a batch. Raises ValueError when shapes
    disagree, a step is not a positive number of hours, a date is none, or a value is not finite,
    naming bus (its position), day and step.
    """

    p_load: FloatArray  # (B, T, n_bus) active demand, positive when consumed
    q_load: FloatArray  # (B, T, n_bus) reactive demand
    p_gen: FloatArray  # (B, T, n_bus) local generation, at unity power factor
    step_h: float
    date: TimeArray  # (B,) calendar day

    def __post_init__(self) -> None:
        for name in ("p_load", "q_load", "p_gen"):
            array = np.array(getattr(self, name), dtype=float)
            array.setflags(write=False)
            object.__setattr__(self, name, array)
        object.__setattr__(self, "date", _dates(self.date))
        object.__setattr__(self, "step_h", float(self.step_h))
        _check_days(self)

    def __len__(self) -> int:
        return len(self.date)

    def __getitem__(self, items: int | slice | IntArray | BoolArray | list[int]) -> VoltageDays:
        """Return some of the days, still a batch."""
        rows = [items] if isinstance(items, (int, np.integer)) else items
        return VoltageDays(
            self.p_load[rows], self.q_load[rows], self.p_gen[rows], self.step_h, self.date[rows]
        )

    @property
    def n_step(self) -> int:
        """T, steps in a day."""
        return int(self.p_load.shape[1])


@dataclass(frozen=True, eq=False)
class VoltageState:
    """What B feeders show before a step; a method answers with the powers of their batteries."""

    p_net: FloatArray  # (B, n_bus) pu, demand less local generation, without batteries
    q_net: FloatArray  # (B, n_bus) pu
    # (B, n_bus) pu, voltage magnitude by the AC power flow with batteries idle; NaN: no solution
    v_idle: FloatArray
    soc: FloatArray  # (B, n_bat) fraction of the energy, before the step
    step: IntArray  # (B,) step in the day, from 0
    step_h: float | None = None  # of the days that they are of; None: not known, not checked
    n_step: int | None = None  # steps in such a day; None as above

    def __len__(self) -> int:
        return len(self.step)

    def __getitem__(self, items: slice | IntArray | BoolArray | list[int]) -> VoltageState:
        """Return some of the states, still a batch."""
        arrays: dict[str, Any] = {
            field.name: getattr(self, field.name)[items] for field in fields(self)[:5]
        }
        return replace(self, **arrays)


def check_feeder(network: Network, days: VoltageDays) -> None:
    """Raise ValueError when the days are of another feeder."""
    if days.p_load.shape[2] != network.n_bus:
        raise ValueError(
            f"{network.name}: the days have {days.p_load.shape[2]} buses and the feeder "
            f"{network.n_bus}; make days of this feeder"
        )


def check_steps(
    what: str, step_h: float, n_step: int | None, days: VoltageDays | VoltageState
) -> None:
    """Raise ValueError when `what` meets days of another step or another number of steps.

    `what` was made for steps of step_h hours and days of n_step steps; n_step None: any number. A
    state that does not say what it is of passes.
    """
    if days.step_h is not None and abs(days.step_h - step_h) > 1e-9 * step_h:
        raise ValueError(
            f"{what} was made for steps of {step_h:g} h, and the days have steps of "
            f"{days.step_h:g} h; make it with step_h={days.step_h:g}, or give days of its own step"
        )
    if n_step is not None and days.n_step is not None and days.n_step != n_step:
        raise ValueError(
            f"{what} was made for days of {n_step} steps, and these have {days.n_step}; make it "
            "for days of this length"
        )


def _dates(given: Any) -> TimeArray:
    try:
        return np.atleast_1d(np.array(given, dtype="datetime64[D]"))
    except (TypeError, ValueError):
        raise ValueError(
            f"days: date is {given!r}; give calendar days, such as '2016-01-31'"
        ) from None


def _check_days(days: VoltageDays) -> None:
    shape: tuple[Any, ...] = days.p_load.shape
    if days.p_load.ndim != 3 or 0 in shape[1:]:
        raise ValueError(f"days: p_load has shape {shape}; give (B, T, n_bus), T steps of B days")
    for name in ("q_load", "p_gen"):
        if getattr(days, name).shape != shape:
            raise ValueError(
                f"days: {name} has shape {getattr(days, name).shape}; expected {shape}, that of "
                "p_load"
            )
    if days.date.shape != shape[:1]:
        raise ValueError(
            f"days: {len(days.date)} dates for {shape[0]} days; give each day its date"
        )
    if np.isnat(days.date).any():
        raise ValueError(
            f"days: date of day {np.flatnonzero(np.isnat(days.date))[0]} is NaT; give a calendar "
            "day"
        )
    if not (np.isfinite(days.step_h) and days.step_h > 0):
        raise ValueError(f"days: step_h is {days.step_h}; it must be a positive number of hours")
    for name in ("p_load", "q_load", "p_gen"):
        array = getattr(days, name)
        if not np.isfinite(array).all():
            k, t, bus = np.argwhere(~np.isfinite(array))[0]
            raise ValueError(
                f"days: {name} of bus {bus} on {days.date[k]} at step {t} is {array[k, t, bus]:g}; "
                "give a finite number"
            )
