"""Small pandapower nets for tests, and both power flows held against each other.

The bus admittance matrix is built here, apart from the code under test.
"""

import copy
import functools
import warnings

import numpy as np
import pandapower

from feederguard.models.network import Network
from feederguard.models.network.graph import zones
from feederguard.models.power_flow import solve_power_flow


def bus_admittance(network):
    """Dense bus admittance matrix in the normal state, straight from the fields.

    Branches open at one end are included. Couplers without impedance are left out.
    """
    y = np.diag(network.g_shunt + 1j * network.b_shunt)
    for k in range(network.n_branch):
        i, j, z = network.from_bus[k], network.to_bus[k], network.z[k]
        y_from, y_to = (
            network.g_from[k] + 1j * network.b_from[k],
            network.g_to[k] + 1j * network.b_to[k],
        )
        ratio = network.tap[k] * np.exp(1j * network.shift[k])
        if fuses(network)[k]:
            continue
        if network.closed[k]:
            y[i, i] += (1 / z + y_from) / abs(ratio) ** 2
            y[i, j] -= 1 / (z * np.conj(ratio))
            y[j, i] -= 1 / (z * ratio)
            y[j, j] += 1 / z + y_to
        elif network.open_end[k] == 1:
            y[j, j] += y_to + y_from / (1 + z * y_from)
        elif network.open_end[k] == 2:
            y[i, i] += (y_from + y_to / (1 + z * y_to)) / abs(ratio) ** 2
    return y


def fuses(network):
    """The closed branches of practically no impedance, whose two buses have one voltage."""
    return network.closed & (np.abs(network.z) < 1e-7)


def run(net):
    pandapower.runpp(net, calculate_voltage_angles=True, tolerance_mva=1e-10, max_iteration=50)


def solved_voltage(net, network):
    """pandapower's complex voltage at the buses of a network, NaN where dead.

    The network's labels must be pandapower's indices.
    """
    at = dict(
        zip(net.bus.index.astype(str), polar(net.res_bus.vm_pu, net.res_bus.va_degree), strict=True)
    )
    stars = polar(net.res_trafo3w.vm_internal_pu, net.res_trafo3w.va_internal_degree)
    at |= {
        f"{name} star": voltage for name, voltage in zip(net.trafo3w["name"], stars, strict=True)
    }
    return np.array([at[name] for name in network.bus_name])


def polar(vm_pu, va_degree):
    return (vm_pu * np.exp(1j * np.deg2rad(va_degree))).to_numpy()


def indexed(net):
    """A copy whose buses are named by their index.

    A network's labels then lead back to pandapower's results.
    """
    net = copy.deepcopy(net)
    net.bus["name"] = net.bus.index.astype(str)
    net.trafo3w["name"] = [f"t{index}" for index in net.trafo3w.index]
    return net


def assert_same_flow(net):
    """The network of this net has pandapower's voltages, by admittances and by our flow."""
    net = indexed(net)
    run(net)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*left out bus")
        network = Network.from_pandapower(net)
    expected = solved_voltage(net, network)
    live = ~np.isnan(expected)
    voltage = np.where(live, expected, 0)

    demand = network.p_load - network.p_gen + 1j * (network.q_load - network.q_gen)
    mismatch = voltage * np.conj(bus_admittance(network) @ voltage) + demand
    one = zones(network, fuses(network))
    total = np.zeros(network.n_bus, dtype=complex)
    np.add.at(total, one, np.where(live, mismatch, 0))
    total[one[network.substation]] = 0
    assert abs(total).max() < 1e-9
    np.testing.assert_allclose(expected[network.substation], network.v_substation, atol=1e-12)

    flow = solve_power_flow(network)
    assert flow.converged
    np.testing.assert_array_equal(flow.energised, live)
    np.testing.assert_allclose(flow.voltage[live], expected[live], rtol=0, atol=1e-8)
    return network


