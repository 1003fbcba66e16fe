"""N-1 sheet for an operator: for every fault the switches in a safe order, and what stays dark.

    python studies/n_minus_1.py ieee33                            nominal load, radial setting
    python studies/n_minus_1.py my_feeder/ --customers who.csv    columns: bus, customers
    python studies/n_minus_1.py bus69 --hour peak                 the hour of largest demand

Every branch in service fails in turn, transformers and feeder heads too. The plan search makes the
decision, with a proof of its cost (`feederguard.baselines.proven_search`). The order of operations
is that of `feederguard.models.switching.sequence`: isolate, open, close. In the radial setting no
loop is energised on the way. Each state on the way is judged by AC power flow.

A load is shed whole or not at all, unless --partial-loads is given. Limits that the feeder breaks
before any fault are listed apart.

Files in --output: sheet.csv (a line per fault), steps.csv (a line per switching step), before.csv
(a line per limit that is broken before any fault), times.csv (seconds, which differ from run to
run) and sheet.html.

Demand is nominal or that of an hour (`feederguard.studies.n_minus_1_sheet.inputs`). No
photovoltaics are added to those in the feeder's data.
"""

from __future__ import annotations

import hashlib
import shlex
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
import tyro
from rich.console import Console

from feederguard.baselines.plan_search import PlanSearch
from feederguard.baselines.proven_search import ProvenSearch
from feederguard.data.networks import list_networks, load_network
from feederguard.data.profiles import load_profiles
from feederguard.models.arrays import IntArray
from feederguard.models.load_transfer import (
    Scenarios,
    device_note,
    make_scenarios,
    resolve_setting,
    restrict,
)
from feederguard.models.load_transfer.rules import charging_note
from feederguard.models.load_transfer.setting import voltage_band
from feederguard.models.network import Network
from feederguard.models.switching.sequence import order_operations
from feederguard.studies.n_minus_1_sheet.before import (
    Before,
    before_fault,
    lasting_columns,
    told_before,
)
from feederguard.studies.n_minus_1_sheet.faults import SheetFault, ask_faults
from feederguard.studies.n_minus_1_sheet.inputs import (
    NOMINAL,
    demand_at_hour,
    find_hour,
    read_customers,
)
from feederguard.studies.n_minus_1_sheet.page import write_sheet
from feederguard.studies.n_minus_1_sheet.rows import fault_rows, step_rows
from feederguard.studies.n_minus_1_sheet.tables import Sheet, print_sheet
from feederguard.studies.running.command_line import (
    RUN_ERRORS,
    console_of,
    parse_options,
    user_error,
)
from feederguard.studies.running.files import hash_of, make_writable
from feederguard.studies.running.journal import Tables, mark_written
from feederguard.studies.running.tasks import RunConfig, TaskList, absolute, run_tasks

FAULTS_A_TASK = 8


@dataclass(frozen=True)
class NMinus1Config:
    """Operating sheet of a feeder: for every fault switches in order, dark load, limits, proof."""

    feeder: tyro.conf.Positional[str]
    """Bundled feeder by name, or a path to one (CSV folder, pandapower .json, MATPOWER .m)."""
    setting: Literal["radial", "paper", "meshed"] = "radial"
    """radial: always a tree, ratings, 0.90..1.05 pu; paper: loops, a MW limit, 0.90..1.10 pu;
    meshed: loops, ratings, the network's own voltage limits."""
    hour: str = NOMINAL
    """Demand: nominal, peak (of the profile), or an hour by row (17) or time (2016-01-15T18:00)."""
    profiles: str = "simbench_2016"
    """Bundled year by name, or a load file; not read if hour is nominal."""
    customers: Path | None = None
    """CSV file with columns bus, customers; without it the buses with load are counted."""
    faults: tuple[str, ...] = ()
    """Branches, buses or devices that fail, by name, A+B for both at once; default every branch."""
    make_before_break: bool = False
    """Allow an energised loop on the way in the radial setting, so that fewer lose supply."""
    switchable: tuple[str, ...] = ()
    """Devices or branches that may be operated, by name; default all that the setting allows."""
    blocked: tuple[str, ...] = ()
    """Devices or branches that may not be operated, by name."""
    partial_loads: bool = False
    """Allow a load to be shed in part; else it is shed whole or not at all."""
    prove_s: float | None = None
    """Most seconds for a bound of each fault that is not proven otherwise, beyond 10 by the MISOCP;
    default none."""
    paper_limit_mw: float | None = None
    """Branch limit of the paper setting, MW; needed if the feeder has none."""
    show: int = 15
    """Number of faults in the console table, the worst first."""
    output: Path | None = None
    """Folder for the results; default results/n_minus_1/FEEDER, with six digits for a path."""
    run: Annotated[RunConfig, tyro.conf.arg(name="")] = RunConfig()

    @property
    def folder(self) -> Path:
        """The folder of the results."""
        if self.output is not None:
            return self.output
        name = self.feeder
        if name not in list_networks():
            # Files of equal name in two folders are two feeders.
            path = Path(self.feeder).resolve()
            name = f"{path.stem}-{hash_of({'path': str(path)})[:6]}"
        return Path("results/n_minus_1") / name


