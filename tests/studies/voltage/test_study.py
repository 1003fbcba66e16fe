"""The voltage comparison: a drawn feeder whose optimum is known by hand, what is kept, what is
refused, what is printed.
"""

from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from feederguard.agents.learning.td3 import TD3Config
from feederguard.agents.safe_ddpg import LinearSafetyConfig
from feederguard.agents.safety_layer import SafetyLayer
from feederguard.agents.voltage_agent import VoltageAgentConfig
from feederguard.baselines.voltage.no_control import NoControl
from feederguard.baselines.voltage.optimum import VoltageOpf, VoltageOptimumError
from feederguard.models.arrays import FloatArray
from feederguard.models.battery import Batteries
from feederguard.models.network import Network
from feederguard.models.voltage_regulation import VoltageDays, simulate
from feederguard.studies import compare_methods
from feederguard.studies.compare_methods import CompareVoltage, parse
from feederguard.studies.running.journal import mark_written
from feederguard.studies.running.tasks import RunConfig
from feederguard.studies.trained import voltage_agents as trained_voltage_agents
from feederguard.studies.trained.voltage_agents import kept_tube, trained_voltage
from feederguard.studies.trained.voltage_makers import (
    SafeDdpgConfig,
    VoltageAgentConfigs,
    VoltageCourse,
)
from feederguard.studies.voltage import work as voltage_work
from feederguard.studies.voltage.bench import METHODS, VoltageBench, VoltageConfig
from feederguard.studies.voltage.study import compare_voltage
from feederguard.studies.voltage.tables import (
    VoltageResults,
    gap,
    print_tables,
    summarise,
    with_optimum,
    write_results,
)
from feederguard.studies.voltage.work import IdleSafe, day_table

# Of bus 1, V^2 - V + 0.1 p = 0: at 0.6 pu V = 0.936, at -0.6 pu 1.057; p = 0.475 and -0.525 are the
# band's ends.
HARD = [-0.6, -0.6, 0.1, 0.1, 0.6, 0.6, 0.1, 0.1]
CALM = [0.1] * 8
# By hand, hours of MWh: 0.125 twice at 95 % takes 0.26316 out of store, and charging 0.27701 puts
# it back.
OPTIMUM_KWH = 1e3 * (0.25 + 0.25 / 0.95**2)

TIMES = ["decision_ms", "decision_outside_ms", "training_s", "training_s_ci95"]


def pair() -> Network:
    """0 --r = 0.1-- 1 on 1 MVA, band 0.95..1.05."""
    zero = np.zeros(2)
    values: dict[str, Any] = {
        "name": "pair",
        "base_mva": 1.0,
        "bus_name": ("0", "1"),
        "vn_kv": zero + 10.0,
        "v_min": zero + 0.95,
        "v_max": zero + 1.05,
        "p_load": [0, 1.0],
        "q_load": zero,
        "p_gen": [0, 1.0],
        "q_gen": zero,
        "g_shunt": zero,
        "b_shunt": zero,
        "substation": [0],
        "v_substation": [1.0],
        "branch_name": ("l",),
        "kind": ("line",),
        "from_bus": [0],
        "to_bus": [1],
        "r": [0.1],
        "x": [0.0],
        "g_from": [0],
        "b_from": [0],
        "g_to": [0],
        "b_to": [0],
        "tap": [1],
        "shift": [0],
        "rating": [np.inf],
        "closed": [True],
        "open_end": [0],
    }
    return Network(**values)


def days(p: Any, first: str) -> VoltageDays:
    """Days (B, T) of net demand at bus 1, steps of an hour; below zero it is generation."""
    p = np.asarray(p, dtype=float)
    load, made = (np.stack([0 * p, np.maximum(side, 0)], axis=-1) for side in (p, -p))
    return VoltageDays(load, 0 * load, made, 1.0, np.datetime64(first) + np.arange(len(p)))


def toy() -> VoltageBench:
    batteries = Batteries([1], 0.5, 2.0, name=("b",))  # type: ignore[arg-type]
    return VoltageBench(
        "pair",
        pair(),
        batteries,
        days([HARD, CALM, HARD], "2016-02-01"),
        days([HARD, CALM, HARD], "2016-02-10"),
    )


