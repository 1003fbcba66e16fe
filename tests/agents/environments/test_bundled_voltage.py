"""The registered voltage-regulation environment: what `gymnasium.make` makes of its name."""

import subprocess
import sys

import gymnasium as gym

import feederguard.agents.registration  # noqa: F401
from feederguard.agents.environments.bundled_voltage import make_env, make_vector_env
from feederguard.agents.environments.voltage import VoltageEnv, VoltageVectorEnv


def test_the_name_alone_is_enough_in_a_fresh_process() -> None:
    name = "feederguard.agents.registration:feederguard/VoltageRegulation-v0"
    code = f"import gymnasium; print(gymnasium.make({name!r}, weeks='test').spec.id)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ran.stdout.strip() == "feederguard/VoltageRegulation-v0", ran.stderr


def test_gymnasium_makes_both_kinds_with_their_arguments() -> None:
    alone = gym.make("feederguard/VoltageRegulation-v0", feeder="ieee33", weeks="test")
    batch = gym.make_vec(
        "feederguard/VoltageRegulation-v0",
        num_envs=3,
        feeder="ieee33",
        weeks="test",
        carry_soc=True,
    )
    assert isinstance(alone.unwrapped, VoltageEnv) and isinstance(batch.unwrapped, VoltageVectorEnv)
    assert (
        batch.num_envs == 3
        and batch.unwrapped.episodes.carry_soc
        and len(batch.unwrapped.episodes.days) == 91
    )
    assert batch.single_observation_space == alone.observation_space
    assert batch.reset(seed=1)[0] in batch.observation_space


def test_environments_of_one_case_share_its_arrays() -> None:
    one, many = make_env("ieee33", "test"), make_vector_env(2, "ieee33", "test")
    assert one.episodes.network is many.episodes.network
    assert one.episodes.days is many.episodes.days
