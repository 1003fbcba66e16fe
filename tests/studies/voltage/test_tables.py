"""The tables of the voltage comparison: gap and intervals by hand, what is printed and written."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from small_studies import quiet, tiny_voltage_agents, toy_bench

from feederguard.agents.safety_layer import SafetyLayer
from feederguard.baselines.voltage.no_control import NoControl
from feederguard.baselines.voltage.optimum import VoltageOpf, VoltageOptimumError
from feederguard.models.arrays import FloatArray
from feederguard.models.voltage_regulation import VoltageDays, simulate
from feederguard.studies.running.journal import mark_written
from feederguard.studies.running.tasks import RunConfig
from feederguard.studies.voltage.bench import VoltageBench, VoltageConfig
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

# By hand, hours of MWh: 0.125 twice at 95 % takes 0.26316 out of store, and charging 0.27701 puts
# it back.
OPTIMUM_KWH = 1e3 * (0.25 + 0.25 / 0.95**2)


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


def test_the_intervals_are_student_s(tmp_path: Path) -> None:
    results = compare(tmp_path, "droop", "ddpg", seeds=2)
    summary = summarise(results)
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
    bench = toy_bench()
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


def test_a_run_prints_and_writes(tmp_path: Path) -> None:
    out = quiet(160)
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
    out = quiet(160)
    print_tables(summarise(results), results, out)
    assert "*ac_opf has no plan of 2016-02-12: nothing holds that day" in out.export_text()


def test_idle_batteries_are_judged_as_they_are(tmp_path: Path) -> None:
    bench = toy_bench()
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
