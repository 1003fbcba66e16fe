"""The map of the voltage chapter: the worst voltage of each bus, the energy of each battery."""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go

from feederguard.models.arrays import FloatArray, IntArray
from feederguard.models.network import Network
from feederguard.models.voltage_regulation.judge import SAFE_TOLERANCE_PU
from feederguard.models.voltage_regulation.rules import judged_buses
from feederguard.studies.pages.blocks import Chart
from feederguard.studies.pages.feeder_drawing import (
    NO_TEXT,
    FeederDrawing,
    base_traces,
    bus_labels,
    map_layout,
)
from feederguard.studies.pages.figure_style import (
    BLACK,
    BLUE,
    GREEN,
    INK,
    VERMILLION,
    new_figure,
    packed,
)
from feederguard.studies.voltage.bench import VoltageBench
from feederguard.studies.voltage.day_charts import band, clock_time

MAP = "voltage-map"
# Traces of the map after those of the bare feeder.
_BATTERY, _BUS, _LOW, _HIGH = range(4, 8)


def map_chart(bench: VoltageBench, drawing: FeederDrawing) -> Chart:
    """Return the map of the feeder before anything is chosen."""
    outside: dict[str, Any] = {"x": [None], "y": [None], "mode": "markers", "hoverinfo": "skip"}
    traces = [
        *base_traces(drawing),
        _batteries(bench, drawing),
        _buses(bench.network, drawing),
        go.Scatter(
            **outside,
            name="below its band",
            marker={
                "symbol": "triangle-down",
                "size": 17,
                "color": BLUE,
                "line": {"width": 1.5, "color": BLACK},
            },
        ),
        go.Scatter(
            **outside,
            name="above its band",
            marker={
                "symbol": "triangle-up",
                "size": 17,
                "color": VERMILLION,
                "line": {"width": 1.5, "color": BLACK},
            },
        ),
        bus_labels(drawing),
    ]
    layout = map_layout(drawing)
    layout["margin"]["b"] = 60
    layout["height"] += 70
    return Chart(
        MAP,
        "The feeder on that day",
        new_figure(traces, **layout),
        "One column per branch from the substation on the left, lengths not to scale. Each bus "
        "shows the voltage at which it came nearest to a limit, or went furthest beyond it, and "
        "hovering tells when; the squares under the buses are the batteries.",
        least_width_px=drawing.width_px,
    )


def _batteries(bench: VoltageBench, drawing: FeederDrawing) -> go.Scatter:
    spots = battery_places(bench, drawing)
    return go.Scatter(
        x=spots["x"],
        y=spots["y"],
        mode="markers+text",
        name="battery, kWh through its terminals (size)",
        hovertext=spots["name"],
        customdata=[0.0] * len(spots["x"]),
        text=[NO_TEXT] * len(spots["x"]),
        textposition="bottom center",
        textfont={"size": 10, "color": "#04674b"},
        hovertemplate="battery %{hovertext}: %{customdata:.1f} kWh<extra></extra>",
        marker={
            "symbol": "square",
            "color": GREEN,
            "opacity": 0.75,
            "size": [5] * len(spots["x"]),
            "line": {"width": 0},
        },
    )


def _buses(network: Network, drawing: FeederDrawing) -> go.Scatter:
    low, high = band(network)
    middle, reach = (low + high) / 2, 0.75 * (high - low)
    return go.Scatter(
        x=drawing.x,
        y=drawing.y,
        mode="markers",
        name="bus, coloured by the day's worst voltage",
        text=[f"bus {name}" for name in network.bus_name],
        customdata=[""] * network.n_bus,
        hovertemplate="%{text}: %{marker.color:.4f} pu at %{customdata}<extra></extra>",
        marker={
            "size": 13,
            "line": {"width": 1.5, "color": INK},
            "color": [middle] * network.n_bus,
            "cmin": middle - reach,
            "cmax": middle + reach,
            "colorscale": [[0, BLUE], [0.5, "#ffffff"], [1, VERMILLION]],
            "colorbar": {
                "orientation": "h",
                "thickness": 10,
                "len": 0.45,
                "x": 0.5,
                "y": 0,
                "yanchor": "top",
                "outlinewidth": 0,
                "tickvals": [low, middle, high],
                "ticktext": [f"{low:g} lower limit", f"{middle:g}", f"{high:g} upper limit"],
                "title": {"text": "voltage, pu", "side": "top", "font": {"size": 12}},
            },
        },
    )


def map_changes(
    bench: VoltageBench, v: FloatArray, used_kwh: FloatArray
) -> dict[int, dict[str, Any]]:
    """Return what a day changes in the traces of the map.

    v: (T, n_bus) pu; used_kwh: energy through each battery, (n_bat,).
    """
    network = bench.network
    judged = np.isin(np.arange(network.n_bus), judged_buses(network))
    worst, step = worst_voltages(network, v)
    most = max(float((1e3 * network.base_mva * bench.batteries.energy).max()), 1e-12)
    size = (5 + 26 * np.sqrt(np.minimum(used_kwh / most, 2.0))).round(1)
    # A step without a solution has no voltage; its buses count as too low.
    low = np.flatnonzero(~(worst >= network.v_min - SAFE_TOLERANCE_PU) & judged)
    high = np.flatnonzero((worst > network.v_max + SAFE_TOLERANCE_PU) & judged)
    return {
        _BATTERY: {
            "marker": {"size": size.tolist()},
            "text": [f"{kwh:.0f}" if kwh >= 0.5 else NO_TEXT for kwh in used_kwh],
            "customdata": packed(used_kwh),
        },
        _BUS: {
            "marker": {"color": packed(worst)},
            "customdata": [clock_time(t * bench.test.step_h) for t in step],
        },
        _LOW: {"at": ["bus", low.tolist()]},
        _HIGH: {"at": ["bus", high.tolist()]},
    }


def battery_places(bench: VoltageBench, drawing: FeederDrawing) -> dict[str, list[Any]]:
    """Return the places of the batteries, under their buses, and their names."""
    buses = bench.batteries.bus
    return {
        "x": drawing.x[buses].tolist(),
        "y": (drawing.y[buses] - 0.34).tolist(),
        "name": list(bench.batteries.name),
    }


def worst_voltages(network: Network, v: FloatArray) -> tuple[FloatArray, IntArray]:
    """Return each bus's voltage nearest to a limit, or furthest beyond one, and its step.

    v: a day, (T, n_bus). NaN, a step without a solution, counts as the worst.
    """
    excess = np.maximum(network.v_min - v, v - network.v_max)
    step = np.where(np.isnan(excess), np.inf, excess).argmax(axis=0)
    return v[step, np.arange(network.n_bus)], step
