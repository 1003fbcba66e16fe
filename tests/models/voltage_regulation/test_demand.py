"""Net demand of days with batteries, and its AC voltages."""

import numpy as np
import pytest

from feederguard.models.battery import Batteries
from feederguard.models.voltage_regulation import demand
from feederguard.models.voltage_regulation.demand import (
    battery_demand,
    flow_of_days,
    idle_voltages,
    net_demand,
)
from feeders import demand_days, two_buses


def test_batteries_at_one_bus_draw_their_sum():
    units = Batteries([1, 1, 0], 1.0, 1.0, name=("a", "b", "c"))
    drawn = battery_demand(two_buses(), units, np.array([[0.1, 0.2, -0.4]]))
    assert drawn[0] == pytest.approx([-0.4, 0.3])


def test_reactive_generation_of_the_network_counts():
    network = two_buses(q_gen=[0, 0.2])
    p, q = net_demand(network, demand_days([0.5]))
    assert p[0, 0].tolist() == [0, 0.5] and q[0, 0].tolist() == [0, -0.2]


def test_idle_voltages_by_hand():
    """V^2 - V + 0.1 p = 0; 3 pu has no solution."""
    v = idle_voltages(two_buses(), demand_days([0.6, 3.0]))
    assert v[0, 0, 1] == pytest.approx((1 + np.sqrt(1 - 0.24)) / 2, abs=1e-8)
    assert np.isnan(v[0, 1]).all()


def test_flows_in_pieces_are_the_flows_at_once(monkeypatch):
    network, p = two_buses(), demand_days(np.linspace(-1, 1, 7)).p_load
    whole = flow_of_days(network, p, 0 * p)
    monkeypatch.setattr(demand, "_FLOWS_AT_ONCE", 3)
    for at_once, pieces in zip(whole, flow_of_days(network, p, 0 * p), strict=True):
        np.testing.assert_allclose(pieces, at_once, atol=1e-9)


def test_a_bus_that_is_not_fed_is_refused():
    with pytest.raises(ValueError, match="hand: bus '1' is not fed in the normal state; close a"):
        idle_voltages(two_buses(closed=[False]), demand_days([0.1]))
