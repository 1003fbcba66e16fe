"""Evidence for the load-transfer agents: safety, gap to the proven optimum, and time.

    python studies/benchmarks/agents.py                     three feeders, both settings
    python studies/benchmarks/agents.py --prove-s 60        bounds by MISOCP in the radial setting
    python studies/benchmarks/agents.py --single            times of single decisions too

The test scenarios are fresh. Agents come from --agents-cache or are trained first. The gap is the
total cost of the safe decisions over the total of the references, less one:

    paper setting    the cheapest of all tie states, each with its least shedding
    radial setting   of states that feed every bus that can be fed, as in the MISOCP: the plan with
                     the fewest operations, if a plan of so few sheds nothing. Otherwise the
                     cheapest of all radial states, if they are at most MOST_LISTED. Otherwise the
                     MISOCP's proven bound (--prove-s; kept in --output and not computed again), or
                     without it the best of a wide search, which is no proof

A scenario without any safe decision, not even with everything behind the fault dark, is counted
separately.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from feederguard.agents.learning.checkpoint import network_fingerprint, setting_text
from feederguard.agents.ranked_switching import RankedSwitching
from feederguard.baselines.misocp import Misocp
from feederguard.data.networks import load_network
from feederguard.data.profiles import load_profiles
from feederguard.data.sampling import PV_SHARE, sample_scenarios
from feederguard.models.arrays import BoolArray, FloatArray, IntArray
from feederguard.models.load_transfer import Method, Scenarios, Setting, judge, resolve_setting
from feederguard.models.load_transfer.least_shedding import (
    Candidates,
    least_shedding,
    race_topologies,
)
from feederguard.models.load_transfer.setting import PUBLISHED, SETTING_NAMES
from feederguard.models.network import Network
from feederguard.models.solver import NotSolvedError
from feederguard.models.switching.plans import SwitchPlans
from feederguard.models.switching.search import search_plans
from feederguard.studies.running.cores import n_cores
from feederguard.studies.running.files import hash_of
from feederguard.studies.running.journal import Tables
from feederguard.studies.running.tasks import RunConfig, TaskList, run_tasks
from feederguard.studies.trained.transfer_agents import TRAINED, Course, course_parts, train_agents

FEEDERS = ("ieee33", "bus69_zhou", "caracas141")
METHODS = ("ddpg_corrected", "ranked_switching")
WIDE_BEAM, WIDE_ROUNDS = 16, 5
MOST_LISTED = 60_000  # radial states of one fault, all of which are then raced


@dataclass(frozen=True, eq=False)
class Reference:
    """The costs that those of one feeder and setting are compared with."""

    cost: FloatArray  # (B,) optimum or its proven lower bound; inf if nothing is safe
    words: str  # what it is


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark as a program."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.scenarios < 1 or options.train_scenarios < 1 or options.workers < 1:
        parser.error("--scenarios, --train-scenarios and --workers must be at least 1")
    try:
        profiles = load_profiles(options.profiles)
        networks = [load_network(feeder) for feeder in options.feeders]
    except (ValueError, OSError) as error:
        parser.error(str(error))
    course = Course(profiles, PV_SHARE, options.train_scenarios, options.seed, options.agents_cache)
    for network in networks:
        _compare(network, course, options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--feeders", nargs="+", default=list(FEEDERS), help="bundled feeders by name, or paths")
    add("--settings", nargs="+", choices=SETTING_NAMES, default=list(PUBLISHED))
    add("--methods", nargs="+", choices=tuple(TRAINED), default=list(METHODS))
    add("--scenarios", type=int, default=1000, help="random faults in test weeks (default: 1000)")
    add("--train-scenarios", type=int, default=4000, help="of the training pool (default: 4000)")
    add("--profiles", default="simbench_2016", help="bundled year by name, or a load file")
    add("--seed", type=int, default=0, help="of scenarios and training (default: 0)")
    add("--prove-s", type=float, default=None, help="seconds per scenario for the MISOCP's proof")
    add("--single", action="store_true", help="time single decisions, certificates included")
    add("--workers", type=int, default=n_cores(), help="processes for training and proofs")
    cache, output = Path("results/agents"), Path("results/benchmark_agents")
    add("--agents-cache", type=Path, default=cache, help="folder of trained agents")
    add("--output", type=Path, default=output, help="folder of the proofs")
    return parser


def _compare(network: Network, course: Course, options: argparse.Namespace) -> None:
    """Train the agents of a feeder and print their table for each setting."""
    console, run = Console(width=140), RunConfig(options.workers, resume=True)
    profiles, count = course.profiles, options.scenarios
    scenarios = sample_scenarios(network, profiles, count, options.seed).scenarios
    settings = [resolve_setting(network, name) for name in options.settings]
    seconds = train_agents(network, settings, options.methods, course, run, console)
    for setting in settings:
        parts = course_parts(network, setting, course) | {"test": [count, options.seed]}
        proofs = options.output / f"bounds-{network.name}-{setting.name}-{hash_of(parts)}.sqlite"
        reference = _reference(network, setting, scenarios, options.prove_s, proofs, run)
        table = Table(
            "method",
            "safe %",
            "none safe",
            "cost",
            "gap %",
            "shed",
            "oper.",
            "decisions/s",
            "median ms",
            "p99 ms",
            "training s",
            title=f"{network.name}, {setting.name} setting, {count} test scenarios",
            caption=f"gap to {reference.words}",
        )
        for name in options.methods:
            agent = TRAINED[name](network, setting, course).agent
            row = _measure(network, setting, scenarios, agent, reference, options.single)
            table.add_row(name, *row, f"{seconds[setting.name, name]:.0f}")
        console.print(table)
        if "ranked_switching" in options.methods:
            path = TRAINED["ranked_switching"](network, setting, course).path
            done = RankedSwitching.load(path, network).certify(scenarios)
            statuses, numbers = np.unique(done.status, return_counts=True)
            counts = dict(zip(statuses.tolist(), numbers.tolist(), strict=True))
            console.print(
                f"ranked_switching: {counts}, largest AC residual {done.residual_mva.max():.1e} MVA"
            )


def _measure(
    network: Network,
    setting: Setting,
    scenarios: Scenarios,
    agent: Method,
    reference: Reference,
    single: bool,
) -> list[str]:
    """Return the cells of one method: a judged batch and, if asked, timed single decisions."""
    agent.decide(scenarios[:3])
    begin = perf_counter()
    decisions = agent.decide(scenarios)
    rate = len(scenarios) / (perf_counter() - begin)
    outcome = judge(network, scenarios, decisions, setting)
    counted = np.isfinite(reference.cost) & outcome.safe
    possible = np.isfinite(reference.cost) | _safe_when_dark(network, setting, scenarios)
    gap = outcome.cost[counted].sum() / reference.cost[counted].sum() - 1
    median, high = "", ""
    if single:
        times = [
            _timed(network, setting, agent, scenarios[k : k + 1]) for k in range(len(scenarios))
        ]
        median, high = f"{1e3 * np.median(times):.2f}", f"{1e3 * np.percentile(times, 99):.2f}"
    return [
        f"{100 * outcome.safe[possible].mean():.2f}",
        str(int((~possible).sum())),
        f"{outcome.cost.mean():.2f}",
        f"{100 * gap:.3f}",
        f"{outcome.shed_ratio.mean():.4f}",
        f"{outcome.n_operations.mean():.2f}",
        f"{rate:.0f}",
        median,
        high,
    ]


def _safe_when_dark(network: Network, setting: Setting, scenarios: Scenarios) -> BoolArray:
    """Return whether leaving everything behind the fault dark can be made safe, (B,)."""
    dark = np.tile(network.closed, (len(scenarios), 1))
    dark[np.arange(len(scenarios)), scenarios.fault] = False
    return least_shedding(network, scenarios, dark, setting).safe


def _timed(network: Network, setting: Setting, agent: Method, scenario: Scenarios) -> float:
    """Return the seconds of one decision with its AC check: our certificate, or the judge."""
    begin = perf_counter()
    if isinstance(agent, RankedSwitching):
        agent.certify(scenario)
    else:
        judge(network, scenario, agent.decide(scenario), setting)
    return perf_counter() - begin


def _reference(
    network: Network,
    setting: Setting,
    scenarios: Scenarios,
    prove_s: float | None,
    proofs: Path,
    run: RunConfig,
) -> Reference:
    plans = SwitchPlans(network, setting)
    found = search_plans(plans, scenarios, beam=WIDE_BEAM, max_rounds=WIDE_ROUNDS)
    cost = found.cost.copy()
    if not setting.radial:
        tried = all(
            len(plans.plain(fault)) == plans.n_states(fault) for fault in scenarios.fault.tolist()
        )
        return Reference(
            cost,
            "the cheapest of all tie states" if tried else "the best of a wide search, no proof",
        )
    settled = _fewest(plans, scenarios, found.shed)
    left = np.flatnonzero(~settled & np.isfinite(cost))
    n_states = _try_every_state(plans, scenarios, left, cost)
    if n_states:
        return Reference(
            cost,
            f"the optimum that feeds all: {len(left)} scenarios by all {n_states} radial states "
            "of their fault (mean)",
        )
    if prove_s is None:
        return Reference(
            cost, f"the best of a wide search ({len(left)} scenarios shed; the others are proven)"
        )
    bounds = _bounds(network, setting, scenarios, left, prove_s, proofs, run)
    share = np.array([bounds[k] for k in left.tolist()])
    open_gap = cost[left].sum() / share.sum() - 1 if len(left) else 0.0
    cost[left] = share
    words = (
        f"the proven bound ({len(left)} scenarios by MISOCP, a wide search {100 * open_gap:.3f} % "
        "above their bounds)"
    )
    return Reference(cost, words)


def _try_every_state(
    plans: SwitchPlans, scenarios: Scenarios, items: IntArray, cost: FloatArray
) -> int:
    """Lower `cost` (B,) to the optimum over all radial states; return their mean number.

    It is 0 if there are too many.
    """
    counts = []
    for fault in np.unique(scenarios.fault[items]).tolist():
        states = plans.every(fault, MOST_LISTED)
        if states is None:
            return 0
        for k in items[scenarios.fault[items] == fault].tolist():
            every = Candidates(np.array([0, len(states)]), states)
            beaten = race_topologies(
                plans.network, scenarios[[k]], every, plans.setting, cutoff=cost[[k]]
            )
            if beaten.winner[0] >= 0:
                cost[k] = beaten.cost[beaten.winner[0]]
            counts.append(len(states))
    return round(float(np.mean(counts))) if counts else 1


def _fewest(plans: SwitchPlans, scenarios: Scenarios, shed: FloatArray) -> BoolArray:
    """Return whether a plain plan sheds nothing and has fewest operations: an optimum, (B,)."""
    # A plain radial plan closes one tie for each part that the fault cuts off and opens nothing:
    # no plan that feeds everything has fewer operations.
    plain = search_plans(plans, scenarios, max_rounds=0)
    return np.asarray(~plain.shed.any(axis=1) & np.isfinite(plain.cost) & ~shed.any(axis=1))


def _bounds(
    network: Network,
    setting: Setting,
    scenarios: Scenarios,
    items: IntArray,
    prove_s: float,
    path: Path,
    run: RunConfig,
) -> dict[int, float]:
    """Return the MISOCP's lower bound of each item; known ones are in the journal at `path`."""
    tasks = {str(k): (int(k),) for k in items}
    key = {
        "setting": setting_text(setting),
        "prove_s": prove_s,
        "network": network_fingerprint(network),
    }
    todo = TaskList("proofs", tasks, _prove, _Prover, (network, setting, scenarios, prove_s), key)
    done = run_tasks(todo, path, run, Console())
    return {int(k): float(tables["bound"]["bound"].iloc[0]) for k, tables in done.items()}


class _Prover:
    """What a proving process holds."""

    def __init__(
        self, network: Network, setting: Setting, scenarios: Scenarios, prove_s: float
    ) -> None:
        self.method, self.scenarios = Misocp(network, setting, time_limit_s=prove_s), scenarios


def _prove(prover: _Prover, k: int) -> Tables:
    try:
        prover.method.decide(prover.scenarios[k : k + 1])
        bound = float(prover.method.reports[0].bound)
    except NotSolvedError:
        bound = 0.0  # nothing found in time; no cost is below zero
    return {"bound": pd.DataFrame({"bound": [max(bound, 0.0)]})}


if __name__ == "__main__":
    # Through the module: worker processes find the functions of the tasks by its name.
    from feederguard.studies.benchmarks.agents import main as run_main

    run_main()
