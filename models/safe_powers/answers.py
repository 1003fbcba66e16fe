"""Answers of the search for AC-safe powers, and items of batched answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from feederguard.models.arrays import BoolArray, FloatArray, IntArray, StrArray
from feederguard.models.safety_qp.projection import Projection

AS_PROPOSED, CORRECTED, TUBE_LEFT, SLACK_USED, FAILED_ITEM = range(5)
STATUSES = ("as_proposed", "corrected", "tube_left", "slack_used", "failed")


@dataclass(frozen=True, eq=False)
class SafeActions:
    """The answers to a batch of proposals."""

    p: FloatArray  # (B, n_bat) pu, to be applied
    status: IntArray  # (B,) position in STATUSES
    slack_pu: FloatArray  # (B,) by how much the QP had to leave the band, 0 where it had not
    v: FloatArray  # (B, n_bus) AC voltage magnitudes at p; NaN where the flow has no solution
    certified: BoolArray  # (B,) these are inside the band to the tolerance
    rounds: IntArray  # (B,) linearisations at AC states spent

    def __len__(self) -> int:
        return len(self.status)

    @property
    def words(self) -> StrArray:
        """The status of each item in words, (B,)."""
        return np.array(STATUSES)[self.status]


T = TypeVar("T", SafeActions, Projection)


def take_items(whole: T, items: IntArray) -> T:
    """Return some items of a batched result."""
    return type(whole)(*(getattr(whole, name)[items] for name in vars(whole)))


def put_items(whole: Any, items: IntArray, part: Any) -> None:
    """Write the items of one batched result over those of another of the same kind."""
    for name in vars(part):
        getattr(whole, name)[items] = getattr(part, name)
