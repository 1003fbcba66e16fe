"""Both layers have what the protocol asks for."""

import pytest

from feederguard.agents.layer import Layer
from feederguard.agents.safe_ddpg import LinearSafety, LinearSafetyLayer
from feederguard.agents.safety_layer import SafetyLayer
from feederguard.studies.benchmarks.safety_layer import benchmark_feeder


@pytest.mark.parametrize("kind", ["projection", "learned"])
def test_a_layer_has_all_members(kind: str) -> None:
    network, batteries = benchmark_feeder()
    layer: Layer = (
        SafetyLayer(network, batteries)
        if kind == "projection"
        else LinearSafetyLayer(LinearSafety(network, batteries), 96, 0.25)
    )
    members = {name for name in vars(Layer) if not name.startswith("_")} | set(
        Layer.__annotations__
    )
    assert members >= {"statuses", "fallbacks", "network", "correct", "project_ac"}
    assert all(hasattr(layer, name) for name in members)
    assert layer.network is network and layer.batteries is batteries
    assert layer.step_h == 0.25 and layer.tube is None and layer.fallbacks == 0
