"""The AC power flow against a dense admittance matrix, closed forms, papers and pandapower.

flow.py is tested here.
layout.py is tested here.
forest.py is tested here.
subtree.py is tested here.
loops.py is tested here.
newton_sweep.py is tested here.
lanes.py is tested here.
"""

import warnings

import numpy as np
import pandapower.networks
import pytest
from flow_checks import bus_admittance, feeder, mixed_states, random_network, worst_mismatch_mva

import feeders
from feederguard.data.networks import load_network
from feederguard.models.network import Network
from feederguard.models.power_flow import solve_power_flow

# Load MW and Mvar, loss kW, lowest voltage pu and its bus in the base topology at nominal load.
# Published: ieee33 by Baran & Wu 1989 (202.68 kW, 0.9131 pu), bus69 in the literature on it (225.0
# kW, 0.9092 pu), mantovani136 by MATPOWER's case136ma (320.364 kW). The others were computed by
# pandapower and by an independent sweep from the same data.
BASE_FIGURES = {
    "ieee33": ("3.715", "2.300", "202.677", "0.91309", "18"),
    "bus69": ("3.8021", "2.6947", "224.99", "0.90919", "65"),
    "bus69_zhou": ("3.8021", "2.6947", "224.99", "0.90919", "65"),
    "caracas141": ("11.9446", "7.4026", "632.70", "0.92786", "87"),
    "mantovani136": ("18.3138", "7.9326", "320.36", "0.93065", "117"),
    "kraftringen533": ("44.6206", "0.4462", "525.37", "0.95875", "295"),
}


@pytest.mark.parametrize("name", BASE_FIGURES)
def test_base_case_figures_to_the_printed_digits(name):
    network = load_network(name)

    flow = solve_power_flow(network)

    found = (
        network.base_mva * network.p_load.sum(),
        network.base_mva * network.q_load.sum(),
        1e3 * flow.loss_mw,
        flow.v_min_pu,
    )
    for value, printed in zip(found, BASE_FIGURES[name], strict=False):
        decimals = len(printed.partition(".")[2])
        assert f"{value:.{decimals}f}" == printed
    assert network.bus_name[abs(flow.voltage).argmin()] == BASE_FIGURES[name][-1]


def test_reconfigured_33_bus_loss_is_the_published_optimum():
    """Branches 7, 9, 14, 32, 37 open: 139.551 kW, and 0.93782 pu at bus 32.

    That is the minimum of the literature.
    """
    network = load_network("ieee33")
    closed = np.array([name not in ("7", "9", "14", "32", "37") for name in network.branch_name])

    flow = solve_power_flow(network, closed=closed)

    assert 1e3 * flow.loss_mw == pytest.approx(139.551, abs=5e-4)
    assert flow.v_min_pu == pytest.approx(0.93782, abs=5e-6)
    assert network.bus_name[abs(flow.voltage).argmin()] == "32"


@pytest.mark.parametrize("demand", [0.3 + 0.1j, 0.2 - 0.4j, -0.5 + 0.05j, 0.0])
def test_two_buses_by_hand(demand):
    """With V_0 = 1, w = |V_1|^2 solves w^2 + (2 (r p + x q) - 1) w + |z|^2 |s|^2 = 0.

    Then V_1 = w + conj(z) s.
    """
    z = 0.08 + 0.12j
    half = 0.5 - (z.real * np.real(demand) + z.imag * np.imag(demand))
    w = half + np.sqrt(half**2 - abs(z) ** 2 * abs(demand) ** 2)

    flow = solve_power_flow(feeder([(0, 1, z.real, z.imag)], [0.0, demand]))

    assert flow.converged and flow.voltage.shape == (2,)
    assert flow.voltage[1] == pytest.approx(w + np.conj(z) * demand, abs=1e-9)
    assert abs(flow.voltage[1]) == pytest.approx(np.sqrt(w), abs=1e-9)
    assert flow.loss_mw == pytest.approx(10 * z.real * abs(demand) ** 2 / w, abs=1e-8)
    assert flow.series_current[0] == pytest.approx((1 - flow.voltage[1]) / z, abs=1e-8)


