"""The voltage band: every use of it against the Pyomo model of rules.py, on random points.

Uses: the compiled rules, the judge, the environment and its observation, the optimum of the
batteries, the check of optimal power flow, the safety QP, and the safety layer with its torch
projection.
"""

import numpy as np
import pyomo.environ as pyo
import pytest
import torch

from feederguard.agents.environments.voltage import VoltageVectorEnv
from feederguard.agents.environments.voltage_observation import observe
from feederguard.agents.safety_layer import SafetyLayer
from feederguard.agents.voltage_agent import EXCESS_SCALE, append_excess
from feederguard.baselines.opf.check import check_opf
from feederguard.baselines.voltage.feeder import FeederDay
from feederguard.models.distflow_opf import build_distflow_opf
from feederguard.models.opf_objectives import losses_mw
from feederguard.models.power_flow import solve_power_flow
from feederguard.models.safety_qp import build_safety_qp
from feederguard.models.safety_qp.matrices import safety_matrices
from feederguard.models.solver import solve
from feederguard.models.voltage_regulation import VoltageState, simulate
from feederguard.models.voltage_regulation.demand import battery_demand
from feederguard.models.voltage_regulation.judge import SAFE_TOLERANCE_PU
from feederguard.models.voltage_regulation.rules import band_excess, build_step_rules, step_rules

POINTS = 40


def expected(network, v):
    """Return minus the slack of (2) and (3) at no distance outside, (B, n_judged) pu."""
    model = build_step_rules(network)
    for distance in model.outside.values():
        distance.set_value(0.0)
    return np.array([by_pyomo(model, row) for row in v])


def by_pyomo(model, v):
    for i in model.judged:
        model.v[i].set_value(float(v[i]))
    return [-min(model.low_limit[i].slack(), model.high_limit[i].slack()) for i in model.judged]


def points(network, seed=0):
    return np.random.default_rng(seed).uniform(0.9, 1.1, (POINTS, network.n_bus))


def states(network, batteries, days):
    """Return the states of all steps of the days, half charged."""
    p = (days.p_load - days.p_gen).reshape(-1, network.n_bus)
    q = days.q_load.reshape(-1, network.n_bus)
    v = np.abs(solve_power_flow(network, p, q).voltage)
    soc = np.full((len(p), len(batteries)), 0.5)
    return VoltageState(p, q, v, soc, np.zeros(len(p), dtype=np.int64))


def test_every_bus_but_the_held_substation_is_judged(network):
    assert step_rules(network).bus.tolist() == [1, 2, 3, 4]


def test_the_formula(network):
    v = points(network)
    wanted = expected(network, v)
    np.testing.assert_allclose(step_rules(network).bus_excess(v), wanted, rtol=0, atol=1e-15)
    np.testing.assert_allclose(band_excess(network, v), wanted.max(axis=1), rtol=0, atol=1e-15)
    assert (wanted > 0).any() and (wanted < 0).any()


def test_without_an_ac_solution_it_is_infinite(network):
    v = np.full((1, network.n_bus), np.nan)
    assert np.isinf(step_rules(network).bus_excess(v)).all()
    assert np.isinf(band_excess(network, v)).all()


def test_the_judge(network, batteries, days):
    class Idle:
        name = "idle"

        def decide(self, state):
            return np.zeros(state.soc.shape)

    found = simulate(network, batteries, days, Idle())
    for k in range(len(days)):
        worst = expected(network, found.v[k]).max(axis=1)
        assert found.worst_excess_pu[k] == pytest.approx(max(worst.max(), 0.0), abs=1e-15)
        assert found.n_violation_steps[k] == (worst > SAFE_TOLERANCE_PU).sum()
    assert found.n_violation_steps.sum() > 5


def test_the_environment(network, batteries, days):
    """Among so many buses some are so near to the edge that 1e-3 pu changes the count."""
    env = VoltageVectorEnv(network, batteries, days, 64)
    env.reset(seed=0)
    rng = np.random.default_rng(3)
    for _ in range(days.n_step):
        _, _, _, _, info = env.step(rng.uniform(-1, 1, (64, 2)).astype(np.float32))
        wanted = expected(network, info["v"])
        np.testing.assert_allclose(
            info["worst_excess_pu"], np.maximum(wanted.max(axis=1), 0.0), atol=1e-15
        )
        assert (info["n_violations"] == (wanted > SAFE_TOLERANCE_PU).sum(axis=1)).all()


