"""Learned voltage regulation: TD3 and DDPG on `VoltageVectorEnv`, alone or with the safety layer.

Source: Hou et al., DF-SRL, JMPCE 13(1), 2025. An agent with a `SafetyLayer` is DF-SRL. It has the
layer in acting: every action of training and of use is projected and AC-checked before the grid
receives it. It has the layer in the actor's gradient too, so that the policy learns what its
proposals become. The stored action is the one the grid received. With s the state, u in [0, 1] the
policy's output per battery (as `learning/td3.py` has it) and p the power applied:

    (1)  a~ = 2 u - 1, moved by DEAD_ZONE towards 0, and 0 where that would pass it
    (2)  p = layer(s, p_max a~); without a layer what power and SOC limits leave of p_max a~
    (3)  r of `voltage_regulation/rules.py`: its battery part is known from p ((b) of
         `learning/td3.py`), its voltage part is learned
    (4)  the policy sees the observation, and once more, enlarged, how far idle voltages are outside
         their band

(1) is there because most steps need nothing, and a network's output is never exactly 0. Backwards
its derivative counts as 1, so that an output at rest can begin to move. The gradient through (2) is
that of `SafetyLayer.project_ac`.

With a layer the discount is 0 by default: its SOC tube accounts for later steps, and each step is
learned by itself. Without a layer it is 0.9. docs/agents.md has the trials. Half of each batch are
steps in which something had to be done (`marked_share`): the idle feeder is outside its band, or
the layer changed the proposal.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import Tensor

from feederguard.agents.environments.voltage import VoltageVectorEnv
from feederguard.agents.environments.voltage_observation import (
    batteries_text,
    cut_to_limits,
    observe,
    read_observations,
    soc_columns,
)
from feederguard.agents.layer import Layer
from feederguard.agents.learning.checkpoint import (
    CheckpointError,
    agent_metadata,
    load_checkpoint,
    save_checkpoint,
)
from feederguard.agents.learning.td3 import Td3, TD3Config
from feederguard.agents.training_record import TrainingLog, TrainingRecord, WatchedLayer
from feederguard.models.arrays import BoolArray, Float32Array, FloatArray
from feederguard.models.battery import Batteries
from feederguard.models.network import Network
from feederguard.models.voltage_regulation import VoltageDays, VoltageState
from feederguard.models.voltage_regulation.days import check_steps
from feederguard.models.voltage_regulation.judge import SAFE_TOLERANCE_PU
from feederguard.models.voltage_regulation.rules import judged_buses, step_rules

DEAD_ZONE = 0.02  # of p_max
EXCESS_SCALE = 5.0  # of (4), in units of half the band
_CHANGED = 1e-5  # of p_max: more than float32 rounds

Progress = Callable[[int, int], None]  # steps done, steps in all


def _learner_settings() -> TD3Config:
    return TD3Config(
        hidden=(256, 256), actor_rate=1e-3, critic_rate=1e-3, tau=0.01, gamma=0.0, batch=256, marked_share=0.5,
        warmup=2_000, noise=0.02, target_noise=0.02, target_clip=0.05,
    )  # fmt: skip


@dataclass(frozen=True)
class VoltageAgentConfig:
    """Settings of the training; the defaults were chosen on the train weeks of cigre_lv18."""

    learner: TD3Config = field(default_factory=_learner_settings)
    num_envs: int = 128  # days side by side
    episodes: int = 2_560  # days in all
    learn_steps: int = 4  # gradient steps per step of the environments
    reward_scale: float = 1.0  # what rewards are multiplied with before they are learned

    @classmethod
    def unsafe(cls, ddpg: bool = False, **changes: Any) -> VoltageAgentConfig:
        """Return the settings for learning without a layer.

        Exploration is wider, since what breaks the band must be learned from breaking it. Rewards
        are scaled down, since a penalty is hundreds of times what power costs.
        """
        learner = replace(
            _learner_settings(),
            noise=0.2,
            redraw=0.1,
            gamma=0.9,
            target_noise=0.05,
            target_clip=0.1,
        )
        if ddpg:
            learner = replace(learner, twin=False, policy_delay=1, target_noise=0.0)
        return replace(cls(learner=learner, reward_scale=0.02), **changes)

    def __post_init__(self) -> None:
        for name in ("num_envs", "episodes", "learn_steps"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"VoltageAgentConfig: {name} is {getattr(self, name)}; it must be at least 1"
                )
        if not self.reward_scale > 0:
            raise ValueError(
                f"VoltageAgentConfig: reward_scale is {self.reward_scale}; it must be positive"
            )


class VoltageAgent:
    """A trained policy of one feeder and its batteries; made by `train` or `load`.

    It is a `VoltageMethod`. tube: `SocTube.digest` of the tube that it was trained inside, "" where
    there was none.
    """

    def __init__(
        self,
        name: str,
        network: Network,
        batteries: Batteries,
        learner: Td3,
        layer: Layer | None,
        n_step: int,
        step_h: float,
        tube: str = "",
    ) -> None:
        self.name, self.network, self.batteries = name, network, batteries
        self.learner, self.layer, self.n_step, self.step_h = learner, layer, n_step, step_h
        self.tube = tube

    @classmethod
    def train(
        cls,
        network: Network,
        batteries: Batteries,
        days: VoltageDays,
        layer: Layer | None = None,
        config: VoltageAgentConfig | None = None,
        name: str | None = None,
        progress: Progress | None = None,
    ) -> tuple[VoltageAgent, TrainingRecord]:
        """Return an agent trained on the days, and what happened meanwhile.

        `config.learner.seed` settles every number of both. layer: in acting and in the gradient;
        None learns from violations instead. name: default df_srl with a layer, else td3 or ddpg as
        the learner is.

        Raises ValueError for a layer of another feeder, of other batteries or of another step than
        the days', and for a tube of days of another length. Raises as `VoltageVectorEnv`.
        """
        config = config or VoltageAgentConfig()
        _check_layer(network, batteries, layer)
        _check_layer_steps(network, layer, days.step_h, days.n_step)
        watched = None if layer is None else WatchedLayer(layer)
        env = VoltageVectorEnv(
            network, batteries, days, config.num_envs, None if watched is None else watched.correct
        )
        learner = _new_learner(network, batteries, config, layer, days.n_step, days.step_h)
        log, begin = TrainingLog(config.num_envs, watched), perf_counter()
        observations, _ = env.reset(seed=config.learner.seed)
        n_step = days.n_step * -(-config.episodes // config.num_envs)
        for step in range(n_step):
            seen = append_excess(network, batteries, observations)
            sent = _shrink(2.0 * learner.propose(seen, explore=True) - 1.0)
            observations, rewards, terminated, truncated, info = env.step(sent)
            ended = terminated | truncated
            after = (
                np.where(ended[:, None], info["final_obs"], observations)
                if ended.any()
                else observations
            )
            received = info["applied_action"]
            learner.remember(
                seen,
                0.5 * (received + 1.0),
                config.reward_scale * rewards,
                append_excess(network, batteries, after),
                terminated,
                _eventful(network, seen, sent, received),
            )
            # Falling rates let the last policy settle: one policy is kept, no average of many.
            learner.learn(config.learn_steps, rate_share=1.0 - step / n_step)
            log.add(rewards, info, ended)
            if progress is not None:
                progress(step + 1, n_step)
        named = name or _kind(layer, config.learner)
        agent = cls(
            named, network, batteries, learner, layer, days.n_step, days.step_h, _tube_of(layer)
        )
        return agent, log.record(n_step * config.num_envs, perf_counter() - begin)

    def decide(self, state: VoltageState) -> FloatArray:
        """Return the power of each battery, (B, n_bat) pu, made safe where there is a layer.

        Raises ValueError as `propose`.
        """
        proposed = self.propose(state)
        return proposed if self.layer is None else self.layer.correct(state, proposed).p

    def propose(self, state: VoltageState) -> FloatArray:
        """Return what the policy asks for, (B, n_bat) pu, before the layer.

        Raises ValueError when a net demand or SOC is not finite, and for states of days of another
        step or length.
        """
        check_steps(f"{self.network.name}: {self.name}", self.step_h, self.n_step, state)
        seen = append_excess(
            self.network, self.batteries, observe(self.network, self.batteries, state, self.n_step)
        )
        return np.asarray(
            _shrink(2.0 * self.learner.propose(seen) - 1.0).astype(float) * self.batteries.p_max
        )

    def with_layer(self, layer: Layer | None, name: str) -> VoltageAgent:
        """Return the same policy behind another layer, or behind none.

        Another tube, or none, is no error here.

        Raises ValueError for a layer of another feeder, batteries, step or length of day.
        """
        _check_layer(self.network, self.batteries, layer)
        _check_layer_steps(self.network, layer, self.step_h, self.n_step)
        return VoltageAgent(
            name,
            self.network,
            self.batteries,
            self.learner,
            layer,
            self.n_step,
            self.step_h,
            self.tube,
        )

    def save(self, path: str | Path) -> None:
        """Write the policy to a safetensors file that `load` reads.

        It does not hold the layer. It names the tube that the policy was trained inside.
        """
        metadata = agent_metadata(
            "voltage", self.network, batteries_text(self.network, self.batteries)
        )
        save_checkpoint(
            path,
            self.learner.tensors(),
            metadata
            | {
                "learner": json.dumps(asdict(self.learner.config)),
                "name": self.name,
                "n_step": str(self.n_step),
                "step_h": repr(float(self.step_h)),
                "soc_tube": self.tube,
            },
        )

    @classmethod
    def load(
        cls, path: str | Path, network: Network, batteries: Batteries, layer: Layer | None = None
    ) -> VoltageAgent:
        """Return the agent saved at `path`, behind the layer given.

        Raises `CheckpointError` when the file is damaged, or of another feeder or other batteries.
        Raises it when an agent that was trained with a layer is loaded without one: alone its
        proposals are not safe (`with_layer` takes a layer off). Raises it when the layer is of
        another step, or when the agent was trained inside a SOC tube and the layer has none or
        another. A file that names no tube is not checked for one.
        """
        _check_layer(network, batteries, layer)
        wanted = batteries_text(network, batteries)
        checkpoint = load_checkpoint(path, kind="voltage", network=network, setting=wanted)
        try:
            name, n_step = checkpoint.metadata["name"], int(checkpoint.metadata["n_step"])
            step_h, tube = (
                float(checkpoint.metadata["step_h"]),
                checkpoint.metadata.get("soc_tube", ""),
            )
            values: dict[str, Any] = json.loads(checkpoint.metadata["learner"])
            config = VoltageAgentConfig(TD3Config(**{**values, "hidden": tuple(values["hidden"])}))
            learner = _new_learner(network, batteries, config, layer, n_step, step_h)
            learner.load_tensors(checkpoint.tensors)
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"{path}: its agent does not fit together ({error}); train and save again"
            ) from error
        if layer is None and name not in ("td3", "ddpg"):
            raise CheckpointError(
                f"{path}: {name} was trained behind a safety layer; load it with one"
            )
        try:
            _check_layer_steps(network, layer, step_h, n_step)
        except ValueError as error:
            raise CheckpointError(f"{path}: {error}") from None
        if tube and _tube_of(layer) != tube:
            what = "none" if layer is None or layer.tube is None else "another"
            raise CheckpointError(
                f"{path}: {name} was trained inside a SOC tube and its layer has {what}; load it "
                "with a layer with that tube, and take it off or change it by with_layer"
            )
        return cls(name, network, batteries, learner, layer, n_step, step_h, tube)


def constants() -> dict[str, float]:
    """Return the constants of this module that decide what training gives, by name."""
    return {
        "dead_zone": DEAD_ZONE,
        "excess_scale": EXCESS_SCALE,
        "changed": _CHANGED,
        "tolerance_pu": SAFE_TOLERANCE_PU,
    }


def append_excess(
    network: Network, batteries: Batteries, observations: Float32Array
) -> Float32Array:
    """Return observations (B, n_observation) with (4) appended, (B, n_observation + n_judged)."""
    end = soc_columns(network, batteries).start
    v = observations[:, end - len(judged_buses(network)) : end]
    return np.concatenate([observations, EXCESS_SCALE * (v - np.clip(v, -1.0, 1.0))], axis=1)


def _new_learner(
    network: Network,
    batteries: Batteries,
    config: VoltageAgentConfig,
    layer: Layer | None,
    n_step: int,
    step_h: float,
) -> Td3:
    """Return an untrained learner that knows (1), (2) and the known part of (3)."""
    n_bus, n_judged = network.n_bus, len(judged_buses(network))
    p_max = torch.from_numpy(np.array(batteries.p_max, dtype=np.float32))
    per_kw = step_rules(network).price_per_kw * config.reward_scale
    price = -per_kw * 1e3 * network.base_mva * p_max  # of a whole p_max
    nothing = VoltageState(
        np.zeros((1, n_bus)),
        np.zeros((1, n_bus)),
        np.ones((1, n_bus)),
        batteries.soc_start[None],
        np.zeros(1, np.int64),
    )
    width = append_excess(network, batteries, observe(network, batteries, nothing, n_step)).shape[1]

    def project(seen: Tensor, actions: Tensor) -> Tensor:
        wanted: Tensor = _ShrinkThrough.apply(2.0 * actions - 1.0)  # type: ignore[no-untyped-call]
        state = read_observations(network, batteries, seen[:, : width - n_judged].numpy(), n_step)
        if layer is None:
            wanted = cut_to_limits(batteries, state.soc, wanted, step_h)
        else:
            wanted = layer.project_ac(state, wanted * p_max) / p_max
        return 0.5 * (wanted + 1.0)

    def known_reward(seen: Tensor, actions: Tensor) -> Tensor:
        cost: Tensor = (2.0 * actions - 1.0).abs() @ price
        return cost

    return Td3(width, len(batteries), config.learner, project, start=0.5, known_reward=known_reward)


def _shrink(action: Float32Array) -> Float32Array:
    """Return (1) of actions in [-1, 1]."""
    return np.asarray(
        np.sign(action) * np.maximum(np.abs(action) - DEAD_ZONE, 0.0), dtype=np.float32
    )


class _ShrinkThrough(torch.autograd.Function):
    """(1) forwards; backwards its derivative counts as 1."""

    @staticmethod
    def forward(ctx: Any, action: Tensor) -> Tensor:
        return torch.sign(action) * torch.clamp(action.abs() - DEAD_ZONE, min=0.0)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient


def _eventful(
    network: Network, seen: Float32Array, sent: Float32Array, received: Float32Array
) -> BoolArray:
    """Return in which items something had to be done, (B,)."""
    outside = (seen[:, -len(judged_buses(network)) :] != 0.0).any(axis=1)
    return np.asarray(outside | (np.abs(sent - received).max(axis=1) > _CHANGED))


def _kind(layer: Layer | None, learner: TD3Config) -> str:
    if layer is not None:
        return "df_srl"
    return "td3" if learner.twin else "ddpg"


def _check_layer(network: Network, batteries: Batteries, layer: Layer | None) -> None:
    if layer is not None and (layer.network is not network or layer.batteries is not batteries):
        raise ValueError(
            f"{network.name}: the safety layer was made for {layer.network.name} with "
            f"{len(layer.batteries)} batteries; make it for the same network and batteries as the "
            "agent"
        )


def _check_layer_steps(network: Network, layer: Layer | None, step_h: float, n_step: int) -> None:
    """Raise ValueError for a layer, or its tube, of another step or length of day."""
    if layer is None:
        return
    what = f"{network.name}: the safety layer"
    if abs(layer.step_h - step_h) > 1e-9 * step_h:
        raise ValueError(
            f"{what} was made for steps of {layer.step_h:g} h, and the agent is of steps of "
            f"{step_h:g} h; make the layer with step_h={step_h:g}"
        )
    if layer.tube is not None and layer.tube.n_step != n_step:
        raise ValueError(
            f"{what} has a SOC tube of {layer.tube.n_step} steps, and the agent's days have "
            f"{n_step}; compute the tube with days of this length"
        )


def _tube_of(layer: Layer | None) -> str:
    return "" if layer is None or layer.tube is None else layer.tube.digest
