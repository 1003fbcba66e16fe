"""The voltage chapter of a report: its map shows what the judge found, its figures are there.

`charts.py`, `day_charts.py`, `learning.py`, `map.py`, `picker.py` and `report_tables.py` are tested
here.
"""

import numpy as np
import pandas as pd
import pytest
from small_studies import picker_of, unpacked

from feederguard.baselines.voltage.no_control import NoControl
from feederguard.data.networks import load_network
from feederguard.models.arrays import FloatArray
from feederguard.models.voltage_regulation import simulate
from feederguard.studies.pages.blocks import Chart, Picker
from feederguard.studies.voltage.bench import VoltageBench, VoltageConfig, load_bench
from feederguard.studies.voltage.map import worst_voltages
from feederguard.studies.voltage.report import voltage_section
from feederguard.studies.voltage.tables import VoltageResults
from feederguard.studies.voltage.tables import summarise as summarise_voltage
from feederguard.studies.voltage.work import day_table


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
