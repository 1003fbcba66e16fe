"""Branch exchange against the published minimum losses."""

import numpy as np
import pytest

from feederguard.baselines.branch_exchange import branch_exchange
from feederguard.data.networks import load_network
from feederguard.models.power_flow import solve_power_flow


@pytest.mark.parametrize(("feeder", "loss_kw"), [("ieee33", 139.551), ("bus69", 98.605)])
def test_reaches_the_published_minimum_loss(feeder, loss_kw):
    network = load_network(feeder)

    closed = branch_exchange(network, starts=3)

    flow = solve_power_flow(network, closed=closed)
    assert 1e3 * flow.loss_mw == pytest.approx(loss_kw, abs=5e-4)
    assert closed.sum() == network.n_bus - 1 and flow.energised.all()


def test_never_worse_than_the_normal_state_and_the_same_from_the_same_seed():
    network = load_network("caracas141")

    first, second = (branch_exchange(network, starts=1, seed=3) for _ in range(2))

    assert (first == second).all()
    losses = solve_power_flow(network, closed=np.array([network.closed, first])).loss_mw
    assert losses[1] < losses[0]
