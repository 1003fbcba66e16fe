"""The record of what happened while an agent of voltage regulation learned."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from feederguard.agents.layer import Layer
from feederguard.models.arrays import BoolArray, FloatArray, IntArray
from feederguard.models.voltage_regulation import VoltageState


@dataclass(frozen=True, eq=False)
class TrainingRecord:
    """What happened while an agent learned, with an entry for each day in the order of their ends.

    Days that training left unfinished come last, with the steps that they have.
    """

    reward: FloatArray  # (n_episode,) sum over the day
    # (n_episode,) steps taken; fewer than a day has where it ended without AC solution or was left
    # unfinished
    n_steps: IntArray
    # (n_episode,) steps with a bus outside its band by the AC flow, exploration included
    n_violation_steps: IntArray
    worst_excess_pu: FloatArray  # (n_episode,) largest distance outside the band, 0 where none
    regulation_kwh: FloatArray  # (n_episode,)
    steps: int  # environment steps taken
    seconds: float
    statuses: tuple[str, ...] = ()  # the layer's words for a step; empty without a layer
    # (n_episode, len(statuses)) steps of each status
    status_steps: IntArray = field(default_factory=lambda: np.zeros((0, 0), np.int64))
    fallbacks: int = 0  # items of the actor's gradient that `Layer.fallbacks` counted

    @property
    def status_counts(self) -> dict[str, int]:
        """The steps of the whole training by status."""
        return dict(zip(self.statuses, self.status_steps.sum(axis=0).tolist(), strict=True))


class WatchedLayer:
    """A layer in acting that keeps the statuses of the last step."""

    def __init__(self, layer: Layer) -> None:
        self.layer, self.fallbacks_before = layer, layer.fallbacks
        self.said: IntArray = np.zeros(0, dtype=np.int64)

    def correct(self, state: VoltageState, p_proposed: FloatArray) -> FloatArray:
        """Return the corrected powers, (B, n_bat) pu, and keep their statuses in `said`."""
        answer = self.layer.correct(state, p_proposed)
        self.said = answer.status
        return answer.p


class TrainingLog:
    """Sums over the running day of each of n environments, and over the days that have ended."""

    def __init__(self, n: int, watched: WatchedLayer | None) -> None:
        self._watched = watched
        self._statuses = () if watched is None else watched.layer.statuses
        self._sums, self._worst = np.zeros((4 + len(self._statuses), n)), np.zeros(n)
        self._ended: list[FloatArray] = []

    def add(self, rewards: FloatArray, info: dict[str, Any], ended: BoolArray) -> None:
        """Add one step of all environments: rewards (n,), its `info`, which days ended (n,)."""
        self._sums[:4] += np.stack(
            [rewards, np.ones(len(rewards)), info["n_violations"] > 0, info["regulation_kwh"]]
        )
        if self._watched is not None:
            self._sums[4 + self._watched.said, np.arange(len(rewards))] += 1.0
        self._worst = np.maximum(self._worst, info["worst_excess_pu"])
        if ended.any():
            self._put_away(ended)

    def record(self, steps: int, seconds: float) -> TrainingRecord:
        """Return the record of a training of so many environment steps and seconds."""
        begun = self._sums[1] > 0
        if begun.any():
            self._put_away(begun)
        worst, reward, taken, violations, regulation, *said = np.hstack(
            [np.zeros((1 + len(self._sums), 0)), *self._ended]
        )
        by_status = np.array(said).reshape(len(self._statuses), len(reward)).T.astype(np.int64)
        watched = self._watched
        return TrainingRecord(
            reward,
            taken.astype(np.int64),
            violations.astype(np.int64),
            worst,
            regulation,
            steps,
            seconds,
            self._statuses,
            by_status,
            0 if watched is None else watched.layer.fallbacks - watched.fallbacks_before,
        )

    def _put_away(self, which: BoolArray) -> None:
        self._ended.append(np.vstack([self._worst[which], self._sums[:, which]]))
        self._sums[:, which], self._worst[which] = 0.0, 0.0
