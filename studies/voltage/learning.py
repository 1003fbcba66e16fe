"""Learning curves of the voltage agents: cost of a training day, and steps outside the band."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from feederguard.models.arrays import FloatArray, IntArray
from feederguard.studies.pages.blocks import Chart
from feederguard.studies.pages.figure_style import CURVES, decades, new_figure
from feederguard.studies.voltage.tables import BOUND

NO_STEPS = 0.5  # "none" is drawn here on a logarithmic axis of counts
MOST_POINTS = 400  # of a learning curve
_DAYS_AXIS = {"title": {"text": "days of training"}, "rangemode": "tozero"}


def learning_charts(training: pd.DataFrame, days: pd.DataFrame) -> list[Chart]:
    """Return the learning curves: cost of a day, and steps outside the band so far."""
    cost: list[go.Scatter] = []
    outside: list[go.Scatter] = []
    for k, (kind, part) in enumerate(training.groupby("method", sort=False)):
        runs = [one.sort_values("day") for _, one in part.groupby("seed")]
        n = min(len(run) for run in runs)
        width = max(1, n // 20)
        smooth = np.array(
            [(-run["reward"].iloc[:n]).rolling(width, min_periods=1).mean() for run in runs]
        )
        total = np.array([run["violation_steps"].iloc[:n].cumsum() for run in runs], dtype=float)
        kept = np.unique(np.linspace(0, n - 1, min(n, MOST_POINTS)).round().astype(int))
        colour, dash = CURVES[k % len(CURVES)]
        for traces, values, told in (
            (cost, smooth, "cost %{y:.3g}"),
            (outside, np.maximum(total, NO_STEPS), "%{y:.0f} steps"),
        ):
            line = {"color": colour, "width": 2.2, "dash": dash}
            hover = f"day %{{x}}: {told}<extra>{kind}</extra>"
            traces += _spread(kept + 1, values[:, kept], line, str(kind), hover)
    return [_cost_chart([*cost, *_optimum(training, days)]), _outside_chart(outside, training)]


def _optimum(training: pd.DataFrame, days: pd.DataFrame) -> list[go.Scatter]:
    """Return the line of the optimum's cost of a day, nothing if it is not known."""
    optimum = days[(days["method"] == BOUND) & (days["note"] == "")]
    best = -float(optimum["reward"].mean()) if len(optimum) else np.nan
    if not best > 0:
        return []
    ends = [1, int(training["day"].max())]
    return [
        go.Scatter(
            x=ends,
            y=[best, best],
            mode="lines",
            name="ac_opf, mean of the test days",
            hoverinfo="skip",
            line={"color": "#9aa6b0", "width": 1.6, "dash": "dot"},
        )
    ]


def _cost_chart(cost: list[go.Scatter]) -> Chart:
    known = np.concatenate([np.ravel(trace.y) for trace in cost])
    known = known[np.isfinite(known) & (known > 0)]
    ends_of_cost = (np.log10(known.min()), np.log10(known.max())) if len(known) else (0.0, 1.0)
    return Chart(
        "voltage-learning",
        "Learning curves: cost of a day",
        new_figure(
            cost,
            height=360,
            xaxis=_DAYS_AXIS,
            yaxis={"title": {"text": "cost of a day = −reward"}, **decades(*ends_of_cost)},
        ),
        "Moving mean over a twentieth of the training, exploration included. Line: mean over "
        "seeds; shaded: from the lowest to the highest seed.",
        least_width_px=480,
        image="learning_curves.png",
    )


def _outside_chart(outside: list[go.Scatter], training: pd.DataFrame) -> Chart:
    counts = np.log10(
        max(float(training.groupby(["method", "seed"])["violation_steps"].sum().max()), 1.0)
    )
    lowest = float(np.log10(NO_STEPS))
    ticks = decades(0, counts)
    ticks = {
        **ticks,
        "tickvals": [NO_STEPS, *ticks["tickvals"]],
        "ticktext": ["none", *ticks["ticktext"]],
    }
    return Chart(
        "voltage-learning-outside",
        "Learning curves: steps outside the band so far",
        new_figure(
            outside,
            height=360,
            xaxis=_DAYS_AXIS,
            yaxis={
                "title": {"text": "steps outside, in all"},
                **ticks,
                "range": [lowest - 0.1, counts + 0.2],
            },
        ),
        "Steps that training itself would have caused on the feeder, exploration included.",
        least_width_px=480,
    )


def _spread(
    x: IntArray, values: FloatArray, line: dict[str, Any], name: str, hover: str
) -> list[go.Scatter]:
    """Return the mean of values (n_seed, n) as a line, and the range of several seeds shaded."""
    mean = go.Scatter(
        x=x, y=values.mean(axis=0), mode="lines", name=name, line=line, hovertemplate=hover
    )
    if len(values) == 1:
        return [mean]
    edge: dict[str, Any] = {
        "mode": "lines",
        "line": {"width": 0},
        "hoverinfo": "skip",
        "showlegend": False,
    }
    shade = f"rgba({', '.join(str(int(line['color'][k : k + 2], 16)) for k in (1, 3, 5))}, 0.15)"
    return [
        go.Scatter(x=x, y=values.min(axis=0), **edge),
        go.Scatter(x=x, y=values.max(axis=0), fill="tonexty", fillcolor=shade, **edge),
        mean,
    ]
