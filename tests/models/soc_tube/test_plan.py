"""The linear program of one day and side: its factor, its batteries, and one plan by hand."""

from dataclasses import replace

import numpy as np
import pyomo.environ as pyo
import pytest

import feeders
from feederguard.models.battery import Batteries
from feederguard.models.network import Network
from feederguard.models.power_flow import solve_power_flow
from feederguard.models.soc_tube.plan import (
    build_tube_plan,
    charging_factor,
    constants,
    first_of_make,
)
from feederguard.models.solver import solve


def two_buses() -> Network:
    """0 --0.1-- 1 without reactance, a substation at 1 pu, 1 MVA, band 0.95..1.05."""
    return feeders.two_buses(name="two buses", v_min=0.95, v_max=1.05)


def battery(network, energy=1.0, p_max=0.5, **changes) -> Batteries:
    """Lossless unless said otherwise, half full."""
    return Batteries.at(
        network,
        ["1"],
        p_max,
        energy,
        **({"efficiency_charge": 1.0, "efficiency_discharge": 1.0} | changes),
    )


def test_batteries_of_one_make_are_one():
    units = Batteries([1, 2], [0.5, 1.0], [2.0, 4.0], soc_end=[0.4, 0.4])
    assert first_of_make(units).tolist() == [0, 0]
    assert first_of_make(replace(units, soc_end=np.array([0.4, 0.6]))).tolist() == [0, 1]
    assert first_of_make(replace(units, energy=np.array([2.0, 2.0]))).tolist() == [0, 1]


def test_kappa_is_the_slope_of_the_power_flow_at_the_limit():
    """Without reactance 0.475 of demand takes the bus to 0.95; LinDistFlow says -0.2 per pu."""
    network, p = two_buses(), np.array([[0, 0.475 - 1e-4], [0, 0.475 + 1e-4]])
    w = np.abs(solve_power_flow(network, p, 0 * p).voltage[:, 1]) ** 2
    assert charging_factor(network) == pytest.approx(0.95 / 0.9)
    assert (w[1] - w[0]) / 2e-4 / -0.2 == pytest.approx(charging_factor(network), rel=1e-5)


def test_kappa_is_one_where_the_band_is_too_wide_for_it():
    assert charging_factor(feeders.two_buses(v_min=0.4)) == 1.0


def test_a_plan_by_hand():
    """The last of two hours asks for 0.2 of the power: it must be in store, 0.1 of the energy."""
    network = two_buses()
    unit = battery(network, soc_start=0.3, soc_end=0.2)
    no_limit = np.array([1.0, -0.2])
    model = build_tube_plan(network, unit, "low", no_limit, 1.0, np.zeros(2, dtype=bool))
    solve(model, "highs")
    assert pyo.value(model.d[1]) >= 0.2 - 1e-9
    soc = [pyo.value(model.soc[t, 0]) for t in range(3)]
    assert soc[1] == pytest.approx(soc[2] + 0.1) and soc[2] == pytest.approx(0.2)


def test_its_constants_are_named():
    """They are part of the name under which a tube is kept."""
    assert set(constants()) == {"forced_price", "held", "rounding"}
