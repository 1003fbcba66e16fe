"""Compare voltage-regulation methods on one feeder: the same test days, every step judged by the same AC power flow.

    python studies/compare_methods.py --job voltage              one seed, short training
    python studies/compare_methods.py --job voltage --full       ten seeds, whole training, means with 95 % intervals

    no_control       batteries idle                               droop            P(V) droop, tuned on the training days
    ddpg, td3        learned, nothing behind them                 sac, ppo         the same by stable-baselines3
    safe_ddpg        one learned linear correction per limit      df_srl           TD3 with the safety layer, ours
    df_srl_no_tube   the same agent, layer without SOC tube       idle_safe        nothing proposed, the layer alone
    lindistflow_opf  perfect information, lossless model          ac_opf           perfect information: the bound

Learned methods see the train weeks, everything is judged on the test weeks; each day begins at the batteries' soc_start and
should end there. What is missing at its end has to be bought back, and is charged to the method for the gap:

    (1)  E = sum over steps and batteries of h |p|  +  sum over batteries of missing energy / eta_charge

since that much must be drawn through the terminals to have it stored again; energy beyond what was asked for is no
credit, as the optimum gets none for it either. A day with any step outside the band is no match for an optimum that
holds it: the gap is formed over the days that a method held, sums over sums, and their number is shown with it.

Longer than other files: it is the whole comparison, from options to figures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from feederguard.agents.safety_layer import STATUSES, SafeActions, SafetyLayer
from feederguard.agents.voltage_agent import VoltageAgent
from feederguard.baselines.droop import Droop, tune_droop
from feederguard.baselines.no_control import NoControl
from feederguard.baselines.voltage_opf import VoltageOpf, VoltageOptimumError
from feederguard.data.voltage_cases import load_voltage_case
from feederguard.models.battery import Batteries
from feederguard.models.network import FloatArray, IntArray, Network
from feederguard.models.soc_tube import SocTube
from feederguard.models.voltage_days import VoltageDays, VoltageState
from feederguard.models.voltage_regulation import (
    SAFE_TOLERANCE_PU,
    VoltageMethod,
    VoltageOutcomes,
    band_excess,
    net_demand,
    simulate,
)
from feederguard.studies.trained_voltage_agents import (
    KINDS,
    TrainedVoltage,
    VoltageAgentConfigs,
    VoltageCourse,
    kept_tube,
    missing_for,
    train_voltage_agents,
)
from feederguard.studies.voltage_tables import VoltageResults, print_tables, summarise, write_results
from feederguard.studies.workers import n_cores, spread

OPTIMA = ("lindistflow_opf", "ac_opf")
METHODS = (
    "no_control", "droop", "ddpg", "td3", "sac", "ppo", "safe_ddpg", "df_srl", "df_srl_no_tube", "idle_safe", *OPTIMA,
)  # fmt: skip
# What another method is made of.
RESTS_ON = {"df_srl_no_tube": "df_srl"}

SEEDS, SEEDS_FULL = 1, 10
TIMED = 100  # single decisions of each kind that are timed


@dataclass(frozen=True)
class VoltageConfig:
    """The study's settings; each field with a help text is a command-line option."""

    feeder: str = field(default="cigre_lv18", metadata={"help": "bundled voltage case by name"})
    methods: tuple[str, ...] = field(default=METHODS, metadata={"help": "methods to compare"})
    seeds: int | None = field(
        default=None,
        metadata={"help": f"number of training seeds, 0 upwards (default: {SEEDS}; with --full {SEEDS_FULL})"},
    )
    full: bool = field(default=False, metadata={"help": "whole training, ten seeds: hours instead of minutes"})
    days: int | None = field(
        default=None, metadata={"help": "number of test days, spread evenly over the test weeks (default: all of them)"}
    )
    workers: int = field(default=n_cores(), metadata={"help": "processes that train and plan side by side"})
    output: Path = field(default=Path("results/compare_voltage"), metadata={"help": "folder for the results"})
    agents_cache: Path = field(default=Path("results/agents"), metadata={"help": "folder of trained agents"})
    agents: VoltageAgentConfigs | None = None  # default: short or whole training, as `full` says

    def __post_init__(self) -> None:
        unknown = [name for name in self.methods if name not in METHODS]
        if unknown:
            raise ValueError(f"unknown method {unknown[0]!r}; use {', '.join(METHODS)}")
        if len(set(self.methods)) < len(self.methods):
            raise ValueError("a method is named twice; name each once")
        for name in ("seeds", "days", "workers"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1")
        for name, folder in (("output", self.output), ("agents_cache", self.agents_cache)):
            if folder.exists() and not folder.is_dir():
                raise ValueError(f"{name} {folder} is a file; name a folder")

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


def compare_voltage(config: VoltageConfig, bench: VoltageBench, console: Console) -> VoltageResults:
    """Return what every method does on every test day; agents that are not in the cache are trained on the way."""
    names = _possible(config.methods, console)
    console.print("compiling kernels (first run on a machine: some minutes) ...")
    _warm_up(bench)
    tube = _tube(config, bench, names, console)
    if tube is None and "df_srl_no_tube" in names:
        names.remove("df_srl_no_tube")
    course = VoltageCourse(
        bench.feeder, bench.network, bench.batteries, bench.train, tube, config.agents_cache, config.agent_configs
    )
    kinds = {RESTS_ON.get(name, name) for name in names} & set(KINDS)
    trained = train_voltage_agents(course, sorted(kinds), config.seed_numbers, config.workers, console)
    tables, lines = [], []
    columns = (TextColumn("{task.description:24}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        for name in names:
            seeds = config.seed_numbers if RESTS_ON.get(name, name) in KINDS else (0,)
            task = progress.add_task(name, total=len(seeds) * len(bench.test))
            counts = np.zeros(len(STATUSES), dtype=np.int64)
            for seed in seeds:
                if name in OPTIMA:
                    table, seconds = _planned(name, config.workers, bench, lambda: progress.advance(task))  # noqa: B023
                else:
                    method, layer = _build(name, bench, course, trained, seed)
                    outcome = simulate(bench.network, bench.batteries, bench.test, method)
                    table = day_table(name, seed, bench, outcome)
                    counts += 0 if layer is None else layer.counts
                    progress.advance(task, len(bench.test))
                    # Times do not depend on the seed.
                    seconds = _decision_seconds(method, bench, outcome) if seed == seeds[0] else seconds
                tables.append(table)
            lines.append({"method": name, **seconds, **_layer_shares(counts)})
    days = pd.concat(tables, ignore_index=True)
    return VoltageResults(bench.feeder, days, _training_table(trained, bench), pd.DataFrame(lines))


def day_table(name: str, seed: int, bench: VoltageBench, outcome: VoltageOutcomes) -> pd.DataFrame:
    """Return one line per day of an outcome, in kWh and pu."""
    batteries, base_kw = bench.batteries, 1e3 * bench.network.base_mva
    wanted = batteries.soc_start if batteries.soc_end is None else batteries.soc_end
    missing = np.maximum(wanted - outcome.soc[:, -1], 0.0) * batteries.energy
    return pd.DataFrame(
        {
            "method": name, "seed": seed, "date": bench.test.date.astype("datetime64[s]"),
            "steps": bench.test.n_step, "violation_steps": outcome.n_violation_steps,
            "worst_excess_pu": outcome.worst_excess_pu, "regulation_kwh": 1e3 * outcome.regulation_mwh,
            "soc_short_kwh": 1e3 * outcome.soc_short_mwh,
            "refill_kwh": base_kw * (missing / batteries.efficiency_charge).sum(axis=1), "reward": outcome.reward,
            "loss_kwh": 1e3 * outcome.loss_mwh, "grid_kwh": 1e3 * outcome.grid_mwh,
            "v_min_pu": outcome.v.min(axis=(1, 2)), "v_max_pu": outcome.v.max(axis=(1, 2)),
            "soc_lowest": outcome.soc.min(axis=(1, 2)), "soc_highest": outcome.soc.max(axis=(1, 2)), "note": "",
        }
    )  # fmt: skip


def run_voltage(config: VoltageConfig, bench: VoltageBench, console: Console) -> list[Path]:
    """Compare, print the tables, write the files and return their paths."""
    results = compare_voltage(config, bench, console)
    summary = summarise(results)
    print_tables(summary, results, console)
    return write_results(summary, results, config.output)


class _CountingLayer(SafetyLayer):
    """A safety layer that counts what it had to do."""

    def __init__(self, network: Network, batteries: Batteries, step_h: float, tube: SocTube | None) -> None:
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
    simulate(bench.network, bench.batteries, bench.test[:1], IdleSafe(SafetyLayer(bench.network, bench.batteries)))


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


def _tube(config: VoltageConfig, bench: VoltageBench, names: Sequence[str], console: Console) -> SocTube | None:
    if not {"df_srl", "df_srl_no_tube", "idle_safe"} & set(names):
        return None
    console.print("SOC tube of the training days ...")
    begin = perf_counter()
    try:
        tube = kept_tube(bench.network, bench.batteries, bench.train, config.agents_cache)
    except ValueError as error:
        console.print(f"SOC tube left out, and df_srl_no_tube with it: {error}", soft_wrap=True, markup=False)
        return None
    console.print(f"SOC tube: {perf_counter() - begin:.0f} s")
    return tube


def _build(
    name: str, bench: VoltageBench, course: VoltageCourse, trained: dict[tuple[str, int], TrainedVoltage], seed: int
) -> tuple[VoltageMethod, _CountingLayer | None]:
    """Return a method that decides step by step, and its safety layer if it has one."""
    network, batteries, step_h = bench.network, bench.batteries, bench.test.step_h
    if name == "no_control":
        return NoControl(), None
    if name == "droop":
        return Droop(network, batteries, tune_droop(network, batteries, bench.train)), None
    tube = None if name == "df_srl_no_tube" else course.tube
    layer = _CountingLayer(network, batteries, step_h, tube)
    if name == "idle_safe":
        return IdleSafe(layer), layer
    agent = trained[RESTS_ON.get(name, name), seed].agent
    if name in ("df_srl", "df_srl_no_tube"):
        assert isinstance(agent, VoltageAgent)
        return agent.with_layer(layer, name), layer
    return agent, None


# What a process that plans holds.
_held: dict[str, Any] = {}


def _hold(name: str, bench: VoltageBench) -> None:
    _held.update(opf=VoltageOpf(bench.network, bench.batteries, name), bench=bench)


def _plan_day(k: int) -> tuple[FloatArray | None, float, str]:
    """Return the plan of a test day, seconds, and why there is none."""
    bench = _held["bench"]
    begin = perf_counter()
    try:
        plan = _held["opf"].plan(bench.test[k], bench.batteries.soc_start[None])[0]
    except VoltageOptimumError as error:
        return None, perf_counter() - begin, str(error)
    return plan, perf_counter() - begin, ""


def _planned(
    name: str, workers: int, bench: VoltageBench, advance: Callable[[], None]
) -> tuple[pd.DataFrame, dict[str, float]]:
    """Return the judged plans of every test day, and seconds per decision; a day without a plan is a line of NaN."""
    n_day, n_step = len(bench.test), bench.test.n_step
    plans = np.zeros((n_day, n_step, len(bench.batteries)))
    seconds, notes = np.empty(n_day), [""] * n_day
    done = spread(_plan_day, range(n_day), min(workers, n_day), _hold, name, bench)
    for k, (plan, taken, note) in enumerate(done):
        plans[k] = 0.0 if plan is None else plan
        seconds[k], notes[k] = taken, note
        advance()
    outcome = simulate(bench.network, bench.batteries, bench.test, _Plans(name, plans))
    table = day_table(name, 0, bench, outcome)
    table["note"] = notes
    numbers = table.columns.difference(["method", "seed", "date", "steps", "note"])
    table[numbers] = table[numbers].astype(float)
    table.loc[table["note"] != "", numbers] = np.nan
    times = {"decision_s": float(np.median(seconds)) / n_step, "decision_outside_s": np.nan}
    return table, times


def _decision_seconds(method: VoltageMethod, bench: VoltageBench, outcome: VoltageOutcomes) -> dict[str, float]:
    """Return median seconds of single decisions (B = 1): over the test days, and where idle batteries leave the band."""
    everywhere = _states(bench, outcome)
    outside = np.flatnonzero(band_excess(bench.network, everywhere.v_idle) > SAFE_TOLERANCE_PU)
    rng = np.random.default_rng(0)
    times = {}
    for label, rows in (("decision_s", np.arange(len(everywhere))), ("decision_outside_s", outside)):
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
    p_net, q_net = (np.broadcast_to(x, bench.test.p_load.shape) for x in net_demand(bench.network, bench.test))
    n_day, n_step, n_bus = p_net.shape
    step = np.tile(np.arange(n_step), n_day)
    soc = outcome.soc[:, :-1].reshape(n_day * n_step, -1)
    v_idle = outcome.v_idle.reshape(-1, n_bus)
    return VoltageState(p_net.reshape(-1, n_bus), q_net.reshape(-1, n_bus), v_idle, soc, step)


def _layer_shares(counts: IntArray) -> dict[str, float]:
    """Return the share of decisions of each status of the layer, NaN without one."""
    total = counts.sum()
    return {f"layer_{status}": n / total if total else np.nan for status, n in zip(STATUSES, counts, strict=True)}


def _training_table(trained: dict[tuple[str, int], TrainedVoltage], bench: VoltageBench) -> pd.DataFrame:
    parts = []
    for (kind, seed), one in trained.items():
        record = one.record
        n = len(record.reward)
        parts.append(
            pd.DataFrame(
                {
                    "method": kind, "seed": seed, "day": np.arange(1, n + 1), "steps": bench.train.n_step,
                    "violation_steps": record.n_violation_steps, "worst_excess_pu": record.worst_excess_pu,
                    "regulation_kwh": record.regulation_kwh, "reward": record.reward, "training_s": record.seconds,
                }
            )
        )  # fmt: skip
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