def test_a_load_lowers_the_voltage_and_beyond_the_nose_there_is_no_solution():
    """A unity-power-factor load over r alone has a solution up to p = 1 / (4 r) = 2.5."""
    network = feeder([(0, 1, 0.1, 0.0)], [0.0, 0.1])

    flow = solve_power_flow(
        network, p=[[0.0, 0.0], [0.0, 1.0], [0.0, 2.49], [0.0, 2.51], [0.0, 50.0]]
    )

    np.testing.assert_array_equal(flow.converged, [True, True, True, False, False])
    np.testing.assert_allclose(abs(flow.voltage[:2, 1]), [1.0, 0.5 + np.sqrt(0.15)], atol=1e-9)
    assert abs(flow.voltage[2, 1]) == pytest.approx(0.5 + np.sqrt(0.25 - 0.249), abs=1e-6)
    assert (
        np.isnan(flow.voltage[3:]).all()
        and np.isnan(flow.loss_mw[3:]).all()
        and np.isnan(flow.v_min_pu[3:]).all()
    )
    np.testing.assert_array_equal(flow.iterations[3:], -1)


def three_buses():
    return feeder(
        [(0, 1, 0.02, 0.05), (1, 2, 0.03, 0.04), (0, 2, 0.05, 0.02)],
        [0.05j, 0.6 + 0.2j, 0.4 - 0.1j],
    )


@pytest.mark.parametrize("closed", [(1, 1, 0), (1, 0, 1), (0, 1, 1), (1, 1, 1)])
def test_three_buses_radial_and_in_a_loop_satisfy_the_bus_equations(closed):
    network = three_buses()

    flow = solve_power_flow(network, closed=closed)

    y = bus_admittance(network, closed)
    mismatch = flow.voltage * np.conj(y @ flow.voltage) + network.p_load + 1j * network.q_load
    assert abs(mismatch[1:]).max() < 1e-9
    drop = flow.voltage[network.from_bus] - flow.voltage[network.to_bus]
    expected = np.where(np.array(closed, dtype=bool), drop / network.z, 0)
    np.testing.assert_allclose(flow.series_current, expected, atol=1e-8)


@pytest.mark.parametrize("seed", range(25))
def test_every_feature_at_once_satisfies_the_bus_equations(seed):
    rng = np.random.default_rng(seed)
    network = random_network(rng)
    closed = rng.random((12, network.n_branch)) < 0.75
    p = network.p_load * rng.uniform(0, 1.5, (12, 1))

    flow = solve_power_flow(network, p=p, closed=closed)

    assert flow.converged.all()
    assert worst_mismatch_mva(flow) < 2e-8
    balance_of(flow, p)


def balance_of(flow, p):
    """Substations deliver what buses and their shunts draw and what branches lose."""
    network = flow.network
    drawn = np.where(flow.energised, p + network.g_shunt * abs(flow.voltage) ** 2, 0).sum(axis=-1)
    delivered = flow.p_substation_mw.sum(axis=-1)
    np.testing.assert_allclose(delivered, network.base_mva * drawn + flow.loss_mw, atol=1e-6)


