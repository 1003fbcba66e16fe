"""The report's parts: what is written, what is refused, and that its pictures show what the judge found."""

import base64
import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from feederguard.baselines.no_control import NoControl
from feederguard.baselines.no_transfer import NoTransfer
from feederguard.baselines.plan_search import PlanSearch
from feederguard.data.networks import load_network
from feederguard.data.profiles import load_profiles
from feederguard.data.sampling import SampledScenarios, sample_scenarios
from feederguard.models.load_transfer import judge
from feederguard.models.method import Report
from feederguard.models.network import FloatArray, Network
from feederguard.models.scenario import Decisions, make_scenarios
from feederguard.models.setting import resolve_setting
from feederguard.models.voltage_regulation import simulate
from feederguard.studies import transfer_report, transfer_tables
from feederguard.studies.provenance import Provenance, command_line, find_provenance
from feederguard.studies.report import (
    Chart,
    Choice,
    DataTable,
    Layer,
    Picker,
    Prose,
    Section,
    Selector,
    decades,
    milliseconds,
    new_figure,
    number,
    packed,
    write_report,
)
from feederguard.studies.transfer_report import read_decisions, transfer_section
from feederguard.studies.transfer_tables import Row, TransferResults
from feederguard.studies.voltage_report import _worst_voltages, voltage_section
from feederguard.studies.voltage_study import VoltageBench, VoltageConfig, day_table, load_bench
from feederguard.studies.voltage_tables import VoltageResults
from feederguard.studies.voltage_tables import summarise as summarise_voltage

HERE = Provenance(
    "python study.py", "7", (("numpy", "2.0"),), "CPython 3.12", "Linux", "a processor", 2, 8.0, "2026-01-01"
)


def unpacked(spec: Any) -> FloatArray:
    short = np.frombuffer(base64.b64decode(spec["i2"]), dtype="<i2").astype(float)
    return np.where(short == -32768, np.nan, short * spec["step"])


def chart(name: str = "one", **more: Any) -> Chart:
    return Chart(name, f"Figure {name}", new_figure([{"type": "scatter", "x": [1], "y": [2]}]), "What it *is*.", **more)


