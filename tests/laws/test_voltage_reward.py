"""The reward of voltage regulation: every use of it against the Pyomo model, on random points.

voltage_regulation/rules.py states it. Solver, compiled model, judge, environment and the part that
agents know must all say the same.
"""

import numpy as np
import pyomo.environ as pyo
import pytest
import torch

from feederguard.agents.environments.voltage import VoltageVectorEnv
from feederguard.agents.environments.voltage_observation import observe
from feederguard.agents.learning.td3 import TD3Config
from feederguard.agents.voltage_agent import VoltageAgent, VoltageAgentConfig, append_excess
from feederguard.models.compiled import compile_model
from feederguard.models.opf_objectives import regulation_power
from feederguard.models.solver import solve
from feederguard.models.voltage_regulation import VoltageState, simulate
from feederguard.models.voltage_regulation.rules import build_step_rules, regulation_reward

POINTS = 40


def by_pyomo(network, p_kw, v):
    """Return -(1) of one point with the least distances outside the band that (2), (3) admit."""
    return -pyo.value(at_point(network, p_kw, v).objective)


def at_point(network, p_kw, v):
    model = build_step_rules(network, len(p_kw))
    for k, power in enumerate(p_kw):
        model.p_charge[0, k].set_value(max(float(power), 0.0))
        model.p_discharge[0, k].set_value(max(float(-power), 0.0))
    for i in model.judged:
        model.v[i].set_value(float(v[i]))
        model.outside[i].set_value(0.0)
        slack = min(model.low_limit[i].slack(), model.high_limit[i].slack())
        model.outside[i].set_value(max(0.0, -slack))
    return model


def points(network, seed=0):
    rng = np.random.default_rng(seed)
    return rng.uniform(-300, 300, (POINTS, 2)), rng.uniform(0.9, 1.1, (POINTS, network.n_bus))


def expected(network, p_kw, v):
    return np.array([by_pyomo(network, *point) for point in zip(p_kw, v, strict=True)])


def test_one_point_by_hand(network):
    """Bus 1 is outside by 0.02 and bus 2 by 0.01; the held substation does not count."""
    v = np.array([1.2, 0.93, 1.05, 1.0, 1.0])
    assert by_pyomo(network, [-30.0, 40.0], v) == pytest.approx(-0.07 - 30.0)


def test_the_formula(network):
    p_kw, v = points(network)
    np.testing.assert_allclose(
        regulation_reward(network, p_kw, v), expected(network, p_kw, v), rtol=1e-12, atol=1e-12
    )


def test_without_an_ac_solution_every_bus_counts_as_at_zero_voltage(network):
    p_kw, v = np.array([10.0, 0.0]), np.full(network.n_bus, np.nan)
    assert regulation_reward(network, p_kw, v) == pytest.approx(
        by_pyomo(network, p_kw, np.zeros(network.n_bus))
    )


def test_the_compiled_model(network):
    p_kw, v = points(network)
    model = build_step_rules(network, 2)
    compiled = compile_model(model)
    bus = list(model.judged)
    start = compiled.point(p_charge=0.0, p_discharge=0.0, v=v[:, bus], outside=0.0)
    per_limit = compiled.violations(start).reshape(POINTS, 2, len(bus))
    rows = compiled.point(
        p_charge=np.maximum(p_kw, 0),
        p_discharge=np.maximum(-p_kw, 0),
        v=v[:, bus],
        outside=per_limit.max(axis=1),
    )
    assert compiled.worst_violation(rows).max() < 1e-12
    np.testing.assert_allclose(-compiled.objective(rows), expected(network, p_kw, v), rtol=1e-12)


def test_the_least_of_the_linear_program(network):
    """HiGHS finds the distances outside the band by itself."""
    p_kw, v = points(network)
    for power, voltage in zip(p_kw[:5], v[:5], strict=True):
        model = at_point(network, power, voltage)
        wanted = pyo.value(model.objective)
        for variable in (model.p_charge, model.p_discharge, model.v):
            variable.fix()
        for distance in model.outside.values():
            distance.set_value(1.0)
        assert solve(model, "highs").objective == pytest.approx(wanted, rel=1e-9)


def test_the_judge(network, batteries, days):
    p = np.random.default_rng(2).uniform(-0.3, 0.3, (len(days), days.n_step, 2))

    class Plan:
        name = "plan"

        def plan(self, days, soc_start):
            return p

    found = simulate(network, batteries, days, Plan())
    p_kw = 1e3 * network.base_mva * found.p_battery
    wanted = [expected(network, p_kw[k], found.v[k]).sum() for k in range(len(days))]
    assert np.min(wanted) < -1.0
    np.testing.assert_allclose(found.reward, wanted, rtol=1e-12)


def test_the_environment(network, batteries, days):
    env = VoltageVectorEnv(network, batteries, days, 6)
    env.reset(seed=0)
    rng = np.random.default_rng(3)
    for _ in range(days.n_step):
        _, reward, _, _, info = env.step(rng.uniform(-1, 1, (6, 2)).astype(np.float32))
        p_kw = 1e3 * network.base_mva * batteries.p_max * info["applied_action"].astype(float)
        # The applied action is told in float32.
        np.testing.assert_allclose(reward, expected(network, p_kw, info["v"]), atol=1e-6)


def test_what_agents_know_of_it_beforehand(network, batteries, days):
    """The battery part of (1), in torch; at voltages inside the band it is the whole reward."""
    scale = 0.25
    config = VoltageAgentConfig(
        TD3Config(hidden=(8,), batch=8, warmup=8), num_envs=2, episodes=2, reward_scale=scale
    )
    agent, _ = VoltageAgent.train(network, batteries, days[:1], None, config)
    p_max_kw = 1e3 * network.base_mva * batteries.p_max
    p_kw = np.clip(points(network)[0], -p_max_kw, p_max_kw)
    share = torch.tensor(0.5 * (p_kw / p_max_kw + 1.0), dtype=torch.float32)
    state = idle_states(network, batteries, POINTS)
    seen = torch.from_numpy(append_excess(network, batteries, observe(network, batteries, state)))
    known = agent.learner._known_reward(seen, share).numpy()
    wanted = scale * expected(network, p_kw, np.ones((POINTS, network.n_bus)))
    np.testing.assert_allclose(known, wanted, atol=1e-6)


def test_the_objective_of_optimal_power_flow(network, batteries):
    """`regulation_power` of powers in pu is the battery part of (1) of powers in kW."""
    p_kw, _ = points(network)
    model = build_step_rules(network, 2)
    model.periods = type("periods", (), {"network": network})
    inside = np.ones((POINTS, network.n_bus))
    for power, wanted in zip(p_kw, expected(network, p_kw, inside), strict=True):
        for k in range(2):
            model.p_charge[0, k].set_value(max(power[k], 0) / (1e3 * network.base_mva))
            model.p_discharge[0, k].set_value(max(-power[k], 0) / (1e3 * network.base_mva))
        assert pyo.value(regulation_power(model)) == pytest.approx(-wanted, rel=1e-12)


def idle_states(network, batteries, n):
    """Return n states of an idle, unloaded feeder."""
    zero = np.zeros((n, network.n_bus))
    soc = np.tile(batteries.soc_start, (n, 1))
    return VoltageState(zero, zero, zero + 1.0, soc, np.zeros(n, dtype=np.int64))
