"""Tables 1 to 4 of Zhou et al., Energy Engineering 121(6), 2024, with our numbers beside the
printed ones, and a fifth.

    python studies/compare_methods.py --tables paper                                    all of it: hours
    python studies/compare_methods.py --tables paper --seeds 1 --scenarios 20 --tables-feeders
    ieee33

Learned methods are trained anew for every seed; all seeds answer the same test scenarios. Every
(feeder, method, seed) is a task of `feederguard.studies.running.tasks`; a run that was stopped goes
on with --resume, and so does one with more seeds. With c the costs of the safe decisions of a
method, c* those of the same scenarios by `plan_search`, which tries every tie state here,

    (a)  gap = sum c / sum c* - 1, sums over scenarios and seeds

and its 95 % interval holds the middle 95 % of (a) over N_DRAWS draws, with replacement, of the
seeds and, independently, of the scenarios (a crossed bootstrap: all seeds share the scenarios, so
neither alone holds independent costs).

Longer than other files: what is measured, how it is kept and what it is printed beside are one
text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any

import numpy as np
import pandas as pd
import tyro
from rich import box
from rich.console import Console
from rich.table import Table

from feederguard.baselines.genetic import Genetic, GeneticConfig
from feederguard.baselines.plan_search import PlanSearch
from feederguard.data.networks import load_network
from feederguard.data.profiles import load_profiles
from feederguard.data.sampling import PV_SHARE, sample_scenarios
from feederguard.models.arrays import BoolArray, FloatArray
from feederguard.models.load_transfer import Decisions, Method, judge, resolve_setting
from feederguard.models.load_transfer.judge import EPSILON
from feederguard.models.network import Network
from feederguard.models.switching.plans import MOST_STATES
from feederguard.studies.pages.blocks import Block, DataTable, Prose, Section
from feederguard.studies.pages.report import write_report
from feederguard.studies.running.files import write_whole
from feederguard.studies.running.journal import Tables, mark_written
from feederguard.studies.running.provenance import find_provenance
from feederguard.studies.running.tasks import RunConfig, TaskList, absolute, run_tasks
from feederguard.studies.trained.transfer_agents import TRAINED, AgentConfigs, Course, course_parts

FEEDERS = ("ieee33", "bus69_zhou", "caracas141")
METHODS = ("genetic", "ddpg", "ddpg_corrected", "ddpg_safe", "ranked_switching", "plan_search")
REFERENCE = "plan_search"
TEST_SEED = 0
N_DRAWS = 2000
JUDGED = ("cost", "reward", "shed_ratio", "n_operations", "connected", "converged", "safe")

# As printed: shed ratio, switch actions, reward x 1e-4; connected, converged, safe in %; seconds;
# safe in % by feeder.
PRINTED: dict[str, dict[str, Any]] = {
    "genetic": {
        "shed_ratio": "0.243 ± 0.015",
        "n_operations": "4.76 ± 0.52",
        "reward": "8.20 ± 0.66",
        "connected": "95.45",
        "converged": "92.50",
        "safe": "84.67",
        "seconds": "587.24",
    },
    "ddpg": {
        "shed_ratio": "0.211 ± 0.016",
        "n_operations": "3.04 ± 0.22",
        "reward": "10.30 ± 0.78",
        "connected": "100",
        "converged": "100",
        "safe": "98.13",
        "seconds": "0.18",
        "ieee33": "98.13 ± 1.55",
        "bus69_zhou": "96.77 ± 1.76",
        "caracas141": "95.12 ± 3.11",
    },
    "ddpg_corrected": {
        "shed_ratio": "0.258 ± 0.015",
        "n_operations": "3.23 ± 0.45",
        "reward": "9.53 ± 0.52",
        "connected": "100",
        "converged": "100",
        "safe": "100",
        "seconds": "6.43",
        "ieee33": "100 ± 0.00",
        "bus69_zhou": "100 ± 0.00",
        "caracas141": "100 ± 0.00",
    },
}


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
    """Pieces that one process makes in one go: `ddpg_safe` rests on the agent of `ddpg`."""

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
        """Return what decides each task beside its name, to be hashed."""
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
    """Do what is missing, print the tables, and return the files written.

    Raises NetworkError where a feeder lacks its limit of the paper setting, ValueError and OSError
    for what else cannot be used, and KeyboardInterrupt after saying how to go on.
    """
    config = replace(
        config,
        tables_feeders=tuple(map(absolute, config.tables_feeders)),
        profiles=absolute(config.profiles),
    )
    bench = Bench(config, agents_cache)
    jobs = {f"{job.feeder}/{'+'.join(job.methods)}/{job.seed}": job for job in bench.jobs()}
    done = run_tasks(
        TaskList(
            "training and judging",
            {name: (job,) for name, job in jobs.items()},
            work,
            Bench,
            (config, agents_cache.resolve()),
            bench.key(),
        ),
        output / "journal.sqlite",
        run,
        console,
    )
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
    trials = gather(jobs, done)
    shown = paper_tables(bench, trials)
    for table in shown:
        table.show(console)
    written = _write(shown, figures(bench, trials), output)
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


_QUESTION = (
    "Zhou et al., Energy Engineering 121(6), 2024, print what a genetic algorithm and their "
    "learned agents do after a line has failed. Here the same methods, and ours, answer random "
    "faults of the test weeks under the paper's setting; every decision is judged by the same AC "
    "power flow, and the printed figures stand beside ours. Their limits and load are not "
    "published, so levels compare only roughly; the order of the methods does."
)


def work(bench: Bench, job: Job) -> Tables:
    """Return the judged test scenarios of a job's methods, their seconds, and how its agents were
    come by.
    """
    course, network, setting = (
        bench.course(job.seed),
        bench.networks[job.feeder],
        bench.settings[job.feeder],
    )
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
    # All of them are sampled even where few are used, since the first of many are not those of a
    # small sample.
    drawn = sample_scenarios(
        network, bench.profiles, config.scenarios, TEST_SEED, pv_share=config.pv_share
    )
    scenarios = drawn.scenarios[:count]
    # What is compiled or built at the first decision is no part of a decision's time.
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


Trials = dict[
    tuple[str, str], dict[str, FloatArray]
]  # (feeder, method) -> name -> (seed, scenario)


def gather(jobs: Mapping[str, Job], done: Mapping[str, Tables]) -> Trials:
    """Return all results, the seeds of a method stacked."""
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


def gap_interval(
    cost: FloatArray, safe: BoolArray, reference: FloatArray
) -> tuple[float, float, float]:
    """Return (a) and the ends of its 95 % interval for cost, safe (n_seed, n_scenario), reference
    (n_scenario,).

    reference: c*, NaN where no state is safe; such scenarios are left out. NaN where nothing is
    left.
    """
    counts = safe & np.isfinite(reference)
    ours, best = np.where(counts, cost, 0.0), np.where(counts, reference, 0.0)
    if not best.sum() > 0:
        return np.nan, np.nan, np.nan
    rng = np.random.default_rng(0)
    n_seed, n = cost.shape
    seeds = rng.multinomial(n_seed, np.full(n_seed, 1 / n_seed), N_DRAWS)
    drawn = rng.multinomial(n, np.full(n, 1 / n), N_DRAWS)
    above, below = (((seeds @ sums) * drawn).sum(axis=1) for sums in (ours, best))
    low, high = np.percentile(above[below > 0] / below[below > 0] - 1, [2.5, 97.5])
    return float(ours.sum() / best.sum() - 1), float(low), float(high)


def figures(bench: Bench, trials: Trials) -> pd.DataFrame:
    """Return one line per feeder and method: mean and standard deviation over seeds of each
    quantity, gap and interval.
    """
    lines: list[dict[str, Any]] = []
    for (feeder, method), held in sorted(trials.items(), key=lambda item: _place(bench, *item[0])):
        line: dict[str, Any] = {"feeder": feeder, "method": method, "seeds": len(held["cost"])}
        line["scenarios"] = held["cost"].shape[1]
        for name, per_seed in _per_seed(held).items():
            line[name], line[f"{name}_std"] = per_seed.mean(), _spread(per_seed)
        reference = trials.get((feeder, REFERENCE))
        gap = (np.nan, np.nan, np.nan)
        if reference is not None:
            n = held["cost"].shape[1]
            best = np.where(reference["safe"][0] > 0, reference["cost"][0], np.nan)
            gap = gap_interval(held["cost"], held["safe"] > 0, best[:n])
            line["without_safe_state"] = int(np.isnan(best).sum())
        line |= dict(
            zip(
                ("gap_pct", "gap_low_pct", "gap_high_pct"),
                (100 * value for value in gap),
                strict=True,
            )
        )
        printed = PRINTED.get(method, {})
        one = {
            f"paper_{name}": printed.get(name, "")
            for name in ("shed_ratio", "n_operations", "reward", "seconds")
        }
        lines.append(
            line | (one if feeder == FEEDERS[0] else {}) | {"paper_safe": printed.get(feeder, "")}
        )
    return pd.DataFrame(lines)


def _per_seed(held: dict[str, FloatArray]) -> dict[str, FloatArray]:
    """Return the mean of each quantity over the scenarios, (n_seed,) each."""
    means = {name: held[name].mean(axis=1) for name in (*JUDGED, "seconds", "training_s")}
    means |= {f"{name}_pct": 100 * means.pop(name) for name in ("connected", "converged", "safe")}
    means["reward_x1e-4"] = 1e4 * means.pop("reward")
    means["reward_of_mean_cost_x1e-4"] = 1e4 / (means["cost"] + EPSILON)
    return means


def _spread(per_seed: FloatArray) -> float:
    return float(per_seed.std(ddof=1)) if len(per_seed) > 1 else np.nan


def _place(bench: Bench, feeder: str, method: str) -> tuple[int, int]:
    return list(bench.networks).index(feeder), METHODS.index(method)


@dataclass(frozen=True)
class PaperTable:
    """A table of words, to be printed and written."""

    title: str
    headings: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    footnote: str

    def show(self, console: Console) -> None:
        """Print the table."""
        table = Table(title=self.title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
        for k, heading in enumerate(self.headings):
            widest = max((len(row[k]) for row in self.rows), default=0)
            table.add_column(heading, justify="right" if k else "left", min_width=widest)
        for row in self.rows:
            table.add_row(*row)
        console.print(table, self.footnote, "")

    def markdown(self) -> str:
        """Return the table in Markdown."""
        lines = [self.headings, ("---", *("---:" for _ in self.headings[1:])), *self.rows]
        body = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        return f"## {self.title}\n\n{body}\n\n{self.footnote}\n"


def paper_tables(bench: Bench, trials: Trials) -> list[PaperTable]:
    """Return Tables 1 to 5, less those that nothing asked for would stand in."""
    known = figures(bench, trials).to_dict("records")
    first = [line for line in known if line["feeder"] == FEEDERS[0]]
    tables = [_table_1(bench, first), _table_2(first), _table_3(bench, first)] if first else []
    learned = tuple(
        name
        for name in METHODS
        if name in TRAINED and any(line["method"] == name for line in known)
    )
    return [
        *tables,
        *([_table_4(bench, known, learned)] if learned else []),
        _table_5(bench, known),
    ]


def _table_1(bench: Bench, lines: list[dict[Any, Any]]) -> PaperTable:
    rows = [
        (
            line["method"],
            _pm(line, "shed_ratio", 3),
            _printed(line, "shed_ratio"),
            _pm(line, "n_operations", 2),
            _printed(line, "n_operations"),
            _pm(line, "reward_of_mean_cost_x1e-4", 2),
            _printed(line, "reward"),
            f"{1e-4 * line['reward_x1e-4']:.2g}",
        )
        for line in lines
    ]
    headings = (
        "method",
        "shed ratio",
        "paper",
        "switch actions",
        "paper",
        "reward x1e-4",
        "paper",
        "mean (11)",
    )
    n_genetic = min(bench.config.genetic_scenarios, bench.config.scenarios)
    return PaperTable(
        f"Table 1: actions and rewards, {FEEDERS[0]}",
        headings,
        rows,
        f"Mean ± standard deviation over {bench.config.seeds} seed(s), {bench.config.scenarios} "
        f"test scenarios (genetic: the first {n_genetic}). reward: 1 / (mean cost + {EPSILON:g}), "
        "the one comparable with the paper's; mean (11): mean of the rewards with their "
        "penalties, which cheap scenarios and unsafe decisions rule. plan_search has no seed.",
    )


def _table_2(lines: list[dict[Any, Any]]) -> PaperTable:
    names = ("connected", "converged", "safe")
    rows = [
        (
            line["method"],
            *(
                cell
                for name in names
                for cell in (_pm(line, f"{name}_pct", 2), _printed(line, name))
            ),
        )
        for line in lines
    ]
    headings = ("method", "connected %", "paper", "converged %", "paper", "safe %", "paper")
    return PaperTable(
        f"Table 2: operating safety, {FEEDERS[0]}",
        headings,
        rows,
        "Every decision by the AC judge.",
    )


def _table_3(bench: Bench, lines: list[dict[Any, Any]]) -> PaperTable:
    rows = [
        (line["method"], f"{line['seconds']:.2g}", _printed(line, "seconds"), _training(line))
        for line in lines
    ]
    return PaperTable(
        f"Table 3: time of a decision, {FEEDERS[0]}",
        ("method", "seconds", "paper", "training, s"),
        rows,
        f"Single decisions, the first {min(bench.config.timed_scenarios, bench.config.scenarios)} "
        "test scenarios, one core; the paper's on its own machine. training: of one agent, on one "
        "core.",
    )


def _table_4(bench: Bench, lines: list[dict[Any, Any]], learned: tuple[str, ...]) -> PaperTable:
    cells = {(line["feeder"], line["method"]): _pm(line, "safe_pct", 2) for line in lines}
    headings = ["feeder"]
    for name in learned:
        headings += [name, "paper"] if name in PRINTED else [name]
    rows = []
    for feeder in bench.networks:
        row = [feeder]
        for name in learned:
            row += [cells.get((feeder, name), "-")]
            row += [PRINTED[name].get(feeder, "")] if name in PRINTED else []
        rows.append(tuple(row))
    lost = {
        line["feeder"]: line["without_safe_state"] for line in lines if "without_safe_state" in line
    }
    counted = (
        ", ".join(f"{feeder} {int(count)}" for feeder, count in lost.items() if count == count)
        or "not counted"
    )
    return PaperTable(
        "Table 4: safe decisions, %",
        tuple(headings),
        rows,
        f"Mean ± standard deviation over {bench.config.seeds} seed(s). Test scenarios in which no "
        f"tie state can be made safe, of {bench.config.scenarios}: {counted}.",
    )


def _table_5(bench: Bench, lines: list[dict[Any, Any]]) -> PaperTable:
    n_state = {
        name: 2.0 ** bench.settings[name].switchable_branches(net).sum()
        for name, net in bench.networks.items()
    }
    searched = [name for name, count in n_state.items() if count > MOST_STATES]
    rows = []
    for line in lines:
        known = line["gap_pct"] == line["gap_pct"]
        interval = f"{line['gap_low_pct']:.2f} .. {line['gap_high_pct']:.2f}" if known else "-"
        gap = f"{line['gap_pct']:.2f}" if known else "-"
        rows.append((line["feeder"], line["method"], _pm(line, "cost", 1), gap, interval))
    return PaperTable(
        "Table 5: what the paper lacks",
        ("feeder", "method", "mean cost", "gap %", "95 % interval"),
        rows,
        "gap: cost of the safe decisions over that of the best of all tie states with its least "
        f"shedding (plan_search), in the same scenarios. Interval: percentiles of {N_DRAWS} draws "
        "of scenarios and, independently, of seeds."
        + (
            f" Too many states to try all, the best found instead: {', '.join(searched)}."
            if searched
            else ""
        ),
    )


def _training(line: dict[Any, Any]) -> str:
    return f"{line['training_s']:.0f}" if line["method"] in TRAINED else "-"


def _pm(line: dict[Any, Any], name: str, digits: int) -> str:
    mean, std = f"{line[name]:.{digits}f}", line[f"{name}_std"]
    return mean if std != std else f"{mean} ± {std:.{digits}f}"


def _printed(line: dict[Any, Any], name: str) -> str:
    return str(PRINTED.get(line["method"], {}).get(name, ""))


def _write(tables: list[PaperTable], numbers: pd.DataFrame, folder: Path) -> list[Path]:
    """Write the tables; what was timed is in a file of its own, the others are the same to the byte
    for the same seeds.
    """
    paths = [folder / name for name in ("paper_tables.md", "paper_tables.csv", "times.csv")]
    timed = [name for name in numbers.columns if name.startswith(("seconds", "training_s"))]
    write_whole(paths[0], "\n".join(table.markdown() for table in tables).encode())
    write_whole(paths[1], numbers.drop(columns=timed).to_csv(index=False).encode())
    write_whole(paths[2], numbers[["feeder", "method", *timed]].to_csv(index=False).encode())
    return paths
