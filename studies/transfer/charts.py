"""Cost, gap to the optimum and decision times of a load-transfer comparison, a row per method."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from feederguard.models.load_transfer import Setting
from feederguard.studies.pages.blocks import Chart
from feederguard.studies.pages.figure_style import (
    BLACK,
    BLUE,
    GREEN,
    INK,
    ORANGE,
    VERMILLION,
    decades,
    new_figure,
)
from feederguard.studies.pages.number_text import milliseconds
from feederguard.studies.transfer.paper_tables import PRINTED
from feederguard.studies.transfer.report_tables import is_papers

LEAST_GAP_PCT = 0.01  # the axis of gaps begins here


def cost_chart(part: pd.DataFrame, setting: Setting) -> Chart:
    """Return the box plots of cost and of the gap to the optimum, a row per method."""
    methods = list(dict.fromkeys(part["method"]))
    best = part.drop_duplicates("scenario")["reference"].dropna()
    figure = make_subplots(rows=1, cols=2, shared_yaxes=True, horizontal_spacing=0.04)
    if len(best):
        figure.add_trace(
            go.Box(
                x=best,
                y=["the optimum"] * len(best),
                name="the optimum",
                fillcolor="#d8dde2",
                **_boxes(INK),
            ),
            1,
            1,
        )
        figure.add_vline(
            x=float(best.median()), line={"color": INK, "width": 1.4, "dash": "dash"}, col=1, row=1
        )
    lost = sum(_add_method(figure, method, part[part["method"] == method]) for method in methods)
    figure.add_vline(x=LEAST_GAP_PCT, line={"color": INK, "width": 2.5}, col=2, row=1)
    _axes_of_boxes(figure, [*reversed(methods), *(["the optimum"] if len(best) else [])], part)
    styled = new_figure(
        figure.data,
        **_without_template(figure),
        height=80 + 34 * (len(methods) + 1),
        margin={"l": 60, "r": 26, "t": 8, "b": 52},
    )
    note = (
        ""
        if not lost
        else f" {lost} decisions where the optimum costs nothing have no relative gap."
    )
    return Chart(
        f"transfer-cost-{setting.name}",
        f"Cost and gap to the optimum, {setting.name} setting",
        styled,
        "A point per fault, boxes from the lower to the upper quartile. Left: cost of the safe "
        "decisions; red crosses are decisions that are not safe, in no box; dashed: the optimum's "
        "median. Right: by how much a safe decision costs more than the optimum of the same "
        f"fault; the thick line is the optimum itself, and gaps up to {LEAST_GAP_PCT:g} % are "
        f"drawn on it.{note}",
        least_width_px=680,
        image="cost.png",
    )


def _add_method(figure: go.Figure, method: str, part: pd.DataFrame) -> int:
    """Add the row of a method and return how many of its safe decisions have no relative gap."""
    one = part[part["cost"].notna()]
    safe, broken = one[one["safe"]], one[~one["safe"].astype(bool)]
    gap = 100 * (safe["cost"] / safe["reference"] - 1)
    lost = int((~np.isfinite(gap) & safe["reference"].notna()).sum())
    gap = gap[np.isfinite(gap)].clip(lower=LEAST_GAP_PCT)
    for column, values in ((1, safe["cost"]), (2, gap)):
        if len(values):
            figure.add_trace(
                go.Box(
                    x=values,
                    y=[method] * len(values),
                    name=method,
                    hovertemplate="%{x:.4g}<extra>" + method + "</extra>",
                    fillcolor="#cfe5f4",
                    **_boxes(BLUE),
                ),
                1,
                column,
            )
    if len(broken):
        figure.add_trace(
            go.Scatter(
                x=broken["cost"],
                y=[method] * len(broken),
                mode="markers",
                showlegend=False,
                hovertemplate="not safe, cost %{x:.4g}<extra>" + method + "</extra>",
                marker={"symbol": "x-thin", "size": 8, "line": {"width": 1.8, "color": VERMILLION}},
            ),
            1,
            1,
        )
    return lost


def _boxes(colour: str) -> dict[str, Any]:
    return {
        "orientation": "h",
        "boxpoints": "all",
        "jitter": 0.5,
        "pointpos": 0,
        "width": 0.6,
        "showlegend": False,
        "line": {"width": 1.5, "color": colour},
        "marker": {"size": 3.5, "opacity": 0.55, "color": colour},
    }


def _axes_of_boxes(figure: go.Figure, rows: list[str], part: pd.DataFrame) -> None:
    cost = part.loc[part["cost"] > 0, "cost"]
    ends = (np.log10(cost.min()), np.log10(cost.max())) if len(cost) else (0.0, 1.0)
    figure.update_xaxes(**decades(*ends), title={"text": "cost, equation (1), no unit"}, col=1)
    safe = part[part["safe"].astype(bool) & part["reference"].notna() & (part["reference"] > 0)]
    most = 100 * float((safe["cost"] / safe["reference"]).max()) if len(safe) else 100.0
    figure.update_xaxes(
        **decades(np.log10(LEAST_GAP_PCT), np.log10(max(most, 10.0)), f"≤ {LEAST_GAP_PCT:g}"),
        col=2,
        title={"text": "cost above the optimum, %"},
        range=[np.log10(LEAST_GAP_PCT) - 0.15, max(1.1, np.log10(max(most, 1.0)) + 0.2)],
    )
    figure.update_yaxes(
        categoryorder="array", categoryarray=rows, showgrid=False, range=[-0.6, len(rows) - 0.4]
    )


def _without_template(figure: go.Figure) -> dict[str, Any]:
    layout: dict[str, Any] = figure.to_plotly_json()["layout"]
    return {name: value for name, value in layout.items() if name not in ("template", "height")}


def times_chart(summary: pd.DataFrame, feeder: str) -> Chart:
    """Return the bars of decision times, beside the printed ones on the paper's feeder."""
    methods = list(dict.fromkeys(summary["method"]))
    traces = _time_bars(summary)
    printed = {name: float(PRINTED[name]["seconds"]) for name in methods if name in PRINTED}
    if is_papers(summary, feeder) and printed:
        traces.append(
            go.Scatter(
                y=list(printed),
                x=[1e3 * s for s in printed.values()],
                mode="markers",
                name="as printed by Zhou et al., their machine",
                marker={"symbol": "diamond-open", "size": 10, "color": BLACK, "line": {"width": 2}},
                hovertemplate="%{y}: %{x:.3g} ms<extra>printed</extra>",
            )
        )
    known = 1e3 * summary["seconds_mean"].dropna().clip(lower=1e-7)
    top = max(
        float(known.max()),
        1e3 * max(printed.values(), default=0.0) if is_papers(summary, feeder) else 0.0,
    )
    low, high = np.floor(np.log10(known.min())), np.log10(top)
    figure = new_figure(
        traces,
        barmode="group",
        bargap=0.3,
        height=120 + 24 * len(methods) * max(1, summary["setting"].nunique()),
        xaxis={
            "title": {"text": "time of a decision, ms (logarithmic)"},
            "range": [low - 0.2, high + 0.12 * (high - low) + 0.2],
            **decades(low, high),
        },
        yaxis={"categoryorder": "array", "categoryarray": methods[::-1], "showgrid": False},
    )
    return Chart(
        "transfer-times",
        "Time of a decision",
        figure,
        "One decision at a time, with the AC checks that the method makes itself. A step of the "
        "axis is a factor of ten.",
        least_width_px=620,
    )


def _time_bars(summary: pd.DataFrame) -> list[Any]:
    """Return the bars of each setting."""
    traces: list[Any] = []
    looks = ((BLUE, ""), (ORANGE, "/"), (GREEN, "x"), (VERMILLION, "."))
    for k, (setting, part) in enumerate(summary.groupby("setting", sort=False)):
        mean = 1e3 * part["seconds_mean"].to_numpy()
        colour, shape = looks[k % len(looks)]
        traces.append(
            go.Bar(
                y=part["method"],
                x=mean,
                orientation="h",
                name=f"{setting} setting, mean",
                offsetgroup=str(k),
                marker={
                    "color": colour,
                    "pattern": {"shape": shape, "bgcolor": colour, "fgcolor": "#fff", "size": 6},
                },
                text=[f" {milliseconds(float(t) / 1e3)} " for t in mean],
                textposition="outside",
                cliponaxis=False,
                textfont={"size": 11},
                hovertemplate="%{y}: %{x:.3g} ms<extra>" + str(setting) + " setting, mean</extra>",
            )
        )
    return traces
