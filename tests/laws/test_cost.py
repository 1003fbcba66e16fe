"""The cost (1) of load transfer: every use of it against `pyomo.value` on random points.

Uses: the mixed-integer model, the compiled rules, the judge and its rewards, the fitness of the
genetic algorithm, the environment, the race of switch states, and the bound of the proven search.
"""

from typing import Any

import numpy as np
import pyomo.environ as pyo
import pytest

from feederguard.agents.environments.load_transfer import LoadTransferVectorEnv
from feederguard.baselines.genetic import Genetic, TransferProblem
from feederguard.baselines.proven_search import ProvenSearch
from feederguard.models.load_transfer import (
    Decisions,
    Scenarios,
    judge,
    make_scenarios,
    resolve_setting,
)
from feederguard.models.load_transfer.judge import EPSILON, PENALTY_LIMIT
from feederguard.models.load_transfer.least_shedding import Candidates, race_topologies
from feederguard.models.load_transfer.rules import add_cost, transfer_rules
from feederguard.models.network import Network
from feederguard.models.network.graph import energised_buses
from feederguard.models.reconfiguration import LOSS_WEIGHT, build_load_transfer
from feeders import feeder

POINTS = 20
SETTINGS = ("paper", "radial")


@pytest.fixture(scope="module")
def network() -> Network:
    """A ring with two ties and a dead end; bus 5 demands reactive power alone, 3 and 5 generate."""
    return feeder(
        "0-1 1-2 2-3 0-4 4-5 1-6 3~5 2~4",
        p_load=[0, 0.04, 0.05, 0.03, 0.06, 0.0, 0.02],
        q_load=[0, 0.02, 0.02, 0.01, 0.03, 0.02, 0.01],
        p_gen=[0, 0, 0, 0.03, 0, 0.02, 0],
        priority=[1, 2, 1, 1, 0.5, 1, 3],
        r=0.05,
        x=0.04,
        rating=5.0,
        paper_limit_mw=5.0,
    )


def points(network: Network, setting: str) -> tuple[Scenarios, Decisions]:
    """Return random demands, faults, switch states that the setting allows, and shed fractions."""
    rng = np.random.default_rng(1)
    fault = rng.integers(0, 4, POINTS)
    level = rng.uniform(0.5, 1.5, (POINTS, network.n_bus))
    scenarios = make_scenarios(network, fault, level * network.p_load, level * network.q_load)
    free = resolve_setting(network, setting).switchable_branches(network)
    closed = network.closed ^ (free & (rng.random((POINTS, network.n_branch)) < 0.3))
    closed[np.arange(POINTS), fault] = False
    shed, curtail = rng.uniform(0, 1, (2, POINTS, network.n_bus))
    return scenarios, Decisions(closed, shed, curtail)


def by_pyomo(
    network: Network, fault: int, y: np.ndarray, shed: np.ndarray, curtailed: Any = 0.0
) -> float:
    """Return the cost of a point by the Pyomo model alone; shed in pu, dark buses included."""
    model = pyo.ConcreteModel()
    model.bus, model.branch = range(network.n_bus), range(network.n_branch)
    model.shed = pyo.Var(model.bus, initialize=dict(enumerate(shed.tolist())))
    off = np.broadcast_to(curtailed, shed.shape).tolist()
    model.curtailed = pyo.Var(model.bus, initialize=dict(enumerate(off)))
    model.y = pyo.Var(model.branch, initialize=dict(enumerate(y.astype(float).tolist())))
    add_cost(model, network, np.arange(network.n_branch) == fault)
    set_sums(model)
    return float(pyo.value(model.cost))


def set_sums(model: pyo.ConcreteModel) -> None:
    """Give S and N the values that their equations (2) ask for."""
    for variable, equation in (
        (model.total_shed, model.define_total_shed),
        (model.n_operations, model.define_n_operations),
    ):
        variable.set_value(0.0)
        variable.set_value(pyo.value(equation.upper) - pyo.value(equation.body))


