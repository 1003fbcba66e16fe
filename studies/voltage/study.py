"""Compare voltage-regulation methods on one feeder: the same test days, every step judged by the
same AC power flow.

    python studies/compare_methods.py --job voltage              one seed, short training
    python studies/compare_methods.py --job voltage --full       ten seeds, whole training, means with 95 % intervals

    no_control       batteries idle                               droop            P(V) droop, tuned on the training days
    ddpg, td3        learned, nothing behind them                 sac, ppo         the same by stable-baselines3
    safe_ddpg        one learned linear correction per limit      df_srl           TD3 with the safety layer, ours
    df_srl_no_tube   the same agent, layer without SOC tube       idle_safe        nothing proposed, the layer alone
    lindistflow_opf  perfect information, lossless model          ac_opf           perfect information: the bound

Learned methods see the train weeks, everything is judged on the test weeks; each day begins at the
batteries' soc_start and should end there. What is missing at its end has to be bought back, and is
charged to the method for the gap:

    (1)  E = sum over steps and batteries of h |p|  +  sum over batteries of missing energy / eta_charge

since that much must be drawn through the terminals to have it stored again; energy beyond what was
asked for is no credit, as the optimum gets none for it either. A day with any step outside the band
is no match for an optimum that holds it: the gap is formed over the days that a method held, sums
over sums, and their number is shown with it.

Longer than other files: it is the whole comparison, from options to figures.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any

import numpy as np
import pandas as pd
import tyro
from rich.console import Console

from feederguard.agents.safety_layer import SafetyLayer
from feederguard.agents.voltage_agent import VoltageAgent
from feederguard.baselines.voltage.droop import Droop, tune_droop
from feederguard.baselines.voltage.no_control import NoControl
from feederguard.baselines.voltage.optimum import VoltageOpf, VoltageOptimumError
from feederguard.data.voltage_cases import load_voltage_case
from feederguard.models.arrays import FloatArray, IntArray
from feederguard.models.battery import Batteries
from feederguard.models.network import Network
from feederguard.models.safe_powers.answers import STATUSES, SafeActions
from feederguard.models.soc_tube import SocTube
from feederguard.models.voltage_regulation import (
    VoltageDays,
    VoltageMethod,
    VoltageOutcomes,
    VoltageState,
    simulate,
)
from feederguard.models.voltage_regulation.demand import net_demand
from feederguard.models.voltage_regulation.judge import SAFE_TOLERANCE_PU
from feederguard.models.voltage_regulation.rules import band_excess
from feederguard.studies.running.journal import Tables
from feederguard.studies.running.tasks import RunConfig, TaskList, run_tasks
from feederguard.studies.trained.voltage_agents import (
    KINDS,
    TrainedVoltage,
    VoltageAgentConfigs,
    VoltageCourse,
    agent_key,
    digests,
    kept_tube,
    missing_for,
    train_voltage_agents,
    trained_voltage,
)
from feederguard.studies.voltage.tables import VoltageResults
from feederguard.studies.voltage.tube_worth import tube_table

OPTIMA = ("lindistflow_opf", "ac_opf")
METHODS = (
    "no_control",
    "droop",
    "ddpg",
    "td3",
    "sac",
    "ppo",
    "safe_ddpg",
    "df_srl",
    "df_srl_no_tube",
    "idle_safe",
    *OPTIMA,
)
TUBE = "soc_tube"  # the task that shows what the tube is worth, beside the methods
# What another method is made of.
RESTS_ON = {"df_srl_no_tube": "df_srl"}

SEEDS, SEEDS_FULL = 1, 10
BLOCK = 10  # test days of a task of the optima
TIMED = 100  # single decisions of each kind that are timed


@dataclass(frozen=True)
class VoltageConfig:
    """Settings of the voltage-regulation comparison."""

    feeder: str = "cigre_lv18"
    """Bundled voltage case by name."""
    methods: tuple[str, ...] = METHODS
    """Methods to compare."""
    seeds: int | None = None
    """Number of training seeds, 0 upwards; 1, or 10 with --full."""
    full: bool = False
    """Whole training of every method and ten seeds: hours instead of minutes."""
    days: int | None = None
    """Number of test days, spread evenly over the test weeks; all of them where it is not given."""
    agents: Annotated[VoltageAgentConfigs | None, tyro.conf.Suppress] = None
    """How agents are trained; short or whole training, as `full` says, where it is not given."""

    def __post_init__(self) -> None:
        unknown = [name for name in self.methods if name not in METHODS]
        if unknown:
            raise ValueError(f"unknown method {unknown[0]!r}; use {', '.join(METHODS)}")
        if not self.methods or len(set(self.methods)) < len(self.methods):
            raise ValueError(
                f"methods is {' '.join(self.methods) or 'empty'}; name at least one, and each once"
            )
        for name in ("seeds", "days"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1")

    @property
    def seed_numbers(self) -> tuple[int, ...]:
        """The seeds of learned methods."""
        return tuple(range(self.seeds or (SEEDS_FULL if self.full else SEEDS)))

    @property
    def agent_configs(self) -> VoltageAgentConfigs:
        """How agents are trained."""
        return self.agents or (VoltageAgentConfigs() if self.full else VoltageAgentConfigs.short())


@dataclass(frozen=True, eq=False)
class VoltageBench:
    """What is compared on."""

    feeder: str  # its name among the bundled cases
    network: Network
    batteries: Batteries
    train: VoltageDays
    test: VoltageDays


def load_bench(config: VoltageConfig) -> VoltageBench:
    """Return the feeder and its days; raises ValueError for a feeder without bundled case."""
    train, test = (load_voltage_case(config.feeder, weeks) for weeks in ("train", "test"))
    days = test.days
    if config.days is not None and config.days < len(days):
        days = days[np.linspace(0, len(days) - 1, config.days).round().astype(np.int64)]
    return VoltageBench(config.feeder, test.network, test.batteries, train.days, days)


def compare_voltage(
    config: VoltageConfig,
    agents_cache: Path,
    journal: Path,
    run: RunConfig,
    console: Console,
    bench: VoltageBench | None = None,
) -> VoltageResults:
    """Return what every method does on every test day; agents that are not in the cache are trained
    on the way.

    bench: default what the configuration names. Raises as `load_bench` and `run_tasks`.
    """
    names = _possible(config.methods, console)
    here = bench or load_bench(config)
    tube, why = _tube(here, names, agents_cache)
    if why:
        console.print(
            f"SOC tube left out, and df_srl_no_tube with it: {why}", soft_wrap=True, markup=False
        )
        names = [name for name in names if name != "df_srl_no_tube"]
    course = _course(here, config, tube, agents_cache)
    kinds = {RESTS_ON.get(name, name) for name in names} & set(KINDS)
    trained = train_voltage_agents(course, sorted(kinds), config.seed_numbers, run, console)
    done = run_tasks(
        TaskList(
            "voltage regulation",
            dict(_tasks(config, here, names)),
            work,
            Room,
            (config, agents_cache.resolve(), bench),
            _key(config, course, here),
        ),
        journal,
        run,
        console,
    )
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
    """Yield names and arguments (method, seed, first day): plans in blocks of days, the others all
    days side by side.
    """
    if "df_srl_no_tube" in names:
        # The longest goes first.
        yield f"{TUBE}/0", (TUBE, 0, 0)
    for name in names:
        if name in OPTIMA:
            yield from ((f"{name}/{k:04d}", (name, 0, k)) for k in range(0, len(bench.test), BLOCK))
        else:
            seeds = config.seed_numbers if RESTS_ON.get(name, name) in KINDS else (0,)
            yield from ((f"{name}/{seed}", (name, seed, 0)) for seed in seeds)


class Room:
    """What a process that decides holds: the bench, the course of the agents, and the optima built
    so far.
    """

    def __init__(
        self, config: VoltageConfig, agents_cache: Path, bench: VoltageBench | None
    ) -> None:
        self.bench = bench or load_bench(config)
        tube, _ = _tube(self.bench, config.methods, agents_cache)
        self.course = _course(self.bench, config, tube, agents_cache)
        self.droop: Droop | None = None
        self.opf: dict[str, VoltageOpf] = {}
        _warm_up(self.bench)


def work(room: Room, name: str, seed: int, first: int) -> Tables:
    """Return the judged days of one method and seed, its decision times, its layer's work, and its
    schedules.

    name TUBE: what the SOC tube is worth, `tube_worth.py`.
    """
    if name in OPTIMA:
        return _planned(room, name, first)
    bench = room.bench
    if name == TUBE:
        agent = trained_voltage("df_srl", room.course, seed).agent
        assert isinstance(agent, VoltageAgent) and room.course.tube is not None
        worth = tube_table(
            bench.network, bench.batteries, bench.test, room.course.tube, {"df_srl": agent}
        )
        return {"tube": worth}
    method, layer = _build(room, name, seed)
    outcome = simulate(bench.network, bench.batteries, bench.test, method)
    counts = np.zeros(len(STATUSES), dtype=np.int64) if layer is None else layer.counts
    tables = {
        "days": day_table(name, seed, bench, bench.test, outcome),
        "layer": pd.DataFrame(
            [{"method": name, **dict(zip(STATUSES, counts.tolist(), strict=True))}]
        ),
    }
    # Times do not depend on the seed, and the pictures show the first.
    if seed == 0:
        tables["times"] = pd.DataFrame(
            [{"method": name, **_decision_seconds(method, bench, outcome)}]
        )
        tables["schedule"] = _schedule_table(outcome.p_battery)
    return tables


def day_table(
    name: str, seed: int, bench: VoltageBench, days: VoltageDays, outcome: VoltageOutcomes
) -> pd.DataFrame:
    """Return one line per day of an outcome, in kWh and pu."""
    batteries, base_kw = bench.batteries, 1e3 * bench.network.base_mva
    wanted = batteries.soc_start if batteries.soc_end is None else batteries.soc_end
    missing = np.maximum(wanted - outcome.soc[:, -1], 0.0) * batteries.energy
    return pd.DataFrame(
        {
            "method": name,
            "seed": seed,
            "date": days.date.astype("datetime64[s]"),
            "steps": days.n_step,
            "violation_steps": outcome.n_violation_steps,
            "worst_excess_pu": outcome.worst_excess_pu,
            "regulation_kwh": 1e3 * outcome.regulation_mwh,
            "soc_short_kwh": 1e3 * outcome.soc_short_mwh,
            "refill_kwh": base_kw * (missing / batteries.efficiency_charge).sum(axis=1),
            "reward": outcome.reward,
            "loss_kwh": 1e3 * outcome.loss_mwh,
            "grid_kwh": 1e3 * outcome.grid_mwh,
            "v_min_pu": outcome.v.min(axis=(1, 2)),
            "v_max_pu": outcome.v.max(axis=(1, 2)),
            "soc_lowest": outcome.soc.min(axis=(1, 2)),
            "soc_highest": outcome.soc.max(axis=(1, 2)),
            "note": "",
        }
    )


class _CountingLayer(SafetyLayer):
    """A safety layer that counts what it had to do."""

    def __init__(
        self, network: Network, batteries: Batteries, step_h: float, tube: SocTube | None
    ) -> None:
        super().__init__(network, batteries, step_h, tube)
        self.counts: IntArray = np.zeros(len(STATUSES), dtype=np.int64)

    def correct(self, state: VoltageState, p_proposed: FloatArray) -> SafeActions:
        answer = super().correct(state, p_proposed)
        self.counts = self.counts + np.bincount(answer.status, minlength=len(STATUSES))
        return answer


@dataclass(frozen=True, eq=False)
class IdleSafe:
    """The safety layer with nothing proposed: batteries move only where the band asks for it."""

    layer: SafetyLayer
    name: str = "idle_safe"

    def decide(self, state: VoltageState) -> FloatArray:
        """Return the power of each battery, (B, n_bat) pu."""
        return self.layer.correct(state, np.zeros(state.soc.shape)).p


@dataclass(frozen=True, eq=False)
class _Plans:
    """Plans made beforehand, as a `PlannedMethod`."""

    name: str
    p: FloatArray  # (B, T, n_bat)

    def plan(self, days: VoltageDays, soc_start: FloatArray) -> FloatArray:
        return self.p


def _warm_up(bench: VoltageBench) -> None:
    """Run each compiled kernel, so that no method's time has compiling in it."""
    simulate(
        bench.network,
        bench.batteries,
        bench.test[:1],
        IdleSafe(SafetyLayer(bench.network, bench.batteries, bench.test.step_h)),
    )


