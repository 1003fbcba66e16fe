"""Tables 1 to 4 of Zhou et al., Energy Engineering 121(6), 2024, beside our figures, and a fifth.

With c the costs of the safe decisions of a method, and c* those of the same scenarios by
`plan_search`, which tries every tie state here,

    (a)  gap = sum c / sum c* - 1, sums over scenarios and seeds

Its 95 % interval holds the middle 95 % of (a) over N_DRAWS draws, with replacement, of the seeds
and, independently, of the scenarios. This is a crossed bootstrap: all seeds share the scenarios, so
the costs of one seed, or of one scenario, are not independent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table

from feederguard.models.arrays import BoolArray, FloatArray
from feederguard.models.load_transfer import Setting
from feederguard.models.load_transfer.judge import EPSILON
from feederguard.models.network import Network
from feederguard.models.switching.plans import MOST_STATES
from feederguard.studies.running.files import write_whole
from feederguard.studies.trained.transfer_agents import TRAINED

FEEDERS = ("ieee33", "bus69_zhou", "caracas141")
METHODS = ("genetic", "ddpg", "ddpg_corrected", "ddpg_safe", "ranked_switching", "plan_search")
REFERENCE = "plan_search"
N_DRAWS = 2000
JUDGED = ("cost", "reward", "shed_ratio", "n_operations", "connected", "converged", "safe")

# (feeder, method) -> quantity -> (n_seed, n_scenario)
Trials = dict[tuple[str, str], dict[str, FloatArray]]

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


@dataclass(frozen=True, eq=False)
class PaperResults:
    """What the study found, and on how many seeds and scenarios."""

    networks: Mapping[str, Network]
    settings: Mapping[str, Setting]
    seeds: int
    scenarios: int  # of the test
    genetic_scenarios: int  # the first of them, for the genetic algorithm
    timed_scenarios: int  # the first of them, decided one by one and timed
    trials: Trials


def gap_interval(
    cost: FloatArray, safe: BoolArray, reference: FloatArray
) -> tuple[float, float, float]:
    """Return (a) and the ends of its 95 % interval; NaN if no scenario counts.

    cost, safe: (n_seed, n_scenario). reference: c*, (n_scenario,), NaN where no state is safe; such
    scenarios are left out.
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


def figures(results: PaperResults) -> pd.DataFrame:
    """Return one line per feeder and method.

    It holds the mean and standard deviation over seeds of each quantity, the gap and its interval.
    """
    lines: list[dict[str, Any]] = []
    trials, feeders = results.trials, list(results.networks)
    places = {at: (feeders.index(at[0]), METHODS.index(at[1])) for at in trials}
    for (feeder, method), held in sorted(trials.items(), key=lambda item: places[item[0]]):
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


def paper_tables(results: PaperResults) -> list[PaperTable]:
    """Return Tables 1 to 5, without those that would be empty."""
    known = figures(results).to_dict("records")
    first = [line for line in known if line["feeder"] == FEEDERS[0]]
    tables = [_table_1(results, first), _table_2(first), _table_3(results, first)] if first else []
    learned = tuple(
        name
        for name in METHODS
        if name in TRAINED and any(line["method"] == name for line in known)
    )
    return [
        *tables,
        *([_table_4(results, known, learned)] if learned else []),
        _table_5(results, known),
    ]


def _table_1(results: PaperResults, lines: list[dict[Any, Any]]) -> PaperTable:
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
    n_genetic = min(results.genetic_scenarios, results.scenarios)
    return PaperTable(
        f"Table 1: actions and rewards, {FEEDERS[0]}",
        headings,
        rows,
        f"Mean ± standard deviation over {results.seeds} seed(s), {results.scenarios} test "
        f"scenarios (genetic: the first {n_genetic}). reward: 1 / (mean cost + {EPSILON:g}), the "
        "one comparable with the paper's; mean (11): mean of the rewards with their penalties, "
        "which cheap scenarios and unsafe decisions rule. plan_search has no seed.",
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


def _table_3(results: PaperResults, lines: list[dict[Any, Any]]) -> PaperTable:
    rows = [
        (line["method"], f"{line['seconds']:.2g}", _printed(line, "seconds"), _training(line))
        for line in lines
    ]
    return PaperTable(
        f"Table 3: time of a decision, {FEEDERS[0]}",
        ("method", "seconds", "paper", "training, s"),
        rows,
        f"Single decisions, the first {min(results.timed_scenarios, results.scenarios)} test "
        "scenarios, one core; the paper's on its own machine. training: of one agent, on one core.",
    )


def _table_4(
    results: PaperResults, lines: list[dict[Any, Any]], learned: tuple[str, ...]
) -> PaperTable:
    cells = {(line["feeder"], line["method"]): _pm(line, "safe_pct", 2) for line in lines}
    headings = ["feeder"]
    for name in learned:
        headings += [name, "paper"] if name in PRINTED else [name]
    rows = []
    for feeder in results.networks:
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
        f"Mean ± standard deviation over {results.seeds} seed(s). Test scenarios in which no tie "
        f"state can be made safe, of {results.scenarios}: {counted}.",
    )


def _table_5(results: PaperResults, lines: list[dict[Any, Any]]) -> PaperTable:
    n_state = {
        name: 2.0 ** results.settings[name].switchable_branches(net).sum()
        for name, net in results.networks.items()
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


def write_tables(tables: list[PaperTable], numbers: pd.DataFrame, folder: Path) -> list[Path]:
    """Write paper_tables.md, paper_tables.csv and times.csv into the folder; return their paths.

    Measured seconds are in times.csv alone. The other two are the same to the byte for the same
    seeds.
    """
    paths = [folder / name for name in ("paper_tables.md", "paper_tables.csv", "times.csv")]
    timed = [name for name in numbers.columns if name.startswith(("seconds", "training_s"))]
    write_whole(paths[0], "\n".join(table.markdown() for table in tables).encode())
    write_whole(paths[1], numbers.drop(columns=timed).to_csv(index=False).encode())
    write_whole(paths[2], numbers[["feeder", "method", *timed]].to_csv(index=False).encode())
    return paths