def expected(network: Network, scenarios: Scenarios, decisions: Decisions) -> np.ndarray:
    """Return the cost of decisions by Pyomo, (B,); what is dark is shed (3)."""
    live = energised_buses(network, decisions.closed)
    shed = np.where(live, decisions.shed, 1.0) * scenarios.p_load
    curtailed = np.where(live, decisions.curtail, 1.0) * scenarios.p_gen
    return np.array(
        [
            by_pyomo(network, int(scenarios.fault[k]), decisions.closed[k], shed[k], curtailed[k])
            for k in range(len(scenarios))
        ]
    )


def test_the_formula(network: Network) -> None:
    # 0.05 pu of 1 MVA is half of S_base; branch 1-2 is isolated, the two ties are closed.
    shed = np.zeros(network.n_bus)
    shed[2] = 0.05
    y = np.array([1, 0, 1, 1, 1, 1, 1, 1])
    assert by_pyomo(network, 1, y, shed) == pytest.approx(22 * 0.5**2 + 3 * 2**2)
    # Bus 1 counts twice, curtailed generation a twentieth: (2 * 0.05 + 0.05 * 0.4) / 0.1 = 1.2.
    shed, curtailed = np.zeros((2, network.n_bus))
    shed[1], curtailed[3] = 0.05, 0.4
    assert by_pyomo(network, 1, y, shed, curtailed) == pytest.approx(22 * 1.2**2 + 3 * 2**2)


@pytest.mark.parametrize("setting", SETTINGS)
def test_the_compiled_rules(network: Network, setting: str) -> None:
    scenarios, decisions = points(network, setting)
    cost = transfer_rules(network, resolve_setting(network, setting)).cost
    failed = np.eye(network.n_branch)[scenarios.fault]
    shed = decisions.shed * scenarios.p_load
    found = cost.objective(
        cost.point(
            shed=shed,
            curtailed=decisions.curtail * scenarios.p_gen,
            y=decisions.closed.astype(float),
            failed=failed,
        )
    )
    wanted = [
        by_pyomo(network, *point)
        for point in zip(
            scenarios.fault.tolist(),
            decisions.closed,
            shed,
            decisions.curtail * scenarios.p_gen,
            strict=True,
        )
    ]
    np.testing.assert_allclose(found, wanted, rtol=1e-12)


@pytest.mark.parametrize("setting", SETTINGS)
def test_the_mixed_integer_model(network: Network, setting: str) -> None:
    scenarios, decisions = points(network, setting)
    live = energised_buses(network, decisions.closed)
    shed = np.where(live, decisions.shed, 1.0) * scenarios.p_load
    curtailed = np.where(live, decisions.curtail, 1.0) * scenarios.p_gen
    for k, wanted in enumerate(expected(network, scenarios, decisions)):
        model = build_load_transfer(network, scenarios[k : k + 1], setting)
        for b in model.branch:
            model.y[b].set_value(float(decisions.closed[k, b]), skip_validation=True)
        for i in model.bus:
            model.shed[i].set_value(float(shed[k, i]))
        for i in model.curtailed:
            model.curtailed[i].set_value(float(curtailed[k, i]), skip_validation=True)
        for b in model.branch:
            model.ell[b].set_value(0.01)
        set_sums(model)
        assert pyo.value(model.cost) == pytest.approx(wanted, rel=1e-12)
        # The least t that the cone allows, and n at its true value N^2.
        cone = model.shed_cone
        model.shed_squared.set_value(0.0)
        least = pyo.value(cone.body) - pyo.value(cone.upper)
        model.shed_squared.set_value(least, skip_validation=True)
        model.operations_squared.set_value(pyo.value(model.n_operations) ** 2)
        loss = LOSS_WEIGHT * network.base_mva * 0.01 * float(network.r.sum())
        assert pyo.value(model.objective) == pytest.approx(wanted + loss, rel=1e-12)


