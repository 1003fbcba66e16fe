"""Charts of one day: voltages against the band, powers and state of charge of the batteries."""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go

from feederguard.models.arrays import FloatArray
from feederguard.models.network import Network
from feederguard.models.voltage_regulation.rules import judged_buses
from feederguard.studies.pages.blocks import Chart
from feederguard.studies.pages.figure_style import (
    BLUE,
    GREEN,
    ORANGE,
    PURPLE,
    SKY,
    VERMILLION,
    new_figure,
    packed,
)
from feederguard.studies.voltage.bench import VoltageBench

VOLTAGE, POWER, SOC = "voltage-day", "voltage-power", "voltage-soc"


def band(network: Network) -> tuple[float, float]:
    """Return the lowest and the highest limit of the judged buses, pu."""
    judged = judged_buses(network)
    return float(network.v_min[judged].min()), float(network.v_max[judged].max())


def clock_time(hours: float) -> str:
    """Return hours since midnight as HH:MM."""
    minutes = round(60 * hours)
    return f"{minutes // 60:02d}:{minutes % 60:02d}"


def envelope(v: FloatArray, at: tuple[int, int]) -> dict[int, dict[str, Any]]:
    """Return the changes of two traces to the lowest and highest of the voltages (T, n_judged)."""
    return {at[0]: {"y": packed(v.min(axis=-1))}, at[1]: {"y": packed(v.max(axis=-1))}}


def voltage_chart(bench: VoltageBench, lowest: float, highest: float) -> Chart:
    """Return the voltages of a day before anything is chosen.

    lowest, highest: voltages that the axis must show, pu.
    """
    low, high = band(bench.network)
    x = _hours(bench).tolist()
    common: dict[str, Any] = {"x": x, "y": [None] * len(x), "mode": "lines"}
    idle: dict[str, Any] = {
        "line": {"color": "#9aa6b0", "width": 1.5, "dash": "dot", "shape": "hv"}
    }
    text = [clock_time(t) for t in x]
    traces = [
        go.Scatter(
            **common, **idle, name="batteries idle, lowest and highest bus", hoverinfo="skip"
        ),
        go.Scatter(**common, **idle, showlegend=False, hoverinfo="skip"),
        go.Scatter(
            **common,
            name="lowest bus",
            line={"color": BLUE, "width": 2, "shape": "hv"},
            text=text,
            hovertemplate="%{text}: %{y:.4f} pu<extra>lowest bus</extra>",
        ),
        go.Scatter(
            **common,
            name="highest bus",
            line={"color": ORANGE, "width": 2.4, "dash": "8px,2px", "shape": "hv"},
            text=text,
            hovertemplate="%{text}: %{y:.4f} pu<extra>highest bus</extra>",
        ),
        *(
            go.Scatter(
                x=[0, x[-1] + bench.test.step_h],
                y=[limit, limit],
                mode="lines",
                name="limit",
                showlegend=limit == low,
                hoverinfo="skip",
                line={"color": VERMILLION, "width": 1.6, "dash": "dash"},
            )
            for limit in (low, high)
        ),
    ]
    room = 0.006
    figure = new_figure(
        traces,
        height=330,
        xaxis=_clock_axis(bench),
        yaxis={
            "title": {"text": "voltage, pu"},
            "range": [min(lowest, low) - room, max(highest, high) + room],
        },
    )
    return Chart(VOLTAGE, "Lowest and highest voltage over the day", figure, least_width_px=520)


def power_chart(bench: VoltageBench) -> Chart:
    """Return the powers of a day before anything is chosen."""
    x = (_hours(bench) + bench.test.step_h / 2).tolist()
    text = [clock_time(t) for t in _hours(bench)]
    common: dict[str, Any] = {"x": x, "y": [None] * len(x), "text": text, "textposition": "none"}
    hover = "%{text}: %{y:.1f} kW<extra>%{fullData.name}</extra>"
    figure = new_figure(
        [
            go.Bar(**common, name="charging", hovertemplate=hover, marker={"color": GREEN}),
            go.Bar(
                **common,
                name="discharging",
                hovertemplate=hover,
                marker={
                    "color": PURPLE,
                    "pattern": {"shape": "/", "bgcolor": PURPLE, "fgcolor": "#fff", "size": 5},
                },
            ),
        ],
        height=280,
        barmode="relative",
        bargap=0.08,
        xaxis=_clock_axis(bench),
        yaxis={
            "title": {"text": "power of all batteries, kW"},
            "zeroline": True,
            "zerolinecolor": "#9aa6b0",
        },
    )
    return Chart(POWER, "Power of the batteries", figure, least_width_px=520)


def power_changes(p_kw: FloatArray) -> dict[int, dict[str, Any]]:
    """Return what powers (T, n_bat) change in the bars."""
    return {
        0: {"y": packed(np.maximum(p_kw, 0).sum(axis=1))},
        1: {"y": packed(np.minimum(p_kw, 0).sum(axis=1))},
    }


def soc_chart(bench: VoltageBench) -> Chart:
    """Return the states of charge of a day before anything is chosen."""
    x = _hours(bench, ends=True).tolist()
    common: dict[str, Any] = {
        "x": x,
        "y": [None] * len(x),
        "mode": "lines",
        "text": [clock_time(t) for t in x],
    }
    hover = "%{text}: %{y:.1f} %<extra>%{fullData.name}</extra>"
    edge = {"color": SKY, "width": 1}
    start = 100 * float(bench.batteries.soc_start.mean())
    figure = new_figure(
        [
            go.Scatter(
                **common, name="emptiest battery", line=edge, hovertemplate=hover, showlegend=False
            ),
            go.Scatter(
                **common,
                name="emptiest to fullest battery",
                line=edge,
                fill="tonexty",
                fillcolor="rgba(86,180,233,0.25)",
                hovertemplate="%{text}: %{y:.1f} %<extra>fullest battery</extra>",
            ),
            go.Scatter(
                **common, name="mean", line={"color": BLUE, "width": 2.4}, hovertemplate=hover
            ),
            go.Scatter(
                x=[0, x[-1]],
                y=[start, start],
                mode="lines",
                name="at the start of the day",
                hoverinfo="skip",
                line={"color": "#9aa6b0", "width": 1.4, "dash": "dash"},
            ),
        ],
        height=280,
        xaxis=_clock_axis(bench),
        yaxis={"title": {"text": "state of charge, %"}, "range": [-2, 102]},
    )
    return Chart(SOC, "State of charge", figure, least_width_px=520)


def soc_changes(soc_pct: FloatArray) -> dict[int, dict[str, Any]]:
    """Return what states of charge (T + 1, n_bat) change in the lines."""
    return {
        k: {"y": packed(soc)}
        for k, soc in enumerate((soc_pct.min(axis=1), soc_pct.max(axis=1), soc_pct.mean(axis=1)))
    }


def _hours(bench: VoltageBench, ends: bool = False) -> FloatArray:
    return np.asarray(np.arange(bench.test.n_step + ends) * bench.test.step_h, dtype=np.float64)


def _clock_axis(bench: VoltageBench) -> dict[str, Any]:
    last = bench.test.n_step * bench.test.step_h
    every = 3.0 if last > 12 else max(bench.test.step_h, last / 8)
    ticks = np.arange(0.0, last + 1e-9, every)
    return {
        "title": {"text": "time of day"},
        "range": [0, last],
        "tickmode": "array",
        "tickvals": ticks.tolist(),
        "ticktext": [clock_time(t) for t in ticks],
    }
