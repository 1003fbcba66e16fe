"""Line-node power ratio: a three-bus mesh by hand, the matrix formula, finite differences.

dense.py is tested here.
"""

import numpy as np
import pytest

from feederguard.data.networks import load_network
from feederguard.models.arrays import BoolArray, ComplexArray, FloatArray
from feederguard.models.network import Network, NetworkError
from feederguard.models.network.pi_model import branch_admittances
from feederguard.models.power_flow import PowerFlow, solve_power_flow
from feederguard.models.power_flow.line_node_ratio import (
    RatioCache,
    line_node_ratio,
    nodal_impedance,
    power_sensitivity,
    shedding_sensitivity,
)
from feeders import feeder


def ring(z: tuple[complex, complex, complex] = (0.01, 0.01j, 0.01), **changes: object) -> Network:
    """0 --a-- 1 --b-- 2, and c from 0 to 2; loads at 1 and 2."""
    network = feeder(
        "a:0-1 b:1-2 c:0~2",
        name="ring",
        p_load=[0.0, 0.05, 0.1],
        q_load=[0.0, 0.02, 0.05],
        r=np.real(z),
        x=np.imag(z),
    )
    return network.with_changes(**changes)


def flow_with(
    network: Network, voltage: list[complex], current: list[complex], closed: list[bool]
) -> PowerFlow:
    """A state written down, not solved."""
    return PowerFlow(
        network,
        np.array(voltage),
        np.array(current),
        np.array(True),
        np.array(voltage) != 0,
        np.array(1),
        np.array(closed),
        network.p_load,
        network.q_load,
    )


def tableau(network: Network, closed: BoolArray) -> tuple[ComplexArray, ComplexArray]:
    """Ratio and impedance from one dense system.

    Its rows are the voltage drop of each closed line and the balance of each bus.
    """
    lines = np.flatnonzero(closed)
    free = np.setdiff1d(np.arange(network.n_bus), network.substation)
    ratio = network.tap * np.exp(1j * network.shift)
    incidence = np.zeros((network.n_bus, len(lines)), dtype=complex)
    incidence[network.from_bus[lines], range(len(lines))] = -1 / np.conj(ratio[lines])
    incidence[network.to_bus[lines], range(len(lines))] += 1
    shunt = network.g_shunt + 1j * network.b_shunt
    for end, column in ((network.from_bus, 0), (network.to_bus, 1)):
        np.add.at(shunt, end[lines], branch_admittances(network).closed[lines, column])
    n = len(lines)
    system = np.block(
        [
            [np.diag(network.z[lines]), np.conj(incidence[free]).T],
            [incidence[free], -np.diag(shunt[free])],
        ]
    )
    answer = np.linalg.solve(system, np.vstack([np.zeros((n, len(free))), np.eye(len(free))]))
    found = np.zeros((network.n_branch, network.n_bus), dtype=complex)
    found[np.ix_(lines, free)] = answer[:n]
    impedance = np.zeros((network.n_bus, network.n_bus), dtype=complex)
    impedance[np.ix_(free, free)] = -answer[n:]
    return found, impedance


def test_ratio_of_a_three_bus_mesh_by_hand() -> None:
    # What bus 2 draws comes over c and over a, b in the inverse ratio of 0.01 and 0.01 + 0.01j: (1
    # + j) / (2 + j) = 0.6 + 0.2j over c, 1 / (2 + j) = 0.4 - 0.2j over a and b. Bus 1 likewise, b
    # then running backwards.
    expected = [
        [0, 0.6 + 0.2j, 0.4 - 0.2j],
        [0, -0.4 + 0.2j, 0.4 - 0.2j],
        [0, 0.4 - 0.2j, 0.6 + 0.2j],
    ]
    np.testing.assert_allclose(line_node_ratio(ring(), [True] * 3), expected, atol=1e-15)


