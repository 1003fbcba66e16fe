"""Trained voltage agents: their files' names hold what decides them, their records what happened.

`voltage_makers.py` is tested here.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from small_studies import CALM, HARD, tiny_voltage_agents

from feederguard.agents import safe_ddpg, voltage_agent
from feederguard.agents.voltage_agent import VoltageAgentConfig
from feederguard.baselines.voltage.optimum import VoltageOpf
from feederguard.data.voltage_cases import load_voltage_case
from feederguard.models.arrays import FloatArray
from feederguard.models.battery import Batteries
from feederguard.models.battery.batteries import battery_digest
from feederguard.models.network import Network
from feederguard.models.safe_powers import nearest
from feederguard.models.safe_powers.answers import STATUSES
from feederguard.models.soc_tube import plan as soc_tube
from feederguard.models.voltage_regulation import VoltageOutcomes, simulate
from feederguard.studies.trained import voltage_agents as study
from feederguard.studies.trained.voltage_agents import kept_tube, trained_voltage
from feederguard.studies.trained.voltage_makers import (
    FULL_DAYS,
    MAKERS,
    VoltageAgentConfigs,
    VoltageCourse,
    with_seed,
)
from feeders import demand_days, pair


def course(cache: Path, **changes: Any) -> VoltageCourse:
    """Return two days of eight hours on two buses, and agents that learn next to nothing."""
    network = pair(p_gen=[0, 1.0])
    batteries = Batteries.at(network, ["1"], 0.5, 2.0)
    configs = tiny_voltage_agents(8, 36, 32)
    days = demand_days([HARD, CALM])
    given = VoltageCourse("pair", network, batteries, days, None, cache, configs)
    return replace(given, **changes)


def key(kind: str, given: VoltageCourse) -> str:
    config = with_seed(getattr(given.configs, kind), 0)
    return str(study.hash_of(study._parts(kind, given, MAKERS[kind], config)))


@pytest.mark.parametrize(
    ("module", "name", "kinds"),
    [
        (voltage_agent, "DEAD_ZONE", ("df_srl", "td3", "ddpg", "safe_ddpg")),
        (voltage_agent, "EXCESS_SCALE", ("df_srl", "td3", "ddpg", "safe_ddpg")),
        (nearest, "ROUNDS", ("df_srl",)),
        (nearest, "TOLERANCE_PU", ("df_srl",)),
        (nearest, "SETTLED", ("df_srl",)),
        (safe_ddpg, "_SLOPE_FLOOR", ("safe_ddpg",)),
    ],
)
def test_a_changed_constant_is_another_key(
    module: Any, name: str, kinds: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = course(tmp_path)
    before = {kind: key(kind, given) for kind in MAKERS}
    monkeypatch.setattr(module, name, 2 * getattr(module, name))
    changed = {kind for kind in MAKERS if key(kind, given) != before[kind]}
    assert changed == set(kinds)


@pytest.mark.parametrize(
    ("package", "kinds"),
    [("torch", set(MAKERS)), ("stable-baselines3", {"sac", "ppo"}), ("numba", set())],
)
def test_another_version_of_what_it_learns_with_is_another_key(
    package: str, kinds: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, real = course(tmp_path), study.version
    before = {kind: key(kind, given) for kind in MAKERS}
    monkeypatch.setattr(study, "version", lambda name: "0.0" if name == package else real(name))
    assert {kind for kind in MAKERS if key(kind, given) != before[kind]} == kinds


def test_a_tube_of_other_prices_is_another_tube(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = course(tmp_path)
    kept_tube(given.network, given.batteries, given.days, tmp_path)
    monkeypatch.setattr(soc_tube, "FORCED_PRICE", 0.1)
    kept_tube(given.network, given.batteries, given.days, tmp_path)
    assert len(list(tmp_path.glob("soc_tube-pair-*.npz"))) == 2


@pytest.mark.parametrize("spoil", ["truncated", "flipped", "of before"])
def test_a_tube_that_cannot_be_read_is_computed_anew(spoil: str, tmp_path: Path) -> None:
    """An older file says neither step nor batteries."""
    given = course(tmp_path)
    tube = kept_tube(given.network, given.batteries, given.days, tmp_path)
    (path,) = tmp_path.glob("soc_tube-pair-*.npz")
    whole = path.read_bytes()
    if spoil == "truncated":
        path.write_bytes(whole[: len(whole) // 2])
    elif spoil == "flipped":
        path.write_bytes(whole[:150] + bytes(255 - byte for byte in whole[150:200]) + whole[200:])
    else:
        np.savez(path, low=tube.low, high=tube.high)
    for _ in range(2):
        again = kept_tube(given.network, given.batteries, given.days, tmp_path)
        assert again.digest == tube.digest and again.step_h == 1.0
        assert again.batteries == battery_digest(given.batteries)
    assert path.stat().st_size == len(whole)


def test_the_record_comes_back_with_what_the_layer_did(tmp_path: Path) -> None:
    given = course(tmp_path)
    first, again = (trained_voltage("df_srl", given, 0) for _ in range(2))
    assert again.cached and not first.cached
    table = pd.read_parquet(first.path.with_suffix(".parquet"))
    assert [name for name in table if name.startswith("layer_")] == [
        f"layer_{name}" for name in STATUSES
    ]
    for record in (first.record, again.record):
        assert record.statuses == STATUSES and record.status_steps.shape == (8, len(STATUSES))
        assert (record.status_steps.sum(axis=1) == 8).all() and (record.n_steps == 8).all()
        assert record.status_counts["corrected"] > 0 == record.fallbacks
    np.testing.assert_array_equal(first.record.status_steps, again.record.status_steps)


def test_random_days_are_days_of_training_without_a_layer(tmp_path: Path) -> None:
    record = trained_voltage("safe_ddpg", course(tmp_path), 0).record
    assert record.statuses == ("as_proposed", "corrected")
    # 64 random actions are 8 days, and 8 more are learned on.
    assert (
        record.status_steps.sum(axis=1).tolist() == [0] * 8 + [8] * 8
        and (record.n_steps == 8).all()
    )


@pytest.mark.parametrize("kind", ["sac", "ppo"])
def test_sac_and_ppo_learn_on_the_days_of_the_course(kind: str, tmp_path: Path) -> None:
    """Network, batteries and days are the course's own; SAC stops in its third day."""
    pytest.importorskip("stable_baselines3")
    trained = trained_voltage(kind, course(tmp_path), 0)
    assert trained.record.steps == trained.record.n_steps.sum() == (36 if kind == "sac" else 32)
    assert trained.record.n_steps.tolist() == [8] * 4 + [2] * 2 * (kind == "sac")
    assert trained.record.statuses == () and trained_voltage(kind, course(tmp_path), 0).cached


