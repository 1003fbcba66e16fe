"""A batch of episodes as Gymnasium environments: of one episode, and of many at once.

A job writes its episodes once, batch first, as `Episodes`. `SingleEnv` shows a batch of one without
its first axis; `BatchedEnv` shows the whole batch. Autoreset is SAME_STEP: where an episode ends,
the step returns the first observation of a new one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Generic, Protocol, TypeVar

import gymnasium as gym
import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from numpy.typing import ArrayLike, NDArray

from feederguard.models.arrays import BoolArray, Float32Array, FloatArray, IntArray
from feederguard.models.network import Network


class Episodes(Protocol):
    """A batch of n episodes of one job. The spaces are those of one episode."""

    network: Network
    observation_space: Box[Any]
    action_space: Box[Any]

    def begin(
        self, rng: np.random.Generator, n: int, options: dict[str, Any], afresh: bool
    ) -> None:
        """Begin n episodes; `afresh` where a seed was given, so that none continues another."""
        ...

    def begin_where(self, rng: np.random.Generator, ended: BoolArray) -> None:
        """Begin the next episode in the places (n,) where one has ended."""
        ...

    def observe(self) -> Float32Array:
        """Return the observations, (n, n_observation)."""
        ...

    def place(self) -> dict[str, Any]:
        """Return the `info` of a reset: where in the pool each episode is, (n, ...) each."""
        ...

    def step(self, actions: ArrayLike) -> tuple[FloatArray, BoolArray, BoolArray, dict[str, Any]]:
        """Return rewards, which are terminated, which truncated, and `info`, (n, ...) each."""
        ...


E = TypeVar("E", bound=Episodes)


class SingleEnv(gym.Env[Float32Array, Float32Array], Generic[E]):
    """One episode at a time."""

    metadata: dict[str, Any] = {"render_modes": []}

    def __init__(self, episodes: E, render_mode: str | None = None) -> None:
        self.episodes = episodes
        self.observation_space = episodes.observation_space
        self.action_space = episodes.action_space
        self.render_mode = render_mode

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Float32Array, dict[str, Any]]:
        """Return the first observation of an episode, and its place in the pool."""
        super().reset(seed=seed)
        self.episodes.begin(self.np_random, 1, options or {}, afresh=seed is not None)
        return self.episodes.observe()[0], _first(self.episodes.place())

    def step(self, action: Float32Array) -> tuple[Float32Array, float, bool, bool, dict[str, Any]]:
        """Return observation, reward, whether terminated, whether truncated, and `info`."""
        shape = np.shape(action)
        if shape != self.action_space.shape:
            raise ValueError(
                f"{self.episodes.network.name}: action has shape {shape}; expected "
                f"{self.action_space.shape}"
            )
        reward, terminated, truncated, info = self.episodes.step(np.asarray(action)[None])
        return (
            self.episodes.observe()[0],
            float(reward[0]),
            bool(terminated[0]),
            bool(truncated[0]),
            _first(info),
        )


class BatchedEnv(gym.vector.VectorEnv[Float32Array, Float32Array, NDArray[Any]], Generic[E]):
    """`num_envs` episodes at once, in arrays throughout.

    Where an episode ends, its last observation is in `info["final_obs"]`, (num_envs,
    n_observation), valid where `info["_final_obs"]`.
    """

    metadata: dict[str, Any] = {"render_modes": [], "autoreset_mode": AutoresetMode.SAME_STEP}

    def __init__(self, episodes: E, num_envs: int, render_mode: str | None = None) -> None:
        if num_envs < 1:
            raise ValueError(f"num_envs is {num_envs}; step at least one environment")
        self.episodes = episodes
        self.num_envs = num_envs
        self.render_mode = render_mode
        self.single_observation_space = episodes.observation_space
        self.single_action_space = episodes.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Float32Array, dict[str, Any]]:
        """Return the first observations of episodes, and their places in the pool."""
        super().reset(seed=seed)
        self.episodes.begin(self.np_random, self.num_envs, options or {}, afresh=seed is not None)
        return self.episodes.observe(), self.episodes.place()

    def step(
        self, actions: Float32Array
    ) -> tuple[Float32Array, NDArray[Any], NDArray[Any], NDArray[Any], dict[str, Any]]:
        """Return observations, rewards, which are terminated, which truncated, and `info`."""
        reward, terminated, truncated, info = self.episodes.step(actions)
        observations = self.episodes.observe()
        ended = terminated | truncated
        if ended.any():
            info |= {"final_info": dict(info), "_final_info": ended.copy()}
            info |= {"final_obs": observations, "_final_obs": ended.copy()}
            self.episodes.begin_where(self.np_random, ended)
            observations = self.episodes.observe()
        return observations, reward, terminated, truncated, info


def check_options(options: dict[str, Any], known: Sequence[str]) -> None:
    """Raise ValueError for an option of `reset` that the environment does not know."""
    unknown = [name for name in options if name not in known]
    if unknown:
        raise ValueError(f"options: {unknown[0]!r} is unknown; use {' and '.join(known)}")


def asked_numbers(name: str, asked: ArrayLike, n: int, n_pool: int) -> IntArray:
    """Return the numbers (n,) that option `name` asks for: one for all, or n of them.

    Raises ValueError where they are not whole numbers from 0 to n_pool - 1.
    """
    numbers = np.asarray(asked)
    fits = numbers.dtype.kind in "iu" and numbers.shape in ((), (n,))
    if not fits or (numbers < 0).any() or (numbers >= n_pool).any():
        raise ValueError(
            f"options: {name} is {asked!r}; give one number or {n} of them, from 0 to "
            f"{n_pool - 1}, the {name}s of the pool"
        )
    return np.array(np.broadcast_to(numbers, n), dtype=np.int64)


def check_running(running: bool) -> None:
    """Raise `ResetNeeded` where an episode has ended or none has begun."""
    if not running:
        raise ResetNeeded("the episode has ended, or none has begun; call reset() before step()")


def _first(info: dict[str, Any]) -> dict[str, Any]:
    """Return the values of the first episode, numbers as Python's own."""
    return {name: value[0] if value.ndim > 1 else value[0].item() for name, value in info.items()}
