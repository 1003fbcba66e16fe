"""Least load shedding for given switches, and the cheapest of several switch states.

Both are batched, and safe by the AC power flow.

Costs and limits are those of the Pyomo model, compiled once (`judge.py`). Every unfinished item
gets an AC power flow, its limits are linearised there and the least shedding that meets them is
found exactly (`shedding_sweep.py`); it is done when the AC flow itself holds every limit to the
judge's tolerance. The same problem with the full equations, solved by Ipopt, is `shedding_opf.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np

from feederguard.models.arrays import BoolArray, FloatArray, IntArray, plain, threads_for
from feederguard.models.load_transfer.ac_state import lay_out_limits
from feederguard.models.load_transfer.judge import SAFE_TOLERANCE
from feederguard.models.load_transfer.rules import CURTAIL_WEIGHT, TransferRules, transfer_rules
from feederguard.models.load_transfer.scenario import Scenarios, check_scenarios
from feederguard.models.load_transfer.setting import Setting, resolve_setting
from feederguard.models.load_transfer.shedding_sweep import SAFE, Aims, Batch, Found, race
from feederguard.models.network import Network
from feederguard.models.power_flow.layout import prepare

FLOW_TOLERANCE_MVA = 1e-8  # of the AC flows inside, as in `power_flow/solve.py`


@dataclass(frozen=True, eq=False)
class Candidates:
    """Switch states to choose from: scenario b has rows first[b]:first[b + 1] of closed."""

    first: IntArray  # (B + 1,)
    closed: BoolArray  # (K, n_branch)

    @classmethod
    def one_each(cls, closed: BoolArray) -> Candidates:
        """Return one candidate per scenario, closed (B, n_branch)."""
        return cls(np.arange(len(closed) + 1), closed)

    @property
    def scenario(self) -> IntArray:
        """The scenario of each candidate, (K,)."""
        return np.repeat(np.arange(len(self.first) - 1), np.diff(self.first))


@dataclass(frozen=True, eq=False)
class Race:
    """The winner of each scenario, and what is known of every candidate."""

    winner: IntArray  # (B,) row of the candidates, -1 where none can be made safe
    shed: FloatArray  # (B, n_bus) the winner's shed fractions
    curtail: FloatArray  # (B, n_bus) the winner's curtailed fractions
    # (K,) cost (1); a lower bound (see `shedding_sweep.py`) unless `finished`; inf where none was
    # sought
    cost: FloatArray
    finished: BoolArray  # (K,) safe by the AC flow at this cost
    n_flows: IntArray  # (K,) AC power flows spent
    # (K, n_limit) limits that were broken on the way, in the order of the compiled limits
    active: BoolArray


@dataclass(frozen=True, eq=False)
class LeastShedding:
    """The least shedding of each item of a batch."""

    shed: FloatArray  # (B, n_bus) fractions; where `safe` is False the floor
    curtail: FloatArray  # (B, n_bus) fractions of generation; where `safe` is False zero
    # (B,) every limit holds by the AC flow to SAFE_TOLERANCE; radiality is the caller's affair
    safe: BoolArray
    n_flows: IntArray  # (B,)
    active: BoolArray  # (B, n_limit)


def least_shedding(
    network: Network,
    scenarios: Scenarios,
    closed: BoolArray,
    setting: str | Setting,
    floor: FloatArray | None = None,
) -> LeastShedding:
    """Return the least shedding that makes each item safe by the AC power flow.

    It is nowhere below `floor`.

    closed: (B, n_branch) branch states. floor: (B, n_bus) shed fractions in [0, 1], default none.
    Raises ValueError when a shape does not fit, and as `resolve_setting`.
    """
    if closed.shape != (len(scenarios), network.n_branch):
        raise ValueError(
            f"least_shedding: closed has shape {closed.shape}; expected ({len(scenarios)}, "
            f"{network.n_branch}) on "
            f"{network.name}"
        )
    found = race_topologies(network, scenarios, Candidates.one_each(closed), setting, floor)
    return LeastShedding(found.shed, found.curtail, found.finished, found.n_flows, found.active)


def race_topologies(
    network: Network,
    scenarios: Scenarios,
    candidates: Candidates,
    setting: str | Setting,
    floor: FloatArray | None = None,
    cutoff: FloatArray | None = None,
) -> Race:
    """Return the cheapest safe candidate of each scenario with its least shedding.

    Candidates whose lower bound reaches the best cost are dropped. floor as in `least_shedding`.
    cutoff: (B,) costs that a candidate must beat to win, default none. Raises ValueError when a
    shape does not fit, and as `resolve_setting`.
    """
    rules = transfer_rules(network, resolve_setting(network, setting))
    n, n_candidate = len(scenarios), len(candidates.closed)
    floor = np.zeros((n, network.n_bus)) if floor is None else np.array(floor, dtype=float)
    cutoff = np.full(n, np.inf) if cutoff is None else np.array(cutoff, dtype=float)
    for name, array, shape in (
        ("first", candidates.first, (n + 1,)),
        ("closed", candidates.closed, (n_candidate, network.n_branch)),
        ("floor", floor, (n, network.n_bus)),
        ("cutoff", cutoff, (n,)),
    ):
        if array.shape != shape:
            raise ValueError(
                f"race_topologies: {name} has shape {array.shape}; expected {shape} on "
                f"{network.name}"
            )
    scenarios = check_scenarios(network, scenarios, "least_shedding")
    _check_floor(network, floor)
    result = Race(
        np.full(n, -1),
        floor.copy(),
        np.zeros(floor.shape),
        np.full(n_candidate, np.inf),
        np.zeros(n_candidate, dtype=bool),
        np.zeros(n_candidate, dtype=np.int64),
        np.zeros((n_candidate, len(rules.limits.limit_name)), dtype=bool),
    )
    batch = Batch(
        scenarios.p_load,
        scenarios.q_load,
        scenarios.p_gen,
        floor,
        plain(network.priority, float),
        CURTAIL_WEIGHT,
        cutoff,
        plain(candidates.first, np.int64),
        plain(candidates.closed, bool),
        _fixed_cost(network, rules, scenarios, candidates),
    )
    _run(network, rules, batch, result)
    return result


def _fixed_cost(
    network: Network, rules: TransferRules, scenarios: Scenarios, candidates: Candidates
) -> FloatArray:
    """Return the cost (1) of each candidate without shedding, (K,)."""
    failed = scenarios.failed_branches(network.n_branch)[candidates.scenario].astype(float)
    y = rules.charged(candidates.closed.astype(float), failed)
    points = rules.cost.point(shed=0.0, curtailed=0.0, y=y, failed=failed)
    return rules.cost.objective(points)


def _run(network: Network, rules: TransferRules, batch: Batch, result: Race) -> None:
    """Race the candidates of the batch; fill the result."""
    n, n_candidate = len(batch.p_load), len(batch.closed)
    status = np.zeros(n_candidate, dtype=np.int64)
    found = Found(
        result.winner,
        result.shed,
        result.curtail,
        result.cost,
        result.n_flows,
        status,
        result.active,
    )
    aims = Aims(
        load_cost=_load_cost(rules, network),
        flow_tolerance=FLOW_TOLERANCE_MVA / network.base_mva,
        tolerance=SAFE_TOLERANCE,
        # With one candidate there is nothing to screen.
        finish_all=bool((np.diff(batch.first) == 1).all()),
    )
    # A flow, the adjoints and the program of one candidate: about a microsecond a bus.
    with threads_for(1.0 * n_candidate * network.n_bus):
        n_chunk = max(1, min(8 * numba.get_num_threads(), n))
        race(prepare(network), lay_out_limits(rules), batch, aims, n_chunk, found)
    result.finished[:] = status == SAFE


def limit_names(network: Network, setting: str | Setting) -> tuple[str, ...]:
    """Return the names of the compiled limits, the columns of `active`."""
    return transfer_rules(network, resolve_setting(network, setting)).limits.limit_name


def _check_floor(network: Network, floor: FloatArray) -> None:
    bad = np.argwhere(~((floor >= -1e-9) & (floor <= 1 + 1e-9)))
    if bad.size:
        item, bus = bad[0]
        raise ValueError(
            f"least_shedding: floor of bus {network.bus_name[bus]!r} in scenario {item} is "
            f"{floor[item, bus]:g}; "
            "a shed fraction lies between 0 and 1"
        )


def _load_cost(rules: TransferRules, network: Network) -> FloatArray:
    """Return the cost of S of (1) (pu) alone as a polynomial, read off the compiled cost."""
    n_branch, n_bus = rules.reachable.shape
    shed = np.zeros((3, n_bus))
    shed[:, 0] = np.array([0.0, 1.0, 2.0]) / network.priority[0]
    points = rules.cost.point(
        shed=shed, curtailed=0.0, y=rules.normal.astype(float), failed=np.zeros(n_branch)
    )
    zero, one, two = rules.cost.objective(points)
    return np.array([0.0, 2 * one - 0.5 * two - 1.5 * zero, 0.5 * two - one + 0.5 * zero])
