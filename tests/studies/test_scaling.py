"""The scaling study as a person runs it: its options, its tasks and its files."""

from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from feederguard.studies.running.tasks import RunConfig
from feederguard.studies.scaling import (
    FEEDERS,
    FEEDERS_FULL,
    ScalingConfig,
    _tasks,
    main,
    run_scaling,
)


def test_a_run_writes_its_files(tmp_path: Path) -> None:
    config = ScalingConfig(
        feeders=("ieee33",),
        methods=("power_flow", "plan_search"),
        scenarios=4,
        output=tmp_path / "out",
        agents_cache=tmp_path / "agents",
        run=RunConfig(workers=1),
    )
    out = Console(file=StringIO(), width=150)
    written = run_scaling(config, out)
    assert (
        "exponent" not in out.file.getvalue() and "decision time ~ unknown" in out.file.getvalue()
    )  # type: ignore[attr-defined]
    assert [path.name for path in written] == [
        "scaling.csv",
        "times.csv",
        "decisions.csv",
        "scaling.png",
        "report.html",
        "report.md",
    ]
    page = (written[0].parent / "report.md").read_text()
    assert "How it grows" in page and "| ieee33 |" in page.replace("`", "")
    assert written[3].stat().st_size > 20_000
    summary = pd.read_csv(written[0]).set_index("method")
    assert summary.loc[
        "plan_search", ["n_bus", "n_tie", "decided", "safe_pct", "excess_pct"]
    ].tolist() == [
        33,
        5,
        4,
        100,
        0,
    ]
    assert np.isnan(summary.loc["power_flow", "gap_pct"])
    decisions = pd.read_csv(written[2])
    assert len(decisions) == 8 and "seconds" not in decisions


@pytest.mark.slow
def test_two_runs_give_the_same_tables_but_for_seconds_and_memory(tmp_path: Path) -> None:
    made = []
    for name in ("one", "other"):
        config = ScalingConfig(
            feeders=("ieee33",),
            scenarios=4,
            slow_scenarios=2,
            train_scenarios=30,
            block=1,
            time_limit_s=3600.0,
            output=tmp_path / name,
            agents_cache=tmp_path / f"agents of {name}",
            run=RunConfig(workers=2),
        )
        written = run_scaling(config, Console(file=StringIO(), width=150))
        made.append([path.read_bytes() for path in (written[0], written[2])])
    assert made[0] == made[1]


def test_full_asks_for_more_and_what_is_given_counts() -> None:
    plain, full = ScalingConfig(), ScalingConfig(full=True, scenarios=7)
    assert (plain.feeders, plain.scenarios, plain.time_limit_s) == (FEEDERS, 30, 10.0)
    assert (full.feeders, full.scenarios, full.time_limit_s) == (FEEDERS_FULL, 7, 60.0)


def test_slow_methods_are_cut_into_blocks_and_large_feeders_come_first() -> None:
    config = ScalingConfig(
        methods=("power_flow", "genetic", "misocp"), scenarios=30, slow_scenarios=12, block=5
    )
    sizes = pd.DataFrame({"feeder": ["small", "large"], "n_bus": [10, 20]})
    assert list(_tasks(config, sizes))[:7] == [
        "large misocp 0-5",
        "large misocp 5-10",
        "large misocp 10-12",
        "large genetic 0-5",
        "large genetic 5-10",
        "large genetic 10-12",
        "large power_flow 0-30",
    ]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--feeders", "nowhere"], "no feeder 'nowhere'; the bundled ones are"),
        (["--feeders", "ieee33_x0"], "ieee33: 0 copies of a feeder; make at least one"),
        (["--methods", "magic"], "unknown method 'magic'; use power_flow, plan_search"),
        (["--scenarios", "-3"], "scenarios is -3; it must be positive"),
        (["--feeders", "ieee33", "ieee33"], "one of the feeders is named twice; name each once"),
        (["--profiles", "nothing"], "nothing"),
    ],
)
def test_a_value_that_cannot_be_used_ends_with_one_line(
    arguments: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, "--output", str(tmp_path / "out")]) == 2
    told = capsys.readouterr().err.strip().splitlines()
    assert len(told) == 1 and told[0].startswith("error: ") and words in told[0]
