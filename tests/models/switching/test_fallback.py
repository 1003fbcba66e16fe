"""What no plan makes safe: a deeper search where asked for, then without what nothing holds."""

from dataclasses import replace

import numpy as np
import pytest

from feederguard.models.load_transfer import Setting, judge, make_scenarios
from feederguard.models.network import Network
from feederguard.models.switching.fallback import AS_IT_IS, HOPELESS, IMPOSSIBLE, Settled, settle
from feederguard.models.switching.plans import SwitchPlans
from feederguard.models.switching.search import search_plans
from feeders import feeder


def row_with_tie(**given: object) -> Network:
    """A row fed from one end, and a tie to its other end."""
    return feeder("a:0-1 b:1-2 c:2-3 d:0-4 e:4~3", **{"p_load": [0, 0.1, 0.1, 0.1, 0.1], **given})


def test_found_plans_stay() -> None:
    network = row_with_tie()
    plans, scenarios = SwitchPlans(network, "radial"), make_scenarios(network, ["a", "b"])
    found = search_plans(plans, scenarios)
    closed = found.closed.copy()
    settled = settle(plans, scenarios, found, beam=2, max_rounds=1)
    assert not settled.impossible.any() and (settled.reason == "").all()
    np.testing.assert_array_equal(settled.decisions.closed, closed)


def test_the_deeper_search_comes_first() -> None:
    network = row_with_tie()
    plans, scenarios = SwitchPlans(network, "radial"), make_scenarios(network, ["a", "b"])
    found = search_plans(plans, scenarios)
    cost = found.cost.copy()
    found.cost[1] = np.inf
    settled = settle(plans, scenarios, found, beam=2, max_rounds=1)
    assert not settled.impossible.any()
    np.testing.assert_allclose(settled.found.cost, cost)


def test_what_cannot_be_fed_safely_stays_dark() -> None:
    # Bus 3 demands reactive power alone: fed through the tie, it cannot be relieved.
    network = row_with_tie(
        p_load=[0, 0.1, 0.1, 0.0, 0.1], q_load=[0, 0, 0, 3.0, 0], x=[0.01, 0.01, 0.01, 0.2, 0.2]
    )
    plans, scenarios = SwitchPlans(network, "radial"), make_scenarios(network, ["b", "c"])
    found = search_plans(plans, scenarios, max_rounds=0)
    settled = settle(plans, scenarios, found)
    # That is a state of the search like any other.
    assert not settled.impossible.any()
    dark = np.stack([plans.dark(fault) for fault in scenarios.fault.tolist()])
    np.testing.assert_array_equal(settled.decisions.closed, dark)
    assert judge(network, scenarios, settled.decisions, "radial").safe.all()


def hopeless(extra: str = "", load: tuple[float, ...] = (), **given: object) -> Network:
    """1 Mvar at bus 1 that nobody can shed: twice what line a bears."""
    drawn = "a:0-1 b:1-2 c:2-3 d:0-4 e:4~3" + extra
    n = 5 + len(load)
    values: dict[str, object] = {
        "p_load": [0, 0.0, 0.05, 0.05, 0.05, *load],
        "q_load": [0, 1.0, *[0] * (n - 2)],
        "r": 0.005,
        "rating": [0.5, *[np.inf] * (n - 1)],
    }
    return feeder(drawn, **(values | given))


def settled_of(network: Network, fault: str, setting: str | Setting = "radial") -> Settled:
    plans, scenarios = SwitchPlans(network, setting), make_scenarios(network, fault)
    return settle(plans, scenarios, search_plans(plans, scenarios))


# Nobody can open line a, so that no state spares bus 1.
FIXED = Setting("fixed", True, 0.9, 1.05, switchable=("e",))


def test_nobody_is_shed_for_a_limit_that_nothing_holds() -> None:
    network = hopeless()
    settled = settled_of(network, "d", FIXED)
    assert settled.impossible.all()
    assert settled.reason[0] == f"{IMPOSSIBLE}: {HOPELESS} current of branch 'a'"
    # The tie feeds bus 4 all the same.
    assert settled.decisions.closed[0].tolist() == [True, True, True, False, True]
    assert not settled.decisions.shed.any()
    assert not judge(network, make_scenarios(network, "d"), settled.decisions, FIXED).safe[0]


def test_what_can_be_relieved_is_and_no_more() -> None:
    """Line f bears half of the load of bus 5; bus 1 stays as it is."""
    network = hopeless(" f:0-5", (0.1,), rating=[0.5, *[np.inf] * 4, 0.05])
    settled = settled_of(network, "d", FIXED)
    assert settled.reason[0] == f"{IMPOSSIBLE}: {HOPELESS} current of branch 'a'"
    shed = settled.decisions.shed[0]
    assert shed[5] == pytest.approx(0.5, abs=1e-3) and not np.delete(shed, 5).any()
    whole = replace(FIXED, whole_loads=True)
    assert settled_of(network, "d", whole).decisions.shed[0].tolist() == [0, 0, 0, 0, 0, 1]


def test_charging_that_overloads_a_line_costs_nobody_supply() -> None:
    """Cable b charges line a to 0.2 of its 0.19 pu with nothing drawn: its limit is 0.28 pu."""
    network = row_with_tie(
        p_load=[0, 0.045, 0.045, 0.045, 0.045],
        b_from=[0, 0.1, 0, 0, 0],
        b_to=[0, 0.1, 0, 0, 0],
        rating=[0.19, 9, 9, 9, 9],
    )
    words = "charging alone overloads 1 branch.*, branch 'a' to 106 % with nothing drawn"
    with pytest.warns(UserWarning, match=words):
        settled = settled_of(network, "d")
    assert not settled.impossible.any() and not settled.decisions.shed.any()
    assert settled.decisions.closed[0].tolist() == [True, True, True, False, True]
    # More load than that is shed: it helps.
    heavy = network.with_changes(p_load=np.array([0, 0.1, 0.1, 0.1, 0.1]))
    with pytest.warns(UserWarning, match=words):
        settled = settled_of(heavy, "d")
    assert not settled.impossible.any()
    case = make_scenarios(heavy, "d")
    assert judge(heavy, case, settled.decisions, "radial").safe[0]


def test_a_source_below_the_limits_costs_nobody_supply() -> None:
    network = row_with_tie(v_min=0.95, v_substation=[0.93])
    with pytest.warns(UserWarning, match="4 bus.* outside their limits with nothing drawn"):
        settled = settled_of(network, "d", Setting("own", True, 0.9, 1.05))
    assert not settled.impossible.any() and not settled.decisions.shed.any()
    assert settled.decisions.closed[0].tolist() == [True, True, True, False, True]


def test_where_nothing_is_found_the_state_stays_as_the_fault_leaves_it() -> None:
    """Bus 3 sags unless its load is shed, and then bus 2, with 0.45 Mvar fed in, is too high."""
    network = feeder(
        "a:0-1 b:1-2 c:1-3 d:0-4",
        p_load=[0, 0, 0, 0.1, 0.1],
        q_load=[0, 0, -0.45, 0.5, 0],
        x=[0.2, 0.05, 0.2, 0.01],
        v_min=0.95,
        v_max=[1.1, 1.03, 1.03, 1.3, 1.1],
    )
    settled = settled_of(network, "d", Setting("own", True, 0.9, 1.3, whole_loads=True))
    assert settled.impossible.all() and settled.reason[0] == f"{IMPOSSIBLE}; {AS_IT_IS}"
    assert settled.decisions.closed[0].tolist() == [True, True, True, False]
    assert not settled.decisions.shed.any()
