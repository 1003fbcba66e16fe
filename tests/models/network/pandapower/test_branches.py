"""Lines, transformers and impedances of a pandapower net, with the switches at their ends."""

import numpy as np
import pandapower
import pandas as pd
import pytest

from feederguard.models.power_flow import solve_power_flow
from pandapower_nets import (
    add_line,
    add_trafo,
    add_trafo3w,
    assert_round_trip,
    assert_same_flow,
    feeder,
    run,
)


def test_line_parameters_by_hand():
    """Two parallel lines of 2 km, 0.5 + 0.4j ohm/km, 200 nF/km, 10 uS/km; the base is 40 ohm."""
    net = feeder()
    line = add_line(net, 0, 2, length_km=2.0, r_ohm_per_km=0.5, x_ohm_per_km=0.4, c_nf_per_km=200.0, g_us_per_km=10.0,
                    max_i_ka=0.4, df=0.9, parallel=2, name="double")  # fmt: skip

    network = assert_same_flow(net)

    k = network.branch_index("double")
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
    """One step of +5 % on the high side, vector group 5, 0.4 kV net and 0.41 kV winding."""
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

    k = network.branch_index("trafo 0")
    z_pu = 0.06 / (2 * 0.63) * 10 * (0.41 / 0.4) ** 2
    assert network.kind[k] == "trafo" and (network.from_bus[k], network.to_bus[k]) == (2, 4)
    assert network.tap[k] == pytest.approx(1.05 * 0.4 / 0.41)
    assert network.shift[k] == pytest.approx(np.deg2rad(150.0))
    assert abs(network.z[k]) == pytest.approx(z_pu)
    assert network.r[k] == pytest.approx(z_pu * 1.1 / 6.0)
    # 1.26 MVA at the winding's 20 kV, of which I_from = I_to / tap is the smaller current.
    assert network.rating[k] == pytest.approx(2 * 0.63 / 10 * network.tap[k] / 1.05)


def test_transformer_is_rated_at_its_own_voltage():
    """630 kVA of 21/0.42 kV on 20/0.4 kV carry 17.32 A, not 18.19 A: pandapower says 104.21 %."""
    net = pandapower.create_empty_network()
    hv, lv = pandapower.create_bus(net, 20.0), pandapower.create_bus(net, 0.4)
    pandapower.create_ext_grid(net, hv)
    pandapower.create_load(net, lv, p_mw=0.6, q_mvar=0.12)
    pandapower.create_transformer_from_parameters(
        net, hv, lv, sn_mva=0.63, vn_hv_kv=21.0, vn_lv_kv=0.42, vkr_percent=1.0, vk_percent=4.0,
        pfe_kw=1.0, i0_percent=0.2, shift_degree=150.0,
    )  # fmt: skip

    network = assert_same_flow(net)

    pandapower.runpp(net, calculate_voltage_angles=True)
    assert net.res_trafo.loading_percent[0] == pytest.approx(104.21, abs=0.005)
    assert 100 * solve_power_flow(network).loading[0] == pytest.approx(104.21, abs=0.005)


@pytest.mark.parametrize(
    ("vn_hv_kv", "vn_lv_kv", "tap_pos"),
    [(19.0, 0.4, 0), (21.5, 0.38, 2), (20.0, 0.42, -2), (19.0, 0.38, 2), (21.5, 0.42, -2)],
)
def test_loading_of_transformers_is_pandapowers(vn_hv_kv, vn_lv_kv, tap_pos):
    """Whichever winding is the tighter one; without magnetising current it is exact."""
    net = feeder()
    net.trafo["pfe_kw"] = net.trafo["i0_percent"] = 0.0
    net.trafo["vn_hv_kv"], net.trafo["vn_lv_kv"], net.trafo["df"] = vn_hv_kv, vn_lv_kv, 0.9
    net.trafo["tap_side"], net.trafo["tap_pos"], net.trafo["tap_neutral"] = "hv", tap_pos, 0
    net.trafo["tap_step_percent"], net.trafo["tap_changer_type"] = 2.5, "Ratio"

    network = assert_same_flow(net)
    assert_round_trip(network)
    run(net)

    loading = net.res_trafo.loading_percent[0] / 100
    k = network.branch_index("trafo 0")
    assert solve_power_flow(network).loading[k] == pytest.approx(loading, rel=1e-7)


def test_loading_of_a_three_winding_transformer_is_pandapowers():
    net = feeder()
    trafo = add_trafo3w(net)
    net.trafo3w["pfe_kw"] = net.trafo3w["i0_percent"] = 0.0
    for side, kv in (("hv", 1.04), ("mv", 0.97), ("lv", 1.06)):
        net.trafo3w[f"vn_{side}_kv"] *= kv

    network = assert_same_flow(net)
    run(net)

    windings = [network.branch_index(f"t0 {side}") for side in ("hv", "mv", "lv")]
    loading = solve_power_flow(network).loading[windings].max()
    assert loading == pytest.approx(net.res_trafo3w.loading_percent[trafo] / 100, rel=1e-7)


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

    assert network.tap[network.branch_index("trafo 0")] == pytest.approx(1.04 * 0.4 / 0.41)
    assert network.shift[network.branch_index("trafo 0")] == pytest.approx(np.deg2rad(151.5))


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
    assert network.from_bus[network.branch_index("t0 hv")] == network.bus_index("5")
    assert network.to_bus[network.branch_index("t0 hv")] == star
    assert (
        network.from_bus[network.branch_index("t0 lv")]
        == network.from_bus[network.branch_index("t0 mv")]
        == star
    )
    assert network.rating[network.branch_index("t0 lv")] == pytest.approx(15.0 / 10.0)


@pytest.mark.filterwarnings("ignore:.*has no type that is known:UserWarning")
@pytest.mark.parametrize(("open_at", "open_end"), [([2], 1), ([3], 2), ([2, 3], 0)])
def test_line_switch_leaves_the_line_hanging_from_its_closed_end(open_at, open_end):
    """Line 3 goes from bus 3 to bus 2; turned here, so that the from end is bus 2."""
    net = feeder()
    net.line.loc[3, ["from_bus", "to_bus"]] = 2, 3
    for bus in (2, 3):
        pandapower.create_switch(net, bus, 3, et="l", closed=bus not in open_at)

    network = assert_same_flow(net)
    assert_round_trip(network)

    k = network.branch_index("line 3")
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

    k = network.branch_index("trafo 1")
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

    k = network.branch_index(f"t0 {winding}")
    assert np.flatnonzero(~network.closed).tolist() == [k]
    assert network.open_end[k] == open_end


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

    flow, k = solve_power_flow(network), network.branch_index("trafo 1")
    assert abs(flow.current_from[k]) > 0.1


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

    k = network.branch_index("equivalent")
    assert network.z[k] == pytest.approx((0.02 + 0.03j) / 2)
    assert (network.g_from[k], network.b_to[k], network.rating[k]) == pytest.approx(
        (2e-3, -2e-3, 2.0)
    )
