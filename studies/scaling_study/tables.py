"""The tables of the scaling study: gaps, shares, seconds and memory by feeder, and their growth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table

EXACT, FLOOR = "misocp", "power_flow"
# The exact method's bound leaves out its loss term (1e-4 a MW); it matters for costs near zero.
PROVEN_REL, PROVEN_ABS = 1e-3, 5e-3
STOPPED = "time_limit"
LEAST_SPAN = 3.0  # the largest feeder over the smallest, below which no growth is formed
LEAST_MB = 1.0  # less memory is too little to form a growth


def summarise(
    decisions: pd.DataFrame, processes: pd.DataFrame, sizes: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return two tables with a line per feeder and method: the decisions, and what they took.

    The first has the columns

        scenarios, decided    number of scenarios asked and decided
        safe_pct              of the decided
        stopped               decisions that the time limit ended
        compared, proven      scenarios that every method was asked for, and those with proof
        gap_pct, excess_pct   over the proven and over the compared, NaN if there are none
        note

    The second has median_s, p99_s, solver_median_s, set_up_s; memory_mb and its parts; train_s,
    train_mb.
    """
    told, taken = [], []
    for size in sizes.to_dict("records"):
        asked = processes[processes["feeder"] == size["feeder"]]
        of_feeder = decisions[decisions["feeder"] == size["feeder"]]
        reference, best = _references(of_feeder)
        # Unless it was stopped, every method got the scenarios of the one with fewest.
        n_common = int(asked.groupby("method")["last"].max().min()) if len(asked) else 0
        compared = reference.index[reference.index < n_common]
        proven = [k for k in compared if best[k] <= reference[k] * (1 + PROVEN_REL) + PROVEN_ABS]
        for method in asked["method"].unique():
            part = of_feeder[of_feeder["method"] == method]
            ran = asked[asked["method"] == method]
            told.append(
                {str(name): value for name, value in size.items()}
                | {"method": method, **_decided(part, ran, reference, best, proven, list(compared))}
            )
            taken.append(
                {
                    "feeder": size["feeder"],
                    "n_bus": size["n_bus"],
                    "method": method,
                    **_taken(part, ran),
                }
            )
    return pd.DataFrame(told), pd.DataFrame(taken)


def _references(of_feeder: pd.DataFrame) -> tuple[pd.Series[float], pd.Series[float]]:
    """Return the best bound and the least cost of a safe decision by scenario, inf if none."""
    by_scenario = of_feeder.assign(bound=of_feeder[["bound", "least_cost"]].max(axis=1)).groupby(
        "scenario"
    )
    # The bounds are for decisions that feed every bus that can be fed.
    good = of_feeder[_is_good(of_feeder)].groupby("scenario")["cost"].min()
    reference = by_scenario["bound"].max()
    return reference, good.reindex(reference.index, fill_value=np.inf)


def _is_good(part: pd.DataFrame) -> pd.Series[bool]:
    return part[["decided", "safe", "connected"]].eq(True).all(axis=1) & (part["method"] != FLOOR)


def _decided(
    part: pd.DataFrame,
    ran: pd.DataFrame,
    reference: pd.Series[float],
    best: pd.Series[float],
    proven: list[int],
    compared: list[int],
) -> dict[str, Any]:
    blocks = ran.drop_duplicates(["first", "last"])
    asked, decided = int((blocks["last"] - blocks["first"]).sum()), part["decided"].eq(True)
    cost = part[_is_good(part)].set_index("scenario")["cost"]
    on_proven, on_all = cost.index.intersection(proven), cost.index.intersection(compared)
    notes = [trouble for trouble in ran["trouble"].dropna().unique() if trouble]
    if len(part) < asked:
        notes.append(f"{len(part)} of {asked} scenarios tried")
    if lost := int((~decided).sum()):
        notes.append(f"no decision for {lost}: {part.loc[~decided, 'note'].iloc[0]}")
    return {
        "scenarios": asked,
        "decided": int(decided.sum()),
        "safe_pct": 100 * part.loc[decided, "safe"].astype(float).mean()
        if part["method"].ne(FLOOR).any()
        else np.nan,
        "stopped": int(part["note"].fillna("").str.startswith(STOPPED).sum() + (~decided).sum()),
        "compared": len(compared),
        "proven": len(proven),
        "gap_pct": _excess(cost[on_proven], reference[on_proven]),
        "excess_pct": _excess(cost[on_all], best[on_all]),
        "note": "; ".join(notes),
    }


def _excess(cost: pd.Series[float], reference: pd.Series[float]) -> float:
    """Return by how many percent costs exceed references, sum over sum; NaN if there are none."""
    return float(100 * (cost.sum() / reference.sum() - 1)) if reference.sum() > 0 else np.nan


def _taken(part: pd.DataFrame, ran: pd.DataFrame) -> dict[str, float]:
    deciding, training = (ran[ran["what"] == what] for what in ("deciding", "training"))
    fresh = training[training["cached"].eq(False)]
    return {
        "median_s": _median(part["seconds"]),
        "p99_s": part["seconds"].quantile(0.99),
        "solver_median_s": _median(part["solver_s"]),
        "set_up_s": deciding["set_up_s"].max(),
        "memory_mb": (deciding["peak_mb"] - deciding["ready_mb"]).max(),
        "import_mb": deciding["import_mb"].max(),
        "ready_mb": deciding["ready_mb"].max(),
        "peak_mb": deciding["peak_mb"].max(),
        "train_s": training["set_up_s"].max(),
        "train_mb": (fresh["peak_mb"] - fresh["ready_mb"]).max(),
    }


