"""The judge of load transfer: every decision, solved, evolved or learned, through the same AC power flow.

The cost (1) and the limits (4), (5) are those of the Pyomo model in `reconfiguration.py`, compiled once per network and
setting and evaluated on the AC state; nothing of them is written again here. The reward is that of Zhou et al. 2024:

    (10), (11)  reward = 1 / (cost + EPSILON) + (-5 where a limit is broken, -10 where the flow does not converge)

EPSILON keeps the reward of a transfer that costs nothing finite, and below the penalties as the paper asks of them; at
the costs of the paper's tables it changes the reward by 0.1 %.
"""

from __future__ import annotations

from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
import pyomo.environ as pyo
from numpy.typing import NDArray

from feederguard.models.compiled import CompiledModel, compile_model
from feederguard.models.network import BoolArray, FloatArray, Network
from feederguard.models.power_flow import PowerFlow, solve_power_flow
from feederguard.models.reconfiguration import add_cost, add_limits
from feederguard.models.scenario import Decisions, Scenarios, make_scenarios
from feederguard.models.setting import Setting, reachable_buses, resolve_setting

__all__ = ["Decisions", "Outcomes", "Scenarios", "judge", "make_scenarios", "net_demand"]

EPSILON = 1.0
PENALTY_LIMIT = -5.0
PENALTY_DIVERGED = -10.0
SAFE_TOLERANCE = 1e-5  # of squared voltage in pu, of active power and squared current relative to the limit


@dataclass(frozen=True, eq=False)
class Outcomes:
    """What the judge found, one entry per decision, (B,) each."""

    cost: FloatArray  # equation (1); finite even where the flow failed, since it asks only for switches and shed load
    reward: FloatArray  # equations (10), (11)
    shed_ratio: FloatArray  # shed active power over demand; what is dark counts as shed
    n_operations: NDArray[np.int64]
    connected: BoolArray  # every bus that some path could reach is energised
    converged: BoolArray
    safe: BoolArray  # converged, every limit held to SAFE_TOLERANCE, and radial where the setting asks for it
    v_min_pu: FloatArray  # lowest energised bus; NaN where the flow failed
    max_loading: FloatArray  # largest power (paper) or current (radial) over its limit; NaN where the flow failed
    worst_violation: FloatArray  # largest violation in the units of SAFE_TOLERANCE; NaN where the flow failed

    def __len__(self) -> int:
        return len(self.cost)


def judge(network: Network, scenarios: Scenarios, decisions: Decisions, setting: str | Setting) -> Outcomes:
    """Return the AC-judged outcome of each decision.

    Raises ValueError when batch sizes or shapes disagree, a shed fraction is outside [0, 1] or NaN, the faulted branch
    is closed, or a branch that the setting does not let anyone switch has changed state.
    """
    rules = _rules(network, resolve_setting(network, setting))
    decisions = Decisions(np.asarray(decisions.closed), np.asarray(decisions.shed, dtype=float))
    _check(network, rules, scenarios, decisions)
    shed, p, q, flow = _apply(network, scenarios, decisions)
    failed = np.zeros((len(scenarios), network.n_branch))
    failed[np.arange(len(scenarios)), scenarios.fault] = 1.0

    # A dark bus has no voltage to be judged: give it one that every band contains.
    inside = (0.5 * (rules.setting.v_min_pu + rules.setting.v_max_pu)) ** 2
    w = np.where(flow.energised, np.abs(flow.voltage) ** 2, inside)
    y = decisions.closed.astype(float)
    cost_points = rules.cost.point(shed=shed, y=y, failed=failed)
    limit_points = rules.limits.point(**_limit_columns(network, rules.limits, flow, w, y))
    worst = rules.limits.worst_violation(limit_points)
    cost = rules.cost.objective(cost_points)
    radial = _is_forest(flow) if rules.setting.radial else np.ones(len(cost), dtype=bool)
    within = worst <= SAFE_TOLERANCE
    connected = np.asarray((flow.energised | ~rules.reachable[scenarios.fault]).all(axis=1))
    penalty = np.where(flow.converged, np.where(within & radial, 0.0, PENALTY_LIMIT), PENALTY_DIVERGED)
    demand = scenarios.p_load.sum(axis=1)
    return Outcomes(
        cost=cost,
        reward=1.0 / (cost + EPSILON) + penalty,
        shed_ratio=np.divide(shed.sum(axis=1), demand, out=np.zeros_like(demand), where=demand > 0),
        n_operations=np.round(rules.cost.column_of(cost_points, "n_operations")[:, 0]).astype(np.int64),
        connected=connected,
        converged=flow.converged,
        safe=flow.converged & within & radial,
        v_min_pu=np.where(flow.converged, flow.v_min_pu, np.nan),
        max_loading=_max_loading(network, rules.setting, flow),
        worst_violation=worst,
    )


