"""The learned method of Zhou et al. 2024: a DDPG agent, alone or with corrected actions.

Source: Zhou et al., Energy Engineering 121(6), 2024, sections 3.2 and 3.3. The agent learns from
`LoadTransferVectorEnv` in episodes of one hour: one fault, one action, one reward. With a
correction the grid receives the corrected action, the replay memory holds that action, and the
reward is (21).

Scale of the reward. (10) is about 1e-3 where load must be shed; the penalties of (11) are -5 and
-10. A squared error (16) then sees little but the penalties, and the agent learns to shed most of
the load. It is given instead

    (a)  rho = log(max(R, R_all) / R_all)

with R_all the least reward (10), over the training pool, of shedding everything. rho never falls
where R rises, so in an episode of one step without chance the best action stays the best. Only the
weight of errors changes: halving the cost is worth the same at any cost, and a broken limit is as
bad as shedding everything.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from feederguard.agents.environments.load_transfer import LoadTransferVectorEnv
from feederguard.agents.environments.load_transfer_actions import (
    decode_actions,
    encode_decisions,
    observe,
)
from feederguard.agents.learning.checkpoint import (
    CheckpointError,
    agent_metadata,
    load_checkpoint,
    save_checkpoint,
)
from feederguard.agents.learning.td3 import Td3, TD3Config
from feederguard.models.arrays import Float32Array, FloatArray
from feederguard.models.load_transfer import Decisions, Scenarios, Setting, judge, resolve_setting
from feederguard.models.load_transfer.judge import EPSILON
from feederguard.models.network import Network

Progress = Callable[[int, int], None]  # steps done, steps in all
CURVE_BLOCKS = 50  # points of a learning curve, at most


class Correction(Protocol):
    """What makes decisions safe before the grid receives them."""

    def correct(self, scenarios: Scenarios, decisions: Decisions) -> Decisions: ...


@dataclass(frozen=True)
class DdpgTransferConfig:
    """Settings of the training; the defaults were chosen on ieee33, on train weeks."""

    learner: TD3Config = field(
        default_factory=lambda: TD3Config.ddpg(
            hidden=(128, 128), actor_rate=1e-3, noise=0.2, redraw=0.05
        )
    )
    steps: int = 1500  # environment steps
    num_envs: int = 128  # scenarios per environment step
    learn_steps: int = 3  # gradient steps per environment step
    # Shedding of the untrained policy; from 0.5 it has half of everything to unlearn.
    shed_start: float = 0.1
    switch_start: float = 0.2  # how far from 0.5, towards its normal state, each switch begins

    def __post_init__(self) -> None:
        for name in ("steps", "num_envs", "learn_steps"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"DdpgTransferConfig: {name} is {getattr(self, name)}; it must be at least 1"
                )
        for name, high in (("shed_start", 1.0), ("switch_start", 0.5)):
            if not 0 <= getattr(self, name) <= high:
                raise ValueError(
                    f"DdpgTransferConfig: {name} is {getattr(self, name)}; it must lie between 0 "
                    f"and {high:g}"
                )

    @classmethod
    def corrected(cls) -> DdpgTransferConfig:
        """Return the setting for training with a correction.

        Each of its steps at one bus costs an AC flow, and a decision takes hundreds of them. So
        fewer decisions are made, and each is learned from more often.
        """
        return cls(steps=400, num_envs=32, learn_steps=8)


@dataclass(frozen=True)
class TransferCurve:
    """What training tried, exploration included: means over blocks of steps, (block,)."""

    decisions: tuple[int, ...]  # tried by the end of each block
    learned_reward: tuple[float, ...]  # rho of (a); 0: no better than shedding everything
    safe_pct: tuple[float, ...]  # of the decisions that the grid received, by the AC power flow
    cost: tuple[float, ...]  # (1) of the same, safe or not


class DdpgTransfer:
    """A trained agent of one feeder and setting; made by `train` or `load`."""

    # Of the training, where it was done here; files of agents do not hold it.
    curve: TransferCurve | None = None

    def __init__(
        self, network: Network, setting: Setting, learner: Td3, correction: Correction | None = None
    ) -> None:
        self.network = network
        self.setting = setting
        self.learner = learner
        self.correction = correction
        self.name = _kind(correction)

    @classmethod
    def train(
        cls,
        network: Network,
        setting: str | Setting,
        scenarios: Scenarios,
        config: DdpgTransferConfig | None = None,
        correction: Correction | None = None,
        progress: Progress | None = None,
    ) -> DdpgTransfer:
        """Return an agent trained on a pool of scenarios; the learner's seed settles every number.

        Raises ValueError as `LoadTransferVectorEnv` for a pool that does not fit the feeder, and
        for a learner of other sizes.
        """
        _check_correction(network, resolve_setting(network, setting), correction)
        config = config or (
            DdpgTransferConfig() if correction is None else DdpgTransferConfig.corrected()
        )
        setting = resolve_setting(network, setting)
        correct = None if correction is None else correction.correct
        env = LoadTransferVectorEnv(
            network, scenarios, setting, num_envs=config.num_envs, correct=correct
        )
        learner = _new_learner(network, setting, config.learner, _start(network, setting, config))
        least = _reward_of_shedding_all(network, setting, scenarios)
        observations, _ = env.reset(seed=config.learner.seed)
        tried: list[tuple[float, float, float]] = []
        for step in range(config.steps):
            seen = observations
            sent = learner.act(seen, explore=True)
            observations, rewards, terminated, _, info = env.step(sent)
            received = _received(
                network, setting, scenarios[info["pool_row"]], sent, info["applied_action"]
            )
            rho = np.log(np.maximum(rewards, least) / least)
            # Every episode is one step, so what follows is always the last observation of an ended
            # one.
            learner.remember(seen, received, rho, info["final_obs"], terminated)
            # Falling rates let the last policy settle: what is kept is one policy, not the average
            # of many.
            learner.learn(config.learn_steps, rate_share=1.0 - step / config.steps)
            tried.append(
                (float(rho.mean()), 100 * float(info["safe"].mean()), float(info["cost"].mean()))
            )
            if progress is not None:
                progress(step + 1, config.steps)
        agent = cls(network, setting, learner, correction)
        agent.curve = _curve(np.array(tried), config.num_envs)
        return agent

    def decide(self, scenarios: Scenarios) -> Decisions:
        """Return the policy's decisions, corrected where there is a correction.

        Raises ValueError when scenarios are of another feeder or hold a value that is not finite.
        """
        actions = self.learner.act(observe(self.network, scenarios))
        decisions = decode_actions(self.network, self.setting, scenarios, actions)
        return (
            decisions if self.correction is None else self.correction.correct(scenarios, decisions)
        )

    def save(self, path: str | Path) -> None:
        """Write the agent to a safetensors file; `load` reads it."""
        metadata = agent_metadata(self.name, self.network, self.setting)
        save_checkpoint(
            path,
            self.learner.tensors(),
            metadata
            | {
                "learner": json.dumps(asdict(self.learner.config)),
                "correction": type(self.correction).__name__,
            },
        )

    @classmethod
    def load(
        cls,
        path: str | Path,
        network: Network,
        correction: Correction | None = None,
        setting: str | Setting | None = None,
    ) -> DdpgTransfer:
        """Return the agent saved at `path`, with the correction it was trained with.

        setting: None takes the agent's own. Raises `CheckpointError` as `load_checkpoint`, and when
        a corrected agent is loaded without its correction.
        """
        wanted = None if setting is None else resolve_setting(network, setting)
        checkpoint = load_checkpoint(path, kind=_kind(correction), network=network, setting=wanted)
        trained_with, given = checkpoint.metadata.get("correction", ""), type(correction).__name__
        if trained_with != given:
            raise CheckpointError(
                f"{path}: trained with a {trained_with}, expected {given}; load it with that "
                "correction"
            )
        _check_correction(network, checkpoint.setting, correction)
        try:
            values: dict[str, Any] = json.loads(checkpoint.metadata["learner"])
            config = TD3Config(**{**values, "hidden": tuple(values["hidden"])})
            learner = _new_learner(network, checkpoint.setting, config)
            learner.load_tensors(checkpoint.tensors)
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"{path}: its agent does not fit together ({error}); train and save again"
            ) from error
        return cls(network, checkpoint.setting, learner, correction)


def _curve(by_step: FloatArray, num_envs: int) -> TransferCurve:
    """Return means over blocks of the (step, 3) figures, in the order of `TransferCurve`."""
    length = -(-len(by_step) // CURVE_BLOCKS)
    first = np.arange(0, len(by_step), length)
    last = np.minimum(first + length, len(by_step))
    reward, safe_pct, cost = (np.add.reduceat(by_step, first) / (last - first)[:, None]).T.tolist()
    return TransferCurve(
        tuple((num_envs * last).tolist()), tuple(reward), tuple(safe_pct), tuple(cost)
    )


def _check_correction(network: Network, setting: Setting, correction: Correction | None) -> None:
    """Raise ValueError when the correction was made for another feeder or setting."""
    if correction is None:
        return
    theirs = getattr(correction, "setting", setting)
    if theirs != setting or getattr(correction, "network", network) is not network:
        raise ValueError(
            f"the correction is for the {theirs.name} setting of "
            f"{getattr(correction, 'network', network).name}, the agent for the {setting.name} "
            f"setting of {network.name}; make both for the same network and setting"
        )


def _kind(correction: Correction | None) -> str:
    return "ddpg" if correction is None else "ddpg_corrected"


def _received(
    network: Network,
    setting: Setting,
    scenarios: Scenarios,
    sent: Float32Array,
    applied: Float32Array,
) -> Float32Array:
    """Return the actions that the grid received, in numbers the policy could have sent.

    A switch that follows its own number is 0 or 1. A tree follows from the order of its keys:
    critics that see it as zeros and ones misjudge the keys between. So the keys are kept where a
    correction left the tree alone.
    """
    if not setting.radial:
        return applied
    n_load = int((network.p_load > 0).sum())
    proposed = encode_decisions(network, setting, decode_actions(network, setting, scenarios, sent))
    same_tree = (proposed[:, n_load:] == applied[:, n_load:]).all(axis=1)
    received = applied.copy()
    received[same_tree, n_load:] = sent[same_tree, n_load:]
    return received


def _new_learner(
    network: Network, setting: Setting, config: TD3Config, start: FloatArray | None = None
) -> Td3:
    n_load, n_switch = (
        int((network.p_load > 0).sum()),
        int(setting.switchable_branches(network).sum()),
    )
    return Td3(network.n_branch + 3 * network.n_bus, n_load + n_switch, config, start=start)


def _start(network: Network, setting: Setting, config: DdpgTransferConfig) -> FloatArray:
    """Return the untrained policy's action: little shedding, switches near normal."""
    shed = np.full(int((network.p_load > 0).sum()), config.shed_start)
    normally_closed = network.closed[setting.switchable_branches(network)]
    return np.concatenate(
        [shed, 0.5 + np.where(normally_closed, config.switch_start, -config.switch_start)]
    )


def _reward_of_shedding_all(network: Network, setting: Setting, scenarios: Scenarios) -> float:
    closed = np.tile(network.closed, (len(scenarios), 1))
    closed[scenarios.failed_branches(network.n_branch)] = False
    everything = Decisions(closed, np.ones(scenarios.p_load.shape))
    return float(1.0 / (judge(network, scenarios, everything, setting).cost.max() + EPSILON))
