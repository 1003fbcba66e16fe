"""The main study as a person runs it: its options, its refusals, its files, and what one failure
may not spoil.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pytest
from rich.console import Console

from feederguard.agents.ddpg_transfer import DdpgTransferConfig
from feederguard.agents.learning.td3 import TD3Config
from feederguard.agents.ranked_switching import RankedSwitchingConfig
from feederguard.baselines.genetic import Genetic, GeneticConfig
from feederguard.baselines.no_transfer import NoTransfer
from feederguard.models.load_transfer import Decisions, Scenarios
from feederguard.models.solver import NotSolvedError, Solution
from feederguard.studies import compare_methods
from feederguard.studies.compare_methods import (
    CompareBoth,
    ComparePaper,
    CompareTransfer,
    CompareVoltage,
    parse,
)
from feederguard.studies.running.journal import mark_written
from feederguard.studies.running.tasks import RunConfig
from feederguard.studies.trained.transfer_agents import AgentConfigs
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

ROOT = Path(__file__).resolve().parents[2]
TINY = ["--job", "transfer", "--scenarios", "2", "--workers", "1", "--seed", "1"]
TIMES = ["seconds_mean", "seconds_p99", "training_s"]

SUMMARY = {
    "setting",
    "method",
    "cost",
    "reward_x1e-4",
    "shed_ratio",
    "switch_operations",
    "connected_pct",
    "converged_pct",
    "safe_pct",
    "gap_pct",
}
DECISIONS = {
    "setting",
    "method",
    "scenario",
    "fault_branch",
    "hour",
    "load_mw",
    "cost",
    "reward",
    "shed_ratio",
    "switch_operations",
    "connected",
    "converged",
    "safe",
    "v_min_pu",
    "max_loading",
    "bound",
    "repaired",
    "note",
    "closed_branches",
    "opened_branches",
    "shed_mw",
}


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


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    if "--output" in arguments:
        arguments = (
            *arguments,
            "--agents-cache",
            str(Path(arguments[arguments.index("--output") + 1]).parent / "kept"),
        )
    monkeypatch.setattr(compare_methods, "warm_up", lambda: None)
    assert compare_methods.main(arguments) == 0


def compare(
    config: TransferConfig, folder: Path, console: Console | None = None
) -> TransferResults:
    journal = folder / "journal.sqlite"
    results = compare_transfer(
        config, folder / "kept", journal, RunConfig(1), console or Console(quiet=True)
    )
    mark_written(journal)
    return results


def refusal(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The last line that a refused command line leaves on standard error."""
    with pytest.raises(SystemExit) as stop:
        parse(arguments)
    assert stop.value.code == 2
    return " ".join(capsys.readouterr().err.replace("│", " ").split())


def test_no_argument_is_both_jobs() -> None:
    assert parse([]) == CompareBoth()
    config = CompareBoth().transfer
    assert (config.feeder, config.scenarios, config.setting) == ("ieee33", 60, "both")
    assert config.methods == tuple(METHODS)
    assert list(METHODS) == [
        "no_transfer",
        "genetic",
        "ddpg",
        "ddpg_corrected",
        "ddpg_safe",
        "ranked_switching",
        "plan_search",
        "misocp",
        "enumeration",
    ]
    given = parse(
        ["--transfer.scenarios", "3", "--voltage.days", "2", "--workers", "4", "--resume"]
    )
    assert isinstance(given, CompareBoth)
    assert (given.transfer.scenarios, given.voltage.days, given.run) == (
        3,
        2,
        RunConfig(4, None, True),
    )
    assert (
        parse(["--job", "transfer"]) == CompareTransfer()
        and parse(["--job", "voltage"]) == CompareVoltage()
    )
    assert parse(["--tables", "paper"]) == ComparePaper()