def page(text: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="report-data">(.*?)</script>', text, re.S)
    assert found
    held: dict[str, Any] = json.loads(found[1])
    return held


def test_the_page_holds_everything_and_asks_nothing_of_the_network(tmp_path: Path) -> None:
    table = DataTable("Numbers", ("method", "kW"), (("`a|b`", "1"),), "a note")
    html_path, md_path = write_report(
        "Title <1>",
        [Section("s", "A & B", (Prose("First **bold**.\n\n- x < y\n- `code`"), table, chart()))],
        HERE,
        tmp_path,
    )
    text, markdown = html_path.read_text(), md_path.read_text()
    assert text.count("* plotly.js v") == 1
    outside_script = re.sub(r"<script>.*?</script>", "", text, flags=re.S)
    assert "http" not in outside_script and "src=" not in outside_script
    assert "Title &lt;1&gt;" in text and "A &amp; B" in text and "<li>x &lt; y</li>" in text
    assert "<strong>bold</strong>" in text and "<code>a|b</code>" in text
    assert "python study.py" in text and "a processor, 2 core(s) usable" in text and "numpy 2.0" in text
    assert page(text)["charts"]["one"]["data"][0]["y"] == [2]
    assert "| `a\\|b` | 1 |" in markdown and "First **bold**." in markdown and "```\npython study.py\n```" in markdown
    assert "- seed: 7" in markdown and "(figure in `report.html`)" in markdown


def test_markdown_links_a_picture_only_where_it_lies(tmp_path: Path) -> None:
    sections = [Section("s", "S", (chart(image="cost.png"),))]
    assert "cost.png" not in write_report("T", sections, HERE, tmp_path)[1].read_text()
    (tmp_path / "cost.png").write_bytes(b"png")
    assert "![Figure one](cost.png)" in write_report("T", sections, HERE, tmp_path)[1].read_text()


def test_two_things_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"report: 'one' names two things of the page; give every section, chart and picker"
    ):
        write_report("T", [Section("s", "S", (chart(), chart()))], HERE, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_closing_tag_in_a_name_does_not_end_the_data(tmp_path: Path) -> None:
    choice = Choice("</script>", {"one": {0: {"y": packed([1.5, np.nan])}}})
    picker = Picker(
        "p", "Pick", (Selector("Day", (("a", "A"), ("b", "B")), 1),), (Layer((0,), {"b": choice}, "none"),), (chart(),)
    )  # fmt: skip
    text = write_report("T", [Section("s", "S", (picker,))], HERE, tmp_path)[0].read_text()
    held = page(text)["pickers"][0]
    assert held["n"] == 1 and held["charts"] == ["one"] and held["layers"][0]["missing"] == "none"
    note, traces = held["layers"][0]["choices"]["b"]
    assert note == "<p>&lt;/script&gt;</p>"
    assert unpacked(traces["one"]["0"]["y"])[0] == pytest.approx(1.5) and np.isnan(unpacked(traces["one"]["0"]["y"])[1])
    assert '<option value="b" selected>B</option>' in text


def test_numbers_are_written_to_the_digits_that_count() -> None:
    assert [number(x) for x in (0.0, 1234.5, 3.14159, 0.0123, float("nan"), 2.5e-7)] == [
        "0", "1,234", "3.14", "0.0123", "–", "2.50e-07",
    ]  # fmt: skip
    assert (milliseconds(0.00025), milliseconds(1.5), milliseconds(float("nan"))) == ("0.250 ms", "1.50 s", "–")
    ticks = decades(-2, 3, "≤ 0.01")
    assert ticks["ticktext"] == ["≤ 0.01", "0.1", "1", "10", "100", "1 000"] and ticks["tickvals"][0] == 0.01
    assert decades(6, 6)["ticktext"] == ["10⁶"]


def test_packed_numbers_keep_four_digits() -> None:
    values = np.array([0.9513, -1.05, np.nan, 0.0, 1e-9])
    again = unpacked(packed(values))
    assert np.isnan(again[2]) and again[[0, 1, 3, 4]] == pytest.approx(values[[0, 1, 3, 4]], abs=2e-5)
    assert unpacked(packed([np.nan, np.inf])).tolist() == pytest.approx([np.nan, np.nan], nan_ok=True)
    assert unpacked(packed(np.zeros(3))).tolist() == [0, 0, 0] and not len(unpacked(packed([])))


def test_the_command_can_be_pasted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    program = tmp_path / "studies" / "x.py"
    assert command_line([str(program), "--feeder", "my net.json"]) == "python studies/x.py --feeder 'my net.json'"
    assert command_line(["/usr/bin/feederguard", "compare"]) == "feederguard compare"
    found = find_provenance(3, ["studies/x.py"])
    assert found.seed == "3" and found.command == "python studies/x.py"
    assert dict(found.packages)["plotly"] and found.cores >= 1 and found.cpu
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", found.date)
    assert dict(found.lines())["memory"].endswith("GiB") or "not told" in dict(found.lines())["memory"]


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
                rows.append(Row.judged(name, method.name, k, network, sampled, 0.01, decision, outcome, reports))
    return sampled, rows


@pytest.fixture(scope="module")
def transfer() -> tuple[Network, SampledScenarios, list[Row]]:
    network = load_network("ieee33")
    return network, *compared(network, 3)


def table_of(rows: list[Row]) -> pd.DataFrame:
    return pd.DataFrame([asdict(row) for row in rows])


def summarise(rows: list[Row], network: Network, sampled: SampledScenarios) -> pd.DataFrame:
    decisions, times = transfer_tables.table_of(rows)
    return transfer_tables.summarise(TransferResults("ieee33", network, sampled, decisions, times, {}))


def picker_of(section: Section) -> Picker:
    return next(block for block in section.blocks if isinstance(block, Picker))


def test_the_states_shown_are_those_the_judge_saw(transfer: tuple[Network, SampledScenarios, list[Row]]) -> None:
    network, sampled, rows = transfer
    picker = picker_of(transfer_section(network, sampled, table_of(rows), summarise(rows, network, sampled), "ieee33"))
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
        closed = [network.branch_name[b] for b in marks[transfer_report._CLOSED]["at"][1]]
        assert closed == row.closed_branches.split()
        lost = sum(sum(marks[k]["customdata"][1:]) for k in (transfer_report._SHED, transfer_report._DARK))
        assert lost == pytest.approx(1e3 * row.shed_ratio * row.load_mw, abs=0.1 * network.n_bus)


def test_the_chapter_tells_the_question_the_figures_and_the_papers_own(
    transfer: tuple[Network, SampledScenarios, list[Row]], tmp_path: Path
) -> None:
    network, sampled, rows = transfer
    summary = summarise(rows, network, sampled)
    genetic = summary[summary["method"] == "plan_search"].assign(method="genetic")
    section = transfer_section(network, sampled, table_of(rows), pd.concat([summary, genetic]), "ieee33")
    names = [block.name for block in section.blocks if isinstance(block, Chart)]
    assert names == ["transfer-cost-paper", "transfer-cost-radial", "transfer-times"]
    tables = [block for block in section.blocks if isinstance(block, DataTable)]
    assert len(tables) == 3 and "0.243 ± 0.015" in tables[2].rows[0] and "587.24" in tables[2].rows[0]
    assert "The conditions differ" in tables[2].note
    times = next(block for block in section.blocks if isinstance(block, Chart) and block.name == "transfer-times")
    assert [list(trace.x) for trace in times.figure.data if "printed" in (trace.name or "")] == [[587240.0]]
    other = transfer_section(network, sampled, table_of(rows), pd.concat([summary, genetic]), "my_feeder")
    assert len([block for block in other.blocks if isinstance(block, DataTable)]) == 2
    text = write_report("T", [section], HERE, tmp_path)[1].read_text()
    assert "equation (1) of Zhou et al. 2024" in text and "at most 0.9 MW" in text and "| `plan_search` |" in text


def test_a_scenario_without_decision_says_why(transfer: tuple[Network, SampledScenarios, list[Row]]) -> None:
    network, sampled, rows = transfer
    failed = Row.failed("radial", "misocp", 1, network, sampled, 20.0, "no decision within 20 s")
    everything = [*rows, failed]
    section = transfer_section(
        network, sampled, table_of(everything), summarise(everything, network, sampled), "ieee33"
    )
    layer = picker_of(section).layers[2]
    assert layer.choices["1|radial|misocp"].note == "`misocp` gave no decision: no decision within 20 s"
    assert not layer.choices["1|radial|misocp"].traces and "0|radial|misocp" not in layer.choices
    assert "was not run" in layer.missing
    table = [block for block in section.blocks if isinstance(block, DataTable)][1]
    assert "without a decision, left out of the means: misocp: 1" in table.note


def test_decisions_are_read_back_from_their_names() -> None:
    network = load_network("ieee33")
    names = ["tie one" if name == "33" else "tie one b" if name == "36" else name for name in network.branch_name]
    network = network.with_changes(branch_name=names)
    scenarios = make_scenarios(network, ["17", "2"])
    told = pd.DataFrame(
        {
            "closed_branches": ["tie one tie one b", ""], "opened_branches": ["", "5 tie one"],
            "shed_mw": ["18:0.045 25:0.42", "3:0.0900001"],
        }
    )  # fmt: skip
    found = read_decisions(network, scenarios, told)
    assert isinstance(found, Decisions)
    assert np.flatnonzero(found.closed[0] & ~network.closed).tolist() == [32, 35]
    assert not found.closed[0, 16] and not found.closed[1, [1, 4]].any()
    assert found.shed[0, [17, 24]].tolist() == pytest.approx([0.5, 1.0]) and found.shed[1, 2] == 1.0
    with pytest.raises(ValueError, match="names branch 'nowhere', which this feeder does not have"):
        read_decisions(network, scenarios[:1], told[:1].assign(closed_branches="nowhere"))
    with pytest.raises(ValueError, match="sheds at bus '99', which ieee33 does not have"):
        read_decisions(network, scenarios[:1], told[:1].assign(shed_mw="99:0.1"))


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
    methods = pd.DataFrame({"method": ["no_control"], "decision_s": [1e-6], "decision_outside_s": [1e-6]})
    layers = {f"layer_{name}": np.nan for name in ("as_proposed", "corrected", "tube_left", "slack_used", "failed")}
    days = day_table("no_control", 0, bench, bench.test, outcome)
    return bench, VoltageResults("cigre_lv18", days, training, methods.assign(**layers), {}), outcome.p_battery


def test_days_are_shown_as_the_judge_saw_them(voltage: tuple[VoltageBench, VoltageResults, FloatArray]) -> None:
    bench, results, schedule = voltage
    summary = summarise_voltage(results)
    picker = picker_of(voltage_section(bench, results, summary, {"no_control": schedule}))
    for line in results.days.to_dict("records"):
        choice = picker.layers[1].choices[f"{line['date']:%Y-%m-%d}|no_control"]
        v_low = unpacked(choice.traces["voltage-day"][2]["y"])
        assert v_low.min() == pytest.approx(line["v_min_pu"], abs=2e-5)
        assert f"in {line['violation_steps']} of 96 steps" in choice.note or not line["violation_steps"]
        # With batteries idle, what was done and doing nothing are the same lines.
        idle = unpacked(picker.layers[0].choices[f"{line['date']:%Y-%m-%d}"].traces["voltage-day"][0]["y"])
        assert idle == pytest.approx(v_low)
    with pytest.raises(
        ValueError, match=r"the schedule of 'no_control' has shape \(1, 96, 18\); expected \(2, 96, 18\)"
    ):
        voltage_section(bench, results, summary, {"no_control": schedule[:1]})


def test_the_voltage_chapter_has_its_figures(voltage: tuple[VoltageBench, VoltageResults, FloatArray]) -> None:
    bench, results, _ = voltage
    section = voltage_section(bench, results, summarise_voltage(results), {})
    charts = {block.name: block for block in section.blocks if isinstance(block, Chart)}
    assert set(charts) == {
        "voltage-energy", "voltage-outside", "voltage-times", "voltage-learning", "voltage-learning-outside",
    }  # fmt: skip
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
    worst, step = _worst_voltages(network, v)
    assert (worst[4], step[4]) == (0.955, 2) and (worst[7], step[7]) == (1.06, 0)
    assert np.isnan(worst[9]) and step[9] == 2
