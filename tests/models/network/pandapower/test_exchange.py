"""pandapower in and out, held against pandapower's own solution by a bus admittance matrix built
here.
"""

import copy
import functools
import warnings

import numpy as np
import pandapower
import pandapower.networks as examples
import pandas as pd
import pytest

from feederguard.models.network import Network, NetworkError
from feederguard.models.network.pandapower.branches import BUS_TIE_X_PU
from feederguard.models.power_flow import solve_power_flow

# pandapower says so of its own example nets.
pytestmark = pytest.mark.filterwarnings("ignore:tap_dependency_table is missing:DeprecationWarning")


def bus_admittance(network):
    """Dense bus admittance matrix in the normal state, open-ended branches included, straight from
    the fields.
    """
    y = np.diag(network.g_shunt + 1j * network.b_shunt)
    for k in range(network.n_branch):
        i, j, z = network.from_bus[k], network.to_bus[k], network.z[k]
        y_from, y_to = (
            network.g_from[k] + 1j * network.b_from[k],
            network.g_to[k] + 1j * network.b_to[k],
        )
        ratio = network.tap[k] * np.exp(1j * network.shift[k])
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


def run(net):
    pandapower.runpp(net, calculate_voltage_angles=True, tolerance_mva=1e-10, max_iteration=50)


def solved_voltage(net, network):
    """pandapower's complex voltage at the buses of a network whose labels are pandapower's indices;
    NaN where dead.
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
    """A copy whose buses are named by their index, so that a network's labels lead back to
    pandapower's results.
    """
    net = copy.deepcopy(net)
    net.bus["name"] = net.bus.index.astype(str)
    net.trafo3w["name"] = [f"t{index}" for index in net.trafo3w.index]
    return net


def assert_same_flow(net):
    """The network of this net has pandapower's voltages, by its admittances and by our power flow."""
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
    mismatch[network.substation] = 0
    assert abs(mismatch[live]).max() < 1e-9
    np.testing.assert_allclose(expected[network.substation], network.v_substation, atol=1e-12)

    flow = solve_power_flow(network)
    assert flow.converged
    np.testing.assert_array_equal(flow.energised, live)
    np.testing.assert_allclose(flow.voltage[live], expected[live], rtol=0, atol=1e-8)
    return network


