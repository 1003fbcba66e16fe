"""Compare load-transfer methods on one feeder: the same random faults, the same AC judge.

    no_transfer       everything behind the fault stays dark
    genetic           a genetic algorithm on the compiled model
    ddpg              the agent of Zhou et al. 2024, without correction
    ddpg_corrected    the same with the paper's correction
    ddpg_safe         the agent of ddpg, corrected by ours
    ranked_switching  our agent
    plan_search       its race of plans, without learning
    misocp            the exact model, by SCIP
    enumeration       an AC OPF for every tie state: the optimum of the paper setting

Agents that are not in the cache are trained first, in parallel. Every (setting, method, block of
scenarios) is a task of `feederguard.studies.running.tasks`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any

import numpy as np
import pandas as pd
import tyro
from rich.console import Console

from feederguard.agents.corrections.paper_correction import PaperCorrection
from feederguard.agents.learning.checkpoint import network_fingerprint
from feederguard.baselines.enumeration import MOST_TIES, TieEnumeration
from feederguard.baselines.genetic import Genetic
from feederguard.baselines.misocp import Misocp
from feederguard.baselines.no_transfer import NoTransfer
from feederguard.baselines.plan_search import PlanSearch
from feederguard.data.networks import load_network
from feederguard.data.profiles import load_profiles
from feederguard.data.sampling import PV_SHARE, SampledScenarios, sample_scenarios
from feederguard.models.load_transfer import (
    Decisions,
    Method,
    Report,
    Setting,
    device_note,
    judge,
    resolve_setting,
    restrict,
)
from feederguard.models.load_transfer.setting import PUBLISHED, SETTING_NAMES
from feederguard.models.network import Network
from feederguard.models.network.graph import refuse_fixed_loops
from feederguard.models.solver import NotSolvedError, SolverMissingError
from feederguard.studies.running.journal import Tables
from feederguard.studies.running.tasks import RunConfig, TaskList, absolute, run_tasks
from feederguard.studies.trained.transfer_agents import (
    TRAINED,
    AgentConfigs,
    Course,
    profiles_digest,
    train_with_curves,
)
from feederguard.studies.transfer.tables import Question, Row, TransferResults, table_of

MethodBuilder = Callable[["TransferBench", Setting], Method]
BLOCK = 10  # scenarios of a task: a kill loses at most these, and starting a task takes time


def _learned(kind: str) -> MethodBuilder:
    return lambda bench, setting: TRAINED[kind](bench.network, setting, bench.course).agent


METHODS: dict[str, MethodBuilder] = {
    "no_transfer": lambda bench, setting: NoTransfer(bench.network),
    "genetic": lambda bench, setting: Genetic(bench.network, setting, seed=bench.config.seed),
    "ddpg": _learned("ddpg"),
    "ddpg_corrected": _learned("ddpg_corrected"),
    "ddpg_safe": _learned("ddpg_safe"),
    "ranked_switching": _learned("ranked_switching"),
    "plan_search": lambda bench, setting: PlanSearch(bench.network, setting),
    "misocp": lambda bench, setting: Misocp(
        bench.network, setting, time_limit_s=bench.config.time_limit_s
    ),
    "enumeration": lambda bench, setting: TieEnumeration(bench.network, setting),
}

# A decision of these takes milliseconds: loading compiled code would dominate the first one.
FAST = ("no_transfer", *TRAINED, "plan_search")


@dataclass(frozen=True)
class TransferConfig:
    """Settings of the load-transfer comparison."""

    feeder: str = "ieee33"
    """Bundled feeder by name, or a pandapower .json, a MATPOWER .m or a folder of CSV files."""
    scenarios: int = 60
    """Number of random faults."""
    methods: tuple[str, ...] = tuple(METHODS)
    """Methods to compare."""
    setting: str = "both"
    """paper (loops allowed, only ties switch), radial (spanning tree, ratings), both, or meshed
    (loops and ratings)."""
    profiles: str = "simbench_2016"
    """Bundled year by name, or a load file (CSV, ISO New England or EIA)."""
    pv_share: float = PV_SHARE
    """Installed PV over nominal load, if the feeder has no PV."""
    seed: int = 0
    """Seed of the scenarios and of every random method."""
    time_limit_s: float = 20.0
    """Seconds per scenario for the MISOCP solver."""
    paper_limit_mw: float | None = None
    """Branch limit of the paper setting, MW; needed if the feeder has none."""
    switchable: tuple[str, ...] = ()
    """Devices or branches that may be operated, by name; default all that the setting allows."""
    blocked: tuple[str, ...] = ()
    """Devices or branches that may not be operated, by name."""
    train_scenarios: int = 4000
    """Scenarios of the train weeks that each agent learns from."""
    agents: Annotated[AgentConfigs, tyro.conf.Suppress] = field(default_factory=AgentConfigs)
    """How agents are trained."""

    def __post_init__(self) -> None:
        unknown = [name for name in self.methods if name not in METHODS]
        if unknown:
            raise ValueError(f"unknown method {unknown[0]!r}; use {', '.join(METHODS)}")
        if self.setting not in (*SETTING_NAMES, "both"):
            raise ValueError(
                f"unknown setting {self.setting!r}; use {', '.join(SETTING_NAMES)} or both"
            )
        if self.scenarios < 1:
            raise ValueError(f"scenarios is {self.scenarios}; compare on at least one")
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}; use zero or a positive number")
        if not self.methods or len(set(self.methods)) < len(self.methods):
            raise ValueError(
                f"methods is {' '.join(self.methods) or 'empty'}; name at least one, and each once"
            )
        if self.paper_limit_mw is not None and not self.paper_limit_mw > 0:
            raise ValueError(f"paper_limit_mw is {self.paper_limit_mw}; it must be positive")
        if self.train_scenarios < 1:
            raise ValueError(f"train_scenarios is {self.train_scenarios}; train on at least one")
        if not self.time_limit_s > 0:
            raise ValueError(f"time_limit_s is {self.time_limit_s}; it must be positive")


class TransferBench:
    """The feeder with its scenarios, and the methods built so far.

    Raises what `load_network`, `resolve_setting`, `load_profiles` and `sample_scenarios` raise.
    """

    config: TransferConfig
    network: Network
    course: Course

    def __init__(self, config: TransferConfig, agents_cache: Path) -> None:
        self.config = config
        network = load_network(config.feeder)
        if config.paper_limit_mw is not None:
            network = network.with_changes(paper_limit_mw=config.paper_limit_mw)
        self.network = network
        self.settings = []
        for name in self._setting_names():
            self.network, setting = restrict(
                network, resolve_setting(network, name), config.switchable, config.blocked
            )
            self.settings.append(setting)
        network = self.network
        for setting in self.settings:
            if setting.radial:
                refuse_fixed_loops(network, network.closed & ~setting.switchable_branches(network))
        self.profiles = load_profiles(config.profiles)
        self.sampled: SampledScenarios = sample_scenarios(
            network, self.profiles, config.scenarios, config.seed, pv_share=config.pv_share
        )
        self.course = Course(
            self.profiles,
            config.pv_share,
            config.train_scenarios,
            config.seed,
            agents_cache,
            config.agents,
        )
        self._methods: dict[tuple[str, str], Method] = {}

    def jobs(self, console: Console) -> Iterator[tuple[Setting, str]]:
        """Yield every setting and method, and print what they rest on and what is left out."""
        console.print(f"note: {device_note(self.network)}", markup=False, soft_wrap=True)
        if self.config.setting == "both" and len(self.settings) < len(PUBLISHED):
            console.print(
                f"paper setting left out: {self.network.name} has no limit for it; give "
                "--paper-limit-mw"
            )
        for setting in self.settings:
            for method in self.config.methods:
                n_free = int(setting.switchable_branches(self.network).sum())
                if method == "enumeration" and (setting.radial or n_free > MOST_TIES):
                    if not setting.radial:
                        console.print(
                            f"enumeration left out: {n_free} ties make too many states; gaps need "
                            "its optimum"
                        )
                    continue
                yield setting, method

    def method(self, setting: Setting, name: str) -> Method:
        """Return a method, built once; a fast one has made its first decision already."""
        at = setting.name, name
        if at not in self._methods:
            self._methods[at] = METHODS[name](self, setting)
            if name in FAST:
                self._methods[at].decide(self.sampled.scenarios[:1])
        return self._methods[at]

    def key(self) -> dict[str, Any]:
        """Return all that decides the tables beside the tasks' names, to be hashed."""
        known = asdict(self.config)
        # These are in the names of the tasks: a run can go on with more of them.
        for name in ("methods", "setting"):
            del known[name]
        read = {
            "network": network_fingerprint(self.network),
            "profiles_digest": profiles_digest(self.profiles),
        }
        return known | read

    def _setting_names(self) -> tuple[str, ...]:
        if self.config.setting != "both":
            return (self.config.setting,)
        return PUBLISHED if np.isfinite(self.network.paper_limit_mw) else ("radial",)


