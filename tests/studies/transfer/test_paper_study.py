"""The study behind the paper's tables: its files, its tasks, and what it refuses."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from small_studies import quiet, tiny_agents

from feederguard.baselines.genetic import GeneticConfig
from feederguard.data.networks import load_network
from feederguard.models.network import NetworkError
from feederguard.studies import compare_methods
from feederguard.studies.compare_methods import ComparePaper, parse
from feederguard.studies.running.journal import Tables
from feederguard.studies.running.tasks import RunConfig
from feederguard.studies.transfer import paper_study
from feederguard.studies.transfer.paper_study import (
    Bench,
    Job,
    PaperTablesConfig,
    make_tables,
)
from feederguard.studies.transfer.paper_tables import METHODS

TINY = tiny_agents()


def tiny(**changes: object) -> PaperTablesConfig:
    config = PaperTablesConfig(
        seeds=2,
        scenarios=8,
        genetic_scenarios=2,
        timed_scenarios=2,
        tables_feeders=("ieee33",),
        train_scenarios=24,
        agents=TINY,
        genetic=GeneticConfig(population=20, generations=3),
    )
    return replace(config, **changes)  # type: ignore[arg-type]


def make(
    folder: Path, config: PaperTablesConfig, console: Console, resume: bool = False
) -> list[Path]:
    return make_tables(
        config, folder / "out", folder / "agents", RunConfig(1, None, resume), console
    )


def test_all_methods_stand_beside_the_paper_and_more_seeds_ask_for_no_more_than_that(
    tmp_path: Path,
) -> None:
    config, console = tiny(), quiet()
    markdown, numbers, times, page, _ = make(tmp_path, config, console)
    printed, text = console.export_text(), markdown.read_text()
    assert "agents: 6 trained" in printed
    for number in range(1, 6):
        assert f"Table {number}" in printed and f"## Table {number}" in text
    assert "8.20 ± 0.66" in text and "587.24" in text and "98.13 ± 1.55" in text
    assert "genetic: the first 2" in text and "ieee33 0" in text

    table = pd.read_csv(numbers).set_index("method")
    assert list(table.index) == list(METHODS)
    assert table["seeds"].tolist() == [2, 2, 2, 2, 2, 1]
    assert table["scenarios"].tolist() == [2, 8, 8, 8, 8, 8]
    best = table.loc["plan_search"]
    assert best["gap_pct"] == best["gap_low_pct"] == best["gap_high_pct"] == 0.0
    assert np.isnan(best["cost_std"]) and best["safe_pct"] == 100.0
    assert (
        table.loc[["ddpg_corrected", "ddpg_safe", "ranked_switching"], "safe_pct"] == 100.0
    ).all()
    assert table.loc["ranked_switching", "gap_pct"] >= -1e-3
    assert table.loc["ddpg_safe", "gap_low_pct"] <= table.loc["ddpg_safe", "gap_pct"]
    assert best["reward_of_mean_cost_x1e-4"] == pytest.approx(1e4 / (best["cost"] + 1))
    assert not [name for name in table.columns if name.startswith(("seconds", "training"))]
    assert (pd.read_csv(times)["seconds"] > 0).all()
    assert "98.13 ± 1.55" in page.read_text()

    # Of three seeds two are there already; the tables of two come out the same from what is kept.
    again = quiet()
    make(tmp_path, replace(config, seeds=3), again, resume=True)
    assert "9 of 13 tasks are done already" in again.export_text()
    assert pd.read_csv(numbers)["seeds"].tolist() == [3, 3, 3, 3, 3, 1]
    make(tmp_path, config, quiet(), resume=True)
    pd.testing.assert_frame_equal(pd.read_csv(numbers).set_index("method"), table)


def test_a_run_that_was_stopped_says_so_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, console = tiny(methods=("genetic", "plan_search")), quiet()
    work, asked = paper_study.work, []

    def stopping(bench: Bench, job: Job) -> Tables:
        asked.append(job)
        if len(asked) == 3:
            raise KeyboardInterrupt
        return work(bench, job)

    monkeypatch.setattr(paper_study, "work", stopping)
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path, config, console)
    assert (
        "stopped: 1 of 3 tasks are left; the same command with --resume goes on from here"
        in console.export_text()
    )
    make(tmp_path, config, console, resume=True)
    assert asked[2:] == [Job("ieee33", ("genetic",), 1)] * 2


def test_the_key_stands_for_what_decides_and_is_not_in_the_names(tmp_path: Path) -> None:
    def key(**changes: object) -> str:
        return repr(Bench(tiny(**changes), tmp_path).key())

    assert key(seeds=5) == key(methods=("genetic",)) == key()
    other = replace(TINY, ranked_switching=replace(TINY.ranked_switching, epochs=1))
    changed = [
        key(scenarios=9),
        key(pv_share=0.2),
        key(train_scenarios=25),
        key(agents=other),
        key(genetic_scenarios=3),
        key(genetic=GeneticConfig(population=22)),
        key(timed_scenarios=3),
    ]
    assert len({key(), *changed}) == 1 + len(changed)


def test_the_genetic_algorithm_runs_on_the_first_feeder_only(tmp_path: Path) -> None:
    jobs = list(Bench(tiny(seeds=3, tables_feeders=("bus69_zhou", "ieee33")), tmp_path).jobs())
    assert jobs[:2] == [Job("bus69_zhou", ("plan_search",), 0), Job("ieee33", ("plan_search",), 0)]
    assert {job.feeder for job in jobs if job.methods == ("genetic",)} == {"ieee33"}
    assert [
        job.seed for job in jobs if job.methods == ("ddpg", "ddpg_safe") and job.feeder == "ieee33"
    ] == [0, 1, 2]


def test_a_feeder_without_its_limit_is_a_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = (
        "mantovani136: the paper setting needs a uniform active-power limit and this feeder has "
        "none"
    )
    assert np.isinf(load_network("mantovani136").paper_limit_mw)
    with pytest.raises(NetworkError, match=words):
        Bench(tiny(tables_feeders=("mantovani136",)), tmp_path)
    arguments = [
        "--tables",
        "paper",
        "--tables-feeders",
        "mantovani136",
        "--output",
        str(tmp_path / "out"),
    ]
    with pytest.raises(SystemExit) as stop:
        compare_methods.main(arguments)
    assert stop.value.code == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_from_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        "--tables",
        "paper",
        "--methods",
        "plan_search",
        "--scenarios",
        "3",
        "--tables-feeders",
        "ieee33",
    ]
    arguments += [
        "--workers",
        "1",
        "--output",
        str(tmp_path / "out"),
        "--agents-cache",
        str(tmp_path / "agents"),
    ]
    monkeypatch.setattr(compare_methods, "warm_up", lambda: None)
    assert compare_methods.main(arguments) == 0
    assert "Table 5: what the paper lacks" in capsys.readouterr().out
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == [
        "journal.sqlite",
        "paper_tables.csv",
        "paper_tables.md",
        "report.html",
        "report.md",
        "times.csv",
    ]


def test_options_arrive_and_wrong_ones_end_with_one_sentence(
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = parse(
        [
            "--tables",
            "paper",
            "--seeds",
            "1",
            "--scenarios",
            "20",
            "--tables-feeders",
            "ieee33",
            "bus69_zhou",
            "--genetic-scenarios",
            "5",
            "--methods",
            "ddpg",
            "--train-scenarios",
            "50",
        ]
    )
    assert isinstance(given, ComparePaper)
    assert given.paper == PaperTablesConfig(
        1, 20, 5, tables_feeders=("ieee33", "bus69_zhou"), methods=("ddpg",), train_scenarios=50
    )
    for arguments, words in (
        (["--seeds", "0"], "seeds is 0; it must be at least 1"),
        (
            ["--methods", "misocp"],
            "method 'misocp' is not in the paper's tables; use genetic, ddpg",
        ),
        (
            ["--tables-feeders", "ieee33", "ieee33"],
            "tables_feeders is ieee33 ieee33; name at least one, and each once",
        ),
    ):
        with pytest.raises(SystemExit) as stop:
            parse(["--tables", "paper", *arguments])
        assert stop.value.code == 2
        assert words in capsys.readouterr().err
