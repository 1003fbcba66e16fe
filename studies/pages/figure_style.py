"""The look of the reports' figures: colours, line styles, axes, and a short form of numbers."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import ArrayLike

# Okabe and Ito's colours, which the colour-blind can tell apart. Two things never differ by colour
# alone.
ORANGE, SKY, GREEN, BLUE, VERMILLION, PURPLE, YELLOW, BLACK = (
    "#E69F00",
    "#56B4E9",
    "#009E73",
    "#0072B2",
    "#D55E00",
    "#CC79A7",
    "#F0E442",
    "#000000",
)
INK, MUTED, GRID = "#22303c", "#5c6873", "#e3e7eb"

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', 'DejaVu Sans', sans-serif"

# Colour and dashes of one curve after another.
CURVES = (
    (BLUE, "solid"),
    (VERMILLION, "10px,3px"),
    (GREEN, "4px,3px"),
    (PURPLE, "12px,3px,2px,3px"),
    (ORANGE, "2px,3px"),
    (SKY, "16px,4px"),
    (BLACK, "6px,2px,2px,2px,2px,2px"),
)


def new_figure(traces: Sequence[Any] = (), **layout: Any) -> go.Figure:
    """Return a figure in the page's style; layout: keywords of plotly's layout."""
    axis = {
        "gridcolor": GRID,
        "zeroline": False,
        "linecolor": "#9aa6b0",
        "ticks": "outside",
        "tickcolor": "#9aa6b0",
        "ticklen": 4,
        "automargin": True,
        "title": {"standoff": 8, "font": {"size": 13}},
    }
    template = {
        "layout": {
            "font": {"family": FONT, "size": 13, "color": INK},
            "paper_bgcolor": "#fff",
            "plot_bgcolor": "#fff",
            "margin": {"l": 60, "r": 26, "t": 36, "b": 52},
            "hoverlabel": {"font": {"family": FONT, "size": 12}},
            "legend": {
                "orientation": "h",
                "x": 0,
                "y": 1.02,
                "yanchor": "bottom",
                "traceorder": "normal",
            },
            "xaxis": axis,
            "yaxis": axis,
            "uirevision": "kept",
        }
    }
    return go.Figure(data=list(traces), layout={"template": template, "height": 360, **layout})


def packed(values: ArrayLike) -> dict[str, Any]:
    """Return numbers (n,) in the short form of a choice: 16 bits each; NaN is a gap.

    The step between two neighbouring values is the largest size over 32766.
    """
    array = np.asarray(values, dtype=float).ravel()
    known = np.isfinite(array)
    step = float(f"{max(np.abs(array[known]).max(initial=0.0), 1e-30) / 32766:.7g}")
    short = np.where(known, np.round(np.where(known, array, 0.0) / step), _GAP).astype("<i2")
    return {"i2": base64.b64encode(short.tobytes()).decode(), "step": step}


_GAP = -32768


def decades(low: float, high: float, zero: str = "") -> dict[str, Any]:
    """Return the ticks of a logarithmic axis from 10^low to 10^high, one a power of ten.

    zero: the label of the lowest tick, if it is not its number.
    """
    powers = list(range(int(np.floor(low)), int(np.ceil(high)) + 1))
    raised = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
    names = [
        f"{10.0**k:,g}".replace(",", " ") if -4 <= k <= 5 else "10" + str(k).translate(raised)
        for k in powers
    ]
    if zero:
        names[0] = zero
    return {
        "type": "log",
        "tickmode": "array",
        "tickvals": [10.0**k for k in powers],
        "ticktext": names,
    }
