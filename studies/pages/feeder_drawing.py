"""The one-line drawing of a feeder: places of buses and branches, and the traces all maps share.

The substation is at the left. A bus is one column to the right of the bus that feeds it, whatever
the length of the branch. The longest way out of the substation is the trunk, a straight line. A
lateral leaves its run upwards or downwards and then goes to the right on a row of its own; its own
laterals do the same. Runs are placed from the far end to the near end, each on the nearest row that
is free over all its columns. No two solid lines cross: a run that leaves nearer the substation
turns off before the columns of those already placed. Ties and closed loops are arcs.

Coordinates are in columns and rows; rows count upwards.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import networkx as nx
import numpy as np
import plotly.graph_objects as go

from feederguard.models.arrays import BoolArray, FloatArray, IntArray
from feederguard.models.network import Network

INK, PALE, PAPER = "#22303c", "#b9c2cb", "#ffffff"
NO_TEXT = "\u00a0"  # of a mark without label: plotly would keep a mark once without text hidden
MOST_LABELS = 80  # a feeder of more buses shows their names on hovering only
_ROW_PX, _COLUMN_PX = (12, 62), 38  # least and most room of a row
_MOST_WIDTH_PX = 940  # the width of the page's text
_MAP_PX = 1300  # height that the rows of a large feeder share
_ARC_POINTS = 13


@dataclass(frozen=True, eq=False)
class FeederDrawing:
    """Coordinates of a feeder, in columns and rows."""

    network: Network
    x: FloatArray  # (n_bus,)
    y: FloatArray  # (n_bus,)
    run: IntArray  # (n_bus,) which horizontal run a bus lies on, 0 the trunk
    order: IntArray  # (n_bus,) buses in reading order: run by run, from the substation outwards
    path: tuple[FloatArray, ...]  # (n_branch,) corners of each branch, (n_point, 2)
    middle: FloatArray  # (n_branch, 2) where the mark of a branch is

    @property
    def branch_order(self) -> IntArray:
        """Branches in reading order, (n_branch,): by the bus that they feed, ties at the end."""
        place = np.empty(self.network.n_bus, dtype=np.int64)
        place[self.order] = np.arange(self.network.n_bus)
        ends = np.stack([place[self.network.from_bus], place[self.network.to_bus]])
        deeper = self.x[self.network.from_bus] > self.x[self.network.to_bus]
        ties = self.network.is_tie
        return np.asarray(
            np.lexsort(
                [np.where(ties, np.arange(len(ties)), np.where(deeper, ends[0], ends[1])), ties]
            )
        )

    @property
    def height_px(self) -> int:
        """A height with room for every row."""
        rows = float(self.y.max() - self.y.min())
        return int(150 + rows * np.clip(_MAP_PX / max(rows, 1.0), *_ROW_PX))

    @property
    def width_px(self) -> int:
        """The least width at which marks do not run into one another."""
        return int(min(120 + _COLUMN_PX * (self.x.max() - self.x.min()), _MOST_WIDTH_PX))


def draw_feeder(network: Network) -> FeederDrawing:
    """Return the drawing of a feeder, radial or meshed.

    The feeders of several substations are drawn below one another.
    """
    parent, children = _tree(network)
    depth = np.zeros(network.n_bus, dtype=np.int64)
    walk = [bus for root in children[-1] for bus in _outwards(children, root)]
    for bus in walk:
        depth[bus] = 0 if parent[bus] < 0 else depth[parent[bus]] + 1
    reach = depth.copy()
    for bus in reversed(walk):
        if parent[bus] >= 0:
            reach[parent[bus]] = max(reach[parent[bus]], reach[bus])

    row, below = np.zeros(network.n_bus), 0
    runs: list[list[int]] = []
    for root in children[-1]:
        block = _lay_run(root, 0, children, depth, reach)
        # The next substation's feeder begins under everything that hangs from this one.
        shift = below - max(block.above) if runs else 0
        for bus, y in block.row.items():
            row[bus] = y + shift
        runs += block.runs
        below = shift - max(block.below) - 2
    run = np.empty(network.n_bus, dtype=np.int64)
    for number, buses in enumerate(runs):
        run[buses] = number
    paths = tuple(_path(network, b, parent, depth, row) for b in range(network.n_branch))
    middles = np.array([_middle(path) for path in paths]).reshape(-1, 2)
    order = np.array([bus for buses in runs for bus in buses], dtype=np.int64)
    return FeederDrawing(network, depth.astype(float), row, run, order, paths, middles)


def places(drawing: FeederDrawing) -> dict[str, dict[str, list[Any]]]:
    """Return the `places` of a `Picker`: kind -> x, y and name of each branch or bus."""
    network = drawing.network
    ends = zip(network.from_bus.tolist(), network.to_bus.tolist(), strict=True)
    branch = [branch_label(network, b, i, j) for b, (i, j) in enumerate(ends)]
    return {
        "branch": {
            "x": [path[:, 0].round(3).tolist() for path in drawing.path],
            "y": [path[:, 1].round(3).tolist() for path in drawing.path],
            "name": branch,
        },
        "middle": {
            "x": drawing.middle[:, 0].round(3).tolist(),
            "y": drawing.middle[:, 1].round(3).tolist(),
            "name": branch,
        },
        "bus": {
            "x": drawing.x.tolist(),
            "y": drawing.y.tolist(),
            "name": [f"bus {name}" for name in network.bus_name],
        },
    }


def branch_label(network: Network, branch: int, i: int, j: int) -> str:
    """Return the label of a branch: its kind, its name and the buses i, j that it joins."""
    ends = f"{network.bus_name[i]}–{network.bus_name[j]}"
    return f"{network.kind[branch]} {network.branch_name[branch]} ({ends})"


def lines_trace(drawing: FeederDrawing, which: BoolArray, **look: Any) -> go.Scatter:
    """Return the branches of a mask (n_branch,) as one trace of lines.

    look: further keywords of the trace, such as `line` and `name`.
    """
    x: list[float | None] = [None]
    y: list[float | None] = [None]
    for b in np.flatnonzero(which):
        x += [*drawing.path[b][:, 0].round(3).tolist(), None]
        y += [*drawing.path[b][:, 1].round(3).tolist(), None]
    return go.Scatter(x=x, y=y, mode="lines", hoverinfo="skip", **look)


def base_traces(drawing: FeederDrawing) -> list[go.Scatter]:
    """Return the traces of the feeder in its normal state: lines, ties (dashed), substation."""
    network = drawing.network
    at = network.substation
    return [
        lines_trace(drawing, network.closed, name="line", line={"color": INK, "width": 2}),
        lines_trace(
            drawing,
            network.is_tie,
            name="tie, open",
            showlegend=bool(network.is_tie.any()),
            line={"color": "#8a97a3", "width": 1.4, "dash": "4px,4px"},
        ),
        go.Scatter(
            x=drawing.x[at] - 0.42,
            y=drawing.y[at],
            mode="markers",
            name="substation",
            text=[f"substation, bus {network.bus_name[i]}" for i in at],
            hovertemplate="%{text}<extra></extra>",
            marker={
                "symbol": "line-ns",
                "size": 34,
                "color": INK,
                "line": {"width": 6, "color": INK},
            },
        ),
        go.Scatter(
            x=np.stack(
                [drawing.x[at] - 0.42, drawing.x[at], np.full(len(at), np.nan)], axis=1
            ).ravel(),
            y=np.repeat(drawing.y[at], 3),
            mode="lines",
            hoverinfo="skip",
            showlegend=False,
            line={"color": INK, "width": 2},
        ),
    ]


def bus_labels(drawing: FeederDrawing) -> go.Scatter:
    """Return the names of the buses as a trace of text, empty beyond `MOST_LABELS` buses."""
    if drawing.network.n_bus > MOST_LABELS:
        return go.Scatter(
            x=[None], y=[None], mode="text", text=[""], hoverinfo="skip", showlegend=False
        )
    rises = [path[0] for path in drawing.path if len(path) == 3 and path[1, 1] > path[0, 1]]
    beside = {(float(x), float(y)) for x, y in rises}
    spots = zip(drawing.x.tolist(), drawing.y.tolist(), strict=True)
    return go.Scatter(
        x=drawing.x,
        y=drawing.y + 0.1,
        mode="text",
        hoverinfo="skip",
        text=list(drawing.network.bus_name),
        showlegend=False,
        # Beside a line that leaves upwards, not on it.
        textposition=["top right" if spot in beside else "top center" for spot in spots],
        textfont={"size": 10, "color": "#5c6873"},
    )


def map_layout(drawing: FeederDrawing, legend_rows: int = 2) -> dict[str, Any]:
    """Return the layout of a drawing's figure: no axes, room for marks, the legend above."""
    hidden = {"visible": False, "fixedrange": False, "autorange": False}
    x, y = drawing.x, drawing.y
    arcs = np.concatenate([*drawing.path, np.stack([x, y], axis=1)])
    top = 16 + 24 * legend_rows
    return {
        "xaxis": hidden | {"range": [float(x.min()) - 0.9, float(arcs[:, 0].max()) + 0.9]},
        "yaxis": hidden
        | {"range": [float(arcs[:, 1].min()) - 0.75, float(arcs[:, 1].max()) + 0.75]},
        "height": drawing.height_px + top,
        "margin": {"l": 4, "r": 4, "t": top, "b": 4},
        "hovermode": "closest",
        "legend": {
            "orientation": "h",
            "x": 0,
            "y": 1,
            "yanchor": "bottom",
            "itemclick": False,
            "itemdoubleclick": False,
        },
    }


