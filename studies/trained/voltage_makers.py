"""How each kind of voltage agent is trained, written and read.

    KIND-...-KEY.safetensors    the agent
    KIND-...-KEY.slopes         the learned linear models of `safe_ddpg`

`voltage_agents.py` decides when that is done, and under which name the files are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from safetensors.torch import load_file, save_file

from feederguard.agents import safe_ddpg, safety_layer, sb3_agents, voltage_agent
from feederguard.agents.environments.voltage import VoltageVectorEnv
from feederguard.agents.environments.voltage_observation import STEPS_A_DAY
from feederguard.agents.safe_ddpg import (
    LinearSafety,
    LinearSafetyConfig,
    LinearSafetyLayer,
    try_random_actions,
)
from feederguard.agents.safety_layer import SafetyLayer
from feederguard.agents.sb3_agents import Sb3Config, Sb3Policy
from feederguard.agents.training_record import TrainingRecord
from feederguard.agents.voltage_agent import VoltageAgent, VoltageAgentConfig
from feederguard.models.battery import Batteries
from feederguard.models.network import Network
from feederguard.models.soc_tube import SocTube
from feederguard.models.voltage_regulation import VoltageDays, VoltageMethod
from feederguard.models.voltage_regulation.judge import SAFE_TOLERANCE_PU
from feederguard.models.voltage_regulation.rules import band_excess, regulation_reward

# Those that take longest come first, so that no core waits for the last one.
KINDS = ("df_srl", "sac", "ppo", "safe_ddpg", "td3", "ddpg")
FULL_DAYS, SHORT_DAYS = 2_560, 640
RANDOM_DAYS = 256  # of those, on which safe_ddpg tries random actions for its linear models
RECORD = ("reward", "n_steps", "n_violation_steps", "worst_excess_pu", "regulation_kwh")


def _plain(days: int, ddpg: bool = False) -> VoltageAgentConfig:
    """Return the settings of an agent without a layer that learns on so many days."""
    return VoltageAgentConfig.unsafe(ddpg, episodes=days)


@dataclass(frozen=True)
class SafeDdpgConfig:
    """DDPG and its learned linear correction; days of random actions count as training days."""

    agent: VoltageAgentConfig = field(
        default_factory=lambda: _plain(FULL_DAYS - RANDOM_DAYS, ddpg=True)
    )
    safety: LinearSafetyConfig = field(
        default_factory=lambda: LinearSafetyConfig(samples=RANDOM_DAYS * STEPS_A_DAY)
    )


@dataclass(frozen=True)
class VoltageAgentConfigs:
    """How each kind of agent is trained, by default on FULL_DAYS days of STEPS_A_DAY steps.

    The seeds in them are replaced by that of the training.
    """

    df_srl: VoltageAgentConfig = field(
        default_factory=lambda: VoltageAgentConfig(episodes=FULL_DAYS)
    )
    td3: VoltageAgentConfig = field(default_factory=lambda: _plain(FULL_DAYS))
    ddpg: VoltageAgentConfig = field(default_factory=lambda: _plain(FULL_DAYS, ddpg=True))
    safe_ddpg: SafeDdpgConfig = field(default_factory=SafeDdpgConfig)
    sac: Sb3Config = field(
        default_factory=lambda: Sb3Config.of("sac", steps=FULL_DAYS * STEPS_A_DAY)
    )
    ppo: Sb3Config = field(
        default_factory=lambda: Sb3Config.of("ppo", steps=FULL_DAYS * STEPS_A_DAY)
    )

    @classmethod
    def short(cls) -> VoltageAgentConfigs:
        """Return settings that train for minutes.

        df_srl learns on as many days, the others on fewer, SAC and PPO on fewest.
        """
        td3, ddpg = _plain(SHORT_DAYS), _plain(SHORT_DAYS, ddpg=True)
        safe = SafeDdpgConfig(_plain(SHORT_DAYS - RANDOM_DAYS, ddpg=True))
        return cls(cls().df_srl, td3, ddpg, safe, Sb3Config.of("sac"), Sb3Config.of("ppo"))


@dataclass(frozen=True, eq=False)
class VoltageCourse:
    """What agents are trained on, and the folder they are kept in."""

    feeder: str  # its name among the bundled cases
    network: Network
    batteries: Batteries
    days: VoltageDays  # of the train weeks
    tube: SocTube | None  # `df_srl` acts inside it
    cache: Path
    configs: VoltageAgentConfigs = field(default_factory=VoltageAgentConfigs)

    def layer(self) -> SafetyLayer:
        """Return the safety layer with the course's SOC tube."""
        return SafetyLayer(self.network, self.batteries, self.days.step_h, self.tube)


@dataclass(frozen=True)
class Maker:
    """How one kind of agent is trained, written and read."""

    train: Callable[[VoltageCourse, Any], tuple[Any, TrainingRecord]]
    save: Callable[[Any, Path], None]
    load: Callable[[VoltageCourse, Path], VoltageMethod]
    constants: tuple[Callable[[], Mapping[str, float]], ...]  # constants of modules that decide it
    packages: tuple[str, ...] = ("torch",)  # their versions decide it
    in_tube: bool = False


