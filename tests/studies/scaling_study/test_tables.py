"""The arithmetic of the scaling study by hand, and nothing left out in silence.

`figure.py` and `report.py` are tested here.
"""

from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from feederguard.studies.pages.blocks import Chart, DataTable
from feederguard.studies.scaling import (
    DECISIONS,
    PROCESSES,
)
from feederguard.studies.scaling_study.figure import draw
from feederguard.studies.scaling_study.report import scaling_section
from feederguard.studies.scaling_study.tables import exponents, print_tables, summarise

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


def test_the_chapter_has_both_charts_and_every_line() -> None:
    rows = [decision("plan_search", 0, 3.0), decision("misocp", 0, 3.0, bound=3.0)]
    summary, times = tables(rows, [process("plan_search", 1), process("misocp", 1)])
    summary, times = summary.reset_index(), times.reset_index()
    section = scaling_section(summary, times, exponents(summary, times), 9.0)
    charts = [block for block in section.blocks if isinstance(block, Chart)]
    assert [chart.name for chart in charts] == ["scaling-time", "scaling-memory"]
    assert [list(trace.y) for trace in charts[0].figure.data] == [[0.5], [0.5]]
    lines, growth = (block for block in section.blocks if isinstance(block, DataTable))
    assert {row[2] for row in lines.rows} == {"plan_search", "misocp"}
    assert all("-" in row for row in growth.rows)
