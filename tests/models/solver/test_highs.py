"""No solver route depends on what ran before in the process, and none prints.

Each walk runs in a process of its own: this file as a program. It takes every ordered pair of
routes.
"""

import os
import subprocess
import sys
import threading

import highspy
import numpy as np
import pyomo.environ as pyo
import pytest
from scipy import sparse

from feederguard.baselines.voltage.optimum import VoltageOpf
from feederguard.models.soc_tube import compute_soc_tube
from feederguard.models.solver import solve
from feederguard.models.solver.least_violations import find_least_violations
from feederguard.models.solver.repeated_lp import RepeatedLp
from feederguard.models.voltage_regulation import simulate
from feeders import battery, demand_days, pair

ZERO = np.zeros(2)
BATTERY = battery(energy=2.0, efficiency_charge=1.0, efficiency_discharge=1.0)
# The first hour takes 0.125 pu more than the band allows.
DAY = demand_days([0.6, 0.2, 0.2, 0.2])


def small(degree: int, whole: bool = False, disc: bool = False) -> pyo.ConcreteModel:
    """min (x - 2)^degree over x in 0..1: -2 at 0, or 1 at 1.

    A whole z and a disc do not bind.
    """
    model = pyo.ConcreteModel("small")
    model.x = pyo.Var(bounds=(0, 1), initialize=0.5)
    model.z = pyo.Var(bounds=(0, 3), domain=pyo.Integers if whole else pyo.Reals, initialize=0)
    model.joined = pyo.Constraint(expr=model.x + model.z <= 1.5)
    if disc:
        model.disc = pyo.Constraint(expr=model.x**2 + model.z**2 <= 4)
    model.objective = pyo.Objective(expr=(model.x - 2) ** degree)
    return model


def repeated_lp() -> float:
    lp = RepeatedLp(np.array([1.0, 2.0]), np.ones((1, 2)), np.array([1.0]), np.array([np.inf]))
    none = np.zeros(0)
    return float(lp.solve(ZERO, ZERO + 1, sparse.csr_matrix((0, 2)), none, none)[0])


def violations() -> float:
    model = small(1)
    model.too_much = pyo.Constraint(expr=model.x >= 3)
    return sum(v.amount for v in find_least_violations(model).violations)


def discharged() -> float:
    outcome = simulate(
        pair(p_load=0.0), BATTERY, DAY, VoltageOpf(pair(p_load=0.0), BATTERY, "ac_opf")
    )
    return float(outcome.soc.max() - outcome.soc.min())


def tube() -> float:
    return float(compute_soc_tube(pair(p_load=0.0), BATTERY, DAY).low.max())


ROUTES = {
    "lp": lambda: solve(small(1), "highs").objective,
    "milp": lambda: solve(small(1, whole=True), "highs").objective,
    "qp": lambda: solve(small(2), "highs").objective,
    "lp on three threads": lambda: solve(small(1), "highs", options={"threads": 3}).objective,
    "scip": lambda: solve(small(1, whole=True, disc=True), "scip").objective,
    "outer approximation": lambda: (
        solve(small(1, whole=True, disc=True), "highs_outer_approximation").objective
    ),
    "ipopt": lambda: solve(small(1, disc=True), "ipopt").objective,
    "repeated lp": repeated_lp,
    "least violations": violations,
    "voltage opf": discharged,
    "soc tube": tube,
}


def foreign(threads: int) -> None:
    """HiGHS as somebody else's code may have used it."""
    highs = highspy.Highs()
    highs.setOptionValue("output_flag", False)
    highs.setOptionValue("threads", threads)
    assert highs.run() == highspy.HighsStatus.kOk


def walk(first: int) -> None:
    """Run every route right after every other one, in the main thread and once more in another."""
    if first:
        foreign(first)
    alone = {}
    for before in ROUTES:
        for name in ROUTES:
            for route in (before, name):
                value = ROUTES[route]()
                assert abs(alone.setdefault(route, value) - value) < 1e-6, (before, route, value)
    found: dict[str, float] = {}
    thread = threading.Thread(
        target=lambda: found.update({name: route() for name, route in ROUTES.items()})
    )
    thread.start()
    thread.join()
    assert found.keys() == alone.keys() and all(
        abs(found[name] - alone[name]) < 1e-6 for name in alone
    ), found


@pytest.mark.newest
@pytest.mark.parametrize("first", [0, 1, 2])
def test_every_route_answers_after_every_other_one_and_none_prints(first):
    """first: threads of a HiGHS solve before ours, 0 for none."""
    run = subprocess.run(
        [sys.executable, __file__, str(first)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},  # feeders.py is on ours
        capture_output=True,
        text=True,
        check=False,
    )

    said = [
        line
        for line in run.stdout.splitlines()
        if not first or "HiGHS" not in line and "Includes" not in line
    ]
    assert (run.returncode, said) == (0, []), run.stdout + run.stderr


@pytest.mark.parametrize(
    ("route", "value"),
    [
        ("lp", -2.0),
        ("milp", -2.0),
        ("qp", 1.0),
        ("lp on three threads", -2.0),
        ("scip", -2.0),
        ("ipopt", -2.0),
        ("outer approximation", -2.0),
        ("repeated lp", 1.0),
        ("least violations", 2.0),
        ("voltage opf", 0.0625),
    ],
)
def test_the_routes_reach_values_known_by_hand(route, value):
    assert ROUTES[route]() == pytest.approx(value, abs=1e-5)


if __name__ == "__main__":
    walk(int(sys.argv[1]))
