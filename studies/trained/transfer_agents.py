"""Load-transfer agents trained once and kept: a file per agent, named after what decides it.

    CACHE/KIND-FEEDER-SETTING-KEY.safetensors    the agent
    CACHE/KIND-FEEDER-SETTING-KEY.json           its training: on what, how long, learning curve

The key is a hash of the feeder's numbers, the setting, the profile with its contents and the share
of photovoltaics. It covers size and seed of the training pool, the whole configuration of the
agent, and the version of this package. A new agent is read back from its file. A run that trains
and a run that finds the file therefore give the same figures. An agent whose .json holds no
learning curve is used all the same.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console

from feederguard.agents.corrections.paper_correction import PaperCorrection
from feederguard.agents.corrections.safe_correction import SafeCorrection
from feederguard.agents.ddpg_transfer import DdpgTransfer, DdpgTransferConfig
from feederguard.agents.learning.checkpoint import (
    CheckpointError,
    network_fingerprint,
    setting_text,
)
from feederguard.agents.ranked_switching import RankedSwitching, RankedSwitchingConfig
from feederguard.data.profiles import Profiles
from feederguard.data.sampling import sample_scenarios
from feederguard.models.load_transfer import Decisions, Method, Scenarios, Setting
from feederguard.models.network import Network
from feederguard.studies.running.files import hash_of, write_whole
from feederguard.studies.running.journal import Tables
from feederguard.studies.running.tasks import RunConfig, TaskList, run_tasks

# A line per point of a learning curve. x counts decisions or epochs, as `unit` says. Figures that
# an agent does not have are NaN.
CURVE_COLUMNS = (
    "setting",
    "method",
    "unit",
    "x",
    "learned_reward",
    "safe_pct",
    "cost",
    "loss",
    "first_pct",
    "shortlist_pct",
)
# Added to the seed: no training pool shares its draws with the test scenarios of any seed.
POOL_SEED = 1_000_000


@dataclass(frozen=True)
class AgentConfigs:
    """How each kind of agent is trained; the course's seed replaces the seeds in them."""

    ddpg: DdpgTransferConfig = field(default_factory=DdpgTransferConfig)
    ddpg_corrected: DdpgTransferConfig = field(default_factory=DdpgTransferConfig.corrected)
    ranked_switching: RankedSwitchingConfig = field(default_factory=RankedSwitchingConfig)


@dataclass(frozen=True, eq=False)
class Course:
    """What agents are trained on, and the folder they are kept in."""

    profiles: Profiles
    pv_share: float
    scenarios: int  # of train weeks in the pool
    seed: int  # of the agent; its pool has POOL_SEED more
    cache: Path
    configs: AgentConfigs = field(default_factory=AgentConfigs)

    def pool(self, network: Network) -> Scenarios:
        """Return the training pool of a feeder; raises what `sample_scenarios` raises."""
        seed = self.seed + POOL_SEED
        return sample_scenarios(
            network, self.profiles, self.scenarios, seed, "train", self.pv_share
        ).scenarios


@dataclass(frozen=True, eq=False)
class Trained:
    """An agent, and where it comes from."""

    agent: Method
    path: Path
    seconds: float  # of its training, now or earlier; NaN if its file does not say
    cached: bool
    note: str  # why an existing file could not be used
    # The fields of `TransferCurve` or `RankingCurve` over its training; empty if not kept.
    curve: pd.DataFrame


@dataclass(frozen=True, eq=False)
class Corrected:
    """A method whose decisions pass through our correction before they are applied."""

    name: str
    agent: Method
    correction: SafeCorrection

    def decide(self, scenarios: Scenarios) -> Decisions:
        """Return the agent's decisions made safe."""
        return self.correction.correct(scenarios, self.agent.decide(scenarios))


