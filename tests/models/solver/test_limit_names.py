"""Limits in an engineer's words and units, by hand: a pu of current is 577.35 A at 10 kV."""

import numpy as np
import pyomo.environ as pyo
import pytest

import feeders
from feederguard.models.ac_opf import build_ac_opf
from feederguard.models.battery import Batteries
from feederguard.models.distflow_opf import build_distflow_opf
from feederguard.models.network import Network
from feederguard.models.solver.limit_names import NamedLimit, describe_limit

ASIN_DEG = float(np.degrees(np.arcsin(0.02)))
BEHIND = 0.02 / float(np.cos(0.5))
AMPERE = 1e4 / (np.sqrt(3) * 10)  # of one pu of current


def feeder(**changes) -> Network:
    """s --a-- m --b-- e on 10 MVA, with a generator g at e.

    0.2 pu of current are allowed in a, and 0.3 pu of power in b.
    """
    given = {
        "name": "feeder",
        "base_mva": 10.0,
        "bus_name": ("s", "m", "e"),
        "p_load": [0, 0.05, 0.05],
        "kind": ("trafo", "line"),
        "r": 0.01,
        "x": 0.02,
        "rating": [0.2, np.inf],
        "s_max": [np.inf, 0.3],
        "angle_min": -0.5,
        "angle_max": 0.5,
        "gen_name": ("g",),
        "gen_bus": [2],
        "gen_p_min": [0],
        "gen_p_max": [0.1],
        "gen_q_min": [-0.1],
        "gen_q_max": [0.1],
    }
    return feeders.feeder("a:0-1 b:1-2", **given | changes)


def build(form: str, n_step: int = 2, **changes):
    """A model of n_step steps with a battery `store` of 0.4 pu h at bus m."""
    network = feeder(**changes)
    batteries = Batteries.at(network, ["m"], p_max_mw=1.0, energy_mwh=4.0, names=["store"])
    data = {"p_load": np.tile(network.p_load, (n_step, 1)), "batteries": batteries}
    if form in ("polar", "relaxed"):
        return build_ac_opf(network, "polar" if form == "polar" else "soc", **data)
    return build_distflow_opf(network, form, **data)


@pytest.mark.parametrize(
    ("form", "name", "index", "limit", "excess", "squared", "expected"),
    [
        # 0.7744 = 0.88^2 is 0.0356 below 0.9^2; 1.2544 = 1.12^2 is 0.0444 above 1.1^2.
        ("exact", "w", (1, 2), 0.81, -0.0356, False, ("voltage", "bus 'e'", 0.02, "pu")),
        ("exact", "w", (1, 1), 1.21, 0.0444, False, ("voltage", "bus 'm'", 0.02, "pu")),
        ("polar", "v", (1, 2), 0.9, -0.02, False, ("voltage", "bus 'e'", 0.02, "pu")),
        (
            "exact",
            "active_balance",
            (1, 1),
            0.0,
            0.03,
            False,
            ("active power balance", "bus 'm'", 0.3, "MW"),
        ),
        (
            "polar",
            "reactive_balance",
            (1, 1),
            0.0,
            -0.03,
            True,
            ("reactive power balance", "bus 'm'", 0.3, "Mvar"),
        ),
        ("linear", "p_gen", (1, 0), 0.1, 0.05, False, ("active power", "generator 'g'", 0.5, "MW")),
        (
            "linear",
            "q_gen",
            (1, 0),
            -0.1,
            -0.05,
            False,
            ("reactive power", "generator 'g'", 0.5, "Mvar"),
        ),
        (
            "exact",
            "p_substation",
            (1, 0),
            0.5,
            0.2,
            False,
            ("active power", "substation 's'", 2.0, "MW"),
        ),
        # 0.2^2 + 0.05 = 0.3^2: 0.1 pu of current too much.
        (
            "exact",
            "current_limit",
            (1, 0),
            0.04,
            0.05,
            False,
            ("current", "branch 'a'", 0.1 * AMPERE, "A"),
        ),
        (
            "polar",
            "current_limit",
            (1, 0, "to"),
            0.0,
            0.05,
            True,
            ("current", "branch 'a'", 0.1 * AMPERE, "A"),
        ),
        ("soc", "ell", (1, 1), 0.04, 0.05, False, ("current", "branch 'b'", 0.1 * AMPERE, "A")),
        (
            "exact",
            "power_limit",
            (1, 1, "from"),
            0.09,
            0.07,
            True,
            ("apparent power", "branch 'b'", 1.0, "MVA"),
        ),
        (
            "polar",
            "power_limit",
            (1, 1, "to"),
            0.09,
            0.07,
            True,
            ("apparent power", "branch 'b'", 1.0, "MVA"),
        ),
        # A polygon's side is linear in the power itself.
        (
            "linear",
            "power_limit",
            (1, 1, "from", 3),
            0.2985,
            0.02,
            False,
            ("apparent power", "branch 'b'", 0.2, "MVA"),
        ),
        # Beyond 0.5 rad the product of voltages, here 1, turns by asin 0.02; DistFlow divides it by
        # cos 0.5.
        (
            "polar",
            "angle_limit",
            (1, 1),
            0.5,
            0.02,
            False,
            ("angle difference", "branch 'b'", np.degrees(0.02), "deg"),
        ),
        (
            "relaxed",
            "angle_limit",
            (1, 1, 1),
            0,
            0.02,
            False,
            ("angle difference", "branch 'b'", ASIN_DEG, "deg"),
        ),
        (
            "soc",
            "angle_limit",
            (1, 1, -1),
            0,
            -BEHIND,
            False,
            ("angle difference", "branch 'b'", ASIN_DEG, "deg"),
        ),
        (
            "exact",
            "p_charge",
            (1, 0),
            0.1,
            0.03,
            False,
            ("charging power", "battery 'store'", 0.3, "MW"),
        ),
        (
            "exact",
            "p_discharge",
            (1, 0),
            0.1,
            0.03,
            False,
            ("discharging power", "battery 'store'", 0.3, "MW"),
        ),
        (
            "exact",
            "battery_power",
            (1, 0),
            0.1,
            0.03,
            False,
            ("power", "battery 'store'", 0.3, "MW"),
        ),
        # A tenth of 4 MWh.
        ("exact", "soc", (1, 0), 1.0, 0.1, False, ("stored energy", "battery 'store'", 0.4, "MWh")),
    ],
)
def test_each_limit_by_hand(form, name, index, limit, excess, squared, expected):
    # Powers beyond any reach, so that no side of a polygon is left out.
    wide = {
        "gen_p_min": [-np.inf],
        "gen_p_max": [np.inf],
        "gen_q_min": [-np.inf],
        "gen_q_max": [np.inf],
    }
    model = build(form, **(wide if form == "linear" and name == "power_limit" else {}))
    part = model.find_component(name)[index]

    named = describe_limit(model, part, limit, excess, squared)

    what, place, amount, unit = expected
    assert named == NamedLimit(what, place, 1, pytest.approx(amount, rel=1e-9), unit)