@dataclass(frozen=True, eq=False)
class Bench:
    """What every task needs."""

    network: Network
    faults: list[SheetFault]
    scenarios: Scenarios  # one per fault
    customers: IntArray | None  # (n_bus,)
    search: ProvenSearch
    make_before_break: bool
    before: Before
    demand: str  # in words
    notes: tuple[str, ...]


def load_bench(config: NMinus1Config) -> Bench:
    """Return feeder, faults at their hour, customers and method.

    Raises `NetworkError`, `ProfileError`, ValueError or OSError if a value of the configuration
    cannot be used.
    """
    _refuse_wrong_values(config)
    network = load_network(config.feeder)
    if config.paper_limit_mw is not None:
        network = network.with_changes(paper_limit_mw=config.paper_limit_mw)
    network, setting = restrict(
        network, resolve_setting(network, config.setting), config.switchable, config.blocked
    )
    setting = replace(setting, whole_loads=not config.partial_loads)
    faults = ask_faults(network, config.faults)
    if not faults:
        raise ValueError(
            f"{network.name}: no branch is in service, so none can fail; give the feeder lines or "
            "transformers, or close some"
        )
    demand, arrays = "nominal load", {}
    with warnings.catch_warnings():
        # The sheet says it itself.
        warnings.simplefilter("ignore", UserWarning)
        band = voltage_band(network, setting)
    charging = charging_note(network, setting)
    notes = [device_note(network), *filter(None, [band.note, charging])]
    if config.hour != NOMINAL:
        profiles = load_profiles(config.profiles).resample(60)
        step = find_hour(profiles, network, config.hour)
        arrays = demand_at_hour(profiles, network, step)
        demand = (
            f"{profiles.name}, {np.datetime_as_string(profiles.time[step], unit='m')} (row {step})"
        )
        if network.p_gen.any() and not profiles.n_pv:
            notes.append(f"{profiles.name} has no PV series: generation is taken as zero")
    customers = None
    if config.customers is not None:
        customers, silent = read_customers(config.customers, network)
        if silent:
            notes.append(
                f"{silent} buses with load have no line in {config.customers} and count no "
                "customers"
            )
    scenarios = make_scenarios(network, [fault.elements for fault in faults], **arrays)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        search = ProvenSearch(network, setting, config.prove_s)
        before = before_fault(network, setting, scenarios[:1])
    notes += told_before(before)
    loop, told = config.make_before_break, tuple(notes)
    return Bench(network, faults, scenarios, customers, search, loop, before, demand, told)


