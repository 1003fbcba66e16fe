"""Every method of load transfer has a name and decides batches."""

from feederguard.baselines.no_transfer import NoTransfer
from feederguard.baselines.plan_search import PlanSearch
from feederguard.models.load_transfer import Method, make_scenarios
from feeders import ring


def test_methods_answer_each_scenario_in_order() -> None:
    network = ring(0.06, 0.06)
    methods: list[Method] = [NoTransfer(network), PlanSearch(network, "radial")]
    scenarios = make_scenarios(network, ["b", "a"])
    for method in methods:
        decisions = method.decide(scenarios)
        assert len(decisions) == 2
        assert not decisions.closed[[0, 1], scenarios.fault].any()
    assert [method.name for method in methods] == ["no_transfer", "plan_search"]
