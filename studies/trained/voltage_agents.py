"""Voltage agents trained once and kept: a few files per agent, named after the data, settings and
versions they come from.

    <cache>/<kind>-<feeder>-<key>.safetensors   the agent
    <cache>/<kind>-<feeder>-<key>.slopes        the learned linear models of `safe_ddpg`
    <cache>/<kind>-<feeder>-<key>.parquet       what happened in training, a line per day, with what the safety layer did
    <cache>/<kind>-<feeder>-<key>.json          what it was trained on, and for how long
    <cache>/soc_tube-<feeder>-<key>.npz         the SOC tube of the feeder's training days

The key is a hash of the numbers of feeder and batteries, the training days, the SOC tube where the
agent acts inside it, the whole configuration of the agent with its seed, the constants of the
modules that make it (`settings` of each), and the versions of this package and of those that it
learns with. The source text is not in it: who changes code that training runs through, and no
constant or version, must empty the cache. Where training ends, the agent is read back from its
file, so that a run that trains and one that finds the files give the same figures.

Longer than other files: six kinds of agents are trained, written, read and named here, and nowhere
else.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pandas as pd
from rich.console import Console
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from feederguard.agents import safe_ddpg, safety_layer, sb3_agents, voltage_agent
from feederguard.agents.environments.voltage import VoltageVectorEnv
from feederguard.agents.environments.voltage_observation import STEPS_A_DAY
from feederguard.agents.learning.checkpoint import network_fingerprint
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
from feederguard.models.battery.batteries import battery_digest
from feederguard.models.network import Network
from feederguard.models.soc_tube import SocTube, compute_soc_tube
from feederguard.models.soc_tube import plan as soc_tube
from feederguard.models.voltage_regulation import VoltageDays, VoltageMethod
from feederguard.models.voltage_regulation.judge import SAFE_TOLERANCE_PU
from feederguard.models.voltage_regulation.rules import band_excess, regulation_reward
from feederguard.studies.running.files import hash_of, write_whole
from feederguard.studies.running.journal import Tables
from feederguard.studies.running.tasks import RunConfig, TaskList, run_tasks

# Those that take longest first, so that no core waits for the last one.
KINDS = ("df_srl", "sac", "ppo", "safe_ddpg", "td3", "ddpg")
FULL_DAYS, SHORT_DAYS = 2_560, 640
RANDOM_DAYS = 256  # of those, on which safe_ddpg tries random actions for its linear models
RECORD = ("reward", "n_steps", "n_violation_steps", "worst_excess_pu", "regulation_kwh")
_STATUS = "layer_"  # before the name of what a layer said, in the columns of the record


def _plain(days: int, ddpg: bool = False) -> VoltageAgentConfig:
    """Return how an agent without a layer learns on so many days."""
    return VoltageAgentConfig.unsafe(ddpg, episodes=days)


@dataclass(frozen=True)
class SafeDdpgConfig:
    """DDPG and the learned linear correction behind it; days of random actions are training days
    like the others.
    """

    agent: VoltageAgentConfig = field(
        default_factory=lambda: _plain(FULL_DAYS - RANDOM_DAYS, ddpg=True)
    )
    safety: LinearSafetyConfig = field(
        default_factory=lambda: LinearSafetyConfig(samples=RANDOM_DAYS * STEPS_A_DAY)
    )


@dataclass(frozen=True)
class VoltageAgentConfigs:
    """How each kind of agent is trained, by default on FULL_DAYS days each of STEPS_A_DAY steps.

    The seeds in them are replaced by the course's.
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
        """Return settings that train for minutes: df_srl as ever, the others on fewer days, SAC and
        PPO on fewest.
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
    tube: SocTube | None  # that `df_srl` acts inside
    cache: Path
    configs: VoltageAgentConfigs = field(default_factory=VoltageAgentConfigs)

    def layer(self) -> SafetyLayer:
        """Return the safety layer with the course's SOC tube."""
        return SafetyLayer(self.network, self.batteries, self.days.step_h, self.tube)


@dataclass(frozen=True, eq=False)
class TrainedVoltage:
    """An agent, and how it was come by."""

    agent: VoltageMethod
    record: TrainingRecord
    path: Path
    cached: bool
    note: str  # why files that were there could not be used


@dataclass(frozen=True)
class _Maker:
    """How one kind of agent is trained, written and read."""

    train: Callable[[VoltageCourse, Any], tuple[Any, TrainingRecord]]
    save: Callable[[Any, Path], None]
    load: Callable[[VoltageCourse, Path], VoltageMethod]
    settings: tuple[
        Callable[[], Mapping[str, float]], ...
    ]  # constants that decide it, module by module
    packages: tuple[str, ...] = ("torch",)  # whose versions decide it
    in_tube: bool = False


