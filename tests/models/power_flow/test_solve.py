"""The AC power flow against a dense admittance matrix built here, closed forms, published figures
and pandapower.

flow.py is tested here.
layout.py is tested here.
forest.py is tested here.
subtree.py is tested here.
loops.py is tested here.
newton_sweep.py is tested here.
lanes.py is tested here.
"""

import functools

import numpy as np
import pandapower
import pytest

from feederguard.data.networks import load_network
from feederguard.models.network import Network
from feederguard.models.power_flow import solve_power_flow
from feederguard.models.switching.forests import spanning_forests


def feeder(branches, demand, substation=(0,), v_substation=None, **changes):
    """A network of 10 MVA and 10 kV; branches: (from, to, r, x), demand: complex per bus."""
    n_bus, n = len(demand), len(branches)
    ends = np.array(branches)
    values = {
        "name": "drawn",
        "base_mva": 10.0,
        "bus_name": tuple(map(str, range(n_bus))),
        "branch_name": tuple(f"b{k}" for k in range(n)),
        "kind": ("line",) * n,
        "vn_kv": np.full(n_bus, 10.0),
        "v_min": np.full(n_bus, 0.9),
        "v_max": np.full(n_bus, 1.1),
        "p_load": np.real(demand),
        "q_load": np.imag(demand),
        "p_gen": np.zeros(n_bus),
        "q_gen": np.zeros(n_bus),
        "g_shunt": np.zeros(n_bus),
        "b_shunt": np.zeros(n_bus),
        "substation": substation,
        "v_substation": np.ones(len(substation)) if v_substation is None else v_substation,
        "from_bus": ends[:, 0].astype(int),
        "to_bus": ends[:, 1].astype(int),
        "r": ends[:, 2],
        "x": ends[:, 3],
        **{name: np.zeros(n) for name in ("g_from", "b_from", "g_to", "b_to", "shift", "open_end")},
        "tap": np.ones(n),
        "rating": np.full(n, np.inf),
        "closed": np.ones(n, dtype=bool),
    }
    return Network(**values | changes)


def bus_admittance(network, closed):
    """Dense bus admittance matrix for one switch state, open-ended branches included."""
    y = np.diag(network.g_shunt + 1j * network.b_shunt)
    for k in range(network.n_branch):
        i, j, z = network.from_bus[k], network.to_bus[k], network.z[k]
        y_from, y_to = (
            network.g_from[k] + 1j * network.b_from[k],
            network.g_to[k] + 1j * network.b_to[k],
        )
        ratio = network.tap[k] * np.exp(1j * network.shift[k])
        if closed[k]:
            y[i, i] += (1 / z + y_from) / abs(ratio) ** 2
            y[i, j] -= 1 / (z * np.conj(ratio))
            y[j, i] -= 1 / (z * ratio)
            y[j, j] += 1 / z + y_to
        elif network.open_end[k] == 1:
            y[j, j] += y_to + y_from / (1 + z * y_from)
        elif network.open_end[k] == 2:
            y[i, i] += (y_from + y_to / (1 + z * y_to)) / abs(ratio) ** 2
    return y


def worst_mismatch_mva(flow):
    """Largest power mismatch at an energised bus over the converged items of a batch."""
    network, worst = flow.network, 0.0
    rows = [
        np.broadcast_to(a, (len(flow.converged), a.shape[-1]))
        for a in (flow.p, flow.q, flow.closed)
    ]
    for k in np.flatnonzero(flow.converged):
        p, q, closed = (row[k] for row in rows)
        voltage = flow.voltage[k]
        mismatch = voltage * np.conj(bus_admittance(network, closed) @ voltage) + p + 1j * q
        np.testing.assert_allclose(
            voltage[network.substation], network.v_substation, rtol=0, atol=1e-14
        )
        mismatch[network.substation] = 0
        worst = max(worst, network.base_mva * abs(mismatch[flow.energised[k]]).max())
    return worst


