"""Least load shedding for given switches, and the cheapest of several switch states.

Both are batched, and safe by the AC power flow.

Costs and limits are those of the Pyomo model, compiled once (`judge.py`). Every unfinished item
gets an AC power flow, its limits are linearised there and the least shedding that meets them is
found exactly (`shedding_sweep.py`); it is done when the AC flow itself holds every limit to the
judge's tolerance. The same problem with the full equations, solved by Ipopt, is `shedding_opf.py`.

Where a setting sheds whole loads, this race by fractions comes first: what a state costs with
fractions bounds what it costs with whole loads (`whole_loads/settle.py`). The cheapest state is
settled by whole loads, then the next by its bound, until no bound is below the best cost.
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
from feederguard.models.load_transfer.shedding_sweep import (
    SAFE,
    SKIPPED,
    Aims,
    Batch,
    Case,
    Found,
    race,
)
from feederguard.models.load_transfer.whole_loads import shed_whole
from feederguard.models.network import Network
from feederguard.models.network.graph import energised_buses
from feederguard.models.power_flow.layout import prepare

FLOW_TOLERANCE_MVA = 1e-8  # of the AC flows inside, as in `power_flow/solve.py`
MOST_SETTLED = 4  # candidates of a scenario that one race settles by whole loads
LEAST_GAP = 2e-6  # of the price of whole loads, below which its bound is as good as it


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
    # (B,) lower bound of what the candidates cost that whole loads left open; inf where none is
    open_cost: FloatArray


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
        np.full(n, np.inf),
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
    lost, scenario = scenarios.failed_branches(network.n_branch), candidates.scenario
    y = np.asarray(rules.charged(candidates.closed, lost[scenario]))
    departed = ((y != rules.normal) & ~lost[scenario]).sum(axis=1)
    # It counts departures from the normal state, so that thousands of candidates have few costs.
    _, first, kind = np.unique(
        scenario * (network.n_branch + 1) + departed, return_index=True, return_inverse=True
    )
    failed = lost[scenario[first]].astype(float)
    points = rules.cost.point(shed=0.0, curtailed=0.0, y=y[first].astype(float), failed=failed)
    return np.asarray(rules.cost.objective(points)[kind])


def _run(network: Network, rules: TransferRules, batch: Batch, result: Race) -> None:
    """Race the candidates of the batch; fill the result."""
    status = np.zeros(len(batch.closed), dtype=np.int64)
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
    _race(network, rules, batch, aims, found)
    result.finished[:] = status == SAFE
    if rules.setting.whole_loads:
        skipped = status == SKIPPED
        result.cost[skipped] = batch.fixed_cost[skipped]
        whole = _Whole(network, rules, batch, aims, result)
        for b in np.flatnonzero(result.winner >= 0).tolist():
            whole.settle(b)
        result.cost[skipped & ~result.finished] = np.inf


def _race(network: Network, rules: TransferRules, batch: Batch, aims: Aims, found: Found) -> None:
    # A flow, the adjoints and the program of one candidate: about a microsecond a bus.
    with threads_for(1.0 * len(batch.closed) * network.n_bus):
        n_chunk = max(1, min(8 * numba.get_num_threads(), len(batch.p_load)))
        race(prepare(network), lay_out_limits(rules), batch, aims, n_chunk, found)


@dataclass(frozen=True, eq=False)
class _Whole:
    """A race by fractions whose winners are settled by whole loads."""

    network: Network
    rules: TransferRules
    batch: Batch
    aims: Aims
    result: Race

    def settle(self, b: int) -> None:
        """Replace the fractions of scenario b by whole loads, of the state cheapest with those."""
        batch, result = self.batch, self.result
        shed = result.shed[b][batch.p_load[b] > 0]
        if not ((shed > 0) & (shed < 1)).any():
            return
        rows = np.arange(batch.first[b], batch.first[b + 1])
        first, result.winner[b] = int(result.winner[b]), -1
        result.finished[rows] = False
        start = np.concatenate([result.shed[b], result.curtail[b]])
        result.shed[b], result.curtail[b] = batch.floor[b], 0.0
        best = self._try(b, first, start, float(batch.cutoff[b]))
        others = rows[(rows != first) & (result.cost[rows] < best)]
        starts = self._bound_each(b, others, best)
        for i in np.argsort(result.cost[others], kind="stable")[:MOST_SETTLED].tolist():
            if result.cost[others[i]] >= best:
                break
            best = self._try(b, int(others[i]), starts[i], best)
        left = result.cost[rows[~result.finished[rows]]]
        left = left[left < best * (1 - LEAST_GAP)]
        result.open_cost[b] = min(result.open_cost[b], left.min(initial=np.inf))

    def _bound_each(self, b: int, rows: IntArray, most: float) -> FloatArray:
        """Write the costs by fractions of these candidates, or bounds of at least `most`.

        The race ended before it knew them. Returns the fractions, (n_row, 2 n_bus).
        """
        n, batch, result = len(rows), self.batch, self.result
        here = np.full(n, b)
        alone = batch._replace(
            p_load=batch.p_load[here],
            q_load=batch.q_load[here],
            p_gen=batch.p_gen[here],
            floor=batch.floor[here],
            cutoff=np.full(n, most),
            first=np.arange(n + 1),
            closed=batch.closed[rows],
            fixed_cost=batch.fixed_cost[rows],
        )
        n_bus = self.network.n_bus
        found = Found(
            np.full(n, -1),
            np.zeros((n, n_bus)),
            np.zeros((n, n_bus)),
            np.full(n, np.inf),
            np.zeros(n, dtype=np.int64),
            np.zeros(n, dtype=np.int64),
            np.zeros((n, result.active.shape[1]), dtype=bool),
        )
        _race(self.network, self.rules, alone, self.aims._replace(finish_all=True), found)
        result.cost[rows] = found.cost
        result.n_flows[rows] += found.n_flow
        result.active[rows] |= found.active
        return np.concatenate([found.shed, found.curtail], axis=1)

    def _try(self, b: int, k: int, start: FloatArray, best: float) -> float:
        """Settle candidate k by whole loads; return its cost where it wins, else `best`."""
        batch, result, network = self.batch, self.result, self.network
        load, made = batch.p_load[b], batch.p_gen[b]
        price = np.concatenate([batch.weight * np.maximum(load, 0), batch.curtail_weight * made])
        price = np.maximum(price, 0.0)
        dark = float(price @ np.tile(~energised_buses(network, batch.closed[k]), 2))

        def cost_of(paid: float) -> float:
            flat, slope, square = self.aims.load_cost
            return float(batch.fixed_cost[k] + flat + (slope + square * paid) * paid)

        case = Case(
            prepare(network),
            lay_out_limits(self.rules),
            load,
            batch.q_load[b],
            made,
            batch.closed[k],
        )
        low = np.concatenate([batch.floor[b], np.zeros(network.n_bus)])
        whole = shed_whole(
            case,
            self.aims,
            price,
            low,
            start,
            lambda paid: cost_of(dark + paid) >= best,
            result.active[k],
        )
        result.n_flows[k] += whole.n_flows
        bound = cost_of(dark + whole.bound)
        if not whole.safe:
            result.cost[k] = np.inf if np.isinf(whole.price) else max(result.cost[k], bound)
            return best
        result.cost[k], result.finished[k] = cost_of(dark + whole.price), True
        if whole.bound < whole.price * (1 - LEAST_GAP):
            result.open_cost[b] = min(result.open_cost[b], bound)
        result.winner[b] = k
        result.shed[b], result.curtail[b] = np.split(whole.fractions, 2)
        return float(result.cost[k])


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
