"""Batching on a toy by hand: counters that end after one, two and three steps."""

from typing import Any

import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode

from feederguard.agents.environments.batching import (
    BatchedEnv,
    SingleEnv,
    asked_numbers,
    check_options,
    check_running,
)
from feeders import two_buses


class Counters:
    """Counter k shows how many steps it has made; those of the pool end after 1, 2 and 3 steps.

    The reward is the action. A counter whose action is above 1 is terminated.
    """

    network = two_buses(name="toy")
    observation_space = Box(0.0, 3.0, (1,), np.float32)
    action_space = Box(0.0, 2.0, (1,), np.float32)

    def __init__(self) -> None:
        self.number = self.count = np.zeros(0, dtype=np.int64)

    def begin(
        self, rng: np.random.Generator, n: int, options: dict[str, Any], afresh: bool
    ) -> None:
        check_options(options, ("counter",))
        self.afresh = afresh
        self.number = asked_numbers("counter", options.get("counter", 0), n, 3)
        self.count = np.zeros(n, dtype=np.int64)

    def begin_where(self, rng: np.random.Generator, ended: Any) -> None:
        self.count[ended] = 0

    def observe(self) -> Any:
        return self.count[:, None].astype(np.float32)

    def place(self) -> dict[str, Any]:
        return {"counter": self.number.copy()}

    def step(self, actions: Any) -> Any:
        check_running(len(self.count) > 0 and bool((self.count <= self.number).all()))
        reward = np.asarray(actions, dtype=float)[:, 0]
        self.count = self.count + 1
        terminated = reward > 1
        truncated = (self.count > self.number) & ~terminated
        return reward, terminated, truncated, {"twice": np.stack([reward, 2 * reward], axis=1)}


def test_a_single_environment_is_a_batch_of_one_without_its_first_axis() -> None:
    env = SingleEnv(Counters())
    observation, info = env.reset(seed=0, options={"counter": 1})
    assert observation.tolist() == [0.0] and info == {"counter": 1} and env.episodes.afresh
    assert type(info["counter"]) is int
    observation, reward, terminated, truncated, info = env.step(np.array([0.5], np.float32))
    assert observation.tolist() == [1.0] and info["twice"].tolist() == [0.5, 1.0]
    assert (reward, terminated, truncated) == (0.5, False, False)
    assert env.step(np.array([0.5], np.float32))[2:4] == (False, True)
    with pytest.raises(ResetNeeded, match=r"has ended, or none has begun; call reset\(\)"):
        env.step(np.array([0.5], np.float32))
    env.reset()
    assert not env.episodes.afresh
    assert env.step(np.array([1.5], np.float32))[2:4] == (True, False)


def test_in_a_batch_an_ended_episode_begins_anew_in_the_same_step() -> None:
    env = BatchedEnv(Counters(), 3)
    assert env.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    assert env.observation_space.shape == (3, 1) and env.single_action_space.shape == (1,)
    env.reset(options={"counter": [0, 1, 2]})
    actions = np.array([[0.1], [0.2], [1.5]], np.float32)
    observations, reward, terminated, truncated, info = env.step(actions)
    assert observations.ravel().tolist() == [0, 1, 0]
    assert reward == pytest.approx([0.1, 0.2, 1.5])
    assert terminated.tolist() == [False, False, True]
    assert truncated.tolist() == [True, False, False]
    assert info["final_obs"].ravel().tolist() == [1, 1, 1]
    assert info["_final_obs"].tolist() == info["_final_info"].tolist() == [True, False, True]
    assert info["final_info"].keys() == {"twice"}


def test_a_step_that_ends_nothing_has_no_last_observation() -> None:
    env = BatchedEnv(Counters(), 2)
    env.reset(options={"counter": 2})
    info = env.step(np.zeros((2, 1), np.float32))[4]
    assert info.keys() == {"twice"}


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="num_envs is 0; step at least one environment"):
        BatchedEnv(Counters(), 0)
    env = SingleEnv(Counters())
    with pytest.raises(ResetNeeded, match="none has begun"):
        env.step(np.zeros(1, np.float32))
    with pytest.raises(ValueError, match="options: 'conter' is unknown; use counter"):
        env.reset(options={"conter": 1})
    for asked in (3, -1, [0, 1], 0.5):
        with pytest.raises(ValueError, match="give one number or 1 of them, from 0 to 2, the cou"):
            env.reset(options={"counter": asked})
    env.reset()
    with pytest.raises(ValueError, match=r"toy: action has shape \(2,\); expected \(1,\)"):
        env.step(np.zeros(2, np.float32))
