"""AC power flow of a feeder, batched: the truth that every decision is judged by."""

from feederguard.models.power_flow.flow import PowerFlow
from feederguard.models.power_flow.solve import solve_power_flow

__all__ = ["PowerFlow", "solve_power_flow"]
