"""DistFlow with switches: what an open branch does, and the bounds that hold for every topology.

The equations of closed branches are compared with complex arithmetic in
tests/laws/test_distflow.py.
"""

import numpy as np
import pyomo.environ as pyo
import pytest
from pyomo.common.collections import ComponentSet
from pyomo.core.expr.visitor import identify_variables

from feederguard.models.equations.switched_distflow import (
    THETA_MAX_RAD,
    add_branch_flow,
    highest_voltage,
    largest_current,
)
from feeders import feeder, row, two_buses


def flow_of(network, y, angles=False, live=True):
    model = pyo.ConcreteModel()
    model.bus = pyo.RangeSet(0, network.n_bus - 1)
    model.branch = pyo.RangeSet(0, network.n_branch - 1)
    model.y = pyo.Var(model.branch, domain=pyo.Binary, initialize=dict(enumerate(y)))
    model.zone_of = dict.fromkeys(model.bus, 0)
    model.energised = pyo.Var([0], initialize=1.0)
    model.energised[0].fixed = live
    model.p_net = pyo.Expression(model.bus, initialize=0.0)
    model.q_net = pyo.Expression(model.bus, initialize=0.0)
    add_branch_flow(model, network, np.full(network.n_branch, 2.0), 0.9, 1.1, angles)
    return model


def test_an_open_branch_carries_nothing_and_ties_no_voltages():
    network = row(3)
    model = flow_of(network, [1, 0])
    model.P.set_values({0: 0.0, 1: 0.0})
    model.Q.set_values({0: 0.0, 1: 0.0})

    assert pyo.value(model.open_carries_nothing[1, "P", 1].upper) == pytest.approx(0.0)
    for w in ((0.81, 1.21), (1.21, 0.81)):
        model.w[1].set_value(w[0])
        model.w[2].set_value(w[1])
        assert model.drop_above[1].slack() > -1e-12 and model.drop_below[1].slack() > -1e-12
    model.y[1].set_value(1)
    assert min(model.drop_above[1].slack(), model.drop_below[1].slack()) < -0.3


@pytest.mark.parametrize("y", [0, 1])
def test_what_is_dark_has_no_voltage_and_charges_nothing(y):
    """(7) with e = 0 leaves w = 0, and u = y w = 0 whether the cable is closed or not."""
    model = flow_of(row(3, b_from=0.1, b_to=0.1), [1, y], live=False)
    model.energised[0].set_value(0.0)
    for w, holds in ((0.0, True), (0.5, False)):
        model.w[2].set_value(w)
        slacks = [r.slack() for k, r in model.voltage_band.items() if k > 2]
        assert (min(slacks) > -1e-12) == holds
    model.w[2].set_value(0.0)
    far = list(model.u)[-1]
    for u, holds in ((0.0, True), (0.1, False)):
        model.u[far].set_value(u)
        slacks = [r.slack() for r in model.product.values() if model.u[far] in _variables(r)]
        assert (min(slacks) > -1e-12) == holds


def _variables(constraint):
    return ComponentSet(identify_variables(constraint.body, include_fixed=False))


def test_a_switchable_cable_charges_only_while_it_is_closed():
    """u = y w: with b = 0.1 at either end, 0.1 w at each bus while closed, and 0 while open."""
    network = two_buses(b_from=0.1, b_to=0.1)
    for y in (0, 1):
        model = flow_of(network, [y])
        model.w[1].set_value(1.1)
        for k, w in zip(model.u, (1.0, 1.1), strict=True):
            model.u[k].set_value(y * w)
        assert min(r.slack() for r in model.product.values()) > -1e-12
        assert [pyo.value(model.charging[bus][1]) for bus in (0, 1)] == pytest.approx(
            [0.1 * y, 0.11 * y]
        )
        model.u[1].set_value(y * 1.1 + 0.05)
        assert min(r.slack() for r in model.product.values()) < -0.01


def test_the_linearised_angle_holds_on_closed_branches_alone():
    """x P - r Q = 0.05 * 0.4 - 0.02 * 0.1 = 0.018 rad."""
    model = flow_of(row(2, r=0.02, x=0.05), [1], angles=True)
    model.P[0].set_value(0.4)
    model.Q[0].set_value(0.1)
    model.theta[1].set_value(-0.018)
    assert [model.loop_angle[0, side].slack() for side in (-1, 1)] == pytest.approx([0, 0])
    model.theta[1].set_value(THETA_MAX_RAD)
    assert model.loop_angle[0, -1].slack() < 0
    model.y[0].set_value(0)
    assert min(model.loop_angle[0, side].slack() for side in (-1, 1)) > 0


def test_without_sources_no_bus_is_above_its_substation():
    consuming, p = row(3, v_substation=[1.02]), np.array([0.0, 0.1, 0.2])
    assert highest_voltage(consuming, p, 0 * p, 1.1) == 1.02
    assert highest_voltage(consuming, -p, 0 * p, 1.1) == 1.1
    assert highest_voltage(row(3, b_to=0.1), p, 0 * p, 1.1) == 1.1


def test_the_largest_current_is_all_demand_at_the_lowest_voltage():
    """hypot(0.3, 0.4) / 0.5 = 1, half as much again in a mesh, and 2 * 0.1 * 1.1 of charging."""
    network = feeder("0-1 1-2", b_to=[0.1, 0.0])
    p, q = np.array([0, 0.3, 0]), np.array([0, 0.4, 0])
    assert largest_current(network, p, q, 0.5, 1.1, radial=True) == pytest.approx(1.22, abs=1e-5)
    assert largest_current(network, p, q, 0.5, 1.1, radial=False) == pytest.approx(1.83, abs=1e-5)
