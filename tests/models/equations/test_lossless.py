"""Walking a radial feeder: order, what lies behind a branch, and what is not radial."""

import numpy as np
import pytest

from feederguard.data.networks import load_network
from feederguard.models.battery import Batteries
from feederguard.models.equations.lossless import lossless_flow, lossless_range
from feederguard.models.equations.periods import read_periods
from feederguard.models.network import Network, NetworkError
from feederguard.models.network.graph import feeding_tree


def fork(**changes) -> Network:
    """0 --a-- 1, 2 --b-- 1 fed backwards, 1 --c-- 3; the tie t from 2 to 3 is open. Loads 0.1, 0.2,
    0.3 at 1, 2, 3.
    """
    four, zero = np.zeros(4), np.zeros(4)
    values = {
        "name": "fork",
        "base_mva": 1.0,
        "bus_name": ("0", "1", "2", "3"),
        "vn_kv": four + 10.0,
        "v_min": four + 0.9,
        "v_max": four + 1.1,
        "p_load": [0, 0.1, 0.2, 0.3],
        "q_load": [0, 0.0, 0.05, 0.0],
        "p_gen": zero,
        "q_gen": zero,
        "g_shunt": zero,
        "b_shunt": zero,
        "substation": [0],
        "v_substation": [1.0],
        "branch_name": ("a", "b", "c", "t"),
        "kind": ("line", "line", "line", "tie"),
        "from_bus": [0, 2, 1, 2],
        "to_bus": [1, 1, 3, 3],
        "r": four + 0.01,
        "x": four + 0.02,
        "g_from": zero,
        "b_from": zero,
        "g_to": zero,
        "b_to": zero,
        "tap": four + 1,
        "shift": zero,
        "rating": four + np.inf,
        "closed": [True, True, True, False],
        "open_end": [0, 0, 0, 0],
    }
    return Network(**values | changes)


def test_branches_come_after_what_feeds_them():
    walk = [(step.branch, step.near, step.far) for step in feeding_tree(fork())]
    assert walk[0] == (0, 0, 1)
    assert sorted(walk[1:]) == [(1, 1, 2), (2, 1, 3)]


def test_a_loop_is_refused_by_the_branch_that_closes_it():
    with pytest.raises(
        NetworkError, match="fork is meshed: closed branch 't' closes a loop.*use build_ac_opf"
    ):
        feeding_tree(fork(closed=[True] * 4))


def test_two_branches_side_by_side_are_a_loop():
    with pytest.raises(NetworkError, match="closed branch 'c' closes a loop"):
        feeding_tree(fork(from_bus=[0, 2, 1, 2], to_bus=[1, 1, 2, 3], closed=[True] * 4))


def test_a_path_between_substations_is_a_loop_too():
    with pytest.raises(NetworkError, match="closed branch 'c' closes a loop or joins substations"):
        feeding_tree(fork(substation=[0, 3], v_substation=[1.0, 1.0]))


def test_a_bus_that_nothing_feeds_is_named():
    with pytest.raises(NetworkError, match="no closed branch feeds bus '3'; close one"):
        feeding_tree(fork(closed=[True, True, False, False]))


def test_lossless_flow_by_hand():
    """All of 0.6 through a; 0.2 + 0.05j enters b at its to end; w falls by 2 (r P + x Q) along
    each.
    """
    network = fork()
    flow = lossless_flow(read_periods(network), feeding_tree(network))

    np.testing.assert_allclose(flow.p, [[0.6, -0.2, 0.3, 0.0]])
    np.testing.assert_allclose(flow.q, [[0.05, -0.05, 0.0, 0.0]])
    w1 = 1 - 2 * (0.01 * 0.6 + 0.02 * 0.05)
    np.testing.assert_allclose(
        flow.w, [[1.0, w1, w1 - 2 * (0.01 * 0.2 + 0.02 * 0.05), w1 - 2 * 0.01 * 0.3]]
    )
    assert flow.ell[0, 0] == pytest.approx(0.6**2 + 0.05**2)


def test_range_by_hand():
    """Bus 3 has a battery of 0.4 and a generator of 0 to 0.5, bus 2 a capacitor of 0.1 at up to 1.1
    pu, either way.
    """
    network = fork(
        b_shunt=[0, 0, 0.1, 0], gen_name=("g",), gen_bus=[3], gen_p_min=[0.0], gen_p_max=[0.5], gen_q_min=[-0.2],
        gen_q_max=[np.inf],
    )  # fmt: skip
    batteries = Batteries.at(network, ["3"], p_max_mw=0.4, energy_mwh=1.0)
    reach = lossless_range(read_periods(network, batteries=batteries), feeding_tree(network))

    c = 0.1 * 1.1**2
    np.testing.assert_allclose(reach.p_low[0, :3], [0.1 + 0.2 - c + 0.3 - 0.9, -0.2 - c, 0.3 - 0.9])
    np.testing.assert_allclose(reach.p_high[0, :3], [0.6 + c + 0.4, -0.2 + c, 0.3 + 0.4])
    np.testing.assert_allclose(reach.q_high[0, :3], [0.05 + c + 0.2, -0.05 + c, 0.2])
    assert reach.q_low[0, 0] == -np.inf
    assert reach.largest[0, 1] == pytest.approx(np.hypot(0.2 + c, 0.05 + c))
    assert reach.most(1.0, 0.0)[0, 2] == pytest.approx(0.7)
    assert reach.most(0.0, -1.0)[0, 2] == np.inf


@pytest.mark.parametrize("name", ["ieee33", "bus69", "cigre_lv18", "caracas141"])
def test_bundled_feeders_are_radial(name):
    network = load_network(name)
    assert len(feeding_tree(network)) == np.count_nonzero(network.closed)
