"""The tables of the load-transfer chapter: our figures, and the paper's printed ones."""

from __future__ import annotations

import pandas as pd

from feederguard.models.load_transfer import Setting
from feederguard.models.load_transfer.judge import EPSILON
from feederguard.studies.pages.blocks import DataTable
from feederguard.studies.pages.number_text import milliseconds, number
from feederguard.studies.transfer.paper_tables import PRINTED

PAPER_FEEDER = "ieee33"


def summary_table(lines: pd.DataFrame, setting: Setting, feeder: str, n_scenario: int) -> DataTable:
    """Return the table of the methods in one setting."""
    headings = (
        "method",
        "mean cost",
        "load shed, %",
        "switch operations",
        "all supplied, %",
        "flow solved, %",
        "safe, %",
        "gap to optimum, %",
        "time, mean",
        "99 % within",
        "training",
    )
    rows = []
    for line in lines.to_dict("records"):
        gap = line["gap_pct"]
        rows.append(
            (
                f"`{line['method']}`",
                number(line["cost"], 4),
                number(100 * line["shed_ratio"]),
                number(line["switch_operations"]),
                f"{line['connected_pct']:.1f}",
                f"{line['converged_pct']:.1f}",
                f"{line['safe_pct']:.1f}",
                "–" if gap != gap else f"{gap:,.2f}",
                milliseconds(float(line["seconds_mean"])),
                milliseconds(float(line["seconds_p99"])),
                milliseconds(float(line["training_s"])),
            )
        )
    failed = [
        f"{line['method']}: {int(line['failed'])}"
        for line in lines.to_dict("records")
        if line["failed"]
    ]
    missing = (
        f" Scenarios without a decision: {', '.join(failed)}. The means of all methods leave out "
        f"the {int(lines['left_out'].max())} that some method did not answer."
        if failed
        else ""
    )
    return DataTable(
        f"{feeder}, {setting.name} setting, {n_scenario} faults",
        headings,
        tuple(rows),
        "Gap: total cost of the safe decisions over the total of their optima. All supplied: "
        f"every bus that some path could reach is energised.{missing}",
    )


def is_papers(summary: pd.DataFrame, feeder: str) -> bool:
    """Return whether the paper prints figures of this feeder and one of these settings."""
    return feeder == PAPER_FEEDER and bool((summary["setting"] == "paper").any())


def paper_table(summary: pd.DataFrame, feeder: str, n_scenario: int) -> DataTable | None:
    """Return the paper's printed figures beside ours, None if the paper prints none of these."""
    ours = summary[(summary["setting"] == "paper") & summary["method"].isin(list(PRINTED))]
    if not is_papers(summary, feeder) or ours.empty:
        return None
    headings = (
        "method",
        "shed ratio",
        "printed",
        "switch operations",
        "printed",
        "reward × 10⁴",
        "printed",
        "safe, %",
        "printed",
        "time, s",
        "printed",
    )
    rows = []
    for line in ours.to_dict("records"):
        theirs = PRINTED[str(line["method"])]
        rows.append(
            (
                f"`{line['method']}`",
                f"{line['shed_ratio']:.3f}",
                theirs["shed_ratio"],
                f"{line['switch_operations']:.2f}",
                theirs["n_operations"],
                f"{1e4 / (line['cost'] + EPSILON):.2f}",
                theirs["reward"],
                f"{line['safe_pct']:.1f}",
                theirs["safe"],
                number(line["seconds_mean"]),
                theirs["seconds"],
            )
        )
    return DataTable(
        "Beside the paper's printed figures",
        headings,
        tuple(rows),
        "printed: Zhou et al., Energy Engineering 121(6), 2024, Tables 1 to 3. The conditions "
        "differ. Theirs are means over their own test set and several trainings, on hourly loads "
        f"and branch limits that are not published, and on their machine. Ours are {n_scenario} "
        "faults of one seed, on the bundled load year, with a uniform branch limit calibrated to "
        f"their level. reward: 1 / (mean cost + {EPSILON:g}), the figure that compares with "
        "theirs. `--tables paper` makes the full comparison over seeds.",
    )