def radial_states(network, rng, count):
    keys = rng.random((count, network.n_branch))
    return spanning_forests(
        network, keys, np.ones_like(keys, dtype=bool), np.zeros(network.n_branch, dtype=bool)
    )


def mixed_states(network, rng, count):
    """Radial states in the first half; in the second, any branch open with probability 0.03:
    meshed, with islands.
    """
    meshed = rng.random((count - count // 2, network.n_branch)) > 0.03
    return np.concatenate([radial_states(network, rng, count // 2), meshed])


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
    """Branches 7, 9, 14, 32, 37 open: 139.551 kW and 0.93782 pu at bus 32, the minimum of the
    literature.
    """
    network = load_network("ieee33")
    closed = np.array([name not in ("7", "9", "14", "32", "37") for name in network.branch_name])

    flow = solve_power_flow(network, closed=closed)

    assert 1e3 * flow.loss_mw == pytest.approx(139.551, abs=5e-4)
    assert flow.v_min_pu == pytest.approx(0.93782, abs=5e-6)
    assert network.bus_name[abs(flow.voltage).argmin()] == "32"


@pytest.mark.parametrize("demand", [0.3 + 0.1j, 0.2 - 0.4j, -0.5 + 0.05j, 0.0])
def test_two_buses_by_hand(demand):
    """With V_0 = 1, w = |V_1|^2 solves w^2 + (2 (r p + x q) - 1) w + |z|^2 |s|^2 = 0, and V_1 = w +
    conj(z) s.
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


def random_network(rng):
    """Up to three substations, taps, shifts, charging, shunts, generation and open branches hanging
    from either end.
    """
    n_bus = int(rng.integers(5, 15))
    pairs = [(int(rng.integers(j)), j) for j in range(1, n_bus)]
    pairs += [tuple(rng.choice(n_bus, 2, replace=False)) for _ in range(4)]
    pairs = [pair[:: rng.choice([-1, 1])] for pair in pairs]
    n, n_root = len(pairs), int(rng.integers(1, 4))
    branches = [(*pair, *rng.uniform(0.002, 0.02, 2)) for pair in pairs]
    demand = rng.uniform(-0.05, 0.15, n_bus) + 1j * rng.uniform(-0.05, 0.1, n_bus)
    wound = rng.random(n) < 0.4
    return feeder(
        branches,
        demand,
        rng.choice(n_bus, n_root, replace=False),
        rng.uniform(0.98, 1.04, n_root) * np.exp(1j * rng.uniform(-0.02, 0.02, n_root)),
        tap=np.where(wound, rng.uniform(0.95, 1.05, n), 1.0),
        shift=np.where(wound, rng.uniform(-0.03, 0.03, n), 0.0),
        g_from=rng.uniform(0, 0.01, n),
        b_from=rng.uniform(0, 0.05, n),
        g_to=rng.uniform(0, 0.01, n),
        b_to=rng.uniform(0, 0.05, n),
        g_shunt=rng.uniform(0, 0.02, n_bus),
        b_shunt=rng.uniform(-0.05, 0.05, n_bus),
        open_end=rng.integers(0, 3, n),
    )


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
    """Substations deliver what energised buses draw, what their shunts draw, and what branches
    lose.
    """
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
    """Open at its to end (2), line b1 charges from bus 0 through y_from + y_to / (1 + z y_to); and
    the other way round.
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
TIGHT_MVA = 1e-10


@functools.cache
def pandapower_net(name):
    net = load_network(name).to_pandapower()
    # From here on a branch is open when its line is out of service.
    net.switch["closed"] = True
    return net


def pandapower_voltage(name, scale, closed, **options):
    """pandapower's complex voltages for one state, NaN where dark, or None where it does not
    converge.
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
    """Where pandapower converges ours has its voltages; where it does not, ours has a true solution
    or none.
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


class TestStart:
    """Two buses joined by r = 0.05: V (1 - V) = r p, so p = 1.8 has the two solutions 0.9 and 0.1."""

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