@pytest.mark.parametrize("seed", range(8))
def test_branch_end_currents_and_loss_of_taps_shifts_and_charging(seed):
    rng = np.random.default_rng(100 + seed)
    network = random_network(rng)

    flow = solve_power_flow(network)

    ratio = network.tap * np.exp(1j * network.shift)
    v_from, v_to = flow.voltage[network.from_bus], flow.voltage[network.to_bus]
    y_from, y_to = network.g_from + 1j * network.b_from, network.g_to + 1j * network.b_to
    behind = v_from / ratio
    into_from = ((behind - v_to) / network.z + y_from * behind) / np.conj(ratio)
    into_to = (v_to - behind) / network.z + y_to * v_to
    np.testing.assert_allclose(flow.current_from, into_from, atol=1e-7)
    np.testing.assert_allclose(flow.current_to, into_to, atol=1e-7)
    lost = network.r * abs((behind - v_to) / network.z) ** 2
    lost = lost + network.g_from * abs(behind) ** 2 + network.g_to * abs(v_to) ** 2
    assert flow.loss_mw == pytest.approx(10 * lost.sum(), abs=1e-6)


@pytest.mark.parametrize(("open_end", "bus"), [(0, None), (2, 0), (1, 1)])
def test_an_open_line_hangs_from_the_end_that_is_not_open(open_end, bus):
    """Open at its to end (2), line b1 charges from bus 0 through y_from + y_to / (1 + z y_to).

    Open at the other end, it charges from the other side.
    """
    network = feeder(
        [(0, 1, 0.01, 0.02), (0, 1, 0.04, 0.03)], [0.0, 0.2 + 0.1j], closed=[True, False],
        b_from=[0.0, 0.3], b_to=[0.0, 0.2], g_from=[0.0, 0.01], g_to=[0.0, 0.02], open_end=[0, open_end],
    )  # fmt: skip
    z, near, far = 0.04 + 0.03j, 0.01 + 0.3j, 0.02 + 0.2j
    if bus == 1:
        near, far = far, near

    flow = solve_power_flow(network)

    into = np.array([flow.current_from[1], flow.current_to[1]])
    expected = np.zeros(2, dtype=complex)
    if bus is not None:
        expected[bus] = flow.voltage[bus] * (near + far / (1 + z * far))
    np.testing.assert_allclose(into, expected, atol=1e-12)
    assert flow.series_current[1] == 0
    assert worst_mismatch_mva(solve_power_flow(network, p=[network.p_load])) < 2e-8


def test_a_tap_and_a_shift_at_no_load_are_the_ratio_either_way_round():
    ratio = 1.05 * np.exp(1j * np.pi / 6)
    changes = {"tap": [1.05], "shift": [np.pi / 6]}

    down = solve_power_flow(feeder([(0, 1, 0.01, 0.1)], [0, 0], **changes))
    up = solve_power_flow(feeder([(1, 0, 0.01, 0.1)], [0, 0], **changes))

    assert down.voltage[1] == pytest.approx(1 / ratio, abs=1e-12)
    assert up.voltage[1] == pytest.approx(ratio, abs=1e-12)


def test_a_branch_without_impedance_is_a_switch():
    network = feeder(
        [(0, 1, 0.02, 0.03), (1, 2, 0.0, 0.0), (2, 3, 0.01, 0.01)], [0, 0.2, 0.1 + 0.1j, 0.3]
    )

    flow = solve_power_flow(network)

    assert flow.converged
    assert flow.voltage[1] == pytest.approx(flow.voltage[2], abs=1e-12)
    into_switch = flow.voltage[1] * np.conj(flow.series_current[1])
    beyond = 0.4 + 0.1j + (0.01 + 0.01j) * abs(flow.series_current[2]) ** 2
    assert into_switch == pytest.approx(beyond, abs=1e-8)


def test_two_substations_share_a_loop_and_feed_their_own_halves_when_it_is_opened():
    branches = [(0, 1, 0.02, 0.03), (1, 2, 0.02, 0.03), (2, 3, 0.02, 0.03)]
    network = feeder(branches, [0, 0.5, 0.3, 0], substation=(0, 3), v_substation=(1.0, 1.02))

    joined = solve_power_flow(network)
    apart = solve_power_flow(network, closed=[True, False, True])
    halves = [
        solve_power_flow(feeder([(0, 1, 0.02, 0.03)], [0, demand], v_substation=[v])).voltage[1]
        for demand, v in ((0.5, 1.0), (0.3, 1.02))
    ]

    assert (
        joined.converged and joined.series_current[1] != 0 and joined.p_substation_mw.shape == (2,)
    )
    assert joined.p_substation_mw.sum() == pytest.approx(8 + joined.loss_mw, abs=1e-7)
    np.testing.assert_allclose(apart.voltage[1:3], halves, atol=1e-10)


