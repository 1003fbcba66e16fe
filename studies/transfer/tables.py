"""The tables, files and figure of a load-transfer comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
from rich import box  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from feederguard.data.sampling import SampledScenarios  # noqa: E402
from feederguard.models.load_transfer import (
    Decisions,  # noqa: E402
    Outcomes,  # noqa: E402
    Report,  # noqa: E402
    Scenarios,  # noqa: E402
    Setting,  # noqa: E402
)
from feederguard.models.network import Network  # noqa: E402
from feederguard.studies.running.files import joined  # noqa: E402
from feederguard.studies.trained.transfer_agents import CURVE_COLUMNS  # noqa: E402

SEARCH = "plan_search"  # its bounds are its own costs


@dataclass(frozen=True, eq=False)
class Question:
    """What a method was asked: one scenario in one setting."""

    setting: str
    method: str
    k: int  # number of the scenario
    network: Network
    sampled: SampledScenarios

    @property
    def scenario(self) -> Scenarios:
        """The scenario, a batch of one."""
        return self.sampled.scenarios[self.k : self.k + 1]

    def columns(self) -> dict[str, Any]:
        """Return the fields of a `Row` that tell the question."""
        network, scenario = self.network, self.scenario
        return {
            "setting": self.setting,
            "method": self.method,
            "scenario": self.k,
            "fault_branch": network.branch_name[int(scenario.fault[0])],
            "hour": int(self.sampled.step[self.k]),
            "load_mw": float(network.base_mva * scenario.p_load.sum()),
            "generation_mw": float(network.base_mva * scenario.p_gen.sum()),
        }


@dataclass(frozen=True)
class Row:
    """One decision: the question, the answer, and what the judge found."""

    setting: str
    method: str
    scenario: int
    fault_branch: str
    hour: int  # row of the hourly profile
    load_mw: float
    generation_mw: float
    cost: float
    reward: float
    shed_ratio: float
    switch_operations: float
    connected: bool
    converged: bool
    safe: bool
    v_min_pu: float
    max_loading: float
    worst_violation: float
    seconds: float
    bound: float  # lower bound or enumerated optimum of the cost, if this method proves one
    repaired: bool
    note: str
    closed_branches: str  # branches that the decision closed, by name
    opened_branches: str
    shed_mw: str  # bus:MW of every bus that sheds
    curtailed_mw: str  # bus:MW of every bus whose generation is curtailed

    @classmethod
    def judged(
        cls,
        question: Question,
        seconds: float,
        decision: Decisions,
        outcome: Outcomes,
        reports: list[Report],
    ) -> Row:
        """Return the row of a judged decision (batches of one)."""
        report = reports[0] if reports else Report(-np.inf, "", seconds, False)
        network, scenario = question.network, question.scenario
        fault, closed = int(scenario.fault[0]), decision.closed[0]
        opened = network.closed & ~closed
        opened[fault] = False
        shed = network.base_mva * decision.shed[0] * scenario.p_load[0]
        off = network.base_mva * decision.curtail[0] * scenario.p_gen[0]
        return cls(
            **question.columns(),
            cost=float(outcome.cost[0]),
            reward=float(outcome.reward[0]),
            shed_ratio=float(outcome.shed_ratio[0]),
            switch_operations=float(outcome.n_operations[0]),
            connected=bool(outcome.connected[0]),
            converged=bool(outcome.converged[0]),
            safe=bool(outcome.safe[0]),
            v_min_pu=float(outcome.v_min_pu[0]),
            max_loading=float(outcome.max_loading[0]),
            worst_violation=float(outcome.worst_violation[0]),
            seconds=seconds,
            bound=report.bound,
            repaired=report.repaired,
            note="; ".join(part for part in (report.reason, report.note) if part),
            closed_branches=_names(network, ~network.closed & closed),
            opened_branches=_names(network, opened),
            shed_mw=joined(
                f"{network.bus_name[i]}:{shed[i]:.6g}" for i in np.flatnonzero(shed > 0)
            ),
            curtailed_mw=joined(
                f"{network.bus_name[i]}:{off[i]:.6g}" for i in np.flatnonzero(off > 0)
            ),
        )

    @classmethod
    def failed(cls, question: Question, seconds: float, why: str) -> Row:
        """Return the row of a scenario for which the method gave no decision."""
        return cls(
            **question.columns(),
            cost=np.nan,
            reward=np.nan,
            shed_ratio=np.nan,
            switch_operations=np.nan,
            connected=False,
            converged=False,
            safe=False,
            v_min_pu=np.nan,
            max_loading=np.nan,
            worst_violation=np.nan,
            seconds=seconds,
            bound=-np.inf,
            repaired=False,
            note=why,
            closed_branches="",
            opened_branches="",
            shed_mw="",
            curtailed_mw="",
        )


@dataclass(frozen=True, eq=False)
class TransferResults:
    """What a comparison found."""

    feeder: str  # as the user named it
    network: Network
    sampled: SampledScenarios
    decisions: pd.DataFrame  # a line per decision: the fields of `Row` without its seconds
    times: pd.DataFrame  # setting, method, scenario, seconds
    training_s: Mapping[tuple[str, str], float]  # by setting and method, of learned methods
    # Learning curves, a line per point, the columns CURVE_COLUMNS.
    training: pd.DataFrame = field(
        default_factory=lambda: pd.DataFrame(columns=list(CURVE_COLUMNS))
    )
    settings: tuple[Setting, ...] = ()  # that the decisions were made and judged by

    @property
    def rows(self) -> pd.DataFrame:
        """The decisions with their seconds."""
        return self.decisions.merge(self.times, on=list(_AT), validate="one_to_one")


_AT = ("setting", "method", "scenario")
# Columns of the summary that differ from run to run.
TIMES = ("seconds_mean", "seconds_p99", "training_s")


def table_of(rows: Sequence[Row]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the decisions and the times of rows, as in `TransferResults`."""
    table = pd.DataFrame([asdict(row) for row in rows])
    return table.drop(columns="seconds"), table[[*_AT, "seconds"]]