def test_sensitivity_of_a_three_bus_mesh_by_hand() -> None:
    # Voltages 1, 1, 0.8 - 0.6j; c carries 1 forwards (head bus 0), b carries 1 backwards (head bus
    # 2).
    network = ring()
    flow = flow_with(network, [1, 1, 0.8 - 0.6j], [1, -1, 1], [True] * 3)
    found = power_sensitivity(network, line_node_ratio(network, [True] * 3), flow)
    # c, bus 2: Re((0.6 - 0.2j) / (0.8 - 0.6j)) = Re((0.6 - 0.2j)(0.8 + 0.6j)) = 0.6.
    assert found[2, 2] == pytest.approx(0.6)
    # b, bus 2: -Re(0.4 + 0.2j) = -0.4: drawing at 2 relieves b. b, bus 1: -Re((-0.4 - 0.2j)(0.8 -
    # 0.6j)) = 0.44.
    assert found[1, 1:] == pytest.approx([0.44, -0.4])
    # At q / p = 0.5, c, bus 2: Re((0.6 + 0.2j)(1 + 0.5j)) = 0.5. A bus without demand has nothing
    # to shed.
    q_load, p_load = np.array([0.0, 0.05, 0.05]), np.array([0.0, 0.0, 0.1])
    shed = shedding_sensitivity(network, line_node_ratio(network, [True] * 3), flow, p_load, q_load)
    assert shed[2] == pytest.approx([0.0, 0.0, 0.5])


def test_with_real_ratio_it_is_the_papers_formula() -> None:
    network = ring((0.01 + 0.02j, 0.01 + 0.02j, 0.01 + 0.02j))
    flow = solve_power_flow(network, closed=[True] * 3)
    ratio = line_node_ratio(network, [True] * 3)
    assert np.abs(ratio.imag).max() < 1e-15
    u, phi = np.abs(flow.voltage), np.angle(flow.voltage)
    cosines = np.cos(phi[0]) * np.cos(phi[2]) + np.sin(phi[0]) * np.sin(phi[2])
    found = power_sensitivity(network, ratio, flow)
    assert found[2, 2] == pytest.approx(ratio[2, 2].real * u[0] / u[2] * cosines, rel=1e-14)


