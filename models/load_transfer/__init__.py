"""Load transfer after a fault: scenarios, settings, rules, the judge and the least shedding."""

from feederguard.models.load_transfer.judge import (
    Outcomes,
    check_decisions,
    judge,
    judge_with_flow,
    limit_violations,
)
from feederguard.models.load_transfer.method import Method, Report
from feederguard.models.load_transfer.rules import LimitPlaces, limit_places
from feederguard.models.load_transfer.scenario import Decisions, Scenarios, make_scenarios
from feederguard.models.load_transfer.setting import (
    Setting,
    device_note,
    resolve_setting,
    restrict,
)

__all__ = [
    "Decisions",
    "LimitPlaces",
    "Method",
    "Outcomes",
    "Report",
    "Scenarios",
    "Setting",
    "check_decisions",
    "device_note",
    "judge",
    "judge_with_flow",
    "limit_places",
    "limit_violations",
    "make_scenarios",
    "resolve_setting",
    "restrict",
]