def _possible(methods: Sequence[str], console: Console) -> list[str]:
    """Return the methods that can run here, and say what the others need."""
    names = []
    for name in methods:
        lacking = missing_for(name)
        if lacking:
            console.print(f"{name} left out: {lacking}", soft_wrap=True, markup=False)
        else:
            names.append(name)
    return names


def _tube(bench: VoltageBench, names: Sequence[str], cache: Path) -> tuple[SocTube | None, str]:
    """Return the SOC tube of the training days where a method needs it, or why there is none."""
    if not {"df_srl", "df_srl_no_tube", "idle_safe"} & set(names):
        return None, ""
    try:
        return kept_tube(bench.network, bench.batteries, bench.train, cache), ""
    except ValueError as error:
        return None, str(error)


def _course(
    bench: VoltageBench, config: VoltageConfig, tube: SocTube | None, cache: Path
) -> VoltageCourse:
    return VoltageCourse(
        bench.feeder, bench.network, bench.batteries, bench.train, tube, cache, config.agent_configs
    )


def _key(config: VoltageConfig, course: VoltageCourse, bench: VoltageBench) -> dict[str, Any]:
    """Return what decides each task beside its name, to be hashed: methods and seeds are in the
    names.
    """
    agents = {kind: agent_key(kind, course, 0) for kind in KINDS}
    return {"feeder": config.feeder, "agents": agents, "test": digests(bench.batteries, bench.test)}