@pytest.mark.parametrize(("tap", "share"), [(0.9, 0.81), (1.1, 1.0)])
def test_a_current_behind_a_tap_is_named_as_what_flows_at_the_larger_end(tap, share):
    """ell <= 0.2^2 tap^2 where tap < 1.

    Half as much current again is 0.1 pu of current at the rated end.
    """
    model = build("exact", tap=[tap, 1.0])
    part = model.current_limit[0, 0]
    limit = pyo.value(part.upper)
    assert limit == pytest.approx(0.04 * share)

    named = describe_limit(model, part, limit, (1.5**2 - 1) * limit, False)

    assert named.amount == pytest.approx(0.1 * AMPERE, rel=1e-9)


def test_a_polygon_side_that_lies_at_the_square_of_its_limit_is_still_linear():
    """cos(pi / 32) s_max = s_max^2 at s_max = cos(pi / 32)."""
    most = float(np.cos(np.pi / 32))
    wide = {
        "gen_p_min": [-np.inf],
        "gen_p_max": [np.inf],
        "gen_q_min": [-np.inf],
        "gen_q_max": [np.inf],
    }
    model = build("linear", s_max=[np.inf, most], **wide)
    part = model.power_limit[0, 1, "from", 0]

    assert describe_limit(model, part, pyo.value(part.upper), 0.02, False).amount == pytest.approx(
        0.2, rel=1e-9
    )


def test_what_holds_for_the_whole_horizon_has_no_step():
    model = build("exact")

    named = describe_limit(model, model.soc_final[0], 0.5, -0.1, False)

    assert named == NamedLimit(
        "stored energy at the end", "battery 'store'", None, pytest.approx(0.4), "MWh"
    )


def test_one_period_has_no_steps_to_name():
    model = build("exact", n_step=1)

    assert describe_limit(model, model.w[0, 1], 0.81, -0.0356, False).step is None


def test_a_users_own_constraints_keep_their_names_and_numbers():
    model = build("exact")
    model.mine = pyo.Constraint(expr=model.p_gen[0, 0] >= 0.5)
    model.each = pyo.Constraint(model.time, rule=lambda m, t: m.p_gen[t, 0] >= 0.5)

    assert describe_limit(model, model.mine, 0.5, -0.4, False) == NamedLimit(
        "mine", "every point", None, 0.4, ""
    )
    assert describe_limit(model, model.each[1], 0.5, -0.4, True) == NamedLimit(
        "each", "index 1", None, 0.4, ""
    )


def test_any_other_model_keeps_its_own_names():
    model = pyo.ConcreteModel("other")
    model.w = pyo.Var([(0, 1)], bounds=(0, 1))

    assert describe_limit(model, model.w[0, 1], 1.0, 0.25, False) == NamedLimit(
        "w", "index (0, 1)", None, 0.25, ""
    )
