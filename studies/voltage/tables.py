"""The tables, files and pictures of a voltage-regulation comparison.

Every figure of a learned method is formed per seed first. Shown is the mean over seeds, and for
several seeds a 95 % interval by Student's t. Worst excursions are the worst of all seeds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402
from rich import box  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402
from scipy.stats import t as student  # type: ignore[import-untyped]  # noqa: E402

from feederguard.models.arrays import FloatArray  # noqa: E402
from feederguard.studies.voltage.tube_worth import print_tube_table  # noqa: E402

BOUND = "ac_opf"

# Okabe and Ito's colours for learned methods, which the colour-blind can tell apart. Each has a
# mark or dash of its own too.
_COLOURS = {
    "df_srl": "#D55E00",
    "td3": "#0072B2",
    "ddpg": "#009E73",
    "safe_ddpg": "#CC79A7",
    "sac": "#E69F00",
    "ppo": "#56B4E9",
    "df_srl_no_tube": "#D55E00",
    "idle_safe": "#8B5A2B",
    "ac_opf": "#000000",
    "lindistflow_opf": "#000000",
}
_GREY = "#7F7F7F"
_MARKS = "osD^vP*X<>hd"
_DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)))

# Figures formed per seed.
_MEANS = (
    "violation_steps",
    "violation_pct",
    "regulation_kwh_day",
    "energy_kwh_day",
    "reward_day",
    "soc_short_kwh_day",
    "gap_pct",
    "gap_days",
    "training_violation_steps",
    "training_violation_pct",
    "training_s",
)


# Columns of the summary that differ from run to run.
TIMES = ("training_s", "training_s_ci95", "decision_ms", "decision_outside_ms")


@dataclass(frozen=True, eq=False)
class VoltageResults:
    """What a comparison found, three tables in engineering units."""

    feeder: str
    days: pd.DataFrame  # a line per method, seed and test day
    # A line per kind of agent, seed and day of training, in the order in which the days ended.
    training: pd.DataFrame
    methods: pd.DataFrame  # a line per method: decision times, shares of the layer's statuses
    # By method, of its first seed: powers on the test days, (n_day, n_step, n_bat) pu.
    schedules: Mapping[str, FloatArray]
    # `tube_table` of `tube_worth.py`, if df_srl ran with the tube and without.
    tube: pd.DataFrame | None = None


def with_optimum(days: pd.DataFrame) -> pd.DataFrame:
    """Return the day table with `energy_kwh`, (1) of `study.py`, and `optimum_kwh` of the date.

    The optimum is NaN if it was not computed, was not found, or left the band.
    """
    table = days.assign(energy_kwh=days["regulation_kwh"] + days["refill_kwh"])
    best = table[(table["method"] == BOUND) & (table["violation_steps"] == 0)].set_index("date")[
        "energy_kwh"
    ]
    return table.assign(optimum_kwh=table["date"].map(best).astype(float))


def gap(part: pd.DataFrame) -> tuple[float, int]:
    """Return the gap to the AC optimum in percent, and the number of days that it is formed over.

    part: lines of one method and seed from `with_optimum`. Days with a step outside the band are
    left out. The gap is NaN if no energy is left to compare with.
    """
    held = part[(part["violation_steps"] == 0) & part["optimum_kwh"].notna()]
    best = held["optimum_kwh"].sum()
    if not best > 0:
        return np.nan, len(held)
    return 100.0 * float(held["energy_kwh"].sum() / best - 1.0), len(held)


def summarise(results: VoltageResults) -> pd.DataFrame:
    """Return one line per method: means over seeds, and half-widths in the columns `..._ci95`."""
    days = with_optimum(results.days)
    times = results.methods.set_index("method")
    lines = []
    for method in times.index:
        mine = days[days["method"] == method]
        training = results.training[results.training["method"] == method]
        by_seed = pd.DataFrame(
            [
                {**_test_figures(part), **_training_figures(training[training["seed"] == seed])}
                for seed, part in mine.groupby("seed")
            ]
        )
        line: dict[str, Any] = {
            "method": method,
            "seeds": len(by_seed),
            "days": mine["date"].nunique(),
        }
        line |= {"failed_days": int((mine["note"] != "").sum())}
        for name in _MEANS:
            line[name] = by_seed[name].mean()
            line[name + "_ci95"] = _half_width(by_seed[name])
        line["worst_excess_pu"] = mine["worst_excess_pu"].max()
        line["training_worst_pu"] = training["worst_excess_pu"].max() if len(training) else np.nan
        for name, number in (
            ("training_days", len(training)),
            ("training_steps", training["steps"].sum()),
        ):
            line[name] = number / len(by_seed) if len(training) else np.nan
        line["decision_ms"] = 1e3 * times.loc[method, "decision_s"]
        line["decision_outside_ms"] = 1e3 * times.loc[method, "decision_outside_s"]
        lines.append(
            line
            | {name: times.loc[method, name] for name in times.columns if name.startswith("layer_")}
        )
    return pd.DataFrame(lines)


def _test_figures(part: pd.DataFrame) -> dict[str, float]:
    solved = part[part["note"] == ""]
    percent, n_day = gap(part)
    return {
        "violation_steps": solved["violation_steps"].sum(),
        "violation_pct": 100.0 * solved["violation_steps"].sum() / max(1, solved["steps"].sum()),
        "regulation_kwh_day": solved["regulation_kwh"].mean(),
        "energy_kwh_day": solved["energy_kwh"].mean(),
        "reward_day": solved["reward"].mean(),
        "soc_short_kwh_day": solved["soc_short_kwh"].mean(),
        "gap_pct": percent,
        "gap_days": n_day,
    }


def _training_figures(part: pd.DataFrame) -> dict[str, float]:
    if part.empty:
        return dict.fromkeys(
            ("training_violation_steps", "training_violation_pct", "training_s"), np.nan
        )
    return {
        "training_violation_steps": part["violation_steps"].sum(),
        "training_violation_pct": 100.0 * part["violation_steps"].sum() / part["steps"].sum(),
        "training_s": part["training_s"].iloc[0],
    }


def _half_width(values: pd.Series) -> float:
    """Return half the 95 % interval of the mean, NaN for fewer than two values."""
    known = values.dropna()
    if len(known) < 2:
        return float("nan")
    return float(student.ppf(0.975, len(known) - 1) * known.std(ddof=1) / np.sqrt(len(known)))


def print_tables(summary: pd.DataFrame, results: VoltageResults, console: Console) -> None:
    """Print the tables of test days and training, and notes to read them by."""
    one_day = results.days.drop_duplicates("date")
    n_step = one_day["steps"].sum()
    title = f"Voltage regulation on {results.feeder}: {len(one_day)} test days, {n_step} steps"
    headings = (
        "method",
        "outside\nsteps",
        "outside\n%",
        "worst\npu",
        "energy\nkWh/day",
        "SOC short\nkWh/day",
        "reward\na day",
        "gap to\nAC opt. %",
        "over\ndays",
        "decision\nms",
        "where V is\noutside, ms",
    )
    table = _table(title, headings)
    for line in _records(summary):
        table.add_row(
            line["method"] + "*" * bool(line["failed_days"]),
            _spread(line, "violation_steps", "{:.0f}"),
            _spread(line, "violation_pct", "{:.2f}"),
            _excess(line["worst_excess_pu"]),
            _spread(line, "regulation_kwh_day", "{:.1f}"),
            _spread(line, "soc_short_kwh_day", "{:.2f}"),
            _spread(line, "reward_day", "{:.2f}"),
            _spread(line, "gap_pct", "{:.1f}"),
            "-" if np.isnan(line["gap_pct"]) else f"{line['gap_days']:.0f}",
            _figure(line["decision_ms"], "{:.2g}"),
            _figure(line["decision_outside_ms"], "{:.2g}"),
        )
    console.print(table)
    learned = summary[summary["training_s"].notna()]
    if len(learned):
        _print_training(learned, console)
    if results.tube is not None:
        print_tube_table(results.tube, console)
    _print_notes(summary, results, console)


def _print_training(learned: pd.DataFrame, console: Console) -> None:
    headings = (
        "method",
        "days",
        "steps",
        "outside\nsteps",
        "outside\n%",
        "worst\npu",
        "training\ns",
    )
    table = _table("The same in training, exploration included", headings)
    for line in _records(learned):
        table.add_row(
            line["method"],
            _figure(line["training_days"], "{:.0f}"),
            f"{line['training_steps']:.0f}",
            _spread(line, "training_violation_steps", "{:.0f}"),
            _spread(line, "training_violation_pct", "{:.2f}"),
            _excess(line["training_worst_pu"]),
            _figure(line["training_s"], "{:.0f}"),
        )
    console.print(table)


def _print_notes(summary: pd.DataFrame, results: VoltageResults, console: Console) -> None:
    for line in _records(summary):
        if not np.isnan(line["layer_corrected"]):
            console.print(
                f"  {line['method']}, its safety layer: {_percent(line['layer_as_proposed'])} of "
                f"the test decisions as proposed, {_percent(line['layer_corrected'])} corrected, "
                f"{_percent(line['layer_tube_left'])} outside the SOC tube to hold the voltage, "
                f"{_percent(line['layer_slack_used'])} with slack, "
                f"{_percent(line['layer_failed'])} failed",
                soft_wrap=True,
                markup=False,
            )
    for line in _records(results.days[results.days["note"] != ""]):
        console.print(
            f"  *{line['method']} has no plan of {line['date']:%Y-%m-%d}: {line['note']}",
            soft_wrap=True,
            markup=False,
        )
    seeds = summary["seeds"].max()
    several = f" Learned methods: means over {seeds} seeds +- 95 % interval." if seeds > 1 else ""
    console.print(
        "outside: steps with a bus outside its band by over 1e-5 pu by the AC power flow; energy: "
        "through the batteries' terminals; SOC short: stored energy missing at the end of the "
        "day. gap: energy plus the energy to buy back (missing / charging efficiency), over that "
        "of ac_opf (perfect information, same start and end), on the days that the method held; "
        "energy left over is no credit. decision: median of single decisions, with layer and AC "
        f"check if the method has them; of the optima, a day's time over its steps.{several}",
        soft_wrap=True,
        markup=False,
    )


def write_results(summary: pd.DataFrame, results: VoltageResults, folder: Path) -> list[Path]:
    """Write the tables, learning_curves.png and test_days.png; return their paths.

    summary.csv, days.parquet, training.parquet and schedules.npz are the same to the byte for the
    same seeds. Measured seconds are in times.csv.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = (
        "summary.csv",
        "times.csv",
        "days.parquet",
        "training.parquet",
        "schedules.npz",
        "learning_curves.png",
        "test_days.png",
    )
    paths = [folder / name for name in names]
    days = with_optimum(results.days)
    summary.drop(columns=list(TIMES)).to_csv(paths[0], index=False)
    summary[["method", *TIMES]].to_csv(paths[1], index=False)
    days.to_parquet(paths[2], index=False)
    results.training.drop(columns="training_s").to_parquet(paths[3], index=False)
    schedules: dict[str, Any] = {
        name: p.astype(np.float32) for name, p in results.schedules.items()
    }
    np.savez_compressed(paths[4], **schedules)
    if results.tube is not None:
        paths.insert(5, folder / "soc_tube.csv")
        results.tube.to_csv(paths[5], index=False)
    if len(results.training):
        _draw_learning(results.training, days, results.feeder, paths[-2])
    else:
        # Curves of an earlier run would look like this run's.
        paths.pop(-2).unlink(missing_ok=True)
    _draw_test_days(summary, results.feeder, paths[-1])
    return paths


