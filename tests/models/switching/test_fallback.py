"""What no plan makes safe: a deeper search where asked for, then all behind the fault dark."""

import numpy as np

from feederguard.models.load_transfer import judge, make_scenarios
from feederguard.models.network import Network
from feederguard.models.switching.fallback import DARK_TOO, IMPOSSIBLE, settle
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


def test_of_shedding_and_curtailing_nothing_and_everything_the_least_broken_is_taken() -> None:
    # 1 Mvar at bus 1 that nobody can shed: what generates there helps, and so does shedding.
    network = row_with_tie(
        p_load=[0, 0.0, 0.1, 0.1, 0.1],
        q_load=[0, 1.0, 0, 0, 0],
        p_gen=[0, 0.2, 0, 0, 0],
        r=0.1,
        x=0.2,
    )
    plans, scenarios = SwitchPlans(network, "radial"), make_scenarios(network, "d")
    found = search_plans(plans, scenarios, max_rounds=0)
    # As if opening a were not worth a try.
    found.cost[:] = np.inf
    settled = settle(plans, scenarios, found)
    assert settled.reason.tolist() == [f"{IMPOSSIBLE}, {DARK_TOO}"]
    assert (settled.decisions.shed == 1).all() and not settled.decisions.curtail.any()
