"""The voltage-regulation environments on a bundled feeder and year, for `gymnasium.make`.

`feederguard.agents.registration` registers them as `feederguard/VoltageRegulation-v0`.
"""

from __future__ import annotations

from functools import lru_cache

from feederguard.agents.environments.voltage import Correct, VoltageEnv, VoltageVectorEnv
from feederguard.data.voltage_cases import VoltageCase, load_voltage_case


def make_env(
    feeder: str = "cigre_lv18",
    weeks: str = "train",
    correct: Correct | None = None,
    carry_soc: bool = False,
    render_mode: str | None = None,
) -> VoltageEnv:
    """Return the environment of one day at a time.

    feeder: one with a bundled case. weeks: "train", "test" or "all". correct, carry_soc: as
    `VoltageEnv`.

    Raises as `load_voltage_case` and `VoltageEnv`.
    """
    case = _case(feeder, weeks)
    return VoltageEnv(case.network, case.batteries, case.days, correct, carry_soc, render_mode)


def make_vector_env(
    num_envs: int = 1,
    feeder: str = "cigre_lv18",
    weeks: str = "train",
    correct: Correct | None = None,
    carry_soc: bool = False,
    render_mode: str | None = None,
) -> VoltageVectorEnv:
    """Return the natively batched environment of `num_envs` days; else as `make_env`."""
    case = _case(feeder, weeks)
    return VoltageVectorEnv(
        case.network, case.batteries, case.days, num_envs, correct, carry_soc, render_mode
    )


# Environments of one case share its arrays, and what has been compiled for its network.
@lru_cache(maxsize=8)
def _case(feeder: str, weeks: str) -> VoltageCase:
    return load_voltage_case(feeder, weeks)