def _with_seed(config: Any, seed: int) -> Any:
    if isinstance(config, Sb3Config):
        return replace(config, seed=seed)
    if isinstance(config, SafeDdpgConfig):
        return SafeDdpgConfig(_with_seed(config.agent, seed), replace(config.safety, seed=seed))
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
    """Train the correction, then the agent; the days of random actions are days of training like
    the others.
    """
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
        # No layer was there yet to say anything.
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


MAKERS: dict[str, _Maker] = {
    "df_srl": _Maker(
        _train_df_srl,
        _save_agent,
        _load_df_srl,
        (voltage_agent.settings, safety_layer.settings),
        in_tube=True,
    ),
    "td3": _Maker(_train_plain, _save_agent, _load_plain, (voltage_agent.settings,)),
    "ddpg": _Maker(_train_plain, _save_agent, _load_plain, (voltage_agent.settings,)),
    "safe_ddpg": _Maker(
        _train_safe_ddpg,
        _save_safe_ddpg,
        _load_safe_ddpg,
        (voltage_agent.settings, safe_ddpg.settings),
    ),
    "sac": _Maker(_train_sb3, _save_sb3, _load_sb3, (), sb3_agents.PACKAGES),
    "ppo": _Maker(_train_sb3, _save_sb3, _load_sb3, (), sb3_agents.PACKAGES),
}


def missing_for(method: str) -> str:
    """Return what a method lacks to run here and how to get it, empty where nothing does."""
    if method in ("sac", "ppo") and find_spec("stable_baselines3") is None:
        return "stable-baselines3 is not installed; pip install 'feederguard[sb3]'"
    return ""


def trained_voltage(kind: str, course: VoltageCourse, seed: int) -> TrainedVoltage:
    """Return the agent of one kind and seed, from the cache or trained and kept there.

    Raises ValueError for an unknown kind, and OSError when the cache cannot be written.
    """
    if kind not in MAKERS:
        raise ValueError(f"unknown voltage agent {kind!r}; use one of {', '.join(KINDS)}")
    maker, config = MAKERS[kind], _with_seed(getattr(course.configs, kind), seed)
    parts = _parts(kind, course, maker, config)
    path = course.cache / f"{kind}-{_file_name(course.network.name)}-{hash_of(parts)}.safetensors"
    note = ""
    if path.exists():
        try:
            return TrainedVoltage(maker.load(course, path), _read_record(path), path, True, "")
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
            note = f"{path}: cannot be used ({error}); trained anew"
    course.cache.mkdir(parents=True, exist_ok=True)
    agent, record = maker.train(course, config)
    _write_record(record, path, parts)
    maker.save(agent, path)
    return TrainedVoltage(maker.load(course, path), _read_record(path), path, False, note)


def agent_key(kind: str, course: VoltageCourse, seed: int) -> str:
    """Return the hash of all that decides an agent, part of its files' names."""
    return hash_of(
        _parts(kind, course, MAKERS[kind], _with_seed(getattr(course.configs, kind), seed))
    )


def train_voltage_agents(
    course: VoltageCourse,
    kinds: Sequence[str],
    seeds: Sequence[int],
    run: RunConfig,
    console: Console,
) -> dict[tuple[str, int], TrainedVoltage]:
    """Return the agents of these kinds and seeds; those that are not in the cache are trained side
    by side first.

    Says what came from where. Raises as `trained_voltage`.
    """
    pieces = {f"{kind}/{seed}": (kind, seed) for kind in KINDS if kind in kinds for seed in seeds}
    done = run_tasks(
        TaskList("training agents", pieces, _train_piece, _same, (course,)), None, run, console
    )
    for name, (kind, seed) in pieces.items():
        told = done[name]["training"].iloc[0]
        if told["note"]:
            console.print(told["note"], soft_wrap=True, markup=False)
        how = "from the cache, trained" if told["cached"] else "trained"
        console.print(
            f"{kind}, seed {seed}: {how} in {told['seconds']:.0f} s ({told['file']})",
            soft_wrap=True,
            markup=False,
        )
    return {(kind, seed): trained_voltage(kind, course, seed) for kind, seed in pieces.values()}


def kept_tube(feeder: Network, batteries: Batteries, days: VoltageDays, cache: Path) -> SocTube:
    """Return the SOC tube of these days, from the cache or computed and kept there; raises as
    `compute_soc_tube`.

    A file that is damaged, or that does not say which step and batteries it is of, is computed
    anew.
    """
    parts = {
        "network": network_fingerprint(feeder),
        **digests(batteries, days),
        "version": version("feederguard"),
        "settings": dict(soc_tube.settings()),
    }
    path = cache / f"soc_tube-{_file_name(feeder.name)}-{hash_of(parts)}.npz"
    if path.exists():
        try:
            with np.load(path) as kept:
                return SocTube(
                    kept["low"], kept["high"], float(kept["step_h"]), str(kept["batteries"])
                )
        except (OSError, ValueError, KeyError, EOFError, BadZipFile, zlib.error):
            path.unlink(missing_ok=True)
    tube = compute_soc_tube(feeder, batteries, days)
    cache.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{os.getpid()}-{path.name}")
    np.savez(
        partial,
        low=tube.low,
        high=tube.high,
        step_h=days.step_h,
        batteries=battery_digest(batteries),
    )
    os.replace(partial, path)
    return tube


