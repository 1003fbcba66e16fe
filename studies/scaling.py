"""Decision time, gap, solver time and memory of load-transfer methods against feeder size.

    python studies/scaling.py           seven feeders of 33 to 533 buses, few scenarios
    python studies/scaling.py --full    feeders of up to 1065 buses, more scenarios, longer limits

The setting is radial. Feeders are bundled ones and multiples of them (`feederguard.data.multiples`:
'ieee33_x4' is four ieee33 side by side). The exact and the genetic method get the first of the
scenarios that the fast methods get. Each (feeder, method, block of scenarios) is a task with its
own process (`scaling_study/measure.py`), on one core.

    gap      cost over the best proven bound, of the scenarios whose optimum is proven: some safe
             decision costs at most PROVEN_REL (and PROVEN_ABS) more than the bound. The bound is
             that of the exact method, or that of counting: load that no path reaches is shed, and a
             fault that cuts off buses which could be fed needs a switch operation
    excess   cost over that of the cheapest safe decision of any method, of the scenarios that all
             methods were given
    memory   largest resident memory less that of the same process before it loaded the feeder

Files: scaling.csv, times.csv (seconds and memory, which differ from run to run), decisions.csv,
scaling.png, report.html and report.md. If a time limit is reached or a process is stopped, another
machine gives other decisions.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import pandas as pd
import tyro
from rich.console import Console

from feederguard.agents.learning.checkpoint import network_fingerprint
from feederguard.data.multiples import load_multiple
from feederguard.data.profiles import load_profiles
from feederguard.data.sampling import sample_scenarios
from feederguard.models.load_transfer import resolve_setting
from feederguard.models.network.graph import refuse_fixed_loops
from feederguard.studies.pages.report import write_report
from feederguard.studies.running.command_line import RUN_ERRORS
from feederguard.studies.running.files import csv_text, make_writable, write_whole
from feederguard.studies.running.journal import RunError, Tables, mark_written
from feederguard.studies.running.provenance import find_provenance
from feederguard.studies.running.tasks import RunConfig, TaskList, absolute, run_tasks
from feederguard.studies.scaling_study.figure import draw
from feederguard.studies.scaling_study.measure import MODULES, SETTING, Piece, measure
from feederguard.studies.scaling_study.report import scaling_section
from feederguard.studies.scaling_study.tables import exponents, print_tables, summarise
from feederguard.studies.trained.transfer_agents import profiles_digest

SLOW = ("genetic", "misocp")
LONGEST = ("misocp", "ranked_switching", "genetic")  # training included
FEEDERS = (
    "ieee33",
    "bus69",
    "ieee33_x4",
    "mantovani136",
    "caracas141",
    "ieee33_x8",
    "kraftringen533",
)
FEEDERS_FULL = (*FEEDERS, "ieee33_x16", "ieee33_x32", "kraftringen533_x2")


@dataclass(frozen=True)
class ScalingConfig:
    """Decision time, gap, solver time and memory of load-transfer methods against feeder size."""

    full: bool = False
    """Larger feeders, more scenarios, longer limits; options given beside it count."""
    feeders: tuple[str, ...] = ()
    """Feeders by name, multiples such as ieee33_x4, or paths (default: seven, with --full ten)."""
    methods: tuple[str, ...] = tuple(MODULES)
    """Methods to measure."""
    scenarios: int = 0
    """Random faults for the fast methods (default: 30, with --full 200)."""
    slow_scenarios: int = 0
    """The first of them, for the exact and the genetic method (default: 4, with --full 20)."""
    train_scenarios: int = 0
    """Scenarios that the learned method learns from (default: 200, with --full 2000)."""
    time_limit_s: float = 0.0
    """Seconds per scenario for the exact method's solver (default: 10, with --full 60)."""
    task_limit_s: float = 0.0
    """Seconds after which the process of a task is stopped (default: 200, with --full 3600)."""
    block: int = 10
    """Scenarios of a slow method in one task."""
    profiles: str = "simbench_2016"
    """Bundled year by name, or a load file."""
    seed: int = 0
    """Seed of the scenarios, of the ties between copies, and of every random method."""
    output: Path = Path("results/scaling")
    """Folder for the results."""
    agents_cache: Path = Path("results/agents")
    """Folder of trained agents."""
    run: tyro.conf.OmitArgPrefixes[RunConfig] = field(default_factory=RunConfig)

    def __post_init__(self) -> None:
        defaults: dict[str, tuple[Any, Any]] = {
            "feeders": (FEEDERS, FEEDERS_FULL),
            "scenarios": (30, 200),
            "slow_scenarios": (4, 20),
            "train_scenarios": (200, 2000),
            "time_limit_s": (10.0, 60.0),
            "task_limit_s": (200.0, 3600.0),
        }
        for name, values in defaults.items():
            # An empty value means "not given": then the default depends on --full.
            object.__setattr__(self, name, getattr(self, name) or values[self.full])

    def check(self) -> None:
        """Raise ValueError for a value that cannot be used."""
        unknown = [name for name in self.methods if name not in MODULES]
        if unknown:
            raise ValueError(f"unknown method {unknown[0]!r}; use {', '.join(MODULES)}")
        for name in (
            "scenarios",
            "slow_scenarios",
            "train_scenarios",
            "time_limit_s",
            "task_limit_s",
            "block",
        ):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be positive")
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}; use zero or a positive number")
        for name in ("feeders", "methods"):
            if len(set(getattr(self, name))) < len(getattr(self, name)):
                raise ValueError(f"one of the {name} is named twice; name each once")
        for folder in (self.output, self.agents_cache):
            if folder.exists() and not folder.is_dir():
                raise ValueError(f"{folder} is a file; name a folder")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the study as a program and return its exit status.

    It is 2 if a value cannot be used, and 130 after Ctrl-C.
    """
    console = Console(width=140) if not sys.stdout.isatty() else Console()
    try:
        config = tyro.cli(ScalingConfig, args=arguments, prog="scaling")
        run_scaling(config, console)
    except RUN_ERRORS as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def run_scaling(config: ScalingConfig, console: Console) -> list[Path]:
    """Measure, print the tables and return the paths of the files written.

    Raises RunError if a value, a feeder or a profile cannot be used or the results cannot be
    written, and otherwise what `run_tasks` raises.
    """
    begin = perf_counter()
    try:
        config.check()
        sizes = _sizes(config)
        for folder in (config.output, config.agents_cache):
            make_writable(folder)
    except (ValueError, OSError) as error:
        # Later errors are bugs and keep their traceback.
        raise RunError(str(error)) from error
    journal = config.output / "journal.sqlite"
    done = run_tasks(_task_list(config, sizes), journal, config.run, console)
    decisions, processes = (
        pd.concat([part[name] for part in done.values()], ignore_index=True)
        for name in ("decisions", "processes")
    )
    summary, times = summarise(decisions, processes, sizes)
    trend = exponents(summary, times)
    print_tables(summary, times, trend, config.time_limit_s, console)
    written = [
        config.output / name
        for name in ("scaling.csv", "times.csv", "decisions.csv", "scaling.png")
    ]
    tables = (summary, times, decisions.drop(columns=["seconds", "solver_s"]))
    for path, table in zip(written, tables, strict=False):
        write_whole(path, csv_text(table).encode())
    draw(summary, times, decisions, trend, config.time_limit_s, written[3])
    section = scaling_section(summary, times, trend, config.time_limit_s)
    provenance = find_provenance(config.seed)
    written += write_report(
        "FeederGuard: how methods grow with the feeder", [section], provenance, config.output
    )
    mark_written(journal)
    console.print(
        f"wrote {', '.join(str(path) for path in written)} in {perf_counter() - begin:.0f} s",
        soft_wrap=True,
    )
    return written


def _task_list(config: ScalingConfig, sizes: pd.DataFrame) -> TaskList:
    settings = {
        name: value for name, value in asdict(config).items() if name not in ("run", "output")
    }
    key = settings | {
        "feeders": list(config.feeders),
        "methods": list(config.methods),
        "agents_cache": str(config.agents_cache),
        "networks": [
            network_fingerprint(load_multiple(name, config.seed)) for name in config.feeders
        ],
        "profiles_digest": profiles_digest(load_profiles(config.profiles)),
    }
    settings["agents_cache"] = config.agents_cache.resolve()
    settings["profiles"] = absolute(config.profiles)
    return TaskList("scaling", _tasks(config, sizes), measure_task, _settings, (settings,), key)


def _settings(settings: dict[str, Any]) -> dict[str, Any]:
    return settings


def measure_task(
    settings: dict[str, Any], feeder: str, method: str, first: int, last: int
) -> Tables:
    """Return the tables "decisions" and "processes" of a task.

    A process decides the scenarios; for the learned method another one trains it first.
    """
    network = load_multiple(feeder, settings["seed"])
    sampled = sample_scenarios(
        network, load_profiles(settings["profiles"]), settings["scenarios"], settings["seed"]
    )
    piece = Piece(
        feeder,
        method,
        first,
        settings["profiles"],
        settings["seed"],
        settings["time_limit_s"],
        settings["train_scenarios"],
        str(settings["agents_cache"]),
    )
    told: list[dict[str, Any]] = []
    lines: list[dict[str, Any]] = []
    trouble = ""
    if method == "ranked_switching":
        trained = measure(replace(piece, train=True), None, settings["task_limit_s"])
        trouble = trained.trouble
        told.append(
            {"what": "training", "trouble": trouble and f"training: {trouble}", **trained.footprint}
        )
        piece = replace(piece, agent=trained.footprint.get("agent", ""))
    if not trouble:
        measured = measure(piece, sampled.scenarios[first:last], settings["task_limit_s"])
        told.append({"what": "deciding", "trouble": measured.trouble, **measured.footprint})
        lines = measured.decisions
    place = {"feeder": feeder, "method": method}
    decisions = pd.DataFrame([place | line for line in lines]).reindex(columns=DECISIONS)
    processes = pd.DataFrame(
        [place | {"first": first, "last": last} | line for line in told]
    ).reindex(columns=PROCESSES)
    return {"decisions": decisions.astype(_NUMBERS), "processes": processes}


_NUMBERS = dict.fromkeys(
    ("least_cost", "cost", "shed_ratio", "switch_operations", "bound", "seconds", "solver_s"),
    "float64",
)
DECISIONS = [
    "feeder",
    "method",
    "scenario",
    "fault_branch",
    "decided",
    "cost",
    "shed_ratio",
    "switch_operations",
    "connected",
    "safe",
    "least_cost",
    "bound",
    "note",
    "seconds",
    "solver_s",
]
PROCESSES = [
    "feeder",
    "method",
    "what",
    "first",
    "last",
    "import_mb",
    "ready_mb",
    "peak_mb",
    "set_up_s",
    "cached",
    "trouble",
]


def _tasks(config: ScalingConfig, sizes: pd.DataFrame) -> dict[str, tuple[Any, ...]]:
    """Return the tasks by name, the longest first."""
    tasks: dict[str, tuple[Any, ...]] = {}
    for feeder in sizes.sort_values("n_bus", ascending=False, kind="stable")["feeder"]:
        for method in sorted(
            config.methods,
            key=lambda name: LONGEST.index(name) if name in LONGEST else len(LONGEST),
        ):
            count = (
                min(config.slow_scenarios, config.scenarios) if method in SLOW else config.scenarios
            )
            step = config.block if method in SLOW else count
            for first in range(0, count, step):
                last = min(first + step, count)
                tasks[f"{feeder} {method} {first}-{last}"] = (feeder, method, first, last)
    return tasks


def _sizes(config: ScalingConfig) -> pd.DataFrame:
    """Return the numbers of buses, branches, switchable branches and ties of each feeder.

    Raises ValueError for a feeder that cannot be measured.
    """
    load_profiles(config.profiles)
    rows = []
    for feeder in config.feeders:
        network = load_multiple(feeder, config.seed)
        switchable = resolve_setting(network, SETTING).switchable_branches(network)
        refuse_fixed_loops(network, network.closed & ~switchable)
        rows.append(
            (
                feeder,
                network.n_bus,
                network.n_branch,
                int(switchable.sum()),
                int(network.is_tie.sum()),
            )
        )
    return pd.DataFrame(rows, columns=["feeder", "n_bus", "n_branch", "n_switchable", "n_tie"])


if __name__ == "__main__":
    # Through the module: worker processes find the functions of the tasks by its name.
    from feederguard.studies import scaling

    raise SystemExit(scaling.main())
