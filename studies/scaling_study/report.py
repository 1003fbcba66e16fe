"""The scaling study as a chapter of a report: charts of time and memory, and the numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from feederguard.studies.pages.blocks import Chart, DataTable, Prose, Section
from feederguard.studies.pages.figure_style import CURVES, new_figure
from feederguard.studies.pages.number_text import number

_MARKS = ("circle", "square", "diamond", "triangle-up", "cross", "x", "star")
_QUESTION = (
    "How do time and memory of load-transfer methods grow with the feeder? Each method answers "
    "random faults in the radial setting, on one core and in its own process. `NAME_xN` is N "
    "copies of a feeder side by side, tied to each other. The exact method (`misocp`) is stopped "
    "after {limit:g} s of its solver. `power_flow` is one AC power flow, which every method needs "
    "at least.\n\nThe gap is formed over the scenarios whose optimum is proven. If a method made "
    "fewer decisions than asked, the last column of the table says why."
)


def scaling_section(
    summary: pd.DataFrame, times: pd.DataFrame, trend: pd.DataFrame, time_limit_s: float
) -> Section:
    """Return the chapter of the tables of `tables.summarise` and `tables.exponents`."""
    joined = summary.merge(times.drop(columns="n_bus"), on=["feeder", "method"], how="left")
    charts = (
        _chart(
            joined,
            "time",
            "Time of a decision",
            "median_s",
            "median seconds per decision (logarithmic)",
        ),
        _chart(
            joined,
            "memory",
            "Memory that the feeder takes",
            "memory_mb",
            "largest resident MiB (logarithmic)",
        ),
    )
    return Section(
        "scaling",
        "How it grows",
        (Prose(_QUESTION.format(limit=time_limit_s)), *charts, _table(joined), _trend(trend)),
    )


def _chart(joined: pd.DataFrame, name: str, title: str, column: str, axis: str) -> Chart:
    """Return a log-log figure, a line per method."""
    traces = []
    for k, (method, part) in enumerate(joined.groupby("method", sort=False)):
        known = part[part[column] > 0].sort_values("n_bus")
        colour, dash = CURVES[k % len(CURVES)]
        traces.append(
            go.Scatter(
                x=known["n_bus"].tolist(),
                y=known[column].tolist(),
                name=str(method),
                mode="lines+markers",
                line={"color": colour, "dash": dash},
                marker={"symbol": _MARKS[k % len(_MARKS)], "size": 9},
                text=known["feeder"].tolist(),
                hovertemplate="%{text}, %{x} buses<br>%{y:.3g}",
            )
        )
    sizes: list[int] = []
    for size in sorted(set(joined["n_bus"])):
        # Labels of feeders of nearly the same size would overlap.
        if not sizes or size > 1.25 * sizes[-1]:
            sizes.append(int(size))
    figure = new_figure(
        traces,
        height=440,
        xaxis={"type": "log", "title": {"text": "buses (logarithmic)"}, "tickvals": sizes},
        yaxis={"type": "log", "title": {"text": axis}, "dtick": 1, "tickformat": "~g"},
    )
    return Chart(f"scaling-{name}", title, figure, image="scaling.png" if name == "time" else "")


def _table(joined: pd.DataFrame) -> DataTable:
    headings = (
        "feeder",
        "buses",
        "method",
        "decided",
        "safe, %",
        "median, ms",
        "99 % within, ms",
        "gap to the proven optimum, %",
        "proven",
        "memory, MiB",
        "training, s",
        "note",
    )
    rows = []
    for line in joined.to_dict("records"):
        rows.append(
            (
                str(line["feeder"]),
                str(line["n_bus"]),
                str(line["method"]),
                f"{line['decided']} of {line['scenarios']}",
                _shown(line, "safe_pct"),
                _shown(line, "median_s", 1e3),
                _shown(line, "p99_s", 1e3),
                _shown(line, "gap_pct"),
                f"{line['proven']:.0f}",
                _shown(line, "memory_mb"),
                _shown(line, "train_s"),
                "" if pd.isna(line["note"]) else str(line["note"]),
            )
        )
    return DataTable(
        "Every feeder and method", headings, tuple(rows), "Seconds and memory are of this machine."
    )


def _trend(trend: pd.DataFrame) -> DataTable:
    headings = tuple(str(name).replace("_", " ") for name in trend.columns)
    rows = tuple(
        tuple(
            "-" if pd.isna(value) else f"{value:.3g}" if isinstance(value, float) else str(value)
            for value in line
        )
        for line in trend.itertuples(index=False)
    )
    return DataTable(
        "Growth: slope over the number of buses, log-log",
        headings,
        rows,
        "-: too few feeders are left.",
    )


def _shown(line: Mapping[Any, Any], name: str, scale: float = 1.0) -> str:
    value = line[name]
    return (
        number(scale * float(value))
        if isinstance(value, int | float) and not pd.isna(value)
        else "-"
    )
