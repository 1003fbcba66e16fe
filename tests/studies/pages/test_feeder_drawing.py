"""The drawing of a feeder: coordinates by hand, and what must hold on every bundled feeder."""

from typing import Any

import numpy as np
import pytest

from feederguard.data.networks import list_networks, load_network
from feederguard.models.network import Network
from feederguard.studies.pages.feeder_drawing import (
    MOST_LABELS,
    FeederDrawing,
    base_traces,
    bus_labels,
    draw_feeder,
    lines_trace,
    places,
)


def feeder(
    ends: list[tuple[int, int]], ties: tuple[int, ...] = (), substations: tuple[int, ...] = (0,)
) -> Network:
    """Lines between the buses named, those numbered in `ties` normally open."""
    n, m = 1 + max(max(pair) for pair in ends), len(ends)
    at_bus, at_branch = np.zeros(n), np.zeros(m)
    values: dict[str, Any] = {
        "name": "drawn",
        "base_mva": 1.0,
        "bus_name": [f"b{i}" for i in range(n)],
        "vn_kv": at_bus + 10.0,
        "v_min": at_bus + 0.9,
        "v_max": at_bus + 1.1,
        "p_load": at_bus,
        "q_load": at_bus,
        "p_gen": at_bus,
        "q_gen": at_bus,
        "g_shunt": at_bus,
        "b_shunt": at_bus,
        "substation": substations,
        "v_substation": np.ones(len(substations)),
        "branch_name": [f"l{k}" for k in range(m)],
        "kind": ["tie" if k in ties else "line" for k in range(m)],
        "from_bus": [i for i, _ in ends],
        "to_bus": [j for _, j in ends],
        "r": at_branch + 0.1,
        "x": at_branch,
        "g_from": at_branch,
        "b_from": at_branch,
        "g_to": at_branch,
        "b_to": at_branch,
        "tap": at_branch + 1.0,
        "shift": at_branch,
        "rating": at_branch + 1.0,
        "closed": [k not in ties for k in range(m)],
        "open_end": np.zeros(m, dtype=int),
    }
    return Network(**values)


def solid_segments(drawing: FeederDrawing) -> np.ndarray:
    """The straight stretches of the tree, (n, 2, 2)."""
    pairs = [np.stack([path[:-1], path[1:]], axis=1) for path in drawing.path if len(path) <= 3]
    return np.concatenate(pairs)


def test_a_trunk_with_one_lateral_by_hand() -> None:
    """A trunk of five buses with a lateral of two.

    b0 -- b1 -- b2 -- b3 -- b4        the trunk is the longest way out
           +-- b5 -- b6               a lateral on the next row, tie b6-b4
    """
    network = feeder([(0, 1), (1, 2), (2, 3), (3, 4), (1, 5), (6, 5), (6, 4)], ties=(6,))
    drawing = draw_feeder(network)
    assert drawing.x.tolist() == [0, 1, 2, 3, 4, 2, 3]
    assert (
        drawing.y[:5].tolist() == [0] * 5
        and abs(drawing.y[5]) == 1
        and drawing.y[6] == drawing.y[5]
    )
    assert drawing.order.tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert drawing.run.tolist() == [0, 0, 0, 0, 0, 1, 1]
    # The lateral turns off at b1: up or down in its column, then to the right.
    assert drawing.path[4].tolist() == [[1, 0], [1, drawing.y[5]], [2, drawing.y[5]]]
    assert drawing.middle[0].tolist() == [0.5, 0] and drawing.middle[4].tolist() == [
        1.5,
        drawing.y[5],
    ]
    # A tie is an arc between its buses, and its mark lies off the straight way.
    assert drawing.path[6][0].tolist() == [3, drawing.y[5]] and drawing.path[6][-1].tolist() == [
        4,
        0,
    ]
    assert len(drawing.path[6]) > 3
    assert drawing.branch_order.tolist() == [0, 1, 2, 3, 4, 5, 6]


