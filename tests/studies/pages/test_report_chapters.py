"""The chapters of a report: their pictures show what the judge found, their figures and tables are
there.
"""

import base64
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from feederguard.baselines.no_transfer import NoTransfer
from feederguard.baselines.plan_search import PlanSearch
from feederguard.baselines.voltage.no_control import NoControl
from feederguard.data.networks import load_network
from feederguard.data.profiles import load_profiles
from feederguard.data.sampling import SampledScenarios, sample_scenarios
from feederguard.models.arrays import FloatArray
from feederguard.models.load_transfer import Report, judge, resolve_setting
from feederguard.models.network import Network
from feederguard.models.voltage_regulation import simulate
from feederguard.studies.pages.blocks import Chart, DataTable, Picker, Prose, Section
from feederguard.studies.pages.report import write_report
from feederguard.studies.running.provenance import Provenance
from feederguard.studies.trained.transfer_agents import CURVE_COLUMNS
from feederguard.studies.transfer import map as transfer_map
from feederguard.studies.transfer import tables as transfer_tables
from feederguard.studies.transfer.learning import learning_blocks
from feederguard.studies.transfer.report import transfer_section
from feederguard.studies.transfer.tables import Question, Row, TransferResults
from feederguard.studies.voltage.bench import VoltageBench, VoltageConfig, load_bench
from feederguard.studies.voltage.map import worst_voltages
from feederguard.studies.voltage.report import voltage_section
from feederguard.studies.voltage.tables import VoltageResults
from feederguard.studies.voltage.tables import summarise as summarise_voltage
from feederguard.studies.voltage.work import day_table

HERE = Provenance(
    "python study.py",
    "7",
    (("numpy", "2.0"),),
    "CPython 3.12",
    "Linux",
    "a processor",
    2,
    8.0,
    "2026-01-01",
)


def unpacked(spec: Any) -> FloatArray:
    short = np.frombuffer(base64.b64decode(spec["i2"]), dtype="<i2").astype(float)
    return np.where(short == -32768, np.nan, short * spec["step"])


def compared(network: Network, count: int) -> tuple[SampledScenarios, list[Row]]:
    """Both settings, the cheapest method and the best."""
    sampled = sample_scenarios(network, load_profiles(), count, seed=0)
    rows = []
    for name in ("paper", "radial"):
        setting = resolve_setting(network, name)
        for method in (NoTransfer(network), PlanSearch(network, setting)):
            for k in range(count):
                scenario = sampled.scenarios[k : k + 1]
                decision = method.decide(scenario)
                outcome = judge(network, scenario, decision, setting)
                reports: list[Report] = getattr(method, "reports", [])
                question = Question(name, method.name, k, network, sampled)
                rows.append(Row.judged(question, 0.01, decision, outcome, reports))
    return sampled, rows


@pytest.fixture(scope="module")
def transfer() -> tuple[Network, SampledScenarios, list[Row]]:
    network = load_network("ieee33")
    return network, *compared(network, 3)


def table_of(rows: list[Row]) -> pd.DataFrame:
    return pd.DataFrame([asdict(row) for row in rows])


def summarise(rows: list[Row], network: Network, sampled: SampledScenarios) -> pd.DataFrame:
    decisions, times = transfer_tables.table_of(rows)
    return transfer_tables.summarise(
        TransferResults("ieee33", network, sampled, decisions, times, {})
    )


def picker_of(section: Section) -> Picker:
    return next(block for block in section.blocks if isinstance(block, Picker))


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
    assert "without a decision, left out of the means: misocp: 1" in table.note


def curves() -> pd.DataFrame:
    """Made-up training of one agent that tries decisions in both settings, and of the ranking in
    one.
    """
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