def test_in_full_every_kind_has_the_same_number_of_training_days() -> None:
    configs, steps_a_day = VoltageAgentConfigs(), 96
    assert FULL_DAYS == 2560
    random_days = -(-configs.safe_ddpg.safety.samples // steps_a_day)
    in_all = {
        "df_srl": _rounded(configs.df_srl),
        "td3": _rounded(configs.td3),
        "ddpg": _rounded(configs.ddpg),
        "safe_ddpg": _rounded(configs.safe_ddpg.agent) + random_days,
        "sac": configs.sac.steps / steps_a_day,
        "ppo": configs.ppo.steps / steps_a_day,
    }
    assert in_all == dict.fromkeys(MAKERS, FULL_DAYS)
    # PPO collects n_steps in each environment at a time: a number that does not divide would be
    # rounded up.
    assert configs.ppo.steps % (configs.ppo.num_envs * configs.ppo.settings["n_steps"]) == 0


def _rounded(config: VoltageAgentConfig) -> int:
    """Return the days that training runs through: as many side by side, so often."""
    return config.num_envs * -(-config.episodes // config.num_envs)


def test_everything_that_decides_an_agent_is_in_its_name(tmp_path: Path) -> None:
    def name(kind: str = "ddpg", seed: int = 0, **changes: Any) -> str:
        return trained_voltage(kind, course(tmp_path, **changes), seed).path.name

    given = course(tmp_path)
    tube = kept_tube(given.network, given.batteries, given.days, tmp_path)
    other = replace(given.configs, ddpg=replace(given.configs.ddpg, episodes=4))
    names = [
        name(),
        name(seed=1),
        name("td3"),
        name(configs=other),
        name(days=demand_days([HARD])),
        name(batteries=Batteries(np.array([1]), 0.4, 2.0, name=("b",))),
        name(network=given.network.with_changes(r=np.array([0.09]))),
        name("df_srl"),
        name("df_srl", tube=tube),
    ]
    assert len(set(names)) == len(names)
    # What another kind is made of does not matter to this one.
    assert name("td3", configs=other) == names[2] and name(tube=tube) == names[0]
    with pytest.raises(ValueError, match="unknown voltage agent 'dqn'; use one of df_srl, sac"):
        name("dqn")


@pytest.mark.parametrize("spoil", ["safetensors", "parquet", "json"])
def test_a_damaged_file_is_told_of_and_trained_anew(spoil: str, tmp_path: Path) -> None:
    first = trained_voltage("ddpg", course(tmp_path), 0)
    first.path.with_suffix(f".{spoil}").write_bytes(b"{")
    again = trained_voltage("ddpg", course(tmp_path), 0)
    assert (
        not again.cached and str(first.path) in again.note and again.note.endswith("trained anew")
    )
    np.testing.assert_array_equal(again.record.reward, first.record.reward)
    assert trained_voltage("ddpg", course(tmp_path), 0).cached


def test_a_tube_is_computed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = course(tmp_path)
    asked: list[int] = []
    compute = study.compute_soc_tube

    def counted(*arguments: Any) -> Any:
        asked.append(1)
        return compute(*arguments)

    monkeypatch.setattr(study, "compute_soc_tube", counted)
    tubes = [kept_tube(bench.network, bench.batteries, bench.days, tmp_path) for _ in range(2)]
    np.testing.assert_array_equal(tubes[0].low, tubes[1].low)
    np.testing.assert_array_equal(tubes[0].high, tubes[1].high)
    assert len(asked) == 1
    (kept,) = tmp_path.glob("soc_tube-pair-*.npz")
    kept.write_bytes(b"nothing of the kind")
    kept_tube(bench.network, bench.batteries, bench.days, tmp_path)
    kept_tube(bench.network, bench.batteries, bench.days[:1], tmp_path)
    assert len(asked) == 3


@pytest.mark.slow
def test_df_srl_is_safe_in_training_and_test_and_near_the_optimum(tmp_path: Path) -> None:
    """On cigre_lv18: no violation, and at most a tenth above the AC optimum's energy."""
    train, test = (load_voltage_case("cigre_lv18", weeks) for weeks in ("train", "test"))
    network, batteries = test.network, test.batteries
    tube = kept_tube(network, batteries, train.days, tmp_path)
    given = VoltageCourse(
        "cigre_lv18", network, batteries, train.days, tube, tmp_path, VoltageAgentConfigs.short()
    )
    trained = trained_voltage("df_srl", given, 0)
    found = simulate(network, batteries, test.days, trained.agent)
    best = simulate(network, batteries, test.days, VoltageOpf(network, batteries))
    gap = _energy(network, batteries, found).sum() / _energy(network, batteries, best).sum() - 1.0
    told = (
        f"{trained.record.n_violation_steps.sum()} steps outside in training, "
        f"{found.n_violation_steps.sum()} on {len(test.days)} test days, {100 * gap:.2f} % above "
        "the optimum; the whole comparison is printed by  python studies/compare_methods.py --job "
        "voltage --methods df_srl ac_opf"
    )
    assert len(test.days) >= 60 and trained.record.steps >= FULL_DAYS * 96
    assert best.n_violation_steps.sum() == 0 and best.soc_short_mwh.max() < 1e-9, told
    assert trained.record.n_violation_steps.sum() == 0 == found.n_violation_steps.sum(), told
    assert 0.0 <= gap <= 0.10, told


def _energy(network: Network, batteries: Batteries, outcome: VoltageOutcomes) -> FloatArray:
    """Return the energy of each day, MWh, with what buying back the missing one would draw."""
    missing = np.maximum(batteries.soc_start - outcome.soc[:, -1], 0.0) * batteries.energy
    refill = network.base_mva * (missing / batteries.efficiency_charge).sum(axis=1)
    return np.asarray(outcome.regulation_mwh + refill)
