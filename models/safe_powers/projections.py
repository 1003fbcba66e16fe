"""Projections of proposals with their derivative: what the gradient of a policy goes back through.

Powers in pu, (B, n_bat). `pull_back` takes a gradient with respect to the projected powers and
returns that with respect to the proposals. It is that of the active set found.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from feederguard.models.arrays import BoolArray, FloatArray, IntArray
from feederguard.models.safety_qp.projection import Projection, pull_back


@dataclass(frozen=True, eq=False)
class LinearProjection:
    """The projection onto (1) of `nearest.py`."""

    answer: Projection
    through: BoolArray  # (B, n_bat) where the proposal came to the projection uncut
    columns: FloatArray  # (n_bat, m) of (1)
    p_max: FloatArray  # (n_bat,)

    @property
    def p(self) -> FloatArray:
        """The projected powers."""
        return self.answer.a * self.p_max

    def pull_back(self, gradient: FloatArray) -> FloatArray:
        """Return the gradient with respect to the proposals."""
        along = pull_back(self.answer, self.columns, gradient * self.p_max)
        return np.asarray(along * self.through / self.p_max)


@dataclass(frozen=True, eq=False)
class AcProjection:
    """The projection onto (2) of `nearest.py`; `answer` and `columns` are of the items `left`."""

    a: FloatArray  # (B, n_bat) projected actions
    left: IntArray  # items whose cut proposal is not safe as it is
    uncut: BoolArray  # (B, n_bat) where the proposal lies inside its interval
    answer: Projection | None  # None where no item is left
    columns: FloatArray  # (len(left), n_bat, m) of (2)
    p_max: FloatArray  # (n_bat,)

    @property
    def p(self) -> FloatArray:
        """The projected powers."""
        return self.a * self.p_max

    def pull_back(self, gradient: FloatArray) -> FloatArray:
        """Return the gradient with respect to the proposals."""
        wanted = gradient * self.p_max
        along = wanted * self.uncut
        if self.answer is not None:
            along[self.left] = pull_back(self.answer, self.columns, wanted[self.left])
        return np.asarray(along / self.p_max)
