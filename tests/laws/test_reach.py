"""Who is fed: every use of reach against a walk along closed branches, on random states.

Uses: the graph for one state and for a batch, the checks of a network, the feeding tree, the AC
optimal power flow, the compiled power flow, the rules and the judge of load transfer, branches that
may fail, the radiality of Pyomo models, the least shedding, and the actions of agents.
"""

import numpy as np
import pyomo.environ as pyo
import pytest

from feederguard.agents.environments.load_transfer_actions import action_layout
from feederguard.models.ac_opf import build_ac_opf
from feederguard.models.load_transfer import Decisions, judge, make_scenarios, resolve_setting
from feederguard.models.load_transfer.rules import transfer_rules
from feederguard.models.load_transfer.setting import faultable_branches
from feederguard.models.load_transfer.shedding_opf import LeastSheddingSolver
from feederguard.models.network import NetworkError
from feederguard.models.network.graph import energised_buses, feeding_tree
from feederguard.models.power_flow import solve_power_flow
from feederguard.models.reconfiguration import build_load_transfer
from feeders import feeder

BRANCHES = "a:0-1 b:1-2 c:2-3 d:1-4 e:4-5 f:8-6 g:6-7 t:3~5 u:7~5 v:2~6"
STATES = np.random.default_rng(0).random((60, 10)) < 0.7


@pytest.fixture(scope="module")
def network():
    """Two substations, 0 and 8; bus 3 has reactive demand only, and t hangs from it when open."""
    return feeder(
        BRANCHES,
        substation=[0, 8],
        v_substation=[1.0, 1.0],
        p_load=[0, 0.1, 0.1, 0, 0.2, 0.1, 0.1, 0.1, 0],
        q_load=[0, 0.05, 0, 0.1, 0, 0, 0, 0, 0],
        b_from=[0, 0, 0, 0, 0, 0, 0, 0.02, 0, 0],
        open_end=[0, 0, 0, 0, 0, 0, 0, 2, 0, 0],
        rating=9.0,
    )


def fed(network, closed):
    """Return which buses a walk along closed branches reaches, (n_bus,)."""
    reached, waiting = set(), network.substation.tolist()
    while waiting:
        bus = waiting.pop()
        reached.add(bus)
        for b in np.flatnonzero(closed).tolist():
            ends = {int(network.from_bus[b]), int(network.to_bus[b])}
            if bus in ends:
                waiting += ends - reached
    return np.isin(np.arange(network.n_bus), list(reached))


def after(network, fault):
    """Return what conducts at most after a fault, every switch of the radial setting closed."""
    free = resolve_setting(network, "radial").switchable_branches(network)
    return (network.closed | free) & (np.arange(network.n_branch) != fault)


def test_the_graph(network):
    wanted = np.array([fed(network, state) for state in STATES])

    np.testing.assert_array_equal(energised_buses(network, STATES), wanted)
    for state, reached in zip(STATES, wanted, strict=True):
        np.testing.assert_array_equal(energised_buses(network, state), reached)
    assert wanted.any(axis=0).all() and not wanted[:, 1:8].all(axis=0).any()


def test_the_power_flow(network):
    flow = solve_power_flow(network, closed=STATES)

    np.testing.assert_array_equal(flow.energised, [fed(network, state) for state in STATES])


@pytest.mark.parametrize("lost", [(0,), (0, 9), (0, 5, 8), (7, 8, 9)])
def test_a_network_has_no_island(network, lost):
    """The branches lost become further ones between 6 and 7."""
    kept = ~np.isin(np.arange(10), lost)
    ends = {
        "from_bus": np.where(kept, network.from_bus, 6),
        "to_bus": np.where(kept, network.to_bus, 7),
    }
    dark = np.flatnonzero(~fed(network, kept))
    if not dark.size:
        network.with_changes(**ends)
        return
    names = ", ".join(network.bus_name[i] for i in dark[:5])
    with pytest.raises(NetworkError, match=rf"{dark.size} bus\(es\) form an island .*: {names}"):
        network.with_changes(**ends)


@pytest.mark.parametrize("state", range(20))
def test_statements_refuse_what_is_dark(network, state):
    now = network.with_changes(closed=STATES[state] & network.closed)
    dark = np.flatnonzero(~fed(network, now.closed))
    if not dark.size:
        assert len(feeding_tree(now)) == 7
        return
    with pytest.raises(NetworkError, match=f"no closed branch feeds bus '{dark[0]}'"):
        feeding_tree(now)
    with pytest.raises(NetworkError, match=rf"joins bus '{dark[0]}' to a substation \({len(dark)}"):
        build_ac_opf(now)


def test_load_transfer(network):
    rules = transfer_rules(network, resolve_setting(network, "radial"))
    wanted = np.array([fed(network, after(network, b)) for b in range(10)])

    np.testing.assert_array_equal(rules.reachable, wanted)
    dead = action_layout(network, resolve_setting(network, "radial")).dead
    ends = wanted[:, network.from_bus] | wanted[:, network.to_bus]
    np.testing.assert_array_equal(dead, ~ends)


@pytest.mark.parametrize("substations", [1, 2])
def test_branches_that_may_fail(network, substations):
    """With bus 0 alone as substation, the loss of line a leaves nobody to be fed."""
    held = {"substation": [0, 8][:substations], "v_substation": [1.0, 1.0][:substations]}
    now = network.with_changes(**held)
    others = ~np.eye(10, dtype=bool)
    wanted = [b for b in range(7) if (fed(now, others[b]) & (now.p_load > 0)).any()]

    assert faultable_branches(now).tolist() == wanted
    assert (0 in wanted) == (substations == 2)


def test_the_judge(network):
    """Nothing is shed by choice, so what is shed is the demand of dark buses."""
    fault = np.arange(len(STATES)) % 7
    closed = STATES.copy()
    closed[np.arange(len(closed)), fault] = False
    free = resolve_setting(network, "radial").switchable_branches(network)
    closed = np.where(free, closed, network.closed)
    closed[np.arange(len(closed)), fault] = False
    scenarios = make_scenarios(network, fault)
    found = judge(network, scenarios, Decisions(closed, np.zeros((len(closed), 9))), "radial")

    live = np.array([fed(network, state) for state in closed])
    reachable = np.array([fed(network, after(network, b)) for b in fault])
    dark = (network.p_load * ~live).sum(axis=1) / network.p_load.sum()
    np.testing.assert_allclose(found.shed_ratio, dark, atol=1e-12)
    np.testing.assert_array_equal(found.connected, ~(reachable & ~live).any(axis=1))
    assert 0 < found.connected.sum() < len(closed)


@pytest.mark.parametrize("fault", "abcdefg")
def test_pyomo_models(network, fault):
    """In the radial setting a zone is energised where its buses can be reached."""
    model = build_load_transfer(network, make_scenarios(network, fault), "radial")

    wanted = fed(network, after(network, network.branch_index(fault)))
    found = [pyo.value(model.energised[model.zone_of[i]]) for i in range(network.n_bus)]
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("lost", [1, 3])
def test_least_shedding_leaves_dark_buses_out(network, lost):
    """A rating forces shedding where buses are live; nothing is asked of dark ones."""
    tight = network.with_changes(rating=np.full(10, 0.18))
    closed = network.closed & (np.arange(10) != lost)
    answer = LeastSheddingSolver(tight, "radial").solve(make_scenarios(tight, lost), closed)

    live = fed(network, closed)
    assert answer.found and not answer.shed[~live].any()
    assert (answer.shed * network.p_load).sum() > 0.02