def _median(values: pd.Series[float]) -> float:
    return float(values.median()) if values.notna().any() else np.nan


def exponents(summary: pd.DataFrame, times: pd.DataFrame) -> pd.DataFrame:
    """Return by method the slopes of log median_s and log memory_mb over log n_bus.

    A feeder is left out if half of its decisions or more were stopped by the time limit, or not all
    were made: its time would be the limit. A slope is NaN if fewer than three feeders are left. It
    is NaN too if the largest has less than LEAST_SPAN times the buses of the smallest.
    """
    whole = (summary["decided"] == summary["scenarios"]) & (
        2 * summary["stopped"] < summary["scenarios"]
    )
    lines = []
    for method, part in times.groupby("method", sort=False):
        kept = part[whole.to_numpy()[part.index]]
        memory = kept["memory_mb"].where(kept["memory_mb"] >= LEAST_MB)
        lines.append(
            {
                "method": method,
                "time_exponent": _slope(kept["n_bus"], kept["median_s"]),
                "memory_exponent": _slope(kept["n_bus"], memory),
                "feeders": len(kept),
                "left_out": len(part) - len(kept),
            }
        )
    return pd.DataFrame(lines)


def _slope(size: pd.Series[float], value: pd.Series[float]) -> float:
    known = (value > 0).to_numpy()
    if known.sum() < 3 or size[known].max() < LEAST_SPAN * size[known].min():
        return np.nan
    return float(np.polyfit(np.log(size[known]), np.log(value[known]), 1)[0])


def print_tables(
    summary: pd.DataFrame,
    times: pd.DataFrame,
    trend: pd.DataFrame,
    time_limit_s: float,
    console: Console,
) -> None:
    """Print a line per feeder and method, what did not run and why, and the exponents."""
    console.print(_table_of(summary, times))
    for line in summary.to_dict("records"):
        if line["note"]:
            console.print(f"* {line['feeder']}, {line['method']}: {line['note']}", markup=False)
    console.print(
        f"stopped: decisions that the solver's time limit of {time_limit_s:g} s ended (building "
        "the model is not under it). gap: cost over the best proven bound, of the scenarios whose "
        "optimum is proven. excess: cost over the cheapest safe decision of any method, of the "
        "scenarios that all were given. memory: largest resident memory, less that before the "
        "feeder was loaded."
    )
    for line in trend.to_dict("records"):
        console.print(_growth(line), markup=False)


HEADINGS = (
    "feeder",
    "buses",
    "method",
    "scen.",
    "safe\n%",
    "stopped",
    "proven",
    "gap\n%",
    "excess\n%",
    "time\nmedian",
    "time\np99",
    "solver\nmedian",
    "memory\nMiB",
    "training",
)


def _table_of(summary: pd.DataFrame, times: pd.DataFrame) -> Table:
    title = "Load transfer in the radial setting against feeder size, one core"
    table = Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in HEADINGS:
        left = heading in ("feeder", "method")
        table.add_column(heading, justify="left" if left else "right", no_wrap=True)
    last = None
    for line, took in zip(summary.to_dict("records"), times.to_dict("records"), strict=True):
        if last not in (None, line["feeder"]):
            table.add_section()
        new, last = line["feeder"] != last, line["feeder"]
        safe, *gaps = _judged_cells(line)
        table.add_row(
            line["feeder"] if new else "",
            str(line["n_bus"]) if new else "",
            line["method"] + "*" * bool(line["note"]),
            f"{line['decided']}",
            safe,
            str(line["stopped"]) if line["method"] == EXACT else "",
            *gaps,
            _seconds(took["median_s"]),
            _seconds(took["p99_s"]),
            _seconds(took["solver_median_s"]),
            _number(took["memory_mb"], 0),
            _seconds(took["train_s"]),
        )
    return table


def _judged_cells(line: Mapping[Any, Any]) -> tuple[str, ...]:
    """Return the cells safe, proven, gap and excess; a mere power flow decides nothing."""
    if line["method"] == FLOOR:
        return "", "", "", ""
    return (
        _number(line["safe_pct"], 0),
        f"{line['proven']}/{line['compared']}",
        _gap(line["gap_pct"], line["proven"]),
        _number(line["excess_pct"], 2),
    )


def _growth(line: Mapping[Any, Any]) -> str:
    left = f", {line['left_out']} left out (stopped by a limit)" if line["left_out"] else ""
    exponents = [
        f"{what} {'unknown' if np.isnan(value) else f'buses^{value:.2f}'}"
        for what, value in (
            ("decision time ~", line["time_exponent"]),
            ("memory ~", line["memory_exponent"]),
        )
    ]
    return f"{line['method']}: {', '.join(exponents)} ({line['feeders']} feeders{left})"


def _gap(value: float, proven: int) -> str:
    return "not proven" if not proven else _number(value, 2)


def _number(value: float, digits: int) -> str:
    return "-" if np.isnan(value) else f"{value:.{digits}f}"


def _seconds(value: float) -> str:
    if np.isnan(value):
        return ""
    number, unit = (value, "s") if value >= 1 else (1e3 * value, "ms")
    return f"{number:.{0 if number >= 10 else 1 if number >= 1 else 2}f} {unit}"