def make_sheet(config: NMinus1Config, console: Console) -> Sheet:
    """Return the sheet of all faults, computed as tasks; raises as `load_bench` and `run_tasks`."""
    begin = perf_counter()
    bench = load_bench(config)
    n = len(bench.scenarios)
    tasks: dict[str, tuple[Any, ...]] = {
        f"faults {first:05d}": (first, min(first + FAULTS_A_TASK, n))
        for first in range(0, n, FAULTS_A_TASK)
    }
    key = {
        name: getattr(config, name)
        for name in config.__dataclass_fields__
        if name not in ("show", "output", "run")
    }
    key["inputs"] = _digest(bench)
    customers = None if config.customers is None else config.customers.resolve()
    here = replace(
        config,
        feeder=absolute(config.feeder),
        profiles=absolute(config.profiles),
        customers=customers,
    )
    todo = TaskList("faults", tasks, _do_faults, _set_up, (here,), key)
    parts = run_tasks(todo, config.folder / "journal.sqlite", config.run, console)
    tables = {
        name: pd.concat([part[name] for part in parts.values()], ignore_index=True)
        for name in ("sheet", "steps", "times")
    }
    return Sheet(
        bench.network,
        bench.search.setting,
        bench.demand,
        bench.customers is not None,
        config.make_before_break,
        bench.notes,
        _command(config),
        tables["sheet"],
        tables["steps"],
        tables["times"],
        perf_counter() - begin,
        bench.before.table,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the study as a program and return its exit status."""
    config = parse_options(NMinus1Config, arguments, "n_minus_1", __doc__)
    console = console_of(100)
    with user_error():
        load_bench(config)
        make_writable(config.folder)
    try:
        with user_error(RUN_ERRORS):
            run_n_minus_1(config, console)
    except KeyboardInterrupt:
        return 130
    return 0


def run_n_minus_1(config: NMinus1Config, console: Console) -> list[Path]:
    """Compute, print and write the sheet; return the files. Raises as `make_sheet`."""
    sheet = make_sheet(config, console)
    print_sheet(sheet, config.show, console)
    written = write_sheet(sheet, config.folder)
    mark_written(config.folder / "journal.sqlite")
    console.print(f"wrote {', '.join(str(path) for path in written)}", soft_wrap=True, markup=False)
    return written


def _refuse_wrong_values(config: NMinus1Config) -> None:
    # Checked here and not in the dataclass: the command line's parser would print a page of usage.
    if config.prove_s is not None and not config.prove_s > 0:
        raise ValueError(
            f"prove_s is {config.prove_s}; give the proof some seconds, or None for none"
        )
    if config.paper_limit_mw is not None and not config.paper_limit_mw > 0:
        raise ValueError(f"paper_limit_mw is {config.paper_limit_mw}; it must be positive")
    if config.show < 0:
        raise ValueError(f"show is {config.show}; it must be zero or more")
    if config.output is not None and config.output.exists() and not config.output.is_dir():
        raise ValueError(f"output {config.output} is a file; name a folder")


def _digest(bench: Bench) -> str:
    """Return a hash of all numbers and names that decide the tables.

    A file may change and keep its name.
    """
    parts: list[Any] = [getattr(bench.network, item.name) for item in fields(bench.network)]
    parts += [fault.label for fault in bench.faults]
    parts += [getattr(bench.scenarios, item.name) for item in fields(bench.scenarios)]
    digest = hashlib.sha256()
    for part in (*parts, bench.customers):
        digest.update(part.tobytes() if isinstance(part, np.ndarray) else repr(part).encode())
    return digest.hexdigest()


def _command(config: NMinus1Config) -> str:
    """Return the command line that makes this sheet again."""
    words = ["python studies/n_minus_1.py", config.feeder]
    for item in fields(config):
        value = getattr(config, item.name)
        if item.name in ("feeder", "run", "show", "output") or value == item.default:
            continue
        words.append("--" + item.name.replace("_", "-"))
        if value is not True:
            words += [str(each) for each in value] if isinstance(value, tuple) else [str(value)]
    return " ".join([words[0], shlex.join(words[1:])])


def _set_up(config: NMinus1Config) -> Bench:
    """Return the bench of a process, with compiled kernels loaded before anything is timed."""
    bench = load_bench(config)
    PlanSearch(bench.network, bench.search.setting, max_rounds=0).decide(bench.scenarios[:1])
    return bench


def _do_faults(bench: Bench, first: int, last: int) -> Tables:
    """Return the lines of some faults; measured times are in a table of their own."""
    scenarios, network, setting = bench.scenarios[first:last], bench.network, bench.search.setting
    decisions = bench.search.decide(scenarios)
    begin = perf_counter()
    sequences = order_operations(
        network, scenarios, decisions, setting, make_before_break=bench.make_before_break
    )
    order_s = (perf_counter() - begin) / len(scenarios)
    faults = bench.faults[first:last]
    steps = step_rows(network, setting, scenarios, sequences, faults)
    sheet = fault_rows(
        network, setting, scenarios, sequences, bench.search.reports, steps, bench.customers, faults
    ).assign(**lasting_columns(network, setting, scenarios, sequences, bench.before))
    times = pd.DataFrame(
        {
            "fault": sheet["fault"],
            "decision_ms": [1e3 * report.seconds for report in bench.search.reports],
            "order_ms": 1e3 * order_s,
            "proof_ms": [1e3 * seconds for seconds in bench.search.proof_seconds],
        }
    )
    return {"sheet": sheet, "steps": steps, "times": times}


if __name__ == "__main__":
    # Through the module: worker processes find the functions of the tasks by its name.
    from feederguard.studies import n_minus_1

    raise SystemExit(n_minus_1.main())
