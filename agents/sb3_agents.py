"""SAC and PPO of stable-baselines3 on the voltage-regulation environment, neither of them modified.

Source: Raffin et al., Stable-Baselines3, JMLR 22(268), 2021; SAC: Haarnoja et al.,
arXiv:1801.01290; PPO: Schulman et al., arXiv:1707.06347. The environment is what `gymnasium.make`
gives for the registered `feederguard/VoltageRegulation-v0`, behind the package's own Monitor,
DummyVecEnv and VecNormalize. That they run on it as they are shows that it is a standard one.

The study trains on the days of its course, so it cannot use the registered name. It hands
`gymnasium.make` a copy of the registered specification whose entry point is `VoltageEnv` itself,
with network, batteries and days as arguments. Both algorithms store the action that they sent. What
the batteries' limits made of it they see in reward and observation alone.

The settings aim at a fair chance. Observations are scaled already, so only rewards are normalised:
a step's reward goes from 0 to hundreds below it, since `voltage_regulation/rules.py` counts a
thousand for each pu outside the band. stable-baselines3 is the optional dependency `sb3`. Without
it this module imports, and training says what to install.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.spaces import Box

import feederguard.agents.registration  # noqa: F401 (makes the environment known)
from feederguard.agents.environments.voltage import VoltageEnv
from feederguard.agents.environments.voltage_observation import STEPS_A_DAY, batteries_text, observe
from feederguard.agents.learning.checkpoint import (
    CheckpointError,
    agent_metadata,
    load_checkpoint,
    save_checkpoint,
)
from feederguard.agents.learning.one_thread import one_thread
from feederguard.agents.registration import VOLTAGE_REGULATION
from feederguard.models.arrays import FloatArray, IntArray
from feederguard.models.battery import Batteries
from feederguard.models.network import Network
from feederguard.models.voltage_regulation import VoltageState

ALGORITHMS = ("sac", "ppo")
PACKAGES = ("torch", "stable-baselines3", "gymnasium")  # whose versions decide what training gives
_KIND = "sb3"
_OWN = ("network", "batteries", "days")


@dataclass(frozen=True)
class Sb3Config:
    """Settings of a training; `Sb3Config.of(algorithm)` gives the defaults of each."""

    algorithm: str  # one of ALGORITHMS
    steps: int  # environment steps in all
    num_envs: int  # days side by side
    hidden: tuple[int, ...] = (256, 256)  # widths of the hidden layers, of actor and critics
    rate: float = 3e-4  # learning rate
    gamma: float = 0.95  # discount; a day has 96 steps
    normalise_reward: bool = True  # by the running standard deviation of returns
    seed: int = 0  # of parameters, actions and days
    # Other arguments of the algorithm, under its own names.
    settings: dict[str, Any] = field(default_factory=dict)
    policy_settings: dict[str, Any] = field(default_factory=dict)  # other arguments of its policy

    def __post_init__(self) -> None:
        if self.algorithm not in ALGORITHMS:
            raise ValueError(
                f"Sb3Config: algorithm is {self.algorithm!r}; use one of {', '.join(ALGORITHMS)}"
            )
        for name in ("steps", "num_envs"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"Sb3Config: {name} is {getattr(self, name)}; it must be at least 1"
                )

    @classmethod
    def of(cls, algorithm: str, **changes: Any) -> Sb3Config:
        """Return the defaults of an algorithm with some fields changed.

        Raises ValueError for an unknown algorithm.
        """
        if algorithm == "sac":
            own = {
                "batch_size": 256,
                "buffer_size": 100_000,
                "learning_starts": 1_000,
                "tau": 0.01,
                "gradient_steps": 2,
            }
            # Most steps need almost no power: an entropy worth 1 would pay for random actions all
            # day.
            return replace(
                cls("sac", 12_000, 8, settings={**own, "ent_coef": "auto_0.01"}), **changes
            )
        own = {"n_steps": 192, "batch_size": 256, "n_epochs": 5}
        # For the same reason the first actions vary by a fifth of full power and not by all of it.
        return replace(
            cls(algorithm, 30_720, 8, settings=own, policy_settings={"log_std_init": -1.5}),
            **changes,
        )


@dataclass(frozen=True, eq=False)
class Sb3Record:
    """What happened while it learned, with an entry per day in the order of their ends.

    Unfinished days come last.
    """

    reward: FloatArray  # (n_episode,) as the environment gave it, not normalised
    # (n_episode,) steps taken, fewer than a day has where it ended early or training did
    n_steps: IntArray
    # (n_episode,) steps with a bus outside its band by the AC flow, exploration included
    n_violation_steps: IntArray
    worst_excess_pu: FloatArray  # (n_episode,)
    regulation_kwh: FloatArray  # (n_episode,)
    steps: int  # environment steps
    seconds: float


class Sb3Policy:
    """A policy of stable-baselines3 as a `VoltageMethod`; made by `train` or `load`.

    It answers with its most likely action.
    """

    def __init__(
        self,
        name: str,
        network: Network,
        batteries: Batteries,
        policy: Any,
        hidden: tuple[int, ...],
        n_step: int,
    ) -> None:
        self.name, self.network, self.batteries = name, network, batteries
        self.policy, self.hidden, self.n_step = policy, hidden, n_step

    @classmethod
    def train(cls, config: Sb3Config, **environment: Any) -> tuple[Sb3Policy, Sb3Record]:
        """Return a policy and its record.

        environment: arguments of gymnasium.make, that is feeder, weeks, ... of a bundled case; or
        network, batteries, days, ... of `VoltageEnv`. One seed gives the same numbers every time.

        Raises ImportError where stable-baselines3 is missing, ValueError where both kinds of
        arguments are mixed or one of the three is missing, and as the environment.
        """
        package, spec = _package(), _specification(environment)
        with _own_random_numbers(), one_thread():
            envs = package.common.vec_env.DummyVecEnv(
                [lambda: package.common.monitor.Monitor(gym.make(spec, **environment))]
                * config.num_envs
            )
            episodes = envs.envs[0].unwrapped.episodes
            if config.normalise_reward:
                envs = package.common.vec_env.VecNormalize(envs, norm_obs=False, gamma=config.gamma)
            algorithm = {"sac": package.SAC, "ppo": package.PPO}[config.algorithm]
            model = algorithm(
                "MlpPolicy",
                envs,
                learning_rate=config.rate,
                gamma=config.gamma,
                seed=config.seed,
                device="cpu",
                policy_kwargs={"net_arch": list(config.hidden), **config.policy_settings},
                **config.settings,
            )
            log = _log(config.num_envs, config.normalise_reward)
            begin = perf_counter()
            model.learn(config.steps, callback=log)
            record = log.record(model.num_timesteps, perf_counter() - begin)
        hidden = tuple(config.hidden)
        name, n_step = config.algorithm, episodes.days.n_step
        return cls(name, episodes.network, episodes.batteries, model.policy, hidden, n_step), record

    def decide(self, state: VoltageState) -> FloatArray:
        """Return the power of each battery, (B, n_bat) pu."""
        seen = observe(self.network, self.batteries, state, self.n_step)
        with one_thread():
            action, _ = self.policy.predict(seen, deterministic=True)
        return np.asarray(np.clip(action.astype(float), -1.0, 1.0) * self.batteries.p_max)

    def save(self, path: str | Path) -> None:
        """Write the policy's tensors and sizes to a safetensors file; loading it runs no code."""
        words = agent_metadata(_KIND, self.network, batteries_text(self.network, self.batteries))
        words |= {"name": self.name, "hidden": json.dumps(self.hidden), "n_step": str(self.n_step)}
        save_checkpoint(path, self.policy.state_dict(), words)

    @classmethod
    def load(cls, path: str | Path, network: Network, batteries: Batteries) -> Sb3Policy:
        """Return the policy saved at `path`.

        Raises `CheckpointError` when the file is missing, damaged, or of another kind of agent,
        feeder or batteries; ImportError where stable-baselines3 is missing.
        """
        checkpoint = load_checkpoint(
            path, kind=_KIND, network=network, setting=batteries_text(network, batteries)
        )
        words = checkpoint.metadata
        try:
            name, n_step, hidden = (
                words["name"],
                int(words["n_step"]),
                tuple(json.loads(words["hidden"])),
            )
            policy = _empty_policy(name, network, batteries, hidden, n_step)
            policy.load_state_dict(checkpoint.tensors)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise CheckpointError(
                f"{path}: its policy does not fit together ({error}); train and save again"
            ) from error
        policy.set_training_mode(False)
        return cls(name, network, batteries, policy, hidden, n_step)