def test_what_agents_see(network, batteries, days):
    """The enlarged distances are those outside the band, in units of half the band."""
    state = states(network, batteries, days)
    seen = append_excess(network, batteries, observe(network, batteries, state))[:, -4:]
    rules = step_rules(network)
    wanted = np.maximum(expected(network, state.v_idle), 0.0)
    half = (rules.v_max - rules.v_min) / 2
    np.testing.assert_allclose(np.abs(seen) / EXCESS_SCALE * half, wanted, atol=1e-6)


def test_the_optimum(network, batteries, days):
    day = FeederDay(network, batteries, safety_matrices(network, batteries, 0.5), days[:1], True)
    w, _ = day.voltages(np.zeros((days.n_step, 2)))
    v = np.ones((days.n_step, network.n_bus))
    v[:, day.bus] = np.sqrt(w)
    np.testing.assert_allclose(day.excess(w), expected(network, v), atol=1e-15)
    rows = np.sqrt(np.stack([day.low, day.high]))
    for limit in rows:
        v[0, day.bus] = limit
        np.testing.assert_allclose(expected(network, v[:1]), 0.0, atol=1e-15)


@pytest.mark.parametrize("load", [0.2, 1.5])
def test_the_check_of_optimal_power_flow(network, load):
    """Without losses the linear form finds voltages inside the band that AC does not confirm."""
    wide = network.with_changes(v_min=np.full(5, 0.8), v_max=np.full(5, 1.2))
    model = build_distflow_opf(
        wide, "linear", p_load=load * network.p_load[None], objective=losses_mw
    )
    solve(model)
    model.periods = model.periods.__class__(**vars(model.periods) | {"network": network})
    found = check_opf(model)
    wanted = max(expected(network, np.abs(found.flow.voltage)).max(), 0.0)
    assert found.v_excess_pu == pytest.approx(wanted, abs=1e-15)
    assert (wanted > 1e-3) == (load == 1.5)


def test_the_safety_qp(network, batteries):
    """Its limits of squared voltage are tight where the distance outside the band is zero."""
    qp = build_safety_qp(network, batteries, 0.5)
    matrices = safety_matrices(network, batteries, 0.5)
    rules = build_step_rules(network)
    assert list(qp.limited) == list(rules.judged) == matrices.bus.tolist()
    for k, i in enumerate(qp.limited):
        rules.outside[i].set_value(0.0)
        for limit, ours, compiled in (
            (qp.low_limit, rules.low_limit, matrices.w_low),
            (qp.high_limit, rules.high_limit, matrices.w_high),
        ):
            rules.v[i].set_value(np.sqrt(compiled[k]))
            assert ours[i].slack() == pytest.approx(0.0, abs=1e-15)
            qp.w[0, i].set_value(compiled[k])
            assert pyo.value(limit[i].slack()) == pytest.approx(0.0, abs=1e-15)


def test_the_safety_layer(network, batteries, days):
    """What it certifies is inside the band of the Pyomo model, and at its edge where corrected."""
    layer = SafetyLayer(network, batteries, 0.5)
    state = states(network, batteries, days)
    answer = layer.correct(state, np.zeros(state.soc.shape))
    worst = expected(network, answer.v).max(axis=1)
    assert ((worst <= layer.tolerance_pu) == answer.certified).all()
    corrected = answer.certified & (answer.words == "corrected")
    assert corrected.sum() > 5 and np.abs(worst[corrected]).max() < 2 * layer.tolerance_pu


def test_the_projection_in_torch(network, batteries, days):
    """Where it changes an action, its AC flow ends at the edge of the band, to second order."""
    layer = SafetyLayer(network, batteries, 0.5)
    state = states(network, batteries, days)
    answer = layer.correct(state, np.zeros(state.soc.shape))
    moved = np.flatnonzero(answer.certified & (answer.words == "corrected"))
    zero = torch.zeros((len(moved), len(batteries)), dtype=torch.float64)
    p = layer.project_ac(state[moved], zero).numpy()
    drawn = state.p_net[moved] + battery_demand(network, batteries, p)
    v = np.abs(solve_power_flow(network, drawn, state.q_net[moved]).voltage)
    assert len(moved) > 5
    assert np.abs(expected(network, v).max(axis=1)).max() < 2e-4