def _same(course: VoltageCourse) -> VoltageCourse:
    return course


def _train_piece(course: VoltageCourse, kind: str, seed: int) -> Tables:
    trained = trained_voltage(kind, course, seed)
    line = {
        "seconds": trained.record.seconds,
        "cached": trained.cached,
        "note": trained.note,
        "file": trained.path.name,
    }
    return {"training": pd.DataFrame([line])}


def _parts(kind: str, course: VoltageCourse, maker: _Maker, config: Any) -> dict[str, Any]:
    """Return what decides an agent, to be hashed."""
    tube = course.tube if maker.in_tube else None
    return {
        "kind": kind,
        "network": network_fingerprint(course.network),
        **digests(course.batteries, course.days),
        "soc_tube": None if tube is None else _digest(tube.low, tube.high),
        "config": asdict(config),
        "settings": {one.__module__.rpartition(".")[2]: dict(one()) for one in maker.settings},
        "version": version("feederguard"),
        "packages": {name: _version(name) for name in maker.packages},
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


def digests(batteries: Batteries, days: VoltageDays) -> dict[str, str]:
    """Return hashes of the numbers of batteries and of days."""
    numbers = [
        getattr(batteries, item.name)
        for item in fields(batteries)
        if item.name not in ("name", "soc_end")
    ]
    # NaN stands for an end that is the start.
    end = np.full(len(batteries), np.nan) if batteries.soc_end is None else batteries.soc_end
    demand = (
        days.p_load,
        days.q_load,
        days.p_gen,
        np.array(days.step_h),
        days.date.astype(np.int64),
    )
    return {"batteries": _digest(*numbers, end), "days": _digest(*demand)}


def _digest(*arrays: Any) -> str:
    """Return a hash of the numbers to ten digits: one feeder read by two machines may differ in the
    last bit.
    """
    digest = hashlib.sha256()
    for array in arrays:
        numbers = np.asarray(array, dtype=float)
        digest.update(f"{numbers.shape}".encode())
        # Adding 0.0 makes one zero of the two.
        digest.update(np.ascontiguousarray(np.round(numbers, 10) + 0.0).tobytes())
    return digest.hexdigest()[:16]


def _file_name(text: str) -> str:
    return re.sub(r"[^\w.-]+", "_", text)


def _write_record(record: TrainingRecord, path: Path, parts: dict[str, Any]) -> None:
    partial = path.with_name(f".{os.getpid()}-{path.stem}.parquet")
    said = zip(record.statuses, record.status_steps.T, strict=True)
    columns = {name: getattr(record, name) for name in RECORD} | {
        _STATUS + name: steps for name, steps in said
    }
    pd.DataFrame(columns).to_parquet(partial, index=False)
    os.replace(partial, path.with_suffix(".parquet"))
    told = {
        "seconds": record.seconds,
        "steps": record.steps,
        "fallbacks": record.fallbacks,
        **parts,
    }
    write_whole(path.with_suffix(".json"), json.dumps(told, indent=1).encode())


def _read_record(path: Path) -> TrainingRecord:
    told = json.loads(path.with_suffix(".json").read_text())
    lines = pd.read_parquet(path.with_suffix(".parquet"))
    columns = {name: lines[name].to_numpy() for name in RECORD}
    statuses = tuple(
        name.removeprefix(_STATUS) for name in lines.columns if name.startswith(_STATUS)
    )
    said = lines[[_STATUS + name for name in statuses]].to_numpy(dtype=np.int64)
    return TrainingRecord(
        **columns,
        steps=int(told["steps"]),
        seconds=float(told["seconds"]),
        statuses=statuses,
        status_steps=said,
        fallbacks=int(told["fallbacks"]),
    )


def kept_df_srl(course: VoltageCourse, seed: int = 0) -> VoltageAgent | None:
    """Return the course's trained df_srl from its cache, None where it is not there; nothing is
    trained.

    Raises `CheckpointError` when its file cannot be used.
    """
    found = sorted(course.cache.glob(f"df_srl-*-{agent_key('df_srl', course, seed)}.safetensors"))
    return (
        VoltageAgent.load(found[0], course.network, course.batteries, course.layer())
        if found
        else None
    )
