"""The chapter on voltage regulation in a study's report: question, map, charts and tables.

The map shows the first seed of a learned method, charts and tables over all days show all seeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from feederguard.models.arrays import FloatArray
from feederguard.studies.pages.blocks import Block, Prose, Section
from feederguard.studies.pages.number_text import number
from feederguard.studies.voltage.bench import VoltageBench
from feederguard.studies.voltage.charts import energy_chart, outside_chart, times_chart
from feederguard.studies.voltage.day_charts import band
from feederguard.studies.voltage.learning import learning_charts
from feederguard.studies.voltage.picker import voltage_picker
from feederguard.studies.voltage.report_tables import summary_table, training_table
from feederguard.studies.voltage.tables import VoltageResults, with_optimum

WHAT = {
    "no_control": "the batteries do nothing",
    "droop": "each battery follows the voltage of its own bus, slopes tuned on the training days",
    "ddpg": "learned (DDPG), without a safety layer",
    "td3": "learned (TD3), without a safety layer",
    "sac": "learned (soft actor-critic), without a safety layer",
    "ppo": "learned (PPO), without a safety layer",
    "safe_ddpg": "learned, with one learned linear correction per limit (Dalal et al. 2018)",
    "df_srl": "TD3 with the safety layer: the nearest powers that keep every voltage in its band "
    "and the SOC inside its tube",
    "df_srl_no_tube": "the same agent, its layer without the SOC tube",
    "idle_safe": "no power proposed, the safety layer alone",
    "lindistflow_opf": "perfect information, a model without losses",
    "ac_opf": "perfect information and the AC equations: the optimum that the gap refers to",
}


def voltage_section(
    bench: VoltageBench,
    results: VoltageResults,
    summary: pd.DataFrame,
    schedules: Mapping[str, FloatArray],
) -> Section:
    """Return the chapter on a comparison of voltage regulation.

    summary: `tables.summarise` of the results; schedules: applied powers (n_day, n_step, n_bat) in
    pu on the test days by method, of the first seed of a learned one. A method without a schedule
    is left out of the map. Raises ValueError if a schedule has another shape.
    """
    days = with_optimum(results.days)
    shape = (len(bench.test), bench.test.n_step, len(bench.batteries))
    for name, schedule in schedules.items():
        if np.shape(schedule) != shape:
            raise ValueError(
                f"report: the schedule of {name!r} has shape {np.shape(schedule)}; expected "
                f"{shape}, days, steps and batteries"
            )
    blocks: list[Block] = [Prose(_question(bench)), Prose(_brief(summary, days))]
    if schedules:
        blocks.append(voltage_picker(bench, days, schedules))
    blocks += [energy_chart(days), outside_chart(summary), summary_table(summary, results)]
    blocks.append(times_chart(summary))
    if len(results.training):
        blocks += [*learning_charts(results.training, days), training_table(summary)]
    blocks.append(Prose(_reading(summary)))
    return Section("voltage", f"Voltage regulation on {results.feeder}", tuple(blocks))


def _question(bench: VoltageBench) -> str:
    network, batteries, test = bench.network, bench.batteries, bench.test
    low, high = band(network)
    power = 1e3 * network.base_mva * batteries.p_max
    energy = 1e3 * network.base_mva * batteries.energy
    return (
        "Photovoltaics raise the voltage at noon, and the demand of the evening lowers it. How "
        "should the batteries of a feeder be charged and discharged so that every bus stays "
        f"between {low:.2f} and {high:.2f} pu all day, with as little energy through the batteries "
        f"as possible?\n\n{bench.feeder} has {network.n_bus} buses and {len(batteries)} batteries "
        f"({_range(power)} kW and {_range(energy)} kWh each). Every method met the same "
        f"{len(test)} test days, {test.n_step} steps of {60 * test.step_h:g} minutes each, and "
        "every step was judged by the same AC power flow. Learned methods never saw those days."
    )


def _range(values: FloatArray) -> str:
    low, high = f"{values.min():.4g}", f"{values.max():.4g}"
    return low if low == high else f"{low} to {high}"


def _brief(summary: pd.DataFrame, days: pd.DataFrame) -> str:
    held = summary[(summary["violation_steps"] == 0) & (summary["failed_days"] == 0)]
    worst = summary[summary["violation_steps"] > 0]
    said = (
        [
            f"- {len(held)} of {len(summary)} methods kept every bus in its band on every day: "
            f"{_names(held)}."
        ]
        if len(held)
        else []
    )
    if not len(held):
        said = ["- No method kept every bus in its band on every day."]
    online = held[~held["method"].isin(["ac_opf", "lindistflow_opf"]) & held["gap_pct"].notna()]
    if len(online):
        best = online.iloc[int(online["gap_pct"].argmin())]
        said.append(
            f"- Of the methods that do not know the day in advance, `{best['method']}` came "
            f"nearest to the optimum: {best['gap_pct']:.0f} % more energy, "
            f"{number(best['decision_ms'])} ms a decision."
        )
    if len(worst):
        share = ", ".join(
            f"`{line['method']}` {number(line['violation_pct'])} %"
            for line in worst.to_dict("records")
        )
        said.append(f"- Steps with a bus outside the band: {share}.")
    return "In brief:\n\n" + "\n".join(said)


def _names(table: pd.DataFrame) -> str:
    return ", ".join(f"`{name}`" for name in table["method"])


def _reading(summary: pd.DataFrame) -> str:
    names: Sequence[str] = list(summary["method"])
    told = "\n".join(f"- `{name}`: {WHAT[name]}" for name in names if name in WHAT)
    return (
        "**How to read it.** First look at the band: a method that leaves it saves energy by not "
        "doing its job. Compare energy only between methods that hold the band. Then look at the "
        "gap: how much more energy a method needs than the optimum. The optimum knew the whole day "
        "in advance, so a method that decides step by step cannot be expected to reach it. Energy "
        f"missing at the end of a day must be bought back and is added.\n\n{told}"
    )
