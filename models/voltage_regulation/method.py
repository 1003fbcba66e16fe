"""What a method of voltage regulation is: one that decides step by step, or plans whole days."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from feederguard.models.arrays import FloatArray
from feederguard.models.voltage_regulation.days import VoltageDays, VoltageState


class VoltageMethod(Protocol):
    """A method that decides step by step and knows the state alone."""

    @property
    def name(self) -> str: ...

    def decide(self, state: VoltageState) -> FloatArray:
        """Return the power of each battery, (B, n_bat) pu."""
        ...


@runtime_checkable
class PlannedMethod(Protocol):
    """A method that plans whole days and knows them beforehand: a bound for every other method."""

    @property
    def name(self) -> str: ...

    def plan(self, days: VoltageDays, soc_start: FloatArray) -> FloatArray:
        """Return the power of each battery in each step, (B, T, n_bat) pu; soc_start (B, n_bat)."""
        ...
