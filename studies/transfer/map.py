"""The map of the load-transfer chapter: the feeder, and what a decision changes on it."""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go

from feederguard.models.arrays import FloatArray, IntArray
from feederguard.models.network import Network
from feederguard.studies.pages.blocks import Chart
from feederguard.studies.pages.feeder_drawing import (
    MOST_LABELS,
    NO_TEXT,
    FeederDrawing,
    base_traces,
    bus_labels,
    map_layout,
)
from feederguard.studies.pages.figure_style import (
    BLUE,
    GREEN,
    INK,
    MUTED,
    ORANGE,
    VERMILLION,
    new_figure,
    packed,
)
from feederguard.studies.transfer.decision_states import DecisionStates

LEAST_SHED_KW = 0.05  # smaller amounts are a solver's inaccuracy and are not drawn
OVERLOADED = 1.0001  # share of the limit, above rounding and the judge's tolerance

# Traces of the map after those of the bare feeder.
OVER, TIE, DEAD, BUS, DARK, SHED, NAMES, CLOSED, OPENED, FAULT = range(4, 14)
_EMPTY: dict[str, Any] = {"x": [None], "y": [None]}


def map_chart(drawing: FeederDrawing) -> Chart:
    """Return the map of the feeder before anything is chosen."""
    traces = [*base_traces(drawing), *_states_of(drawing), bus_labels(drawing), *_switches()]
    figure = new_figure(traces, **map_layout(drawing))
    return Chart(
        "transfer-map",
        "The feeder after the decision",
        figure,
        "One column per branch from the substation on the left, lengths not to scale; hover over "
        "a bus or a mark for its name and figures.",
        least_width_px=drawing.width_px,
    )


def _states_of(drawing: FeederDrawing) -> list[go.Scatter]:
    """Return the traces of overloaded, closed and dead branches, of buses and of lost loads."""
    network = drawing.network
    large = network.n_bus > MOST_LABELS
    return [
        _lines(VERMILLION, 7, name="over its limit"),
        _lines(GREEN, 3.5, showlegend=False),
        _lines("#c3cad1", 4, name="without supply"),
        go.Scatter(
            x=drawing.x,
            y=drawing.y,
            mode="markers",
            showlegend=False,
            customdata=[None] * network.n_bus,
            text=[f"bus {name}" for name in network.bus_name],
            hovertemplate="%{text}: %{customdata:.4f} pu<extra></extra>",
            marker={
                "size": 5 if large else 8,
                "color": "#fff",
                "line": {"width": 1.6, "color": INK},
            },
        ),
        _lost_loads(
            "dark bus, kW lost (size)",
            "%{hovertext} is dark: %{customdata} kW lost<extra></extra>",
            MUTED,
            {"color": "#dfe3e7", "line": {"width": 1.6, "color": "#8a97a3"}},
        ),
        _lost_loads(
            "load shed, kW (size)",
            "%{hovertext}: %{customdata} kW shed<extra></extra>",
            "#8a5a00",
            {"color": ORANGE, "line": {"width": 1, "color": "#8a5a00"}},
        ),
    ]


def _lines(colour: str, width: float, **look: Any) -> go.Scatter:
    return go.Scatter(
        **_EMPTY, mode="lines", line={"color": colour, "width": width}, hoverinfo="skip", **look
    )


def _lost_loads(name: str, hover: str, ink: str, marker: dict[str, Any]) -> go.Scatter:
    return go.Scatter(
        **_EMPTY,
        mode="markers+text",
        name=name,
        text=NO_TEXT,
        textposition="bottom center",
        textfont={"size": 11, "color": ink},
        hovertemplate=hover,
        marker={"size": 14, "opacity": 0.9, **marker},
    )


def _switches() -> list[go.Scatter]:
    """Return the traces of operated switches, and of the fault."""

    def marks(name: str, symbol: str, colour: str, **marker: Any) -> go.Scatter:
        return go.Scatter(
            **_EMPTY,
            mode="markers+text",
            name=name,
            text=NO_TEXT,
            textposition="top right" if symbol == "square" else "top center",
            hovertemplate="%{hovertext}: " + name + "<extra></extra>",
            textfont={"size": 12, "color": colour},
            marker={"symbol": symbol, "color": colour, "size": 14, **marker},
        )

    return [
        marks("switch closed", "square", GREEN, line={"width": 1.5, "color": "#fff"}),
        marks("switch opened", "square-open", BLUE, line={"width": 3}),
        marks("fault", "x-thin", VERMILLION, size=17, line={"width": 5, "color": VERMILLION}),
    ]


def map_changes(
    network: Network, states: DecisionStates, row: int, fault: int
) -> dict[int, dict[str, Any]]:
    """Return what a decision changes in the traces of the map."""
    closed, v, lost = states.closed[row], states.v[row], states.lost_kw[row]
    live = states.flow.energised[row]
    dead = network.closed & (~closed | ~(live[network.from_bus] & live[network.to_bus]))
    tie_closed, opened = np.flatnonzero(network.is_tie & closed), network.closed & ~closed
    opened[fault] = False
    over = np.flatnonzero(states.loading[row] > OVERLOADED)
    shed = np.flatnonzero(live & (lost >= LEAST_SHED_KW))
    dark = np.flatnonzero(~live)
    peak = 1e3 * network.base_mva * max(float(network.p_load.max()), 1e-12)
    label = network.n_bus <= MOST_LABELS
    size = (9 + 24 * np.sqrt(lost / peak)).round(1)
    return {
        OVER: {"at": ["branch", over.tolist()]},
        TIE: {"at": ["branch", tie_closed.tolist()]},
        DEAD: {"at": ["branch", np.flatnonzero(dead).tolist()]},
        BUS: {"customdata": packed(v)},
        DARK: _loads(dark, lost, size, label),
        SHED: _loads(shed, lost, size, label),
        CLOSED: {
            "at": ["middle", tie_closed.tolist()],
            "text": [NO_TEXT, *(f" close {network.branch_name[b]}" for b in tie_closed)],
        },
        OPENED: marks_at(
            np.flatnonzero(opened).tolist(),
            [f"open {network.branch_name[b]}" for b in np.flatnonzero(opened)],
        ),
    }


def marks_at(items: list[int], labels: list[str]) -> dict[str, Any]:
    """Return the change that puts labelled marks onto branches."""
    # The label is one line above the names of the buses beside it.
    return {"at": ["middle", items], "text": [NO_TEXT, *(f"{label}<br> " for label in labels)]}


def _loads(buses: IntArray, lost_kw: FloatArray, size: FloatArray, label: bool) -> dict[str, Any]:
    """Return the marks of lost loads; a bus without load gets a small mark without a number."""
    told = [
        NO_TEXT if kw < LEAST_SHED_KW else f"{kw:.0f}" if kw >= 9.95 else f"{kw:.1f}"
        for kw in lost_kw[buses]
    ]
    # The first point is not drawn: it is the mark in the legend.
    return {
        "at": ["bus", buses.tolist()],
        "customdata": [None, *lost_kw[buses].round(1).tolist()],
        "marker": {"size": [14.0, *size[buses].tolist()]},
        "text": [NO_TEXT, *told] if label else NO_TEXT,
    }