def _specification(environment: dict[str, Any]) -> Any:
    """Return the registered environment's name, or its specification with `VoltageEnv` itself.

    The second is for a network of one's own.
    """
    own = [name for name in _OWN if name in environment]
    if not own:
        return VOLTAGE_REGULATION
    missing = [name for name in _OWN if name not in environment]
    named = [name for name in ("feeder", "weeks") if name in environment]
    if missing or named:
        what = f"{named[0]} with {own[0]}" if named else f"{own[0]} without {missing[0]}"
        raise ValueError(
            f"Sb3Policy.train: {what}; give feeder and weeks of a bundled case, or "
            f"{', '.join(_OWN)} together"
        )
    made_by: Any = VoltageEnv
    return replace(gym.spec(VOLTAGE_REGULATION), entry_point=made_by, vector_entry_point=None)


def _package() -> Any:
    try:
        import stable_baselines3
        import stable_baselines3.common.callbacks
        import stable_baselines3.common.monitor
        import stable_baselines3.common.vec_env
    except ImportError:
        raise ImportError(
            "SAC and PPO come from stable-baselines3, which is not installed: pip install "
            '"feederguard[sb3]"'
        ) from None
    return stable_baselines3


@contextmanager
def _own_random_numbers() -> Iterator[None]:
    """Restore at the end every generator that stable-baselines3 seeds for the whole process."""
    legacy, plain = np.random.get_state(), random.getstate()
    with torch.random.fork_rng(devices=[]):
        try:
            yield
        finally:
            np.random.set_state(legacy)
            random.setstate(plain)