@pytest.fixture(scope="module")
def voltage() -> tuple[VoltageBench, VoltageResults, FloatArray]:
    """Two days without control, and beside them a learner whose training is made up."""
    bench = load_bench(VoltageConfig(days=2, methods=("no_control",)))
    outcome = simulate(bench.network, bench.batteries, bench.test, NoControl())
    training = pd.DataFrame(
        {"method": "td3", "seed": np.repeat([0, 1], 5), "day": [1, 2, 3, 4, 5] * 2, "steps": 96,
         "violation_steps": [3, 1, 0, 0, 0] * 2, "worst_excess_pu": 0.01, "regulation_kwh": 10.0,
         "reward": -np.arange(10.0) - 1, "training_s": 2.0}
    )  # fmt: skip
    methods = pd.DataFrame(
        {"method": ["no_control"], "decision_s": [1e-6], "decision_outside_s": [1e-6]}
    )
    layers = {
        f"layer_{name}": np.nan
        for name in ("as_proposed", "corrected", "tube_left", "slack_used", "failed")
    }
    days = day_table("no_control", 0, bench, bench.test, outcome)
    return (
        bench,
        VoltageResults("cigre_lv18", days, training, methods.assign(**layers), {}),
        outcome.p_battery,
    )


def test_days_are_shown_as_the_judge_saw_them(
    voltage: tuple[VoltageBench, VoltageResults, FloatArray],
) -> None:
    bench, results, schedule = voltage
    summary = summarise_voltage(results)
    picker = picker_of(voltage_section(bench, results, summary, {"no_control": schedule}))
    for line in results.days.to_dict("records"):
        choice = picker.layers[1].choices[f"{line['date']:%Y-%m-%d}|no_control"]
        v_low = unpacked(choice.traces["voltage-day"][2]["y"])
        assert v_low.min() == pytest.approx(line["v_min_pu"], abs=2e-5)
        assert (
            f"in {line['violation_steps']} of 96 steps" in choice.note
            or not line["violation_steps"]
        )
        # With batteries idle, what was done and doing nothing are the same lines.
        idle = unpacked(
            picker.layers[0].choices[f"{line['date']:%Y-%m-%d}"].traces["voltage-day"][0]["y"]
        )
        assert idle == pytest.approx(v_low)
    with pytest.raises(
        ValueError,
        match=r"the schedule of 'no_control' has shape \(1, 96, 18\); expected \(2, 96, 18\)",
    ):
        voltage_section(bench, results, summary, {"no_control": schedule[:1]})


def test_the_voltage_chapter_has_its_figures(
    voltage: tuple[VoltageBench, VoltageResults, FloatArray],
) -> None:
    bench, results, _ = voltage
    section = voltage_section(bench, results, summarise_voltage(results), {})
    charts = {block.name: block for block in section.blocks if isinstance(block, Chart)}
    assert set(charts) == {
        "voltage-energy",
        "voltage-outside",
        "voltage-times",
        "voltage-learning",
        "voltage-learning-outside",
    }
    # Of two seeds: the least, the most, the mean.
    outside = charts["voltage-learning-outside"].figure.data
    assert [list(trace.y) for trace in outside] == [[3, 4, 4, 4, 4]] * 3
    cost = charts["voltage-learning"].figure.data[-1]
    assert list(cost.y) == pytest.approx([3.5, 4.5, 5.5, 6.5, 7.5])
    assert not any(isinstance(block, Picker) for block in section.blocks)


def test_the_worst_voltage_of_a_bus_is_the_one_nearest_to_a_limit_or_beyond() -> None:
    network = load_network("ieee33")
    network = network.with_changes(v_min=np.full(33, 0.95), v_max=np.full(33, 1.05))
    v = np.ones((3, 33))
    v[1, 4], v[2, 4], v[0, 7] = 1.04, 0.955, 1.06
    v[2, 9] = np.nan
    worst, step = worst_voltages(network, v)
    assert (worst[4], step[4]) == (0.955, 2) and (worst[7], step[7]) == (1.06, 0)
    assert np.isnan(worst[9]) and step[9] == 2