def tiny() -> VoltageAgentConfigs:
    learner = TD3Config(hidden=(16,), warmup=16, batch=16, noise=0.1)
    agent = VoltageAgentConfig(learner=learner, num_envs=4, episodes=8, learn_steps=1)
    plain = replace(agent, learner=replace(learner, twin=False, policy_delay=1, target_noise=0.0))
    linear = LinearSafetyConfig(samples=64, hidden=(8,), epochs=2)
    whole = VoltageAgentConfigs()
    settings = {"batch_size": 16, "learning_starts": 16, "buffer_size": 1_000}
    sac = replace(whole.sac, steps=64, num_envs=2, hidden=(8,), settings=settings)
    ppo = replace(
        whole.ppo,
        steps=64,
        num_envs=2,
        hidden=(8,),
        settings={"n_steps": 16, "batch_size": 16, "n_epochs": 1},
    )
    return VoltageAgentConfigs(agent, agent, plain, SafeDdpgConfig(plain, linear), sac, ppo)


def compare(
    folder: Path,
    *methods: str,
    bench: VoltageBench | None = None,
    out: Console | None = None,
    **changes: Any,
) -> VoltageResults:
    chosen = VoltageConfig(methods=methods, agents=tiny(), **changes)
    journal = folder / "journal.sqlite"
    results = compare_voltage(
        chosen, folder / "kept", journal, RunConfig(1), out or console(), bench or toy()
    )
    mark_written(journal)
    return results


def console() -> Console:
    return Console(width=160, record=True, file=StringIO())


def in_rows(summary: pd.DataFrame) -> pd.DataFrame:
    return summary.set_index("method")


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> tuple[VoltageResults, pd.DataFrame]:
    """Everything that needs no further package, on the drawn feeder, two seeds."""
    names = tuple(name for name in METHODS if name not in ("sac", "ppo"))
    results = compare(tmp_path_factory.mktemp("all"), *names, seeds=2)
    return results, summarise(results)


def test_the_bound_is_the_one_by_hand(compared: tuple[VoltageResults, pd.DataFrame]) -> None:
    table = in_rows(compared[1])
    assert table.loc["ac_opf", "regulation_kwh_day"] == pytest.approx(2 / 3 * OPTIMUM_KWH, rel=1e-4)
    assert table.loc[
        "ac_opf", ["violation_steps", "worst_excess_pu", "soc_short_kwh_day"]
    ].to_list() == pytest.approx([0, 0, 0], abs=1e-5)
    assert table.loc["ac_opf", "gap_pct"] == pytest.approx(0.0, abs=1e-9)
    assert table.loc["ac_opf", "gap_days"] == 3
    # Without losses the sag is believed smaller than it is.
    assert table.loc["lindistflow_opf", "violation_steps"] == 4
    assert (
        table.loc["lindistflow_opf", "regulation_kwh_day"]
        < table.loc["ac_opf", "regulation_kwh_day"]
    )


def test_every_method_has_a_row_and_the_safe_ones_are_safe(
    compared: tuple[VoltageResults, pd.DataFrame],
) -> None:
    results, summary = compared
    table = in_rows(summary)
    assert list(table.index) == [name for name in METHODS if name not in ("sac", "ppo")]
    assert (table["days"] == 3).all() and (table["failed_days"] == 0).all()
    learned = ["ddpg", "td3", "safe_ddpg", "df_srl", "df_srl_no_tube"]
    assert table["seeds"].to_dict() == {name: 2 if name in learned else 1 for name in table.index}
    # Steps outside by hand: two of sun and two of evening on each of two days.
    assert table.loc["no_control", "violation_steps"] == 8
    assert table.loc["no_control", "violation_pct"] == pytest.approx(100 * 8 / 24)
    assert table.loc["no_control", "worst_excess_pu"] == pytest.approx(
        0.95 - (1 + np.sqrt(1 - 0.24)) / 2, abs=1e-6
    )
    assert np.isnan(table.loc["no_control", "gap_pct"])
    safe = ["df_srl", "df_srl_no_tube", "idle_safe"]
    assert (table.loc[safe, "violation_steps"] == 0).all()
    assert (table.loc[safe, "gap_pct"] > -0.1).all()
    assert (
        table.loc["df_srl", "training_violation_steps"]
        == 0
        < table.loc["ddpg", "training_violation_steps"]
    )
    # Inside the tube no energy is missing at the end of the day; without it nobody looks after it.
    assert table.loc["idle_safe", "soc_short_kwh_day"] == pytest.approx(0.0, abs=1e-3)
    assert table.loc["df_srl", "soc_short_kwh_day"] == pytest.approx(0.0, abs=1e-3)
    assert (table["decision_ms"] > 0).all()
    shares = table.filter(like="layer_").loc["idle_safe"]
    assert shares.sum() == pytest.approx(1.0) and shares["layer_corrected"] > 0
    assert table.filter(like="layer_").loc["droop"].isna().all()
    numbers = results.days.drop(columns=["method", "date", "note"])
    assert np.isfinite(numbers.to_numpy(dtype=float)).all()
    assert results.days["soc_lowest"].min() >= 0 and results.days["soc_highest"].max() <= 1