def summarise(results: TransferResults) -> pd.DataFrame:
    """Return one line per setting and method: means, percentages, and the gap to the best bound.

    Means of what was decided are over the scenarios that every method of the setting answered, so
    that they compare; a method that answered none has none, and holds back nobody. Percentages and
    seconds are over all scenarios.

    The gap compares sums over the safe decisions: it says how much more the method costs in all. It
    is NaN if there is no safe decision or no bound. Where no exact method proved a bound, the cost
    that `plan_search` found by trying every state counts.
    """
    table = results.rows
    table["reference"] = best_references(table)
    table["compared"] = _answered_by_all(table)
    lines = []
    for (setting, method), whole in table.groupby(["setting", "method"], sort=False):
        part = whole[whole["compared"]]
        known = whole[whole["reference"].notna() & whole["safe"]]
        gap = known["cost"].sum() / known["reference"].sum() - 1 if len(known) else np.nan
        lines.append(
            {
                "setting": setting,
                "method": method,
                "cost": part["cost"].mean(),
                "reward_x1e-4": 1e4 * part["reward"].mean(),
                "shed_ratio": part["shed_ratio"].mean(),
                "switch_operations": part["switch_operations"].mean(),
                "connected_pct": 100 * whole["connected"].mean(),
                "converged_pct": 100 * whole["converged"].mean(),
                "safe_pct": 100 * whole["safe"].mean(),
                "seconds_mean": whole["seconds"].mean(),
                "seconds_p99": whole["seconds"].quantile(0.99),
                "gap_pct": 100 * gap,
                "repaired": int(whole["repaired"].sum()),
                "failed": int(whole["cost"].isna().sum()),
                "left_out": len(whole) - len(part),
                "training_s": results.training_s.get((str(setting), str(method)), np.nan),
            }
        )
    return pd.DataFrame(lines)


def _answered_by_all(table: pd.DataFrame) -> pd.Series:
    """Return which rows are of a scenario that every method of the setting answered."""
    some = table.groupby(["setting", "method"])["cost"].transform("count") > 0
    # A method that answered nothing has no mean to spoil.
    unanswered = some & table["cost"].isna()
    return ~unanswered.groupby([table["setting"], table["scenario"]]).transform("any")


def best_references(table: pd.DataFrame) -> pd.Series:
    """Return the best bound of each row's scenario, NaN where there is none."""
    searched = table["method"] == SEARCH
    by_scenario = [table["setting"], table["scenario"]]
    proven, tried = (
        table["bound"]
        .where(mask & np.isfinite(table["bound"]))
        .groupby(by_scenario)
        .transform("max")
        for mask in (~searched, searched)
    )
    return proven.fillna(tried)


