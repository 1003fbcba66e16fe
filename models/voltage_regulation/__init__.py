"""Voltage regulation by batteries: days, methods, rules, and the judge."""

from feederguard.models.voltage_regulation.days import VoltageDays, VoltageState
from feederguard.models.voltage_regulation.judge import VoltageOutcomes
from feederguard.models.voltage_regulation.method import PlannedMethod, VoltageMethod
from feederguard.models.voltage_regulation.simulate import carry_year, simulate

__all__ = [
    "PlannedMethod",
    "VoltageDays",
    "VoltageMethod",
    "VoltageOutcomes",
    "VoltageState",
    "carry_year",
    "simulate",
]
