"""The main study as a person runs it: its options, its refusals, its files, and what one failure may not spoil."""

import subprocess
import sys
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from feederguard.agents.ddpg_transfer import DdpgTransferConfig
from feederguard.agents.ranked_switching import RankedSwitchingConfig
from feederguard.agents.td3 import TD3Config
from feederguard.baselines.genetic import Genetic, GeneticConfig
from feederguard.baselines.no_transfer import NoTransfer
from feederguard.data.networks import load_network
from feederguard.models.scenario import Decisions, Scenarios
from feederguard.models.solver import NotSolvedError, Solution
from feederguard.studies import compare_methods
from feederguard.studies.compare_methods import METHODS, Config, compare, parse, train
from feederguard.studies.trained_agents import AgentConfigs
from feederguard.studies.transfer_tables import print_tables, summarise, write_results
from feederguard.studies.workers import n_cores, spread

ROOT = Path(__file__).resolve().parents[2]
TINY = ["--scenarios", "2", "--workers", "1", "--seed", "1"]

SUMMARY = {
    "setting", "method", "cost", "reward_x1e-4", "shed_ratio", "switch_operations", "connected_pct", "converged_pct",
    "safe_pct", "seconds_mean", "seconds_p99", "gap_pct", "training_s",
}  # fmt: skip
DECISIONS = {
    "setting", "method", "scenario", "fault_branch", "hour", "load_mw", "cost", "reward", "shed_ratio",
    "switch_operations", "connected", "converged", "safe", "v_min_pu", "max_loading", "seconds", "bound", "repaired",
    "note", "closed_branches", "opened_branches", "shed_mw",
}  # fmt: skip


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
        METHODS, "genetic", lambda network, setting, config: Genetic(network, setting, small, config.seed)
    )


def add_failing(monkeypatch: pytest.MonkeyPatch, fails: list[int]) -> None:
    monkeypatch.setitem(METHODS, "failing", lambda network, setting, config: Failing(NoTransfer(network), fails))


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    if "--output" in arguments:
        arguments = (
            *arguments,
            "--agents-cache",
            str(Path(arguments[arguments.index("--output") + 1]).parent / "kept"),
        )
    monkeypatch.setattr(sys, "argv", ["compare_methods.py", *arguments])
    monkeypatch.setattr(compare_methods, "_warm_up", lambda: None)
    compare_methods.main()


