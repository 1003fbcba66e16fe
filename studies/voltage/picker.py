"""Every day of a voltage comparison on the map: pick a day and a method.

A schedule holds the power of each battery. SOC and voltages are computed again from it by the
judge's simulation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from feederguard.models.arrays import FloatArray
from feederguard.models.voltage_regulation import VoltageDays, VoltageOutcomes, simulate
from feederguard.models.voltage_regulation.rules import judged_buses
from feederguard.studies.pages.blocks import Choice, Layer, Picker, Selector
from feederguard.studies.pages.feeder_drawing import draw_feeder, places
from feederguard.studies.pages.number_text import counted, number
from feederguard.studies.voltage.bench import VoltageBench
from feederguard.studies.voltage.day_charts import (
    POWER,
    SOC,
    VOLTAGE,
    band,
    envelope,
    power_changes,
    power_chart,
    soc_changes,
    soc_chart,
    voltage_chart,
)
from feederguard.studies.voltage.map import MAP, battery_places, map_changes, map_chart


@dataclass(frozen=True, eq=False)
class _Schedule:
    """A schedule as a method that plans."""

    name: str
    p: FloatArray  # (B, T, n_bat)

    def plan(self, days: VoltageDays, soc_start: FloatArray) -> FloatArray:
        return self.p


def voltage_picker(
    bench: VoltageBench, days: pd.DataFrame, schedules: Mapping[str, FloatArray]
) -> Picker:
    """Return every scheduled day on the map.

    days: the table of `with_optimum`; schedules: those of `voltage_section`.
    """
    drawing = draw_feeder(bench.network)
    by_day: dict[str, Choice] = {}
    by_both: dict[str, Choice] = {}
    first = days.sort_values("seed", kind="stable").drop_duplicates(["method", "date"])
    lines = {(line["method"], str(line["date"])[:10]): line for line in first.to_dict("records")}
    lowest, highest = np.inf, -np.inf
    hardest = 0
    for name, schedule in schedules.items():
        outcome = simulate(
            bench.network, bench.batteries, bench.test, _Schedule(name, np.asarray(schedule, float))
        )
        if not by_day:
            judged = judged_buses(bench.network)
            idle = outcome.v_idle[..., judged]
            low, high = band(bench.network)
            hardest = int(((idle < low) | (idle > high)).any(axis=-1).sum(axis=1).argmax())
            lowest, highest = float(np.nanmin(idle)), float(np.nanmax(idle))
            for k, date in enumerate(bench.test.date):
                by_day[str(date)] = Choice("", {VOLTAGE: envelope(idle[k], (0, 1))})
        lowest = min(lowest, float(np.nanmin(outcome.v)))
        highest = max(highest, float(np.nanmax(outcome.v)))
        for k, date in enumerate(bench.test.date):
            line = lines.get((name, str(date)))
            if line is not None and line["note"]:
                note = f"`{name}` has no plan for this day: {line['note']}"
                by_both[f"{date}|{name}"] = Choice(note)
            else:
                by_both[f"{date}|{name}"] = _choice(bench, outcome, k, name, line)
    names = list(schedules)
    shown = next((name for name in ("df_srl", "idle_safe") if name in names), names[-1])
    weekday = [f"{date} ({np.datetime64(date, 'D').astype(object):%A})" for date in bench.test.date]
    dates = [str(date) for date in bench.test.date]
    return Picker(
        "voltage-days",
        "Every day on the map",
        (
            Selector("Day", tuple(zip(dates, weekday, strict=True)), hardest),
            Selector("Method", tuple((name, name) for name in names), names.index(shown)),
        ),
        (
            Layer((0,), by_day),
            Layer((0, 1), by_both, "There is no schedule of this method on this day."),
        ),
        (
            map_chart(bench, drawing),
            voltage_chart(bench, lowest, highest),
            power_chart(bench),
            soc_chart(bench),
        ),
        {**places(drawing), "battery": battery_places(bench, drawing)},
    )


def _choice(
    bench: VoltageBench, outcome: VoltageOutcomes, k: int, name: str, line: Mapping[Any, Any] | None
) -> Choice:
    v, soc_pct = outcome.v[k], 100 * outcome.soc[k]
    p_kw = 1e3 * bench.network.base_mva * outcome.p_battery[k]
    used_kwh = bench.test.step_h * np.abs(p_kw).sum(axis=0)
    return Choice(
        _note(bench, outcome, k, name, line),
        {
            MAP: map_changes(bench, v, used_kwh),
            VOLTAGE: envelope(v[..., judged_buses(bench.network)], (2, 3)),
            POWER: power_changes(p_kw),
            SOC: soc_changes(soc_pct),
        },
    )


def _note(
    bench: VoltageBench, outcome: VoltageOutcomes, k: int, name: str, line: Mapping[Any, Any] | None
) -> str:
    outside, n_step = int(outcome.n_violation_steps[k]), bench.test.n_step
    energy = 1e3 * float(outcome.regulation_mwh[k])
    words = f"**{name}**: {number(energy)} kWh through the batteries"
    if line is not None and line["optimum_kwh"] == line["optimum_kwh"]:
        words += f" (optimum {number(line['optimum_kwh'])} kWh)"
    short = 1e3 * float(outcome.soc_short_mwh[k])
    words += f"; {number(short)} kWh missing at the end of the day." if short > 0.05 else "."
    if not outcome.converged[k].all():
        failed = counted(int((~outcome.converged[k]).sum()), "step", "steps")
        return f"{words}\n\n**Outside the band**: {failed} without an AC solution."
    if outside:
        worst = outcome.worst_excess_pu[k]
        return (
            f"{words}\n\n**Outside the band** in {outside} of {n_step} steps, by up to {worst:.4f} "
            "pu."
        )
    return f"{words}\n\n**Inside the band** in all {n_step} steps, by the AC power flow."