def print_tables(summary: pd.DataFrame, feeder: str, n_scenarios: int, console: Console) -> None:
    """Print one table per setting."""
    for setting, part in summary.groupby("setting", sort=False):
        title = f"Load transfer on {feeder}, {setting} setting, {n_scenarios} test scenarios"
        table = Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
        for heading in (
            "method",
            "cost",
            "reward\nx1e-4",
            "shed\nratio",
            "switch\noper.",
            "conn.\n%",
            "conv.\n%",
            "safe\n%",
            "mean\ns",
            "p99\ns",
            "gap\n%",
        ):
            table.add_column(
                heading, justify="left" if heading == "method" else "right", no_wrap=True
            )
        for line in part.to_dict("records"):
            table.add_row(
                line["method"] + "*" * bool(line["failed"]),
                f"{line['cost']:.1f}",
                f"{line['reward_x1e-4']:.1f}",
                f"{line['shed_ratio']:.3f}",
                f"{line['switch_operations']:.2f}",
                f"{line['connected_pct']:.1f}",
                f"{line['converged_pct']:.1f}",
                f"{line['safe_pct']:.1f}",
                _seconds(line["seconds_mean"]),
                _seconds(line["seconds_p99"]),
                "-" if np.isnan(line["gap_pct"]) else f"{line['gap_pct']:.2f}",
            )
        console.print(table)
        for line in part.to_dict("records"):
            if line["repaired"] or line["failed"]:
                console.print(
                    f"  {line['method']}: {line['repaired']} decision(s) made AC-exact after "
                    f"solving, {line['failed']} scenario(s) without a decision; see "
                    "decisions.parquet"
                )
        left_out = int(part["left_out"].max())
        if left_out:
            console.print(
                f"  cost, reward, shed and operations leave out the {left_out} scenario(s) that "
                "some method did not answer, for every method."
            )
    console.print(
        "cost (1) and reward (11) as in Zhou et al. 2024; s: seconds per decision; gap: total cost "
        "of the safe decisions over the total of their best bounds (radial: proven by the MISOCP; "
        "paper: the enumerated AC optimum; if that was left out and every state was tried, the "
        f"cost of {SEARCH})."
    )


def write_results(results: TransferResults, summary: pd.DataFrame, folder: Path) -> list[Path]:
    """Write the tables and cost.png into the folder and return their paths.

    summary.csv, decisions.parquet and training.parquet are the same to the byte for the same seed.
    Measured seconds are in times.csv and times.parquet.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = (
        "summary.csv",
        "times.csv",
        "decisions.parquet",
        "training.parquet",
        "times.parquet",
        "cost.png",
    )
    paths = [folder / name for name in names]
    summary.drop(columns=list(TIMES)).to_csv(paths[0], index=False)
    summary[["setting", "method", *TIMES]].to_csv(paths[1], index=False)
    results.decisions.to_parquet(paths[2], index=False)
    results.training.to_parquet(paths[3], index=False)
    results.times.to_parquet(paths[4], index=False)
    _draw(results.decisions, results.feeder, paths[5])
    return paths


def _draw(table: pd.DataFrame, feeder: str, path: Path) -> None:
    """Draw the cost of every decision, scenarios in order of their cheapest safe decision."""
    settings = list(table["setting"].unique())
    figure, axes = plt.subplots(
        1, len(settings), figsize=(6.2 * len(settings), 4.4), squeeze=False, sharey=True
    )
    methods = list(table["method"].unique())
    # Later methods are drawn smaller, so that equal costs show as nested marks.
    style = {
        method: {
            "marker": "osD^vP*"[k % 7],
            "markersize": 8.0 - 6.0 * k / len(methods),
            "color": f"C{k}",
            "linestyle": "none",
        }
        for k, method in enumerate(methods)
    }
    for axis, setting in zip(axes[0], settings, strict=True):
        part = table[table["setting"] == setting]
        cheapest = part[part["safe"]].groupby("scenario")["cost"].min()
        rank = cheapest.sort_values().reset_index().reset_index().set_index("scenario")["index"]
        for method in (m for m in methods if (part["method"] == m).any()):
            one = part[part["method"] == method].set_index("scenario")
            place = one.index.map(rank)
            marks: dict[str, Any] = style[method]
            safe = one["safe"].to_numpy()
            axis.plot(place[safe], one["cost"][safe], label=method, **marks)
            axis.plot(place[~safe], one["cost"][~safe], markerfacecolor="none", **marks)
        axis.set_yscale("log")
        axis.set_title(f"{feeder}, {setting} setting")
        axis.set_xlabel("scenario, by cost of its cheapest safe decision")
        axis.grid(alpha=0.3)
    axes[0][0].set_ylabel("cost, equation (1)")
    handles, labels = axes[0][0].get_legend_handles_labels()
    n_line = -(-len(methods) // (4 * len(settings)))
    figure.tight_layout(rect=(0, 0.05 + 0.04 * n_line, 1, 1))
    figure.legend(
        handles,
        labels,
        ncols=-(-len(methods) // n_line),
        loc="lower center",
        frameon=False,
        title="filled: safe by the AC power flow; hollow: not",
    )
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _names(network: Network, mask: np.ndarray) -> str:
    return joined(network.branch_name[b] for b in np.flatnonzero(mask))


def _seconds(value: float) -> str:
    return f"{value:.2g}" if value < 10 else f"{value:.0f}"
