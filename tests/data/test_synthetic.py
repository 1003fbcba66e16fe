"""Synthetic feeders: one seed one feeder, radial, within limits, and heavily loaded."""

import numpy as np
import pytest

from feederguard.baselines.plan_search import PlanSearch
from feederguard.data.synthetic import LOWEST_PU, synthetic_feeder
from feederguard.models.load_transfer import judge, make_scenarios
from feederguard.models.network import NetworkError
from feederguard.models.power_flow import solve_power_flow


@pytest.mark.parametrize("seed", range(6))
def test_a_feeder_is_radial_and_within_its_limits(seed: int) -> None:
    network = synthetic_feeder(seed)
    assert 50 <= network.n_bus <= 200 and 5 <= network.is_tie.sum() <= 20
    assert network.closed.sum() == network.n_bus - len(network.substation)
    flow = solve_power_flow(network, network.p_load, network.q_load)
    assert LOWEST_PU[0] <= np.abs(flow.voltage).min() <= LOWEST_PU[1] + 1e-3
    assert (np.abs(flow.series_current) <= network.rating).all()


def test_one_seed_is_one_feeder() -> None:
    a, b, other = synthetic_feeder(3), synthetic_feeder(3), synthetic_feeder(4)
    assert a.branch_name == b.branch_name and (a.r == b.r).all() and (a.p_load == b.p_load).all()
    assert a.branch_name != other.branch_name


def test_sizes_may_be_given() -> None:
    network = synthetic_feeder(0, n_bus=40, n_tie=4)
    assert network.n_bus == 40 and 1 <= network.is_tie.sum() <= 4
    with pytest.raises(NetworkError, match="9 buses and 4 ties; give at least 10 buses"):
        synthetic_feeder(0, n_bus=9, n_tie=4)


def test_many_faults_must_shed() -> None:
    network = synthetic_feeder(0, n_bus=60, n_tie=6)
    loops = np.flatnonzero(network.closed & network.on_loop)
    faults = make_scenarios(network, [network.branch_name[b] for b in loops])
    outcome = judge(network, faults, PlanSearch(network, "radial").decide(faults), "radial")
    assert outcome.safe.all()
    assert 0.2 <= (outcome.shed_ratio > 1e-6).mean() <= 0.9
