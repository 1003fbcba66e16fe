"""The load-transfer environments on a feeder by name and the bundled year of demand.

`feederguard.agents.registration` registers them as `feederguard/LoadTransfer-v0`. An episode of
several hours starts in an hour of the weeks asked for and stays in them. Its demand and sunshine
are those of the hours that follow.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any, TypedDict, Unpack

import numpy as np
from numpy.typing import NDArray

from feederguard.agents.environments.load_transfer import (
    Correct,
    LoadTransferEnv,
    LoadTransferVectorEnv,
)
from feederguard.data.networks import load_network
from feederguard.data.profiles import load_profiles
from feederguard.data.sampling import sample_scenarios
from feederguard.models.load_transfer import Scenarios, Setting, make_scenarios
from feederguard.models.network import Network

MOST_HOURS = 24
POOL_SIZE = 4096


class PoolChoice(TypedDict, total=False):
    """Which scenarios an environment draws from; see `make_env`."""

    feeder: str
    weeks: str
    pool_size: int
    seed: int


def make_env(
    feeder: str = "ieee33",
    setting: str | Setting = "paper",
    weeks: str = "train",
    pool_size: int = POOL_SIZE,
    seed: int = 0,
    horizon: int = 1,
    correct: Correct | None = None,
    render_mode: str | None = None,
) -> LoadTransferEnv:
    """Return the environment of one fault at a time.

    feeder: a bundled feeder or a path. weeks: "train" or "test". pool_size: number of episodes
    drawn, from `seed`. horizon: hours a fault lasts. correct: as `LoadTransferEnv`.

    Raises as `load_network`, `sample_scenarios` and `LoadTransferEnv`, and ValueError when horizon
    is not 1 to MOST_HOURS.
    """
    network, pool = _pool(feeder, weeks, pool_size, seed, horizon)
    return LoadTransferEnv(network, pool, setting, horizon, correct, render_mode)


def make_vector_env(
    num_envs: int = 1,
    setting: str | Setting = "paper",
    horizon: int = 1,
    correct: Correct | None = None,
    render_mode: str | None = None,
    **pool: Unpack[PoolChoice],
) -> LoadTransferVectorEnv:
    """Return the natively batched environment of `num_envs` faults at a time.

    pool: feeder, weeks, pool_size and seed. Arguments and errors as `make_env`.
    """
    network, scenarios = _pool(horizon=horizon, **pool)
    return LoadTransferVectorEnv(
        network, scenarios, setting, horizon, num_envs, correct, render_mode
    )


def sample_episodes(network: Network, count: int, seed: int, weeks: str, horizon: int) -> Scenarios:
    """Return count * horizon scenarios of the bundled year: the consecutive hours of each fault.

    With horizon 1 they are those of `sample_scenarios`. Raises as that, and ValueError when horizon
    is not 1 to MOST_HOURS.
    """
    if horizon not in range(1, MOST_HOURS + 1):
        raise ValueError(f"horizon is {horizon}; a fault lasts 1 to {MOST_HOURS} whole hours")
    year = load_profiles().resample(60)
    if horizon == 1 or count < 1:
        return sample_scenarios(network, year, count, seed, weeks).scenarios
    hours: list[Scenarios] = []
    kept = np.zeros(0, dtype=np.int64)
    for ahead in range(horizon):
        # Every series moved back by `ahead` hours on the same clock makes the same draws, that much
        # later. More are drawn than are wanted, since some begin too near the end of their weeks.
        later = replace(
            year, load=np.roll(year.load, -ahead, axis=0), pv=np.roll(year.pv, -ahead, axis=0)
        )
        drawn = sample_scenarios(network, later, 2 * count + 32, seed, weeks)
        if not ahead:
            allowed = year.test_steps if weeks == "test" else year.train_steps
            kept = np.flatnonzero(np.isin(drawn.step + horizon - 1, allowed))[:count]
        hours.append(drawn.scenarios[kept])

    def by_episode(name: str) -> NDArray[Any]:
        return np.stack([getattr(hour, name) for hour in hours], axis=1).reshape(
            horizon * len(kept), -1
        )

    return make_scenarios(
        network,
        by_episode("fault").ravel(),
        by_episode("p_load"),
        by_episode("q_load"),
        by_episode("p_gen"),
    )


def _pool(
    feeder: str = "ieee33",
    weeks: str = "train",
    pool_size: int = POOL_SIZE,
    seed: int = 0,
    horizon: int = 1,
) -> tuple[Network, Scenarios]:
    return _shared_pool(feeder, weeks, pool_size, seed, horizon)


# Environments of one pool share its arrays, and what has been compiled for its network.
@lru_cache(maxsize=8)
def _shared_pool(
    feeder: str, weeks: str, pool_size: int, seed: int, horizon: int
) -> tuple[Network, Scenarios]:
    network = load_network(feeder)
    return network, sample_episodes(network, pool_size, seed, weeks, horizon)