def test_a_branch_between_two_substations_carries_their_difference():
    network = feeder(
        [(0, 1, 0.02, 0.04), (1, 2, 0.01, 0.01)],
        [0, 0, 0.2],
        substation=(0, 1),
        v_substation=(1.0, 0.98),
    )

    flow = solve_power_flow(network)

    assert flow.series_current[0] == pytest.approx(0.02 / (0.02 + 0.04j), abs=1e-12)
    assert flow.p_substation_mw.sum() == pytest.approx(2 + flow.loss_mw, abs=1e-7)


def test_demand_at_the_substation_is_drawn_but_moves_no_voltage():
    network = three_buses()
    more = network.p_load + np.array([1.0, 0.0, 0.0])

    flow, other = solve_power_flow(network), solve_power_flow(network, p=more)

    np.testing.assert_array_equal(flow.voltage, other.voltage)
    assert other.p_substation_mw[0] - flow.p_substation_mw[0] == pytest.approx(10)


def test_default_demand_is_load_less_generation():
    network = three_buses().with_changes(p_gen=[0.0, 0.3, 0.0], q_gen=[0.0, 0.0, 0.1])

    flow = solve_power_flow(network)
    given = solve_power_flow(
        network, p=network.p_load - network.p_gen, q=network.q_load - network.q_gen
    )

    np.testing.assert_array_equal(flow.voltage, given.voltage)
    np.testing.assert_array_equal(flow.p, network.p_load - network.p_gen)


def test_islands_are_dark_and_their_demand_is_lost():
    """Bus 2 draws and bus 3 produces behind the open branch: only the demand counts as lost."""
    branches = [(0, 1, 0.02, 0.03), (1, 2, 0.02, 0.03), (2, 3, 0.02, 0.03)]
    network = feeder(branches, [0, 0.2 + 0.1j, 0.3 + 0.1j, -0.5])

    flow = solve_power_flow(network, closed=[True, False, True])

    assert flow.converged
    np.testing.assert_array_equal(flow.energised, [True, True, False, False])
    np.testing.assert_array_equal(flow.voltage[2:], 0)
    np.testing.assert_array_equal(flow.series_current[1:], 0)
    assert flow.lost_load_mw == pytest.approx(3.0)
    alone = solve_power_flow(feeder(branches[:1], [0, 0.2 + 0.1j]))
    assert flow.v_min_pu == pytest.approx(abs(alone.voltage[1]), abs=1e-10)
    assert flow.v_max_pu == 1.0
    assert flow.loss_mw == pytest.approx(alone.loss_mw, abs=1e-9)


def test_everything_open_leaves_only_the_substation():
    network = load_network("ieee33")

    flow = solve_power_flow(network, closed=np.zeros(network.n_branch, dtype=bool))

    assert flow.converged and flow.energised.sum() == 1 and flow.loss_mw == 0
    assert flow.lost_load_mw == pytest.approx(3.715)


def test_loading_is_the_larger_end_current_over_the_rating():
    network = three_buses().with_changes(rating=[0.5, np.inf, 0.25], b_to=[0.4, 0.0, 0.0])

    flow = solve_power_flow(network)

    larger = np.maximum(abs(flow.current_from), abs(flow.current_to))
    assert abs(flow.current_from[0]) != pytest.approx(abs(flow.current_to[0]), rel=1e-3)
    np.testing.assert_allclose(flow.loading, [larger[0] / 0.5, 0.0, larger[2] / 0.25])


