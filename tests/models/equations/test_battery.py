"""A day of one battery by hand, and where it would pay to charge and discharge at once."""

import numpy as np
import pyomo.environ as pyo
import pytest

import feeders
from feederguard.models.battery import Batteries
from feederguard.models.battery.netting import net_batteries, simultaneous_use
from feederguard.models.distflow_opf import build_distflow_opf
from feederguard.models.equations.battery import (
    forbid_simultaneous_by_binaries,
    forbid_simultaneous_by_products,
)
from feederguard.models.network import Network
from feederguard.models.opf_objectives import energy_price, losses_mw, regulation_power
from feederguard.models.solver import NotSolvedError, solve


def two_bus(load_mw: float = 0.0, gen_mw: float = 0.0, v_max: float = 1.1) -> Network:
    """0 --r = 0.1-- 1 on 1 MVA; load and fixed generation at bus 1."""
    given = {"p_load": [0.0, load_mw], "p_gen": [0.0, gen_mw], "v_max": v_max}
    return feeders.two_buses(name="pair", **given)


def battery(network: Network, efficiency: float = 0.8, **changes) -> Batteries:
    settings = {"p_max_mw": 0.1, "energy_mwh": 0.2} | changes
    return Batteries.at(
        network, ["1"], efficiency_charge=efficiency, efficiency_discharge=efficiency, **settings
    )


def model_of(network, form, prices, objective=None, **settings):
    """An OPF of one-hour steps at these prices, the load standing in each."""
    p_load = np.tile(network.p_load, (len(prices), 1))
    return build_distflow_opf(
        network,
        form,
        p_load=p_load,
        batteries=battery(network, **settings),
        objective=objective or (lambda m: energy_price(m, prices)),
    )


def values(variable):
    return [v.value for v in variable.values()]


def test_buying_low_and_selling_high_by_hand():
    """0.1 MW for an hour stores 0.8 * 0.1 / 0.2 = 0.4.

    Giving that back yields 0.4 * 0.2 * 0.8 = 0.064 MW for an hour.
    """
    model = model_of(two_bus(), "linear", [10.0, 50.0])

    assert solve(model).objective == pytest.approx(10 * 0.1 - 50 * 0.064)
    assert values(model.p_charge) == pytest.approx([0.1, 0.0])
    assert values(model.p_discharge) == pytest.approx([0.0, 0.064])
    assert values(model.soc) == pytest.approx([0.9, 0.5])


def test_half_the_step_moves_half_the_energy():
    network = two_bus()
    model = build_distflow_opf(
        network,
        "linear",
        p_load=np.zeros((2, 2)),
        step_h=0.5,
        batteries=battery(network),
        objective=lambda m: energy_price(m, [10.0, 50.0]),
    )

    assert solve(model).objective == pytest.approx(0.5 * (10 * 0.1 - 50 * 0.064))
    assert values(model.soc) == pytest.approx([0.7, 0.5])


def test_a_fixed_end_is_met_and_an_open_end_keeps_the_start():
    up = model_of(two_bus(), "linear", [10.0], soc_end=0.7)
    solve(up)
    assert values(up.p_charge) == pytest.approx(
        [0.2 * 0.2 / 0.8]
    )  # 0.2 of 0.2 MWh, 0.8 of what is drawn

    idle = model_of(two_bus(), "linear", [50.0])
    assert solve(idle).objective == pytest.approx(
        0.0
    )  # selling what it holds would leave less than the start


def test_a_battery_of_no_power_is_idle():
    model = model_of(two_bus(), "linear", [10.0, 50.0], p_max_mw=0.0)
    assert solve(model).objective == pytest.approx(0.0)


