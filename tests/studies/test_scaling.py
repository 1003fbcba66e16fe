"""The scaling study: its arithmetic by hand, a process measured for what it takes itself, and
nothing left out in silence.
"""

from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from feederguard.data.networks import load_network
from feederguard.models.load_transfer import make_scenarios
from feederguard.studies.running.tasks import RunConfig
from feederguard.studies.scaling import (
    DECISIONS,
    FEEDERS,
    FEEDERS_FULL,
    PROCESSES,
    ScalingConfig,
    _tasks,
    main,
    run_scaling,
)
from feederguard.studies.scaling_study.figure import draw
from feederguard.studies.scaling_study.measure import (
    Piece,
    four_buses,
    least_thinkable_cost,
    measure,
)
from feederguard.studies.scaling_study.tables import exponents, print_tables, summarise

PIECE = Piece("ieee33", "power_flow", 4, "simbench_2016", 0, 1.0, 10, "nowhere")
SIZES = pd.DataFrame(
    [("a", 10, 12, 5, 2)], columns=["feeder", "n_bus", "n_branch", "n_switchable", "n_tie"]
)


def decision(method: str, scenario: int, cost: float, **changes: object) -> dict[str, object]:
    """A safe decision in half a second on feeder a, where counting proves 3."""
    line: dict[str, object] = {
        "feeder": "a",
        "method": method,
        "scenario": scenario,
        "fault_branch": "1",
        "decided": True,
        "cost": cost,
        "shed_ratio": 0.0,
        "switch_operations": 1,
        "connected": True,
        "safe": True,
        "least_cost": 3.0,
        "bound": np.nan,
        "note": "",
        "seconds": 0.5,
        "solver_s": np.nan,
    }
    return line | changes


def process(method: str, last: int, **changes: object) -> dict[str, object]:
    line: dict[str, object] = {
        "feeder": "a",
        "method": method,
        "what": "deciding",
        "first": 0,
        "last": last,
        "import_mb": 200.0,
        "ready_mb": 250.0,
        "peak_mb": 270.0,
        "set_up_s": 0.1,
        "cached": None,
        "trouble": "",
    }
    return line | changes


