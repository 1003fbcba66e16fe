"""Buses of a pandapower net: what stands at them, and the switches that join them."""

import numpy as np
import pandapower
import pytest

from feederguard.models.network import Network, NetworkError
from feederguard.models.power_flow import solve_power_flow
from pandapower_nets import (
    add_line,
    assert_round_trip,
    assert_same_flow,
    feeder,
)


def test_closed_bus_switches_stay_couplers_at_one_voltage():
    """Buses 5 and 6 are coupled to 3; pandapower fuses all three."""
    net = feeder()
    pandapower.create_bus(net, 20.0, min_vm_pu=0.95, max_vm_pu=1.08)
    pandapower.create_bus(net, 20.0, min_vm_pu=0.92, max_vm_pu=1.06)
    pandapower.create_switch(net, 6, 5, et="b", type="CB")
    pandapower.create_switch(net, 5, 3, et="b", type="DS")
    pandapower.create_load(net, 6, p_mw=0.7, q_mvar=0.2)
    pandapower.create_sgen(net, 5, p_mw=0.3)

    network = assert_same_flow(net)
    assert_round_trip(network)

    couplers = [network.branch_index("switch 0"), network.branch_index("switch 1")]
    assert [network.kind[k] for k in couplers] == ["coupler", "coupler"]
    assert network.p_load[6] == pytest.approx(0.7 / 10)
    assert (network.v_min[5], network.v_max[6]) == (0.95, 1.06)
    assert network.devices.kind == ("breaker", "disconnector")
    assert network.devices.branch.tolist() == couplers
    apart = network.with_changes(closed=np.arange(network.n_branch) != couplers[0])
    assert solve_power_flow(apart).energised.tolist() == [True] * 6 + [False]


def test_the_priority_of_a_bus_is_that_of_its_loads_by_power():
    """0.5 MW of priority 4 beside 1.5 MW without one: (0.5 * 4 + 1.5) / 2 = 1.75."""
    net = feeder()
    pandapower.create_load(net, 3, p_mw=1.0, scaling=0.5)
    net.load["priority"] = np.nan
    net.load.loc[net.load.index[-1], "priority"] = 4.0
    network = Network.from_pandapower(net)
    assert network.priority[3] == pytest.approx(1.75)
    assert (np.delete(network.priority, 3) == 1).all()
    again = Network.from_pandapower(network.to_pandapower())
    np.testing.assert_allclose(again.priority, network.priority)

    net.load.loc[net.load.index[-1], "priority"] = 0.0
    with pytest.raises(NetworkError, match="priority is 0.0; give a positive number"):
        Network.from_pandapower(net)


def test_negative_generation_is_demand():
    """0.4 MW of a negative sgen, beside 0.3 MW of another at the same bus and 1.5 MW of load."""
    net = feeder()
    pandapower.create_sgen(net, 3, p_mw=-0.4, q_mvar=0.1)
    pandapower.create_sgen(net, 3, p_mw=0.6, q_mvar=0.02, scaling=0.5)
    pandapower.create_asymmetric_sgen(net, 1, p_a_mw=-0.2, p_b_mw=0.05)

    network = assert_same_flow(net)

    assert network.p_load[3] == pytest.approx((1.5 + 0.4) / 10)
    assert network.q_load[3] == pytest.approx((1.5 / 4 - 0.1) / 10)
    assert (network.p_gen[3], network.q_gen[3]) == pytest.approx((0.03, 0.001))
    assert network.p_load[1] == pytest.approx((1.0 + 0.15) / 10) and network.p_gen[1] == 0


@pytest.mark.parametrize("z_ohm", [0.0, 0.4])
@pytest.mark.parametrize("closed", [True, False])
def test_bus_switch_is_a_coupler_of_its_impedance_open_or_closed(closed, z_ohm):
    net = feeder()
    pandapower.create_switch(
        net, 1, 3, et="b", closed=closed, name="coupler", z_ohm=z_ohm, in_ka=0.6
    )

    network = assert_same_flow(net)
    again = assert_round_trip(network)

    k = network.branch_index("coupler")
    assert (network.kind[k], network.closed[k]) == ("coupler", closed)
    assert again.kind[again.branch_index("coupler")] == "coupler"
    assert abs(network.z[k]) == pytest.approx(z_ohm / 40 or 1e-11)
    assert network.rating[k] == pytest.approx(np.sqrt(3) * 20 * 0.6 / 10)


