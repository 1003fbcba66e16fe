"""Branch limits in their two shapes: which are written, and polygons inside their circles."""

import numpy as np
import pyomo.environ as pyo
import pytest

from feederguard.data.networks import load_network
from feederguard.models.distflow_opf import build_distflow_opf
from feederguard.models.equations.branch_limits import SIDES
from feederguard.models.network import Network

LIMITS = ("current_limit", "power_limit", "angle_limit")


@pytest.fixture(scope="module")
def feeder() -> Network:
    """cigre_lv18 without any limit on its branches."""
    network = load_network("cigre_lv18")
    return network.with_changes(rating=np.full(network.n_branch, np.inf))


def limited(feeder: Network, name: str, branch: str, value: float) -> Network:
    values = getattr(feeder, name).copy()
    values[feeder.branch_index(branch)] = value
    return feeder.with_changes(**{name: values})


def unlimited_behind(feeder: Network) -> Network:
    """0.1 pu is allowed through R3-R4; a generator of any power behind it reaches every side."""
    return limited(feeder, "s_max", "R3-R4", 0.1).with_changes(
        gen_name=("g",),
        gen_bus=[feeder.bus_index("R18")],
        gen_p_min=[-np.inf],
        gen_p_max=[np.inf],
        gen_q_min=[-np.inf],
        gen_q_max=[np.inf],
    )


@pytest.mark.parametrize("form", ["exact", "soc", "linear"])
def test_without_limits_there_are_no_limits(feeder, form):
    model = build_distflow_opf(feeder, form)
    assert [len(model.find_component(name)) for name in LIMITS] == [0, 0, 0]


def test_a_polygon_lets_pass_what_lies_within_its_inner_circle(feeder):
    model = build_distflow_opf(unlimited_behind(feeder), "linear")
    b = feeder.branch_index("R3-R4")
    assert len(model.power_limit) == 2 * SIDES
    for angle in np.linspace(0, 2 * np.pi, 200):
        model.P[0, b].set_value(0.1 * np.cos(np.pi / SIDES) * np.cos(angle))
        model.Q[0, b].set_value(0.1 * np.cos(np.pi / SIDES) * np.sin(angle))
        assert min(pyo.value(row.uslack()) for row in model.power_limit.values()) > -1e-12


def test_a_polygon_refuses_what_its_circle_refuses(feeder):
    model = build_distflow_opf(unlimited_behind(feeder), "linear")
    b = feeder.branch_index("R3-R4")
    for angle in np.linspace(0, 2 * np.pi, 200):
        model.P[0, b].set_value(0.1001 * np.cos(angle))
        model.Q[0, b].set_value(0.1001 * np.sin(angle))
        assert min(pyo.value(row.uslack()) for row in model.power_limit.values()) < 0


def test_sides_that_no_power_can_reach_are_left_out(feeder):
    """The branch feeds loads of 0.95 power factor: only sides towards those may bind.

    None may where the limit is wide.
    """
    total = np.hypot(feeder.p_load.sum(), feeder.q_load.sum())
    narrow = build_distflow_opf(limited(feeder, "s_max", "0-R0", 0.9 * total), "linear")
    sides = {index[3] for index in narrow.power_limit if index[2] == "from"}
    expected = np.arctan2(feeder.q_load.sum(), feeder.p_load.sum()) / (2 * np.pi / SIDES)
    assert 0 < len(sides) < SIDES / 4
    assert min(abs(side - expected) for side in sides) <= 0.5

    wide = build_distflow_opf(limited(feeder, "s_max", "0-R0", 1.1 * total), "linear")
    assert len(wide.power_limit) == 0


def test_charging_is_counted_where_there_is_some(feeder):
    charged = limited(limited(feeder, "rating", "R3-R4", 0.5), "b_to", "R3-R4", 0.01)
    model = build_distflow_opf(charged, "exact")
    b = charged.branch_index("R3-R4")
    assert list(model.current_limit) == [(0, b)]
    assert list(model.end_current_limit) == [(0, b, "to")]


def test_a_tap_below_one_carries_more_current_at_its_from_end(feeder):
    """The from end carries J / tap, so a rating of 0.5 leaves J = 0.5 * 0.9.

    With a tap above one the to end carries more.
    """
    for tap, squared in ((0.9, 0.25 * 0.81), (1.1, 0.25)):
        network = limited(limited(feeder, "rating", "R3-R4", 0.5), "tap", "R3-R4", tap)
        model = build_distflow_opf(network, "soc")
        assert pyo.value(
            model.current_limit[0, network.branch_index("R3-R4")].upper
        ) == pytest.approx(squared)


def test_angles_beyond_a_right_angle_limit_nothing(feeder):
    assert (
        len(build_distflow_opf(limited(feeder, "angle_max", "R3-R4", 2.0), "exact").angle_limit)
        == 0
    )
    assert (
        len(build_distflow_opf(limited(feeder, "angle_max", "R3-R4", 0.5), "exact").angle_limit)
        == 1
    )
