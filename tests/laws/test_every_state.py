"""Random small feeders against every state of their devices, by code and solver of its own.

    nothing that a method calls optimal or proven is unsafe, or beaten by more than TOLERANCE
    no bound lies above the best of all states

Feeders of 8 to 14 buses, one or two substations, generation up to twice the load, cables, loads
without active power, switches in all ties and some of the lines, a limit of a group in every third.
All 500:

    pytest -m slow tests/laws/test_every_state.py
"""

from __future__ import annotations

import numpy as np
import pytest
from brute_force import Grid

from feederguard.baselines.enumeration import TieEnumeration
from feederguard.baselines.misocp import NOT_PROVEN, Misocp
from feederguard.baselines.plan_search import PlanSearch
from feederguard.baselines.proven_search import ProvenSearch
from feederguard.models.load_transfer import Setting, judge, make_scenarios
from feederguard.models.network import GroupLimit
from feeders import feeder

TOLERANCE = 1e-4  # of the cost, relative, and absolute below a cost of 1
LOW, HIGH = 0.95, 1.05
MOST_SWITCHES = 9


def random_feeder(seed: int):
    """Return a feeder with its ties, the branch that fails, and the branches with a switch."""
    rng = np.random.default_rng(seed)
    n_bus, n_substation = int(rng.integers(8, 15)), int(rng.integers(1, 3))
    drawn, pairs = [], set()
    for bus in range(n_substation, n_bus):
        # Every substation feeds something.
        first = bus - n_substation
        near = first if first < n_substation else int(rng.integers(max(0, bus - 4), bus))
        drawn.append(f"{near}-{bus}")
        pairs.add((near, bus))
    for _ in range(int(rng.integers(1, 5))):
        i, j = sorted(rng.choice(n_bus, 2, replace=False).tolist())
        if (i, j) not in pairs:
            pairs.add((i, j))
            drawn.append(f"{i}~{j}")
    n = len(drawn)
    load = rng.uniform(0.01, 0.12, n_bus) * (rng.random(n_bus) < 0.85)
    reactive = np.where(load > 0, 0.3 * load, 0.02 * (rng.random(n_bus) < 0.3))
    made = rng.uniform(0, 1, n_bus) * (rng.random(n_bus) < 0.4) * (rng.random() < 0.7)
    if made.sum() > 0:
        made *= rng.uniform(0.2, 2.0) * load.sum() / made.sum()
    for array in (load, reactive, made):
        array[:n_substation] = 0.0
    charging = rng.uniform(0, 0.02, n) * (rng.random() < 0.5)
    network = feeder(
        " ".join(drawn),
        substation=list(range(n_substation)),
        v_substation=[1.0 + 0.03 * rng.random()] * n_substation,
        p_load=load,
        q_load=reactive,
        p_gen=made,
        r=rng.uniform(0.01, 0.12, n),
        x=rng.uniform(0.01, 0.08, n),
        b_from=charging,
        b_to=charging,
        rating=np.where(rng.random(n) < 0.5, rng.uniform(0.15, 0.6, n), np.inf),
        v_min=LOW,
        v_max=HIGH,
        name=f"random {seed}",
    )
    lines = np.flatnonzero(network.closed)
    if seed % 3 == 0:
        # What leaves the substations together is limited to a part of the load.
        heads = [b for b in lines if network.from_bus[b] < n_substation]
        names = tuple(network.branch_name[b] for b in heads)
        share = (0.5 + 0.1 * (seed % 7)) * network.p_load.sum()
        network = network.with_changes(groups=[GroupLimit("heads", names, share)])
    n_switch = MOST_SWITCHES - int(network.is_tie.sum())
    with_switch = rng.permutation(lines[network.on_loop[lines]])[:n_switch]
    names = [network.branch_name[b] for b in (*np.flatnonzero(network.is_tie), *with_switch)]
    return network, int(rng.choice(lines)), tuple(names)


def check(network, fault: int, setting: Setting, methods: dict) -> None:
    """Assert the two lines of the module for one fault."""
    case = make_scenarios(network, [fault])
    grid = Grid(network, LOW, HIGH, setting.radial, setting.switchable_branches(network))
    best = grid.best(case)
    allowed = TOLERANCE * max(best.cost, 1.0)
    for name, method in methods.items():
        where = f"{network.name}, fault {network.branch_name[fault]}, {name}"
        decision = method.decide(case)
        report = method.reports[0]
        outcome = judge(network, case, decision, setting)
        fractions = np.concatenate([decision.shed[0], decision.curtail[0]])
        excess = grid.violation(case, decision.closed[0], fractions)
        assert grid.cost(case, decision.closed[0], fractions) == pytest.approx(
            outcome.cost[0], rel=1e-9, abs=1e-9
        ), where
        assert outcome.safe[0] == (excess <= 1e-5) or excess == pytest.approx(1e-5, rel=0.1), where
        assert report.bound <= best.cost + allowed, (where, report, best.cost)
        says_so = report.reason in ("converged", "enumerated", "every state tried")
        proven = report.bound >= outcome.cost[0] - allowed or says_so
        if proven and report.reason != NOT_PROVEN:
            assert outcome.safe[0], (where, report, excess)
            assert outcome.cost[0] <= best.cost + allowed, (where, report, outcome.cost, best.cost)


def check_seed(seed: int) -> None:
    """Check one random feeder: in the radial setting, and with its ties in a meshed one."""
    network, fault, switchable = random_feeder(seed)
    radial = Setting("radial", True, LOW, HIGH, switchable=switchable)
    methods = {
        "misocp": Misocp(network, radial, time_limit_s=5.0),
        "plan_search": PlanSearch(network, radial),
        "proven_search": ProvenSearch(network, radial),
    }
    check(network, fault, radial, methods)
    meshed = Setting("meshed", False, LOW, HIGH)
    methods = {
        "enumeration": TieEnumeration(network, meshed),
        "plan_search": PlanSearch(network, meshed),
        "proven_search": ProvenSearch(network, meshed),
    }
    check(network, fault, meshed, methods)


@pytest.mark.parametrize("seed", range(10))
def test_ten_random_feeders(seed: int) -> None:
    check_seed(seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10, 500))
def test_all_random_feeders(seed: int) -> None:
    check_seed(seed)