def test_every_option_arrives() -> None:
    given = parse(
        [
            "--job",
            "transfer",
            "--feeder",
            "bus69",
            "--scenarios",
            "3",
            "--methods",
            "misocp",
            "genetic",
            "--setting",
            "radial",
            "--pv-share",
            "0.1",
            "--seed",
            "9",
            "--time-limit-s",
            "2.5",
            "--workers",
            "1",
            "--output",
            "here/there",
            "--profiles",
            "load.csv",
            "--train-scenarios",
            "70",
            "--agents-cache",
            "kept",
            "--paper-limit-mw",
            "1.5",
            "--scheduler",
            "tcp://there:8786",
        ]
    )
    study = TransferConfig(
        "bus69", 3, ("misocp", "genetic"), "radial", "load.csv", 0.1, 9, 2.5, 1.5, 70
    )
    assert given == CompareTransfer(
        study, RunConfig(1, "tcp://there:8786"), Path("here/there"), Path("kept")
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--methods", "misocp", "ppo"], "unknown method 'ppo'; use no_transfer, genetic, ddpg"),
        (["--setting", "meshed"], "unknown setting 'meshed'; use paper, radial or both"),
        (["--scenarios", "0"], "scenarios is 0; compare on at least one"),
        (
            ["--scenarios", "many"],
            "Error parsing --scenarios: invalid literal for int() with base 10: 'many'",
        ),
        (["--workers", "0"], "workers is 0; use at least one process"),
        (["--time-limit-s", "-1"], "time_limit_s is -1.0; it must be positive"),
        (["--train-scenarios", "0"], "train_scenarios is 0; train on at least one"),
        (["--tables", "mine"], "argument --tables: invalid choice: 'mine'"),
        (["--time-limit-s", "nan"], "time_limit_s is nan; it must be positive"),
        (["--feedr", "ieee33"], "Unrecognized options: --feedr"),
        (["--jo", "voltage"], "Unrecognized options: --jo"),
        (["--job", "voltages"], "argument --job: invalid choice: 'voltages'"),
        (["--job", "voltage", "--setting", "radial"], "Unrecognized options: --setting"),
    ],
)
def test_wrong_options_end_with_one_sentence(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    job = (
        []
        if any(text.startswith(("--job", "--jo", "--tables")) for text in arguments)
        else ["--job", "transfer"]
    )
    assert words in refusal([*job, *arguments], capsys)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--feeder", "ieee34"], ("ieee34", "ieee33")),
        (["--feeder", "nowhere/net.json"], ("nowhere/net.json",)),
        (["--profiles", "simbench_1999"], ("unknown profiles 'simbench_1999'", "simbench_2016")),
        (["--pv-share", "-1"], ("pv_share is -1.0; it must be zero or more",)),
        (["--output", __file__], ("test_compare_methods.py is a file; name a folder",)),
    ],
)
def test_wrong_files_and_names_end_with_one_sentence(
    arguments: list[str],
    words: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as stop:
        run(monkeypatch, *TINY, "--output", str(tmp_path / "out"), *arguments)
    assert stop.value.code == 2
    printed = capsys.readouterr().err
    error = [text for text in printed.splitlines() if text.startswith("error:")]
    assert len(error) == 1
    for word in words:
        assert word in error[0]
    assert not (tmp_path / "out").exists() and not (tmp_path / "kept").exists()


def test_as_a_program_an_unknown_feeder_exits_with_2(tmp_path: Path) -> None:
    program = [sys.executable, str(ROOT / "studies" / "compare_methods.py")]
    done = subprocess.run(
        [*program, "--job", "transfer", "--feeder", "ieee34", "--output", str(tmp_path / "out")],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 2
    assert "error:" in done.stderr and "ieee34" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_a_run_writes_table_decisions_and_figure(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    small_genetic: None,
) -> None:
    run(
        monkeypatch,
        *TINY,
        "--methods",
        "no_transfer",
        "genetic",
        "enumeration",
        "--output",
        str(tmp_path / "out"),
    )
    printed = capsys.readouterr().out
    assert "Load transfer on ieee33, paper setting, 2 test scenarios" in printed
    assert "Load transfer on ieee33, radial setting, 2 test scenarios" in printed
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "cost.png",
        "decisions.parquet",
        "journal.sqlite",
        "report.html",
        "report.md",
        "summary.csv",
        "times.csv",
        "times.parquet",
        "training.parquet",
    ]

    summary = pd.read_csv(tmp_path / "out" / "summary.csv")
    assert set(summary.columns) >= SUMMARY
    assert list(zip(summary["setting"], summary["method"], strict=True)) == [
        ("paper", "no_transfer"),
        ("paper", "genetic"),
        ("paper", "enumeration"),
        ("radial", "no_transfer"),
        ("radial", "genetic"),
    ]
    best = summary[summary["method"] == "enumeration"].iloc[0]
    assert best["gap_pct"] == pytest.approx(0.0, abs=1e-6)
    assert best["safe_pct"] == best["converged_pct"] == 100.0
    assert summary[summary["setting"] == "radial"]["gap_pct"].isna().all()

    decisions = pd.read_parquet(tmp_path / "out" / "decisions.parquet")
    assert set(decisions.columns) >= DECISIONS
    assert len(decisions) == 10
    assert (
        decisions.groupby(["setting", "method"])["scenario"].apply(list).map(lambda k: k == [0, 1])
    ).all()
    # Every method met the same faults.
    assert (decisions.groupby("scenario")["fault_branch"].nunique() == 1).all()
    assert (decisions.groupby("scenario")["hour"].nunique() == 1).all()
    # The table is the mean of the decisions, and the shed powers add up to the ratio wherever
    # nothing is dark.
    means = decisions.groupby(["setting", "method"])["cost"].mean()
    for line in summary.to_dict("records"):
        assert line["cost"] == pytest.approx(means[line["setting"], line["method"]])
    for row in decisions[(decisions["method"] == "enumeration") & decisions["connected"]].to_dict(
        "records"
    ):
        shed = sum(float(part.split(":")[1]) for part in row["shed_mw"].split())
        assert shed == pytest.approx(row["shed_ratio"] * row["load_mw"], rel=1e-4)
    assert (tmp_path / "out" / "cost.png").read_bytes().startswith(b"\x89PNG")


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
    console = Console(width=200, record=True, file=StringIO())
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


def test_one_failure_does_not_lose_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    add_failing(monkeypatch, [1])
    run(
        monkeypatch,
        "--job",
        "transfer",
        "--scenarios",
        "3",
        "--workers",
        "1",
        "--setting",
        "radial",
        "--methods",
        "no_transfer",
        "failing",
        "--output",
        str(tmp_path),
    )
    assert (
        "failing: 0 decision(s) made AC-exact after solving, 1 scenario(s) without a decision"
        in capsys.readouterr().out
    )
    rows = pd.read_parquet(tmp_path / "decisions.parquet")
    assert len(rows) == 6
    failing = rows[rows["method"] == "failing"].set_index("scenario")
    assert failing.loc[1, "note"] == "no decision within 1 s; raise time_limit_s"
    assert failing["cost"].isna().tolist() == [False, True, False]
    assert not failing["safe"].tolist()[1]
    idle = rows[rows["method"] == "no_transfer"].set_index("scenario")
    for k in (0, 2):
        assert failing.loc[k, "cost"] == pytest.approx(idle.loc[k, "cost"])
    summary = pd.read_csv(tmp_path / "summary.csv").set_index("method")
    assert summary.loc["failing", "failed"] == 1
    assert summary.loc["failing", "cost"] == pytest.approx(idle.loc[[0, 2], "cost"].mean())
    # A scenario without a decision is not a safe one.
    assert summary["safe_pct"].tolist()[1] == pytest.approx(
        100 * failing["safe"].loc[[0, 2]].sum() / 3
    )


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
    console = Console(width=200, record=True, file=StringIO())
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
    ddpg = DdpgTransferConfig(
        learner=TD3Config.ddpg(hidden=(16,), warmup=8, batch=8), steps=3, num_envs=8
    )
    agents = AgentConfigs(
        ddpg, ddpg, RankedSwitchingConfig(search_beam=2, search_rounds=1, hidden=8, epochs=2)
    )
    config = TransferConfig(
        scenarios=3,
        methods=("ddpg", "ddpg_corrected", "ddpg_safe", "ranked_switching", "plan_search"),
        setting="paper",
        train_scenarios=24,
        agents=agents,
    )
    return replace(config, **changes)


def test_agents_are_trained_kept_and_compared(tmp_path: Path) -> None:
    consoles = [Console(width=200, record=True, file=StringIO()) for _ in range(3)]
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
    console = Console(width=300, record=True, file=StringIO())
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


def tables(folder: Path) -> list[bytes]:
    return [
        (folder / name).read_bytes()
        for name in ("summary.csv", "decisions.parquet", "training.parquet")
    ]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], list[bytes]]:
    """The command line of a real study of a minute, agents trained on the way, and the tables of
    one process.
    """
    folder = tmp_path_factory.mktemp("whole")
    program = [
        sys.executable,
        str(ROOT / "studies" / "compare_methods.py"),
        "--job",
        "transfer",
        "--scenarios",
        "30",
    ]
    program += [
        "--train-scenarios",
        "300",
        "--methods",
        "no_transfer",
        "genetic",
        "ranked_switching",
        "plan_search",
    ]
    subprocess.run([*program, *places(folder), "--workers", "1"], check=True, capture_output=True)
    return program, tables(folder)