def refusal(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The last line that a refused command line leaves on standard error."""
    with pytest.raises(SystemExit) as stop:
        parse(arguments)
    assert stop.value.code == 2
    return capsys.readouterr().err.strip().splitlines()[-1]


def test_no_argument_is_the_whole_study() -> None:
    config = parse([])
    assert config == Config()
    assert (config.feeder, config.scenarios, config.setting) == ("ieee33", 60, "both")
    assert config.methods == tuple(METHODS)
    assert list(METHODS) == [
        "no_transfer", "genetic", "ddpg", "ddpg_corrected", "ddpg_safe", "ranked_switching", "plan_search", "misocp",
        "enumeration",
    ]  # fmt: skip


def test_every_option_arrives() -> None:
    config = parse(
        ["--feeder", "bus69", "--scenarios", "3", "--methods", "misocp", "genetic", "--setting", "radial",
         "--pv-share", "0.1", "--seed", "9", "--time-limit-s", "2.5", "--workers", "1", "--output", "here/there",
         "--profiles", "load.csv", "--train-scenarios", "70", "--agents-cache", "kept"]
    )  # fmt: skip
    assert config == Config(
        "bus69",
        3,
        ("misocp", "genetic"),
        "radial",
        "load.csv",
        0.1,
        9,
        2.5,
        1,
        Path("here/there"),
        None,
        70,
        Path("kept"),
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--methods", "misocp", "ppo"], "unknown method 'ppo'; use no_transfer, genetic, ddpg"),
        (["--setting", "meshed"], "unknown setting 'meshed'; use paper, radial or both"),
        (["--scenarios", "0"], "scenarios is 0; compare on at least one"),
        (["--scenarios", "many"], "argument --scenarios: invalid int value: 'many'"),
        (["--workers", "0"], "workers is 0; use at least one process"),
        (["--time-limit-s", "-1"], "time_limit_s is -1.0; it must be positive"),
        (["--train-scenarios", "0"], "train_scenarios is 0; train on at least one"),
        (["--agents-cache", __file__], "test_compare_methods.py is a file; name a folder"),
        (["--tables", "mine"], "argument --tables: invalid choice: 'mine'"),
        (["--time-limit-s", "nan"], "time_limit_s is nan; it must be positive"),
        (["--feedr", "ieee33"], "unrecognized arguments: --feedr ieee33"),
    ],
)
def test_wrong_options_end_with_one_sentence(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert words in refusal(arguments, capsys)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--feeder", "ieee34"], ("ieee34", "ieee33")),
        (["--feeder", "nowhere/net.json"], ("nowhere/net.json",)),
        (["--profiles", "simbench_1999"], ("unknown profiles 'simbench_1999'", "simbench_2016")),
        (["--pv-share", "-1"], ("pv_share is -1.0; it must be zero or more",)),
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
        [*program, "--feeder", "ieee34", "--output", str(tmp_path / "out")],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 2
    assert "error:" in done.stderr and "ieee34" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_a_run_writes_table_decisions_and_figure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], small_genetic: None
) -> None:
    run(monkeypatch, *TINY, "--methods", "no_transfer", "genetic", "enumeration", "--output", str(tmp_path / "out"))
    printed = capsys.readouterr().out
    assert "Load transfer on ieee33, paper setting, 2 test scenarios" in printed
    assert "Load transfer on ieee33, radial setting, 2 test scenarios" in printed
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "cost.png",
        "decisions.parquet",
        "summary.csv",
    ]

    summary = pd.read_csv(tmp_path / "out" / "summary.csv")
    assert set(summary.columns) >= SUMMARY
    assert list(zip(summary["setting"], summary["method"], strict=True)) == [
        ("paper", "no_transfer"), ("paper", "genetic"), ("paper", "enumeration"), ("radial", "no_transfer"),
        ("radial", "genetic"),
    ]  # fmt: skip
    best = summary[summary["method"] == "enumeration"].iloc[0]
    assert best["gap_pct"] == pytest.approx(0.0, abs=1e-6)
    assert best["safe_pct"] == best["converged_pct"] == 100.0
    assert summary[summary["setting"] == "radial"]["gap_pct"].isna().all()

    decisions = pd.read_parquet(tmp_path / "out" / "decisions.parquet")
    assert set(decisions.columns) >= DECISIONS
    assert len(decisions) == 10
    assert (decisions.groupby(["setting", "method"])["scenario"].apply(list).map(lambda k: k == [0, 1])).all()
    # Every method met the same faults.
    assert (decisions.groupby("scenario")["fault_branch"].nunique() == 1).all()
    assert (decisions.groupby("scenario")["hour"].nunique() == 1).all()
    # The table is the mean of the decisions, and the shed powers add up to the ratio wherever nothing is dark.
    means = decisions.groupby(["setting", "method"])["cost"].mean()
    for line in summary.to_dict("records"):
        assert line["cost"] == pytest.approx(means[line["setting"], line["method"]])
    for row in decisions[(decisions["method"] == "enumeration") & decisions["connected"]].to_dict("records"):
        shed = sum(float(part.split(":")[1]) for part in row["shed_mw"].split())
        assert shed == pytest.approx(row["shed_ratio"] * row["load_mw"], rel=1e-4)
    assert (tmp_path / "out" / "cost.png").read_bytes().startswith(b"\x89PNG")


def test_the_same_seed_gives_the_same_table(small_genetic: None) -> None:
    def table(seed: int) -> pd.DataFrame:
        config = Config(scenarios=2, methods=("no_transfer", "genetic"), seed=seed, workers=1)
        summary = summarise(compare(config, Console(quiet=True)))
        return summary.drop(columns=["seconds_mean", "seconds_p99"])

    first = table(1)
    pd.testing.assert_frame_equal(first, table(1))
    assert not first["cost"].equals(table(2)["cost"])


def test_one_failure_does_not_lose_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    add_failing(monkeypatch, [1])
    run(
        monkeypatch, "--scenarios", "3", "--workers", "1", "--setting", "radial", "--methods", "no_transfer", "failing",
        "--output", str(tmp_path),
    )  # fmt: skip
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
    assert summary["safe_pct"].tolist()[1] == pytest.approx(100 * failing["safe"].loc[[0, 2]].sum() / 3)


def test_a_study_in_which_everything_fails_still_reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_failing(monkeypatch, [0, 1])
    config = Config(scenarios=2, methods=("failing",), setting="radial", workers=1)
    console = Console(width=100, record=True, quiet=True)
    rows = compare(config, console)
    summary = summarise(rows)
    print_tables(summary, "ieee33", 2, console)
    assert all(path.exists() for path in write_results(rows, summary, "ieee33", tmp_path))
    assert summary["failed"].tolist() == [2]
    assert summary["safe_pct"].tolist() == [0.0]
    assert summary["gap_pct"].isna().all()


def test_too_many_ties_leave_enumeration_out_and_say_so() -> None:
    console = Console(width=200, record=True, file=StringIO())
    network = load_network("mantovani136").with_changes(paper_limit_mw=1.0)
    config = Config(methods=("no_transfer", "enumeration"), setting="paper")
    jobs = list(compare_methods._jobs(config, network, console))
    assert [name for _, name in jobs] == ["no_transfer"]
    assert "enumeration left out: 21 ties make too many states" in console.export_text()


def learning(folder: Path, **changes: Any) -> Config:
    ddpg = DdpgTransferConfig(learner=TD3Config.ddpg(hidden=(16,), warmup=8, batch=8), steps=3, num_envs=8)
    agents = AgentConfigs(ddpg, ddpg, RankedSwitchingConfig(search_beam=2, search_rounds=1, hidden=8, epochs=2))
    config = Config(
        scenarios=3, methods=("ddpg", "ddpg_corrected", "ddpg_safe", "ranked_switching", "plan_search"), setting="paper",
        workers=1, train_scenarios=24, agents_cache=folder, agents=agents,
    )  # fmt: skip
    return replace(config, **changes)


def test_agents_are_trained_kept_and_compared(tmp_path: Path) -> None:
    consoles = [Console(width=200, record=True, file=StringIO()) for _ in range(3)]
    tables = []
    for console, folder in zip(consoles, ("a", "a", "b"), strict=True):
        config = learning(tmp_path / folder)
        training_s = train(config, console)
        summary = summarise(compare(config, console), training_s)
        print_tables(summary, "ieee33", 3, console)
        tables.append(summary)
    first, again, elsewhere = (console.export_text() for console in consoles)
    for kind in ("ddpg", "ddpg_corrected", "ranked_switching"):
        assert f"{kind}, paper setting: trained in" in first and f"{kind}, paper setting: trained in" in elsewhere
        assert f"{kind}, paper setting: from the cache, trained in" in again
    assert "every state was tried" in first
    columns = ["seconds_mean", "seconds_p99", "training_s"]
    for other in tables[1:]:
        pd.testing.assert_frame_equal(tables[0].drop(columns=columns), other.drop(columns=columns))
    table = tables[0].set_index("method")
    assert table.loc["ddpg_safe", "training_s"] == table.loc["ddpg", "training_s"] > 0
    assert np.isnan(table.loc["plan_search", "training_s"])
    assert (table.loc[["ddpg_corrected", "ddpg_safe", "ranked_switching", "plan_search"], "safe_pct"] == 100).all()
    # Nothing was enumerated, so the search that tried every state is what the others are measured by.
    assert table.loc["plan_search", "gap_pct"] == pytest.approx(0.0, abs=1e-9)
    assert table.loc["ddpg_safe", "gap_pct"] > 0


def test_a_damaged_agent_is_told_of_in_one_sentence(tmp_path: Path) -> None:
    config = learning(tmp_path, methods=("ranked_switching",))
    train(config, Console(quiet=True))
    (damaged,) = tmp_path.glob("ranked_switching-ieee33-paper-*.safetensors")
    damaged.write_bytes(b"nothing of the kind")
    console = Console(width=300, record=True, file=StringIO())
    train(config, console)
    told = [line for line in console.export_text().splitlines() if "not a whole safetensors file" in line]
    assert len(told) == 1 and told[0].rstrip().endswith("trained anew")


def test_what_was_enumerated_is_the_reference_before_what_was_searched() -> None:
    config = Config(scenarios=2, methods=("plan_search", "enumeration"), setting="paper", workers=1, seed=1)
    rows = compare(config, Console(quiet=True))
    cost = {(row.method, row.scenario): row.cost for row in rows}
    summary = summarise(rows).set_index("method")
    total = {name: sum(cost[name, k] for k in range(2)) for name in ("plan_search", "enumeration")}
    assert summary.loc["enumeration", "gap_pct"] == pytest.approx(0.0, abs=1e-9)
    assert summary.loc["plan_search", "gap_pct"] == pytest.approx(
        100 * (total["plan_search"] / total["enumeration"] - 1)
    )


def add(number: int) -> int:
    return held["offset"] + number


def hold(offset: int) -> None:
    held["offset"] = offset


held: dict[str, int] = {}


def test_one_worker_is_this_process_and_keeps_the_order() -> None:
    held.clear()
    assert list(spread(add, [3, 1, 2], 1, hold, 10)) == [13, 11, 12]
    assert held == {"offset": 10}


def test_no_workers_is_refused() -> None:
    with pytest.raises(ValueError, match="workers is 0; use at least one process"):
        list(spread(add, [1], 0, hold, 10))
    assert n_cores() >= 1


@pytest.mark.slow
def test_two_processes_give_the_table_of_one() -> None:
    tables = []
    for workers in (1, 2):
        config = Config(scenarios=3, methods=("no_transfer", "genetic"), workers=workers)
        summary = summarise(compare(config, Console(quiet=True)))
        tables.append(summary.drop(columns=["seconds_mean", "seconds_p99"]))
    pd.testing.assert_frame_equal(tables[0], tables[1])


def test_a_feeder_without_paper_limit_is_compared_in_the_radial_setting_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = ["--feeder", "mantovani136", "--scenarios", "1", "--methods", "no_transfer", "--workers", "1"]
    bare += ["--output", str(tmp_path / "out")]

    run(monkeypatch, *bare)
    printed = capsys.readouterr().out
    assert "paper setting left out: mantovani136 has no limit for it; give --paper-limit-mw" in printed
    assert "paper setting, 1 test" not in printed

    run(monkeypatch, *bare, "--paper-limit-mw", "1.2")
    assert "paper setting, 1 test scenarios" in capsys.readouterr().out
