"""What the voltage comparison is made on: settings, feeder with its days, course of its agents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from feederguard.data.voltage_cases import load_voltage_case
from feederguard.models.battery import Batteries
from feederguard.models.network import Network
from feederguard.models.soc_tube import SocTube
from feederguard.models.voltage_regulation import VoltageDays
from feederguard.studies.trained.voltage_agents import kept_tube
from feederguard.studies.trained.voltage_makers import VoltageAgentConfigs, VoltageCourse

OPTIMA = ("lindistflow_opf", "ac_opf")
METHODS = (
    "no_control",
    "droop",
    "ddpg",
    "td3",
    "sac",
    "ppo",
    "safe_ddpg",
    "df_srl",
    "df_srl_no_tube",
    "idle_safe",
    *OPTIMA,
)
TUBE = "soc_tube"  # the task that measures what the tube is worth, beside the methods
# The method whose agent another method uses.
RESTS_ON = {"df_srl_no_tube": "df_srl"}

SEEDS, SEEDS_FULL = 1, 10


@dataclass(frozen=True)
class VoltageConfig:
    """Settings of the voltage-regulation comparison."""

    feeder: str = "cigre_lv18"
    """Bundled voltage case by name."""
    methods: tuple[str, ...] = METHODS
    """Methods to compare."""
    seeds: int | None = None
    """Number of training seeds, from 0 on; default 1, with --full 10."""
    full: bool = False
    """Full training of every method and ten seeds: hours instead of minutes."""
    days: int | None = None
    """Number of test days, spread evenly over the test weeks; default all."""
    agents: Annotated[VoltageAgentConfigs | None, tyro.conf.Suppress] = None
    """How agents are trained; default short or full training, as `full` says."""

    def __post_init__(self) -> None:
        unknown = [name for name in self.methods if name not in METHODS]
        if unknown:
            raise ValueError(f"unknown method {unknown[0]!r}; use {', '.join(METHODS)}")
        if not self.methods or len(set(self.methods)) < len(self.methods):
            raise ValueError(
                f"methods is {' '.join(self.methods) or 'empty'}; name at least one, and each once"
            )
        for name in ("seeds", "days"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1")

    @property
    def seed_numbers(self) -> tuple[int, ...]:
        """The seeds of learned methods."""
        return tuple(range(self.seeds or (SEEDS_FULL if self.full else SEEDS)))

    @property
    def agent_configs(self) -> VoltageAgentConfigs:
        """How agents are trained."""
        return self.agents or (VoltageAgentConfigs() if self.full else VoltageAgentConfigs.short())


@dataclass(frozen=True, eq=False)
class VoltageBench:
    """The feeder, its batteries, and its train and test days."""

    feeder: str  # its name among the bundled cases
    network: Network
    batteries: Batteries
    train: VoltageDays
    test: VoltageDays


def load_bench(config: VoltageConfig) -> VoltageBench:
    """Return the feeder and its days; raises ValueError for a feeder without a bundled case."""
    train, test = (load_voltage_case(config.feeder, weeks) for weeks in ("train", "test"))
    days = test.days
    if config.days is not None and config.days < len(days):
        days = days[np.linspace(0, len(days) - 1, config.days).round().astype(np.int64)]
    return VoltageBench(config.feeder, test.network, test.batteries, train.days, days)


def find_tube(bench: VoltageBench, names: Sequence[str], cache: Path) -> tuple[SocTube | None, str]:
    """Return the SOC tube of the training days if a method needs it, or why there is none."""
    if not {"df_srl", "df_srl_no_tube", "idle_safe"} & set(names):
        return None, ""
    try:
        return kept_tube(bench.network, bench.batteries, bench.train, cache), ""
    except ValueError as error:
        return None, str(error)


def course_of(
    bench: VoltageBench, config: VoltageConfig, tube: SocTube | None, cache: Path
) -> VoltageCourse:
    """Return what the agents are trained on."""
    return VoltageCourse(
        bench.feeder, bench.network, bench.batteries, bench.train, tube, cache, config.agent_configs
    )