# A block of the side-by-side kernel holds 32 items: fewer, one block, and several with a broken
# last one.
def test_an_iteration_limit_that_is_too_low_is_not_convergence():
    network = load_network("ieee33")

    flow = solve_power_flow(network, p=np.tile(network.p_load, (9, 1)), max_iterations=1)

    assert not flow.converged.any() and np.isnan(flow.voltage).all()
    assert not solve_power_flow(network, max_iterations=1).converged


@pytest.mark.parametrize("name", ["ieee33", "mantovani136"])
def test_what_is_called_converged_is_a_solution_even_near_collapse(name):
    network, rng = load_network(name), np.random.default_rng(17)
    scale = rng.uniform(0, 5, (60, 1))

    flow = solve_power_flow(
        network, scale * network.p_load, scale * network.q_load, mixed_states(network, rng, 60)
    )

    assert 5 < flow.converged.sum() < 60
    assert worst_mismatch_mva(flow) < 2e-8
    assert np.isnan(flow.voltage[~flow.converged]).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"p": np.zeros(32)}, r"p has shape \(32,\); expected \(33,\) or \(B, 33\), one per bus"),
        ({"q": np.zeros((2, 34))}, r"q has shape \(2, 34\); expected \(33,\) or \(B, 33\)"),
        ({"p": np.zeros((2, 2, 33))}, r"p has shape \(2, 2, 33\)"),
        ({"p": 1.0}, r"p has shape \(1,\)"),
        (
            {"closed": np.ones(33)},
            r"closed has shape \(33,\); expected \(37,\) or \(B, 37\), one per branch",
        ),
        (
            {"p": np.zeros((3, 33)), "closed": np.ones((4, 37))},
            "batch sizes disagree: p has 3, closed has 4",
        ),
        ({"p": ["a"] * 33}, "p must hold numbers, one per bus"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        solve_power_flow(load_network("ieee33"), **arguments)


# Close to voltage collapse a mismatch of 1e-8 MVA can be worth more than 1e-8 pu, so both solve to
# less.
class TestStart:
    """Two buses joined by r = 0.05: V (1 - V) = r p, so p = 1.8 has solutions 0.9 and 0.1."""

    @staticmethod
    def two_buses():
        return feeder([(0, 1, 0.05, 0.0)], [0, 1.8])

    def test_newton_finds_the_solution_near_the_start(self):
        network = self.two_buses()
        assert solve_power_flow(network).voltage[1] == pytest.approx(0.9)
        low = solve_power_flow(network, start=[1.0, 0.12])
        assert low.converged and low.voltage[1] == pytest.approx(0.1)
        assert low.mismatch_mva < 1e-8
        assert solve_power_flow(network, start=[0.5, 0.12]).voltage[0] == 1.0, (
            "the substation stays where it is held"
        )

    def test_each_item_has_its_own_start_or_none(self):
        starts = np.array([[1.0, 0.12], [1.0, 0.0], [1.0, np.nan], [1.0, 0.95]] * 5)
        flow = solve_power_flow(self.two_buses(), start=starts)
        np.testing.assert_allclose(flow.voltage[:, 1], [0.1, 0.9, 0.9, 0.9] * 5)

    def test_a_loop_started_at_its_solution_needs_one_step(self):
        network = load_network("ieee33")
        closed = np.ones(network.n_branch, dtype=bool)
        flat = solve_power_flow(network, closed=closed)
        again = solve_power_flow(network, closed=closed, start=flat.voltage)
        assert flat.iterations > 1 and again.iterations == 1
        np.testing.assert_allclose(again.voltage, flat.voltage, atol=1e-12)
        np.testing.assert_allclose(again.series_current, flat.series_current, atol=1e-9)

    def test_a_start_that_does_not_fit_is_refused(self):
        with pytest.raises(
            ValueError, match=r"start has shape \(3,\); expected \(2,\) or \(B, 2\), one per bus"
        ):
            solve_power_flow(self.two_buses(), start=np.ones(3))
        with pytest.raises(ValueError, match="batch sizes disagree: p has 3, start has 2"):
            solve_power_flow(self.two_buses(), np.zeros((3, 2)), start=np.ones((2, 2)))


def test_generators_that_wait_for_a_dispatch_are_warned_of():
    network = load_network("ieee33").with_changes(
        gen_name=("g",),
        gen_bus=[5],
        gen_p_min=[0.0],
        gen_p_max=[1.0],
        gen_q_min=[0.0],
        gen_q_max=[0.0],
    )
    with pytest.warns(
        UserWarning,
        match="ieee33: its 1 dispatchable generators feed nothing here, .* give p and q",
    ):
        flow = solve_power_flow(network)
    assert 1e3 * flow.loss_mw == pytest.approx(202.677, abs=0.01)


@pytest.mark.parametrize("max_iterations", [0, -1, 2.5, True, None])
def test_a_number_of_iterations_that_tests_nothing_is_refused(max_iterations):
    network = feeders.two_buses(p_load=[0, 0.5])

    for p in (network.p_load, np.tile(network.p_load, (40, 1))):
        with pytest.raises(ValueError, match="max_iterations is .*; give 1 or more"):
            solve_power_flow(network, p, max_iterations=max_iterations)


@pytest.mark.parametrize("tolerance_mva", [0.0, -1e-8, np.nan, np.inf])
def test_a_tolerance_that_tests_nothing_is_refused(tolerance_mva):
    with pytest.raises(ValueError, match="tolerance_mva is .*; give a positive number of MVA"):
        solve_power_flow(feeders.two_buses(), tolerance_mva=tolerance_mva)


def wide_net(name):
    """A meshed net of pandapower's with its gens as sgens of the output that runpp finds."""
    net = getattr(pandapower.networks, name)()
    pandapower.runpp(net, calculate_voltage_angles=True)
    made = net.res_gen.loc[net.gen.index[net.gen["in_service"]]]
    for gen, (p_mw, q_mvar) in made[["p_mw", "q_mvar"]].iterrows():
        pandapower.create_sgen(net, net.gen["bus"].at[gen], p_mw=p_mw, q_mvar=q_mvar)
    net.gen, net.poly_cost = net.gen[:0], net.poly_cost[:0]
    pandapower.runpp(net, calculate_voltage_angles=True, init="dc")
    return net


@pytest.mark.filterwarnings("ignore:tap_dependency_table:DeprecationWarning")
@pytest.mark.parametrize("name", ["create_cigre_network_hv", "case118"])
def test_a_meshed_net_with_wide_angles_is_solved_at_its_state_of_operation(name):
    """From no load Newton's method ends at 2.38 and 2.95 pu; runpp's root is near 1 pu."""
    net = wide_net(name)
    network = Network.from_pandapower(net)

    with warnings.catch_warnings(action="error"):
        flow = solve_power_flow(network)
        batch = solve_power_flow(network, np.tile(network.p_load - network.p_gen, (2, 1)))

    assert flow.v_max_pu == pytest.approx(net.res_bus.vm_pu.max(), abs=1e-6)
    assert flow.v_min_pu == pytest.approx(net.res_bus.vm_pu.min(), abs=1e-6)
    assert flow.mismatch_mva < 1e-7
    np.testing.assert_allclose(batch.voltage, np.tile(flow.voltage, (2, 1)), atol=1e-8)


def test_a_far_root_that_stays_is_said():
    """Two parallel lines of a source at 0.45 pu: no start leads anywhere else."""
    network = feeders.feeder("a:0-1 b:0-1", r=0.2, p_load=[0, 0.01], v_substation=[0.45])

    with pytest.warns(UserWarning, match="1 of 1 meshed power flows have voltages far from 1 pu"):
        flow = solve_power_flow(network)

    assert flow.converged and flow.v_max_pu == pytest.approx(0.45)
