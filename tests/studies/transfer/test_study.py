"""The load-transfer study: what is decided, resumed and trained, and what a failure leaves.

`tables.py` is tested here.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from small_studies import quiet, tiny_agents

from feederguard.baselines.genetic import Genetic, GeneticConfig
from feederguard.baselines.no_transfer import NoTransfer
from feederguard.models.load_transfer import Decisions, Scenarios
from feederguard.models.solver import NotSolvedError, Solution
from feederguard.studies.running.journal import mark_written
from feederguard.studies.running.tasks import RunConfig
from feederguard.studies.transfer.study import (
    METHODS,
    TransferBench,
    TransferConfig,
    compare_transfer,
)
from feederguard.studies.transfer.tables import (
    TransferResults,
    print_tables,
    summarise,
    write_results,
)

TIMES = ["seconds_mean", "seconds_p99", "training_s"]


class Failing:
    """Answers like `no_transfer`, but for the faults it is told to fail on."""

    name = "failing"

    def __init__(self, inner: NoTransfer, fails: list[int]) -> None:
        self.inner, self.fails, self.asked = inner, fails, 0

    def decide(self, scenarios: Scenarios) -> Decisions:
        self.asked += 1
        if self.asked - 1 in self.fails:
            nothing = Solution("none", "time_limit", np.nan, -np.inf, 1.0, "scip", "hand-made")
            raise NotSolvedError("no decision within 1 s; raise time_limit_s", nothing)
        return self.inner.decide(scenarios)


@pytest.fixture
def small_genetic(monkeypatch: pytest.MonkeyPatch) -> None:
    small = GeneticConfig(population=20, generations=5)
    monkeypatch.setitem(
        METHODS,
        "genetic",
        lambda bench, setting: Genetic(bench.network, setting, small, bench.config.seed),
    )


def add_failing(monkeypatch: pytest.MonkeyPatch, fails: list[int]) -> None:
    monkeypatch.setitem(
        METHODS, "failing", lambda bench, setting: Failing(NoTransfer(bench.network), fails)
    )


def compare(
    config: TransferConfig, folder: Path, console: Console | None = None
) -> TransferResults:
    journal = folder / "journal.sqlite"
    results = compare_transfer(
        config, folder / "kept", journal, RunConfig(1), console or Console(quiet=True)
    )
    mark_written(journal)
    return results


def test_the_same_seed_gives_the_same_table(small_genetic: None, tmp_path: Path) -> None:
    def files(seed: int, name: str) -> list[bytes]:
        config = TransferConfig(scenarios=2, methods=("no_transfer", "genetic"), seed=seed)
        results = compare(config, tmp_path / name)
        write_results(results, summarise(results), tmp_path / name)
        return [
            (tmp_path / name / file).read_bytes() for file in ("summary.csv", "decisions.parquet")
        ]

    first = files(1, "a")
    assert first == files(1, "b")
    assert first != files(2, "c")


def test_a_resumed_study_asks_only_for_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    class Interrupted(NoTransfer):
        def decide(self, scenarios: Scenarios) -> Decisions:
            calls.append(1)
            if len(calls) == 4:
                raise KeyboardInterrupt
            return super().decide(scenarios)

    monkeypatch.setitem(METHODS, "interrupted", lambda bench, setting: Interrupted(bench.network))
    config = TransferConfig(scenarios=12, methods=("no_transfer", "interrupted"), setting="radial")
    console = quiet()
    with pytest.raises(KeyboardInterrupt):
        compare(config, tmp_path, console)
    assert (
        "stopped: 2 of 4 tasks are left; the same command with --resume goes on from here"
        in console.export_text()
    )
    journal = tmp_path / "journal.sqlite"
    results = compare_transfer(
        config, tmp_path / "kept", journal, RunConfig(1, None, True), console
    )
    assert len(calls) == 4 + 12
    whole = compare(config, tmp_path / "whole")
    pd.testing.assert_frame_equal(results.decisions, whole.decisions)


def test_a_study_in_which_everything_fails_still_reports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_failing(monkeypatch, [0, 1])
    config = TransferConfig(scenarios=2, methods=("failing",), setting="radial")
    console = Console(width=100, record=True, quiet=True)
    results = compare(config, tmp_path, console)
    summary = summarise(results)
    print_tables(summary, "ieee33", 2, console)
    assert all(path.exists() for path in write_results(results, summary, tmp_path))
    assert summary["failed"].tolist() == [2]
    assert summary["safe_pct"].tolist() == [0.0]
    assert summary["gap_pct"].isna().all()


def test_too_many_ties_leave_enumeration_out_and_say_so(tmp_path: Path) -> None:
    console = quiet()
    config = TransferConfig(
        "mantovani136",
        1,
        methods=("no_transfer", "enumeration"),
        setting="paper",
        paper_limit_mw=1.0,
    )
    jobs = list(TransferBench(config, tmp_path).jobs(console))
    assert [name for _, name in jobs] == ["no_transfer"]
    assert "enumeration left out: 21 ties make too many states" in console.export_text()


def learning(**changes: Any) -> TransferConfig:
    config = TransferConfig(
        scenarios=3,
        methods=("ddpg", "ddpg_corrected", "ddpg_safe", "ranked_switching", "plan_search"),
        setting="paper",
        train_scenarios=24,
        agents=tiny_agents(),
    )
    return replace(config, **changes)


def test_agents_are_trained_kept_and_compared(tmp_path: Path) -> None:
    consoles = [quiet() for _ in range(3)]
    tables, curves = [], []
    for console, folder in zip(consoles, ("a", "a", "b"), strict=True):
        results = compare(learning(), tmp_path / folder, console)
        summary = summarise(results)
        print_tables(summary, "ieee33", 3, console)
        write_results(results, summary, tmp_path / folder)
        tables.append(summary)
        curves.append((tmp_path / folder / "training.parquet").read_bytes())
    first, again, elsewhere = (console.export_text() for console in consoles)
    for kind in ("ddpg", "ddpg_corrected", "ranked_switching"):
        assert (
            f"{kind}, paper setting: trained in" in first
            and f"{kind}, paper setting: trained in" in elsewhere
        )
        assert f"{kind}, paper setting: from the cache, trained in" in again
    assert "every state was tried" in first
    assert curves[0] == curves[1] == curves[2]
    kept = pd.read_parquet(tmp_path / "a" / "training.parquet")
    points = kept.groupby(["method", "unit"])["x"].apply(list).to_dict()
    assert points == {
        ("ddpg", "decisions"): [8, 16, 24],
        ("ddpg_corrected", "decisions"): [8, 16, 24],
        ("ranked_switching", "epochs"): [1, 2],
    }
    for other in tables[1:]:
        pd.testing.assert_frame_equal(tables[0].drop(columns=TIMES), other.drop(columns=TIMES))
    table = tables[0].set_index("method")
    assert table.loc["ddpg_safe", "training_s"] == table.loc["ddpg", "training_s"] > 0
    assert np.isnan(table.loc["plan_search", "training_s"])
    assert (
        table.loc[["ddpg_corrected", "ddpg_safe", "ranked_switching", "plan_search"], "safe_pct"]
        == 100
    ).all()
    # Nothing was enumerated, so the search that tried every state is what the others are measured
    # by.
    assert table.loc["plan_search", "gap_pct"] == pytest.approx(0.0, abs=1e-9)
    assert table.loc["ddpg_safe", "gap_pct"] > 0


def test_a_damaged_agent_is_told_of_in_one_sentence(tmp_path: Path) -> None:
    config = learning(methods=("ranked_switching",))
    compare(config, tmp_path)
    (damaged,) = (tmp_path / "kept").glob("ranked_switching-ieee33-paper-*.safetensors")
    damaged.write_bytes(b"nothing of the kind")
    console = quiet(300)
    compare(config, tmp_path, console)
    told = [
        line
        for line in console.export_text().splitlines()
        if "not a whole safetensors file" in line
    ]
    assert len(told) == 1 and told[0].rstrip().endswith("trained anew")


def test_what_was_enumerated_is_the_reference_before_what_was_searched(tmp_path: Path) -> None:
    config = TransferConfig(
        scenarios=2, methods=("plan_search", "enumeration"), setting="paper", seed=1
    )
    results = compare(config, tmp_path)
    total = results.decisions.groupby("method")["cost"].sum()
    summary = summarise(results).set_index("method")
    assert summary.loc["enumeration", "gap_pct"] == pytest.approx(0.0, abs=1e-9)
    assert summary.loc["plan_search", "gap_pct"] == pytest.approx(
        100 * (total["plan_search"] / total["enumeration"] - 1)
    )
