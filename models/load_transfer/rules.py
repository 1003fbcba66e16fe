"""The rules of load transfer: cost (1), (2) and limits (4), (5), in Pyomo and compiled.

Each is written here, once: the cost in `cost_of_squares`, the limits in `add_limits`. The network
equations (1)-(3) around them are those of `models/reconfiguration.py`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyomo.environ as pyo

from feederguard.models.arrays import BoolArray, FloatArray, IntArray
from feederguard.models.compiled import CompiledModel, compile_model
from feederguard.models.load_transfer.scenario import Scenarios
from feederguard.models.load_transfer.setting import (
    Setting,
    no_load,
    resolve_setting,
    voltage_band,
)
from feederguard.models.network import Network, NetworkError
from feederguard.models.network.graph import away_from_substations, energised_buses
from feederguard.models.network.parallel import team_leads
from feederguard.models.network.pi_model import branch_admittances
from feederguard.models.once_per_object import once_per_object

COST_LOAD = 22.0
COST_SWITCH = 3.0
# Of generation curtailed, against load shed. It also counts what trips in the dark.
CURTAIL_WEIGHT = 0.05
GROUP_LIMIT = "group_limit"
# Our inference from the rewards of Zhou et al., Table 1, at nominal 33-bus load.
COST_BASE_MVA = 0.1


def cost_of_squares(shed_squared: Any, operations_squared: Any) -> Any:
    """Return the cost (1) of (S / S_base)^2 and N^2; numbers or Pyomo expressions."""
    return COST_LOAD * shed_squared + COST_SWITCH * operations_squared


def shed_per_base(network: Network, shed_pu: Any) -> Any:
    """Return S / S_base of (1) for a shed power in pu; a number or a Pyomo expression."""
    return network.base_mva / COST_BASE_MVA * shed_pu


def add_cost(
    model: pyo.ConcreteModel,
    network: Network,
    failed: BoolArray | None = None,
    counted: BoolArray | None = None,
) -> None:
    """Add (1), (2) to a model that has `shed`, `curtailed` (buses, pu) and `y` (branches).

    `curtailed` may lack buses that generate nothing. S counts what is shed by the priority of its
    bus, and what is curtailed by CURTAIL_WEIGHT.
    counted: (n_branch,) branches whose operation counts, default all: of a team its lead alone.
    `total_shed` (pu), `n_operations` and the data `failed` are variables, so that a compiled model
    stays sparse. failed: (n_branch,), default none.
    """
    model.failed = pyo.Var(model.branch, initialize=0.0, doc="f of (2), data")
    for b in model.branch:
        model.failed[b].fix(1.0 if failed is not None and failed[b] else 0.0)
    model.total_shed = pyo.Var(bounds=(0, None), initialize=0.0, doc="S of (2)")
    model.n_operations = pyo.Var(bounds=(0, network.n_branch), initialize=0.0, doc="N of (2)")
    model.define_total_shed = pyo.Constraint(
        expr=model.total_shed
        == sum(float(network.priority[i]) * model.shed[i] for i in model.bus)
        + CURTAIL_WEIGHT * sum(model.curtailed[i] for i in model.curtailed),
        doc="(2)",
    )
    model.define_n_operations = pyo.Constraint(
        expr=model.n_operations
        == sum(
            1 - model.y[b] - model.failed[b] if network.closed[b] else model.y[b]
            for b in model.branch
            if counted is None or counted[b]
        ),
        doc="(2)",
    )
    shed = shed_per_base(network, model.total_shed)
    model.cost = pyo.Expression(expr=cost_of_squares(shed**2, model.n_operations**2), doc="(1)")


def add_limits(
    model: pyo.ConcreteModel,
    network: Network,
    setting: Setting,
    sent: Callable[[Any, int], Any] | None = None,
) -> tuple[str, ...]:
    """Add (4), (5) to a model that has w, P, ell, y, and return the names of the constraints.

    Each branch limit is scaled to 1, so a violation is relative. sent: the active power into a
    branch at its from end, for groups; default P, which lacks iron losses in most models.
    """
    band = voltage_band(network, setting)
    low, high = band.low.tolist(), band.high.tolist()
    grouped = _add_group_limits(model, network, setting, sent or (lambda m, b: m.P[b]))
    free_bus = [i for i in range(network.n_bus) if i not in set(network.substation.tolist())]
    model.voltage_limit = pyo.Constraint(
        free_bus, rule=lambda m, i: (low[i] ** 2, m.w[i], high[i] ** 2), doc="(4)"
    )

    def within(m: Any, b: int) -> Any:
        # An open branch carries nothing, but for one that hangs from an end: there its charging.
        return 1 if network.open_end[b] else m.y[b]

    if setting.active_limit_mw is not None:
        limit = setting.active_limit_mw / network.base_mva
        limited = np.flatnonzero(setting.limited_branches(network)).tolist()

        @model.Constraint(limited, (-1, 1), doc="(5), sending end")
        def sending_limit(m: Any, b: int, sign: int) -> Any:
            return sign * m.P[b] / limit <= within(m, b)

        @model.Constraint(limited, (-1, 1), doc="(5), receiving end")
        def receiving_limit(m: Any, b: int, sign: int) -> Any:
            return sign * (m.P[b] - network.r[b] * m.ell[b]) / limit <= within(m, b)

        return ("voltage_limit", "sending_limit", "receiving_limit", *grouped)
    rated = [b for b in range(network.n_branch) if np.isfinite(network.rating[b])]
    blocked = [b for b in rated if network.rating[b] <= 0]
    if blocked:
        raise NetworkError(
            f"{network.name}: rating of branch {network.branch_name[blocked[0]]!r} is 0; give its "
            "rating in A, or leave it empty for no limit"
        )

    rating = current_limit_pu(network, setting)

    @model.Constraint(rated, doc="(5)")
    def current_limit(m: Any, b: int) -> Any:
        return m.ell[b] / rating[b] ** 2 <= within(m, b)

    return ("voltage_limit", "current_limit", *grouped)


def _add_group_limits(
    model: pyo.ConcreteModel,
    network: Network,
    setting: Setting,
    sent: Callable[[Any, int], Any],
) -> tuple[str, ...]:
    """Add (5) of the groups, and return the name of the constraint where there are any."""
    if not network.groups:
        return ()
    away = away_from_substations(network)

    @model.Constraint(range(len(network.groups)), doc="(5), groups")
    def group_limit(m: Any, k: int) -> Any:
        group = network.groups[k]
        limit = setting.rating_factor * group.p_limit_mw / network.base_mva
        branches = [network.branch_index(name) for name in group.branches]
        return (-1, sum(float(away[b]) * sent(m, b) for b in branches) / limit, 1)

    return (GROUP_LIMIT,)


def current_limit_pu(network: Network, setting: Setting) -> FloatArray:
    """Return the current that each branch may carry in pu, (n_branch,); inf for no limit.

    Where charging alone is above the limit, with nothing drawn, shedding cannot help: the limit
    follows that current, and load may add as much beside it as the limit itself. Charging and load
    stand at right angles.
    """
    limit = setting.rating_factor * network.rating
    beyond = overcharged(network, setting)
    return np.where(beyond, np.hypot(no_load(network).current, limit), limit)


def overcharged(network: Network, setting: Setting) -> BoolArray:
    """Return which closed branches carry more than their limit with nothing drawn, (n_branch,).

    An open one that hangs from an end is not among them: it can be closed, or opened there.
    """
    beyond = np.nan_to_num(no_load(network).current) > setting.rating_factor * network.rating
    return np.asarray(beyond & network.closed)


def charging_note(network: Network, setting: Setting) -> str:
    """Return in words which branches are overcharged; empty where none is."""
    beyond = overcharged(network, setting)
    if setting.active_limit_mw is not None or not beyond.any():
        return ""
    limit = setting.rating_factor * network.rating
    loading = np.divide(no_load(network).current, limit, out=np.zeros_like(limit), where=beyond)
    worst = int(loading.argmax())
    return (
        f"{network.name}: charging alone overloads {int(beyond.sum())} branch(es), branch "
        f"{network.branch_name[worst]!r} to {100 * loading[worst]:.0f} % with nothing drawn; no "
        "shedding helps, so their limits follow that current; mend the charging or the rating"
    )


@dataclass(frozen=True, eq=False)
class LimitPlaces:
    """Where each of the m limits (4), (5) lies, in the order of `limit_violations`."""

    name: tuple[str, ...]  # (m,) of the constraint in the Pyomo model
    bus: IntArray  # (m,) bus of a voltage limit, else -1
    branch: IntArray  # (m,) branch of a power or current limit, else -1
    group: IntArray  # (m,) number of a group of the network, else -1


def limit_places(network: Network, setting: str | Setting) -> LimitPlaces:
    """Return what the columns of `limit_violations` stand for; raises as `resolve_setting`."""
    limits = transfer_rules(network, resolve_setting(network, setting)).limits
    row = np.repeat(np.arange(len(limits.limit_name)), np.diff(limits.limits.start))
    bus, branch, group = (np.full(len(limits.limit_name), -1, dtype=np.int64) for _ in range(3))
    # The groups are the last limits.
    grouped = np.flatnonzero([name.startswith(GROUP_LIMIT) for name in limits.limit_name])
    group[grouped] = np.arange(len(grouped))
    for name, columns in limits.columns.items():
        term = np.isin(limits.limits.column, columns)
        place = bus if name == "w" else branch
        place[row[term]] = limits.limits.column[term] - columns[0]
    branch[grouped] = -1
    return LimitPlaces(limits.limit_name, bus, branch, group)


def limit_words(network: Network, places: LimitPlaces, row: int) -> str:
    """Return what a limit holds and where, in words."""
    if places.bus[row] >= 0:
        return f"voltage of bus {network.bus_name[places.bus[row]]!r}"
    if places.group[row] >= 0:
        return f"power of group {network.groups[places.group[row]].name!r}"
    kind = "current" if places.name[row].startswith("current") else "power"
    return f"{kind} of branch {network.branch_name[places.branch[row]]!r}"


@dataclass(frozen=True, eq=False)
class TransferRules:
    """One network under one setting: the compiled algebra, and what the graph alone gives."""

    setting: Setting
    cost: CompiledModel
    limits: CompiledModel
    normal: BoolArray  # (n_branch,)
    switchable: BoolArray  # (n_branch,)
    usable: BoolArray  # (n_branch,) closed or to be closed, if they have not failed
    # (n_branch, n_bus) buses that some path could reach after the loss of that branch
    reachable: BoolArray
    # no tap and no branch shunt: both ends of a branch carry the current through its impedance
    plain: bool
    per_limit: FloatArray  # (n_branch,) one over the limit (5), 0 where there is none
    inside: FloatArray  # (n_bus,) squared voltage in the middle of each bus's band

    def within_reach(self, network: Network, scenarios: Scenarios) -> tuple[BoolArray, IntArray]:
        """Return rows (n_row, n_bus) of buses that some path could reach, and each scenario's row.

        Scenarios that lost the same branches share a row.
        """
        if scenarios.failed is None:
            return self.reachable, scenarios.fault
        masks, row = np.unique(scenarios.failed, axis=0, return_inverse=True)
        return energised_buses(network, self.usable & ~masks), row.ravel().astype(np.int64)

    # (n_branch,) the branch before each in its team (`network/parallel.py`), -1 for the first
    before_in_team: IntArray

    def charged(
        self, y: FloatArray | BoolArray, failed: FloatArray | BoolArray
    ) -> FloatArray | BoolArray:
        """Return branch states (B, n_branch) for the cost (1), in which a team departs once.

        All but the first intact branch of a team are given their normal state. failed: (B,
        n_branch).
        """
        followers = np.flatnonzero(self.before_in_team >= 0).tolist()
        y = y.copy() if followers else y
        for b in followers:
            led, earlier = np.zeros(len(y), dtype=bool), self.before_in_team[b]
            while earlier >= 0:
                led |= failed[:, earlier] == 0
                earlier = self.before_in_team[earlier]
            y[led & (failed[:, b] == 0), b] = self.normal[b]
        return y


@once_per_object
def transfer_rules(network: Network, setting: Setting) -> TransferRules:
    """Return the compiled rules of the network under the setting."""
    model = pyo.ConcreteModel(f"limits of {network.name}, {setting.name} setting")
    model.bus, model.branch = (
        pyo.RangeSet(0, network.n_bus - 1),
        pyo.RangeSet(0, network.n_branch - 1),
    )
    model.shed, model.curtailed, model.y = (
        pyo.Var(index) for index in (model.bus, model.bus, model.branch)
    )
    model.w, model.P, model.ell = pyo.Var(model.bus), pyo.Var(model.branch), pyo.Var(model.branch)
    add_cost(model, network)
    limits = compile_model(model, objective=0.0, constraints=add_limits(model, network, setting))
    limits = _ease(limits, setting)
    if note := charging_note(network, setting):
        warnings.warn(note, stacklevel=2)
    switchable = setting.switchable_branches(network)
    usable = network.closed | switchable
    reachable = energised_buses(network, usable & ~np.eye(network.n_branch, dtype=bool))
    y = branch_admittances(network)
    turned = (network.tap != 1).any() or network.shift.any()
    return TransferRules(
        setting,
        compile_model(
            model,
            objective=model.cost,
            constraints=[],
            inputs=["failed"],
            defined={"total_shed": "define_total_shed", "n_operations": "define_n_operations"},
        ),
        limits,
        network.closed.copy(),
        switchable.copy(),
        usable,
        reachable,
        not (turned or y.closed.any() or y.open.any()),
        _per_limit(network, setting),
        _inside(network, setting),
        _before_in_team(network, switchable),
    )


def _ease(limits: CompiledModel, setting: Setting) -> CompiledModel:
    """Return the limits with those of `setting.eased` wider by what is allowed there."""
    if not setting.eased:
        return limits
    allowed = np.zeros(len(limits.limit_name))
    for name, excess in setting.eased:
        allowed[limits.limit_name.index(name)] = excess
    return replace(limits, lower=limits.lower - allowed, upper=limits.upper + allowed)


def _inside(network: Network, setting: Setting) -> FloatArray:
    band = voltage_band(network, setting)
    return np.array(
        [(0.5 * (low + high)) ** 2 for low, high in zip(band.low, band.high, strict=True)]
    )


def _per_limit(network: Network, setting: Setting) -> FloatArray:
    if setting.active_limit_mw is None:
        rating = current_limit_pu(network, setting)
        return 1.0 / np.where(rating > 0, rating, np.finfo(float).tiny)
    limited = setting.limited_branches(network)
    return np.where(limited, network.base_mva / setting.active_limit_mw, 0.0)


def _before_in_team(network: Network, switchable: BoolArray) -> IntArray:
    lead = team_leads(network, switchable, np.ones(network.n_branch, dtype=bool))
    before = np.full(network.n_branch, -1)
    for b in np.flatnonzero(lead != np.arange(network.n_branch)).tolist():
        before[b] = np.flatnonzero(lead[:b] == lead[b])[-1]
    return before
