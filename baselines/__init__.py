"""Methods that are not learned."""

from typing import TYPE_CHECKING

from feederguard.models.lazy_face import lazy_face

if TYPE_CHECKING:
    from feederguard.baselines.misocp import Misocp
    from feederguard.baselines.opf import solve_opf
    from feederguard.baselines.plan_search import PlanSearch

__all__ = ["Misocp", "PlanSearch", "solve_opf"]

__getattr__ = lazy_face(
    __name__,
    {
        "Misocp": "feederguard.baselines.misocp",
        "PlanSearch": "feederguard.baselines.plan_search",
        "solve_opf": "feederguard.baselines.opf",
    },
)
