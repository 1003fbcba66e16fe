"""What an optimal power flow may dispatch: generators, limits and costs, there and back."""

import numpy as np
import pandapower
import pytest

from feederguard.models.network import Network, NetworkError
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


def test_a_quadratic_cost_of_a_load_is_refused():
    net = dispatched_feeder()
    net.poly_cost.loc[net.poly_cost["et"] == "load", "cp2_eur_per_mw2"] = 2.0

    with (
        pytest.warns(UserWarning, match="is for an optimal power flow to choose"),
        pytest.raises(
            NetworkError,
            match=r"poly_cost 2 is quadratic in what load \d consumes, .*; set cp2_eur_per_mw2",
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


def test_idle_generators_do_no_harm():
    net = feeder()
    put_idle_gens(net)

    assert_same_flow(net)
