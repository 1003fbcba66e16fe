"""Trained voltage agents: what decides them is in their name, what they lived through is in their
record; and, slow, DF-SRL.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from feederguard.agents import safe_ddpg, voltage_agent
from feederguard.agents.learning.td3 import TD3Config
from feederguard.agents.safe_ddpg import LinearSafetyConfig
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
from feederguard.models.voltage_regulation import VoltageDays, VoltageOutcomes, simulate
from feederguard.studies.trained import voltage_agents as study
from feederguard.studies.trained.voltage_agents import kept_tube, trained_voltage
from feederguard.studies.trained.voltage_makers import (
    FULL_DAYS,
    MAKERS,
    SafeDdpgConfig,
    VoltageAgentConfigs,
    VoltageCourse,
    with_seed,
)

HARD = [-0.6, -0.6, 0.1, 0.1, 0.6, 0.6, 0.1, 0.1]


def course(cache: Path) -> VoltageCourse:
    """0 --r = 0.1-- 1 on 1 MVA, a battery at 1, days of eight hours, and agents that learn next to
    nothing.
    """
    zero, one = np.zeros(2), np.zeros(1)
    network = Network(
        name="pair",
        base_mva=1.0,
        bus_name=("0", "1"),
        vn_kv=zero + 10.0,
        v_min=zero + 0.95,
        v_max=zero + 1.05,
        p_load=np.array([0, 1.0]),
        q_load=zero,
        p_gen=np.array([0, 1.0]),
        q_gen=zero,
        g_shunt=zero,
        b_shunt=zero,
        substation=np.array([0]),
        v_substation=np.array([1.0]),
        branch_name=("l",),
        kind=("line",),
        from_bus=np.array([0]),
        to_bus=np.array([1]),
        r=one + 0.1,
        x=one,
        g_from=one,
        b_from=one,
        g_to=one,
        b_to=one,
        tap=one + 1,
        shift=one,
        rating=one + np.inf,
        closed=np.array([True]),
        open_end=np.array([0]),
    )
    p = np.array([HARD, [0.1] * 8])
    load, made = (np.stack([0 * p, np.maximum(side, 0)], axis=-1) for side in (p, -p))
    days = VoltageDays(load, 0 * load, made, 1.0, np.datetime64("2016-02-01") + np.arange(2))
    agent = VoltageAgentConfig(
        TD3Config(hidden=(8,), warmup=16, batch=16), num_envs=4, episodes=8, learn_steps=1
    )
    plain = replace(
        agent, learner=replace(agent.learner, twin=False, policy_delay=1, target_noise=0.0)
    )
    whole = VoltageAgentConfigs()
    settings = {"batch_size": 16, "learning_starts": 8, "buffer_size": 1_000}
    configs = VoltageAgentConfigs(
        agent,
        agent,
        plain,
        SafeDdpgConfig(plain, LinearSafetyConfig(samples=64, hidden=(8,), epochs=2)),
        replace(whole.sac, steps=36, num_envs=2, hidden=(8,), settings=settings),
        replace(
            whole.ppo,
            steps=32,
            num_envs=2,
            hidden=(8,),
            settings={"n_steps": 16, "batch_size": 16, "n_epochs": 1},
        ),
    )
    return VoltageCourse(
        "pair", network, Batteries.at(network, ["1"], 0.5, 2.0), days, None, cache, configs
    )


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
    """No bundled case is called pair: network, batteries and days are the course's own. SAC stops
    in its third day.
    """
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


@pytest.mark.slow
def test_df_srl_is_safe_in_training_and_test_and_near_the_optimum(tmp_path: Path) -> None:
    """On cigre_lv18, trained as the study does: no violation ever, and at most a tenth above the AC
    optimum's energy.
    """
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