def _build(room: Room, name: str, seed: int) -> tuple[VoltageMethod, _CountingLayer | None]:
    """Return a method that decides step by step, and its safety layer if it has one."""
    bench, course = room.bench, room.course
    network, batteries, step_h = bench.network, bench.batteries, bench.test.step_h
    if name == "no_control":
        return NoControl(), None
    if name == "droop":
        return Droop(network, batteries, tune_droop(network, batteries, bench.train)), None
    tube = None if name == "df_srl_no_tube" else course.tube
    layer = _CountingLayer(network, batteries, step_h, tube)
    if name == "idle_safe":
        return IdleSafe(layer), layer
    agent = trained_voltage(RESTS_ON.get(name, name), course, seed).agent
    if name in ("df_srl", "df_srl_no_tube"):
        assert isinstance(agent, VoltageAgent)
        return agent.with_layer(layer, name), layer
    return agent, None


def _planned(room: Room, name: str, first: int) -> Tables:
    """Return the judged plans of a block of test days, and seconds per decision; a day without a
    plan is a line of NaN.
    """
    bench = room.bench
    days = bench.test[first : first + BLOCK]
    n_day, n_step = len(days), days.n_step
    opf = room.opf.setdefault(name, VoltageOpf(bench.network, bench.batteries, name))
    plans = np.zeros((n_day, n_step, len(bench.batteries)))
    seconds, notes = np.empty(n_day), [""] * n_day
    for k in range(n_day):
        begin = perf_counter()
        try:
            plans[k] = opf.plan(days[k], bench.batteries.soc_start[None])[0]
        except VoltageOptimumError as error:
            notes[k] = str(error)
        seconds[k] = perf_counter() - begin
    outcome = simulate(bench.network, bench.batteries, days, _Plans(name, plans))
    table = day_table(name, 0, bench, days, outcome)
    table["note"] = notes
    numbers = table.columns.difference(["method", "seed", "date", "steps", "note"])
    table[numbers] = table[numbers].astype(float)
    table.loc[table["note"] != "", numbers] = np.nan
    times = {
        "method": name,
        "decision_s": float(np.median(seconds)) / n_step,
        "decision_outside_s": np.nan,
    }
    return {
        "days": table,
        "layer": pd.DataFrame([{"method": name, **dict.fromkeys(STATUSES, 0)}]),
        "times": pd.DataFrame([times]),
        "schedule": _schedule_table(outcome.p_battery),
    }


