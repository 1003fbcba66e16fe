"""What a feeder breaks before any fault, at the demand of the sheet, and what of it stays broken.

The state is that of normal switches. Limits are those of network and setting, before any of them
follows what nothing can help (`voltage_band`, `current_limit_pu`): such a line says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from feederguard.models.arrays import FloatArray
from feederguard.models.load_transfer import (
    Decisions,
    Scenarios,
    Setting,
    judge_with_flow,
    limit_places,
    limit_violations,
)
from feederguard.models.load_transfer.judge import SAFE_TOLERANCE
from feederguard.models.load_transfer.rules import limit_words, overcharged
from feederguard.models.load_transfer.setting import voltage_band
from feederguard.models.network import Network
from feederguard.models.network.graph import away_from_substations
from feederguard.models.power_flow import PowerFlow, solve_power_flow
from feederguard.models.switching.sequence import SwitchingSequence

COLUMNS = ("limit", "value", "low", "high", "unit", "helpless")
HELPLESS = "neither shedding nor switching helps"
MOST_NAMED = 5


@dataclass(frozen=True, eq=False)
class Before:
    """The state before any fault against its limits."""

    table: pd.DataFrame  # a line per broken limit: COLUMNS
    excess: FloatArray  # (n_limit,) by how much it breaks each limit of the judge


def before_fault(network: Network, setting: Setting, scenario: Scenarios) -> Before:
    """Return what the intact feeder breaks at the demand of `scenario`, a batch of one."""
    p = scenario.p_load - scenario.p_gen
    flow = solve_power_flow(network, p, scenario.q_load, network.closed[None])
    excess = np.nan_to_num(limit_violations(network, setting, flow)[0], nan=np.inf)
    if not flow.converged[0]:
        unknown = ("every limit: no power flow solution", np.nan, np.nan, np.nan, "", "")
        return Before(pd.DataFrame([unknown], columns=list(COLUMNS)), excess)
    lines = [*_voltages(network, setting, flow), *_branches(network, setting, flow)]
    lines += _groups(network, setting, flow)
    return Before(pd.DataFrame(lines, columns=list(COLUMNS)), excess)


def lasting_columns(
    network: Network,
    setting: Setting,
    scenarios: Scenarios,
    sequences: list[SwitchingSequence],
    before: Before,
) -> dict[str, list[str]]:
    """Return what the last state of each fault breaks, as columns `broken` and `broken_before`.

    broken_before: the feeder broke it as much before the fault, within the tolerance of the judge.
    """
    columns = {"broken": [""] * len(sequences), "broken_before": [""] * len(sequences)}
    unsafe = [k for k, sequence in enumerate(sequences) if sequence.excess[-1] > 0]
    if not unsafe:
        return columns
    last = Decisions(
        *(
            np.stack([getattr(sequences[k], name)[-1] for k in unsafe])
            for name in ("closed", "shed", "curtail")
        )
    )
    flow = judge_with_flow(network, scenarios[unsafe], last, setting)[1]
    broken = np.nan_to_num(limit_violations(network, setting, flow), nan=0.0)
    places = limit_places(network, setting)
    for k, excess in zip(unsafe, broken, strict=True):
        old = excess <= before.excess + SAFE_TOLERANCE
        for name, mask in (("broken", ~old), ("broken_before", old)):
            rows = np.flatnonzero(mask & (excess > SAFE_TOLERANCE))
            rows = rows[np.argsort(-excess[rows], kind="stable")]
            words = list(dict.fromkeys(limit_words(network, places, row) for row in rows.tolist()))
            more = len(words) - MOST_NAMED
            columns[name][k] = "; ".join(words[:MOST_NAMED]) + f"; {more} more" * (more > 0)
    return columns


def _voltages(network: Network, setting: Setting, flow: PowerFlow) -> list[tuple[Any, ...]]:
    band, voltage = voltage_band(network, setting), np.abs(flow.voltage[0])
    w, low, high = voltage**2, band.given_low, band.given_high
    beyond = (w < low**2 - SAFE_TOLERANCE) | (w > high**2 + SAFE_TOLERANCE)
    beyond &= flow.energised[0] & ~np.isin(np.arange(network.n_bus), network.substation)
    return [
        (
            f"voltage of bus {network.bus_name[i]!r}",
            voltage[i],
            low[i],
            high[i],
            "pu",
            HELPLESS * bool(band.beyond[i]),
        )
        for i in np.flatnonzero(beyond)
    ]


def _branches(network: Network, setting: Setting, flow: PowerFlow) -> list[tuple[Any, ...]]:
    if setting.active_limit_mw is not None:
        size = np.maximum(np.abs(flow.s_from[0].real), np.abs(flow.s_to[0].real))
        most = setting.active_limit_mw / network.base_mva
        limit = np.where(setting.limited_branches(network), most, np.inf)
        what, unit, per_unit = "power", "MW", np.full(network.n_branch, network.base_mva)
        helpless = np.zeros(network.n_branch, dtype=bool)
        beyond = size > limit * (1 + SAFE_TOLERANCE)
    else:
        size = np.maximum(np.abs(flow.current_from[0]), np.abs(flow.current_to[0]))
        limit = setting.rating_factor * network.rating
        what, unit, per_unit = "current", "A", network.base_current_a
        helpless = overcharged(network, setting)
        beyond = size**2 > limit**2 * (1 + SAFE_TOLERANCE)
    return [
        (
            f"{what} of branch {network.branch_name[b]!r}",
            size[b] * per_unit[b],
            np.nan,
            limit[b] * per_unit[b],
            unit,
            HELPLESS * bool(helpless[b]),
        )
        for b in np.flatnonzero(beyond)
    ]


def _groups(network: Network, setting: Setting, flow: PowerFlow) -> list[tuple[Any, ...]]:
    lines = []
    for name, power, limit in zip(*group_powers(network, setting, flow), strict=True):
        if abs(power[0]) > limit * (1 + SAFE_TOLERANCE):
            lines.append((f"power of group {name!r}", power[0], -limit, limit, "MW", ""))
    return lines


def group_powers(
    network: Network, setting: Setting, flow: PowerFlow
) -> tuple[list[str], list[FloatArray], list[float]]:
    """Return the name of each group, its power in MW at every state, (B,), and its limit in MW."""
    away = away_from_substations(network) if network.groups else np.zeros(0)
    names, powers, limits = [], [], []
    for group in network.groups:
        at = [network.branch_index(name) for name in group.branches]
        powers.append(network.base_mva * (flow.s_from.real[:, at] * away[at]).sum(axis=1))
        names.append(group.name)
        limits.append(setting.rating_factor * group.p_limit_mw)
    return names, powers, limits


def told_before(before: Before) -> list[str]:
    """Return what is broken before any fault, in one sentence; none where nothing is."""
    lines = before.table.head(3).to_dict("records")
    shown = ", ".join(
        f"{line['limit']}" + (f" ({line['value']:.4g} {line['unit']})" if line["unit"] else "")
        for line in lines
    )
    n = len(before.table)
    return [f"broken before any fault (before.csv): {n}, among them {shown}"] if n else []