def places(folder: Path) -> list[str]:
    return ["--output", str(folder), "--agents-cache", str(folder / "agents")]


@pytest.mark.slow
def test_four_workers_write_the_files_of_one_process_even_if_one_is_killed(
    undisturbed: tuple[list[str], list[bytes]], tmp_path: Path
) -> None:
    program, whole = undisturbed
    child = subprocess.Popen(
        [*program, *places(tmp_path), "--workers", "4"], stdout=subprocess.DEVNULL
    )
    killed = False
    while child.poll() is None:
        journal = tmp_path / "journal.sqlite"
        if not killed and journal.exists() and journal.stat().st_size > 30_000:
            workers = [
                one
                for one in psutil.Process(child.pid).children()
                if "spawn_main" in " ".join(one.cmdline())
            ]
            workers[-1].kill()
            killed = True
        time.sleep(0.2)
    assert child.returncode == 0 and killed
    assert tables(tmp_path) == whole


@pytest.mark.slow
def test_a_scheduler_and_two_workers_started_by_hand_write_the_same_files(
    undisturbed: tuple[list[str], list[bytes]], tmp_path: Path
) -> None:
    program, whole = undisturbed
    address = f"tcp://127.0.0.1:{free_port()}"
    dask = [
        sys.executable,
        "-m",
        "distributed.cli.dask_scheduler",
        "--host",
        address,
        "--no-dashboard",
    ]
    worker = [
        sys.executable,
        "-m",
        "distributed.cli.dask_worker",
        address,
        "--nthreads",
        "1",
        "--no-dashboard",
    ]
    quiet: dict[str, Any] = {
        "stdout": subprocess.DEVNULL,
        "stderr": subprocess.DEVNULL,
        "start_new_session": True,
    }
    started = [subprocess.Popen(command, **quiet) for command in (dask, worker, worker)]
    try:
        done = subprocess.run(
            [*program, *places(tmp_path), "--scheduler", address], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
    finally:
        for one in started:
            os.killpg(one.pid, signal.SIGKILL)
            one.wait()
    assert tables(tmp_path) == whole


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.mark.slow
def test_a_study_killed_at_five_moments_ends_with_the_files_of_an_undisturbed_one(
    undisturbed: tuple[list[str], list[bytes]], tmp_path: Path
) -> None:
    """Killed with everything it started, then resumed; some minutes."""
    program, whole = undisturbed
    again = [*program, *places(tmp_path), "--resume"]
    rng = np.random.default_rng()
    deaths = 0
    for _ in range(5):
        child = subprocess.Popen(
            again, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        try:
            child.wait(rng.uniform(5.0, 45.0))
        except subprocess.TimeoutExpired:
            deaths += 1
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
    assert deaths >= 2
    subprocess.run(again, check=True, capture_output=True)
    assert tables(tmp_path) == whole


def test_a_feeder_without_paper_limit_is_compared_in_the_radial_setting_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = [
        "--job",
        "transfer",
        "--feeder",
        "mantovani136",
        "--scenarios",
        "1",
        "--methods",
        "no_transfer",
        "--workers",
        "1",
    ]
    bare += ["--output", str(tmp_path / "out")]

    run(monkeypatch, *bare)
    printed = capsys.readouterr().out
    assert (
        "paper setting left out: mantovani136 has no limit for it; give --paper-limit-mw" in printed
    )
    assert "paper setting, 1 test" not in printed

    run(monkeypatch, *bare, "--paper-limit-mw", "1.2")
    assert "paper setting, 1 test scenarios" in capsys.readouterr().out
