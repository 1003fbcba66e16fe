"""Batches of power flows: equal to their items one by one, and to pandapower in random states."""

import functools

import numpy as np
import pandapower
import pytest
from flow_checks import mixed_states, radial_states, random_network, worst_mismatch_mva

from feederguard.data.networks import load_network
from feederguard.models.power_flow import solve_power_flow

TIGHT_MVA = 1e-10


@pytest.mark.parametrize("count", [7, 8, 32, 70])
@pytest.mark.parametrize("draw", ["ieee33", "mantovani136", "drawn"])
def test_a_batch_on_one_topology_equals_its_items_one_by_one(draw, count):
    rng = np.random.default_rng(count)
    network = random_network(np.random.default_rng(3)) if draw == "drawn" else load_network(draw)
    closed = radial_states(network, rng, 1)[0] if draw == "drawn" else network.closed
    p, q = (
        a * rng.uniform(0, 1.4, (count, network.n_bus)) for a in (network.p_load, network.q_load)
    )

    batch = solve_power_flow(network, p, q, closed, tolerance_mva=1e-11)
    single = [
        solve_power_flow(network, p[k], q[k], closed, tolerance_mva=1e-11) for k in range(count)
    ]

    assert batch.converged.all() and worst_mismatch_mva(batch) < 2e-8
    for field in (
        "voltage",
        "series_current",
        "current_from",
        "loss_mw",
        "p_substation_mw",
        "energised",
        "loading",
    ):
        np.testing.assert_allclose(
            getattr(batch, field), [getattr(one, field) for one in single], rtol=0, atol=1e-10
        )


@pytest.mark.parametrize("name", ["ieee33", "mantovani136"])
def test_a_batch_of_topologies_equals_its_items_one_by_one(name):
    network, rng = load_network(name), np.random.default_rng(5)
    closed, p = mixed_states(network, rng, 24), 0.3 * network.p_load

    batch = solve_power_flow(network, p, closed=closed)

    assert batch.converged.sum() >= 20 and worst_mismatch_mva(batch) < 2e-8
    for k in range(24):
        one = solve_power_flow(network, p, closed=closed[k])
        np.testing.assert_array_equal(batch.converged[k], one.converged)
        np.testing.assert_array_equal(batch.energised[k], one.energised)
        np.testing.assert_allclose(batch.voltage[k], one.voltage, rtol=0, atol=1e-12)


def test_batched_and_unbatched_arguments_mix():
    network = load_network("ieee33")
    p = network.p_load * np.array([[0.5], [1.0]])

    flow = solve_power_flow(network, p, network.q_load, np.stack([network.closed, network.closed]))

    assert (
        flow.voltage.shape == (2, 33)
        and flow.loss_mw.shape == (2,)
        and flow.loading.shape == (2, 37)
    )
    assert 1e3 * flow.loss_mw[1] == pytest.approx(202.677, abs=5e-4)
    assert solve_power_flow(network, p[:1]).voltage.shape == (1, 33)
    assert solve_power_flow(network, p[:0]).voltage.shape == (0, 33)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e3])
@pytest.mark.parametrize("way", ["side by side", "own topology", "meshed"])
def test_one_bad_item_is_marked_and_leaves_its_neighbours_alone(way, bad):
    network, rng = load_network("ieee33"), np.random.default_rng(11)
    p = network.p_load * rng.uniform(0.1, 0.4, (20, 1))
    closed = network.closed if way == "side by side" else radial_states(network, rng, 20)
    if way == "meshed":
        closed = np.ones((20, network.n_branch), dtype=bool)
    broken = p.copy()
    broken[4, 17] = bad

    clean, flow = (
        solve_power_flow(network, p, closed=closed),
        solve_power_flow(network, broken, closed=closed),
    )

    assert clean.converged.all()
    np.testing.assert_array_equal(flow.converged, np.arange(20) != 4)
    assert flow.iterations[4] == -1
    for field in (
        "voltage",
        "series_current",
        "loss_mw",
        "p_substation_mw",
        "v_min_pu",
        "v_max_pu",
    ):
        assert np.isnan(getattr(flow, field)[4]).all(), field
    others = np.delete(np.arange(20), 4)
    np.testing.assert_allclose(flow.voltage[others], clean.voltage[others], rtol=0, atol=1e-9)
    np.testing.assert_array_equal(flow.energised, clean.energised)


@pytest.mark.parametrize("bus", ["substation", "dark"])
def test_nan_demand_is_marked_wherever_it_is(bus):
    network = load_network("ieee33")
    p, closed = network.p_load.copy(), network.closed.copy()
    p[0 if bus == "substation" else 17] = np.nan
    closed[network.branch_index("17")] = False

    assert not solve_power_flow(network, p, closed=closed).converged


@functools.cache
def pandapower_net(name):
    net = load_network(name).to_pandapower()
    # From here on a branch is open when its line is out of service.
    net.switch["closed"] = True
    return net


def pandapower_voltage(name, scale, closed, **options):
    """pandapower's complex voltages for one state, NaN where dark.

    It is None where pandapower does not converge.
    """
    network, net = load_network(name), pandapower_net(name)
    line_of = {label: index for index, label in net.line["name"].items()}
    net.line.loc[[line_of[label] for label in network.branch_name], "in_service"] = closed
    net.load["scaling"] = scale
    try:
        pandapower.runpp(
            net, calculate_voltage_angles=True, tolerance_mva=TIGHT_MVA, numba=False, **options
        )
    except pandapower.LoadflowNotConverged:
        return None
    return (net.res_bus.vm_pu * np.exp(1j * np.deg2rad(net.res_bus.va_degree))).to_numpy()


def assert_agrees_with_pandapower(name, count, seed):
    """Where pandapower converges, ours has its voltages.

    Where it does not, ours has a true solution or none.
    """
    network, rng = load_network(name), np.random.default_rng(seed)
    closed, scale = mixed_states(network, rng, count), rng.uniform(0, 1.5, count)
    demand = scale[:, None] * network.p_load, scale[:, None] * network.q_load
    flow = solve_power_flow(network, *demand, closed, tolerance_mva=TIGHT_MVA)
    assert worst_mismatch_mva(flow) < 1e-8
    compared = 0
    for k in range(count):
        expected = pandapower_voltage(name, scale[k], closed[k], max_iteration=50)
        if expected is None and flow.converged[k]:
            near = {
                "init_vm_pu": abs(flow.voltage[k]),
                "init_va_degree": np.angle(flow.voltage[k], deg=True),
            }
            expected = pandapower_voltage(name, scale[k], closed[k], max_iteration=200, **near)
        if expected is None:
            continue
        compared += 1
        assert flow.converged[k], f"state {k}: pandapower converged and ours did not"
        live = ~np.isnan(expected)
        np.testing.assert_array_equal(flow.energised[k], live)
        np.testing.assert_allclose(flow.voltage[k, live], expected[live], rtol=0, atol=1e-8)
    assert compared > count / 2


@pytest.mark.parametrize("name", ["ieee33", "mantovani136"])
def test_random_switch_states_agree_with_pandapower(name):
    assert_agrees_with_pandapower(name, 12, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ieee33", "mantovani136"])
def test_two_hundred_random_switch_states_agree_with_pandapower(name):
    assert_agrees_with_pandapower(name, 200, seed=2)