def compare_transfer(
    config: TransferConfig, agents_cache: Path, journal: Path, run: RunConfig, console: Console
) -> TransferResults:
    """Return the judged decisions of every method; agents that are not in the cache are trained.

    Raises what `TransferBench` and `run_tasks` raise.
    """
    bench = TransferBench(config, agents_cache)
    jobs = list(bench.jobs(console))
    training_s, curves = train_with_curves(
        bench.network, bench.settings, config.methods, bench.course, run, console
    )
    here = replace(config, feeder=absolute(config.feeder), profiles=absolute(config.profiles))
    blocks = {
        f"{setting.name}/{name}/{first:06d}": (setting.name, name, first)
        for setting, name in jobs
        for first in range(0, config.scenarios, BLOCK)
    }
    context = (here, agents_cache.resolve())
    tasks = TaskList("load transfer", blocks, decide_block, TransferBench, context, bench.key())
    done = run_tasks(tasks, journal, run, console)
    decisions, times = (
        pd.concat([tables[name] for tables in done.values()], ignore_index=True) for name in TABLES
    )
    return TransferResults(
        *(config.feeder, bench.network, bench.sampled, decisions, times, training_s, curves),
        settings=tuple(bench.settings),
    )


TABLES = ("decisions", "times")


def decide_block(bench: TransferBench, setting_name: str, name: str, first: int) -> Tables:
    """Return the judged decisions of one method in a block of scenarios, and their seconds."""
    setting = next(one for one in bench.settings if one.name == setting_name)
    last = min(first + BLOCK, bench.config.scenarios)
    rows = [_decide_and_judge(bench, setting, name, k) for k in range(first, last)]
    return dict(zip(TABLES, table_of(rows), strict=True))