class TestANegativePrice:
    """Drawing earns 20 $/MWh and SOC may not change, so burning earns.

    0.8 c = d / 0.8 and c + d = 0.1: c = 0.1 / 1.64 and d = 0.064 / 1.64; 0.036 / 1.64 MW is burnt.
    """

    settings = {"soc_end": 0.5}

    def test_makes_simultaneous_use_pay_and_is_named(self):
        model = model_of(two_bus(), "linear", [-20.0], **self.settings)

        assert solve(model).objective == pytest.approx(-20 * 0.036 / 1.64)
        net_batteries(model)  # finds no room for what it would keep
        (use,) = simultaneous_use(model)
        assert (use.battery, use.step) == ("1", 0)
        assert use.p_charge_mw == pytest.approx(0.1 / 1.64)
        assert use.p_discharge_mw == pytest.approx(0.064 / 1.64)

    def test_binaries_forbid_it(self):
        model = model_of(two_bus(), "linear", [-20.0], **self.settings)
        forbid_simultaneous_by_binaries(model)

        assert solve(model, "highs").objective == pytest.approx(0.0, abs=1e-6)
        assert simultaneous_use(model) == []

    def test_binaries_forbid_it_in_the_cone_too(self):
        """Losses in the line cost more than burning earns.

        Else the cone's excess current would burn instead.
        """

        def earnings(m):
            return energy_price(m, -20.0) + 30.0 * losses_mw(m)

        burning = model_of(two_bus(), "soc", [-20.0], objective=earnings, **self.settings)
        assert solve(burning, "scip").objective < -0.3
        assert len(simultaneous_use(burning)) == 1

        forbid_simultaneous_by_binaries(burning)
        assert solve(burning, "scip").objective == pytest.approx(0.0, abs=1e-6)
        assert simultaneous_use(burning) == []

    @pytest.mark.parametrize("form", ["linear", "exact"])
    def test_products_forbid_it_for_ipopt(self, form):
        model = model_of(two_bus(load_mw=0.1), form, [-20.0, -20.0], **self.settings)
        forbid_simultaneous_by_products(model)
        solve(model, "ipopt")
        net_batteries(model)

        assert simultaneous_use(model, tolerance_mw=2e-5) == []


def test_surplus_at_a_full_battery_is_burnt_only_if_simultaneous_use_is_allowed():
    """The line takes 0.105 of 0.2 MW of PV below 1.01 pu.

    With the battery full the rest has nowhere to go.
    """
    network = two_bus(gen_mw=0.2, v_max=1.01)
    full = {"soc_start": 1.0, "soc_end": 1.0, "p_max_mw": 2.0, "efficiency": 0.9}
    burning = model_of(network, "linear", [0.0], objective=regulation_power, **full)
    solve(burning)
    net_batteries(burning)
    assert [use.step for use in simultaneous_use(burning)] == [0]

    honest = model_of(network, "linear", [0.0], objective=regulation_power, **full)
    forbid_simultaneous_by_binaries(honest)
    with pytest.raises(NotSolvedError, match="highs stopped with infeasible after"):
        solve(honest)


def test_without_conversion_loss_simultaneous_use_is_a_tie_that_netting_breaks():
    """Least losses of a steady load: the battery must idle on balance.

    Ipopt returns both powers in mid-range.
    """
    model = model_of(two_bus(load_mw=0.3), "exact", [0.0] * 4, objective=losses_mw, efficiency=1.0)
    solve(model, "ipopt")
    assert len(simultaneous_use(model)) == 4
    power = np.array(values(model.p_discharge)) - np.array(values(model.p_charge))
    before = pyo.value(model.objective)

    net_batteries(model)

    assert simultaneous_use(model) == []
    after = np.array(values(model.p_discharge)) - np.array(values(model.p_charge))
    np.testing.assert_allclose(after, power, atol=1e-12)
    assert pyo.value(model.objective) == before
    balance = np.diff([0.5, *values(model.soc)]) * 0.2 + after
    np.testing.assert_allclose(balance, 0.0, atol=1e-9)


@pytest.mark.parametrize("price", [0.0, 30.0])
def test_a_flat_price_without_a_penalty_leaves_nothing_after_netting(price):
    model = model_of(
        two_bus(load_mw=0.3),
        "soc",
        [price] * 3,
        objective=lambda m: energy_price(m, price) + losses_mw(m),
    )
    solve(model, "ipopt")
    net_batteries(model)
    assert simultaneous_use(model) == []


def test_an_end_out_of_reach_is_named():
    with pytest.raises(
        ValueError, match="battery '1' cannot go from soc_start 0.1 to soc_end 1 in 2 steps of 1 h"
    ):
        model_of(two_bus(), "linear", [1.0, 1.0], soc_start=0.1, soc_end=1.0)


def test_a_battery_beside_the_feeder_is_named():
    lost = Batteries(bus=np.array([7]), p_max=np.array([1.0]), energy=np.array([1.0]))
    with pytest.raises(
        ValueError, match="battery 'battery 1' is at bus 7; buses are numbered 0 to 1"
    ):
        build_distflow_opf(two_bus(), "linear", batteries=lost)
