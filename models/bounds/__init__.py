"""Lower bounds of the cost of a load transfer."""

from feederguard.models.bounds.cost_bound import NO_BOUND, CostBound, LowerBound

__all__ = ["NO_BOUND", "CostBound", "LowerBound"]
