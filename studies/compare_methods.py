"""Compare methods on one feeder, every decision judged by the same AC power flow: load transfer, or voltage regulation.

    python studies/compare_methods.py                        60 test scenarios on ieee33, both settings
    python studies/compare_methods.py --feeder my_net.json   a pandapower net, a MATPOWER .m file, or a CSV folder
    python studies/compare_methods.py --profiles load.csv    hourly load of your own, or an ISO-NE / EIA file
    python studies/compare_methods.py --tables paper         the tables of Zhou et al. 2024; add --help for its options
    python studies/compare_methods.py --job voltage          voltage regulation with batteries; add --help for its options

Load transfer meets the same random faults with every method. It prints a table per setting and writes summary.csv,
decisions.parquet and cost.png into the output folder. Agents that are not in the cache yet are trained first. Voltage
regulation: `feederguard.studies.voltage_study`.

Longer than other files: it is the whole command line of the comparison.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from time import perf_counter
from typing import Any, NoReturn, TypeVar

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from feederguard.agents.paper_correction import PaperCorrection
from feederguard.baselines.enumeration import MOST_TIES, TieEnumeration
from feederguard.baselines.genetic import Genetic
from feederguard.baselines.misocp import Misocp
from feederguard.baselines.no_transfer import NoTransfer
from feederguard.baselines.plan_search import PlanSearch
from feederguard.data.networks import load_network
from feederguard.data.profiles import load_profiles
from feederguard.data.sampling import PV_SHARE, SampledScenarios, sample_scenarios
from feederguard.models.load_transfer import judge
from feederguard.models.method import Method, Report
from feederguard.models.network import Network
from feederguard.models.radiality import refuse_fixed_loops
from feederguard.models.scenario import Decisions
from feederguard.models.setting import SETTING_NAMES, Setting, resolve_setting
from feederguard.models.solver import NotSolvedError, SolverMissingError
from feederguard.studies.paper_tables import Bench, PaperTablesConfig, make_tables
from feederguard.studies.trained_agents import TRAINED, AgentConfigs, Course, train_agents
from feederguard.studies.transfer_tables import Row, print_tables, summarise, write_results
from feederguard.studies.voltage_study import VoltageConfig, load_bench, run_voltage
from feederguard.studies.workers import n_cores, spread

MethodBuilder = Callable[[Network, Setting, "Config"], Method]


def _learned(kind: str) -> MethodBuilder:
    return lambda network, setting, config: TRAINED[kind](network, setting, _course(config)).agent


METHODS: dict[str, MethodBuilder] = {
    "no_transfer": lambda network, setting, config: NoTransfer(network),
    "genetic": lambda network, setting, config: Genetic(network, setting, seed=config.seed),
    "ddpg": _learned("ddpg"),
    "ddpg_corrected": _learned("ddpg_corrected"),
    "ddpg_safe": _learned("ddpg_safe"),
    "ranked_switching": _learned("ranked_switching"),
    "plan_search": lambda network, setting, config: PlanSearch(network, setting),
    "misocp": lambda network, setting, config: Misocp(network, setting, time_limit_s=config.time_limit_s),
    "enumeration": lambda network, setting, config: TieEnumeration(network, setting),
}

# A decision of these takes milliseconds, and loading what is compiled for it would be most of the first one's time.
FAST = ("no_transfer", *TRAINED, "plan_search")


@dataclass(frozen=True)
class Config:
    """The study's settings; each field with a help text is a command-line option."""

    feeder: str = field(default="ieee33", metadata={"help": "bundled feeder by name, or a path to one"})
    scenarios: int = field(default=60, metadata={"help": "number of random faults"})
    methods: tuple[str, ...] = field(default=tuple(METHODS), metadata={"help": "methods to compare"})
    setting: str = field(default="both", metadata={"help": f"{', '.join(SETTING_NAMES)} or both"})
    profiles: str = field(default="simbench_2016", metadata={"help": "bundled year by name, or a load file"})
    pv_share: float = field(
        default=PV_SHARE, metadata={"help": "installed PV over nominal load, where the feeder has none"}
    )
    seed: int = field(default=0, metadata={"help": "of the scenarios and of every random method"})
    time_limit_s: float = field(default=20.0, metadata={"help": "per scenario, for the MISOCP solver"})
    workers: int = field(default=n_cores(), metadata={"help": "processes that decide side by side"})
    output: Path = field(default=Path("results/compare_methods"), metadata={"help": "folder for the results"})
    paper_limit_mw: float | None = field(
        default=None,
        metadata={"help": "uniform branch limit of the paper setting, where the feeder has none of its own"},
    )
    train_scenarios: int = field(default=4000, metadata={"help": "training pool of each agent, from train weeks"})
    agents_cache: Path = field(default=Path("results/agents"), metadata={"help": "folder of trained agents"})
    agents: AgentConfigs = field(default_factory=AgentConfigs)

    def __post_init__(self) -> None:
        unknown = [name for name in self.methods if name not in METHODS]
        if unknown:
            raise ValueError(f"unknown method {unknown[0]!r}; use {', '.join(METHODS)}")
        if self.setting not in (*SETTING_NAMES, "both"):
            raise ValueError(f"unknown setting {self.setting!r}; use {', '.join(SETTING_NAMES)} or both")
        if self.scenarios < 1:
            raise ValueError(f"scenarios is {self.scenarios}; compare on at least one")
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}; use zero or a positive number")
        if len(set(self.methods)) < len(self.methods):
            raise ValueError("a method is named twice; name each once")
        if self.paper_limit_mw is not None and not self.paper_limit_mw > 0:
            raise ValueError(f"paper_limit_mw is {self.paper_limit_mw}; it must be positive")
        if self.train_scenarios < 1:
            raise ValueError(f"train_scenarios is {self.train_scenarios}; train on at least one")
        for name, folder in (("output", self.output), ("agents_cache", self.agents_cache)):
            if folder.exists() and not folder.is_dir():
                raise ValueError(f"{name} {folder} is a file; name a folder")
        if self.workers < 1:
            raise ValueError(f"workers is {self.workers}; use at least one process")
        if not self.time_limit_s > 0:
            raise ValueError(f"time_limit_s is {self.time_limit_s}; it must be positive")


