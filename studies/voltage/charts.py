"""Charts of a voltage comparison, a row per method: energy, gap, steps outside the band, times."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from feederguard.studies.pages.blocks import Chart
from feederguard.studies.pages.figure_style import (
    BLUE,
    INK,
    ORANGE,
    VERMILLION,
    decades,
    new_figure,
)
from feederguard.studies.pages.number_text import milliseconds, number
from feederguard.studies.voltage.tables import BOUND

LEAST_GAP_PCT = 0.1  # the axis of gaps begins here


def energy_chart(days: pd.DataFrame) -> Chart:
    """Return the box plots of energy and of the gap to the optimum, a row per method."""
    methods = list(dict.fromkeys(days["method"]))
    figure = make_subplots(rows=1, cols=2, shared_yaxes=True, horizontal_spacing=0.04)
    held = days[(days["violation_steps"] == 0) & days["optimum_kwh"].gt(0)]
    held = held.assign(gap=100 * (held["energy_kwh"] / held["optimum_kwh"] - 1))
    energies = days.loc[days["energy_kwh"] > 0, "energy_kwh"]
    floor = 10.0 ** np.floor(np.log10(max(float(energies.min()), 0.1))) if len(energies) else 0.1
    for method in methods:
        energy = days.loc[days["method"] == method, "energy_kwh"].dropna().clip(lower=floor)
        gap = held.loc[held["method"] == method, "gap"].clip(lower=LEAST_GAP_PCT)
        for column, values in ((1, energy), (2, gap)):
            if len(values):
                figure.add_trace(_box(method, values), 1, column)
    best = days.loc[(days["method"] == BOUND) & days["optimum_kwh"].gt(0), "optimum_kwh"]
    if len(best):
        figure.add_vline(
            x=float(best.median()), line={"color": INK, "width": 1.4, "dash": "dash"}, col=1, row=1
        )
    figure.add_vline(x=LEAST_GAP_PCT, line={"color": INK, "width": 2.5}, col=2, row=1)
    _axes_of_boxes(figure, floor, energies, held["gap"])
    figure.update_yaxes(
        categoryorder="array",
        categoryarray=methods[::-1],
        showgrid=False,
        range=[-0.6, len(methods) - 0.4],
    )
    layout = {
        name: value
        for name, value in figure.to_plotly_json()["layout"].items()
        if name != "template"
    }
    styled = new_figure(
        figure.data,
        **layout,
        height=80 + 34 * max(2, len(methods)),
        margin={"l": 60, "r": 26, "t": 8, "b": 52},
    )
    return Chart(
        "voltage-energy",
        "Energy of a day and gap to the optimum",
        styled,
        "A point per day (and seed), boxes from the lower to the upper quartile. Energy: through "
        "the batteries' terminals, and what buying back the energy missing at the end of the day "
        "would draw. Dashed: the optimum's median. Right: only days on which the method held the "
        f"band; the thick line is the optimum itself, where all gaps up to {LEAST_GAP_PCT:g} % "
        "stand.",
        least_width_px=680,
        image="test_days.png",
    )


def _box(method: str, values: pd.Series) -> go.Box:
    colour = INK if method == BOUND else BLUE
    return go.Box(
        x=values,
        y=[method] * len(values),
        name=method,
        orientation="h",
        boxpoints="all",
        jitter=0.5,
        pointpos=0,
        width=0.6,
        showlegend=False,
        fillcolor="#d8dde2" if method == BOUND else "#cfe5f4",
        line={"width": 1.5, "color": colour},
        marker={"size": 3.5, "opacity": 0.5, "color": colour},
        hovertemplate="%{x:.4g}<extra>" + method + "</extra>",
    )


def _axes_of_boxes(figure: go.Figure, floor: float, energies: pd.Series, gaps: pd.Series) -> None:
    top = np.log10(max(float(energies.max()), 10 * floor)) if len(energies) else 1.0
    figure.update_xaxes(
        **decades(np.log10(floor), top, f"≤ {floor:g}"),
        range=[np.log10(floor) - 0.15, top + 0.15],
        title={"text": "energy of a day, kWh"},
        col=1,
    )
    most = np.log10(max(float(gaps.max()) if len(gaps) else 1.0, 10.0))
    figure.update_xaxes(
        **decades(np.log10(LEAST_GAP_PCT), most, f"≤ {LEAST_GAP_PCT:g}"),
        range=[np.log10(LEAST_GAP_PCT) - 0.15, most + 0.2],
        title={"text": "energy above the optimum, %"},
        col=2,
    )


def outside_chart(summary: pd.DataFrame) -> Chart:
    """Return the bars of steps outside the band."""
    share = summary["violation_pct"].fillna(0.0)
    figure = new_figure(
        [
            go.Bar(
                y=summary["method"],
                x=share,
                orientation="h",
                showlegend=False,
                cliponaxis=False,
                textposition="outside",
                text=[" none" if s == 0 else f" {number(float(s))} %" for s in share],
                textfont={"size": 11},
                marker={"color": VERMILLION},
                hovertemplate="%{y}: %{x:.3g} % of the steps<extra></extra>",
            )
        ],
        height=80 + 26 * max(2, len(summary)),
        margin={"l": 60, "r": 40, "t": 8, "b": 48},
        xaxis={
            "title": {"text": "steps with a bus outside its band, %"},
            "rangemode": "tozero",
            "range": [0, max(1.0, 1.12 * float(share.max()))],
        },
        yaxis={
            "categoryorder": "array",
            "categoryarray": list(summary["method"])[::-1],
            "showgrid": False,
        },
    )
    return Chart("voltage-outside", "How often the band was left", figure, least_width_px=420)


def times_chart(summary: pd.DataFrame) -> Chart:
    """Return the bars of decision times."""
    looks = (
        ("decision_ms", "over all steps", BLUE, ""),
        ("decision_outside_ms", "where idle batteries leave the band", ORANGE, "/"),
    )
    traces = []
    for k, (column, name, colour, shape) in enumerate(looks):
        times = summary[column]
        traces.append(
            go.Bar(
                y=summary["method"],
                x=times,
                orientation="h",
                name=name,
                offsetgroup=str(k),
                cliponaxis=False,
                marker={
                    "color": colour,
                    "pattern": {"shape": shape, "bgcolor": colour, "fgcolor": "#fff", "size": 6},
                },
                text=["" if t != t else f" {milliseconds(t / 1e3)} " for t in times],
                textposition="outside",
                textfont={"size": 11},
                hovertemplate="%{y}: %{x:.3g} ms<extra>" + name + "</extra>",
            )
        )
    known = (
        pd.concat([summary["decision_ms"], summary["decision_outside_ms"]])
        .dropna()
        .clip(lower=1e-5)
    )
    low, high = (
        (np.floor(np.log10(known.min())), np.log10(known.max())) if len(known) else (0.0, 1.0)
    )
    figure = new_figure(
        traces,
        barmode="group",
        bargap=0.3,
        height=120 + 40 * max(2, len(summary)),
        xaxis={
            "title": {"text": "time of a decision, ms (logarithmic)"},
            "range": [low - 0.2, high + 0.14 * (high - low) + 0.2],
            **decades(low, high),
        },
        yaxis={
            "categoryorder": "array",
            "categoryarray": list(summary["method"])[::-1],
            "showgrid": False,
        },
    )
    return Chart(
        "voltage-times",
        "Time of a decision",
        figure,
        "Median of single decisions, with safety layer and AC check if the method has them; of "
        "the optima, a day's time over its steps. A step of the axis is a factor of ten.",
        least_width_px=620,
    )
