"""Gymnasium knows the two environments after the import, and loads their factories by name."""

import gymnasium as gym
from gymnasium.envs.registration import load_env_creator

from feederguard.agents.registration import LOAD_TRANSFER, VOLTAGE_REGULATION


def test_both_environments_and_their_batched_forms_can_be_loaded() -> None:
    for name in (LOAD_TRANSFER, VOLTAGE_REGULATION):
        spec = gym.spec(name)
        assert load_env_creator(str(spec.entry_point)).__name__ == "make_env"
        assert load_env_creator(str(spec.vector_entry_point)).__name__ == "make_vector_env"
