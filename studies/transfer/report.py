"""The chapter on load transfer in a study's report: question, map, charts and tables."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from feederguard.data.sampling import SampledScenarios
from feederguard.models.load_transfer import Setting, device_note, resolve_setting
from feederguard.models.load_transfer.rules import COST_BASE_MVA, COST_LOAD, COST_SWITCH
from feederguard.models.network import Network
from feederguard.studies.pages.blocks import Block, Prose, Section
from feederguard.studies.pages.number_text import milliseconds, number
from feederguard.studies.transfer.charts import cost_chart, times_chart
from feederguard.studies.transfer.learning import learning_blocks
from feederguard.studies.transfer.picker import transfer_picker
from feederguard.studies.transfer.report_tables import paper_table, summary_table
from feederguard.studies.transfer.tables import SEARCH, best_references

WHAT = {
    "no_transfer": "nothing is switched: everything behind the fault stays dark",
    "genetic": "a genetic algorithm, the paper's baseline",
    "ddpg": "a learned agent (DDPG), as the paper trains it",
    "ddpg_corrected": "the same agent with the paper's correction: load is shed in steps of 2 % "
    "until the AC flow holds",
    "ddpg_safe": "the same agent with our correction: the least further shedding that the AC flow "
    "needs",
    "ranked_switching": "a learned ranking of switching plans, the best of them checked by AC flow",
    "plan_search": "every tie state (a search if there are too many), each with its least shedding",
    "misocp": "a mixed-integer cone program, solved with a lower bound of the cost",
    "enumeration": "an AC optimum for every tie state, of which the best is taken",
}


def transfer_section(
    network: Network,
    sampled: SampledScenarios,
    rows: pd.DataFrame,
    summary: pd.DataFrame,
    feeder: str,
    training: pd.DataFrame | None = None,
    settings: Sequence[Setting] = (),
) -> Section:
    """Return the chapter on a comparison of load transfer.

    sampled: the scenarios by number; rows: the columns of `tables.Row`, one line per decision;
    summary: `tables.summarise` of them; training: `TransferResults.training`, None to leave
    learning out; settings: those of the rows, default by their names. Raises ValueError if a row
    names a branch or bus that the feeder does not have.
    """
    rows = rows.assign(reference=best_references(rows))
    known = {setting.name: setting for setting in settings}
    settings = [
        known.get(name) or resolve_setting(network, name) for name in dict.fromkeys(rows["setting"])
    ]
    n_scenario = int(rows["scenario"].nunique())
    blocks: list[Block] = [
        Prose(_question(network, feeder, settings, n_scenario)),
        Prose(_brief(summary)),
    ]
    blocks.append(transfer_picker(network, sampled, rows, settings))
    for setting in settings:
        part, lines = (table[table["setting"] == setting.name] for table in (rows, summary))
        blocks += [cost_chart(part, setting), summary_table(lines, setting, feeder, n_scenario)]
    blocks.append(times_chart(summary, feeder))
    if training is not None:
        blocks += learning_blocks(
            training, list(dict.fromkeys(rows["method"])), [setting.name for setting in settings]
        )
    theirs = paper_table(summary, feeder, n_scenario)
    blocks += [theirs] if theirs is not None else []
    blocks.append(Prose(_reading(rows)))
    return Section("transfer", f"Load transfer on {feeder}", tuple(blocks))


def _question(network: Network, feeder: str, settings: Sequence[Setting], n_scenario: int) -> str:
    rules = "\n".join(f"- {_rules(network, setting)}" for setting in settings)
    return (
        "A line of the feeder fails and is isolated. Which switches should be operated, and how "
        "much load must be shed, so that everyone else is supplied at once and nothing is "
        f"overloaded or under voltage? Shedding and switching both cost: {COST_LOAD:g} (shed power "
        f"/ {COST_BASE_MVA:g} MW)² + {COST_SWITCH:g} (number of operations)², equation (1) of Zhou "
        f"et al. 2024.\n\n{feeder} has {network.n_bus} buses, {int(network.closed.sum())} branches "
        f"in service and {int(network.is_tie.sum())} normally open ties. Every method met the same "
        f"{n_scenario} random faults, each at a random hour of the test weeks, and every decision "
        f"was judged by the same AC power flow. {device_note(network)}.\n\n{rules}"
    )


def _rules(network: Network, setting: Setting) -> str:
    shape = "always a tree" if setting.radial else "loops allowed"
    n_free = int(setting.switchable_branches(network).sum())
    limit = (
        "every line within its current rating"
        if setting.active_limit_mw is None
        else f"at most {setting.active_limit_mw:g} MW in every branch but those at the substation "
        "(our calibration; the paper's limits are not published)"
    )
    return (
        f"**{setting.name} setting**: {shape}; {n_free} branches may be switched; "
        f"{setting.v_min_pu:.2f} to {setting.v_max_pu:.2f} pu; {limit}."
    )


def _brief(summary: pd.DataFrame) -> str:
    """Return what the tables say, in one or two sentences per setting."""
    said = []
    for setting, part in summary.groupby("setting", sort=False):
        safe = part[(part["safe_pct"] > 100 - 1e-9) & (part["failed"] == 0)]
        words = (
            f"**{setting} setting**: {len(safe)} of {len(part)} methods gave only safe decisions"
        )
        if len(safe):
            best = safe.iloc[int(safe["cost"].argmin())]
            # Of methods that cost nearly the same, the fastest is named.
            near = safe[safe["cost"] <= best["cost"] * 1.001]
            fast = near.iloc[int(near["seconds_mean"].argmin())]
            words += (
                f"; the cheapest of them cost {number(best['cost'], 4)} on average, and "
                f"`{fast['method']}` reached that within 0.1 % in "
                f"{milliseconds(float(fast['seconds_mean']))} a decision"
            )
        unsafe = part[part["safe_pct"] < 100 - 1e-9]
        if len(unsafe):
            worst = ", ".join(
                f"`{line['method']}` ({line['safe_pct']:.0f} % safe)"
                for line in unsafe.to_dict("records")
            )
            words += f". Not always safe: {worst}"
        said.append(f"- {words}.")
    return "In brief:\n\n" + "\n".join(said)


def _reading(rows: pd.DataFrame) -> str:
    told = "\n".join(
        f"- `{name}`: {WHAT[name]}" for name in dict.fromkeys(rows["method"]) if name in WHAT
    )
    sources = [_source(str(setting), part) for setting, part in rows.groupby("setting", sort=False)]
    optimum = "What stands for the optimum: " + "; ".join(sources) + "."
    if any("`misocp`" in source for source in sources):
        optimum += (
            " A bound holds for decisions without any violation. The judge allows 1e-5, so a gap "
            "can be a few hundredths of a percent below zero."
        )
    return (
        "**How to read it.** A decision is safe if the AC power flow finds a solution in which "
        "every voltage and branch limit holds. In the radial setting no loop may be closed. A "
        "cheap decision that is not safe is of no use: on the map, look for thick red lines and "
        f"for buses outside the band. {optimum}\n\n{told}"
    )


def _source(setting: str, part: pd.DataFrame) -> str:
    """Return the source of a setting's optima, in words."""
    known = part[np.isfinite(part["bound"])]
    exact = list(dict.fromkeys(known.loc[known["method"] != SEARCH, "method"]))
    words = {
        "enumeration": "the best AC optimum over all tie states (`enumeration`)",
        "misocp": "the lower bound that `misocp` proved",
    }
    if exact:
        return f"in the {setting} setting " + " or ".join(
            words.get(name, f"the bound of `{name}`") for name in exact
        )
    if len(known):
        return f"in the {setting} setting the best that `{SEARCH}` found after trying every state"
    return f"in the {setting} setting nothing, since no method proved a bound"