def compare(config: Config, console: Console) -> list[Row]:
    """Return one row per setting, method and scenario; agents that are not in the cache are trained on the way."""
    network, sampled = _load(config)
    jobs = list(_jobs(config, network, console))
    pieces = [(setting, name, k) for setting, name in jobs for k in range(config.scenarios)]
    rows: list[Row] = []
    columns = (TextColumn("{task.description:24}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        tasks = {
            (setting.name, name): progress.add_task(f"{setting.name}: {name}", total=config.scenarios, start=False)
            for setting, name in jobs
        }
        for row in spread(_decide_and_judge, pieces, config.workers, _set_up, config):
            rows.append(row)
            progress.start_task(tasks[row.setting, row.method])
            progress.advance(tasks[row.setting, row.method])
    return rows


def _load(config: Config) -> tuple[Network, SampledScenarios]:
    network = load_network(config.feeder)
    if config.paper_limit_mw is not None:
        network = network.with_changes(paper_limit_mw=config.paper_limit_mw)
    for name in _settings(config, network):
        setting = resolve_setting(network, name)
        if setting.radial:
            refuse_fixed_loops(network, network.closed & ~setting.switchable_branches(network))
    profiles = load_profiles(config.profiles)
    return network, sample_scenarios(network, profiles, config.scenarios, config.seed, pv_share=config.pv_share)


def train(config: Config, console: Console) -> dict[tuple[str, str], float]:
    """Return the training seconds of the agents by (setting, method), after training those that are not in the cache."""
    network, _ = _load(config)
    settings = [resolve_setting(network, name) for name in _settings(config, network)]
    return train_agents(network, settings, config.methods, _course(config), config.workers, console)


def _course(config: Config) -> Course:
    profiles = load_profiles(config.profiles)
    return Course(
        profiles, config.pv_share, config.train_scenarios, config.seed, config.agents_cache, config.agents
    )  # fmt: skip


# What a worker process holds: the configuration, the feeder with its scenarios, and the methods built so far.
_worker: dict[str, Any] = {}


def _set_up(config: Config) -> None:
    network, sampled = _load(config)
    _worker.update(config=config, network=network, sampled=sampled, methods={})


def _jobs(config: Config, network: Network, console: Console) -> Iterator[tuple[Setting, str]]:
    if config.setting == "both" and "paper" not in _settings(config, network):
        console.print(f"paper setting left out: {network.name} has no limit for it; give --paper-limit-mw")
    for name in _settings(config, network):
        setting = resolve_setting(network, name)
        for method in config.methods:
            n_free = int(setting.switchable_branches(network).sum())
            if method == "enumeration" and (setting.radial or n_free > MOST_TIES):
                if not setting.radial:
                    console.print(f"enumeration left out: {n_free} ties make too many states; gaps need its optimum")
                continue
            yield setting, method


def _settings(config: Config, network: Network) -> tuple[str, ...]:
    if config.setting != "both":
        return (config.setting,)
    return SETTING_NAMES if np.isfinite(network.paper_limit_mw) else ("radial",)


def _decide_and_judge(piece: tuple[Setting, str, int]) -> Row:
    setting, name, k = piece
    network, sampled, methods = _worker["network"], _worker["sampled"], _worker["methods"]
    if (setting.name, name) not in methods:
        methods[setting.name, name] = METHODS[name](network, setting, _worker["config"])
        if name in FAST:
            methods[setting.name, name].decide(sampled.scenarios[k : k + 1])
    method = methods[setting.name, name]
    scenario = sampled.scenarios[k : k + 1]
    begin = perf_counter()
    try:
        decision = method.decide(scenario)
    except (NotSolvedError, SolverMissingError) as error:
        return Row.failed(setting.name, name, k, network, sampled, perf_counter() - begin, str(error))
    seconds = perf_counter() - begin
    reports: list[Report] = getattr(method, "reports", [])
    outcome = judge(network, scenario, decision, setting)
    return Row.judged(setting.name, name, k, network, sampled, seconds, decision, outcome, reports)


JOBS = ("transfer", "voltage")

Options = TypeVar("Options", Config, PaperTablesConfig, VoltageConfig)


def parse(arguments: list[str]) -> Config:
    """Return the configuration of a command line; wrong values end the program with one sentence."""
    return _parse(Config, arguments)


def parse_tables(arguments: list[str]) -> PaperTablesConfig:
    """Return the configuration of a command line with --tables; wrong values end the program with one sentence."""
    return _parse(PaperTablesConfig, arguments)


def parse_voltage(arguments: list[str]) -> VoltageConfig:
    """Return the configuration of a command line with --job voltage; wrong values end the program with one sentence."""
    return _parse(VoltageConfig, arguments)


def _parse(kind: type[Options], arguments: list[str]) -> Options:
    parser = argparse.ArgumentParser(
        prog="compare_methods", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--job",
        choices=JOBS,
        default=JOBS[kind is VoltageConfig],
        help="what is compared; voltage has options of its own (default: transfer)",
    )
    if kind is not VoltageConfig:
        parser.add_argument(
            "--tables", choices=("paper",), help="make the paper's tables instead; has options of its own"
        )
    for option in (option for option in fields(kind) if "help" in option.metadata):
        flag, told = "--" + option.name.replace("_", "-"), option.metadata["help"]
        if option.type == "bool":
            parser.add_argument(flag, action="store_true", help=told)
            continue
        many: dict[str, Any] = {"nargs": "+"} if str(option.type).startswith("tuple") else {}
        types = {"int": int, "int | None": int, "float": float, "float | None": float, "Path": Path}
        shown = " ".join(option.default) if many and isinstance(option.default, tuple) else option.default
        parser.add_argument(
            flag, type=types.get(str(option.type), str), default=option.default,
            help=told if "(default:" in told else f"{told} (default: {shown})", **many,
        )  # fmt: skip
    given = vars(parser.parse_args(arguments))
    if given.pop("job") != JOBS[kind is VoltageConfig]:
        # argparse takes abbreviations, by which the job was not yet known.
        parser.error("--job is abbreviated; write it out")
    given.pop("tables", None)
    values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in given.items()}
    try:
        return kind(**values)
    except ValueError as error:
        parser.error(str(error))