def test_days_of_random_actions_count_as_training(
    compared: tuple[VoltageResults, pd.DataFrame],
) -> None:
    table = in_rows(compared[1])
    # 64 random actions are 8 days, and the agent learns for 8 more.
    assert table.loc[["safe_ddpg", "ddpg"], "training_days"].to_list() == [16, 8]
    assert table.loc[["safe_ddpg", "ddpg"], "training_steps"].to_list() == [128, 64]
    first = compared[0].training.query("method == 'safe_ddpg' and seed == 0 and day <= 8")
    assert first["violation_steps"].sum() > 0
    assert (first["reward"] <= -1e-3 * first["regulation_kwh"] + 1e-6).all()


def test_the_intervals_are_student_s(compared: tuple[VoltageResults, pd.DataFrame]) -> None:
    results, summary = compared
    energy = results.days.query("method == 'ddpg'").groupby("seed")["regulation_kwh"].mean()
    line = in_rows(summary).loc["ddpg"]
    assert energy.nunique() == 2
    assert line["regulation_kwh_day"] == pytest.approx(energy.mean())
    # Two values: half their distance times t(0.975, 1) = 12.7062.
    assert line["regulation_kwh_day_ci95"] == pytest.approx(
        12.7062 * abs(energy[0] - energy[1]) / 2, rel=1e-4
    )
    assert np.isnan(in_rows(summary).loc["droop", "regulation_kwh_day_ci95"])


def test_missing_energy_is_charged_at_what_buying_it_back_draws() -> None:
    bench = toy()
    layer = SafetyLayer(bench.network, bench.batteries, 1.0)
    parts = [
        day_table(
            "idle_safe",
            0,
            bench,
            bench.test,
            simulate(bench.network, bench.batteries, bench.test, IdleSafe(layer)),
        ),
        day_table(
            "ac_opf",
            0,
            bench,
            bench.test,
            simulate(bench.network, bench.batteries, bench.test, optimum(bench)),
        ),
    ]
    table = with_optimum(pd.concat(parts))
    idle = table[table["method"] == "idle_safe"]
    # Twice 0.075 charged and 0.125 discharged; 0.26316 - 0.1425 is missing in store.
    assert idle["regulation_kwh"].to_list() == pytest.approx([400.0, 0.0, 400.0], abs=0.1)
    assert idle["soc_short_kwh"].to_list() == pytest.approx([120.66, 0.0, 120.66], abs=0.1)
    assert idle["energy_kwh"].to_list() == pytest.approx([OPTIMUM_KWH, 0.0, OPTIMUM_KWH], abs=0.1)
    # It moves the least that the band asks for, so with the energy bought back it is the optimum.
    percent, n_day = gap(idle)
    assert percent == pytest.approx(0.0, abs=0.05) and n_day == 3


def optimum(bench: VoltageBench) -> VoltageOpf:
    return VoltageOpf(bench.network, bench.batteries)


