"""Compare methods of load transfer and of voltage regulation, judged by the same AC power flow.

    python studies/compare_methods.py                                        both jobs
    python studies/compare_methods.py --job transfer --feeder my_net.json    load transfer
    python studies/compare_methods.py --job voltage                          voltage regulation
    python studies/compare_methods.py --tables paper                         Zhou et al. 2024

Each has its own options: add --help. Agents that are not in the cache are trained first. A run
writes report.html, report.md and its tables into the output folder. A run that was stopped goes on
with --resume. Measured seconds are in separate files. With the same seeds the other tables are the
same to the byte, even if the run was stopped or used other workers. Solvers that reach their time
limit are the exception.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Annotated

import tyro
from rich.console import Console

from feederguard.studies.pages.blocks import Section
from feederguard.studies.pages.report import write_report
from feederguard.studies.running.command_line import (
    RUN_ERRORS,
    console_of,
    parse_options,
    user_error,
)
from feederguard.studies.running.files import make_writable
from feederguard.studies.running.journal import mark_written
from feederguard.studies.running.provenance import find_provenance
from feederguard.studies.running.tasks import RunConfig, shared_workers
from feederguard.studies.transfer.paper_study import Bench, PaperTablesConfig, make_tables
from feederguard.studies.transfer.report import transfer_section
from feederguard.studies.transfer.study import (
    TransferBench,
    TransferConfig,
    compare_transfer,
    warm_up,
)
from feederguard.studies.transfer.tables import print_tables as print_transfer
from feederguard.studies.transfer.tables import summarise as summarise_transfer
from feederguard.studies.transfer.tables import write_results as write_transfer
from feederguard.studies.voltage.bench import VoltageConfig, load_bench
from feederguard.studies.voltage.report import voltage_section
from feederguard.studies.voltage.study import compare_voltage
from feederguard.studies.voltage.tables import print_tables as print_voltage
from feederguard.studies.voltage.tables import summarise as summarise_voltage
from feederguard.studies.voltage.tables import write_results as write_voltage

AGENTS_CACHE = Path("results/agents")
Flat = tyro.conf.arg(name="")  # options of a part without the part's name in front


@dataclass(frozen=True)
class CompareBoth:
    """Compare methods of both jobs.

    --job transfer, --job voltage and --tables paper have options of their own.
    """

    transfer: TransferConfig = field(default_factory=TransferConfig)
    voltage: VoltageConfig = field(default_factory=VoltageConfig)
    run: Annotated[RunConfig, Flat] = field(default_factory=RunConfig)
    output: Path = Path("results/compare")
    """Folder for the report and the tables."""
    agents_cache: Path = AGENTS_CACHE
    """Folder of trained agents."""


@dataclass(frozen=True)
class CompareTransfer:
    """Compare load-transfer methods on one feeder (--job transfer)."""

    transfer: Annotated[TransferConfig, Flat] = field(default_factory=TransferConfig)
    run: Annotated[RunConfig, Flat] = field(default_factory=RunConfig)
    output: Path = Path("results/compare_transfer")
    """Folder for the report and the tables."""
    agents_cache: Path = AGENTS_CACHE
    """Folder of trained agents."""


@dataclass(frozen=True)
class CompareVoltage:
    """Compare voltage-regulation methods on one feeder (--job voltage)."""

    voltage: Annotated[VoltageConfig, Flat] = field(default_factory=VoltageConfig)
    run: Annotated[RunConfig, Flat] = field(default_factory=RunConfig)
    output: Path = Path("results/compare_voltage")
    """Folder for the report and the tables."""
    agents_cache: Path = AGENTS_CACHE
    """Folder of trained agents."""


@dataclass(frozen=True)
class ComparePaper:
    """Make the tables of Zhou et al. 2024 (--tables paper)."""

    paper: Annotated[PaperTablesConfig, Flat] = field(default_factory=PaperTablesConfig)
    run: Annotated[RunConfig, Flat] = field(default_factory=RunConfig)
    output: Path = Path("results/paper_tables")
    """Folder for the tables."""
    agents_cache: Path = AGENTS_CACHE
    """Folder of trained agents."""


Comparison = CompareBoth | CompareTransfer | CompareVoltage | ComparePaper
JOBS: dict[str, type[Comparison]] = {
    "both": CompareBoth,
    "transfer": CompareTransfer,
    "voltage": CompareVoltage,
}


def parse(arguments: Sequence[str]) -> Comparison:
    """Return the configuration of a command line.

    A wrong value ends the program with one sentence.
    """
    which = argparse.ArgumentParser(prog="compare_methods", add_help=False, allow_abbrev=False)
    which.add_argument("--job", choices=tuple(JOBS), default="both")
    which.add_argument("--tables", choices=("paper",))
    asked, rest = which.parse_known_args(list(arguments))
    kind: type[Comparison] = ComparePaper if asked.tables else JOBS[asked.job]
    shown = "--tables paper" if asked.tables else f"--job {asked.job}"
    return parse_options(
        kind, rest, f"compare_methods {shown}", __doc__ if kind is CompareBoth else None
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the comparison as a program and return its exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = parse(given)
    console, begin = console_of(120), perf_counter()
    with user_error():
        _check(options)
    try:
        with user_error(RUN_ERRORS), shared_workers(options.run):
            console.print("compiling kernels (first run on a machine: some minutes) ...")
            warm_up()
            if isinstance(options, ComparePaper):
                written = make_tables(
                    options.paper, options.output, options.agents_cache, options.run, console
                )
            else:
                written = _compare(options, given, console)
    except KeyboardInterrupt:
        console.print("finished tasks are kept; the same command with --resume goes on from there")
        return 130
    console.print(
        f"wrote {', '.join(str(path) for path in written)} in {perf_counter() - begin:.0f} s",
        soft_wrap=True,
    )
    return 0


def _check(options: Comparison) -> None:
    """Refuse values that cannot be used, before anything is written or computed."""
    for name in ("output", "agents_cache"):
        if getattr(options, name).exists() and not getattr(options, name).is_dir():
            raise ValueError(f"{name} {getattr(options, name)} is a file; name a folder")
    if isinstance(options, CompareBoth | CompareTransfer):
        TransferBench(options.transfer, options.agents_cache)
    if isinstance(options, CompareBoth | CompareVoltage):
        load_bench(options.voltage)
    if isinstance(options, ComparePaper):
        Bench(options.paper, options.agents_cache)
    make_writable(options.output)
    make_writable(options.agents_cache)


def _compare(
    options: CompareBoth | CompareTransfer | CompareVoltage,
    arguments: Sequence[str],
    console: Console,
) -> list[Path]:
    """Run the jobs, print their tables, and return the files written, the report first."""
    sections: list[Section] = []
    written: list[Path] = []
    seeds: list[str] = []
    if isinstance(options, CompareBoth | CompareTransfer):
        section, paths = _transfer(options, _folder(options, "transfer"), console)
        sections.append(section)
        written += paths
        seeds.append(f"load transfer {options.transfer.seed}")
    if isinstance(options, CompareBoth | CompareVoltage):
        section, paths = _voltage(options, _folder(options, "voltage"), console)
        sections.append(section)
        written += paths
        seeds.append(f"voltage regulation {', '.join(map(str, options.voltage.seed_numbers))}")
    program = ["studies/compare_methods.py"]
    if Path(sys.argv[0]).stem == "feederguard":
        program = ["feederguard", "compare"]
    provenance = find_provenance("; ".join(seeds), [*program, *arguments])
    report = write_report("FeederGuard: methods compared", sections, provenance, options.output)
    for job in ("transfer", "voltage"):
        journal = _folder(options, job) / "journal.sqlite"
        if journal.exists():
            mark_written(journal)
    return [*report, *written]


def _folder(options: CompareBoth | CompareTransfer | CompareVoltage, job: str) -> Path:
    return options.output / job if isinstance(options, CompareBoth) else options.output


def _transfer(
    options: CompareBoth | CompareTransfer, folder: Path, console: Console
) -> tuple[Section, list[Path]]:
    results = compare_transfer(
        options.transfer, options.agents_cache, folder / "journal.sqlite", options.run, console
    )
    summary = summarise_transfer(results)
    print_transfer(summary, results.feeder, options.transfer.scenarios, console)
    paths = write_transfer(results, summary, folder)
    section = transfer_section(
        results.network,
        results.sampled,
        results.rows,
        summary,
        results.feeder,
        results.training,
        results.settings,
    )
    return section, paths


def _voltage(
    options: CompareBoth | CompareVoltage, folder: Path, console: Console
) -> tuple[Section, list[Path]]:
    results = compare_voltage(
        options.voltage, options.agents_cache, folder / "journal.sqlite", options.run, console
    )
    summary = summarise_voltage(results)
    print_voltage(summary, results, console)
    paths = write_voltage(summary, results, folder)
    return voltage_section(load_bench(options.voltage), results, summary, results.schedules), paths


if __name__ == "__main__":
    # Through the module: worker processes find the functions of the tasks by its name.
    from feederguard.studies.compare_methods import main as run

    raise SystemExit(run())
