"""SAC and PPO of stable-baselines3 on the registered voltage-regulation environment, neither of the two modified.

Source: Raffin et al., Stable-Baselines3, JMLR 22(268), 2021; SAC: Haarnoja et al., arXiv:1801.01290; PPO: Schulman et al.,
arXiv:1707.06347. The environment is what `gymnasium.make("feederguard/VoltageRegulation-v0", ...)` gives, behind the
package's own Monitor, DummyVecEnv and VecNormalize: that they run on it as they are shows that it is a standard one.

The settings aim at a fair chance. Observations are scaled already, so only rewards are normalised: a step's reward goes
from 0 to hundreds below it, since (3) of `voltage_regulation.py` counts a thousand for each pu outside the band.
stable-baselines3 is the optional dependency `sb3`; without it this module imports, and training says what to install.
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
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

import feederguard.agents.registration  # noqa: F401 (makes the environment known)
from feederguard.agents.checkpoint import CheckpointError, network_fingerprint
from feederguard.agents.one_thread import one_thread
from feederguard.agents.registration import VOLTAGE_REGULATION
from feederguard.agents.voltage_observation import STEPS_A_DAY, observe
from feederguard.models.battery import Batteries
from feederguard.models.network import FloatArray, IntArray, Network
from feederguard.models.voltage_days import VoltageState

ALGORITHMS = ("sac", "ppo")


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
    settings: dict[str, Any] = field(default_factory=dict)  # further arguments of the algorithm, under its own names
    policy_settings: dict[str, Any] = field(default_factory=dict)  # further ones of its policy

    def __post_init__(self) -> None:
        if self.algorithm not in ALGORITHMS:
            raise ValueError(f"Sb3Config: algorithm is {self.algorithm!r}; use one of {', '.join(ALGORITHMS)}")
        for name in ("steps", "num_envs"):
            if getattr(self, name) < 1:
                raise ValueError(f"Sb3Config: {name} is {getattr(self, name)}; it must be at least 1")

    @classmethod
    def of(cls, algorithm: str, **changes: Any) -> Sb3Config:
        """Return the defaults of an algorithm with some fields changed; raises ValueError for an unknown one."""
        if algorithm == "sac":
            own = {
                "batch_size": 256,
                "buffer_size": 100_000,
                "learning_starts": 1_000,
                "tau": 0.01,
                "gradient_steps": 2,
            }
            # Most steps need next to nothing: an entropy worth 1 would pay for random actions all day.
            return replace(cls("sac", 12_000, 8, settings={**own, "ent_coef": "auto_0.01"}), **changes)
        own = {"n_steps": 192, "batch_size": 256, "n_epochs": 5}
        # For the same reason the first actions vary by a fifth of full power and not by all of it.
        return replace(cls(algorithm, 30_720, 8, settings=own, policy_settings={"log_std_init": -1.5}), **changes)


@dataclass(frozen=True, eq=False)
class Sb3Record:
    """What happened while it learned, an entry per finished day, in the order in which they ended."""

    reward: FloatArray  # (n_episode,) as the environment gave it, not normalised
    n_violation_steps: IntArray  # (n_episode,) steps with a bus outside its band by the AC flow, exploration included
    worst_excess_pu: FloatArray  # (n_episode,)
    regulation_kwh: FloatArray  # (n_episode,)
    steps: int  # environment steps
    seconds: float


class Sb3Policy:
    """A policy of stable-baselines3 as a `VoltageMethod`: its most likely action. Made by `train` or `load`."""

    def __init__(
        self, name: str, network: Network, batteries: Batteries, policy: Any, hidden: tuple[int, ...], n_step: int
    ) -> None:
        self.name, self.network, self.batteries = name, network, batteries
        self.policy, self.hidden, self.n_step = policy, hidden, n_step

    @classmethod
    def train(cls, config: Sb3Config, **environment: Any) -> tuple[Sb3Policy, Sb3Record]:
        """Return a policy and its record; `environment` holds arguments of gymnasium.make: feeder, weeks, ...

        One seed gives the same numbers every time. Raises ImportError where stable-baselines3 is missing, and as the
        environment.
        """
        package = _package()
        with _own_random_numbers(), one_thread():
            envs = package.common.vec_env.DummyVecEnv(
                [lambda: package.common.monitor.Monitor(gym.make(VOLTAGE_REGULATION, **environment))] * config.num_envs
            )
            feeders = envs.envs[0].unwrapped.feeders
            if config.normalise_reward:
                envs = package.common.vec_env.VecNormalize(envs, norm_obs=False, gamma=config.gamma)
            algorithm = {"sac": package.SAC, "ppo": package.PPO}[config.algorithm]
            model = algorithm(
                "MlpPolicy", envs, learning_rate=config.rate, gamma=config.gamma, seed=config.seed, device="cpu",
                policy_kwargs={"net_arch": list(config.hidden), **config.policy_settings}, **config.settings,
            )  # fmt: skip
            log = _log(config.num_envs)
            begin = perf_counter()
            model.learn(config.steps, callback=log)
            record = log.record(model.num_timesteps, perf_counter() - begin)
        hidden = tuple(config.hidden)
        name, n_step = config.algorithm, feeders.days.n_step
        return cls(name, feeders.network, feeders.batteries, model.policy, hidden, n_step), record

    def decide(self, state: VoltageState) -> FloatArray:
        """Return the power of each battery, (B, n_bat) pu."""
        seen = observe(self.network, self.batteries, state, self.n_step)
        with one_thread():
            action, _ = self.policy.predict(seen, deterministic=True)
        return np.asarray(np.clip(action.astype(float), -1.0, 1.0) * self.batteries.p_max)

    def save(self, path: str | Path) -> None:
        """Write the policy's tensors and sizes in safetensors format, which loading runs no code of."""
        words = {
            "kind": f"sb3 {self.name}", "network": self.network.name, "hidden": json.dumps(self.hidden),
            "fingerprint": network_fingerprint(self.network), "n_step": str(self.n_step), "n_bat": str(len(self.batteries)),
        }  # fmt: skip
        whole = {name: value.detach().contiguous() for name, value in self.policy.state_dict().items()}
        save_file(whole, Path(path), words)

    @classmethod
    def load(cls, path: str | Path, network: Network, batteries: Batteries) -> Sb3Policy:
        """Return the policy saved at `path`.

        Raises `CheckpointError` when the file is missing or of another format, feeder or number of batteries; ImportError
        where stable-baselines3 is missing.
        """
        words, tensors = _read(Path(path))
        if words["fingerprint"] != network_fingerprint(network) or words["n_bat"] != str(len(batteries)):
            raise CheckpointError(
                f"{path}: trained on feeder {words['network']!r} with {words['n_bat']} batteries, which differs from this "
                f"{network.name!r} with {len(batteries)}; train a policy for this feeder, or load the one it was trained on"
            )
        name, n_step = words["kind"].removeprefix("sb3 "), int(words["n_step"])
        hidden = tuple(json.loads(words["hidden"]))
        policy = _empty_policy(name, network, batteries, hidden, n_step)
        policy.load_state_dict(tensors)
        policy.set_training_mode(False)
        return cls(name, network, batteries, policy, hidden, n_step)