def _schedule_table(p: FloatArray) -> pd.DataFrame:
    """Return applied powers (D, T, n_bat) as a table of a column per battery, a line per step, days
    one after the other.
    """
    flat = p.reshape(-1, p.shape[-1])
    return pd.DataFrame(flat, columns=[str(k) for k in range(flat.shape[1])])


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


def _decision_seconds(
    method: VoltageMethod, bench: VoltageBench, outcome: VoltageOutcomes
) -> dict[str, float]:
    """Return median seconds of single decisions (B = 1): over the test days, and where idle
    batteries leave the band.
    """
    everywhere = _states(bench, outcome)
    outside = np.flatnonzero(band_excess(bench.network, everywhere.v_idle) > SAFE_TOLERANCE_PU)
    rng = np.random.default_rng(0)
    times = {}
    for label, rows in (
        ("decision_s", np.arange(len(everywhere))),
        ("decision_outside_s", outside),
    ):
        chosen = rng.choice(rows, min(TIMED, len(rows)), replace=False) if len(rows) else rows
        taken = []
        # What is loaded for the first decision is no part of the others.
        for k in [*chosen[:3], *chosen]:
            state = everywhere[k : k + 1]
            begin = perf_counter()
            method.decide(state)
            taken.append(perf_counter() - begin)
        times[label] = float(np.median(taken[3:])) if len(chosen) else np.nan
    return times


def _states(bench: VoltageBench, outcome: VoltageOutcomes) -> VoltageState:
    """Return every state that the method met on the test days."""
    p_net, q_net = (
        np.broadcast_to(x, bench.test.p_load.shape) for x in net_demand(bench.network, bench.test)
    )
    n_day, n_step, n_bus = p_net.shape
    step = np.tile(np.arange(n_step), n_day)
    soc = outcome.soc[:, :-1].reshape(n_day * n_step, -1)
    v_idle = outcome.v_idle.reshape(-1, n_bus)
    return VoltageState(p_net.reshape(-1, n_bus), q_net.reshape(-1, n_bus), v_idle, soc, step)


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