def _decide_and_judge(bench: TransferBench, setting: Setting, name: str, k: int) -> Row:
    question = Question(setting.name, name, k, bench.network, bench.sampled)
    method = bench.method(setting, name)
    begin = perf_counter()
    try:
        decision = method.decide(question.scenario)
    except (NotSolvedError, SolverMissingError) as error:
        return Row.failed(question, perf_counter() - begin, str(error))
    seconds = perf_counter() - begin
    reports: list[Report] = getattr(method, "reports", [])
    outcome = judge(bench.network, question.scenario, decision, setting)
    return Row.judged(question, seconds, decision, outcome, reports)


def warm_up() -> None:
    """Run each compiled kernel once, so that no method's time holds compiling.

    A single scenario and a batch take different code.
    """
    network = load_network("ieee33")
    for n in (1, 64):
        sampled = sample_scenarios(network, load_profiles(), n, seed=0)
        closed = np.tile(network.closed, (n, 1))
        closed[np.arange(n), sampled.scenarios.fault] = False
        for setting in PUBLISHED:
            idle = Decisions(closed, np.zeros((n, network.n_bus)))
            judge(network, sampled.scenarios, idle, setting)
            PaperCorrection(network, setting).correct(sampled.scenarios, idle)
            PlanSearch(network, setting).decide(sampled.scenarios)
