"""Importing this module makes the two environments known to Gymnasium.

    import feederguard.agents.registration
    gymnasium.make("feederguard/LoadTransfer-v0", feeder="bus69", setting="radial")
    gymnasium.make_vec("feederguard/LoadTransfer-v0", num_envs=4096)
    gymnasium.make("feederguard/VoltageRegulation-v0", feeder="cigre_lv18", weeks="train")

One string does it too:

    gymnasium.make("feederguard.agents.registration:feederguard/LoadTransfer-v0")

Arguments are those of the factories in `environments/bundled_load_transfer.py` and
`environments/bundled_voltage.py`, which load the feeder and the year of demand. Gymnasium reads no
entry points of installed packages since 1.0, so one of the two imports is needed.
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