def trained_ddpg(network: Network, setting: Setting, course: Course) -> Trained:
    """Return the paper's agent without a correction.

    Raises OSError if the cache cannot be written.
    """
    config = _seeded(course.configs.ddpg, course.seed)
    return _trained(
        "ddpg",
        network,
        setting,
        course,
        config,
        lambda path: DdpgTransfer.load(path, network, setting=setting),
        lambda pool: DdpgTransfer.train(network, setting, pool, config),
    )


def trained_ddpg_corrected(network: Network, setting: Setting, course: Course) -> Trained:
    """Return the paper's agent, corrected in training and in use. Raises as `trained_ddpg`."""
    config = _seeded(course.configs.ddpg_corrected, course.seed)
    correction = PaperCorrection(network, setting)
    return _trained(
        "ddpg_corrected",
        network,
        setting,
        course,
        config,
        lambda path: DdpgTransfer.load(path, network, correction, setting),
        lambda pool: DdpgTransfer.train(network, setting, pool, config, correction),
    )


def trained_ddpg_safe(network: Network, setting: Setting, course: Course) -> Trained:
    """Return the agent of `trained_ddpg`, corrected by ours. Raises as `trained_ddpg`."""
    plain = trained_ddpg(network, setting, course)
    return replace(
        plain, agent=Corrected("ddpg_safe", plain.agent, SafeCorrection(network, setting))
    )


def trained_ranked_switching(network: Network, setting: Setting, course: Course) -> Trained:
    """Return our agent. Raises as `trained_ddpg`."""
    config = replace(course.configs.ranked_switching, seed=course.seed)
    return _trained(
        "ranked_switching",
        network,
        setting,
        course,
        config,
        lambda path: RankedSwitching.load(path, network, setting),
        lambda pool: RankedSwitching.train(network, setting, pool, config),
    )


TRAINED: dict[str, Callable[[Network, Setting, Course], Trained]] = {
    "ddpg": trained_ddpg,
    "ddpg_corrected": trained_ddpg_corrected,
    "ddpg_safe": trained_ddpg_safe,
    "ranked_switching": trained_ranked_switching,
}


def agents_to_train(methods: Sequence[str]) -> list[str]:
    """Return the kinds of agents that these methods use, each once, the slowest first."""
    wanted = {"ddpg" if method == "ddpg_safe" else method for method in methods}
    return [kind for kind in ("ddpg_corrected", "ranked_switching", "ddpg") if kind in wanted]


def train_agents(
    network: Network,
    settings: Sequence[Setting],
    methods: Sequence[str],
    course: Course,
    run: RunConfig,
    console: Console,
) -> dict[tuple[str, str], float]:
    """Return the seconds of `train_with_curves` alone."""
    return train_with_curves(network, settings, methods, course, run, console)[0]


def train_with_curves(
    network: Network,
    settings: Sequence[Setting],
    methods: Sequence[str],
    course: Course,
    run: RunConfig,
    console: Console,
) -> tuple[dict[tuple[str, str], float], pd.DataFrame]:
    """Train the agents that are not in the cache, in parallel; return seconds and learning curves.

    The seconds, by (setting, method), are those of the training, even if it was in an earlier run.
    The curves have the columns CURVE_COLUMNS. An agent whose curve was not kept has no line there,
    and `ddpg_safe` has none, since it uses the agent of `ddpg`. Prints which agents come from the
    cache. Raises OSError if the cache cannot be written.
    """
    pieces = {
        f"{kind}/{setting.name}": (setting, kind)
        for kind in agents_to_train(methods)
        for setting in settings
    }
    done = run_tasks(
        TaskList("training agents", pieces, _train_piece, _Classroom, (network, course)),
        None,
        run,
        console,
    )
    seconds: dict[tuple[str, str], float] = {}
    for name, (setting, kind) in pieces.items():
        told = done[name]["training"].iloc[0]
        if told["note"]:
            console.print(told["note"], soft_wrap=True, markup=False)
        how = "from the cache, trained" if told["cached"] else "trained"
        console.print(
            f"{kind}, {setting.name} setting: {how} in {told['seconds']:.0f} s ({told['file']})",
            soft_wrap=True,
            markup=False,
        )
        seconds[setting.name, kind] = float(told["seconds"])
    curves = [
        _as_lines(done[name]["curve"], setting.name, kind)
        for name, (setting, kind) in pieces.items()
        if len(done[name]["curve"])
    ]
    if "ddpg_safe" in methods:
        seconds |= {
            (setting.name, "ddpg_safe"): seconds[setting.name, "ddpg"] for setting in settings
        }
    lines = pd.concat(curves, ignore_index=True) if curves else pd.DataFrame()
    return seconds, lines.reindex(columns=list(CURVE_COLUMNS))