def main() -> None:
    """Run the study as a program."""
    arguments = sys.argv[1:]
    which = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    which.add_argument("--tables", nargs="?")
    which.add_argument("--job", nargs="?")
    asked = which.parse_known_args(arguments)[0]
    tables, voltage = asked.tables is not None, asked.job == "voltage"
    console = Console(width=120 if tables or voltage else 100) if not sys.stdout.isatty() else Console()
    if voltage:
        _run_voltage(parse_voltage(arguments), console)
    elif tables:
        _run_tables(parse_tables(arguments), console)
    else:
        _run_comparison(parse(arguments), console)


def _run_comparison(config: Config, console: Console) -> None:
    begin = perf_counter()
    try:
        _load(config)
        config.output.mkdir(parents=True, exist_ok=True)
        config.agents_cache.mkdir(parents=True, exist_ok=True)
    except (ValueError, OSError) as error:
        _refuse(error)
    _compile(console)
    training_s = train(config, console)
    rows = compare(config, console)
    summary = summarise(rows, training_s)
    print_tables(summary, config.feeder, config.scenarios, console)
    written = write_results(rows, summary, config.feeder, config.output)
    console.print(f"wrote {', '.join(str(path) for path in written)} in {perf_counter() - begin:.0f} s")


def _run_tables(config: PaperTablesConfig, console: Console) -> None:
    begin = perf_counter()
    try:
        Bench(config)
        config.output.mkdir(parents=True, exist_ok=True)
        config.agents_cache.mkdir(parents=True, exist_ok=True)
    except (ValueError, OSError) as error:
        _refuse(error)
    _compile(console)
    try:
        written = make_tables(config, console)
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    console.print(f"wrote {', '.join(str(path) for path in written)} in {perf_counter() - begin:.0f} s")