def net_demand(scenarios: Scenarios, decisions: Decisions) -> tuple[FloatArray, FloatArray]:
    """Return net active and reactive demand in pu, (B, n_bus) each, after shedding at constant power factor."""
    kept = 1.0 - decisions.shed
    return scenarios.p_load * kept - scenarios.p_gen, scenarios.q_load * kept


@dataclass(frozen=True, eq=False)
class _Rules:
    """One network under one setting: the compiled algebra and what follows from the graph alone."""

    setting: Setting
    cost: CompiledModel
    limits: CompiledModel
    switchable: BoolArray  # (n_branch,)
    reachable: BoolArray  # (n_branch, n_bus) buses that some path could reach after the loss of that branch


_known_rules: WeakKeyDictionary[Network, dict[Setting, _Rules]] = WeakKeyDictionary()


def _rules(network: Network, setting: Setting) -> _Rules:
    known = _known_rules.setdefault(network, {})
    if setting not in known:
        known[setting] = _build_rules(network, setting)
    return known[setting]


def _build_rules(network: Network, setting: Setting) -> _Rules:
    model = pyo.ConcreteModel(f"limits of {network.name}, {setting.name} setting")
    model.bus, model.branch = pyo.RangeSet(0, network.n_bus - 1), pyo.RangeSet(0, network.n_branch - 1)
    model.shed, model.y = pyo.Var(model.bus), pyo.Var(model.branch)
    model.w, model.P, model.ell = pyo.Var(model.bus), pyo.Var(model.branch), pyo.Var(model.branch)
    add_cost(model, network)
    limits = add_limits(model, network, setting)
    switchable = setting.switchable_branches(network)
    usable = network.closed | switchable
    reachable = np.empty((network.n_branch, network.n_bus), dtype=bool)
    for b in range(network.n_branch):
        usable_now = usable.copy()
        usable_now[b] = False
        reachable[b] = reachable_buses(network, usable_now)
    return _Rules(
        setting,
        compile_model(
            model, objective=model.cost, constraints=[], inputs=["failed"],
            defined={"total_shed": "define_total_shed", "n_operations": "define_n_operations"},
        ),
        compile_model(model, objective=0.0, constraints=limits),
        switchable,
        reachable,
    )  # fmt: skip


