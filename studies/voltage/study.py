"""Compare voltage-regulation methods on one feeder: the same test days, the same AC judge.

    python studies/compare_methods.py --job voltage           one seed, short training
    python studies/compare_methods.py --job voltage --full    ten seeds, full training, intervals

    no_control       batteries idle
    droop            P(V) droop, tuned on the training days
    ddpg, td3        learned, without a safety layer
    sac, ppo         the same by stable-baselines3
    safe_ddpg        one learned linear correction per limit
    df_srl           TD3 with the safety layer, ours
    df_srl_no_tube   the same agent, layer without SOC tube
    idle_safe        no power proposed, the layer alone
    lindistflow_opf  perfect information, lossless model
    ac_opf           perfect information, AC equations: the bound

Learned methods see the train weeks; all methods are judged on the test weeks. Each day begins at
the batteries' soc_start and should end there. Energy missing at its end must be bought back. For
the gap it is charged to the method, as the energy that the terminals must draw to store it again:

    (1)  E = sum over steps and batteries of h |p| + sum over batteries of missing / eta_charge

Energy above soc_start is no credit, as it is none for the optimum. A day with a step outside the
band cannot be compared with an optimum that holds it. The gap is therefore formed over the days
that a method held, sums over sums, and the number of these days is shown.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console

from feederguard.models.arrays import FloatArray, IntArray
from feederguard.models.safe_powers.answers import STATUSES
from feederguard.studies.running.journal import Tables
from feederguard.studies.running.tasks import RunConfig, TaskList, run_tasks
from feederguard.studies.trained.voltage_agents import (
    TrainedVoltage,
    agent_key,
    digests,
    missing_for,
    train_voltage_agents,
)
from feederguard.studies.trained.voltage_makers import KINDS, VoltageCourse
from feederguard.studies.voltage.bench import (
    OPTIMA,
    RESTS_ON,
    TUBE,
    VoltageBench,
    VoltageConfig,
    course_of,
    find_tube,
    load_bench,
)
from feederguard.studies.voltage.tables import VoltageResults
from feederguard.studies.voltage.work import BLOCK, Room, work


def compare_voltage(
    config: VoltageConfig,
    agents_cache: Path,
    journal: Path,
    run: RunConfig,
    console: Console,
    bench: VoltageBench | None = None,
) -> VoltageResults:
    """Return the judged days of every method; agents that are not in the cache are trained.

    bench: default: that of the configuration. Raises what `load_bench` and `run_tasks` raise.
    """
    names = _possible(config.methods, console)
    here = bench or load_bench(config)
    tube, why = find_tube(here, names, agents_cache)
    if why:
        console.print(
            f"SOC tube left out, and df_srl_no_tube with it: {why}", soft_wrap=True, markup=False
        )
        names = [name for name in names if name != "df_srl_no_tube"]
    course = course_of(here, config, tube, agents_cache)
    kinds = {RESTS_ON.get(name, name) for name in names} & set(KINDS)
    trained = train_voltage_agents(course, sorted(kinds), config.seed_numbers, run, console)
    tasks = TaskList(
        "voltage regulation",
        dict(_tasks(config, here, names)),
        work,
        Room,
        (config, agents_cache.resolve(), bench),
        _key(config, course, here),
    )
    done = run_tasks(tasks, journal, run, console)
    days, times, layers = (
        pd.concat([tables[kind] for tables in done.values() if kind in tables], ignore_index=True)
        for kind in ("days", "times", "layer")
    )
    lines = times.groupby("method", sort=False)[["decision_s", "decision_outside_s"]].median()
    counts = layers.groupby("method", sort=False)[list(STATUSES)].sum()
    methods = [
        {"method": name, **lines.loc[name], **_layer_shares(counts.loc[name].to_numpy())}
        for name in lines.index
    ]
    tubes = [tables["tube"] for tables in done.values() if "tube" in tables]
    return VoltageResults(
        here.feeder,
        days,
        _training_table(trained, here),
        pd.DataFrame(methods),
        _schedules(done, here),
        tubes[0] if tubes else None,
    )


def _tasks(
    config: VoltageConfig, bench: VoltageBench, names: Sequence[str]
) -> Iterator[tuple[str, tuple[str, int, int]]]:
    """Yield names and arguments (method, seed, first day).

    Plans are made in blocks of days, the other methods decide all days side by side.
    """
    if "df_srl_no_tube" in names:
        # The longest task goes first.
        yield f"{TUBE}/0", (TUBE, 0, 0)
    for name in names:
        if name in OPTIMA:
            yield from ((f"{name}/{k:04d}", (name, 0, k)) for k in range(0, len(bench.test), BLOCK))
        else:
            seeds = config.seed_numbers if RESTS_ON.get(name, name) in KINDS else (0,)
            yield from ((f"{name}/{seed}", (name, seed, 0)) for seed in seeds)


def _possible(methods: Sequence[str], console: Console) -> list[str]:
    """Return the methods that can run here, and print what the others need."""
    names = []
    for name in methods:
        lacking = missing_for(name)
        if lacking:
            console.print(f"{name} left out: {lacking}", soft_wrap=True, markup=False)
        else:
            names.append(name)
    return names


def _key(config: VoltageConfig, course: VoltageCourse, bench: VoltageBench) -> dict[str, Any]:
    """Return all that decides the tables beside the tasks' names, to be hashed.

    Methods and seeds are in the names.
    """
    agents = {kind: agent_key(kind, course, 0) for kind in KINDS}
    return {"feeder": config.feeder, "agents": agents, "test": digests(bench.batteries, bench.test)}


def _schedules(done: Mapping[str, Tables], bench: VoltageBench) -> dict[str, FloatArray]:
    """Return the applied powers of each method's first seed, (n_day, n_step, n_bat) pu."""
    parts: dict[str, list[FloatArray]] = {}
    for tables in done.values():
        if "schedule" in tables:
            parts.setdefault(tables["days"]["method"].iloc[0], []).append(
                tables["schedule"].to_numpy(dtype=float)
            )
    shape = (len(bench.test), bench.test.n_step, len(bench.batteries))
    return {name: np.concatenate(blocks).reshape(shape) for name, blocks in parts.items()}


def _layer_shares(counts: IntArray) -> dict[str, float]:
    """Return the share of decisions of each status of the layer, NaN without one."""
    total = counts.sum()
    return {
        f"layer_{status}": n / total if total else np.nan
        for status, n in zip(STATUSES, counts, strict=True)
    }


def _training_table(
    trained: dict[tuple[str, int], TrainedVoltage], bench: VoltageBench
) -> pd.DataFrame:
    parts = []
    for (kind, seed), one in trained.items():
        record = one.record
        n = len(record.reward)
        parts.append(
            pd.DataFrame(
                {
                    "method": kind,
                    "seed": seed,
                    "day": np.arange(1, n + 1),
                    "steps": record.n_steps,
                    "violation_steps": record.n_violation_steps,
                    "worst_excess_pu": record.worst_excess_pu,
                    "regulation_kwh": record.regulation_kwh,
                    "reward": record.reward,
                    "training_s": record.seconds,
                }
            )
        )
    names = (
        "method",
        "seed",
        "day",
        "steps",
        "violation_steps",
        "worst_excess_pu",
        "regulation_kwh",
        "reward",
        "training_s",
    )
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=list(names))