@pytest.mark.parametrize("setting", SETTINGS)
def test_the_judge_and_its_rewards(network: Network, setting: str) -> None:
    scenarios, decisions = points(network, setting)
    outcome = judge(network, scenarios, decisions, setting)
    wanted = expected(network, scenarios, decisions)
    np.testing.assert_allclose(outcome.cost, wanted, rtol=1e-12)
    assert outcome.converged.all()
    penalty = np.where(outcome.safe, 0.0, PENALTY_LIMIT)
    np.testing.assert_allclose(outcome.reward, 1 / (wanted + EPSILON) + penalty, rtol=1e-12)
    # (21): the correction shed more than was proposed, with the same switches.
    less = Decisions(decisions.closed, 0.5 * decisions.shed, decisions.curtail)
    corrected = judge(network, scenarios, decisions, setting, proposed=less)
    extra = wanted - expected(network, scenarios, less)
    np.testing.assert_allclose(
        corrected.reward, 1 / (wanted + extra + EPSILON) + penalty, rtol=1e-12
    )


@pytest.mark.parametrize("setting", SETTINGS)
def test_the_fitness_of_the_genetic_algorithm(network: Network, setting: str) -> None:
    scenarios, _ = points(network, setting)
    method = Genetic(network, setting)
    for k in range(4):
        problem = TransferProblem(method, scenarios[k : k + 1])
        genes = np.random.default_rng(k).uniform(0, 1, (5, problem.n_var))
        out: dict[str, np.ndarray] = {}
        problem._evaluate(genes, out)
        same = scenarios[np.full(5, k)]
        wanted = expected(network, same, problem.decode(genes))
        np.testing.assert_allclose(out["F"][:, 0], wanted, rtol=1e-12)


@pytest.mark.parametrize("setting", SETTINGS)
def test_the_reward_of_the_environment(network: Network, setting: str) -> None:
    scenarios, _ = points(network, setting)
    env = LoadTransferVectorEnv(network, scenarios, setting, num_envs=POINTS)
    env.reset(seed=0, options={"episode": np.arange(POINTS)})
    received: list[Decisions] = []

    def keep(_: Scenarios, decisions: Decisions) -> Decisions:
        received.append(decisions)
        return decisions

    env.episodes.correct = keep
    env.action_space.seed(0)
    _, rewards, _, _, info = env.step(env.action_space.sample())
    wanted = expected(network, scenarios, received[0])
    np.testing.assert_allclose(info["cost"], wanted, rtol=1e-12)
    penalty = np.where(info["safe"], 0.0, PENALTY_LIMIT)
    np.testing.assert_allclose(rewards, 1 / (wanted + EPSILON) + penalty, rtol=1e-12)


@pytest.mark.parametrize("setting", SETTINGS)
def test_the_race_of_switch_states(network: Network, setting: str) -> None:
    scenarios, decisions = points(network, setting)
    candidates = Candidates.one_each(decisions.closed)
    found = race_topologies(network, scenarios, candidates, setting, decisions.shed)
    done = found.finished
    assert done.sum() > 5
    wanted = expected(network, scenarios, Decisions(decisions.closed, found.shed, found.curtail))
    np.testing.assert_allclose(found.cost[done], wanted[done], rtol=1e-9)


def test_the_bound_of_the_proven_search(network: Network) -> None:
    search = ProvenSearch(network, "radial")
    scenarios, _ = points(network, "radial")
    for k in range(4):
        scenario = scenarios[k : k + 1]
        fault = int(scenario.fault[0])
        closed = network.closed.copy()
        closed[fault] = False
        closed[[6, 7]] = True
        # Two operations feed all that can be fed; here that is everything.
        shed = np.zeros(network.n_bus)
        assert search._floor(scenario, 2) == pytest.approx(
            by_pyomo(network, fault, closed, shed), rel=1e-12
        )
