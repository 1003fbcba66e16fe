"""Importing this module makes the two environments known to Gymnasium.

    import feederguard.agents.registration
    gymnasium.make("feederguard/LoadTransfer-v0", feeder="bus69", setting="radial")
    gymnasium.make_vec("feederguard/LoadTransfer-v0", num_envs=4096)
    gymnasium.make("feederguard/VoltageRegulation-v0", feeder="cigre_lv18", weeks="train")

One string does it too:

    gymnasium.make("feederguard.agents.registration:feederguard/LoadTransfer-v0")

Arguments are those of the factories, which also load the data. The factory of load transfer
(`environments/bundled_load_transfer.py`) takes a feeder, bundled or a file, and draws faults and
hours of the bundled year. The one of voltage regulation (`environments/bundled_voltage.py`) takes a
bundled case: a feeder with its batteries and its days.

Gymnasium reads no entry points of installed packages since 1.0, so one of the two imports is
needed.
"""

from __future__ import annotations

import gymnasium as gym

LOAD_TRANSFER = "feederguard/LoadTransfer-v0"
VOLTAGE_REGULATION = "feederguard/VoltageRegulation-v0"

# Importing again, under whatever name, must not make Gymnasium warn of a second registration.
if LOAD_TRANSFER not in gym.registry:
    gym.register(
        LOAD_TRANSFER,
        entry_point="feederguard.agents.environments.bundled_load_transfer:make_env",
        vector_entry_point="feederguard.agents.environments.bundled_load_transfer:make_vector_env",
    )
if VOLTAGE_REGULATION not in gym.registry:
    gym.register(
        VOLTAGE_REGULATION,
        entry_point="feederguard.agents.environments.bundled_voltage:make_env",
        vector_entry_point="feederguard.agents.environments.bundled_voltage:make_vector_env",
    )
