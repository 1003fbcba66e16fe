"""The voltage comparison on a drawn feeder whose optimum is known by hand, and its command line.

`bench.py` and `work.py` are tested here.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from small_studies import quiet, tiny_voltage_agents, toy_bench

from feederguard.models.battery import Batteries
from feederguard.studies import compare_methods
from feederguard.studies.compare_methods import CompareVoltage, parse
from feederguard.studies.running.journal import mark_written
from feederguard.studies.running.tasks import RunConfig
from feederguard.studies.trained import voltage_agents as trained_voltage_agents
from feederguard.studies.trained.voltage_agents import trained_voltage
from feederguard.studies.trained.voltage_makers import (
    VoltageCourse,
)
from feederguard.studies.voltage import work as voltage_work
from feederguard.studies.voltage.bench import METHODS, VoltageBench, VoltageConfig
from feederguard.studies.voltage.study import compare_voltage
from feederguard.studies.voltage.tables import (
    VoltageResults,
    summarise,
    write_results,
)

# By hand, hours of MWh: 0.125 twice at 95 % takes 0.26316 out of store, and charging 0.27701 puts
# it back.
OPTIMUM_KWH = 1e3 * (0.25 + 0.25 / 0.95**2)


TIMES = ["decision_ms", "decision_outside_ms", "training_s", "training_s_ci95"]


def compare(
    folder: Path,
    *methods: str,
    bench: VoltageBench | None = None,
    out: Console | None = None,
    **changes: Any,
) -> VoltageResults:
    chosen = VoltageConfig(methods=methods, agents=tiny_voltage_agents(), **changes)
    journal = folder / "journal.sqlite"
    results = compare_voltage(
        chosen, folder / "kept", journal, RunConfig(1), out or quiet(160), bench or toy_bench()
    )
    mark_written(journal)
    return results


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


def test_same_seed_same_numbers_from_the_cache_or_trained(tmp_path: Path) -> None:
    told, tables = [], []
    names = ("ddpg", "safe_ddpg", "df_srl", "idle_safe", "ac_opf")
    for folder in ("a", "a", "b"):
        out = quiet(160)
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
    bench = toy_bench()
    return replace(
        VoltageCourse(
            "pair", bench.network, bench.batteries, bench.train, None, cache, tiny_voltage_agents()
        ),
        **changes,
    )


def test_a_tube_that_cannot_be_is_left_out_aloud(tmp_path: Path) -> None:
    bench = replace(toy_bench(), batteries=Batteries(np.array([1]), 0.5, 0.3, name=("b",)))
    out = quiet(160)
    results = compare(tmp_path, "no_control", "idle_safe", "df_srl_no_tube", bench=bench, out=out)
    assert "SOC tube left out, and df_srl_no_tube with it: pair:" in out.export_text()
    assert results.methods["method"].to_list() == ["no_control", "idle_safe"]


@pytest.mark.slow
def test_one_process_and_four_workers_write_the_same_files(tmp_path: Path) -> None:
    names = ("no_control", "droop", "ddpg", "df_srl", "idle_safe", "ac_opf")
    chosen = VoltageConfig(methods=names, days=12, agents=tiny_voltage_agents())
    for workers in (1, 4):
        folder = tmp_path / str(workers)
        results = compare_voltage(
            chosen, folder / "kept", folder / "j.sqlite", RunConfig(workers), quiet(160)
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
    out = quiet(160)
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
