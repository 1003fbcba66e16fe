"""The load-transfer chapter of a report: its map shows what the judge found, its figures are there.

`charts.py`, `learning.py`, `map.py`, `picker.py`, `profiles.py` and `report_tables.py` are tested
here.
"""

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from small_studies import HERE, judged_rows, picker_of, unpacked

from feederguard.data.networks import load_network
from feederguard.data.sampling import SampledScenarios
from feederguard.models.network import Network
from feederguard.studies.pages.blocks import Chart, DataTable, Prose
from feederguard.studies.pages.report import write_report
from feederguard.studies.trained.transfer_agents import CURVE_COLUMNS
from feederguard.studies.transfer import map as transfer_map
from feederguard.studies.transfer import tables as transfer_tables
from feederguard.studies.transfer.learning import learning_blocks
from feederguard.studies.transfer.report import transfer_section
from feederguard.studies.transfer.tables import Question, Row, TransferResults


@pytest.fixture(scope="module")
def transfer() -> tuple[Network, SampledScenarios, list[Row]]:
    network = load_network("ieee33")
    return network, *judged_rows(network, 3)


def table_of(rows: list[Row]) -> pd.DataFrame:
    return pd.DataFrame([asdict(row) for row in rows])


def summarise(rows: list[Row], network: Network, sampled: SampledScenarios) -> pd.DataFrame:
    decisions, times = transfer_tables.table_of(rows)
    return transfer_tables.summarise(
        TransferResults("ieee33", network, sampled, decisions, times, {})
    )


def test_the_states_shown_are_those_the_judge_saw(
    transfer: tuple[Network, SampledScenarios, list[Row]],
) -> None:
    network, sampled, rows = transfer
    picker = picker_of(
        transfer_section(
            network, sampled, table_of(rows), summarise(rows, network, sampled), "ieee33"
        )
    )
    choices = picker.layers[2].choices
    assert set(choices) == {f"{row.scenario}|{row.setting}|{row.method}" for row in rows}
    for row in rows:
        choice = choices[f"{row.scenario}|{row.setting}|{row.method}"]
        v = unpacked(choice.traces["transfer-voltage"][1]["y"])
        assert np.nanmin(v) == pytest.approx(row.v_min_pu, abs=2e-5)
        loading = np.stack([unpacked(choice.traces["transfer-loading"][k]["y"]) for k in (0, 1)])
        assert np.nanmax(loading) == pytest.approx(100 * row.max_loading, rel=1e-4)
        assert ("Not safe" in choice.note) == (not row.safe)
        marks = choice.traces["transfer-map"]
        closed = [network.branch_name[b] for b in marks[transfer_map.CLOSED]["at"][1]]
        assert closed == row.closed_branches.split()
        lost = sum(sum(marks[k]["customdata"][1:]) for k in (transfer_map.SHED, transfer_map.DARK))
        assert lost == pytest.approx(1e3 * row.shed_ratio * row.load_mw, abs=0.1 * network.n_bus)


def test_the_chapter_tells_the_question_the_figures_and_the_papers_own(
    transfer: tuple[Network, SampledScenarios, list[Row]], tmp_path: Path
) -> None:
    network, sampled, rows = transfer
    summary = summarise(rows, network, sampled)
    genetic = summary[summary["method"] == "plan_search"].assign(method="genetic")
    section = transfer_section(
        network, sampled, table_of(rows), pd.concat([summary, genetic]), "ieee33"
    )
    names = [block.name for block in section.blocks if isinstance(block, Chart)]
    assert names == ["transfer-cost-paper", "transfer-cost-radial", "transfer-times"]
    tables = [block for block in section.blocks if isinstance(block, DataTable)]
    assert (
        len(tables) == 3 and "0.243 ± 0.015" in tables[2].rows[0] and "587.24" in tables[2].rows[0]
    )
    assert "The conditions differ" in tables[2].note
    times = next(
        block
        for block in section.blocks
        if isinstance(block, Chart) and block.name == "transfer-times"
    )
    assert [list(trace.x) for trace in times.figure.data if "printed" in (trace.name or "")] == [
        [587240.0]
    ]
    other = transfer_section(
        network, sampled, table_of(rows), pd.concat([summary, genetic]), "my_feeder"
    )
    assert len([block for block in other.blocks if isinstance(block, DataTable)]) == 2
    text = write_report("T", [section], HERE, tmp_path)[1].read_text()
    assert (
        "equation (1) of Zhou et al. 2024" in text
        and "at most 0.9 MW" in text
        and "| `plan_search` |" in text
    )


