"""The figure of the scaling study: time, gap, solver time and memory over the number of buses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402
from matplotlib.lines import Line2D  # noqa: E402
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator  # noqa: E402

from feederguard.studies.scaling_study.tables import EXACT, FLOOR, STOPPED  # noqa: E402

# Okabe and Ito's palette, which the colour-blind can tell apart; each method has its own mark too.
STYLES = {
    "misocp": ("#D55E00", "s", "exact (misocp)"),
    "genetic": ("#CC79A7", "D", "genetic"),
    "plan_search": ("#009E73", "^", "plan_search"),
    "ranked_switching": ("#0072B2", "o", "learned (ranked_switching)"),
    "power_flow": ("#000000", "x", "one AC power flow (floor)"),
}
LEAST_GAP_PCT, LEAST_MB = 0.01, 0.1  # smaller values are drawn here


def draw(
    summary: pd.DataFrame,
    times: pd.DataFrame,
    decisions: pd.DataFrame,
    trend: pd.DataFrame,
    time_limit_s: float,
    path: Path,
) -> None:
    """Draw decision time, gap, the exact method's solver time and memory into the file `path`."""
    figure, axes = plt.subplots(2, 2, figsize=(12.5, 9.6))
    whole = (summary["decided"] == summary["scenarios"]) & (
        2 * summary["stopped"] < summary["scenarios"]
    )
    _draw_time(axes[0, 0], times.assign(whole=whole), trend)
    _draw_gap(axes[0, 1], summary)
    _draw_solver(axes[1, 0], summary, decisions, time_limit_s)
    _draw_memory(axes[1, 1], times)
    for axis in axes.ravel():
        _size_axis(axis, sorted(summary["n_bus"].unique()))
    shown = [method for method in STYLES if (summary["method"] == method).any()]
    marks: list[Line2D] = [
        Line2D([], [], label=STYLES[method][2], **_mark(method)) for method in shown
    ]
    figure.suptitle(
        "Load transfer after a line fault, radial setting: methods against feeder size (one core)",
        fontsize=13,
    )
    named = "; ".join(
        f"{size['n_bus']} {size['feeder']}"
        for size in summary.drop_duplicates("feeder").sort_values("n_bus").to_dict("records")
    )
    figure.text(
        0.5,
        0.012,
        f"Feeders by buses: {named} (NAME_xN: N copies side by side)",
        ha="center",
        fontsize=8.5,
        wrap=True,
    )
    figure.legend(
        handles=marks,
        loc="lower center",
        ncols=len(shown),
        frameon=False,
        bbox_to_anchor=(0.5, 0.028),
    )
    figure.tight_layout(rect=(0, 0.065, 1, 0.985))
    figure.savefig(path, dpi=140)
    plt.close(figure)


def _mark(method: str, **changes: Any) -> dict[str, Any]:
    colour, marker, _ = STYLES[method]
    return {"color": colour, "marker": marker, "markersize": 7, "linestyle": "none", **changes}


def _shift(size: pd.Series[float], method: str) -> Any:
    """Return sizes shifted a little by method, so that marks of one feeder do not overlap."""
    return size * 1.02 ** (list(STYLES).index(method) - 2)


def _apart(sizes: list[int]) -> list[float]:
    """Return places for labels above marks: rising sizes, moved apart if labels would overlap."""
    places: list[float] = []
    for size in sizes:
        places.append(max(float(size), 1.06 * places[-1]) if places else float(size))
    return places


def _draw_time(axis: Axes, times: pd.DataFrame, trend: pd.DataFrame) -> None:
    slopes = trend.set_index("method")["time_exponent"]
    for method, part in times.dropna(subset=["median_s"]).groupby("method"):
        size, colour = _shift(part["n_bus"], str(method)), STYLES[str(method)][0]
        whole = part["whole"].to_numpy()
        axis.plot(size[whole], part["median_s"][whole], **_mark(str(method)))
        axis.plot(
            size[~whole], part["median_s"][~whole], **_mark(str(method), markerfacecolor="none")
        )
        axis.vlines(size, part["median_s"], part["p99_s"], color=colour, linewidth=1)
        axis.plot(size, part["p99_s"], **_mark(str(method), marker="_", markersize=8))
        if np.isfinite(slopes.get(method, np.nan)):
            last = part.sort_values("n_bus").iloc[-1]
            axis.annotate(
                f"~n$^{{{slopes[method]:.1f}}}$",
                (last["n_bus"], last["median_s"]),
                (12, -3),
                color=colour,
                textcoords="offset points",
                fontsize=9,
            )
    axis.set_yscale("log")
    axis.set_ylabel("seconds per decision")
    axis.set_title(
        "Decision time: median (mark) to 99th percentile (dash);\nhollow: half or more stopped by "
        "a limit",
        fontsize=11,
    )


