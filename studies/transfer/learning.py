"""Learning curves of the load-transfer agents: a column of panels per setting, a row per figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from feederguard.models.arrays import FloatArray
from feederguard.studies.pages.blocks import Block, Chart, Prose
from feederguard.studies.pages.figure_style import CURVES, INK, decades, new_figure
from feederguard.studies.trained.transfer_agents import agents_to_train

ROW_PX = 190  # height of a row of panels
HEAD_PX, FOOT_PX = 74, 58  # height of legend and headings, and of the axis below
MARKERS = ("circle", "diamond", "square", "triangle-up")  # of the first curve, the second, ...


@dataclass(frozen=True)
class _Row:
    """A row of panels."""

    title: str  # of its axis
    curves: Mapping[str, str]  # column of the table -> name in the legend, "" for the method's
    log: bool = False


TRIED = (
    _Row("safe, %", {"safe_pct": ""}),
    _Row("mean cost, no unit", {"cost": ""}, log=True),
    _Row("learned reward", {"learned_reward": ""}),
)
RANKED = (
    _Row("loss", {"loss": "loss"}),
    _Row(
        "scenarios, %",
        {
            "first_pct": "cheapest plan ranked first",
            "shortlist_pct": "cheapest plan on the shortlist",
        },
    ),
)


def learning_blocks(
    training: pd.DataFrame, methods: Sequence[str], settings: Sequence[str]
) -> list[Block]:
    """Return the learning curves of the agents behind these methods, and name missing ones.

    training: CURVE_COLUMNS of `trained/transfer_agents.py`.
    """
    blocks: list[Block] = []
    tried = training[training["unit"] == "decisions"]
    ranked = training[training["unit"] == "epochs"]
    if len(tried):
        blocks.append(_tried_chart(tried, "ddpg_safe" in methods))
    if len(ranked):
        blocks.append(_ranked_chart(ranked))
    kept = set(zip(training["setting"], training["method"], strict=True))
    wanted = [(setting, kind) for setting in settings for kind in agents_to_train(methods)]
    missing = [
        f"`{kind}` ({setting} setting)" for setting, kind in wanted if (setting, kind) not in kept
    ]
    if missing:
        blocks.append(
            Prose(
                f"No learning curve of {', '.join(missing)}: the agent was taken from the cache, "
                "where no curve was kept."
            )
        )
    return blocks


def _tried_chart(tried: pd.DataFrame, with_safe: bool) -> Chart:
    safe = (
        " `ddpg_safe` acts on the agent of `ddpg` and learns nothing of its own."
        if with_safe
        else ""
    )
    return Chart(
        "transfer-learning",
        "Learning curves: what the agents tried in training",
        _panels(tried, TRIED, log_x=True),
        "Means over blocks of the decisions tried in training, exploration included: the trained "
        "agent acts without it. Safe: by the AC power flow, of `ddpg_corrected` after its "
        "correction. Cost: equation (1), of safe and unsafe decisions alike. Learned reward: 0 is "
        "no better than shedding everything, halving the "
        "cost adds about 0.7." + safe,
        least_width_px=680,
    )


def _ranked_chart(ranked: pd.DataFrame) -> Chart:
    return Chart(
        "transfer-ranking",
        "Learning curves: the ranking of switching plans",
        _panels(ranked, RANKED, log_x=False),
        "`ranked_switching` after each epoch, on its training scenarios. Loss: cross-entropy "
        "against what the costs of the plans say, which stays above zero where several cost "
        "nearly the same. Below: how often the cheapest plan is ranked first, and how often it is "
        "among those that race by AC flow. A wrong ranking costs money, not safety.",
        least_width_px=680,
    )


def _panels(lines: pd.DataFrame, rows: Sequence[_Row], log_x: bool) -> go.Figure:
    settings, methods = (list(dict.fromkeys(lines[name])) for name in ("setting", "method"))
    figure = make_subplots(
        len(rows),
        len(settings),
        shared_xaxes="all",
        shared_yaxes="rows",
        horizontal_spacing=0.03,
        vertical_spacing=0.16 / len(rows),
        column_titles=[f"{name} setting" for name in settings],
    )
    looks: dict[str, int] = {}  # by name in the legend
    for at, row in enumerate(rows, 1):
        for column, setting in enumerate(settings, 1):
            for method in methods:
                part = lines[(lines["setting"] == setting) & (lines["method"] == method)]
                for values, told in row.curves.items():
                    new = (told or method) not in looks
                    look = looks.setdefault(told or method, len(looks))
                    figure.add_trace(_curve(part, values, told or method, look, new), at, column)
        _scale(figure, at, row, lines)
    _scale_x(figure, len(rows), lines["x"], log_x)
    height = HEAD_PX + FOOT_PX + ROW_PX * len(rows)
    layout = {
        name: value
        for name, value in figure.to_plotly_json()["layout"].items()
        if name != "template"
    }
    styled = new_figure(
        figure.data, **layout, height=height, margin={"l": 60, "r": 26, "t": HEAD_PX, "b": FOOT_PX}
    )
    styled.update_layout(legend={"y": 1 + 26 / (ROW_PX * len(rows))})
    styled.update_annotations(font={"size": 13, "color": INK})
    return styled


def _curve(part: pd.DataFrame, values: str, name: str, look: int, listed: bool) -> go.Scatter:
    colour, dash = CURVES[look % len(CURVES)]
    return go.Scatter(
        x=part["x"],
        y=part[values],
        mode="lines+markers",
        name=name,
        legendgroup=name,
        showlegend=listed,
        line={"color": colour, "width": 2, "dash": dash},
        marker={"symbol": MARKERS[look % len(MARKERS)], "size": 5},
        hovertemplate="after %{x:,.0f}: %{y:.4g}<extra>" + name + "</extra>",
    )


def _scale(figure: go.Figure, at: int, row: _Row, lines: pd.DataFrame) -> None:
    """Give a row of panels one axis over all its values."""
    values = lines[list(row.curves)].to_numpy(dtype=float)
    axis = (
        _logarithmic(values[values > 0])
        if row.log
        else {"range": _ends(values[np.isfinite(values)])}
    )
    figure.update_yaxes(**axis, row=at)
    figure.update_yaxes(title={"text": row.title}, row=at, col=1)


def _scale_x(figure: go.Figure, last: int, x: pd.Series, log_x: bool) -> None:
    values = x.to_numpy(dtype=float)
    figure.update_xaxes(
        **(_logarithmic(values) if log_x else {"range": _ends(np.append(values, 0.0))})
    )
    title = "decisions tried (logarithmic)" if log_x else "epochs of training"
    figure.update_xaxes(title={"text": title}, row=last)


def _logarithmic(values: FloatArray) -> dict[str, Any]:
    low, high = _ends(np.log10(values))
    return {**decades(low, high), "range": [low, high]}


def _ends(values: FloatArray) -> list[float]:
    """Return where an axis over these values begins and ends, with some room."""
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    room = 0.07 * (high - low) or 0.5
    return [low - room, high + room]