def profiles_digest(profiles: Profiles) -> str:
    """Return a hash of the profiles: clock, every value, and the names of the series."""
    digest = hashlib.sha256(f"{profiles.name} {profiles.load_name} {profiles.pv_name}".encode())
    for array in (profiles.time.astype(np.int64), profiles.load, profiles.pv):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]


def course_parts(network: Network, setting: Setting, course: Course) -> dict[str, Any]:
    """Return all that decides an agent beside its kind and configuration, to be hashed."""
    return {
        "network": network_fingerprint(network),
        "setting": setting_text(setting),
        "profiles": course.profiles.name,
        "profiles_digest": profiles_digest(course.profiles),
        "pv_share": course.pv_share,
        "pool": course.scenarios,
        "pool_seed": course.seed + POOL_SEED,
        "version": version("feederguard"),
    }


@dataclass(frozen=True, eq=False)
class _Classroom:
    """What a training process holds."""

    network: Network
    course: Course


def _train_piece(room: _Classroom, setting: Setting, kind: str) -> Tables:
    trained = TRAINED[kind](room.network, setting, room.course)
    line = {
        "seconds": trained.seconds,
        "cached": trained.cached,
        "note": trained.note,
        "file": trained.path.name,
    }
    return {"training": pd.DataFrame([line]), "curve": trained.curve}


def _as_lines(curve: pd.DataFrame, setting: str, kind: str) -> pd.DataFrame:
    """Return a curve as lines of CURVE_COLUMNS; its first column counts training."""
    unit = str(curve.columns[0])
    return curve.rename(columns={unit: "x"}).assign(setting=setting, method=kind, unit=unit)


def _seeded(config: DdpgTransferConfig, seed: int) -> DdpgTransferConfig:
    return replace(config, learner=replace(config.learner, seed=seed))


def _trained(
    kind: str,
    network: Network,
    setting: Setting,
    course: Course,
    config: Any,
    load: Callable[[Path], Method],
    train: Callable[[Scenarios], Any],
) -> Trained:
    parts = {"kind": kind, **course_parts(network, setting, course), "config": asdict(config)}
    feeder, named = (re.sub(r"[^\w.-]+", "_", name) for name in (network.name, setting.name))
    path = course.cache / f"{kind}-{feeder}-{named}-{hash_of(parts)}.safetensors"
    told, note = path.with_suffix(".json"), ""
    if path.exists():
        try:
            return Trained(load(path), path, _seconds(told), True, "", _curve(told))
        except CheckpointError as error:
            note = f"{error}; trained anew"
    course.cache.mkdir(parents=True, exist_ok=True)
    begin = perf_counter()
    agent = train(course.pool(network))
    seconds = perf_counter() - begin
    # The .json first: an agent that is found then always has a whole one.
    write_whole(
        told,
        json.dumps({"seconds": seconds, **parts, "curve": asdict(agent.curve)}, indent=1).encode(),
    )
    agent.save(path)
    return Trained(load(path), path, seconds, False, note, _curve(told))


def _seconds(told: Path) -> float:
    try:
        return float(json.loads(told.read_text())["seconds"])
    except (OSError, ValueError, KeyError, TypeError):
        return float("nan")


def _curve(told: Path) -> pd.DataFrame:
    try:
        return pd.DataFrame(json.loads(told.read_text())["curve"])
    except (OSError, ValueError, KeyError, TypeError):
        return pd.DataFrame()