def _draw_gap(axis: Axes, summary: pd.DataFrame) -> None:
    known = summary[summary["method"] != FLOOR]
    for method, part in known.groupby("method"):
        size = _shift(part["n_bus"], str(method))
        axis.plot(size, part["gap_pct"].clip(lower=LEAST_GAP_PCT), **_mark(str(method)))
        axis.plot(
            size,
            part["excess_pct"].clip(lower=LEAST_GAP_PCT),
            **_mark(str(method), markerfacecolor="none", markersize=11),
        )
    axis.set_yscale("log")
    top = float(np.nanmax([1.0, *known["gap_pct"], *known["excess_pct"]]))
    axis.set_ylim(0.6 * LEAST_GAP_PCT, 12 * top)
    lines = known.drop_duplicates("feeder").sort_values("n_bus").to_dict("records")
    for line, place in zip(lines, _apart([line["n_bus"] for line in lines]), strict=True):
        axis.text(
            place,
            6 * top,
            f"{line['proven']}/{line['compared']}",
            ha="center",
            va="center",
            fontsize=8,
            rotation=90,
        )
    axis.yaxis.set_major_formatter(
        FuncFormatter(lambda y, _: f"≤{y:g}" if y <= LEAST_GAP_PCT else f"{y:g}")
    )
    axis.set_ylabel("cost above the reference, %")
    axis.set_title(
        "Gap: to the proven optimum (filled), to the best that\nany method found (hollow); on "
        "top: scenarios proven",
        fontsize=11,
    )


def _draw_solver(
    axis: Axes, summary: pd.DataFrame, decisions: pd.DataFrame, time_limit_s: float
) -> None:
    size = summary.drop_duplicates("feeder").set_index("feeder")["n_bus"]
    exact = decisions[decisions["method"] == EXACT].assign(
        n_bus=lambda part: part["feeder"].map(size)
    )
    stopped = exact["note"].fillna("").str.startswith(STOPPED) | ~exact["decided"].eq(True)
    axis.plot(
        exact["n_bus"][~stopped],
        exact["solver_s"][~stopped],
        label="solver, optimum proven",
        **_mark(EXACT, alpha=0.8),
    )
    axis.plot(
        exact["n_bus"][stopped],
        exact["solver_s"][stopped],
        label="solver, stopped by the limit",
        **_mark(EXACT, markerfacecolor="none"),
    )
    axis.plot(
        exact["n_bus"] * 1.04,
        exact["seconds"],
        label="whole decision: model, solver, AC check",
        **_mark(EXACT, color="#666666", marker="_", markersize=9),
    )
    axis.axhline(
        time_limit_s,
        color="#000000",
        linestyle=":",
        linewidth=1.2,
        label=f"limit of the solver, {time_limit_s:g} s",
    )
    axis.set_yscale("log")
    low, high = axis.get_ylim()
    axis.set_ylim(low / 40, 9 * high)
    lines = summary[summary["method"] == EXACT].sort_values("n_bus").to_dict("records")
    proven = exact[~stopped].groupby("feeder").size()
    for line, place in zip(lines, _apart([line["n_bus"] for line in lines]), strict=True):
        words = f"{proven.get(line['feeder'], 0)}/{line['scenarios']}"
        axis.text(place, 4.5 * high, words, ha="center", va="center", fontsize=8, rotation=90)
    axis.legend(fontsize=8.5, loc="lower left", ncols=2)
    axis.set_ylabel("seconds per scenario")
    axis.set_title(
        "Exact method, scenario by scenario;\non top: proven within the limit, of all asked",
        fontsize=11,
    )


def _draw_memory(axis: Axes, times: pd.DataFrame) -> None:
    for method, part in times.dropna(subset=["memory_mb"]).groupby("method"):
        axis.plot(
            _shift(part["n_bus"], str(method)),
            part["memory_mb"].clip(lower=LEAST_MB),
            **_mark(str(method)),
        )
    training = times.dropna(subset=["train_mb"])
    axis.plot(
        training["n_bus"],
        training["train_mb"].clip(lower=LEAST_MB),
        label="training of the learned method",
        **_mark("ranked_switching", markerfacecolor="none", markersize=10),
    )
    axis.set_yscale("log")
    axis.yaxis.set_major_formatter(
        FuncFormatter(lambda y, _: f"≤{y:g}" if y <= LEAST_MB else f"{y:g}")
    )
    if len(training):
        axis.legend(fontsize=8.5, loc="upper left")
    axis.set_ylabel("MiB")
    loaded = (
        f"{times['ready_mb'].min():.0f} to {times['ready_mb'].max():.0f} MiB"
        if times["ready_mb"].notna().any()
        else "what"
    )
    axis.set_title(
        f"Memory the feeder takes, beyond the {loaded}\nof the loaded program (largest resident)",
        fontsize=11,
    )


def _size_axis(axis: Axes, sizes: list[int]) -> None:
    axis.set_xscale("log")
    labelled = [n for k, n in enumerate(sizes) if not k or n > 1.15 * sizes[k - 1]]
    axis.xaxis.set_major_locator(FixedLocator(labelled))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.set_xlim(0.8 * sizes[0], 1.6 * sizes[-1])
    axis.set_xlabel("buses")
    axis.grid(alpha=0.3)
