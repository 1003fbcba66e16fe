"""Charts of voltages and branch loadings in the order of the map, before and after a decision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go

from feederguard.models.arrays import FloatArray
from feederguard.studies.pages.blocks import Chart
from feederguard.studies.pages.feeder_drawing import FeederDrawing, branch_label
from feederguard.studies.pages.figure_style import BLUE, MUTED, SKY, VERMILLION, new_figure, packed
from feederguard.studies.transfer.decision_states import DecisionStates
from feederguard.studies.transfer.map import OVERLOADED


@dataclass(frozen=True)
class BusAxis:
    """The buses along a horizontal axis, in the order of the map."""

    along: tuple[int, ...]  # the bus at each place, -1 for a gap before the next run
    places: tuple[int, ...]  # of the buses
    names: tuple[str, ...]  # of the buses

    def gapped(self, values: FloatArray) -> FloatArray:
        """Return values of buses (n_bus,) at every place, NaN at the gaps."""
        picked = values[np.maximum(self.along, 0)]
        return np.where(np.asarray(self.along) < 0, np.nan, picked)

    @property
    def ends(self) -> list[float]:
        """The two ends of a line over all buses."""
        return [self.places[0] - 0.5, self.places[-1] + 0.5] if self.places else [0, 1]


def axis_of_buses(drawing: FeederDrawing) -> BusAxis:
    """Return the axis of a drawing's buses."""
    along: list[int] = []
    for bus in drawing.order.tolist():
        if along and drawing.run[bus] != drawing.run[along[-1]]:
            along.append(-1)
        along.append(bus)
    spots = tuple(k for k, bus in enumerate(along) if bus >= 0)
    return BusAxis(tuple(along), spots, tuple(drawing.network.bus_name[along[k]] for k in spots))


def voltage_chart(axis: BusAxis, floor: float, top: float) -> Chart:
    """Return the voltage of every bus, before anything is chosen.

    The axis goes from `floor` to a little above `top`, in pu.
    """
    n = axis.places[-1] + 1 if axis.places else 1
    text = [""] * n
    for k, name in zip(axis.places, axis.names, strict=True):
        text[k] = f"bus {name}"
    limit = {
        "mode": "lines",
        "line": {"color": VERMILLION, "width": 1.6, "dash": "dash"},
        "hoverinfo": "skip",
    }
    hover = "%{text}: %{y:.4f} pu<extra>%{fullData.name}</extra>"
    common: dict[str, Any] = {
        "x": list(range(n)),
        "y": [None] * n,
        "text": text,
        "hovertemplate": hover,
    }
    figure = new_figure(
        [
            go.Scatter(
                **common,
                mode="lines",
                name="before the fault",
                line={"color": "#9aa6b0", "width": 2, "dash": "dot"},
            ),
            go.Scatter(
                **common,
                mode="lines+markers",
                name="after the decision",
                line={"color": BLUE, "width": 2},
                marker={"size": 6 if n < 200 else 3},
            ),
            go.Scatter(x=[None], y=[None], name="limit", **limit),
            go.Scatter(x=[None], y=[None], showlegend=False, **limit),
            go.Scatter(
                x=[None],
                y=[None],
                yaxis="y2",
                mode="markers",
                name="dark",
                hoverinfo="skip",
                marker={"symbol": "x-thin", "size": 7, "line": {"width": 1.6, "color": MUTED}},
            ),
        ],
        height=330,
        xaxis={
            "title": {"text": "bus, in the order of the map: trunk, then lateral by lateral"},
            "showgrid": False,
            "range": [-1, n],
            **_sparse(axis.places, axis.names),
        },
        yaxis={"title": {"text": "voltage, pu"}, "range": [floor, top + 0.012]},
        yaxis2={"overlaying": "y", "range": [0, 1], "visible": False, "fixedrange": True},
    )
    return Chart("transfer-voltage", "Voltage against its limits", figure, least_width_px=760)


def voltage_changes(states: DecisionStates, row: int, axis: BusAxis) -> dict[int, dict[str, Any]]:
    """Return what a decision changes in the voltages; dark buses are marks at the bottom."""
    live = states.flow.energised[row]
    spots = [k for k, i in enumerate(axis.along) if i >= 0 and not live[i]]
    # On the second axis, whose zero is at the bottom of the figure.
    bottom = [None, *[0.04] * len(spots)]
    return {1: {"y": packed(axis.gapped(states.v[row]))}, 4: {"x": [None, *spots], "y": bottom}}


def limit_changes(axis: BusAxis, v_min_pu: float, v_max_pu: float) -> dict[int, dict[str, Any]]:
    """Return what a setting changes in the traces of the voltages."""
    return {2: {"x": axis.ends, "y": [v_min_pu] * 2}, 3: {"x": axis.ends, "y": [v_max_pu] * 2}}


def loading_chart(drawing: FeederDrawing) -> Chart:
    """Return the loading of every branch, before anything is chosen."""
    network = drawing.network
    order = drawing.branch_order
    n = len(order)
    text = [
        branch_label(network, b, int(network.from_bus[b]), int(network.to_bus[b]))
        for b in order.tolist()
    ]
    common = {"x": list(range(n)), "y": [None] * n, "text": text, "textposition": "none"}
    hover = "%{text}: %{y:.1f} % of its limit<extra></extra>"
    figure = new_figure(
        [
            go.Bar(**common, name="within its limit", marker={"color": SKY}, hovertemplate=hover),
            go.Bar(
                **common,
                name="over its limit",
                hovertemplate=hover,
                marker={
                    "color": VERMILLION,
                    "pattern": {"shape": "/", "bgcolor": VERMILLION, "fgcolor": "#fff", "size": 6},
                },
            ),
            go.Scatter(
                x=[-0.7, n - 0.3],
                y=[100, 100],
                mode="lines",
                name="limit",
                hoverinfo="skip",
                line={"color": VERMILLION, "width": 1.6, "dash": "dash"},
            ),
        ],
        height=320,
        barmode="overlay",
        bargap=0.25,
        xaxis={
            "title": {"text": "branch, in the order of the map; ties at the end"},
            "showgrid": False,
            "range": [-1, n],
            **_sparse(range(n), [network.branch_name[b] for b in order]),
        },
        yaxis={"title": {"text": "loading, % of limit"}, "rangemode": "tozero"},
    )
    return Chart(
        "transfer-loading",
        "Loading of every branch",
        figure,
        "Current over rating in the radial setting, active power over the uniform limit in the "
        "paper setting. No bar: nothing flows, or the branch has no limit.",
        least_width_px=760,
    )


def loading_changes(
    states: DecisionStates, row: int, drawing: FeederDrawing
) -> dict[int, dict[str, Any]]:
    """Return what a decision changes in the bars of the loading."""
    load_pct = 100 * states.loading[row][drawing.branch_order]
    return {
        0: {"y": packed(np.where(load_pct <= 100 * OVERLOADED, load_pct, np.nan))},
        1: {"y": packed(np.where(load_pct > 100 * OVERLOADED, load_pct, np.nan))},
    }


def _sparse(values: Sequence[Any], names: Sequence[str]) -> dict[str, Any]:
    """Return ticks whose labels do not overlap."""
    widest = max((len(name) for name in names), default=1)
    every = max(1, -(-len(names) * (7 * widest + 8) // 900))
    return {
        "tickmode": "array",
        "tickvals": list(values)[::every],
        "ticktext": list(names)[::every],
        "tickangle": 0,
    }