@dataclass
class _Block:
    """A run with everything that hangs from it.

    Rows count from the run's own, columns from the one where it turns off.
    """

    row: dict[int, int]
    runs: list[list[int]]  # the run itself, then those that hang from it
    first: int
    above: list[int]  # highest row taken in each column
    below: list[int]  # depth of the lowest one


def _lay_run(
    start: int, first: int, children: dict[int, list[int]], depth: IntArray, reach: IntArray
) -> _Block:
    """Return the run that begins at bus `start` and turns off in column `first`."""
    run, hanging = [start], []
    while children[run[-1]]:
        ahead = max(children[run[-1]], key=lambda bus: reach[bus])
        hanging += [(run[-1], bus) for bus in children[run[-1]] if bus != ahead]
        run.append(ahead)
    width = int(reach[start]) - first + 1
    block = _Block(dict.fromkeys(run, 0), [run], first, [0] * width, [0] * width)
    laid = []
    for near, bus in reversed(hanging):
        part = _lay_run(bus, int(depth[near]), children, depth, reach)
        columns = range(part.first - first, part.first - first + len(part.above))
        up = 1 + max(block.above[c] + part.below[k] for k, c in enumerate(columns))
        down = 1 + max(block.below[c] + part.above[k] for k, c in enumerate(columns))
        shift = up if up <= down else -down
        for k, c in enumerate(columns):
            block.above[c] = max(block.above[c], shift + part.above[k])
            block.below[c] = max(block.below[c], part.below[k] - shift)
        block.row |= {member: y + shift for member, y in part.row.items()}
        laid.append(part.runs)
    block.runs += [one for runs in reversed(laid) for one in runs]
    return block


