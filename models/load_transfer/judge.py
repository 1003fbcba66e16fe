"""The judge of load transfer: every decision goes through the same AC power flow.

The cost (1) and the limits (4), (5) are those that `rules.py` writes in Pyomo, compiled once per
network and setting. They are evaluated on the AC state; none is written again here. The
rewards are those of Zhou et al. 2024:

    (10), (11)  reward = 1 / (cost + EPSILON) + R_pen
    (21)        reward = 1 / (2 C_load(S~) - C_load(S) + C_sw(N) + EPSILON) + R_pen

R_pen is -5 where a limit is broken, and -10 where the flow does not converge.

In (21) an agent proposed to shed S, and a correction made that S~ and N. S includes what the
agent's own topology leaves dark. Since cost = C_load(S~) + C_sw(N), (21) is (10) with
C_load(S~) - C_load(S) added to the cost. C_load(S) is the compiled cost of shedding S with every
switch in its normal state. In the paper a correction only adds shedding. On another topology ours
may shed less than was proposed; the difference then counts as zero. Otherwise (21) would pay an
agent for proposing to shed more, and its denominator could vanish.

EPSILON keeps the reward of a transfer without cost finite, and below the penalties as the paper
asks. At the costs of the paper's tables it changes the reward by 0.1 %.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from feederguard.models.arrays import BoolArray, FloatArray, IntArray, plain
from feederguard.models.load_transfer.ac_state import read_state
from feederguard.models.load_transfer.rules import TransferRules, transfer_rules
from feederguard.models.load_transfer.scenario import (
    Decisions,
    Scenarios,
    check_scenarios,
    curtailed_power,
    demand_after_shedding,
    shed_power,
)
from feederguard.models.load_transfer.setting import Setting, resolve_setting
from feederguard.models.network import Network
from feederguard.models.network.graph import energised_buses
from feederguard.models.power_flow import PowerFlow, solve_power_flow

EPSILON = 1.0
PENALTY_LIMIT = -5.0
PENALTY_DIVERGED = -10.0
# Of squared voltage in pu; of active power and squared current relative to the limit.
SAFE_TOLERANCE = 1e-5


@dataclass(frozen=True, eq=False)
class Outcomes:
    """What the judge found, one entry per decision, (B,) each."""

    cost: FloatArray  # (1), of switches and shed load alone: finite even where the flow failed
    reward: FloatArray  # equations (10), (11); with a proposal (21)
    shed_ratio: FloatArray  # shed active power over demand; what is dark counts as shed
    n_operations: IntArray
    # every bus that some path could reach is energised; for information, nothing must be fed
    connected: BoolArray
    converged: BoolArray
    # converged, every limit held to SAFE_TOLERANCE, and radial where the setting asks for it
    safe: BoolArray
    v_min_pu: FloatArray  # lowest energised bus; NaN where the flow failed
    # largest power (paper) or current (radial) over its limit, or power of a group over that; NaN
    # where the flow failed
    max_loading: FloatArray
    # largest violation in the units of SAFE_TOLERANCE; NaN where the flow failed
    worst_violation: FloatArray
    # curtailed generation over all; what trips in the dark counts as curtailed
    curtail_ratio: FloatArray

    def __len__(self) -> int:
        return len(self.cost)


def judge(
    network: Network,
    scenarios: Scenarios,
    decisions: Decisions,
    setting: str | Setting,
    *,
    proposed: Decisions | None = None,
    before: BoolArray | None = None,
) -> Outcomes:
    """Return the AC-judged outcome of each decision.

    proposed: what an agent wanted before a correction made it `decisions`; the reward is then (21),
    which equals (10) where nothing was corrected. before: (B, n_branch) branch states against which
    switching is charged, in place of the normal ones. Opening the faulted branch is never charged.

    Raises ValueError when a batch size or shape does not fit, a value is not finite, a shed or
    curtailed fraction is outside [0, 1], a load is shed in part where the setting sheds whole
    loads, the faulted branch is closed, a branch changed state that the setting does not let anyone
    switch, or one of a team without the others. The proposal is checked the same way.
    """
    return judge_with_flow(
        network, scenarios, decisions, setting, proposed=proposed, before=before
    )[0]


def judge_with_flow(
    network: Network,
    scenarios: Scenarios,
    decisions: Decisions,
    setting: str | Setting,
    *,
    proposed: Decisions | None = None,
    before: BoolArray | None = None,
) -> tuple[Outcomes, PowerFlow]:
    """Return what `judge` returns, and the AC power flow it judged by."""
    rules = transfer_rules(network, resolve_setting(network, setting))
    scenarios = check_scenarios(network, scenarios, "judge")
    decisions = _checked(network, rules, scenarios, decisions, _Who("judge", "decision"))
    p, q = demand_after_shedding(scenarios, decisions)
    flow = solve_power_flow(network, p, q, decisions.closed)
    state = read_state(rules, scenarios, flow, decisions.closed)
    shed = shed_power(scenarios, decisions.shed, flow.energised)
    curtailed = curtailed_power(scenarios, decisions.curtail, flow.energised)
    failed = scenarios.failed_branches(network.n_branch).astype(float)
    operated = (
        decisions.closed if before is None else _relabelled(network, scenarios, decisions, before)
    )
    cost_points = rules.cost.point(
        shed=shed, curtailed=curtailed, y=rules.charged(operated, failed), failed=failed
    )
    cost = rules.cost.objective(cost_points)
    charged = cost
    if proposed is not None:
        charged = cost + _surcharge(network, rules, scenarios, decisions, proposed, flow, shed)
    worst = rules.limits.worst_violation(state.points)
    safe = flow.converged & (worst <= SAFE_TOLERANCE)
    if rules.setting.radial:
        safe &= state.is_forest
    penalty = np.where(safe, 0.0, np.where(flow.converged, PENALTY_LIMIT, PENALTY_DIVERGED))
    demand, made = scenarios.p_load.sum(axis=1), scenarios.p_gen.sum(axis=1)
    outcomes = Outcomes(
        cost=cost,
        reward=1.0 / (charged + EPSILON) + penalty,
        shed_ratio=np.divide(shed.sum(axis=1), demand, out=np.zeros_like(demand), where=demand > 0),
        n_operations=np.round(rules.cost.column_of(cost_points, "n_operations")[:, 0]).astype(
            np.int64
        ),
        connected=state.connected,
        converged=flow.converged,
        safe=safe,
        v_min_pu=state.v_min,
        max_loading=state.loading,
        worst_violation=worst,
        curtail_ratio=np.divide(
            curtailed.sum(axis=1), made, out=np.zeros_like(made), where=made > 0
        ),
    )
    return outcomes, flow


def check_decisions(
    network: Network,
    scenarios: Scenarios,
    decisions: Decisions,
    setting: str | Setting,
    who: str = "judge",
) -> tuple[Scenarios, Decisions]:
    """Return both as compiled kernels take them, or raise the ValueError of `judge`.

    who: asks for them, and begins the message.
    """
    rules = transfer_rules(network, resolve_setting(network, setting))
    scenarios = check_scenarios(network, scenarios, who)
    return scenarios, _checked(network, rules, scenarios, decisions, _Who(who, "decision"))


def limit_violations(network: Network, setting: str | Setting, flow: PowerFlow) -> FloatArray:
    """Return by how much each AC state of a batched flow breaks each limit, (B, m).

    In the units of SAFE_TOLERANCE; zero where a limit holds, NaN where the flow failed. Raises as
    `resolve_setting`.
    """
    rules = transfer_rules(network, resolve_setting(network, setting))
    closed = np.array(np.broadcast_to(flow.closed, flow.series_current.shape))
    # The limits do not ask which branch failed.
    unknown = Scenarios(np.zeros(len(closed), dtype=np.int64), flow.p, flow.q, flow.p)
    return rules.limits.violations(read_state(rules, unknown, flow, closed).points)


def _checked(
    network: Network, rules: TransferRules, scenarios: Scenarios, decisions: Decisions, who: _Who
) -> Decisions:
    """Return the decisions as kernels take them, or raise ValueError as `judge`."""
    n = len(scenarios)
    closed, shed = plain(decisions.closed), plain(decisions.shed, float)
    curtail = plain(decisions.curtail, float)
    for name, array, width in (
        ("closed", closed, network.n_branch),
        ("shed", shed, network.n_bus),
        ("curtail", curtail, network.n_bus),
    ):
        if array.shape != (n, width):
            raise ValueError(
                f"{who.asks}: {name} has shape {array.shape}; expected ({n}, {width}) on "
                f"{network.name}"
            )
    _check_states(who.asks, "closed", closed)
    failed = scenarios.failed_branches(network.n_branch)
    offence, item, k = _first_offence(
        failed, closed, (shed, curtail), rules.normal, rules.switchable, rules.before_in_team
    )
    if rules.setting.whole_loads and not offence:
        parts = np.argwhere((shed > 1e-9) & (shed < 1 - 1e-9) & (scenarios.p_load > 0))
        if len(parts):
            offence, (item, k) = _PARTLY, parts[0].tolist()
    if offence == _PARTLY:
        fault = (
            f"sheds {shed[item, k]:g} of bus {network.bus_name[k]!r}; the {rules.setting.name} "
            "setting sheds whole loads: 0 or 1"
        )
    elif offence == _BAD_SHED:
        fault = (
            f"sheds {shed[item, k]:g} of bus {network.bus_name[k]!r}; a shed fraction lies between "
            "0 and 1"
        )
    elif offence == _BAD_CURTAIL:
        fault = (
            f"curtails {curtail[item, k]:g} of bus {network.bus_name[k]!r}; a fraction of its "
            "generation lies between 0 and 1"
        )
    elif offence == _RECLOSED:
        fault = f"closes the faulted branch {network.branch_name[k]!r}; it must stay open"
    elif offence == _NOT_SWITCHABLE:
        fault = (
            f"switches branch {network.branch_name[k]!r}, which the {rules.setting.name} setting "
            "does not let anyone operate"
        )
    elif offence == _SPLIT:
        mate = rules.before_in_team[k]
        while failed[item, mate]:
            mate = rules.before_in_team[mate]
        fault = (
            f"switches one of the parallel branches {network.branch_name[mate]!r} and "
            f"{network.branch_name[k]!r}; they are one feed and switch together"
        )
    if offence:
        raise ValueError(f"{who.asks}: {who.what} {item} {fault}")
    return Decisions(closed, shed, curtail)


def _check_states(who: str, name: str, states: NDArray[Any]) -> None:
    if states.dtype != bool:
        raise ValueError(
            f"{who}: {name} holds {states.dtype}; a branch is closed (True) or open (False)"
        )


def _relabelled(
    network: Network, scenarios: Scenarios, decisions: Decisions, before: BoolArray
) -> BoolArray:
    """Return states that depart from the normal ones where `decisions` depart from `before`.

    The cost counts departures from the normal state; so it charges the switching since `before`.
    """
    before = np.asarray(before)
    _check_states("judge", "before", before)
    if before.shape != decisions.closed.shape:
        raise ValueError(
            f"judge: before has shape {before.shape}; expected {decisions.closed.shape}"
        )
    states = decisions.closed ^ before ^ network.closed
    # An open faulted branch is what the cost knows as isolated, which is free.
    states[scenarios.failed_branches(network.n_branch)] = False
    return states


def _surcharge(
    network: Network,
    rules: TransferRules,
    scenarios: Scenarios,
    decisions: Decisions,
    proposed: Decisions,
    flow: PowerFlow,
    shed: FloatArray,
) -> FloatArray:
    """Return C_load(S~) - C_load(S) of (21), (B,); zero where the correction shed less."""
    proposed = _checked(network, rules, scenarios, proposed, _Who("judge", "proposal"))
    energised = flow.energised
    moved = (proposed.closed != decisions.closed).any(axis=1)
    if moved.any():
        energised = energised.copy()
        energised[moved] = energised_buses(network, proposed.closed[moved])

    def load_cost(power: FloatArray, decided: Decisions, live: BoolArray) -> FloatArray:
        curtailed = curtailed_power(scenarios, decided.curtail, live)
        points = rules.cost.point(shed=power, curtailed=curtailed, y=rules.normal, failed=0.0)
        return rules.cost.objective(points)

    shed_by_proposal = shed_power(scenarios, proposed.shed, energised)
    return np.maximum(
        load_cost(shed, decisions, flow.energised)
        - load_cost(shed_by_proposal, proposed, energised),
        0.0,
    )


class _Who(NamedTuple):
    """How a message begins: who asks, and what is at fault."""

    asks: str
    what: str


_BAD_SHED, _RECLOSED, _NOT_SWITCHABLE, _SPLIT, _BAD_CURTAIL, _PARTLY = range(1, 7)


@njit(cache=True)
def _first_offence(  # type: ignore[no-untyped-def]
    failed, closed, fractions, normal, switchable, before_in_team
):
    """Return the first rule that is broken (0: none), the item, and the bus or branch."""
    shed, curtail = fractions
    for item in range(closed.shape[0]):
        for i in range(shed.shape[1]):
            if not -1e-9 <= shed[item, i] <= 1 + 1e-9:
                return _BAD_SHED, item, i
            if not -1e-9 <= curtail[item, i] <= 1 + 1e-9:
                return _BAD_CURTAIL, item, i
        for b in range(closed.shape[1]):
            if failed[item, b]:
                if closed[item, b]:
                    return _RECLOSED, item, b
            elif closed[item, b] != normal[b] and not switchable[b]:
                return _NOT_SWITCHABLE, item, b
            mate = before_in_team[b]
            while mate >= 0 and failed[item, mate]:
                mate = before_in_team[mate]
            if mate >= 0 and not failed[item, b] and closed[item, b] != closed[item, mate]:
                return _SPLIT, item, b
    return 0, 0, 0
