"""What flows in a radial feeder when nothing is lost, and what could."""

import numpy as np
import pytest

from feederguard.models.battery import Batteries
from feederguard.models.equations.lossless import lossless_flow, lossless_range
from feederguard.models.equations.periods import read_periods
from feederguard.models.network.graph import feeding_tree
from feeders import feeder


def fork(**changes):
    """0 --a-- 1, 2 --b-- 1 fed backwards, 1 --c-- 3; the tie t from 2 to 3 is open.

    Loads 0.1, 0.2, 0.3 at 1, 2, 3.
    """
    values = {
        "name": "fork",
        "p_load": [0, 0.1, 0.2, 0.3],
        "q_load": [0, 0.0, 0.05, 0.0],
        "x": 0.02,
    }
    return feeder("a:0-1 b:2-1 c:1-3 t:2~3", **values | changes)


def test_lossless_flow_by_hand():
    """All of 0.6 flows through a, and 0.2 + 0.05j enters b at its to end.

    w falls by 2 (r P + x Q) along each branch.
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
    """Bus 3 has a battery of 0.4 and a generator of 0 to 0.5.

    Bus 2 has a capacitor of 0.1 at up to 1.1 pu, which counts either way.
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