def test_the_gap_is_over_days_that_were_held() -> None:
    lines = [("ac_opf", d, 0, 10.0, 0.0) for d in (1, 2, 3)] + [("ac_opf", 4, 1, 1.0, 0.0)]
    lines += [
        ("some", 1, 0, 11.0, 1.0),
        ("some", 2, 3, 0.0, 0.0),
        ("some", 3, 0, 9.0, 4.0),
        ("some", 4, 0, 70.0, 0.0),
    ]
    names = ["method", "date", "violation_steps", "regulation_kwh", "refill_kwh"]
    table = with_optimum(pd.DataFrame(lines, columns=names))
    # Day 2 was not held by the method, day 4 not by the optimum: (12 + 13) / 20.
    assert gap(table[table["method"] == "some"]) == (pytest.approx(25.0), 2)
    assert np.isnan(gap(table[(table["method"] == "some") & (table["date"] == 2)])[0])
    alone = with_optimum(pd.DataFrame(lines[4:], columns=names))
    assert np.isnan(gap(alone)[0])


def test_same_seed_same_numbers_from_the_cache_or_trained(tmp_path: Path) -> None:
    told, tables = [], []
    names = ("ddpg", "safe_ddpg", "df_srl", "idle_safe", "ac_opf")
    for folder in ("a", "a", "b"):
        out = console()
        summary = summarise(compare(tmp_path / folder, *names, out=out))
        tables.append(summary.drop(columns=TIMES))
        told.append(out.export_text())
    for other in tables[1:]:
        pd.testing.assert_frame_equal(tables[0], other)
    for kind in ("ddpg", "safe_ddpg", "df_srl"):
        assert f"{kind}, seed 0: trained in" in told[0] and f"{kind}, seed 0: trained in" in told[2]
        assert f"{kind}, seed 0: from the cache, trained in" in told[1]
    other_seed = trained_voltage("ddpg", course(tmp_path / "a"), 1)
    assert not other_seed.cached


def course(cache: Path, **changes: Any) -> VoltageCourse:
    bench = toy()
    return replace(
        VoltageCourse("pair", bench.network, bench.batteries, bench.train, None, cache, tiny()),
        **changes,
    )


