"""The study behind the tables of Zhou et al., Energy Engineering 121(6), 2024.

    python studies/compare_methods.py --tables paper                  everything: hours
    python studies/compare_methods.py --tables paper --seeds 1 --scenarios 20

Learned methods are trained anew for every seed; all seeds answer the same test scenarios. Every
(feeder, method, seed) is a task of `feederguard.studies.running.tasks`. A run that was stopped goes
on with --resume, and so does one with more seeds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any

import numpy as np
import pandas as pd
import tyro
from rich.console import Console

from feederguard.baselines.genetic import Genetic, GeneticConfig
from feederguard.baselines.plan_search import PlanSearch
from feederguard.data.networks import load_network
from feederguard.data.profiles import load_profiles
from feederguard.data.sampling import PV_SHARE, sample_scenarios
from feederguard.models.arrays import FloatArray
from feederguard.models.load_transfer import Decisions, Method, judge, resolve_setting
from feederguard.models.network import Network
from feederguard.studies.pages.blocks import Block, DataTable, Prose, Section
from feederguard.studies.pages.report import write_report
from feederguard.studies.running.journal import Tables, mark_written
from feederguard.studies.running.provenance import find_provenance
from feederguard.studies.running.tasks import RunConfig, TaskList, absolute, run_tasks
from feederguard.studies.trained.transfer_agents import TRAINED, AgentConfigs, Course, course_parts
from feederguard.studies.transfer.paper_tables import (
    FEEDERS,
    JUDGED,
    METHODS,
    REFERENCE,
    PaperResults,
    Trials,
    figures,
    paper_tables,
    write_tables,
)

TEST_SEED = 0


@dataclass(frozen=True)
class PaperTablesConfig:
    """Settings of the paper's tables."""

    seeds: int = 10
    """Trainings of each learned method, and runs of the genetic one."""
    scenarios: int = 1000
    """Test scenarios, the same for all seeds."""
    genetic_scenarios: int = 100
    """The first of them, for the genetic algorithm."""
    timed_scenarios: int = 100
    """The first of them, decided one by one and timed."""
    tables_feeders: tuple[str, ...] = FEEDERS
    """Bundled feeders by name, or paths."""
    methods: tuple[str, ...] = METHODS
    """Methods to compare."""
    profiles: str = "simbench_2016"
    """Bundled year by name, or a load file."""
    pv_share: float = PV_SHARE
    """Installed PV over nominal load, where the feeder has none."""
    train_scenarios: int = 4000
    """Training pool of each agent, from the train weeks."""
    agents: Annotated[AgentConfigs, tyro.conf.Suppress] = field(default_factory=AgentConfigs)
    """How agents are trained."""
    genetic: Annotated[GeneticConfig, tyro.conf.Suppress] = field(default_factory=GeneticConfig)
    """How the genetic algorithm searches."""

    def __post_init__(self) -> None:
        for name in (
            "seeds",
            "scenarios",
            "genetic_scenarios",
            "timed_scenarios",
            "train_scenarios",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        for method in self.methods:
            if method not in METHODS:
                raise ValueError(
                    f"method {method!r} is not in the paper's tables; use {', '.join(METHODS)}"
                )
        for name, values in (("methods", self.methods), ("tables_feeders", self.tables_feeders)):
            if not values or len(set(values)) < len(values):
                raise ValueError(
                    f"{name} is {' '.join(values) or 'empty'}; name at least one, and each once"
                )


@dataclass(frozen=True)
class Job:
    """Methods that one task runs on a feeder: `ddpg_safe` rests on the agent of `ddpg`."""

    feeder: str
    methods: tuple[str, ...]
    seed: int


class Bench:
    """The feeders of a configuration.

    Raises as `load_network`, `resolve_setting` and `load_profiles`.
    """

    def __init__(self, config: PaperTablesConfig, agents_cache: Path) -> None:
        self.config, self.agents_cache = config, agents_cache
        self.networks = {name: load_network(name) for name in config.tables_feeders}
        self.settings = {
            name: resolve_setting(network, "paper") for name, network in self.networks.items()
        }
        self.profiles = load_profiles(config.profiles)

    def course(self, seed: int) -> Course:
        """Return what the agents of a seed are trained on."""
        config = self.config
        return Course(
            self.profiles,
            config.pv_share,
            config.train_scenarios,
            seed,
            self.agents_cache,
            config.agents,
        )

    def key(self) -> dict[str, Any]:
        """Return what decides the tables beside the tasks' names, to be hashed."""
        known = asdict(self.config)
        for name in ("seeds", "methods", "tables_feeders"):
            del known[name]
        parts = {
            name: course_parts(network, self.settings[name], self.course(0))
            for name, network in self.networks.items()
        }
        return {**known, "feeders": parts, "test_seed": TEST_SEED}

    def jobs(self) -> Iterator[Job]:
        """Yield every job: the reference first, then seed by seed."""
        wanted = self.config.methods
        if REFERENCE in wanted:
            yield from (Job(feeder, (REFERENCE,), 0) for feeder in self.networks)
        for seed in range(self.config.seeds):
            for feeder in self.networks:
                for methods in (
                    ("ddpg_corrected",),
                    ("ranked_switching",),
                    ("ddpg", "ddpg_safe"),
                    ("genetic",),
                ):
                    kept = tuple(name for name in methods if name in wanted)
                    # One decision of the genetic algorithm takes a second and more: the paper has
                    # it on this feeder only.
                    if kept and (kept != ("genetic",) or feeder == FEEDERS[0]):
                        yield Job(feeder, kept, seed)


def make_tables(
    config: PaperTablesConfig, output: Path, agents_cache: Path, run: RunConfig, console: Console
) -> list[Path]:
    """Run the tasks that are missing, print the tables, and return the files written.

    Raises NetworkError if a feeder lacks its limit of the paper setting, and ValueError or OSError
    for other values that cannot be used. A KeyboardInterrupt is raised again after saying how to go
    on.
    """
    config = replace(
        config,
        tables_feeders=tuple(map(absolute, config.tables_feeders)),
        profiles=absolute(config.profiles),
    )
    bench = Bench(config, agents_cache)
    jobs = {f"{job.feeder}/{'+'.join(job.methods)}/{job.seed}": job for job in bench.jobs()}
    tasks = TaskList(
        "training and judging",
        {name: (job,) for name, job in jobs.items()},
        work,
        Bench,
        (config, agents_cache.resolve()),
        bench.key(),
    )
    done = run_tasks(tasks, output / "journal.sqlite", run, console)
    _say_what_was_trained(done, agents_cache, console)
    results = PaperResults(
        bench.networks,
        bench.settings,
        config.seeds,
        config.scenarios,
        config.genetic_scenarios,
        config.timed_scenarios,
        gather(jobs, done),
    )
    shown = paper_tables(results)
    for table in shown:
        table.show(console)
    written = write_tables(shown, figures(results), output)
    blocks: list[Block] = [
        DataTable(table.title, table.headings, tuple(table.rows), table.footnote) for table in shown
    ]
    section = Section(
        "paper",
        "Load transfer after a fault: the tables of Zhou et al. 2024",
        (Prose(_QUESTION), *blocks),
    )
    seeds = f"0 to {config.seeds - 1}, test scenarios {TEST_SEED}"
    report = write_report(
        "FeederGuard: the paper's tables", [section], find_provenance(seeds), output
    )
    mark_written(output / "journal.sqlite")
    return [*written, *report]


def _say_what_was_trained(done: Mapping[str, Tables], agents_cache: Path, console: Console) -> None:
    trained, cached, seconds = 0, 0, 0.0
    for tables in done.values():
        for told in tables["training"].to_dict("records"):
            trained, cached = trained + (not told["cached"]), cached + told["cached"]
            seconds += 0.0 if told["cached"] else told["training_s"]
            if told["note"]:
                console.print(told["note"], soft_wrap=True, markup=False)
    if trained or cached:
        console.print(
            f"agents: {trained} trained in {seconds:.0f} s in all, {cached} taken from "
            f"{agents_cache}"
        )


_QUESTION = (
    "Zhou et al., Energy Engineering 121(6), 2024, print what a genetic algorithm and their "
    "learned agents do after a line has failed. Here the same methods, and ours, answer random "
    "faults of the test weeks in the paper's setting. Every decision is judged by the same AC "
    "power flow, and the printed figures stand beside ours. Their limits and loads are not "
    "published, so the levels compare only roughly; the order of the methods does."
)


def work(bench: Bench, job: Job) -> Tables:
    """Return the judged test scenarios of a job's methods, their seconds, and the training."""
    course = bench.course(job.seed)
    network, setting = bench.networks[job.feeder], bench.settings[job.feeder]
    tables: Tables = {}
    training = []
    for name in job.methods:
        method: Method
        if name in TRAINED:
            trained = TRAINED[name](network, setting, course)
            method = trained.agent
            training.append([name, trained.seconds, trained.cached, trained.note])
        elif name == "genetic":
            method = Genetic(network, setting, bench.config.genetic, job.seed)
        else:
            method = PlanSearch(network, setting)
        tables[name], tables[f"{name} seconds"] = _measure(bench, network, method)
    tables["training"] = pd.DataFrame(training, columns=["method", "training_s", "cached", "note"])
    return tables


def _measure(bench: Bench, network: Network, method: Method) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the judge's findings of each test scenario, and the seconds of single decisions."""
    config = bench.config
    slow = method.name == "genetic"
    count = min(config.genetic_scenarios, config.scenarios) if slow else config.scenarios
    # All are sampled even if few are used: the first of many differ from those of a small sample.
    drawn = sample_scenarios(
        network, bench.profiles, config.scenarios, TEST_SEED, pv_share=config.pv_share
    )
    scenarios = drawn.scenarios[:count]
    # Compiling and building at the first decision are not part of a decision's time.
    method.decide(scenarios[:1])
    seconds, singles = [], []
    for k in range(count if slow else min(count, config.timed_scenarios)):
        begin = perf_counter()
        singles.append(method.decide(scenarios[k : k + 1]))
        seconds.append(perf_counter() - begin)
    decisions = Decisions.join(singles) if slow else method.decide(scenarios)
    outcome = judge(network, scenarios, decisions, "paper")
    judged = {name: np.asarray(getattr(outcome, name), float) for name in JUDGED}
    return pd.DataFrame(judged), pd.DataFrame({"seconds": seconds})


def gather(jobs: Mapping[str, Job], done: Mapping[str, Tables]) -> Trials:
    """Return the results of all tasks, the seeds of a method stacked."""
    found: dict[tuple[str, str], list[dict[str, FloatArray]]] = {}
    for name, job in jobs.items():
        training = done[name]["training"].set_index("method")["training_s"]
        for method in job.methods:
            piece = {column: done[name][method][column].to_numpy(dtype=float) for column in JUDGED}
            piece["seconds"] = done[name][f"{method} seconds"]["seconds"].to_numpy(dtype=float)
            piece["training_s"] = np.array([training.get(method, 0.0)])
            found.setdefault((job.feeder, method), []).append(piece)
    return {
        at: {name: np.stack([p[name] for p in pieces]) for name in pieces[0]}
        for at, pieces in found.items()
    }
