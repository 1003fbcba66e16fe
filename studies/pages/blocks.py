"""The parts of a report: sections, each a sequence of blocks.

A block is `Prose`, a `DataTable`, a `Chart` (a plotly figure) or a `Picker` (charts that follow
what the reader chooses).

A picker has layers. Each layer depends on some of the selectors. For the chosen values, joined with
"|", it holds a note and the changes of every chart: trace number -> attributes, merged into those
of the trace. The attribute "at" is (kind, numbers): the page draws those branches or buses, whose
coordinates are in `places`. Arrays go through `figure_style.packed`.

The text of `Prose`, notes and captions may hold `code`, **bold**, paragraphs and lists ("- ").
Other markup is not allowed: the text must read the same in both files of a report.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import plotly.graph_objects as go


@dataclass(frozen=True)
class Prose:
    """Text."""

    text: str


@dataclass(frozen=True)
class DataTable:
    """A table of words; the first column names the rows."""

    caption: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


@dataclass(frozen=True, eq=False)
class Chart:
    """A figure with its heading, and a caption that says how to read it."""

    name: str  # unique on the page
    title: str
    figure: go.Figure
    caption: str = ""
    least_width_px: int = 0  # on a narrower screen the figure scrolls, not the page
    image: str = ""  # a picture of the same thing in the report's folder, for report.md


@dataclass(frozen=True)
class Selector:
    """A list to choose from: value and label of each option."""

    label: str
    options: tuple[tuple[str, str], ...]
    first: int = 0  # which of them is shown first


@dataclass(frozen=True)
class Choice:
    """The note of one choice, and its changes: chart name -> trace number -> attributes."""

    note: str
    traces: Mapping[str, Mapping[int, Mapping[str, Any]]] = field(default_factory=dict)


@dataclass(frozen=True)
class Layer:
    """Choices by the values of some of the selectors, joined by "|"."""

    by: tuple[int, ...]  # positions of the selectors
    choices: Mapping[str, Choice]
    missing: str = ""  # the note where there is no such choice


@dataclass(frozen=True, eq=False)
class Picker:
    """Charts that follow what is chosen."""

    name: str
    title: str
    selectors: tuple[Selector, ...]
    layers: tuple[Layer, ...]
    charts: tuple[Chart, ...]
    places: Mapping[str, Any] = field(default_factory=dict)


Block = Prose | DataTable | Chart | Picker


@dataclass(frozen=True, eq=False)
class Section:
    """A chapter of the report."""

    name: str  # unique on the page, a word
    title: str
    blocks: tuple[Block, ...]


# What both files of a report say under the command.
SAME_AGAIN = (
    "The same command gives the same decisions on the same versions, except for methods that stop "
    "by the clock. Times are of this machine."
)
