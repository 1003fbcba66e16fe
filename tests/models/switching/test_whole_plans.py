"""Plans settled by whole loads after a search by fractions."""

import numpy as np

from feederguard.models.load_transfer import Setting, judge, make_scenarios
from feederguard.models.switching.plans import SwitchPlans
from feederguard.models.switching.search import search_plans
from feederguard.models.switching.whole_plans import plans_by_parts
from feeders import feeder

WHOLE = Setting("whole", True, 0.9, 1.05, whole_loads=True)


def test_the_plan_that_is_best_by_fractions_need_not_be_with_whole_loads():
    """Bus 1 (0.4 MW) is fed by u, which bears 0.399 beside bus 2, or by v, which bears 0.35.

    By u a little of something is shed: bus 2 with its 0.05 MW. By v a whole 0.4 MW go.
    """
    network = feeder(
        "s:0-1 a:0-2 b:0-3 u:2~1 v:3~1",
        p_load=[0, 0.4, 0.05, 0.05],
        rating=[1.0, 0.44, 0.38, 1.0, 1.0],
        r=1e-4,
    )
    plans, scenario = SwitchPlans(network, WHOLE), make_scenarios(network, ["s"])
    found = search_plans(plans, scenario)
    assert found.closed[0].tolist() == [False, True, True, True, False]
    assert found.shed[0].tolist() == [0, 0, 1, 0]
    outcome = judge(network, scenario, found.decisions, WHOLE)
    assert outcome.safe[0] and outcome.cost[0] == found.cost[0]
    parts = search_plans(plans_by_parts(plans), scenario)
    assert 0 < parts.shed[0].max() < 1 and parts.cost[0] < found.cost[0]
    assert plans_by_parts(plans) is plans_by_parts(plans)


def test_where_nothing_is_shed_the_plan_stays():
    network = feeder("a:0-1 b:1-2 c:2-3 d:0-4 e:4~3", p_load=[0, 0.1, 0.1, 0.1, 0.1])
    plans, scenarios = SwitchPlans(network, WHOLE), make_scenarios(network, ["a", "b"])
    found, parts = (search_plans(p, scenarios) for p in (plans, plans_by_parts(plans)))
    np.testing.assert_array_equal(found.closed, parts.closed)
    np.testing.assert_array_equal(found.n_flows, parts.n_flows)