def _tree(network: Network) -> tuple[IntArray, dict[int, list[int]]]:
    """Return the parent of each bus (-1 for a root) and the children of each (-1: the roots)."""
    graph = nx.Graph()
    graph.add_nodes_from(range(network.n_bus))
    # A bus that only a tie reaches is drawn at its end.
    for mask in (network.closed, ~network.closed):
        for i, j in zip(
            network.from_bus[mask].tolist(), network.to_bus[mask].tolist(), strict=True
        ):
            if not (graph.has_edge(i, j)):
                graph.add_edge(i, j, weight=1 if mask is network.closed else network.n_bus)
    roots = network.substation.tolist()
    parent = np.full(network.n_bus, -1, dtype=np.int64)
    children: dict[int, list[int]] = {bus: [] for bus in range(-1, network.n_bus)}
    children[-1] = roots
    graph.add_weighted_edges_from([(roots[0], other, 0.0) for other in roots[1:]])
    known = np.zeros(network.n_bus, dtype=bool)
    known[roots] = True
    _, ways = nx.multi_source_dijkstra(graph, set(roots))
    for bus, way in sorted(ways.items(), key=lambda item: (len(item[1]), item[0])):
        if not known[bus]:
            parent[bus] = way[-2]
            children[way[-2]].append(bus)
    return parent, children


def _outwards(children: dict[int, list[int]], root: int) -> list[int]:
    found = [root]
    for bus in found:
        found += children[bus]
    return found


def _path(
    network: Network, branch: int, parent: IntArray, depth: IntArray, row: FloatArray
) -> FloatArray:
    """Return the corners of a branch: straight or with one bend in the tree, else an arc."""
    i, j = int(network.from_bus[branch]), int(network.to_bus[branch])
    ends = np.array([[depth[i], row[i]], [depth[j], row[j]]], dtype=float)
    if network.closed[branch] and i in (parent[j],) or network.closed[branch] and j == parent[i]:
        near, far = (ends[0], ends[1]) if parent[j] == i else (ends[1], ends[0])
        return (
            np.stack([near, far]) if near[1] == far[1] else np.array([near, [near[0], far[1]], far])
        )
    along = ends[1] - ends[0]
    length = max(float(np.hypot(*along)), 1e-9)
    # Away from the trunk, where there is more room.
    outward = np.array([-along[1], along[0]]) / length
    if outward[1] * (ends[:, 1].sum() + 1e-6) < 0:
        outward = -outward
    t = np.linspace(0, 1, _ARC_POINTS)[:, None]
    bow = min(0.12 * length + 0.3, 0.9) if not along[1] else min(0.05 * length + 0.1, 0.5)
    return np.asarray(ends[0] + t * along + 4 * t * (1 - t) * outward * bow)


def _middle(path: FloatArray) -> FloatArray:
    """Return where the mark of a branch is: an arc's crown, or the middle of the last segment."""
    return np.asarray(path[len(path) // 2] if len(path) > 3 else path[-2:].mean(axis=0))