def tables(
    decisions: list[dict[str, object]], processes: list[dict[str, object]]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The summary and the times of feeder a, by method."""
    made = summarise(
        pd.DataFrame(decisions, columns=DECISIONS),
        pd.DataFrame(processes, columns=PROCESSES),
        SIZES,
    )
    return made[0].set_index("method"), made[1].set_index("method")


def test_gap_is_to_the_best_bound_of_the_scenarios_that_are_proven() -> None:
    exact = [
        decision("misocp", 0, 10.0, bound=10.0, note="converged"),
        decision("misocp", 1, 40.0, bound=20.0, note="time_limit"),
    ]
    # Scenario 0: proven by the exact bound. 1: the best known is 30, its bound 20. 2: not given to
    # the exact method.
    search = [
        decision("plan_search", 0, 12.0),
        decision("plan_search", 1, 30.0),
        decision("plan_search", 2, 3.0),
    ]
    summary, _ = tables([*exact, *search], [process("misocp", 2), process("plan_search", 3)])
    assert summary["compared"].tolist() == [2, 2]
    assert summary["proven"].tolist() == [1, 1]
    assert summary.loc["plan_search", "gap_pct"] == pytest.approx(20.0)
    assert summary.loc["misocp", "gap_pct"] == pytest.approx(0.0)
    assert summary.loc["plan_search", "excess_pct"] == pytest.approx(100 * (42 / 40 - 1))
    assert summary.loc["misocp", "excess_pct"] == pytest.approx(100 * (50 / 40 - 1))
    assert summary.loc["misocp", "stopped"] == 1


def test_counting_proves_what_the_exact_method_does_not() -> None:
    rows = [
        decision("plan_search", 0, 3.0),
        decision("misocp", 0, 3.0, bound=-0.5, note="time_limit"),
    ]
    summary, _ = tables(rows, [process("plan_search", 1), process("misocp", 1)])
    assert summary.loc["plan_search", "proven"] == 1
    assert summary.loc["plan_search", "gap_pct"] == pytest.approx(0.0)


def test_what_is_unsafe_or_leaves_a_bus_dark_has_no_gap() -> None:
    rows = [
        decision("plan_search", 0, 3.0), decision("genetic", 0, 1.0, safe=False), decision("misocp", 0, 0.5, connected=False),
    ]  # fmt: skip
    summary, _ = tables(rows, [process(name, 1) for name in ("plan_search", "genetic", "misocp")])
    assert summary.loc["plan_search", "excess_pct"] == pytest.approx(0.0)
    assert np.isnan(summary.loc["genetic", "gap_pct"]) and np.isnan(
        summary.loc["misocp", "excess_pct"]
    )
    assert summary["safe_pct"].tolist() == [100.0, 0.0, 100.0]


def test_nothing_that_did_not_run_is_left_out_in_silence() -> None:
    rows = [
        decision("plan_search", 0, 300.0),
        decision("misocp", 0, np.nan, decided=False, safe=None, note="none in time"),
    ]
    summary, times = tables(
        rows,
        [
            process("plan_search", 1),
            process("misocp", 3, trouble="stopped after 9 s", peak_mb=np.nan),
            process(
                "ranked_switching", 2, what="training", trouble="killed by signal 9", peak_mb=np.nan
            ),
        ],
    )
    assert (
        summary.loc["misocp", "note"]
        == "stopped after 9 s; 1 of 3 scenarios tried; no decision for 1: none in time"
    )
    assert summary.loc["ranked_switching", "note"] == "killed by signal 9; 0 of 2 scenarios tried"
    assert np.isnan(times.loc["misocp", "memory_mb"]) and np.isnan(
        times.loc["ranked_switching", "median_s"]
    )
    out = Console(file=StringIO(), width=150)
    print_tables(
        summary.reset_index(),
        times.reset_index(),
        exponents(summary.reset_index(), times.reset_index()),
        9.0,
        out,
    )
    text = out.file.getvalue()  # type: ignore[attr-defined]
    assert "not proven" in text and "* a, ranked_switching: killed by signal 9" in text


def test_times_and_memory_by_hand() -> None:
    rows = [
        decision("misocp", k, 3.0, seconds=s, solver_s=s / 2) for k, s in enumerate((1.0, 2.0, 9.0))
    ]
    blocks = [process("misocp", 2), process("misocp", 3, first=2, peak_mb=300.0)]
    learned = [
        process("ranked_switching", 1, what="training", set_up_s=7.0, cached=False, peak_mb=450.0)
    ]
    summary, times = tables(rows, [*blocks, *learned, process("ranked_switching", 1)])
    assert summary.loc["misocp", "scenarios"] == 3
    assert times.loc["misocp", "median_s"] == 2.0
    assert times.loc["misocp", "p99_s"] == pytest.approx(8.86)
    assert times.loc["misocp", "solver_median_s"] == 1.0
    assert times.loc["misocp", "memory_mb"] == 50.0
    assert times.loc["ranked_switching", ["train_s", "train_mb", "memory_mb"]].tolist() == [
        7.0,
        200.0,
        20.0,
    ]


def test_exponents_are_slopes_and_stopped_feeders_are_left_out() -> None:
    size = np.array([30, 100, 300, 1000])
    times = pd.DataFrame(
        {"method": "misocp", "n_bus": size, "median_s": 1e-4 * size**2.0, "memory_mb": 0.1 * size}
    )
    summary = pd.DataFrame({"scenarios": 4, "decided": 4, "stopped": [0, 0, 1, 0]}, index=range(4))
    line = exponents(summary, times).iloc[0]
    assert (line["time_exponent"], line["memory_exponent"]) == (
        pytest.approx(2.0),
        pytest.approx(1.0),
    )
    times.loc[3, "median_s"] = 10.0  # the limit, not what a decision takes
    stopped = exponents(summary.assign(stopped=[0, 0, 1, 2]), times).iloc[0]
    assert (stopped["time_exponent"], stopped["feeders"], stopped["left_out"]) == (
        pytest.approx(2.0),
        3,
        1,
    )
    assert np.isnan(exponents(summary.assign(stopped=[0, 0, 4, 4]), times).iloc[0]["time_exponent"])
    alike = times.assign(n_bus=[129, 136, 141, 150])
    assert np.isnan(exponents(summary, alike).iloc[0]["time_exponent"])


def test_least_thinkable_cost_counts_one_operation_and_the_load_that_no_path_reaches() -> None:
    toy = four_buses()
    # Losing the head darkens all: 0.3 MW of C_load (0.3 / 0.1)^2 = 198. Losing line a or b takes
    # the tie: C_switch = 3.
    costs = least_thinkable_cost(toy, make_scenarios(toy, ["head", "a", "b"]))
    assert costs == pytest.approx([198.0, 3.0, 3.0])
    # Nobody misses what a tie feeds.
    assert least_thinkable_cost(toy, make_scenarios(toy, ["tie"])) == pytest.approx([0.0])


def test_a_process_is_measured_for_what_it_takes_itself() -> None:
    held = np.ones(100_000_000)  # 763 MiB, which its maxrss would inherit
    done = measure(PIECE, make_scenarios(load_network("ieee33"), ["6", "7", "6"]), limit_s=100.0)
    assert done.trouble == "" and held[-1] == 1.0
    assert [line["scenario"] for line in done.decisions] == [4, 5, 6]
    assert [line["fault_branch"] for line in done.decisions] == ["6", "7", "6"]
    assert all(0 < line["seconds"] < 1 and line["solver_s"] is None for line in done.decisions)
    mark = done.footprint
    assert 50 < mark["import_mb"] <= mark["ready_mb"] <= mark["peak_mb"] < 700
    assert mark["peak_mb"] - mark["ready_mb"] < 30


def test_a_process_that_fails_or_takes_too_long_says_so() -> None:
    nothing = make_scenarios(four_buses(), [1])
    assert measure(PIECE, nothing, limit_s=0.2).trouble == "stopped after 0.2 s"
    failed = measure(replace(PIECE, feeder="nowhere_x3"), nothing, limit_s=100.0)
    assert "no feeder 'nowhere'" in failed.trouble
    assert (failed.decisions, failed.footprint) == ([], {})


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


def test_the_figure_is_drawn_where_methods_are_missing_or_failed(tmp_path: Path) -> None:
    summary, times = tables(
        [decision("misocp", 0, np.nan, decided=False, seconds=2.0, solver_s=2.0)],
        [process("misocp", 1), process("ranked_switching", 1, what="training", trouble="stopped")],
    )
    decisions = pd.DataFrame(
        [decision("misocp", 0, np.nan, decided=False, seconds=2.0, solver_s=2.0)]
    )
    summary, times = summary.reset_index(), times.reset_index()
    draw(summary, times, decisions, exponents(summary, times), 9.0, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 20_000


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


def test_four_buses_is_what_its_drawing_says() -> None:
    toy = four_buses()
    assert toy.n_bus == 4 and toy.is_tie.tolist() == [False, False, False, True]
    assert load_network("ieee33").n_bus > toy.n_bus