def assert_round_trip(network):
    """The net written for this network has its voltages.

    Reading that net back changes no label and no flow.
    """
    net = network.to_pandapower()
    run(net)
    written = polar(net.res_bus.vm_pu, net.res_bus.va_degree)
    flow = solve_power_flow(network)
    assert list(net.bus["name"]) == list(network.bus_name)
    np.testing.assert_array_equal(~np.isnan(written), flow.energised)
    np.testing.assert_allclose(
        written[flow.energised], flow.voltage[flow.energised], rtol=0, atol=1e-8
    )

    again = Network.from_pandapower(net)
    assert again.bus_name == network.bus_name
    assert sorted(again.branch_name) == sorted(network.branch_name)
    np.testing.assert_allclose(solve_power_flow(again).voltage, flow.voltage, rtol=0, atol=1e-9)
    order = [again.branch_index(name) for name in network.branch_name]
    np.testing.assert_allclose(again.rating[order], network.rating, rtol=1e-12)
    np.testing.assert_array_equal(again.closed[order], network.closed)
    np.testing.assert_array_equal(
        again.open_end[order][~network.closed], network.open_end[~network.closed]
    )
    return again


def held(net):
    """A net with its PV generators and xwards turned into what a Network can hold."""
    if len(net.gen):
        pandapower.toolbox.replace_gen_by_sgen(net)
    if len(net.xward):
        pandapower.toolbox.replace_xward_by_ward(net, list(net.xward.index))
    return net


def feeder():
    return copy.deepcopy(ring())


@functools.cache
def ring():
    """A 20 kV ring with charging and a transformer to 0.4 kV.

    ext_grid 0 --line 0-- 1 --line 1-- 2 --trafo 0-- 4
             0 --line 2-- 3 --line 3-- 2
    """
    net = pandapower.create_empty_network(name="ring", sn_mva=10.0)
    for vn_kv in (20.0, 20.0, 20.0, 20.0, 0.4):
        pandapower.create_bus(net, vn_kv)
    pandapower.create_ext_grid(net, 0, vm_pu=1.02, va_degree=10.0)
    for from_bus, to_bus in ((0, 1), (1, 2), (0, 3), (3, 2)):
        add_line(net, from_bus, to_bus)
    add_trafo(net, 2, 4)
    for bus, p_mw in ((1, 1.0), (2, 2.0), (3, 1.5), (4, 0.6)):
        pandapower.create_load(net, bus, p_mw=p_mw, q_mvar=p_mw / 4)
    return net


def add_line(net, from_bus, to_bus, **options):
    values = {
        "length_km": 4.0,
        "r_ohm_per_km": 0.2,
        "x_ohm_per_km": 0.3,
        "c_nf_per_km": 300.0,
        "max_i_ka": 0.3,
    }
    return pandapower.create_line_from_parameters(net, from_bus, to_bus, **values | options)


def add_trafo(net, hv_bus, lv_bus, **options):
    values = {
        "sn_mva": 0.63,
        "vn_hv_kv": 20.0,
        "vn_lv_kv": 0.41,
        "vkr_percent": 1.1,
        "vk_percent": 6.0,
        "pfe_kw": 1.2,
    }
    values |= {"i0_percent": 0.3, "shift_degree": 150.0, "parallel": 2}
    return pandapower.create_transformer_from_parameters(net, hv_bus, lv_bus, **values | options)


def add_trafo3w(net):
    """110/20/10 kV beside the ext_grid: bus 5 feeds it, bus 6 hangs from its 10 kV winding."""
    pandapower.create_bus(net, 110.0)
    pandapower.create_bus(net, 10.0)
    pandapower.create_ext_grid(net, 5, vm_pu=1.01, va_degree=9.0)
    pandapower.create_load(net, 6, p_mw=3.0, q_mvar=1.0)
    return pandapower.create_transformer3w_from_parameters(
        net, 5, 3, 6, 110.0, 20.0, 10.0, 40.0, 25.0, 15.0, vk_hv_percent=10.0, vk_mv_percent=11.0, vk_lv_percent=9.0,
        vkr_hv_percent=0.3, vkr_mv_percent=0.31, vkr_lv_percent=0.32, pfe_kw=30.0, i0_percent=0.1,
        tap_side="mv", tap_pos=2, tap_neutral=0, tap_min=-5, tap_max=5, tap_step_percent=1.25,
        tap_changer_type="Ratio", name="T",
    )  # fmt: skip
