"""Voltages of the AC equations: bands, held substations, and angle limits of both forms."""

import numpy as np
import pyomo.environ as pyo
import pytest

from feederguard.models.equations.ac import branch_coefficients
from feederguard.models.equations.ac_voltages import (
    add_cone_angle_limits,
    add_cone_voltages,
    add_polar_angle_limits,
    add_polar_voltages,
    flat_start,
)
from feeders import feeder, two_buses


def model_of(network, form):
    model, coefficients = pyo.ConcreteModel(), branch_coefficients(network)
    model.time, model.bus = pyo.RangeSet(0, 0), pyo.RangeSet(0, network.n_bus - 1)
    model.branch = pyo.Set(initialize=np.flatnonzero(network.closed).tolist())
    model.pair = pyo.RangeSet(0, len(coefficients.pair) - 1)
    if form == "polar":
        add_polar_voltages(model, network, coefficients)
        add_polar_angle_limits(model, network)
    else:
        add_cone_voltages(model, network, coefficients)
        add_cone_angle_limits(model, network, coefficients)
    return model


def test_a_substation_is_held_outside_the_band_and_others_start_inside_it():
    network = two_buses(v_substation=[1.2], v_min=0.9, v_max=0.95)
    polar, cone = model_of(network, "polar"), model_of(network, "soc")

    assert polar.v[0, 0].fixed and polar.v[0, 0].value == pytest.approx(1.2)
    assert polar.v[0, 1].bounds == (0.9, 0.95)
    assert cone.w[0, 0].fixed and cone.w[0, 0].value == pytest.approx(1.44)
    assert cone.w[0, 1].bounds == pytest.approx((0.81, 0.9025))
    assert np.abs(flat_start(network)) == pytest.approx([1.2, 0.95])


def test_w_c_and_s_of_the_polar_form_by_hand():
    model = model_of(two_buses(), "polar")
    model.v[0, 1].set_value(0.9)
    model.theta[0, 1].set_value(-0.1)

    assert pyo.value(model.w[0, 1]) == pytest.approx(0.81)
    assert pyo.value(model.c[0, 0]) == pytest.approx(0.9 * np.cos(0.1))
    assert pyo.value(model.s[0, 0]) == pytest.approx(0.9 * np.sin(0.1))


@pytest.mark.parametrize("branches", ["l:0-1", "k:0-1 l:1-0"])
def test_the_cone_form_bounds_the_angle_where_the_polar_one_does(branches):
    """Branch l allows -0.2 to 0.1 rad, also where its pair is drawn the other way round."""
    network = feeder(branches, angle_min=-0.2, angle_max=0.1)
    polar, cone = model_of(network, "polar"), model_of(network, "soc")
    b = network.n_branch - 1
    for angle in np.linspace(-0.3, 0.3, 13):
        at_1 = angle if network.from_bus[b] == 1 else -angle
        polar.theta[0, 1].set_value(at_1)
        cone.c[0, 0].set_value(np.cos(at_1))
        cone.s[0, 0].set_value(-np.sin(at_1))
        inside = polar.angle_limit[0, b].slack() >= -1e-12
        assert inside == (min(cone.angle_limit[0, b, side].slack() for side in (-1, 1)) >= -1e-12)
        assert inside == (-0.2 - 1e-9 <= angle <= 0.1 + 1e-9)