def test_open_bus_switch_keeps_a_dead_bus():
    net = feeder()
    pandapower.create_bus(net, 20.0)
    pandapower.create_load(net, 5, p_mw=0.4)
    pandapower.create_switch(net, 3, 5, et="b", closed=False)

    network = assert_same_flow(net)

    assert not solve_power_flow(network).energised[network.bus_index("5")]


@pytest.mark.newest
def test_everything_that_hangs_on_a_bus():
    net = feeder()
    pandapower.create_load(net, 1, p_mw=0.5, q_mvar=0.1, scaling=0.6)
    pandapower.create_load(net, 1, p_mw=9.0, in_service=False)
    pandapower.create_storage(net, 1, p_mw=0.2, max_e_mwh=1.0, q_mvar=0.05)
    pandapower.create_motor(
        net, 1, pn_mech_mw=0.3, cos_phi=0.9, efficiency_percent=95.0, loading_percent=80.0
    )
    pandapower.create_asymmetric_load(net, 1, p_a_mw=0.02, p_b_mw=0.03, q_c_mvar=0.01, scaling=0.5)
    pandapower.create_ward(net, 1, ps_mw=0.1, qs_mvar=0.02, pz_mw=0.05, qz_mvar=-0.03)
    pandapower.create_shunt(net, 1, q_mvar=-0.3, p_mw=0.01, vn_kv=21.0, step=2, max_step=3)
    pandapower.create_sgen(net, 1, p_mw=0.8, q_mvar=-0.1, scaling=0.5)
    pandapower.create_sgen(net, 1, p_mw=9.0, in_service=False)
    pandapower.create_asymmetric_sgen(net, 1, p_a_mw=0.01, p_b_mw=0.02, q_a_mvar=0.004)

    network = assert_same_flow(net)
    assert_round_trip(network)

    motor_mw = 0.3 / 0.95 * 0.8
    assert network.p_load[1] == pytest.approx((1.0 + 0.3 + 0.2 + motor_mw + 0.025 + 0.1) / 10)
    assert (network.p_gen[1], network.q_gen[1]) == pytest.approx(
        ((0.4 + 0.03) / 10, (-0.05 + 0.004) / 10)
    )
    step = 2 * (20 / 21) ** 2
    assert (network.g_shunt[1], network.b_shunt[1]) == pytest.approx(
        ((0.05 + 0.01 * step) / 10, (0.03 + 0.3 * step) / 10)
    )


def test_several_ext_grids_at_their_own_angles():
    net = feeder()
    pandapower.create_bus(net, 20.0)
    pandapower.create_ext_grid(net, 5, vm_pu=1.01, va_degree=9.5)
    pandapower.create_ext_grid(net, 1, vm_pu=0.7, in_service=False)
    add_line(net, 5, 3)

    network = assert_same_flow(net)
    assert_round_trip(network)

    assert [network.bus_name[i] for i in network.substation] == ["0", "5"]
    assert np.angle(network.v_substation, deg=True) == pytest.approx([10.0, 9.5])


def test_limits_are_those_of_the_net_and_else_0_90_and_1_10():
    net = feeder()
    without = Network.from_pandapower(net)
    net.bus["min_vm_pu"], net.bus["max_vm_pu"] = [0.95] + [np.nan] * 4, [np.nan] * 4 + [1.04]

    network = Network.from_pandapower(net)

    assert set(without.v_min) == {0.9} and set(without.v_max) == {1.1}
    assert network.v_min.tolist() == [0.95, 0.9, 0.9, 0.9, 0.9]
    assert network.v_max.tolist() == [1.1, 1.1, 1.1, 1.1, 1.04]


def test_voltage_dependent_loads_become_constant_power_with_a_warning():
    net = feeder()
    pandapower.create_load(net, 1, p_mw=0.4, const_z_p_percent=40.0)

    with pytest.warns(
        UserWarning, match=r"ring: load 4 depends on voltage .* taken as constant power"
    ):
        network = Network.from_pandapower(net)

    assert network.p_load[1] == pytest.approx(1.4 / 10)
