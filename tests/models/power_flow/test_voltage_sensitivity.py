"""Voltage sensitivities by hand on two buses, and against differences of the AC power flow."""

import numpy as np
import pytest

from feederguard.data.networks import load_network
from feederguard.models.network import NetworkError
from feederguard.models.power_flow import solve_power_flow
from feederguard.models.power_flow.voltage_sensitivity import voltage_sensitivity


@pytest.mark.parametrize("name", ["cigre_lv18", "ieee33", "caracas141"])
def test_difference_quotients_agree(name):
    network = load_network(name)
    rng = np.random.default_rng(0)
    p = network.p_load * rng.uniform(-0.5, 1.3, (5, network.n_bus))
    q = network.q_load * rng.uniform(0, 1.3, (5, network.n_bus))
    flow = solve_power_flow(network, p, q)
    bus = np.array([2, network.n_bus // 2, network.n_bus - 1])
    slope = voltage_sensitivity(network, flow.voltage, p, q, bus)

    h = 1e-5 / network.base_mva
    for k, i in enumerate(bus):
        w = []
        for step in (h, -h):
            moved = p.copy()
            moved[:, i] += step
            w.append(np.abs(solve_power_flow(network, moved, q, tolerance_mva=1e-11).voltage) ** 2)
        assert np.abs((w[0] - w[1]) / (2 * h) - slope[:, k]).max() < 1e-7


def test_a_failed_item_stays_one_and_columns_are_chosen():
    network = load_network("ieee33")
    p = np.stack([network.p_load, 50 * network.p_load])
    q = np.stack([network.q_load, network.q_load])
    flow = solve_power_flow(network, p, q)
    assert flow.converged.tolist() == [True, False]
    full = voltage_sensitivity(network, flow.voltage, p, q, np.array([5]))
    some = voltage_sensitivity(network, flow.voltage, p, q, np.array([5]), at=np.array([7, 3]))

    assert np.array_equal(some[0], full[0][:, [7, 3]])
    assert np.isnan(full[1, :, 1:]).any() and np.isfinite(full[0]).all()
    # Drawing power lowers every voltage downstream of the substation, which itself stands still.
    assert (full[0, 0, 1:] < 0).all() and full[0, 0, 0] == 0


def test_a_mesh_is_refused_by_name():
    network = load_network("ieee33")
    meshed = network.with_changes(closed=np.ones(network.n_branch, dtype=bool))
    flow = solve_power_flow(meshed, network.p_load[None], network.q_load[None])
    with pytest.raises(NetworkError, match="closes a loop"):
        voltage_sensitivity(meshed, flow.voltage, flow.p, flow.q, np.array([5]))


def test_shapes_are_checked():
    network = load_network("ieee33")
    flow = solve_power_flow(network, network.p_load[None], network.q_load[None])
    with pytest.raises(ValueError, match="p has shape"):
        voltage_sensitivity(network, flow.voltage, flow.p[:, :4], flow.q, np.array([5]))