def _package() -> Any:
    try:
        import stable_baselines3
        import stable_baselines3.common.callbacks
        import stable_baselines3.common.monitor
        import stable_baselines3.common.vec_env
    except ImportError:
        raise ImportError(
            'SAC and PPO come from stable-baselines3, which is not installed: pip install "feederguard[sb3]"'
        ) from None
    return stable_baselines3


@contextmanager
def _own_random_numbers() -> Iterator[None]:
    """Give back the state of every generator that stable-baselines3 seeds for the whole process."""
    legacy, plain = np.random.get_state(), random.getstate()
    with torch.random.fork_rng(devices=[]):
        try:
            yield
        finally:
            np.random.set_state(legacy)
            random.setstate(plain)


def _empty_policy(name: str, network: Network, batteries: Batteries, hidden: tuple[int, ...], n_step: int) -> Any:
    package = _package()
    zero = np.zeros((1, network.n_bus))
    state = VoltageState(zero, zero, zero + 1.0, np.full((1, len(batteries)), 0.5), np.zeros(1, dtype=np.int64))
    width = observe(network, batteries, state, n_step or STEPS_A_DAY).shape[1]
    # The bounds of observations say nothing to a policy of real numbers.
    seen = Box(-np.inf, np.inf, (width,), np.float32)
    acted = Box(-1.0, 1.0, (len(batteries),), np.float32)
    kind = {"sac": package.SAC, "ppo": package.PPO}[name].policy_aliases["MlpPolicy"]
    with torch.random.fork_rng(devices=[]):
        return kind(seen, acted, lambda _: 0.0, net_arch=list(hidden))


def _read(path: Path) -> tuple[dict[str, str], dict[str, torch.Tensor]]:
    if not path.is_file():
        raise CheckpointError(f"{path}: there is no such file; train a policy and save it there first")
    try:
        with safe_open(path, framework="pt") as file:
            words = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: not a whole safetensors file ({error}); train and save again") from error
    missing = [name for name in ("kind", "network", "hidden", "fingerprint", "n_step", "n_bat") if name not in words]
    if missing or words["kind"] not in [f"sb3 {name}" for name in ALGORITHMS]:
        raise CheckpointError(f"{path}: not a policy of Sb3Policy.save; give a file that it wrote")
    return words, tensors


def _log(num_envs: int) -> Any:
    """Return a callback of stable-baselines3 that keeps a day's figures; a class of its own only where the package is."""
    base = _package().common.callbacks.BaseCallback

    class Log(base):  # type: ignore[misc, valid-type]
        def __init__(self) -> None:
            super().__init__()
            self._now = np.zeros((3, num_envs))  # violation steps, worst excess, kWh
            self._done: list[tuple[float, ...]] = []

        def _on_step(self) -> bool:
            for k, info in enumerate(self.locals["infos"]):
                violations, worst, kwh = self._now[:, k]
                self._now[:, k] = (
                    violations + (info["n_violations"] > 0), max(worst, info["worst_excess_pu"]), kwh + info["regulation_kwh"],
                )  # fmt: skip
                if self.locals["dones"][k]:
                    self._done.append((info["episode"]["r"], *self._now[:, k]))
                    self._now[:, k] = 0.0
            return True

        def record(self, steps: int, seconds: float) -> Sb3Record:
            done = np.array(self._done, dtype=float).reshape(-1, 4)
            return Sb3Record(done[:, 0], done[:, 1].astype(np.int64), done[:, 2], done[:, 3], steps, seconds)

    return Log()
