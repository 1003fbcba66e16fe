"""Learned linear constraints: the closed form by hand, slopes, gradients, and their limits."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from feederguard.agents.environments.voltage import VoltageVectorEnv
from feederguard.agents.safe_ddpg import (
    LinearSafety,
    LinearSafetyConfig,
    LinearSafetyLayer,
    VoltageTransitions,
    try_random_actions,
)
from feederguard.data.voltage_cases import load_voltage_case
from feederguard.models.voltage_regulation import VoltageState, simulate

CONFIG = LinearSafetyConfig(samples=6_000, hidden=(32,), epochs=10, rate=3e-3)


@pytest.fixture(scope="module")
def case():
    return load_voltage_case("cigre_lv18", "train")


@pytest.fixture(scope="module")
def tried(case):
    return try_random_actions(VoltageVectorEnv(case.network, case.batteries, case.days, 100), 6_000)


@pytest.fixture(scope="module")
def safety(case, tried):
    return LinearSafety.fit(tried, CONFIG, case.network, case.batteries)


class Idle:
    name = "idle"

    def __init__(self, layer=None):
        self.layer = layer

    def decide(self, state):
        zero = np.zeros(state.soc.shape)
        return zero if self.layer is None else self.layer.correct(state, zero).p


class Given(LinearSafety):
    """Slopes given instead of learned: only the first two batteries act, on the first two buses."""

    def slopes(self, observations):
        g = torch.zeros(len(observations), len(self._bus), len(self.batteries))
        g[:, 0, 0], g[:, 0, 1], g[:, 1, 1] = -0.3, -0.4, -0.5
        return g


def observation_of(safety, x0, x1=0.0, n=128):
    seen = np.zeros((1, safety._shown.stop + len(safety.batteries) + 2), np.float32)
    seen[0, safety._shown.start], seen[0, safety._shown.start + 1] = x0, x1
    return seen


def test_closed_form_by_hand(case):
    """x_0 = 1.15 is 0.2 above 1 - 0.05; g g = 0.25, so a moves by 0.8 of (0.3, 0.4)."""
    safety = Given(case.network, case.batteries, LinearSafetyConfig(margin=0.05))
    zero = np.zeros((1, 18), np.float32)

    high = safety.correct(observation_of(safety, 1.15), zero)[0]
    low = safety.correct(observation_of(safety, -1.15), zero)[0]
    np.testing.assert_allclose(high[:2], [0.24, 0.32], atol=1e-6)
    np.testing.assert_allclose(low[:2], [-0.24, -0.32], atol=1e-6)
    assert not high[2:].any()
    inside = np.full((1, 18), 0.3, np.float32)
    assert np.array_equal(safety.correct(observation_of(safety, 0.5), inside), inside)


def test_only_the_constraint_that_asks_most_is_met(case):
    """lambda is 0.2 / 0.25 at the first bus and 0.3 / 0.25 at the second.

    So the first stays where (1) leaves it.
    """
    safety = Given(case.network, case.batteries, LinearSafetyConfig(margin=0.05))

    action = safety.correct(observation_of(safety, 1.15, 1.25), np.zeros((1, 18), np.float32))[0]

    np.testing.assert_allclose(action[:2], [0.0, 0.6], atol=1e-6)
    assert np.abs(safety.correct(observation_of(safety, 9.0), np.zeros((1, 18)))).max() == 1.0


def test_gradient_is_that_of_the_composition(case):
    safety = Given(case.network, case.batteries, LinearSafetyConfig(margin=0.05))
    seen = torch.from_numpy(observation_of(safety, 1.15)).double()
    safety.slopes = lambda observations: Given.slopes(safety, observations).double()
    action = torch.full((1, 18), 0.01, dtype=torch.float64, requires_grad=True)

    assert torch.autograd.gradcheck(lambda a: safety.project(seen, a), (action,))
    safety.project(seen, action).sum().backward()
    g = np.array([-0.3, -0.4])
    np.testing.assert_allclose(action.grad[0, :2], 1 - g * g.sum() / 0.25, atol=1e-9)


def test_slopes_say_what_the_power_flow_does(case, safety):
    unseen = try_random_actions(
        VoltageVectorEnv(case.network, case.batteries, case.days, 50), 1_000, seed=9
    )

    quality = safety.quality(unseen)

    assert quality.r2 > 0.95 and quality.mean_error_pu < 2e-3
    assert quality.max_error_pu > 1e-5  # learned: not exact
    # Charging lowers the voltage of the battery's own bus.
    slope = safety.slopes(torch.from_numpy(unseen.observations)).mean(dim=0).numpy()
    own = [int(np.flatnonzero(safety._bus == bus)[0]) for bus in case.batteries.bus]
    assert (slope[own, np.arange(18)] < 0).all() and slope.min() < -0.3


def test_it_removes_most_violations_and_not_all(case, safety):
    some = case.days[np.arange(0, len(case.days), 10)]
    without = simulate(case.network, case.batteries, some, Idle())
    outcome = simulate(
        case.network, case.batteries, some, Idle(LinearSafetyLayer(safety, 96, 0.25))
    )

    assert without.n_violation_steps.sum() > 100
    assert outcome.n_violation_steps.sum() < 0.5 * without.n_violation_steps.sum()


def test_layer_agrees_in_acting_and_in_the_gradient(case, safety):
    from feederguard.models.voltage_regulation.demand import idle_voltages, net_demand

    p, q = (net[0] for net in net_demand(case.network, case.days[[3]]))
    soc = np.full((96, 18), 0.5)
    state = VoltageState(p, q, idle_voltages(case.network, case.days[[3]])[0], soc, np.arange(96))
    proposed = np.random.default_rng(0).uniform(-1, 1, (96, 18)) * case.batteries.p_max
    layer = LinearSafetyLayer(safety, 96, 0.25)

    acted = layer.correct(state, proposed).p
    seen = layer.project_ac(state, torch.from_numpy(proposed).float()).numpy()

    np.testing.assert_allclose(acted, seen, atol=1e-7)
    assert np.abs(acted - proposed).max() > 1e-3
    moved = np.abs(acted - proposed).max(axis=1) > 1e-6 * case.batteries.p_max[0]
    assert 0 < moved.sum() < 96 and (layer.correct(state, proposed).status == moved).all()


def test_what_the_batteries_cannot_do_is_cut_with_its_gradient(case):
    """x_0 = 1.15 asks the first two batteries to charge by 0.24 and 0.32.

    The first is full, and the second a little below that.
    """
    safety = Given(case.network, case.batteries, LinearSafetyConfig(margin=0.05))
    layer, unit = LinearSafetyLayer(safety, 96, 0.25), case.batteries
    soc = np.full((1, 18), 0.5)
    soc[0, 0] = 1.0
    # What a tenth of the power brings in a quarter of an hour.
    soc[0, 1] = 1.0 - 0.1 * unit.p_max[1] * unit.efficiency_charge[1] * 0.25 / unit.energy[1]
    v = np.full((1, case.network.n_bus), 1.0)
    v[0, safety._bus[0]] = 1.0 + 1.15 * 0.05
    zero = np.zeros((1, case.network.n_bus))
    state = VoltageState(zero, zero, v, soc, np.zeros(1, np.int64))
    proposed = torch.zeros((1, 18), dtype=torch.float64, requires_grad=True)
    layer.safety.slopes = lambda observations: Given.slopes(safety, observations).double()
    answer = layer.project_ac(state, proposed)
    answer[0, :2].sum().backward()

    assert answer[0, :3].detach().numpy() / unit.p_max[:3] == pytest.approx(
        [0.0, 0.1, 0.0], abs=1e-6
    )
    assert not proposed.grad.any()
    del layer.safety.slopes
    acted = layer.correct(state, np.zeros((1, 18)))
    assert acted.p[0, :3] / unit.p_max[:3] == pytest.approx([0.0, 0.1, 0.0], abs=1e-6)
    assert layer.statuses[acted.status[0]] == "corrected"


@pytest.mark.newest
def test_same_seed_same_numbers_and_tensors_restore_them(case, tried, safety):
    config = LinearSafetyConfig(samples=500, hidden=(8,), epochs=1)
    few = VoltageTransitions(tried.observations[:500], tried.actions[:500], tried.v[:500])
    one, two = (LinearSafety.fit(few, config, case.network, case.batteries) for _ in range(2))
    fresh = LinearSafety(case.network, case.batteries, config)
    fresh.load_tensors(one.tensors())

    for name, value in one.tensors().items():
        assert torch.equal(value, two.tensors()[name]) and torch.equal(value, fresh.tensors()[name])
    with pytest.raises(
        ValueError, match=r"LinearSafety: slopes.0.bias has shape \(32,\); this one has \(8,\)"
    ):
        fresh.load_tensors(safety.tensors())


def test_fit_tries_actions_in_an_environment(case):
    env = VoltageVectorEnv(case.network, case.batteries, case.days, 50)

    safety = LinearSafety.fit(env, LinearSafetyConfig(samples=100, hidden=(4,), epochs=1))

    assert safety.correct(
        np.zeros((2, env.single_observation_space.shape[0])), np.zeros((2, 18))
    ).shape == (2, 18)


def test_errors_name_what_is_wrong(case, tried, safety):
    p_max = case.batteries.p_max.copy()
    p_max[2] = 0.0
    with pytest.raises(
        ValueError, match="cigre_lv18: battery 'R3' has no power; safe DDPG needs p_max above zero"
    ):
        LinearSafety(case.network, replace(case.batteries, p_max=p_max))
    with pytest.raises(
        ValueError,
        match="learned safety layer was made for steps of 1 h, and the days have steps of 0.25 h",
    ):
        simulate(
            case.network, case.batteries, case.days[:1], Idle(LinearSafetyLayer(safety, 96, 1.0))
        )
    with pytest.raises(
        ValueError, match="learned safety layer was made for days of 24 steps, and these have 96"
    ):
        simulate(
            case.network, case.batteries, case.days[:1], Idle(LinearSafetyLayer(safety, 24, 0.25))
        )
    with pytest.raises(ValueError, match="samples is 0; it must be at least 1"):
        LinearSafetyConfig(samples=0)
    with pytest.raises(ValueError, match="margin is 1; it must be at least 0 and below 1"):
        LinearSafetyConfig(margin=1)
    with pytest.raises(ValueError, match=r"no slopes learned yet; make it with LinearSafety.fit"):
        LinearSafety(case.network, case.batteries).correct(
            tried.observations[:1], tried.actions[:1]
        )
    with pytest.raises(ValueError, match="say which network and batteries"):
        LinearSafety.fit(tried)
    with pytest.raises(ValueError, match=r"actions have shape \(1, 3\); expected \(1, 18\)"):
        safety.correct(tried.observations[:1], np.zeros((1, 3)))
    with pytest.raises(ValueError, match="action 0 is not finite"):
        safety.correct(tried.observations[:1], np.full((1, 18), np.nan))
    lost = VoltageTransitions(
        tried.observations[:2], tried.actions[:2], np.full((2, case.network.n_bus), np.nan)
    )
    with pytest.raises(ValueError, match="no transition has voltages"):
        LinearSafety.fit(lost, CONFIG, case.network, case.batteries)