def test_everything_that_decides_an_agent_is_in_its_name(tmp_path: Path) -> None:
    def name(kind: str = "ddpg", seed: int = 0, **changes: Any) -> str:
        return trained_voltage(kind, course(tmp_path, **changes), seed).path.name

    bench = toy()
    tube = kept_tube(bench.network, bench.batteries, bench.train, tmp_path)
    other = replace(tiny(), ddpg=replace(tiny().ddpg, episodes=4))
    names = [
        name(),
        name(seed=1),
        name("td3"),
        name(configs=other),
        name(days=days([HARD, CALM], "2016-02-01")),
        name(batteries=Batteries([1], 0.4, 2.0, name=("b",))),  # type: ignore[arg-type]
        name(network=bench.network.with_changes(r=np.array([0.09]))),
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
    bench = toy()
    asked: list[int] = []
    compute = trained_voltage_agents.compute_soc_tube

    def counted(*arguments: Any) -> Any:
        asked.append(1)
        return compute(*arguments)

    monkeypatch.setattr(trained_voltage_agents, "compute_soc_tube", counted)
    tubes = [kept_tube(bench.network, bench.batteries, bench.train, tmp_path) for _ in range(2)]
    np.testing.assert_array_equal(tubes[0].low, tubes[1].low)
    np.testing.assert_array_equal(tubes[0].high, tubes[1].high)
    assert len(asked) == 1
    (kept,) = tmp_path.glob("soc_tube-pair-*.npz")
    kept.write_bytes(b"nothing of the kind")
    kept_tube(bench.network, bench.batteries, bench.train, tmp_path)
    kept_tube(bench.network, bench.batteries, bench.train[:2], tmp_path)
    assert len(asked) == 3


def test_a_run_prints_and_writes(tmp_path: Path) -> None:
    out = console()
    results = compare(tmp_path, "no_control", "df_srl", "df_srl_no_tube", "ac_opf")
    summary = summarise(results)
    print_tables(summary, results, out)
    paths = write_results(summary, results, tmp_path)
    printed = out.export_text()
    assert "Voltage regulation on pair: 3 test days, 24 steps" in printed
    assert "The same in training, exploration included" in printed
    assert (
        "df_srl_no_tube, its safety layer:" in printed
        and "bought" not in printed.split("outside: steps")[0]
    )
    assert [path.name for path in paths] == [
        "summary.csv",
        "times.csv",
        "days.parquet",
        "training.parquet",
        "schedules.npz",
        "soc_tube.csv",
        "learning_curves.png",
        "test_days.png",
    ]
    assert all(path.stat().st_size > 0 for path in paths)
    assert pd.read_csv(paths[0])["method"].to_list() == [
        "no_control",
        "df_srl",
        "df_srl_no_tube",
        "ac_opf",
    ]
    assert pd.read_csv(paths[1]).columns.to_list()[:2] == ["method", "training_s"]
    by_day = pd.read_parquet(paths[2])
    assert len(by_day) == 12 and by_day["optimum_kwh"].notna().all()
    assert len(pd.read_parquet(paths[3])) == 8
    tube = pd.read_csv(paths[5]).set_index(["policy", "tube", "days"])["steps_outside"]
    assert "What the SOC tube is worth, under the same safety layer" in printed
    # With the tube even a policy that empties the batteries holds the band, without it not.
    assert (tube.xs("with", level="tube") == 0).all()
    assert tube["discharges all it can", "without", "carried over"] > 0
    with np.load(paths[4]) as schedules:
        assert {name: schedules[name].shape for name in schedules} == dict.fromkeys(
            summary["method"], (3, 8, 1)
        )
        assert not schedules["no_control"].any() and schedules["ac_opf"][0].any()
    # A run without agents leaves no curves of an earlier one behind.
    plain = compare(tmp_path / "plain", "no_control")
    again = write_results(summarise(plain), plain, tmp_path)
    assert "learning_curves.png" not in [path.name for path in again] and not paths[6].exists()


def test_a_day_without_a_plan_is_told_of_and_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = VoltageOpf.plan

    def failing(self: VoltageOpf, asked: VoltageDays, soc: FloatArray) -> FloatArray:
        if asked.date[0] == np.datetime64("2016-02-12"):
            raise VoltageOptimumError("nothing holds that day")
        return plan(self, asked, soc)

    monkeypatch.setattr(VoltageOpf, "plan", failing)
    results = compare(tmp_path, "no_control", "ac_opf")
    table = in_rows(summarise(results))
    assert table.loc["ac_opf", "failed_days"] == 1 and table.loc["ac_opf", "violation_steps"] == 0
    # Of one hard day and one calm day.
    assert table.loc["ac_opf", "regulation_kwh_day"] == pytest.approx(OPTIMUM_KWH / 2, rel=1e-4)
    out = console()
    print_tables(summarise(results), results, out)
    assert "*ac_opf has no plan of 2016-02-12: nothing holds that day" in out.export_text()


def test_a_tube_that_cannot_be_is_left_out_aloud(tmp_path: Path) -> None:
    bench = replace(toy(), batteries=Batteries([1], 0.5, 0.3, name=("b",)))  # type: ignore[arg-type]
    out = console()
    results = compare(tmp_path, "no_control", "idle_safe", "df_srl_no_tube", bench=bench, out=out)
    assert "SOC tube left out, and df_srl_no_tube with it: pair:" in out.export_text()
    assert results.methods["method"].to_list() == ["no_control", "idle_safe"]


@pytest.mark.slow
def test_one_process_and_four_workers_write_the_same_files(tmp_path: Path) -> None:
    names = ("no_control", "droop", "ddpg", "df_srl", "idle_safe", "ac_opf")
    chosen = VoltageConfig(methods=names, days=12, agents=tiny())
    for workers in (1, 4):
        folder = tmp_path / str(workers)
        results = compare_voltage(
            chosen, folder / "kept", folder / "j.sqlite", RunConfig(workers), console()
        )
        write_results(summarise(results), results, folder)
    for name in ("summary.csv", "days.parquet", "training.parquet", "schedules.npz"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "4" / name).read_bytes()


def test_sac_and_ppo_learn_on_the_days_of_the_course(tmp_path: Path) -> None:
    """In the class behind the registered name; `test_sb3_agents.py` goes by the name itself."""
    pytest.importorskip("stable_baselines3")
    table = in_rows(summarise(compare(tmp_path, "sac", "ppo")))
    assert list(table.index) == ["sac", "ppo"]
    assert (table["training_days"] == 8).all() and (table["training_violation_steps"] > 0).all()


def test_what_is_missing_is_said_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trained_voltage_agents, "find_spec", lambda name: None)
    out = console()
    results = compare(tmp_path, "no_control", "sac", "ppo", out=out)
    told = out.export_text()
    for name in ("sac", "ppo"):
        assert (
            f"{name} left out: stable-baselines3 is not installed; pip install 'feederguard[sb3]'"
            in told
        )
    assert results.methods["method"].to_list() == ["no_control"]


