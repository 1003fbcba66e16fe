"""The tables of the voltage chapter: the test days, and training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from feederguard.models.voltage_regulation.judge import SAFE_TOLERANCE_PU
from feederguard.studies.pages.blocks import DataTable
from feederguard.studies.pages.number_text import counted, milliseconds
from feederguard.studies.voltage.tables import BOUND, VoltageResults


def summary_table(summary: pd.DataFrame, results: VoltageResults) -> DataTable:
    """Return the table of the test days."""
    headings = (
        "method",
        "steps outside",
        "%",
        "worst, pu",
        "energy, kWh a day",
        "missing at the end, kWh a day",
        "reward a day",
        "gap to optimum, %",
        "over days",
        "time of a decision",
    )
    rows = []
    for line in summary.to_dict("records"):
        known = line["gap_pct"] == line["gap_pct"]
        rows.append(
            (
                f"`{line['method']}`",
                _mean(line, "violation_steps", 0),
                _mean(line, "violation_pct", 2),
                _excess(line["worst_excess_pu"]),
                _mean(line, "regulation_kwh_day", 1),
                _mean(line, "soc_short_kwh_day", 2),
                _mean(line, "reward_day", 2),
                _mean(line, "gap_pct", 1),
                f"{line['gap_days']:.0f}" if known else "–",
                milliseconds(float(line["decision_ms"]) / 1e3),
            )
        )
    one_day = results.days.drop_duplicates("date")
    seeds = int(summary["seeds"].max())
    several = (
        f" Learned methods: mean over {seeds} seeds ± 95 % interval."
        if seeds > 1
        else " Learned methods: one seed."
    )
    failed = [
        f"{line['method']} on {counted(int(line['failed_days']), 'day', 'days')}"
        for line in summary.to_dict("records")
        if line["failed_days"]
    ]
    missing = f" No plan: {', '.join(failed)}; left out of the means." if failed else ""
    return DataTable(
        f"{results.feeder}, {len(one_day)} test days, {int(one_day['steps'].sum())} steps",
        headings,
        tuple(rows),
        "Outside: a bus beyond its band by over 1e-5 pu by the AC power flow. Gap: energy, with "
        f"the energy missing at the end of the day bought back, over that of `{BOUND}` on the "
        f"days that the method held.{several}{missing}",
    )


def training_table(summary: pd.DataFrame) -> DataTable:
    """Return the table of training."""
    rows = tuple(
        (
            f"`{line['method']}`",
            f"{line['training_days']:,.0f}",
            f"{line['training_steps']:,.0f}",
            _mean(line, "training_violation_steps", 0),
            _mean(line, "training_violation_pct", 2),
            _excess(line["training_worst_pu"]),
            milliseconds(float(line["training_s"])),
        )
        for line in summary[summary["training_s"].notna()].to_dict("records")
    )
    return DataTable(
        "The same in training, exploration included",
        ("method", "days", "steps", "steps outside", "%", "worst, pu", "time of training"),
        rows,
        "Of one agent, on one core.",
    )


def _mean(line: Mapping[Any, Any], name: str, digits: int) -> str:
    """Return a mean, with its interval if there is one."""
    mean, width = line[name], line.get(f"{name}_ci95", np.nan)
    if mean != mean:
        return "–"
    # A zero that rounding made negative is a zero.
    text = f"{mean if round(mean, digits) else 0.0:,.{digits}f}"
    return text if width != width else f"{text} ± {width:,.{digits}f}"


def _excess(value: float) -> str:
    return "–" if value != value else "0" if value <= SAFE_TOLERANCE_PU else f"{value:.4f}"
