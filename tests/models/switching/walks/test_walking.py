"""Walks meet radial states and keep the best; rounds of them improve what was found.

annealing.py and walker.py are tested here.
"""

import numpy as np
import pytest

from feederguard.data.networks import load_network
from feederguard.models.load_transfer import make_scenarios
from feederguard.models.network import Network
from feederguard.models.network.graph import energised_buses
from feederguard.models.network.parallel import has_loop
from feederguard.models.switching.budget import Budget
from feederguard.models.switching.plans import SwitchPlans
from feederguard.models.switching.racing import Found, race_for
from feederguard.models.switching.walks.walker import Estimated, Walker
from feederguard.models.switching.walks.walking import walk_on


@pytest.fixture(scope="module")
def network() -> Network:
    network = load_network("ieee33")
    return network.with_changes(p_load=2.0 * network.p_load, q_load=2.0 * network.q_load)


def walk(network: Network, seed: int, n_step: int = 300) -> tuple[Walker, Estimated]:
    scenarios = make_scenarios(network, ["3"])
    walker = Walker(SwitchPlans(network, "radial"), scenarios)
    starts = np.repeat(walker.plain()[:1], 3, axis=0)
    return walker, walker.walk(starts, np.full(3, 0.2), n_step, seed)


def test_states_met_are_radial_distinct_and_sorted(network: Network) -> None:
    walker, met = walk(network, 5)
    fault = make_scenarios(network, ["3"]).fault[0]
    live = energised_buses(network, met.closed)
    assert len(met.cost) > 10
    assert not has_loop(network, met.closed, live).any()
    assert not met.closed[:, fault].any()
    fixed = ~walker.plans.switchable
    assert (met.closed[:, fixed] == walker.plain()[0][fixed]).all()
    assert len(np.unique(met.closed, axis=0)) == len(met.closed)
    assert (np.diff(met.cost) >= 0).all()


def test_the_same_seed_meets_the_same_states(network: Network) -> None:
    (_, one), (_, same), (_, other) = walk(network, 5), walk(network, 5), walk(network, 6)
    assert (one.closed == same.closed).all() and (one.cost == same.cost).all()
    assert one.closed.shape != other.closed.shape or (one.closed != other.closed).any()


def test_walks_find_cheaper_states_than_they_begin_at(network: Network) -> None:
    walker, met = walk(network, 5, 1000)
    assert met.cost[0] < 0.9 * walker.estimates(walker.plain()).min()
    assert met.cost[0] == pytest.approx(walker.estimates(met.closed[:1])[0], rel=0.02)


def test_rounds_improve_what_was_found(network: Network) -> None:
    scenarios = make_scenarios(network, ["3"])
    walker = Walker(SwitchPlans(network, "radial"), scenarios)
    found = Found.nothing(walker.plans, [walker.plain()[0]])
    race_for(walker.plans, scenarios, found, {0: walker.plain()}, Budget())
    before = found.cost[0]
    walk_on(walker, scenarios, found, 0, 4, 2, Budget())
    assert found.cost[0] < 0.97 * before
    assert found.n_flows[0] > walker.n_estimate // 10