def _draw_learning(training: pd.DataFrame, days: pd.DataFrame, feeder: str, path: Path) -> None:
    """Draw cost and steps outside the band over the days of training, a line per kind of agent."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11.5, 4.8))
    for k, kind in enumerate(dict.fromkeys(training["method"])):
        look: dict[str, Any] = {
            "color": _COLOURS.get(kind, _GREY),
            "linestyle": _DASHES[k % len(_DASHES)],
        }
        by_seed = [part for _, part in training[training["method"] == kind].groupby("seed")]
        n_day = min(len(part) for part in by_seed)
        day = np.arange(1, n_day + 1)
        cost = np.array([_moving_mean(-part["reward"].to_numpy()[:n_day]) for part in by_seed])
        outside = np.array(
            [part["violation_steps"].to_numpy()[:n_day].cumsum() for part in by_seed]
        )
        for axis, values in ((left, cost), (right, outside)):
            axis.plot(day, values.mean(axis=0), label=kind, linewidth=1.8, **look)
            if len(values) > 1:
                axis.fill_between(
                    day,
                    values.min(axis=0),
                    values.max(axis=0),
                    color=look["color"],
                    alpha=0.15,
                    linewidth=0,
                )
    optimum = days[(days["method"] == BOUND) & (days["note"] == "")]
    if len(optimum):
        left.axhline(-optimum["reward"].mean(), color="0.35", linewidth=1.0)
        left.annotate(
            "ac_opf, mean of the test days",
            (0.99, -optimum["reward"].mean()),
            xycoords=left.get_yaxis_transform(),
            xytext=(0, 3),
            textcoords="offset points",
            ha="right",
            fontsize=8,
            color="0.35",
        )
    left.set_yscale("log")
    left.set_ylabel("cost of a day = -reward, moving mean")
    right.set_yscale("symlog", linthresh=1.0)
    right.set_ylim(bottom=-0.3)
    right.set_ylabel("steps outside the band so far")
    for axis in (left, right):
        axis.set_xlabel(f"days of training ({training['steps'].iloc[0]} steps each)")
        axis.grid(alpha=0.3)
    figure.suptitle(f"Training on {feeder}, exploration included")
    handles, labels = left.get_legend_handles_labels()
    figure.tight_layout(rect=(0, 0.07, 1, 1))
    figure.legend(handles, labels, ncols=len(labels), loc="lower center", frameon=False)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _moving_mean(values: np.ndarray) -> np.ndarray:
    """Return the moving mean over a twentieth of all values, over fewer at the beginning."""
    width = max(1, len(values) // 20)
    total = np.concatenate([[0.0], values.cumsum()])
    end = np.arange(1, len(values) + 1)
    begin = np.maximum(end - width, 0)
    return np.asarray((total[end] - total[begin]) / (end - begin))


def _draw_test_days(summary: pd.DataFrame, feeder: str, path: Path) -> None:
    """Draw steps outside the band over energy spent on the test days, a mark per method."""
    figure, axis = plt.subplots(figsize=(8.6, 4.8))
    known = summary[summary["energy_kwh_day"].notna()].reset_index(drop=True)
    for k, line in enumerate(_records(known)):
        look: dict[str, Any] = {
            "color": _COLOURS.get(line["method"], _GREY),
            "marker": _MARKS[k % len(_MARKS)],
        }
        # Later marks are smaller, so that equal results show as nested marks.
        axis.errorbar(
            line["energy_kwh_day"],
            line["violation_pct"],
            xerr=np.nan_to_num(line["energy_kwh_day_ci95"]),
            yerr=np.nan_to_num(line["violation_pct_ci95"]),
            label=line["method"],
            linestyle="none",
            markersize=11.0 - 5.5 * k / len(known),
            alpha=0.9,
            **look,
        )
    _scale_shares(axis, known["violation_pct"].to_numpy())
    most, spent = float(known["energy_kwh_day"].max()), known["energy_kwh_day"] > 1.0
    if spent.any() and most > 20 * float(known.loc[spent, "energy_kwh_day"].min()):
        axis.set_xscale("symlog", linthresh=10.0)
        axis.set_xlim(-1.5, 2 * most)
    axis.set_xlabel(
        "energy through the batteries' terminals, what is missing at the end bought back, kWh/day"
    )
    axis.set_ylabel("steps outside the band, %")
    axis.set_title(f"{feeder}, {summary['days'].max()} test days")
    axis.grid(alpha=0.3)
    axis.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _scale_shares(axis: Axes, shares: np.ndarray) -> None:
    """Scale the axis so that percentages down to zero can be read."""
    axis.set_yscale("symlog", linthresh=0.01)
    axis.set_ylim(-0.003, max(1.0, 3.0 * float(shares.max(initial=0.0))))
    ticks = [0.0, 0.01, 0.1, 1.0, 10.0, 100.0]
    shown = [tick for tick in ticks if tick <= axis.get_ylim()[1]]
    axis.set_yticks(shown, [f"{tick:g}" for tick in shown])


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in line.items()} for line in table.to_dict("records")]


def _table(title: str, headings: tuple[str, ...]) -> Table:
    table = Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in headings:
        table.add_column(heading, justify="left" if heading == "method" else "right", no_wrap=True)
    return table


def _spread(line: dict[str, Any], name: str, shape: str) -> str:
    """Return the mean, and its interval on a second line if there is one."""
    width = line[name + "_ci95"]
    return _figure(line[name], shape) + ("" if np.isnan(width) else f"\n+-{shape.format(width)}")


def _figure(value: float, shape: str) -> str:
    text = "-" if np.isnan(value) else shape.format(value)
    # A zero that rounding made negative is a zero.
    return text.removeprefix("-") if text.strip("-0.") == "" and len(text) > 1 else text


def _excess(value: float) -> str:
    """Return a distance from the band in pu; a distance within the tolerance is 0."""
    if np.isnan(value):
        return "-"
    return "0" if value <= 1e-5 else f"{value:.4f}"


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"