def _run_voltage(config: VoltageConfig, console: Console) -> None:
    begin = perf_counter()
    try:
        bench = load_bench(config)
        config.output.mkdir(parents=True, exist_ok=True)
        config.agents_cache.mkdir(parents=True, exist_ok=True)
    except (ValueError, OSError) as error:
        _refuse(error)
    try:
        written = run_voltage(config, bench, console)
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    console.print(f"wrote {', '.join(str(path) for path in written)} in {perf_counter() - begin:.0f} s")


def _refuse(error: Exception) -> NoReturn:
    # What the user named cannot be used; anything that goes wrong later is ours and keeps its traceback.
    print(f"error: {error}", file=sys.stderr)
    raise SystemExit(2) from None


def _compile(console: Console) -> None:
    # Compiling happens once per machine; better here than inside the first method's time.
    console.print("compiling kernels (first run on a machine: some minutes) ...")
    _warm_up()


def _warm_up() -> None:
    """Run each compiled kernel once, on both kinds of batch."""
    network = load_network("ieee33")
    for n in (1, 64):
        sampled = sample_scenarios(network, load_profiles(), n, seed=0)
        closed = np.tile(network.closed, (n, 1))
        closed[np.arange(n), sampled.scenarios.fault] = False
        for setting in SETTING_NAMES:
            idle = Decisions(closed, np.zeros((n, network.n_bus)))
            judge(network, sampled.scenarios, idle, setting)
            PaperCorrection(network, setting).correct(sampled.scenarios, idle)
            PlanSearch(network, setting).decide(sampled.scenarios)


if __name__ == "__main__":
    main()
