"""Train an agent on a feeder, keep it, and test it on faults or days that it has not seen.

    python studies/train.py ranked_switching --feeder my_net.json --output agent.safetensors
    python studies/train.py df_srl --feeder cigre_lv18

Load transfer: ranked_switching (ours), ddpg, ddpg_corrected. Voltage regulation, on a bundled
voltage case: df_srl (ours), td3, ddpg_voltage, safe_ddpg, sac, ppo. An agent is kept in the cache
folder, in a file named after everything that decides it. The same command again finds it there.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import tyro
from rich.console import Console

from feederguard.data.sampling import PV_SHARE, sample_scenarios
from feederguard.models.load_transfer import judge, resolve_setting
from feederguard.models.load_transfer.setting import SETTING_NAMES
from feederguard.models.voltage_regulation import simulate
from feederguard.studies.running.command_line import (
    RUN_ERRORS,
    console_of,
    parse_options,
    user_error,
)
from feederguard.studies.running.files import make_writable, write_whole
from feederguard.studies.trained.transfer_agents import TRAINED
from feederguard.studies.trained.voltage_agents import kept_tube, missing_for, trained_voltage
from feederguard.studies.trained.voltage_makers import VoltageCourse
from feederguard.studies.transfer.study import TransferBench, TransferConfig
from feederguard.studies.voltage.bench import VoltageConfig, load_bench

Transfer = Literal["ranked_switching", "ddpg", "ddpg_corrected"]
Voltage = Literal["df_srl", "td3", "ddpg_voltage", "safe_ddpg", "sac", "ppo"]


@dataclass(frozen=True)
class TrainConfig:
    """Train an agent on a feeder, keep it, and test it on faults or days that it has not seen."""

    agent: tyro.conf.Positional[Transfer | Voltage]
    """Kind of agent."""
    feeder: str | None = None
    """Load transfer: feeder or path (default ieee33); voltage: a case (default cigre_lv18)."""
    setting: str = "radial"
    """Load transfer: radial, paper or meshed."""
    profiles: str = "simbench_2016"
    """Load transfer: bundled year by name, or a load file."""
    pv_share: float = PV_SHARE
    """Load transfer: installed PV over nominal load, if the feeder has no PV."""
    train_scenarios: int = 4000
    """Load transfer: faults of the train weeks to learn from."""
    full: bool = False
    """Voltage: full training of the agents that otherwise train for minutes."""
    seed: int = 0
    """Seed of the training."""
    agents_cache: Path = Path("results/agents")
    """Folder of trained agents."""
    output: Path | None = None
    """File to copy the agent to; the slopes of safe_ddpg are copied beside it."""

    def __post_init__(self) -> None:
        if self.setting not in SETTING_NAMES:
            raise ValueError(f"unknown setting {self.setting!r}; use {', '.join(SETTING_NAMES)}")
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}; use zero or a positive number")
        if self.agents_cache.exists() and not self.agents_cache.is_dir():
            raise ValueError(f"agents_cache {self.agents_cache} is a file; name a folder")
        if self.output is not None and not self.output.parent.is_dir():
            raise ValueError(
                f"output {self.output}: there is no folder {self.output.parent}; make it first"
            )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the training as a program and return its exit status."""
    config = parse_options(TrainConfig, arguments, "train", __doc__)
    console = console_of(100)
    console.print(f"training {config.agent} ...")
    try:
        with user_error(RUN_ERRORS):
            path = (
                train_transfer(config, console)
                if config.agent in get_args(Transfer)
                else train_voltage(config, console)
            )
    except KeyboardInterrupt:
        console.print("stopped: a training that did not end is not kept")
        return 130
    if config.output is not None:
        for one in path.parent.glob(f"{path.stem}.*"):
            if one.suffix in (".safetensors", ".slopes", ".zip"):
                target = (
                    config.output
                    if one.suffix == path.suffix
                    else config.output.with_suffix(one.suffix)
                )
                with user_error((OSError,)):
                    write_whole(target, one.read_bytes())
                console.print(f"copied to {target}", soft_wrap=True)
    return 0


def train_transfer(config: TrainConfig, console: Console) -> Path:
    """Train or find a load-transfer agent, test it on 200 faults, and return its file."""
    with user_error():
        chosen = TransferConfig(
            feeder=config.feeder or "ieee33",
            scenarios=1,
            methods=(config.agent,),
            setting=config.setting,
            profiles=config.profiles,
            pv_share=config.pv_share,
            seed=config.seed,
            train_scenarios=config.train_scenarios,
        )
        bench = TransferBench(chosen, config.agents_cache)
        _make_folders(config)
    setting = resolve_setting(bench.network, config.setting)
    trained = TRAINED[config.agent](bench.network, setting, bench.course)
    _tell(config.agent, trained.cached, trained.seconds, trained.path, trained.note, console)
    test = sample_scenarios(
        bench.network, bench.profiles, 200, config.seed, pv_share=config.pv_share
    ).scenarios
    outcome = judge(bench.network, test, trained.agent.decide(test), setting)
    console.print(
        f"on 200 faults of the test weeks, {config.setting} setting: "
        f"{100 * outcome.safe.mean():.2f} % safe by the AC power flow, mean shed "
        f"{outcome.shed_ratio.mean():.4f} of the load, mean cost {outcome.cost.mean():.2f}"
    )
    return trained.path


def train_voltage(config: TrainConfig, console: Console) -> Path:
    """Train or find a voltage agent, test it on the test days, and return its file."""
    kind = config.agent.removesuffix("_voltage")
    lacking = missing_for(kind)
    if lacking:
        print(f"error: {lacking}", file=sys.stderr)
        raise SystemExit(2)
    with user_error():
        chosen = VoltageConfig(feeder=config.feeder or "cigre_lv18", full=config.full)
        bench = load_bench(chosen)
        _make_folders(config)
        tube = (
            kept_tube(bench.network, bench.batteries, bench.train, config.agents_cache)
            if kind == "df_srl"
            else None
        )
    course = VoltageCourse(
        bench.feeder,
        bench.network,
        bench.batteries,
        bench.train,
        tube,
        config.agents_cache,
        chosen.agent_configs,
    )
    trained = trained_voltage(kind, course, config.seed)
    _tell(config.agent, trained.cached, trained.record.seconds, trained.path, trained.note, console)
    outcome = simulate(bench.network, bench.batteries, bench.test, trained.agent)
    n_step = len(bench.test) * bench.test.n_step
    console.print(
        f"on {len(bench.test)} test days: {int(outcome.n_violation_steps.sum())} of {n_step} steps "
        f"outside the band by the AC power flow ({int(trained.record.n_violation_steps.sum())} of "
        f"{trained.record.steps} in training), {1e3 * float(np.mean(outcome.regulation_mwh)):.1f} "
        "kWh a day through the batteries"
    )
    return trained.path


def _make_folders(config: TrainConfig) -> None:
    """Raise ValueError before the training, which may take hours, if it could not be kept."""
    make_writable(config.agents_cache)
    if config.output is not None:
        make_writable(config.output.parent)


def _tell(name: str, cached: bool, seconds: float, path: Path, note: str, console: Console) -> None:
    if note:
        console.print(note, soft_wrap=True, markup=False)
    how = "found in the cache, trained" if cached else "trained"
    console.print(f"{name}: {how} in {seconds:.0f} s, kept as {path}", soft_wrap=True, markup=False)


if __name__ == "__main__":
    raise SystemExit(main())
