"""An N-1 sheet as a whole: its tables, totals and warnings, and how the console shows it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table

from feederguard.models.load_transfer import Setting
from feederguard.models.network import Network
from feederguard.studies.n_minus_1_sheet.rows import NOTHING, UNSAFE


@dataclass(frozen=True, eq=False)
class Sheet:
    """An N-1 sheet."""

    network: Network
    setting: Setting
    demand: str  # its hour, in words
    counts_customers: bool  # else load points
    make_before_break: bool
    notes: tuple[str, ...]
    command: str
    faults: pd.DataFrame  # a line per fault: `rows.fault_rows`
    steps: pd.DataFrame  # a line per switching step: `rows.step_rows`
    times: pd.DataFrame  # per fault: decision_ms, order_ms, proof_ms
    seconds: float  # of the whole run, reading the feeder included
    before: pd.DataFrame = field(default_factory=pd.DataFrame)  # `before.before_fault`

    @property
    def counted(self) -> str:
        """What is counted beside kW, as in column names."""
        return "customers" if self.counts_customers else "load_points"


def totals(sheet: Sheet) -> dict[str, float]:
    """Return counts and sums over all faults of the sheet, by their names."""
    faults, steps = sheet.faults, sheet.steps
    beyond = steps[~steps["within_limits"]]
    finite = faults[np.isfinite(faults["gap_pct"])]
    return {
        "faults": len(faults),
        "that need no operation and leave nothing dark": int((faults["status"] == NOTHING).sum()),
        "that keep load without supply": int(
            ((faults["dark_kw"] > 0) | (faults["shed_kw"] > 0)).sum()
        ),
        "without a safe decision": int((~faults["safe"]).sum()),
        "switching steps": int((steps["step"] > 0).sum()),
        "states on the way beyond limits": len(beyond),
        "states with a loop energised": int(steps["loop_energised"].sum()),
        "dark, summed over faults, kW": float(faults["dark_kw"].sum()),
        "shed, summed over faults, kW": float(faults["shed_kw"].sum()),
        "decisions proven to a gap of 0.01 %": int((faults["gap_pct"] <= 0.01).sum()),
        "without a useful bound": int((~np.isfinite(faults["gap_pct"])).sum()),
        "largest gap that is known, %": float(finite["gap_pct"].max())
        if len(finite)
        else float("nan"),
        "median decision time, ms": float(sheet.times["decision_ms"].median()),
        "longest decision time, ms": float(sheet.times["decision_ms"].max()),
    }


def told(value: float) -> str:
    """Return a total as text: counts and large numbers whole, small ones to a tenth."""
    return (
        f"{value:,}"
        if isinstance(value, int)
        else f"{value:,.0f}"
        if abs(value) >= 1000
        else f"{value:,.1f}"
    )


def worst_first(sheet: Sheet) -> pd.DataFrame:
    """Return the faults, worst first.

    In this order count: no safe decision, load without supply, steps beyond limits, operations,
    lowest voltage.
    """
    faults = sheet.faults.assign(unserved=sheet.faults["dark_kw"] + sheet.faults["shed_kw"])
    order = ["safe", "unserved", "steps_beyond_limits", "n_operations", "v_min_pu"]
    return faults.sort_values(order, ascending=[True, False, False, False, True], kind="stable")


def print_sheet(sheet: Sheet, show: int, console: Console) -> None:
    """Print the totals and the `show` worst faults."""
    title = f"N-1 sheet of {sheet.network.name}, {sheet.setting.name} setting, {sheet.demand}"
    for note in (*sheet.notes, *warnings_of(sheet)):
        console.print(f"note: {note}", markup=False)
    if show:
        console.print(_worst_table(sheet, show, title))
        console.print(
            f"dark and shed: kW, and {sheet.counted.replace('_', ' ')} in brackets; beyond: "
            "states past a limit; gap: cost over its proven bound, ? if there is no useful one",
            markup=False,
        )
    table = Table(
        title=f"All faults, {title}", box=box.SIMPLE_HEAD, show_header=False, padding=(0, 1, 0, 0)
    )
    for name, value in totals(sheet).items():
        table.add_row(name, told(value))
    table.add_row("run time, s", f"{sheet.seconds:.1f}")
    console.print(table)


def warnings_of(sheet: Sheet) -> list[str]:
    """Return what a reader must know first."""
    found = []
    tripped = sheet.steps[sheet.steps["step"] == 0]
    n = int((~tripped["within_limits"]).sum())
    if n:
        found.append(
            f"after {n} of {len(tripped)} faults the part that still has supply is beyond limits "
            "before anything is switched"
        )
    n = int((sheet.faults["order"] != "all orders compared").sum())
    if n:
        found.append(
            f"{n} faults have too many operations to compare all orders: their order was chosen "
            "one operation at a time"
        )
    return found


def _worst_table(sheet: Sheet, show: int, title: str) -> Table:
    table = Table(
        title=f"The worst {min(show, len(sheet.faults))} faults, {title}",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    table.add_column("fault", overflow="fold")
    table.add_column("operations in order", overflow="fold", ratio=1)
    for heading in (
        "dark\nkW",
        "shed\nkW",
        "V min\npu",
        "load-\ning %",
        "be-\nyond",
        "gap\n%",
        "ms",
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    times = sheet.times.set_index("fault")["decision_ms"]
    for line in worst_first(sheet).head(show).to_dict("records"):
        operations = line["operations"] or line["status"]
        table.add_row(
            line["fault"],
            operations if line["safe"] else f"{UNSAFE}: {operations}",
            _with_count(line["dark_kw"], line[f"{sheet.counted}_dark"]),
            _with_count(line["shed_kw"], line[f"{sheet.counted}_shed"]),
            number(line["v_min_pu"], ".4f"),
            number(line["max_loading_pct"], ".0f"),
            str(line["steps_beyond_limits"]),
            number(line["gap_pct"], ".2f"),
            f"{times[line['fault']]:.0f}",
        )
    return table


def _with_count(kw: float, count: int) -> str:
    return f"{kw:,.1f} ({count})" if kw > 0 else "0"


def number(value: float, form: str) -> str:
    """Return a number, ? if it is not known: a gap without bound, a voltage without power flow."""
    return format(value, form) if np.isfinite(value) else "?"
