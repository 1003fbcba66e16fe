"""What an optimal power flow may dispatch: generators, limits and costs, there and back."""

import warnings

import numpy as np
import pandapower
import pytest

from feederguard.baselines.opf import solve_opf
from feederguard.models.ac_opf import build_ac_opf
from feederguard.models.network import Network, NetworkError
from feederguard.models.network.costs import cost_per_h
from feederguard.models.power_flow import solve_power_flow
from pandapower_nets import assert_same_flow, feeder


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
    """The drawn feeder with costs and elements to dispatch.

    What it draws has a cost. It has a fixed and a free gen, and a free sgen, load and storage.
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


def test_a_quadratic_cost_of_a_load_is_refused_by_the_objective():
    net = dispatched_feeder()
    net.poly_cost.loc[net.poly_cost["et"] == "load", "cp2_eur_per_mw2"] = 2.0

    with pytest.warns(UserWarning, match="is for an optimal power flow to choose"):
        network = Network.from_pandapower(net)

    with pytest.raises(
        NetworkError,
        match=r"poly_cost 2 is quadratic in what load \d consumes, .*; set cp2_eur_per_mw2",
    ):
        build_ac_opf(network)


@pytest.mark.filterwarnings("ignore:.*the default objective is:UserWarning")
@pytest.mark.parametrize(
    ("cost", "message"),
    [
        (
            lambda net: pandapower.create_poly_cost(net, 0, "gen", 1.0, cq1_eur_per_mvar=1.0),
            "poly_cost 0 prices reactive",
        ),
        (
            lambda net: pandapower.create_pwl_cost(net, 0, "gen", [[0, 1, 3], [1, 2, 2]]),
            "pwl_cost 0 cannot be used, as it is not convex: its slope falls; give pieces",
        ),
        (
            lambda net: pandapower.create_pwl_cost(net, 0, "gen", [[0, 1, 2], [1.5, 2, 3]]),
            "pwl_cost 0 cannot be used, as it has a gap",
        ),
        (
            lambda net: pandapower.create_pwl_cost(net, 0, "gen", [[0, 1, 2]], power_type="q"),
            "pwl_cost 0 prices reactive power",
        ),
    ],
)
def test_costs_that_cannot_be_used_stop_the_optimal_power_flow_alone(cost, message):
    net = feeder()
    put_gen(net)
    cost(net)

    network = Network.from_pandapower(net)

    assert solve_power_flow(network, network.p_load, network.q_load).converged
    with pytest.raises(NetworkError, match=f"ring: {message}"):
        build_ac_opf(network)


def piecewise_feeder():
    """Two lines of 5 km to a gen of 30 $/MWh up to 0.5 MW and 70 beyond; 50 from the grid."""
    net = pandapower.create_empty_network()
    for _ in range(3):
        pandapower.create_bus(net, 20.0, min_vm_pu=0.9, max_vm_pu=1.1)
    pandapower.create_ext_grid(net, 0)
    for bus in (0, 1):
        pandapower.create_line_from_parameters(
            net,
            bus,
            bus + 1,
            length_km=5.0,
            r_ohm_per_km=0.3,
            x_ohm_per_km=0.35,
            c_nf_per_km=250.0,
            max_i_ka=0.25,
        )
    pandapower.create_load(net, 2, p_mw=2.0, q_mvar=0.5)
    pandapower.create_gen(
        net, 2, p_mw=1.0, min_p_mw=0.0, max_p_mw=1.5, min_q_mvar=-1.0, max_q_mvar=1.0
    )
    pandapower.create_pwl_cost(net, 0, "gen", [[0, 0.5, 30.0], [0.5, 1.5, 70.0]])
    pandapower.create_poly_cost(net, 0, "ext_grid", cp1_eur_per_mw=50.0)
    return net


def test_optimum_of_a_convex_piecewise_linear_cost_is_that_of_runopp():
    net = piecewise_feeder()
    network = Network.from_pandapower(net)

    found = solve_opf(network, "ac_opf")

    pandapower.runopp(net, delta=1e-10)
    assert found.solution.objective == pytest.approx(90.866, abs=2e-3)
    assert found.solution.objective == pytest.approx(net.res_cost, abs=2e-3)
    made = found.generator.set_index("generator")
    assert made["p_mw"]["gen 0"] == pytest.approx(0.5, abs=1e-5)
    assert made["cost_per_h"]["gen 0"] == pytest.approx(15.0, abs=1e-3)
    assert solve_opf(network, "distflow_opf_soc").solution.objective <= net.res_cost + 2e-3


@pytest.mark.filterwarnings("ignore:.*for an optimal power flow to choose:UserWarning")
def test_piecewise_linear_costs_go_to_pandapower_and_back():
    network = Network.from_pandapower(piecewise_feeder())

    again = Network.from_pandapower(network.to_pandapower())

    np.testing.assert_allclose(again.gen_cost_lines, network.gen_cost_lines, atol=1e-9)
    np.testing.assert_allclose(again.gen_cost, network.gen_cost, atol=1e-9)
    dear = network.with_changes(gen_cost_lines=network.gen_cost_lines + [0, 0, 7.0])
    with_constant = Network.from_pandapower(dear.to_pandapower())
    np.testing.assert_allclose(
        cost_per_h(with_constant, np.array([[1.0, 0.8]])), cost_per_h(dear, np.array([[1.0, 0.8]]))
    )


def test_a_gen_that_is_the_only_source_is_no_matter_for_a_warning():
    net = piecewise_feeder()
    net.poly_cost, net.pwl_cost = net.poly_cost[:0], net.pwl_cost[:0]
    net.ext_grid["in_service"] = False
    net.gen["slack"], net.gen["bus"], net.gen["vm_pu"] = True, 0, 1.02

    with warnings.catch_warnings(action="error"):
        network = Network.from_pandapower(net)
        flow = solve_power_flow(network)

    pandapower.runpp(net)
    np.testing.assert_allclose(np.abs(flow.voltage), net.res_bus.vm_pu, atol=1e-8)


def test_idle_generators_do_no_harm():
    net = feeder()
    put_idle_gens(net)

    assert_same_flow(net)