def _check(network: Network, rules: _Rules, scenarios: Scenarios, decisions: Decisions) -> None:
    n = len(scenarios)
    if np.shape(scenarios.fault) != (n,):
        raise ValueError(f"judge: fault has shape {np.shape(scenarios.fault)}; expected ({n},)")
    for name, array, width in (
        ("closed", decisions.closed, network.n_branch),
        ("shed", decisions.shed, network.n_bus),
        ("p_load", scenarios.p_load, network.n_bus),
        ("q_load", scenarios.q_load, network.n_bus),
        ("p_gen", scenarios.p_gen, network.n_bus),
    ):
        if array.shape != (n, width):
            raise ValueError(f"judge: {name} has shape {array.shape}; expected ({n}, {width}) on {network.name}")
    if decisions.closed.dtype != bool:
        raise ValueError(f"judge: closed holds {decisions.closed.dtype}; a branch is closed (True) or open (False)")
    if ((scenarios.fault < 0) | (scenarios.fault >= network.n_branch)).any():
        raise ValueError(f"judge: a fault is outside branches 0 to {network.n_branch - 1} of {network.name}")
    if not all(np.isfinite(a).all() for a in (scenarios.p_load, scenarios.q_load, scenarios.p_gen)):
        raise ValueError("judge: a demand or generation is not finite; build scenarios with make_scenarios")
    bad = np.argwhere(~((decisions.shed >= -1e-9) & (decisions.shed <= 1 + 1e-9)))
    if bad.size:
        item, bus = bad[0]
        raise ValueError(
            f"judge: decision {item} sheds {decisions.shed[item, bus]:g} of bus {network.bus_name[bus]!r}; "
            "a shed fraction lies between 0 and 1"
        )
    reclosed = np.flatnonzero(decisions.closed[np.arange(n), scenarios.fault])
    if reclosed.size:
        name = network.branch_name[scenarios.fault[reclosed[0]]]
        raise ValueError(f"judge: decision {reclosed[0]} closes the faulted branch {name!r}; it must stay open")
    changed = decisions.closed != network.closed
    changed[np.arange(n), scenarios.fault] = False
    bad = np.argwhere(changed & ~rules.switchable)
    if bad.size:
        item, b = bad[0]
        raise ValueError(
            f"judge: decision {item} switches branch {network.branch_name[b]!r}, which the {rules.setting.name} setting "
            "does not let anyone operate"
        )


def _apply(
    network: Network, scenarios: Scenarios, decisions: Decisions
) -> tuple[FloatArray, FloatArray, FloatArray, PowerFlow]:
    """Return shed power (dark load included), net demand and the AC flow of each decision."""
    p, q = net_demand(scenarios, decisions)
    flow = solve_power_flow(network, p, q, decisions.closed)
    shed = np.where(flow.energised, decisions.shed, 1.0) * scenarios.p_load
    return shed, p, q, flow


def _limit_columns(
    network: Network, compiled: CompiledModel, flow: PowerFlow, w: FloatArray, y: FloatArray
) -> dict[str, FloatArray]:
    """Return the AC state in the variables of the model's limits, as far as the setting's limits use them."""
    larger_current = np.maximum(np.abs(flow.current_from), np.abs(flow.current_to))
    # In (5) a branch receives P - r ell: with P sent by the AC flow, this ell makes it the AC power received.
    if "P" in compiled.columns:
        lost = flow.s_from.real + flow.s_to.real
        resistance = np.where(network.r > 0, network.r, 1.0)
        state = {"P": flow.s_from.real, "ell": np.where(network.r > 0, lost / resistance, 0.0)}
    else:
        state = {"ell": larger_current**2}
    return {name: {"w": w, "y": y, **state}[name] for name in compiled.columns}


def _is_forest(flow: PowerFlow) -> BoolArray:
    """Return which items are radial: as many closed energised branches as energised buses less the substations."""
    network = flow.network
    live = flow.closed & flow.energised[:, network.from_bus] & flow.energised[:, network.to_bus]
    return np.asarray(live.sum(axis=1) == flow.energised.sum(axis=1) - len(network.substation))


def _max_loading(network: Network, setting: Setting, flow: PowerFlow) -> FloatArray:
    if setting.active_limit_mw is None:
        return np.asarray(flow.loading.max(axis=1, initial=0.0))
    power = np.maximum(np.abs(flow.s_from.real), np.abs(flow.s_to.real)) * network.base_mva
    limited = setting.limited_branches(network)
    return np.asarray(power[:, limited].max(axis=1, initial=0.0) / setting.active_limit_mw)
