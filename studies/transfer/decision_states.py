"""The AC states of the decisions in a table.

A table row holds a decision as names of switched branches and MW shed at each bus. The states that
a page shows are computed again from these, all of a setting in one batched AC power flow, by the
judge.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from feederguard.models.arrays import BoolArray, FloatArray
from feederguard.models.load_transfer import Decisions, Scenarios, Setting, judge_with_flow
from feederguard.models.network import Network
from feederguard.models.network.parallel import has_loop
from feederguard.models.power_flow import PowerFlow


@dataclass(frozen=True, eq=False)
class DecisionStates:
    """The AC states of some decisions."""

    closed: BoolArray  # (B, n_branch)
    lost_kw: FloatArray  # (B, n_bus) load that is shed, or dark
    flow: PowerFlow
    loading: FloatArray  # (B, n_branch) of the setting's limit, NaN where there is none
    v: FloatArray  # (B, n_bus) pu, NaN where there is no voltage
    safe: BoolArray  # (B,)
    forest: BoolArray  # (B,) no loop is closed


def read_decisions(network: Network, scenarios: Scenarios, rows: pd.DataFrame) -> Decisions:
    """Return the decisions of rows, one per scenario.

    Raises ValueError for the name of a bus or branch that the feeder does not have.
    """
    branch = {name: b for b, name in enumerate(network.branch_name)}
    bus = {name: i for i, name in enumerate(network.bus_name)}
    closed = np.tile(network.closed, (len(rows), 1))
    closed[np.arange(len(rows)), scenarios.fault] = False
    shed, curtail = (np.zeros((len(rows), network.n_bus)) for _ in range(2))
    columns = (rows["closed_branches"], rows["opened_branches"], rows["shed_mw"])
    for k, (to_close, to_open, sheds) in enumerate(zip(*columns, strict=True)):
        closed[k, _numbers(to_close, branch, "branch")] = True
        closed[k, _numbers(to_open, branch, "branch")] = False
        for name, mw in (item.rsplit(":", 1) for item in shlex.split(sheds)):
            if name not in bus:
                raise ValueError(
                    f"report: a decision sheds load at bus {name!r}, which {network.name} does not "
                    "have"
                )
            demand = network.base_mva * scenarios.p_load[k, bus[name]]
            # The table keeps six digits, which may round a whole load up.
            shed[k, bus[name]] = min(1.0, float(mw) / demand) if demand > 0 else 0.0
        cells = shlex.split(rows["curtailed_mw"].iloc[k])
        for name, mw in (item.rsplit(":", 1) for item in cells):
            made = network.base_mva * scenarios.p_gen[k, bus[name]]
            curtail[k, bus[name]] = min(1.0, float(mw) / made) if made > 0 else 0.0
    return Decisions(closed, shed, curtail)


def solve_states(
    network: Network, scenarios: Scenarios, decisions: Decisions, setting: Setting
) -> DecisionStates:
    """Return the states after decisions, one per scenario, by the judge's AC power flow."""
    outcome, flow = judge_with_flow(network, scenarios, decisions, setting)
    limited = np.isfinite(network.rating)
    loading = flow.loading
    if setting.active_limit_mw is not None:
        limited = setting.limited_branches(network)
        larger = np.maximum(np.abs(flow.s_from.real), np.abs(flow.s_to.real))
        loading = network.base_mva * larger / setting.active_limit_mw
    live = flow.energised & flow.converged[:, None]
    lost = np.where(flow.energised, decisions.shed, 1.0) * scenarios.p_load
    return DecisionStates(
        decisions.closed,
        1e3 * network.base_mva * lost,
        flow,
        np.where(limited & flow.converged[:, None], loading, np.nan),
        np.where(live, np.abs(flow.voltage), np.nan),
        outcome.safe,
        ~has_loop(network, decisions.closed, flow.energised),
    )


def _numbers(told: str, known: Mapping[str, int], label: str) -> list[int]:
    """Return the positions of names that `files.joined` has put into one cell."""
    names = shlex.split(told)
    for name in names:
        if name not in known:
            raise ValueError(
                f"report: a decision names {label} {name!r}, which this feeder does not have"
            )
    return [known[name] for name in names]