def test_laterals_of_one_bus_lie_on_different_rows() -> None:
    drawing = draw_feeder(feeder([(0, 1), (1, 2), (2, 3), (1, 4), (1, 5), (1, 6)]))
    assert sorted(drawing.y[[4, 5, 6]].tolist()) in ([-1, 1, 2], [-2, -1, 1])


def test_a_closed_loop_is_an_arc_and_every_bus_is_drawn_once() -> None:
    drawing = draw_feeder(feeder([(0, 1), (1, 2), (0, 3), (3, 2)]))
    arcs = [k for k, path in enumerate(drawing.path) if len(path) > 3]
    assert len(arcs) == 1 and arcs[0] in (1, 3)


def test_feeders_of_two_substations_do_not_share_a_row() -> None:
    drawing = draw_feeder(
        feeder([(0, 1), (1, 2), (3, 4), (4, 5), (2, 5)], ties=(4,), substations=(0, 3))
    )
    assert drawing.x[[0, 3]].tolist() == [0, 0]
    assert drawing.y[:3].min() - drawing.y[3:].max() >= 2


def test_a_bus_that_only_a_tie_reaches_is_drawn_at_its_end() -> None:
    drawing = draw_feeder(feeder([(0, 1), (1, 2)], ties=(1,)))
    assert drawing.x.tolist() == [0, 1, 2]


@pytest.mark.parametrize("name", list_networks())
def test_no_two_lines_of_a_bundled_feeder_cross(name: str) -> None:
    network = load_network(name)
    drawing = draw_feeder(network)
    spots = np.stack([drawing.x, drawing.y], axis=1)
    assert len(np.unique(spots, axis=0)) == network.n_bus
    assert sorted(drawing.order.tolist()) == list(range(network.n_bus))
    assert sorted(drawing.branch_order.tolist()) == list(range(network.n_branch))
    segments = solid_segments(drawing)
    assert (
        sum(len(path) <= 3 for path in drawing.path) == network.closed.sum()
    )  # all of them are radial
    low, high = segments.min(axis=1), segments.max(axis=1)
    level = low[:, 1] == high[:, 1]
    # A level and an upright stretch cross where each lies strictly inside the other.
    a, b = low[level][:, None], low[~level][None]
    a_end, b_end = high[level][:, None], high[~level][None]
    crossed = (
        (a[..., 0] < b[..., 0])
        & (b[..., 0] < a_end[..., 0])
        & (b[..., 1] < a[..., 1])
        & (a[..., 1] < b_end[..., 1])
    )
    assert not crossed.any()
    # No bus lies on a line that is not its own.
    for (x, y), (x_end, y_end) in zip(low[level], high[level], strict=True):
        inside = (drawing.y == y) & (drawing.x > x) & (drawing.x < x_end)
        assert y == y_end and not inside.any()


def test_what_a_page_draws_by_number_are_the_drawings_coordinates() -> None:
    network = load_network("ieee33")
    drawing = draw_feeder(network)
    known = places(drawing)
    b = network.branch_index("36")
    assert known["branch"]["name"][b] == "tie 36 (18–33)"
    assert known["branch"]["x"][b][0] == drawing.x[network.from_bus[b]]
    assert len(known["bus"]["x"]) == 33 and known["bus"]["name"][0] == "bus 1"
    trace = lines_trace(drawing, np.arange(37) == b, name="one")
    assert trace.x[1:-1] == tuple(known["branch"]["x"][b]) and trace.x[-1] is None


def test_names_stand_in_small_drawings_only() -> None:
    small, large = (draw_feeder(load_network(name)) for name in ("ieee33", "kraftringen533"))
    assert large.network.n_bus > MOST_LABELS >= small.network.n_bus
    assert list(bus_labels(small).text) == list(small.network.bus_name)
    assert list(bus_labels(large).text) == [""]
    assert large.height_px < 1600
    assert [trace.name for trace in base_traces(small)[:3]] == ["line", "tie, open", "substation"]