def test_every_voltage_option_arrives() -> None:
    given = parse(
        [
            "--job",
            "voltage",
            "--feeder",
            "ieee33",
            "--methods",
            "droop",
            "ac_opf",
            "--seeds",
            "3",
            "--full",
            "--days",
            "5",
            "--workers",
            "1",
            "--output",
            "here",
            "--agents-cache",
            "there",
        ]
    )
    study = VoltageConfig("ieee33", ("droop", "ac_opf"), 3, True, 5)
    assert given == CompareVoltage(study, RunConfig(1), Path("here"), Path("there"))
    assert study.seed_numbers == (0, 1, 2)
    assert (
        len(VoltageConfig(full=True).seed_numbers) == 10 and len(VoltageConfig().seed_numbers) == 1
    )
    assert (
        VoltageConfig(full=True).agent_configs.td3.episodes
        > VoltageConfig().agent_configs.td3.episodes
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["--job", "voltage", "--methods", "misocp"],
            "unknown method 'misocp'; use no_control, droop, ddpg",
        ),
        (
            ["--job", "voltage", "--methods", "droop", "droop"],
            "methods is droop droop; name at least one, and each once",
        ),
        (["--job", "voltage", "--seeds", "0"], "seeds is 0; it must be at least 1"),
        (["--job", "voltage", "--days", "-2"], "days is -2; it must be at least 1"),
        (
            ["--job", "voltage", "--agents-cache", __file__],
            "test_study.py is a file; name a folder",
        ),
        (
            ["--job", "voltage", "--feeder", "bus70"],
            "error: no voltage case of feeder 'bus70'; bundled are cigre_lv18",
        ),
    ],
)
def test_wrong_voltage_options_end_with_one_sentence(
    arguments: list[str],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        compare_methods.main(arguments)
    assert stop.value.code == 2
    assert words in capsys.readouterr().err.strip().splitlines()[-1]
    assert not list(tmp_path.iterdir())


def test_the_command_line_runs_the_voltage_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(voltage_work, "_warm_up", lambda bench: None)
    monkeypatch.setattr(compare_methods, "warm_up", lambda: None)
    arguments = ["--job", "voltage", "--methods", "no_control", "--days", "2"]
    arguments += [
        "--output",
        str(tmp_path / "out"),
        "--agents-cache",
        str(tmp_path / "kept"),
        "--workers",
        "1",
    ]
    assert compare_methods.main(arguments) == 0
    assert "Voltage regulation on cigre_lv18: 2 test days, 192 steps" in capsys.readouterr().out
    assert (tmp_path / "out" / "summary.csv").exists()


def test_idle_batteries_are_judged_as_they_are(tmp_path: Path) -> None:
    bench = toy()
    table = day_table(
        "no_control",
        0,
        bench,
        bench.test,
        simulate(bench.network, bench.batteries, bench.test, NoControl()),
    )
    assert table["violation_steps"].to_list() == [4, 0, 4]
    assert table["grid_kwh"].to_list() == pytest.approx(
        (
            1e3 * bench.test.p_load.sum(axis=(1, 2))
            - 1e3 * bench.test.p_gen.sum(axis=(1, 2))
            + table["loss_kwh"]
        ).to_list(),
        abs=1e-4,
    )
    paths = write_results(*_single(table), tmp_path)
    assert [path.name for path in paths] == [
        "summary.csv",
        "times.csv",
        "days.parquet",
        "training.parquet",
        "schedules.npz",
        "test_days.png",
    ]


def _single(table: pd.DataFrame) -> tuple[pd.DataFrame, VoltageResults]:
    times = {
        "method": "no_control",
        "decision_s": 1e-3,
        "decision_outside_s": np.nan,
        "layer_corrected": np.nan,
    }
    names = [
        "method",
        "seed",
        "day",
        "steps",
        "violation_steps",
        "worst_excess_pu",
        "regulation_kwh",
        "reward",
        "training_s",
    ]
    results = VoltageResults("pair", table, pd.DataFrame(columns=names), pd.DataFrame([times]), {})
    return summarise(results), results
