"""What every load-transfer method is, solved, evolved or learned: scenarios in, decisions out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from feederguard.models.load_transfer.scenario import Decisions, Scenarios


class Method(Protocol):
    """A method of one network and setting; `decide` answers each scenario, in order."""

    @property
    def name(self) -> str: ...

    def decide(self, scenarios: Scenarios) -> Decisions: ...


@dataclass(frozen=True)
class Report:
    """What an exact method can say of one scenario beyond its decision."""

    # lower bound of the cost (enumeration: the best AC optimum found), -inf where there is none
    bound: float
    reason: str  # why the solver stopped
    seconds: float
    repaired: bool  # whether the model's shedding had to be replaced by the AC-exact one
    note: str = ""
