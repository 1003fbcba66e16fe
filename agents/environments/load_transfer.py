"""Load transfer as a Gymnasium environment: single, or batched for thousands of scenarios.

Source: Zhou et al., Energy Engineering 121(6), 2024, whose equation numbers these are. Physics,
cost, limits and rewards (10), (11), (21) are the judge's (`models/load_transfer/judge.py`).

    observation (8), (9)
        The failed branch, one-hot; then per bus p_load, q_load and p_gen, in units of the feeder's
        mean nominal active load per loaded bus. With a horizon of several hours also the state of
        each switchable branch (1 closed) and the fraction of the horizon that is left.
    action (7)
        Numbers in [0, 1]: the shed fraction of each bus with nominal load, in bus order, then one
        number per switchable branch, in branch order. What is outside is clipped, NaN is refused.
        meshed setting    a branch is closed where its number is at least 0.5
        radial setting    the numbers are keys of a maximal spanning forest
                          (`models/switching/forests.py`): branches of high keys are closed first,
                          so every action is radial and feeds all that can be fed; switches where
                          nothing can be fed keep their normal state

An episode is one fault that lasts `horizon` hours: a decision an hour, switching charged against
the hour before. It ends by termination, since the fault is then repaired, and is never truncated.
Episode k of a pool of scenarios is its rows k * horizon to (k + 1) * horizon - 1. They are
consecutive hours of the same fault.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any

import numpy as np
from gymnasium.spaces import Box
from numpy.typing import ArrayLike

from feederguard.agents.environments.batching import (
    BatchedEnv,
    SingleEnv,
    asked_numbers,
    check_options,
    check_running,
)
from feederguard.agents.environments.load_transfer_actions import (
    action_layout,
    decode_actions,
    encode_decisions,
    observe,
)
from feederguard.models.arrays import BoolArray, Float32Array, FloatArray, IntArray
from feederguard.models.load_transfer import (
    Decisions,
    Outcomes,
    Scenarios,
    Setting,
    judge,
    make_scenarios,
    resolve_setting,
)
from feederguard.models.load_transfer.scenario import check_scenarios
from feederguard.models.load_transfer.setting import refuse_whole_loads
from feederguard.models.network import Network

Correct = Callable[[Scenarios, Decisions], Decisions]


class LoadTransferEnv(SingleEnv["_FaultEpisodes"]):
    """One fault at a time.

    `info` holds the fields of `Outcomes` but the reward, `applied_action` and `pool_row`. correct:
    changes a batch of decisions before the grid receives them; the reward is then (21), and
    `info["applied_action"]` encodes what the grid received. `reset(options={"episode": k})` picks
    an episode of the pool, otherwise one is drawn; there are no other options. `pool_row` is the
    row of the pool that was shown (reset) or judged (step).

    Raises ValueError at once when the pool is empty or of another feeder. Raises it when the pool
    holds a value that is not finite, or is not made of episodes of `horizon` rows. `step` raises
    `ResetNeeded` after the end of an episode.
    """

    def __init__(
        self,
        network: Network,
        scenarios: Scenarios,
        setting: str | Setting = "paper",
        horizon: int = 1,
        correct: Correct | None = None,
        render_mode: str | None = None,
    ) -> None:
        super().__init__(_FaultEpisodes(network, scenarios, setting, horizon, correct), render_mode)


class LoadTransferVectorEnv(BatchedEnv["_FaultEpisodes"]):
    """`num_envs` faults a step; arguments, errors and `info` as `LoadTransferEnv`, batch first.

    All environments begin and end together. The step that ends them returns the first observations
    of new episodes, and the last ones in `info["final_obs"]`. `reset(options={"episode": k})` takes
    one episode for all or (num_envs,) of them.
    """

    def __init__(
        self,
        network: Network,
        scenarios: Scenarios,
        setting: str | Setting = "paper",
        horizon: int = 1,
        num_envs: int = 256,
        correct: Correct | None = None,
        render_mode: str | None = None,
    ) -> None:
        episodes = _FaultEpisodes(network, scenarios, setting, horizon, correct)
        super().__init__(episodes, num_envs, render_mode)


class _FaultEpisodes:
    """A batch of episodes that go on together, hour by hour; both environments are made of it."""

    def __init__(
        self,
        network: Network,
        scenarios: Scenarios,
        setting: str | Setting,
        horizon: int,
        correct: Correct | None,
    ) -> None:
        self.network = network
        self.setting = resolve_setting(network, setting)
        refuse_whole_loads(self.setting, "the environment")
        self.pool = _checked_pool(network, scenarios, horizon)
        self.horizon = horizon
        self.correct = correct
        self.hour = horizon
        self.episode: IntArray = np.zeros(0, dtype=np.int64)
        self.closed: BoolArray = np.zeros((0, network.n_branch), dtype=bool)
        self.layout = action_layout(network, self.setting)
        shown = observe(network, self.pool)
        n_extra = len(self.layout.switchable) + 1 if horizon > 1 else 0
        # The pool says how large a demand can be; an unbounded space would say nothing.
        self.observation_space = Box(
            min(float(shown.min()), 0.0),
            max(float(shown.max()), 1.0),
            (shown.shape[1] + n_extra,),
            np.float32,
        )
        self.action_space = Box(0.0, 1.0, (self.layout.size,), np.float32)

    @property
    def rows(self) -> IntArray:
        """The row of the pool of each environment; after the end, the last one of its episode."""
        return self.episode * self.horizon + min(self.hour, self.horizon - 1)

    def begin(
        self, rng: np.random.Generator, n: int, options: dict[str, Any], afresh: bool
    ) -> None:
        check_options(options, ("episode",))
        asked, n_episode = options.get("episode"), len(self.pool) // self.horizon
        self.episode = (
            rng.integers(0, n_episode, n)
            if asked is None
            else asked_numbers("episode", asked, n, n_episode)
        )
        self.hour = 0
        self.closed = np.tile(self.network.closed, (n, 1))
        self.closed[self.pool[self.rows].failed_branches(self.network.n_branch)] = False

    def begin_where(self, rng: np.random.Generator, ended: BoolArray) -> None:
        self.begin(rng, len(ended), {}, afresh=False)  # they have all ended

    def place(self) -> dict[str, Any]:
        return {"pool_row": self.rows}

    def observe(self) -> Float32Array:
        shown = observe(self.network, self.pool[self.rows])
        if self.horizon == 1:
            return shown
        left = np.full((len(shown), 1), 1.0 - self.hour / self.horizon)
        return np.concatenate(
            (shown, self.closed[:, self.layout.switchable], left), axis=1, dtype=np.float32
        )

    def step(self, actions: ArrayLike) -> tuple[FloatArray, BoolArray, BoolArray, dict[str, Any]]:
        check_running(self.hour < self.horizon)
        rows = self.rows
        scenarios = self.pool[rows]
        proposed = decode_actions(self.network, self.setting, scenarios, actions)
        applied = proposed if self.correct is None else self.correct(scenarios, proposed)
        outcome = judge(
            self.network,
            scenarios,
            applied,
            self.setting,
            proposed=None if self.correct is None else proposed,
            before=self.closed,
        )
        self.closed = np.asarray(applied.closed)
        self.hour += 1
        info = {
            field.name: getattr(outcome, field.name)
            for field in fields(Outcomes)
            if field.name != "reward"
        }
        info["applied_action"] = encode_decisions(self.network, self.setting, applied)
        info["pool_row"] = rows
        repaired = np.full(len(rows), self.hour >= self.horizon)
        return outcome.reward, repaired, np.zeros(len(rows), dtype=bool), info


def _checked_pool(network: Network, scenarios: Scenarios, horizon: int) -> Scenarios:
    """Return the pool of an environment, or raise where it is given rather than in a later step."""
    if not len(scenarios):
        raise ValueError(f"{network.name}: the pool of scenarios is empty; give at least one")
    check_scenarios(network, scenarios, "environment")
    pool = make_scenarios(
        network, scenarios.fault, scenarios.p_load, scenarios.q_load, scenarios.p_gen
    )
    if horizon != int(horizon) or horizon < 1:
        raise ValueError(f"horizon is {horizon}; a fault lasts a whole number of hours, at least 1")
    if len(pool) % horizon:
        raise ValueError(
            f"{network.name}: a pool of {len(pool)} scenarios does not divide into episodes of "
            f"{horizon} hours; give a multiple of horizon={horizon}, the hours of each fault one "
            "after the other"
        )
    by_episode = pool.fault.reshape(-1, horizon)
    mixed = np.flatnonzero((by_episode != by_episode[:, :1]).any(axis=1))
    if mixed.size:
        first = int(mixed[0]) * horizon
        raise ValueError(
            f"{network.name}: scenarios {first} to {first + horizon - 1} make one episode of "
            f"{horizon} hours but not all have the same fault; order the pool by fault, then by "
            "hour"
        )
    return pool