def test_a_scenario_without_decision_says_why(
    transfer: tuple[Network, SampledScenarios, list[Row]],
) -> None:
    network, sampled, rows = transfer
    question = Question("radial", "misocp", 1, network, sampled)
    failed = Row.failed(question, 20.0, "no decision within 20 s")
    everything = [*rows, failed]
    section = transfer_section(
        network, sampled, table_of(everything), summarise(everything, network, sampled), "ieee33"
    )
    layer = picker_of(section).layers[2]
    assert (
        layer.choices["1|radial|misocp"].note
        == "`misocp` gave no decision: no decision within 20 s"
    )
    assert not layer.choices["1|radial|misocp"].traces and "0|radial|misocp" not in layer.choices
    assert "was not run" in layer.missing
    table = [block for block in section.blocks if isinstance(block, DataTable)][1]
    assert "Scenarios without a decision: misocp: 1. The means of all methods" in table.note


def curves() -> pd.DataFrame:
    """Return made-up training of an agent in both settings, and of the ranking in one."""
    tried = pd.DataFrame(
        {"setting": ["paper"] * 3 + ["radial"] * 3, "method": "ddpg", "unit": "decisions", "x": [128, 256, 384] * 2,
         "learned_reward": [0.0, 1.0, 2.0] * 2, "safe_pct": [10.0, 50.0, 90.0] * 2, "cost": [4000.0, 90.0, 8.0] * 2}
    )  # fmt: skip
    ranked = pd.DataFrame(
        {
            "setting": "radial",
            "method": "ranked_switching",
            "unit": "epochs",
            "x": [1, 2],
            "loss": [0.8, 0.3],
            "first_pct": [60.0, 90.0],
            "shortlist_pct": [95.0, 100.0],
        }
    )
    return pd.concat([tried, ranked], ignore_index=True).reindex(columns=list(CURVE_COLUMNS))


def test_learning_curves_are_drawn_for_what_was_kept_and_the_rest_is_named() -> None:
    methods = ["ddpg_safe", "ranked_switching", "plan_search"]
    tried, ranked, missing = learning_blocks(curves(), methods, ["paper", "radial"])
    assert isinstance(tried, Chart) and isinstance(ranked, Chart) and isinstance(missing, Prose)
    # Row by row, setting by setting; every curve is in the legend once.
    assert [list(trace.y) for trace in tried.figure.data] == [
        [10, 50, 90],
        [10, 50, 90],
        [4000, 90, 8],
        [4000, 90, 8],
        [0, 1, 2],
        [0, 1, 2],
    ]
    assert [trace.showlegend for trace in tried.figure.data] == [True] + [False] * 5
    assert {trace.name for trace in tried.figure.data} == {"ddpg"}
    assert (
        "exploration included" in tried.caption
        and "`ddpg_safe` acts on the agent of `ddpg`" in tried.caption
    )
    low, high = tried.figure.layout.yaxis3.range
    assert tried.figure.layout.yaxis3.type == "log" and 10**low < 8 and 10**high > 4000
    looks = [
        (trace.line.color, trace.line.dash, trace.marker.symbol) for trace in ranked.figure.data
    ]
    assert len(set(looks)) == 3 and [trace.name for trace in ranked.figure.data][0] == "loss"
    assert missing.text.startswith(
        "No learning curve of `ranked_switching` (paper setting): the agent was taken"
    )


def test_the_chapter_shows_learning_where_it_is_given(
    transfer: tuple[Network, SampledScenarios, list[Row]],
) -> None:
    network, sampled, rows = transfer
    table, summary = table_of(rows), summarise(rows, network, sampled)
    without = transfer_section(network, sampled, table, summary, "ieee33")
    given = transfer_section(network, sampled, table, summary, "ieee33", curves())
    names = [
        {block.name for block in section.blocks if isinstance(block, Chart)}
        for section in (without, given)
    ]
    assert names[1] - names[0] == {"transfer-learning", "transfer-ranking"}
    # A study in which nobody learns has nothing to say.
    nothing = transfer_section(network, sampled, table, summary, "ieee33", curves()[:0])
    assert len(nothing.blocks) == len(without.blocks)
