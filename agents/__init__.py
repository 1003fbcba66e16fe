"""Learning: environments, agents and safety layers."""

from typing import TYPE_CHECKING

from feederguard.models.lazy_face import lazy_face

if TYPE_CHECKING:
    from feederguard.agents.ranked_switching import RankedSwitching
    from feederguard.agents.safety_layer import SafetyLayer
    from feederguard.agents.voltage_agent import VoltageAgent

__all__ = ["RankedSwitching", "SafetyLayer", "VoltageAgent"]

__getattr__ = lazy_face(
    __name__,
    {
        "RankedSwitching": "feederguard.agents.ranked_switching",
        "SafetyLayer": "feederguard.agents.safety_layer",
        "VoltageAgent": "feederguard.agents.voltage_agent",
    },
)