def assert_round_trip(network):
    """The net written for this network has its voltages, and reading that net back changes no label
    and no flow.
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


@functools.cache
def mv_oberrhein_halves():
    return examples.mv_oberrhein(separation_by_sub=True)


PUBLISHED = {
    **{
        f"mv_oberrhein {scenario} {inside}": lambda scenario=scenario, inside=inside: (
            examples.mv_oberrhein(scenario=scenario, include_substations=inside)
        )
        for scenario in ("load", "generation")
        for inside in (False, True)
    },
    "mv_oberrhein, one half": lambda: mv_oberrhein_halves()[0],
    "mv_oberrhein, other half": lambda: mv_oberrhein_halves()[1],
    **{
        f"cigre_mv {der}": lambda der=der: examples.create_cigre_network_mv(with_der=der)
        for der in (False, "pv_wind", "all")
    },
    "cigre_lv": examples.create_cigre_network_lv,
    "case33bw": examples.case33bw,
    "example_simple": lambda: held(examples.example_simple()),
    "example_multivoltage": lambda: held(examples.example_multivoltage()),
}


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.newest
def test_published_net_has_pandapowers_voltages_there_and_back(name):
    network = assert_same_flow(PUBLISHED[name]())

    assert_round_trip(network)


def test_mv_oberrhein_keeps_its_size_and_its_open_points():
    network = Network.from_pandapower(examples.mv_oberrhein())

    assert (network.n_bus, network.n_branch, len(network.substation)) == (179, 183, 2)
    assert network.kind.count("trafo") == 2
    assert network.kind.count("tie") == (~network.closed).sum() == 6


def test_random_switch_states_and_outages_follow_pandapower():
    """Buses, lines, transformers of two and three windings and switches of all kinds, at random off
    or open.
    """
    original = held(examples.example_multivoltage())
    rng = np.random.default_rng(7)
    tried = 0
    for _ in range(12):
        net = copy.deepcopy(original)
        net.switch["closed"] = rng.random(len(net.switch)) < 0.85
        net.bus.loc[net.bus.index[12:], "in_service"] = rng.random(len(net.bus) - 12) < 0.93
        for table in ("line", "trafo", "trafo3w", "load", "sgen", "shunt", "ward", "impedance"):
            net[table]["in_service"] = rng.random(len(net[table])) < 0.93
        try:
            run(net)
        except pandapower.LoadflowNotConverged:
            continue
        assert_same_flow(net)
        tried += 1
    assert tried >= 8


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


def named(network, name):
    return network.branch_index(name)


def test_line_parameters_by_hand():
    """2 km of two parallel 0.5 + 0.4j ohm/km, 200 nF/km, 10 uS/km at 20 kV, on 10 MVA: base 40 ohm."""
    net = feeder()
    line = add_line(net, 0, 2, length_km=2.0, r_ohm_per_km=0.5, x_ohm_per_km=0.4, c_nf_per_km=200.0, g_us_per_km=10.0,
                    max_i_ka=0.4, df=0.9, parallel=2, name="double")  # fmt: skip

    network = assert_same_flow(net)

    k = named(network, "double")
    assert line == 4 and network.kind[k] == "line" and network.closed[k]
    assert network.r[k] == pytest.approx(2 * 0.5 / 2 / 40)
    assert network.x[k] == pytest.approx(2 * 0.4 / 2 / 40)
    assert (
        network.b_from[k]
        == network.b_to[k]
        == pytest.approx(2 * 2 * 200e-9 * 2 * np.pi * 50 * 40 / 2)
    )
    assert network.g_from[k] == network.g_to[k] == pytest.approx(2 * 2 * 10e-6 * 40 / 2)
    assert network.rating[k] == pytest.approx(np.sqrt(3) * 20 * 0.4 * 0.9 * 2 / 10)


def test_transformer_parameters_by_hand():
    """One step of +5 % on the high side, vector group 5, on the net's own 0.4 kV where the winding
    has 0.41 kV.
    """
    net = feeder()
    net.trafo["pfe_kw"] = net.trafo["i0_percent"] = 0.0
    tapped = {
        "tap_side": "hv",
        "tap_pos": 1,
        "tap_neutral": 0,
        "tap_step_percent": 5.0,
        "tap_changer_type": "Ratio",
    }
    for column, value in tapped.items():
        net.trafo[column] = value

    network = assert_same_flow(net)

    k = named(network, "trafo 0")
    z_pu = 0.06 / (2 * 0.63) * 10 * (0.41 / 0.4) ** 2
    assert network.kind[k] == "trafo" and (network.from_bus[k], network.to_bus[k]) == (2, 4)
    assert network.tap[k] == pytest.approx(1.05 * 0.4 / 0.41)
    assert network.shift[k] == pytest.approx(np.deg2rad(150.0))
    assert abs(network.z[k]) == pytest.approx(z_pu)
    assert network.r[k] == pytest.approx(z_pu * 1.1 / 6.0)
    assert network.rating[k] == pytest.approx(2 * 0.63 / 10)


@pytest.mark.parametrize("side", ["hv", "lv"])
@pytest.mark.parametrize(
    "changer",
    [
        {"tap_changer_type": "Ratio", "tap_step_percent": 2.5},
        {"tap_changer_type": "Ratio", "tap_step_percent": 2.5, "tap_step_degree": 60.0},
        {"tap_changer_type": "Symmetrical", "tap_step_percent": 1.5, "tap_step_degree": 90.0},
        {"tap_changer_type": "Ideal", "tap_step_degree": 2.0},
        {"tap_changer_type": None, "tap_step_percent": 2.5},
    ],
    ids=["ratio", "skewed ratio", "symmetrical", "ideal", "none"],
)
def test_tap_changers_on_both_sides(changer, side):
    net = feeder()
    add_trafo(net, 2, 4, tap_side=side, tap_neutral=0, tap_min=-5, tap_max=5, tap_pos=-2, **changer)

    assert_round_trip(assert_same_flow(net))


def test_tap_table_overrides_the_steps():
    net = feeder()
    net["trafo_characteristic_table"] = pd.DataFrame(
        {
            "id_characteristic": [0],
            "step": [3],
            "voltage_ratio": [1.04],
            "angle_deg": [1.5],
            "vk_percent": [6.6],
            "vkr_percent": [1.2],
        }
    )
    net.trafo["tap_side"], net.trafo["tap_pos"], net.trafo["tap_neutral"] = "hv", 3.0, 0.0
    net.trafo["tap_changer_type"], net.trafo["tap_dependency_table"] = "Tabular", True
    net.trafo["id_characteristic_table"] = 0

    network = assert_same_flow(net)

    assert network.tap[named(network, "trafo 0")] == pytest.approx(1.04 * 0.4 / 0.41)
    assert network.shift[named(network, "trafo 0")] == pytest.approx(np.deg2rad(151.5))


@pytest.mark.parametrize(
    ("star_point", "loss_side"), [(False, "hv"), (True, "mv"), (False, "lv"), (True, "star")]
)
def test_three_winding_transformer_is_a_star_of_branches(star_point, loss_side):
    net = feeder()
    add_trafo3w(net)
    net.trafo3w["tap_at_star_point"], net.trafo3w["tap_step_degree"] = star_point, 0.0
    net.trafo3w["loss_side"] = loss_side

    network = assert_same_flow(net)
    assert_round_trip(network)

    star = network.bus_index("t0 star")
    assert network.from_bus[named(network, "t0 hv")] == network.bus_index("5")
    assert network.to_bus[named(network, "t0 hv")] == star
    assert (
        network.from_bus[named(network, "t0 lv")]
        == network.from_bus[named(network, "t0 mv")]
        == star
    )
    assert network.rating[named(network, "t0 lv")] == pytest.approx(15.0 / 10.0)


@pytest.mark.parametrize(("open_at", "open_end"), [([2], 1), ([3], 2), ([2, 3], 0)])
def test_line_switch_leaves_the_line_hanging_from_its_closed_end(open_at, open_end):
    """Line 3 goes from bus 3 to bus 2; turned here, so that the from end is bus 2."""
    net = feeder()
    net.line.loc[3, ["from_bus", "to_bus"]] = 2, 3
    for bus in (2, 3):
        pandapower.create_switch(net, bus, 3, et="l", closed=bus not in open_at)

    network = assert_same_flow(net)
    assert_round_trip(network)

    k = named(network, "line 3")
    assert (network.kind[k], network.closed[k], network.open_end[k]) == ("tie", False, open_end)
    flow, charging = solve_power_flow(network), network.b_from[k] + network.b_to[k]
    drawn = -(flow.s_from[k] + flow.s_to[k]).imag
    assert drawn == pytest.approx(0.0 if open_end == 0 else charging, rel=0.1, abs=1e-12)


@pytest.mark.parametrize(("open_at", "open_end"), [([2], 1), ([4], 2), ([2, 4], 0)])
def test_transformer_switch_leaves_it_magnetised_from_its_closed_end(open_at, open_end):
    net = feeder()
    add_trafo(net, 2, 4, pfe_kw=9.0)
    for bus in open_at:
        pandapower.create_switch(net, bus, 1, et="t", closed=False)

    network = assert_same_flow(net)
    assert_round_trip(network)

    k = named(network, "trafo 1")
    assert (network.kind[k], network.closed[k], network.open_end[k]) == ("trafo", False, open_end)
    flow = solve_power_flow(network)
    iron_kw = 1e4 * (flow.s_from[k] + flow.s_to[k]).real
    assert iron_kw == pytest.approx(0.0 if open_end == 0 else 2 * 9.0, rel=0.1, abs=1e-9)


@pytest.mark.parametrize(("bus", "winding", "open_end"), [(5, "hv", 1), (3, "mv", 2), (6, "lv", 2)])
def test_three_winding_transformer_switch_opens_one_winding(bus, winding, open_end):
    net = feeder()
    add_trafo3w(net)
    pandapower.create_switch(net, bus, 0, et="t3", closed=False)

    network = assert_same_flow(net)

    k = named(network, f"t0 {winding}")
    assert np.flatnonzero(~network.closed).tolist() == [k]
    assert network.open_end[k] == open_end


def test_closed_bus_switches_make_one_bus():
    """Buses 5 and 6 are one with 3; the line between them is charged but carries nothing."""
    net = feeder()
    pandapower.create_bus(net, 20.0, min_vm_pu=0.95, max_vm_pu=1.08)
    pandapower.create_bus(net, 20.0, min_vm_pu=0.92, max_vm_pu=1.06)
    pandapower.create_switch(net, 6, 5, et="b")
    pandapower.create_switch(net, 5, 3, et="b")
    add_line(net, 6, 5, name="within")
    pandapower.create_load(net, 6, p_mw=0.7, q_mvar=0.2)
    pandapower.create_sgen(net, 5, p_mw=0.3)

    network = assert_same_flow(net)

    assert network.bus_name == ("0", "1", "2", "3", "4")
    assert network.p_load[3] == pytest.approx((1.5 + 0.7) / 10) and network.p_gen[
        3
    ] == pytest.approx(0.3 / 10)
    assert (network.v_min[3], network.v_max[3]) == (0.95, 1.06)
    assert "within" not in network.branch_name
    assert network.b_shunt[3] == pytest.approx(4 * 300e-9 * 2 * np.pi * 50 * 40)


def test_open_bus_switch_is_a_tie_that_closes_to_almost_one_bus():
    net = feeder()
    pandapower.create_switch(net, 1, 3, et="b", closed=False, name="coupler", in_ka=0.6)

    network = assert_same_flow(net)
    assert_round_trip(network)

    k = named(network, "coupler")
    assert (network.kind[k], network.open_end[k], network.z[k]) == ("tie", 0, 1j * BUS_TIE_X_PU)
    assert network.rating[k] == pytest.approx(np.sqrt(3) * 20 * 0.6 / 10)
    closed = solve_power_flow(network, closed=np.ones(network.n_branch, dtype=bool))
    net.switch["closed"] = True
    run(net)
    np.testing.assert_allclose(
        closed.voltage, solved_voltage(indexed(net), network), rtol=0, atol=1e-6
    )


@pytest.mark.parametrize("closed", [True, False])
def test_bus_switch_with_impedance_is_a_branch_of_it(closed):
    net = feeder()
    pandapower.create_switch(net, 1, 3, et="b", closed=closed, name="coupler", z_ohm=0.4)

    network = assert_same_flow(net)

    k = named(network, "coupler")
    assert (network.kind[k], network.closed[k]) == ("line" if closed else "tie", closed)
    assert abs(network.z[k]) == pytest.approx(0.4 / 40)


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


def test_what_is_out_of_service_is_left_out_and_a_line_to_it_stays_charged():
    net = feeder()
    net.bus.loc[3, "in_service"] = False
    net.line.loc[3, "in_service"] = False
    add_trafo(net, 2, 4, in_service=False)
    pandapower.create_impedance(net, 1, 2, 0.01, 0.02, sn_mva=10.0, in_service=False)

    network = assert_same_flow(net)

    assert network.bus_name == ("0", "1", "2", "4")
    assert network.branch_name == ("line 0", "line 1", "trafo 0")
    assert network.b_shunt[0] == pytest.approx(4 * 300e-9 * 2 * np.pi * 50 * 40, rel=1e-3)


@pytest.mark.parametrize("dead", ["hv_bus", "lv_bus"])
@pytest.mark.parametrize("switch_is_open", [True, False])
def test_transformer_to_a_dead_bus_is_off_unless_a_switch_is_open_there(switch_is_open, dead):
    """Between 20 kV buses 3 and 5, either of them dead; bus 5 has a line of its own to bus 0."""
    net = feeder()
    pandapower.create_bus(net, 20.0)
    add_line(net, 0, 5)
    add_trafo(net, 3, 5, vn_hv_kv=21.0, vn_lv_kv=20.0, shift_degree=0.0, pfe_kw=9.0)
    bus = net.trafo[dead].at[1]
    net.bus.loc[bus, "in_service"] = False
    pandapower.create_switch(net, bus, 1, et="t", closed=not switch_is_open)

    network = assert_same_flow(net)

    assert network.branch_name.count("trafo 1") == 0
    live = network.bus_index("5" if dead == "hv_bus" else "3")
    assert (network.g_shunt[live] > 1e-5) == switch_is_open


def test_bypassed_regulator_draws_its_circulating_current():
    """Its own switch joins both ends, and its tap is off neutral."""
    net = feeder()
    pandapower.create_bus(net, 20.0)
    add_trafo(net, 1, 5, vn_hv_kv=20.5, vn_lv_kv=20.0, sn_mva=5.0, shift_degree=1.0)
    pandapower.create_switch(net, 1, 5, et="b")

    network = assert_same_flow(net)

    assert "trafo 1" not in network.branch_name
    assert network.b_shunt[1] < -1e-3


def test_impedance_elements_keep_unequal_shunts():
    net = feeder()
    pandapower.create_impedance(
        net,
        1,
        3,
        0.02,
        0.03,
        sn_mva=20.0,
        gf_pu=1e-3,
        bf_pu=2e-3,
        gt_pu=3e-3,
        bt_pu=-1e-3,
        name="equivalent",
    )

    network = assert_same_flow(net)
    assert_round_trip(network)

    k = named(network, "equivalent")
    assert network.z[k] == pytest.approx((0.02 + 0.03j) / 2)
    assert (network.g_from[k], network.b_to[k], network.rating[k]) == pytest.approx(
        (2e-3, -2e-3, 2.0)
    )


def test_limits_are_those_of_the_net_and_else_0_90_and_1_10():
    net = feeder()
    without = Network.from_pandapower(net)
    net.bus["min_vm_pu"], net.bus["max_vm_pu"] = [0.95] + [np.nan] * 4, [np.nan] * 4 + [1.04]

    network = Network.from_pandapower(net)

    assert set(without.v_min) == {0.9} and set(without.v_max) == {1.1}
    assert network.v_min.tolist() == [0.95, 0.9, 0.9, 0.9, 0.9]
    assert network.v_max.tolist() == [1.1, 1.1, 1.1, 1.1, 1.04]


def test_names_stay_where_they_are_unique():
    net = feeder()
    net.bus["name"] = ["Grid", "Street", "Street", "", None]
    net.line["name"] = ["A", "B", None, "B"]
    net.trafo["name"] = "A"

    network = Network.from_pandapower(net)

    assert network.name == "ring"
    assert network.bus_name == ("Grid", "Street (bus 1)", "Street (bus 2)", "3", "4")
    assert network.branch_name == (
        "A (line 0)",
        "B (line 1)",
        "line 2",
        "B (line 3)",
        "A (trafo 0)",
    )


def test_another_base_changes_the_figures_but_not_the_flow():
    net = feeder()

    network, other = Network.from_pandapower(net), Network.from_pandapower(net, base_mva=2.5)

    assert other.base_mva == 2.5
    np.testing.assert_allclose(other.p_load, 4 * network.p_load)
    np.testing.assert_allclose(other.z, network.z / 4)
    np.testing.assert_allclose(other.rating, 4 * network.rating)
    np.testing.assert_allclose(
        solve_power_flow(other).voltage, solve_power_flow(network).voltage, rtol=0, atol=1e-8
    )


def test_reading_leaves_the_net_as_it_was():
    net = held(examples.example_multivoltage())
    before = copy.deepcopy(net)

    Network.from_pandapower(net)

    assert pandapower.toolbox.nets_equal(net, before)


def test_buses_without_any_branch_to_an_ext_grid_are_left_out_with_a_warning():
    net = feeder()
    pandapower.create_buses(net, 2, 20.0, name=["far", "away"])
    add_line(net, 5, 6)
    pandapower.create_load(net, 6, p_mw=0.4, q_mvar=0.1)

    with pytest.warns(
        UserWarning, match=r"ring: left out bus far, away, .* with it 0\.4 MW and 0\.1 Mvar of load"
    ):
        network = Network.from_pandapower(net)

    assert network.n_bus == 5 and "line 4" not in network.branch_name


def test_voltage_dependent_loads_become_constant_power_with_a_warning():
    net = feeder()
    pandapower.create_load(net, 1, p_mw=0.4, const_z_p_percent=40.0)

    with pytest.warns(
        UserWarning, match=r"ring: load 4 depends on voltage .* taken as constant power"
    ):
        network = Network.from_pandapower(net)

    assert network.p_load[1] == pytest.approx(1.4 / 10)


def put_gen(net):
    pandapower.create_gen(net, 1, p_mw=0.5)


def put_idle_gens(net):
    pandapower.create_gen(net, 1, p_mw=0.5, in_service=False)
    pandapower.create_bus(net, 20.0, in_service=False)
    pandapower.create_gen(net, 5, p_mw=0.5)


def test_a_gen_without_costs_is_left_to_an_optimal_power_flow_with_a_warning():
    net = feeder()
    put_gen(net)

    with pytest.warns(
        UserWarning,
        match="ring: the power of gen 0 is for an optimal power flow .*make it an sgen to keep",
    ):
        network = Network.from_pandapower(net)

    assert (
        network.gen_name == ("gen 0",)
        and network.gen_bus.tolist() == [1]
        and not network.p_gen.any()
    )
    assert network.gen_p_max.tolist() == [np.inf] and network.gen_q_min.tolist() == [-np.inf]


def dispatched_feeder():
    """The drawn feeder with a cost for what it draws, a fixed and a free gen, and a free sgen, load
    and storage.
    """
    net = feeder()
    pandapower.create_poly_cost(net, 0, "ext_grid", cp1_eur_per_mw=50.0)
    gens = {"min_q_mvar": -0.1, "max_q_mvar": 0.2, "min_p_mw": 0.0, "max_p_mw": 0.8}
    pandapower.create_gen(net, 1, p_mw=0.4, vm_pu=1.01, controllable=False, **gens)
    pandapower.create_gen(
        net, 2, p_mw=0.4, vm_pu=1.0, controllable=True, min_vm_pu=0.97, max_vm_pu=1.03, **gens
    )
    pandapower.create_poly_cost(
        net, 1, "gen", cp1_eur_per_mw=20.0, cp2_eur_per_mw2=3.0, cp0_eur=1.0
    )
    pandapower.create_sgen(
        net, 3, p_mw=0.2, controllable=True, min_p_mw=0.0, max_p_mw=0.3, name="roof"
    )
    load = pandapower.create_load(
        net, 3, p_mw=0.5, controllable=True, min_p_mw=0.1, max_p_mw=0.6, min_q_mvar=0.0
    )
    pandapower.create_poly_cost(net, load, "load", cp1_eur_per_mw=-80.0, cp0_eur=4.0)
    pandapower.create_storage(
        net, 3, p_mw=0.1, max_e_mwh=1.0, controllable=True, min_p_mw=-0.2, max_p_mw=0.3
    )
    net.line["max_loading_percent"] = 60.0
    return net


def read_dispatched(net):
    with pytest.warns(
        UserWarning,
        match="ring: the power of (sgen|load|storage) .*; set controllable to False to keep",
    ):
        return Network.from_pandapower(net)


def test_what_may_be_dispatched_becomes_generators_with_limits_and_costs():
    plain, net = Network.from_pandapower(feeder()), dispatched_feeder()
    load = len(net.load) - 1

    network = read_dispatched(net)

    base = network.base_mva
    assert network.gen_name == ("ext_grid 0", "gen 0", "gen 1", "roof", f"load {load}", "storage 0")
    assert network.gen_bus.tolist() == [0, 1, 2, 3, 3, 3]
    np.testing.assert_allclose(base * network.gen_p_min, [-np.inf, 0.4, 0.0, 0.0, -0.6, -0.3])
    np.testing.assert_allclose(base * network.gen_p_max, [np.inf, 0.4, 0.8, 0.3, -0.1, 0.2])
    np.testing.assert_allclose(base * network.gen_q_max, [np.inf, 0.2, 0.2, np.inf, 0.0, np.inf])
    np.testing.assert_array_equal(network.gen_cost[:3], [[0, 50, 0], [0, 0, 0], [3, 20, 1]])
    np.testing.assert_array_equal(network.gen_cost[4], [0, 80, -4])
    assert network.gen_is_grid.tolist() == [True, False, False, False, False, False]
    # What is dispatched is in no load or generation, and a held voltage in the limits.
    np.testing.assert_allclose(network.p_load, plain.p_load)
    np.testing.assert_allclose(network.p_gen, plain.p_gen)
    assert network.v_min[0] == network.v_max[0] == pytest.approx(abs(network.v_substation[0]))
    assert network.v_min[1] == network.v_max[1] == 1.01 and (
        network.v_min[2],
        network.v_max[2],
    ) == (0.97, 1.03)
    lines = np.array(network.kind) == "line"
    np.testing.assert_allclose(network.rating[lines], 0.6 * plain.rating[lines])


def test_generators_go_to_pandapower_and_back():
    network = read_dispatched(dispatched_feeder())

    again = read_dispatched(network.to_pandapower())

    assert again.gen_name == network.gen_name
    names = (
        "gen_bus",
        "gen_p_min",
        "gen_p_max",
        "gen_q_min",
        "gen_q_max",
        "gen_cost",
        "gen_is_grid",
        "p_load",
        "p_gen",
    )
    for name in names:
        np.testing.assert_allclose(getattr(again, name), getattr(network, name), atol=1e-12)


def test_two_generators_that_stand_for_the_grid_above_come_back_with_the_flow():
    network = Network.from_pandapower(feeder()).with_changes(
        gen_name=("cheap", "dear", "pv"), gen_bus=[0, 0, 0], gen_p_min=[0, 0, 0], gen_p_max=[0.1, np.inf, 0.2],
        gen_q_min=[-1, -1, 0], gen_q_max=[1, 1, 0], gen_cost=[[0, 10, 0], [0, 30, 0], [0, 1, 0]],
        gen_is_grid=[True, True, False],
    )  # fmt: skip

    net = network.to_pandapower()
    with pytest.warns(UserWarning, match="the power of sgen"):
        again = Network.from_pandapower(net)

    assert again.gen_name == network.gen_name and again.gen_is_grid.tolist() == [True, True, False]
    np.testing.assert_allclose(again.gen_p_max, network.gen_p_max)
    pandapower.runpp(net, calculate_voltage_angles=True)
    with pytest.warns(UserWarning, match="its 1 dispatchable generators feed nothing"):
        flow = solve_power_flow(network)
    np.testing.assert_allclose(net.res_bus.vm_pu, np.abs(flow.voltage), atol=1e-9)


def at_the_ext_grid(net, **slack):
    """A generator at the bus of the ext_grid, which has no cost and no limits."""
    gen = pandapower.create_gen(
        net, 0, p_mw=0.2, vm_pu=1.02, min_p_mw=0.0, max_p_mw=1.0, controllable=True, **slack
    )
    pandapower.create_poly_cost(net, gen, "gen", cp1_eur_per_mw=20.0)
    return net


@pytest.mark.parametrize("slack", [False, True])
def test_a_free_ext_grid_supplies_whatever_gens_stand_beside_it(slack):
    network = Network.from_pandapower(at_the_ext_grid(feeder(), slack=slack))

    assert network.gen_is_grid.tolist() == [False]


def test_a_gen_that_is_a_slack_stands_for_the_grid_above():
    net = feeder()
    net.ext_grid["in_service"] = False

    network = Network.from_pandapower(at_the_ext_grid(net, slack=True))

    assert network.gen_name == ("gen 0",) and network.gen_is_grid.tolist() == [True]


def test_a_gen_that_two_functions_of_pandapower_scale_differently_is_refused():
    net = feeder()
    pandapower.create_gen(net, 1, p_mw=0.4, scaling=0.5, controllable=False)
    pandapower.create_poly_cost(net, 0, "ext_grid", cp1_eur_per_mw=50.0)

    with pytest.raises(
        NetworkError,
        match="gen 0 is not controllable and has scaling 0.5, .* write the product into p_mw",
    ):
        Network.from_pandapower(net)
    net.gen["in_service"] = False
    assert Network.from_pandapower(net).n_gen == 1


def test_a_quadratic_cost_of_a_load_is_refused():
    net = dispatched_feeder()
    net.poly_cost.loc[net.poly_cost["et"] == "load", "cp2_eur_per_mw2"] = 2.0

    with (
        pytest.warns(UserWarning, match="is for an optimal power flow to choose"),
        pytest.raises(
            NetworkError,
            match=r"poly_cost 2 is quadratic in what load \d consumes, .*; set cp2_eur_per_mw2 to 0",
        ),
    ):
        Network.from_pandapower(net)


@pytest.mark.parametrize(
    ("cost", "message"),
    [
        (
            lambda net: pandapower.create_poly_cost(net, 0, "gen", 1.0, cq1_eur_per_mvar=1.0),
            "poly_cost 0 prices reactive",
        ),
        (
            lambda net: pandapower.create_pwl_cost(net, 0, "gen", [[0, 1, 2], [1, 2, 3]]),
            "pwl_cost 0 is no straight line",
        ),
    ],
)
def test_costs_that_are_not_quadratic_are_refused(cost, message):
    net = feeder()
    put_gen(net)
    cost(net)

    with pytest.raises(NetworkError, match=f"ring: {message}"):
        Network.from_pandapower(net)


def put_xward(net):
    pandapower.create_xward(net, 1, 0.1, 0.1, 0.0, 0.0, 0.1, 0.1, 1.0)


def put_dcline(net):
    pandapower.create_dcline(
        net, 1, 3, p_mw=0.1, loss_percent=1.0, loss_mw=0.0, vm_from_pu=1.0, vm_to_pu=1.0
    )


def put_svc(net):
    pandapower.create_svc(net, 1, 1.0, -10.0, 1.0, 90.0)


def put_one_way_impedance(net):
    pandapower.create_impedance(net, 1, 3, 0.01, 0.02, sn_mva=10.0, rtf_pu=0.02, xtf_pu=0.02)


def put_switch_between_voltages(net):
    pandapower.create_switch(net, 2, 4, et="b", closed=False)


def put_switch_elsewhere(net):
    pandapower.create_switch(net, 1, 0, et="l", closed=False)
    net.switch["bus"] = 3


def put_contradicting_ext_grid(net):
    pandapower.create_bus(net, 20.0)
    pandapower.create_switch(net, 0, 5, et="b")
    pandapower.create_ext_grid(net, 5, vm_pu=1.0)


def take_ext_grid(net):
    net.ext_grid["in_service"] = False


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put_xward, r"ring: a Network cannot hold xward 0; make it a ward"),
        (
            put_dcline,
            r"ring: a Network cannot hold dcline 0; make it a load at one end and an sgen at the "
            r"other",
        ),
        (put_svc, r"ring: a Network cannot hold svc 0; replace it by loads and sgens"),
        (put_one_way_impedance, r"ring: impedance 0 differs by direction; give rtf_pu and xtf_pu"),
        (
            put_switch_between_voltages,
            r"ring: switch 0 joins bus 2 of 20 kV to bus 4 of 0\.4 kV; give both",
        ),
        (
            put_switch_elsewhere,
            r"ring: switch 0 is at bus 3, where line 0 does not end; move it to the from_bus or",
        ),
        (
            put_contradicting_ext_grid,
            r"ring: two ext_grids hold bus 0 at different voltages; keep one",
        ),
        (take_ext_grid, r"ring: no ext_grid in service at a bus in service; add one"),
    ],
)
def test_what_a_network_cannot_hold_is_refused(change, message):
    net = feeder()
    change(net)

    with pytest.raises(NetworkError, match=message):
        Network.from_pandapower(net)


def test_idle_generators_do_no_harm():
    net = feeder()
    put_idle_gens(net)

    assert_same_flow(net)


def test_base_must_be_positive():
    with pytest.raises(NetworkError, match=r"ring: base_mva is -1\.0; it must be positive"):
        Network.from_pandapower(feeder(), base_mva=-1.0)


def odd_network(seed):
    """Twelve buses with all that a Network allows: taps, shifts, unequal and capacitive shunts,
    branches without impedance, negative resistance, ratings of none, hanging branches, two
    substations, two nominal voltages.
    """
    rng = np.random.default_rng(seed)
    n_bus, n_branch = 12, 15
    from_bus = np.r_[[rng.integers(0, i) for i in range(1, n_bus)], 1, 3, 7, 2]
    to_bus = np.r_[np.arange(1, n_bus), 9, 8, 11, 10]

    def some(share, values, otherwise, size=n_branch):
        return np.where(rng.random(size) < share, values, otherwise)

    kind = rng.choice(["line", "tie", "trafo"], n_branch)
    vn_kv = rng.choice([20.0, 10.0], n_bus)
    r = np.where(
        (kind == "trafo") & (rng.random(n_branch) < 0.2), -0.001, rng.uniform(0.001, 0.02, n_branch)
    )
    x, tap, shift = rng.uniform(-0.002, 0.02, n_branch), some(0.4, 0.97, 1.0), some(0.2, 0.02, 0.0)
    ideal = 10
    r[ideal] = x[ideal] = shift[ideal] = 0.0
    tap[ideal], vn_kv[to_bus[ideal]] = 1.0, vn_kv[from_bus[ideal]]
    b_from, g_from = rng.uniform(-0.02, 0.03, n_branch), some(0.5, 0.004, 0.0)
    return Network(
        name=f"odd {seed}",
        base_mva=float(rng.choice([1.0, 100.0])),
        bus_name=[f"bus {i}" for i in range(n_bus)],
        vn_kv=vn_kv,
        v_min=np.full(n_bus, 0.93),
        v_max=np.full(n_bus, 1.07),
        p_load=rng.uniform(0, 0.05, n_bus),
        q_load=rng.uniform(-0.01, 0.03, n_bus),
        p_gen=some(0.3, 0.03, 0.0, n_bus),
        q_gen=some(0.3, 0.01, 0.0, n_bus),
        g_shunt=some(0.3, 0.003, 0.0, n_bus),
        b_shunt=some(0.3, 0.02, 0.0, n_bus),
        substation=[0, 5],
        v_substation=[1.02, 1.01 * np.exp(0.03j)],
        branch_name=[f"branch {k}" for k in range(n_branch)],
        kind=kind,
        from_bus=from_bus,
        to_bus=to_bus,
        r=r,
        x=x,
        g_from=g_from,
        b_from=b_from,
        g_to=some(0.5, 0.002, g_from),
        b_to=some(0.4, 0.01, b_from),
        tap=tap,
        shift=shift,
        rating=some(0.3, np.inf, 0.8),
        closed=np.arange(n_branch) < rng.integers(9, n_branch),
        open_end=rng.integers(0, 3, n_branch),
    )


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.newest
def test_odd_network_survives_pandapower(seed):
    network = odd_network(seed)
    flow = solve_power_flow(network)
    assert flow.converged

    net = network.to_pandapower()
    run(net)

    written = polar(net.res_bus.vm_pu, net.res_bus.va_degree)
    np.testing.assert_array_equal(~np.isnan(written), flow.energised)
    np.testing.assert_allclose(
        written[flow.energised], flow.voltage[flow.energised], rtol=0, atol=1e-8
    )
    again = Network.from_pandapower(net)
    kept = [network.bus_index(name) for name in again.bus_name]
    order = [network.branch_index(name) for name in again.branch_name]
    np.testing.assert_allclose(
        solve_power_flow(again).voltage, flow.voltage[kept], rtol=0, atol=1e-9
    )
    np.testing.assert_allclose(again.rating, network.rating[order], rtol=1e-12)
    np.testing.assert_allclose(again.tap, network.tap[order], rtol=1e-12)
    np.testing.assert_allclose(again.shift, network.shift[order], atol=1e-12)
    np.testing.assert_array_equal(again.closed, network.closed[order])
    assert (again.v_min.min(), again.v_max.max()) == (0.93, 1.07)
    merged = {k for k in range(network.n_branch) if network.z[k] == 0 and network.closed[k]}
    assert set(range(network.n_branch)) - set(order) == merged


def test_transformer_without_impedance_is_refused():
    network = odd_network(0)
    tap = network.tap.copy()
    tap[10] = 0.95

    with pytest.raises(
        NetworkError,
        match=r"odd 0: branch 'branch 10' is a transformer without impedance.* small x",
    ):
        network.with_changes(tap=tap).to_pandapower()


def test_rating_of_none_stays_none_and_of_zero_nearly_zero():
    network = Network.from_pandapower(feeder())
    rating = network.rating.copy()
    rating[[0, 3, 4]] = np.inf, 0.0, 0.0

    again = Network.from_pandapower(network.with_changes(rating=rating).to_pandapower())

    assert (again.rating[0], again.rating[3]) == (np.inf, 0.0)
    assert 0 < again.rating[4] < 1e-8


def test_pandapower_file_keeps_what_has_no_rating():
    """JSON has no infinity: it comes back as a missing number."""
    network = Network.from_pandapower(feeder())
    network = network.with_changes(rating=np.full(network.n_branch, np.inf))

    again = Network.from_pandapower(
        pandapower.from_json_string(pandapower.to_json(network.to_pandapower()))
    )

    np.testing.assert_array_equal(again.rating, network.rating)
    np.testing.assert_allclose(again.z, network.z, rtol=1e-12)
