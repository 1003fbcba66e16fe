"""Replay memory: the last transitions an agent has seen, drawn from at random."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from feederguard.models.arrays import Float32Array


@dataclass(frozen=True, eq=False)
class Transitions:
    """B transitions: what was seen, done and gained, and whether the episode ended there."""

    observations: Float32Array  # (B, n_observation)
    actions: Float32Array  # (B, n_action) as the environment received them
    rewards: Float32Array  # (B,)
    next_observations: Float32Array  # (B, n_observation)
    terminated: Float32Array  # (B,) 1 where nothing follows, else 0

    def __len__(self) -> int:
        return len(self.rewards)


class Replay:
    """A ring buffer of `capacity` transitions in preallocated float32; the oldest are overwritten.

    Transitions may be marked, and a share of each sample drawn from the marked ones. This helps
    where little happens in most steps.

    Raises ValueError for a capacity below 1, arrays of the wrong shape or values that are not
    finite, and for sampling from an empty memory.
    """

    def __init__(self, capacity: int, n_observation: int, n_action: int, seed: int = 0) -> None:
        if capacity < 1:
            raise ValueError(
                f"replay: capacity is {capacity}; it must hold at least one transition"
            )
        self.capacity = capacity
        self._stored = Transitions(
            np.zeros((capacity, n_observation), np.float32),
            np.zeros((capacity, n_action), np.float32),
            np.zeros(capacity, np.float32),
            np.zeros((capacity, n_observation), np.float32),
            np.zeros(capacity, np.float32),
        )
        self._marked = np.zeros(capacity, dtype=bool)
        self._rng = np.random.default_rng(seed)
        self._next = 0
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def add(
        self,
        observations: ArrayLike,
        actions: ArrayLike,
        rewards: ArrayLike,
        next_observations: ArrayLike,
        terminated: ArrayLike,
        marked: ArrayLike | None = None,
    ) -> None:
        """Store B transitions in order; of more than `capacity` the last are kept.

        marked: (B,) bool, default none of them.
        """
        given = (observations, actions, rewards, next_observations, terminated)
        arrays = [np.asarray(value, dtype=np.float32) for value in given]
        n = len(arrays[2]) if arrays[2].ndim == 1 else 0
        for (name, store), array in zip(vars(self._stored).items(), arrays, strict=True):
            if array.shape != (n, *store.shape[1:]):
                raise ValueError(
                    f"replay: {name} has shape {array.shape}; expected {('B', *store.shape[1:])}, "
                    "one B"
                )
            if not np.isfinite(array).all():
                raise ValueError(
                    f"replay: {name} holds a value that is not finite; the environment must not "
                    "send one"
                )
        kept = min(n, self.capacity)
        slots = (self._next + np.arange(n - kept, n)) % self.capacity
        for store, array in zip(vars(self._stored).values(), arrays, strict=True):
            store[slots] = array[n - kept :]
        marks = np.zeros(n, dtype=bool) if marked is None else np.asarray(marked, dtype=bool)
        if marks.shape != (n,):
            raise ValueError(
                f"replay: marked has shape {marks.shape}; expected ({n},), one per transition"
            )
        self._marked[slots] = marks[n - kept :]
        self._next = (self._next + n) % self.capacity
        self._size = min(self._size + n, self.capacity)

    def sample(self, count: int, marked_share: float = 0.0) -> Transitions:
        """Return `count` transitions, drawn uniformly with repetition by the memory's generator.

        marked_share: share of them drawn from the marked ones alone, as long as there are any.
        """
        if not self._size:
            raise ValueError("replay: the memory is empty; remember transitions before sampling")
        drawn = self._rng.integers(0, self._size, count)
        n_marked = round(marked_share * count)
        if n_marked:
            marked = np.flatnonzero(self._marked[: self._size])
            if len(marked):
                drawn[:n_marked] = marked[self._rng.integers(0, len(marked), n_marked)]
        return Transitions(*(store[drawn] for store in vars(self._stored).values()))