@pytest.mark.parametrize("name", ["ieee33", "caracas141"])
@pytest.mark.parametrize("meshed", [False, True])
def test_sensitivities_are_those_of_the_ac_flow_at_light_load(name: str, meshed: bool) -> None:
    network = load_network(name)
    closed = np.ones(network.n_branch, dtype=bool) if meshed else network.closed
    p, q = 0.02 * network.p_load, 0.02 * network.q_load
    flow = solve_power_flow(network, p, q, closed)
    ratio = line_node_ratio(network, closed)
    loaded = np.flatnonzero(p > 0)
    step = 1e-3 * p.sum()

    def slope(tangent: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Central differences of head power (n_branch, n_loaded) and of voltage magnitude."""
        change = step * np.eye(network.n_bus)[loaded]
        more = solve_power_flow(network, p + change, q + change * tangent, closed)
        less = solve_power_flow(network, p - change, q - change * tangent, closed)
        forward = flow.s_from.real >= flow.s_to.real
        heads = [np.where(forward, f.s_from.real, f.s_to.real) for f in (more, less)]
        return ((heads[0] - heads[1]) / (2 * step)).T, (abs(more.voltage) - abs(less.voltage)).T / (
            2 * step
        )

    def assert_within_a_percent(found: FloatArray, expected: FloatArray) -> None:
        """Entries above 0.02 to one per cent of themselves, the rest to one per cent of that."""
        large = np.abs(expected) > 0.02
        assert large.any()
        np.testing.assert_allclose(found[large], expected[large], rtol=0.01)
        np.testing.assert_allclose(found[~large], expected[~large], atol=2e-4)

    found = power_sensitivity(network, ratio, flow)[:, loaded]
    assert_within_a_percent(found, slope(np.zeros(network.n_bus))[0])
    tangent = np.divide(q, p, out=np.zeros_like(p), where=p > 0)
    found = shedding_sensitivity(network, ratio, flow, p, q)[:, loaded]
    by_power, by_voltage = slope(tangent)
    assert_within_a_percent(found, by_power)
    drawn = np.conj((1 + 1j * tangent) / flow.voltage)[loaded]
    drop = (
        np.conj(flow.voltage / abs(flow.voltage))[:, None]
        * nodal_impedance(network, closed)[:, loaded]
        * drawn
    )
    np.testing.assert_allclose(-drop.real, by_voltage, atol=0.01 * np.abs(by_voltage).max())


@pytest.mark.parametrize("meshed", [False, True])
def test_ratio_is_the_formula_of_the_paper(meshed: bool) -> None:
    network = load_network("ieee33")
    closed = np.ones(network.n_branch, dtype=bool) if meshed else network.closed
    incidence = np.zeros((network.n_bus, network.n_branch))
    incidence[network.from_bus, range(network.n_branch)] = -1
    incidence[network.to_bus, range(network.n_branch)] = 1
    y_line = np.diag(np.where(closed, 1 / network.z, 0))
    a = np.delete(incidence, network.substation, axis=0)
    expected = y_line @ a.T @ np.linalg.inv(a @ y_line @ a.T)
    found = line_node_ratio(network, closed)
    np.testing.assert_allclose(np.delete(found, network.substation, axis=1), expected, atol=1e-12)
    assert not found[:, network.substation].any()


@pytest.mark.parametrize("closed", [[True, True, False], [True, True, True], [False, True, True]])
def test_taps_shifts_shunts_and_zero_impedance(closed: list[bool]) -> None:
    network = ring(
        (0.01 + 0.02j, 0.0, 0.03 + 0.01j), tap=[1.05, 1.0, 0.95], shift=[0.1, 0.0, 0.2], b_from=[0.3, 0.1, 0.0],
        b_to=[0.2, 0.0, 0.4], g_shunt=[0.0, 0.5, 0.0], b_shunt=[0.0, 0.0, 0.7],
    )  # fmt: skip
    ratio, impedance = tableau(network, np.array(closed))
    np.testing.assert_allclose(line_node_ratio(network, closed), ratio, atol=1e-14)
    np.testing.assert_allclose(nodal_impedance(network, closed), impedance, atol=1e-14)


def test_two_substations_share_what_a_bus_draws() -> None:
    # Buses 0 and 2 hold their voltages; bus 1 draws from both over 0.01 and 0.03: three quarters
    # and one quarter.
    network = ring((0.01, 0.03, 0.05), substation=[0, 2], v_substation=[1.0, 1.0])
    expected = np.array([[0, 0.75, 0], [0, -0.25, 0], [0, 0, 0]])
    np.testing.assert_allclose(line_node_ratio(network, [True] * 3), expected, atol=1e-15)


def test_dark_buses_and_lines_count_nothing() -> None:
    ratio = line_node_ratio(ring(), [False, True, False])
    assert not ratio.any()
    network = ring()
    flow = solve_power_flow(network, closed=[True, False, False])
    found = power_sensitivity(network, line_node_ratio(network, [True, False, False]), flow)
    assert found[0, 1] == pytest.approx(1.0, abs=1e-3)
    assert np.isfinite(found).all() and np.count_nonzero(found) == 1


def test_a_batch_is_its_items() -> None:
    network = load_network("ieee33")
    p = np.outer([0.2, 0.7], network.p_load)
    q = np.outer([0.2, 0.7], network.q_load)
    ratio = line_node_ratio(network, network.closed)
    both = power_sensitivity(network, ratio, solve_power_flow(network, p, q))
    one = power_sensitivity(network, ratio, solve_power_flow(network, p[1], q[1]))
    assert both.shape == (2, network.n_branch, network.n_bus)
    # The batch goes through another kernel, which rounds differently.
    np.testing.assert_allclose(both[1], one, rtol=1e-9)


def test_cache_keeps_the_topologies_used_last() -> None:
    network = ring()
    states = np.array(
        [[True, True, False], [True, False, True], [False, True, True], [True, True, True]]
    )
    cache = RatioCache(network, size_mb=2 * 16 * 3 * 6 / 2**20)
    assert cache.capacity == 2
    first = cache.slots(states[:2])
    assert sorted(first) == [0, 1] and len(cache) == 2
    cache.slots(states[:1])
    third = cache.slots(states[2:3])
    assert third[0] == first[1], "the one used longest ago gives way"
    assert (cache.slots(states[[2, 0]]) == [third[0], first[0]]).all()
    for state in states:
        slot = cache.slots(state[None])[0]
        np.testing.assert_array_equal(cache.ratio[slot], line_node_ratio(network, state))
        np.testing.assert_array_equal(cache.impedance[slot], nodal_impedance(network, state))
    with pytest.raises(ValueError, match="4 topologies asked of a cache of 2"):
        cache.slots(states)


def test_messages() -> None:
    with pytest.raises(
        NetworkError, match=r"ring: closed has shape \(2,\); expected \(3,\), a state per branch"
    ):
        line_node_ratio(ring(), [True, True])
    with pytest.raises(
        NetworkError, match="ring: closing branch '[abc]' makes a loop without impedance"
    ):
        line_node_ratio(ring((0.0, 0.0, 0.0)), [True] * 3)
