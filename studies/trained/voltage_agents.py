"""Voltage agents trained once and kept: a few files per agent, named after what decides them.

    CACHE/KIND-FEEDER-KEY.safetensors   the agent
    CACHE/KIND-FEEDER-KEY.slopes        the learned linear models of `safe_ddpg`
    CACHE/KIND-FEEDER-KEY.parquet       the record of training, a line per day, with layer statuses
    CACHE/KIND-FEEDER-KEY.json          what it was trained on, and for how long
    CACHE/soc_tube-FEEDER-KEY.npz       the SOC tube of the feeder's training days

The key is a hash of the numbers of feeder and batteries, the training days, and the SOC tube if the
agent acts inside one. It covers the agent's whole configuration with its seed, and the constants of
the modules that make it (`settings` of each). It covers the versions of this package and of the
learning libraries, but not the source text: after a change of training code that changes no
constant and no version, empty the cache. A new agent is read back from its file. A run that trains
and a run that finds the files therefore give the same figures.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pandas as pd
from rich.console import Console
from safetensors import SafetensorError

from feederguard.agents.learning.checkpoint import network_fingerprint
from feederguard.agents.training_record import TrainingRecord
from feederguard.agents.voltage_agent import VoltageAgent
from feederguard.models.battery import Batteries
from feederguard.models.battery.batteries import battery_digest
from feederguard.models.network import Network
from feederguard.models.soc_tube import SocTube, compute_soc_tube
from feederguard.models.soc_tube import plan as soc_tube
from feederguard.models.voltage_regulation import VoltageDays, VoltageMethod
from feederguard.studies.running.files import hash_of, write_whole
from feederguard.studies.running.journal import Tables
from feederguard.studies.running.tasks import RunConfig, TaskList, run_tasks
from feederguard.studies.trained.voltage_makers import (
    KINDS,
    MAKERS,
    RECORD,
    Maker,
    VoltageCourse,
    with_seed,
)

_STATUS = "layer_"  # prefix of the columns of the record that count a layer's statuses


@dataclass(frozen=True, eq=False)
class TrainedVoltage:
    """An agent, and where it comes from."""

    agent: VoltageMethod
    record: TrainingRecord
    path: Path
    cached: bool
    note: str  # why existing files could not be used


def missing_for(method: str) -> str:
    """Return what is missing to run a method here and how to get it, "" if nothing is."""
    if method in ("sac", "ppo") and find_spec("stable_baselines3") is None:
        return "stable-baselines3 is not installed; pip install 'feederguard[sb3]'"
    return ""


def trained_voltage(kind: str, course: VoltageCourse, seed: int) -> TrainedVoltage:
    """Return the agent of one kind and seed, from the cache or trained and kept there.

    Raises ValueError for an unknown kind, and OSError if the cache cannot be written.
    """
    if kind not in MAKERS:
        raise ValueError(f"unknown voltage agent {kind!r}; use one of {', '.join(KINDS)}")
    maker, config = MAKERS[kind], with_seed(getattr(course.configs, kind), seed)
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
    """Return the hash of all that decides an agent; it is part of its files' names."""
    return hash_of(
        _parts(kind, course, MAKERS[kind], with_seed(getattr(course.configs, kind), seed))
    )


def train_voltage_agents(
    course: VoltageCourse,
    kinds: Sequence[str],
    seeds: Sequence[int],
    run: RunConfig,
    console: Console,
) -> dict[tuple[str, int], TrainedVoltage]:
    """Return the agents of these kinds and seeds; missing ones are trained in parallel first.

    Prints which come from the cache. Raises what `trained_voltage` raises.
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


def kept_df_srl(course: VoltageCourse, seed: int = 0) -> VoltageAgent | None:
    """Return the course's trained df_srl from its cache, None if it is not there.

    Nothing is trained. Raises `CheckpointError` if the file cannot be used.
    """
    found = sorted(course.cache.glob(f"df_srl-*-{agent_key('df_srl', course, seed)}.safetensors"))
    return (
        VoltageAgent.load(found[0], course.network, course.batteries, course.layer())
        if found
        else None
    )


def kept_tube(feeder: Network, batteries: Batteries, days: VoltageDays, cache: Path) -> SocTube:
    """Return the SOC tube of these days, from the cache or computed and kept there.

    A file that is damaged, or that lacks its step or batteries, is computed again. Raises what
    `compute_soc_tube` raises.
    """
    parts = {
        "network": network_fingerprint(feeder),
        **digests(batteries, days),
        "version": version("feederguard"),
        "settings": dict(soc_tube.constants()),
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


def _parts(kind: str, course: VoltageCourse, maker: Maker, config: Any) -> dict[str, Any]:
    """Return all that decides an agent, to be hashed."""
    tube = course.tube if maker.in_tube else None
    return {
        "kind": kind,
        "network": network_fingerprint(course.network),
        **digests(course.batteries, course.days),
        "soc_tube": None if tube is None else _digest(tube.low, tube.high),
        "config": asdict(config),
        "settings": {one.__module__.rpartition(".")[2]: dict(one()) for one in maker.constants},
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
    # NaN: the SOC at the end is that of the start.
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
    """Return a hash of the numbers rounded to ten decimals.

    A feeder read on two machines may differ in the last bit.
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