def with_seed(config: Any, seed: int) -> Any:
    """Return an agent's settings with another seed."""
    if isinstance(config, Sb3Config):
        return replace(config, seed=seed)
    if isinstance(config, SafeDdpgConfig):
        return SafeDdpgConfig(with_seed(config.agent, seed), replace(config.safety, seed=seed))
    return replace(config, learner=replace(config.learner, seed=seed))


def _train_plain(
    course: VoltageCourse, config: VoltageAgentConfig
) -> tuple[VoltageAgent, TrainingRecord]:
    name = "td3" if config.learner.twin else "ddpg"
    return VoltageAgent.train(course.network, course.batteries, course.days, None, config, name)


def _train_df_srl(
    course: VoltageCourse, config: VoltageAgentConfig
) -> tuple[VoltageAgent, TrainingRecord]:
    return VoltageAgent.train(
        course.network, course.batteries, course.days, course.layer(), config, "df_srl"
    )


def _save_agent(agent: VoltageAgent, path: Path) -> None:
    agent.save(path)


def _load_plain(course: VoltageCourse, path: Path) -> VoltageAgent:
    return VoltageAgent.load(path, course.network, course.batteries)


def _load_df_srl(course: VoltageCourse, path: Path) -> VoltageAgent:
    return VoltageAgent.load(path, course.network, course.batteries, course.layer())


def _train_safe_ddpg(
    course: VoltageCourse, config: SafeDdpgConfig
) -> tuple[VoltageAgent, TrainingRecord]:
    """Train the correction, then the agent; both kinds of days are in the record."""
    network, batteries, days = course.network, course.batteries, course.days
    begin = perf_counter()
    # Each environment goes through one whole day.
    n_day = -(-config.safety.samples // days.n_step)
    env = VoltageVectorEnv(network, batteries, days, n_day)
    tried = try_random_actions(env, n_day * days.n_step, config.safety.seed)
    safety = LinearSafety.fit(tried, config.safety, network, batteries)
    seconds = perf_counter() - begin
    layer = LinearSafetyLayer(safety, days.n_step, days.step_h)
    agent, record = VoltageAgent.train(network, batteries, days, layer, config.agent, "safe_ddpg")
    by_day = (days.n_step, n_day)
    excess = np.maximum(band_excess(network, tried.v), 0.0).reshape(by_day)
    p_kw = 1e3 * network.base_mva * batteries.p_max * tried.actions
    before = {
        "reward": regulation_reward(network, p_kw, tried.v).reshape(by_day).sum(axis=0),
        "n_steps": np.full(n_day, days.n_step),
        "n_violation_steps": (excess > SAFE_TOLERANCE_PU).sum(axis=0),
        "worst_excess_pu": excess.max(axis=0),
        "regulation_kwh": days.step_h * np.abs(p_kw).sum(axis=1).reshape(by_day).sum(axis=0),
        # There was no layer yet.
        "status_steps": np.zeros((n_day, len(record.statuses)), np.int64),
    }
    both: dict[str, Any] = {
        name: np.concatenate([first, getattr(record, name)]) for name, first in before.items()
    }
    return agent, replace(
        record, **both, steps=record.steps + len(tried), seconds=record.seconds + seconds
    )


def _save_safe_ddpg(agent: VoltageAgent, path: Path) -> None:
    layer: Any = agent.layer
    save_file(layer.safety.tensors(), _slopes(path))
    agent.save(path)


def _load_safe_ddpg(course: VoltageCourse, path: Path) -> VoltageAgent:
    safety = LinearSafety(course.network, course.batteries, course.configs.safe_ddpg.safety)
    safety.load_tensors(load_file(_slopes(path)))
    layer = LinearSafetyLayer(safety, course.days.n_step, course.days.step_h)
    return VoltageAgent.load(path, course.network, course.batteries, layer)


def _slopes(path: Path) -> Path:
    return path.with_suffix(".slopes")


def _train_sb3(course: VoltageCourse, config: Sb3Config) -> tuple[Sb3Policy, TrainingRecord]:
    policy, record = Sb3Policy.train(
        config, network=course.network, batteries=course.batteries, days=course.days
    )
    columns = {name: getattr(record, name) for name in RECORD}
    no_layer = np.zeros((len(record.reward), 0), dtype=np.int64)
    return policy, TrainingRecord(
        **columns, steps=record.steps, seconds=record.seconds, status_steps=no_layer
    )


def _save_sb3(policy: Sb3Policy, path: Path) -> None:
    policy.save(path)


def _load_sb3(course: VoltageCourse, path: Path) -> Sb3Policy:
    return Sb3Policy.load(path, course.network, course.batteries)


MAKERS: dict[str, Maker] = {
    "df_srl": Maker(
        _train_df_srl,
        _save_agent,
        _load_df_srl,
        (voltage_agent.constants, safety_layer.constants),
        in_tube=True,
    ),
    "td3": Maker(_train_plain, _save_agent, _load_plain, (voltage_agent.constants,)),
    "ddpg": Maker(_train_plain, _save_agent, _load_plain, (voltage_agent.constants,)),
    "safe_ddpg": Maker(
        _train_safe_ddpg,
        _save_safe_ddpg,
        _load_safe_ddpg,
        (voltage_agent.constants, safe_ddpg.constants),
    ),
    "sac": Maker(_train_sb3, _save_sb3, _load_sb3, (), sb3_agents.PACKAGES),
    "ppo": Maker(_train_sb3, _save_sb3, _load_sb3, (), sb3_agents.PACKAGES),
}
