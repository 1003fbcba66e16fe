"""The main study as a person runs it: its options, its refusals and its files."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

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
from feederguard.studies.running.tasks import RunConfig
from feederguard.studies.transfer.study import (
    METHODS,
    TransferConfig,
)

ROOT = Path(__file__).resolve().parents[2]


TINY = ["--job", "transfer", "--scenarios", "2", "--workers", "1", "--seed", "1"]


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
    "curtailed_mw",
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
        "bus69",
        3,
        ("misocp", "genetic"),
        "radial",
        "load.csv",
        0.1,
        9,
        2.5,
        1.5,
        train_scenarios=70,
    )
    assert given == CompareTransfer(
        study, RunConfig(1, "tcp://there:8786"), Path("here/there"), Path("kept")
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--methods", "misocp", "ppo"], "unknown method 'ppo'; use no_transfer, genetic, ddpg"),
        (["--setting", "looped"], "unknown setting 'looped'; use paper, radial, meshed or both"),
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


def check_decisions(decisions: pd.DataFrame, summary: pd.DataFrame) -> None:
    """Check that every method met the same faults, and that the summary is the mean."""
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

    check_decisions(pd.read_parquet(tmp_path / "out" / "decisions.parquet"), summary)
    assert (tmp_path / "out" / "cost.png").read_bytes().startswith(b"\x89PNG")


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
    for method in ("failing", "no_transfer"):
        # Of the same scenarios: a mean over fewer would look cheaper for having failed.
        assert summary.loc[method, "cost"] == pytest.approx(idle.loc[[0, 2], "cost"].mean())
        assert summary.loc[method, "left_out"] == 1
    # A scenario without a decision is not a safe one.
    assert summary["safe_pct"].tolist()[1] == pytest.approx(
        100 * failing["safe"].loc[[0, 2]].sum() / 3
    )


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
