"""Random small feeders against every state of their devices, by code and solver of its own.

    nothing that a method calls optimal or proven is unsafe, or beaten by more than TOLERANCE
    no bound lies above the best of all states

Feeders of 8 to 14 buses, one or two substations, generation up to twice the load, cables, loads
without active power, switches in all ties and some of the lines, a limit of a group in every third.
Half of them have cables beside others, and half lines under repair. All 500, and 40 with two faults
at once:

    pytest -m slow tests/laws/test_every_state.py
"""

from __future__ import annotations

import numpy as np
import pytest
from brute_force import Grid
from random_feeders import HIGH, LOW, TOLERANCE, random_feeder

from feederguard.baselines.enumeration import TieEnumeration
from feederguard.baselines.misocp import NOT_PROVEN, Misocp
from feederguard.baselines.plan_search import PlanSearch
from feederguard.baselines.proven_search import ProvenSearch
from feederguard.models.load_transfer import Setting, judge, make_scenarios


def disagreements(network, fault, setting: Setting, methods: dict) -> list[str]:
    """Return in words where methods break the two lines of the module.

    fault: the number of a branch, or a tuple of two that fail at once.
    """
    case = make_scenarios(network, [fault])
    grid = Grid(network, LOW, HIGH, setting.radial, setting.switchable_branches(network))
    best = grid.best(case)
    found = []
    for name, method in methods.items():
        decision = method.decide(case)
        report = method.reports[0]
        outcome = judge(network, case, decision, setting)
        fractions = np.concatenate([decision.shed[0], decision.curtail[0]])
        excess = grid.violation(case, decision.closed[0], fractions)
        cost = float(outcome.cost[0])
        # Where no state is safe, nothing is proven and there is no bound to be beaten.
        allowed = TOLERANCE * max(min(best.cost, cost), 1.0)
        says_so = report.reason in ("converged", "enumerated", "every state tried")
        proven = report.bound >= cost - allowed or says_so
        proven = proven and report.reason != NOT_PROVEN
        right = {
            "cost": abs(grid.cost(case, decision.closed[0], fractions) - cost) <= 1e-9 * (1 + cost),
            "safe": outcome.safe[0] == (excess <= 1e-5) or abs(excess - 1e-5) <= 1e-6,
            "bound": report.bound <= best.cost + allowed,
            "proven is safe": outcome.safe[0] or not proven,
            "proven is best": cost <= best.cost + allowed or not proven,
        }
        wrong = [what for what, holds in right.items() if not holds]
        if wrong:
            found.append(
                f"{network.name}, fault {fault}, {setting.name}, {name}: "
                f"{', '.join(wrong)}; {report}, cost {cost}, best {best.cost}, excess {excess}"
            )
    return found


def check_seed(seed: int, two_faults: bool = False) -> list[str]:
    """Return what is wrong on one random feeder: radial, and with its ties in a meshed setting."""
    network, fault, switchable = random_feeder(seed)
    if two_faults:
        others = [b for b in np.flatnonzero(network.closed).tolist() if b != fault]
        fault = (fault, others[seed % len(others)])
    radial = Setting("radial", True, LOW, HIGH, switchable=switchable)
    methods = {
        "misocp": Misocp(network, radial, time_limit_s=5.0),
        "plan_search": PlanSearch(network, radial),
        "proven_search": ProvenSearch(network, radial),
    }
    found = disagreements(network, fault, radial, methods)
    meshed = Setting("meshed", False, LOW, HIGH)
    methods = {
        "enumeration": TieEnumeration(network, meshed),
        "plan_search": PlanSearch(network, meshed),
        "proven_search": ProvenSearch(network, meshed),
    }
    return found + disagreements(network, fault, meshed, methods)


@pytest.mark.parametrize("seed", range(10))
def test_ten_random_feeders(seed: int) -> None:
    assert check_seed(seed) == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10, 500))
def test_all_random_feeders(seed: int) -> None:
    assert check_seed(seed) == []


@pytest.mark.parametrize("seed", [500, 501])
def test_two_faults_at_once(seed: int) -> None:
    assert check_seed(seed, two_faults=True) == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(502, 540))
def test_two_faults_at_once_on_more_feeders(seed: int) -> None:
    assert check_seed(seed, two_faults=True) == []