def _empty_policy(
    name: str, network: Network, batteries: Batteries, hidden: tuple[int, ...], n_step: int
) -> Any:
    package = _package()
    zero = np.zeros((1, network.n_bus))
    state = VoltageState(
        zero, zero, zero + 1.0, np.full((1, len(batteries)), 0.5), np.zeros(1, dtype=np.int64)
    )
    width = observe(network, batteries, state, n_step or STEPS_A_DAY).shape[1]
    # The bounds of observations say nothing to a policy of real numbers.
    seen = Box(-np.inf, np.inf, (width,), np.float32)
    acted = Box(-1.0, 1.0, (len(batteries),), np.float32)
    kind = {"sac": package.SAC, "ppo": package.PPO}[name].policy_aliases["MlpPolicy"]
    with torch.random.fork_rng(devices=[]):
        return kind(seen, acted, lambda _: 0.0, net_arch=list(hidden))


def _log(num_envs: int, normalised: bool) -> Any:
    """Return a callback of stable-baselines3 that keeps the figures of days.

    Its class can only be made where the package is installed.
    """
    base = _package().common.callbacks.BaseCallback

    class Log(base):  # type: ignore[misc, valid-type]
        def __init__(self) -> None:
            super().__init__()
            self._now = np.zeros((5, num_envs))  # reward, steps, violation steps, worst excess, kWh
            self._done: list[FloatArray] = []

        def _on_step(self) -> bool:
            envs = self.training_env
            # What the environment gave, where the wrapper hands on something else.
            rewards = envs.get_original_reward() if normalised else self.locals["rewards"]
            for k, info in enumerate(self.locals["infos"]):
                reward, steps, violations, worst, kwh = self._now[:, k]
                self._now[:, k] = (
                    reward + float(rewards[k]),
                    steps + 1,
                    violations + (info["n_violations"] > 0),
                    max(worst, info["worst_excess_pu"]),
                    kwh + info["regulation_kwh"],
                )
                if self.locals["dones"][k]:
                    self._put_away(k)
            return True

        def _put_away(self, k: int) -> None:
            self._done.append(self._now[:, k].copy())
            self._now[:, k] = 0.0

        def record(self, steps: int, seconds: float) -> Sb3Record:
            for k in np.flatnonzero(self._now[1]).tolist():
                self._put_away(k)
            reward, taken, violations, worst, kwh = (
                np.array(self._done, dtype=float).reshape(-1, 5).T
            )
            return Sb3Record(
                reward,
                taken.astype(np.int64),
                violations.astype(np.int64),
                worst,
                kwh,
                steps,
                seconds,
            )

    return Log()
