"""The work of one task of the voltage comparison: a method decides the test days and is judged."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
import pandas as pd

from feederguard.agents.safety_layer import SafetyLayer
from feederguard.agents.voltage_agent import VoltageAgent
from feederguard.baselines.voltage.droop import Droop, tune_droop
from feederguard.baselines.voltage.no_control import NoControl
from feederguard.baselines.voltage.optimum import VoltageOpf, VoltageOptimumError
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
from feederguard.studies.trained.voltage_agents import trained_voltage
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
from feederguard.studies.voltage.tube_worth import tube_table

BLOCK = 10  # test days of a task of the optima
TIMED = 100  # single decisions of each kind that are timed


class Room:
    """What a process that decides holds: bench, course of the agents, and the optima built."""

    def __init__(
        self, config: VoltageConfig, agents_cache: Path, bench: VoltageBench | None
    ) -> None:
        self.bench = bench or load_bench(config)
        tube, _ = find_tube(self.bench, config.methods, agents_cache)
        self.course = course_of(self.bench, config, tube, agents_cache)
        self.opf: dict[str, VoltageOpf] = {}
        _warm_up(self.bench)


def work(room: Room, name: str, seed: int, first: int) -> Tables:
    """Return the tables of one method and seed: days, decision times, layer counts, schedule.

    For the name TUBE it is the table of `tube_worth.py`.
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
    # Times do not depend on the seed, and the pictures show the first seed.
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
    """A safety layer that counts its statuses."""

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
    """The safety layer with no power proposed: batteries move only if the band needs it."""

    layer: SafetyLayer
    name: str = "idle_safe"

    def decide(self, state: VoltageState) -> FloatArray:
        """Return the power of each battery, (B, n_bat) pu."""
        return self.layer.correct(state, np.zeros(state.soc.shape)).p


@dataclass(frozen=True, eq=False)
class _Plans:
    """Finished plans as a `PlannedMethod`."""

    name: str
    p: FloatArray  # (B, T, n_bat)

    def plan(self, days: VoltageDays, soc_start: FloatArray) -> FloatArray:
        return self.p


def _warm_up(bench: VoltageBench) -> None:
    """Run each compiled kernel, so that no method's time holds compiling."""
    simulate(
        bench.network,
        bench.batteries,
        bench.test[:1],
        IdleSafe(SafetyLayer(bench.network, bench.batteries, bench.test.step_h)),
    )


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
    """Return the tables of an optimum on a block of test days; a day without a plan is NaN."""
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
    """Return applied powers (D, T, n_bat) as a table: a column per battery, a line per step."""
    flat = p.reshape(-1, p.shape[-1])
    return pd.DataFrame(flat, columns=[str(k) for k in range(flat.shape[1])])


def _decision_seconds(
    method: VoltageMethod, bench: VoltageBench, outcome: VoltageOutcomes
) -> dict[str, float]:
    """Return median seconds of single decisions (B = 1) on the test days.

    decision_s is over all steps, decision_outside_s over those in which idle batteries leave the
    band.
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
        # The first decisions load code and are not counted.
        for k in [*chosen[:3], *chosen]:
            state = everywhere[k : k + 1]
            begin = perf_counter()
            method.decide(state)
            taken.append(perf_counter() - begin)
        times[label] = float(np.median(taken[3:])) if len(chosen) else np.nan
    return times


def _states(bench: VoltageBench, outcome: VoltageOutcomes) -> VoltageState:
    """Return every state of the method on the test days."""
    p_net, q_net = (
        np.broadcast_to(x, bench.test.p_load.shape) for x in net_demand(bench.network, bench.test)
    )
    n_day, n_step, n_bus = p_net.shape
    step = np.tile(np.arange(n_step), n_day)
    soc = outcome.soc[:, :-1].reshape(n_day * n_step, -1)
    v_idle = outcome.v_idle.reshape(-1, n_bus)
    return VoltageState(p_net.reshape(-1, n_bus), q_net.reshape(-1, n_bus), v_idle, soc, step)
