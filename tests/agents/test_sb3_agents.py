"""SAC and PPO of stable-baselines3 run unchanged on the registered environment.

They are seeded, recorded and saved.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch

from feederguard.agents.environments.voltage_observation import batteries_text
from feederguard.agents.learning.checkpoint import CheckpointError, agent_metadata, save_checkpoint
from feederguard.agents.sb3_agents import Sb3Config, Sb3Policy
from feederguard.data.voltage_cases import load_voltage_case
from feederguard.models.voltage_regulation import simulate

SMALL = {
    "sac": {"learning_starts": 20, "batch_size": 16},
    "ppo": {"n_steps": 48, "batch_size": 32, "n_epochs": 1},
}


@pytest.fixture(autouse=True)
def package():
    pytest.importorskip("stable_baselines3", reason='pip install "feederguard[sb3]"')


def train(algorithm, seed=0):
    return Sb3Policy.train(
        Sb3Config.of(
            algorithm, steps=192, num_envs=2, hidden=(16,), seed=seed, settings=SMALL[algorithm]
        ),
        feeder="cigre_lv18",
        weeks="test",
    )


@pytest.mark.parametrize("algorithm", ["sac", "ppo"])
@pytest.mark.newest
def test_they_run_unmodified_and_the_same_seed_gives_the_same_numbers(algorithm):
    case = load_voltage_case("cigre_lv18", "test")
    before = np.random.get_state()[1].copy()

    policy, record = train(algorithm)
    again, same = train(algorithm)

    assert record.steps >= 192 and len(record.reward) == 2
    assert (record.reward < 0).all() and (record.regulation_kwh > 0).all()
    assert ((0 <= record.n_violation_steps) & (record.n_violation_steps <= 96)).all()
    assert ((record.worst_excess_pu > 1e-5) == (record.n_violation_steps > 0)).all()
    np.testing.assert_array_equal(record.reward, same.reward)
    p, q = (
        simulate(case.network, case.batteries, case.days[:2], x).p_battery for x in (policy, again)
    )
    np.testing.assert_array_equal(p, q)
    assert np.abs(p).max() > 0 and (np.abs(p) <= case.batteries.p_max * (1 + 1e-12)).all()
    np.testing.assert_array_equal(np.random.get_state()[1], before)


def test_rewards_are_recorded_as_the_environment_gave_them():
    """Out of the energy and at most zero more: normalised ones would be small numbers around it."""
    _, record = train("ppo")

    assert (record.reward <= -0.001 * 4 * record.regulation_kwh + 1e-6).all()


@pytest.mark.parametrize("algorithm", ["sac", "ppo"])
def test_a_saved_policy_is_the_same_and_of_its_feeder(algorithm, tmp_path):
    case = load_voltage_case("cigre_lv18", "test")
    policy, _ = train(algorithm)
    policy.save(tmp_path / "policy.safetensors")

    loaded = Sb3Policy.load(tmp_path / "policy.safetensors", case.network, case.batteries)
    p, q = (
        simulate(case.network, case.batteries, case.days[:1], x).p_battery for x in (policy, loaded)
    )

    assert loaded.name == algorithm
    np.testing.assert_array_equal(p, q)
    other = case.network.with_changes(p_load=2 * case.network.p_load)
    with pytest.raises(
        CheckpointError,
        match="trained on feeder 'cigre_lv18', which differs from this 'cigre_lv18'",
    ):
        Sb3Policy.load(tmp_path / "policy.safetensors", other, case.batteries)
    larger = replace(case.batteries, energy=2 * case.batteries.energy)
    with pytest.raises(
        CheckpointError, match="trained for setting .*; train an agent for this setting"
    ):
        Sb3Policy.load(tmp_path / "policy.safetensors", case.network, larger)
    agent_of_ours = tmp_path / "td3.safetensors"
    words = agent_metadata("voltage", case.network, batteries_text(case.network, case.batteries))
    save_checkpoint(agent_of_ours, {"x": torch.zeros(1)}, words)
    with pytest.raises(CheckpointError, match="holds a 'voltage' agent, expected 'sb3'"):
        Sb3Policy.load(agent_of_ours, case.network, case.batteries)


@pytest.mark.parametrize("algorithm", ["sac", "ppo"])
def test_they_train_on_days_of_ones_own_and_an_unfinished_day_is_told(algorithm):
    """250 steps of two days side by side are two whole days and two unfinished ones.

    The unfinished ones have 29 steps or more.
    """
    case = load_voltage_case("cigre_lv18", "train")
    weak = replace(case.batteries, p_max=0.5 * case.batteries.p_max)
    config = Sb3Config.of(algorithm, steps=250, num_envs=2, hidden=(16,), settings=SMALL[algorithm])
    policy, record = Sb3Policy.train(
        config, network=case.network, batteries=weak, days=case.days[:3]
    )

    assert policy.network is case.network and policy.batteries is weak
    assert record.n_steps.sum() == record.steps >= 250
    assert (
        list(record.n_steps[:2]) == [96, 96]
        and (record.n_steps[2:] == (record.steps - 192) / 2).all()
    )
    assert (
        len(record.reward) == 4
        and (record.reward < 0).all()
        and (record.n_violation_steps <= record.n_steps).all()
    )


def test_half_a_case_of_ones_own_is_refused():
    case = load_voltage_case("cigre_lv18", "train")
    with pytest.raises(
        ValueError,
        match="network without batteries; give feeder and weeks of a bundled case, or network",
    ):
        Sb3Policy.train(Sb3Config.of("ppo"), network=case.network, days=case.days)
    with pytest.raises(ValueError, match="weeks with network; give feeder and weeks"):
        Sb3Policy.train(
            Sb3Config.of("ppo"),
            network=case.network,
            batteries=case.batteries,
            days=case.days,
            weeks="test",
        )


def test_errors_name_what_is_wrong(tmp_path):
    case = load_voltage_case("cigre_lv18", "test")

    with pytest.raises(ValueError, match="algorithm is 'a2c'; use one of sac, ppo"):
        Sb3Config.of("a2c")
    with pytest.raises(ValueError, match="steps is 0; it must be at least 1"):
        Sb3Config.of("sac", steps=0)
    with pytest.raises(CheckpointError, match="there is no such file"):
        Sb3Policy.load(tmp_path / "none.safetensors", case.network, case.batteries)
    (tmp_path / "odd.safetensors").write_bytes(b"not a policy")
    with pytest.raises(CheckpointError, match="not a whole safetensors file"):
        Sb3Policy.load(tmp_path / "odd.safetensors", case.network, case.batteries)
