"""The paper's safe action correction: shed a little at the most sensitive bus, run the flow again,
until the limits hold.

Source: Zhou et al., Energy Engineering 121(6), 2024, section 3.3. s_i shed fraction, s the limits
(4), (5) of `models/reconfiguration.py` on the AC state:

    while a limit is broken:   k = the limit broken most,  i = the bus most sensitive for k
        (20)  s_i <- min(s_i + alpha, 1)

One step at one bus per AC flow, alpha of that bus's own demand. The sensitivity is that of
`models/power_flow/line_node_ratio.py`, from M_lambda and Y_node^-1 cached per topology, for a load
that keeps its power factor:

    power limit     (18) at the end of the line where the limit is broken
    current limit   Re(conj(J_k) / |J_k| lambda_ki conj((1 + j q_i / p_i) / U_i)),  J_k the series current
    voltage limit   Re(conj(U_j) / |U_j| Z_ji conj((1 + j q_i / p_i) / U_i)),  Z = Y_node^-1

The paper speaks of overloaded lines only. Ours beyond it: the voltage limit; where no bus is left
that helps the limit broken most, the next one is taken; where the flow has no solution, no limit
can be ranked, and the step goes to the bus whose remaining demand times |Z_ii| is largest. Shedding
cannot lower a voltage that is too high (unless the load is capacitive), nor make a meshed decision
radial: these end unchanged by that, and say so.

Work: an AC flow a step; 1 / alpha steps empty one bus, so at worst (number of load buses) / alpha
steps an item. The loop is compiled and no item waits for another. One long file on purpose, as
numba's cache watches only the file it compiled; functions of `models/power_flow/newton_sweep.py`
and `models/load_transfer/shedding_sweep.py` are compiled into it as well: after a change there,
touch this file too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from numba import njit, prange

from feederguard.models.arrays import BoolArray, IntArray, threads_for
from feederguard.models.load_transfer import (
    Decisions,
    Scenarios,
    Setting,
    check_decisions,
    resolve_setting,
)
from feederguard.models.load_transfer.ac_state import lay_out_limits
from feederguard.models.load_transfer.judge import SAFE_TOLERANCE
from feederguard.models.load_transfer.least_shedding import FLOW_TOLERANCE_MVA
from feederguard.models.load_transfer.rules import transfer_rules
from feederguard.models.load_transfer.shedding import can_shed, kept_share
from feederguard.models.load_transfer.shedding_sweep import (
    COLUMN_P,
    COLUMN_W,
    COLUMN_Y,
    limit_columns,
    limit_excess,
)
from feederguard.models.network import Network
from feederguard.models.power_flow.layout import prepare
from feederguard.models.power_flow.line_node_ratio import CACHE_MB, RatioCache
from feederguard.models.power_flow.newton_sweep import collect_shunts, find_forest, solve_item

ENDS = ("as_proposed", "corrected", "nothing_left", "high_voltage", "not_radial", "out_of_steps")
AS_PROPOSED, CORRECTED, NOTHING_LEFT, HIGH_VOLTAGE, NOT_RADIAL, OUT_OF_STEPS = range(len(ENDS))

LEAST_SHARE = 1e-6  # of the largest sensitivity; below it a bus does not count as helping


@dataclass(frozen=True, eq=False)
class CorrectionRun:
    """What the correction did with each item of a batch."""

    decisions: Decisions  # topology as proposed, shedding nowhere below the proposed one
    end: IntArray  # (B,) index into ENDS
    n_steps: IntArray  # (B,) steps (20)
    n_flows: IntArray  # (B,) AC power flows run
    worst_limit: (
        IntArray  # (B,) limit still broken most, in the order of `limit_places`; -1 none or no flow
    )

    @property
    def safe(self) -> BoolArray:
        """Whether every limit holds by AC flow, (B,)."""
        return np.asarray((self.end == AS_PROPOSED) | (self.end == CORRECTED))


class PaperCorrection:
    """The correction (20) of one network and setting.

    alpha: fraction of a bus's demand shed per step. max_steps: bound on the steps of an item;
    default none but that every bus can be emptied. cache_mb: size of the cache of sensitivities.

    Raises ValueError when alpha is outside (0, 1] or max_steps below 1, and as `resolve_setting`.
    """

    def __init__(
        self,
        network: Network,
        setting: str | Setting,
        alpha: float = 0.02,
        max_steps: int | None = None,
        cache_mb: float = CACHE_MB,
    ) -> None:
        if not 0 < alpha <= 1:
            raise ValueError(
                f"paper correction: alpha is {alpha}; shed more than 0 and at most 1 of a demand "
                "per step"
            )
        if max_steps is not None and max_steps < 1:
            raise ValueError(
                f"paper correction: max_steps is {max_steps}; allow at least 1, or None for no "
                "bound"
            )
        self.network = network
        self.setting = resolve_setting(network, setting)
        self.alpha = float(alpha)
        # One more a bus than 1 / alpha: a proposal need not be a multiple of alpha.
        self.max_steps = max_steps or network.n_bus * (int(np.ceil(1 / alpha)) + 1)
        self.cache = RatioCache(network, cache_mb)
        self._limits = lay_out_limits(transfer_rules(network, self.setting))

    def correct(self, scenarios: Scenarios, decisions: Decisions) -> Decisions:
        """Return the decisions with the shedding that (20) adds; see `run` for which of them ended
        safe.
        """
        return self.run(scenarios, decisions).decisions

    def run(self, scenarios: Scenarios, decisions: Decisions) -> CorrectionRun:
        """Return the corrected decisions and how each ended.

        Raises ValueError when a shape does not fit, demand is not finite, or a shed fraction is NaN
        or outside [0, 1].
        """
        scenarios, decisions = check_decisions(
            self.network, scenarios, decisions, self.setting, "paper correction"
        )
        n = len(scenarios)
        demand = (scenarios.p_load, scenarios.q_load, scenarios.p_gen)
        closed, shed = decisions.closed, decisions.shed.copy()
        end, n_steps, n_flows = (np.zeros(n, dtype=np.int64) for _ in range(3))
        worst = np.full(n, -1, dtype=np.int64)
        found = (shed, end, n_steps, n_flows, worst)
        # A first flow without steps: only what is not safe as it is needs sensitivities.
        self._step(np.arange(n), np.zeros(n, dtype=np.int64), 0, demand, closed, found)
        unsafe = np.flatnonzero(end == OUT_OF_STEPS)
        if len(unsafe):
            for items, slots in self._blocks(closed, unsafe):
                self._step(items, slots, self.max_steps, demand, closed, found)
        return CorrectionRun(Decisions(closed, shed), end, n_steps, n_flows, worst)

    def _blocks(self, closed: BoolArray, items: IntArray) -> Iterator[tuple[IntArray, IntArray]]:
        """Yield items with the cache slots of their topologies, as many at a time as the cache
        holds topologies.
        """
        number: dict[bytes, int] = {}
        packed = np.packbits(closed[items], axis=1)
        topology = np.array([number.setdefault(row.tobytes(), len(number)) for row in packed])
        first = np.unique(topology, return_index=True)[1]
        for start in range(0, len(first), self.cache.capacity):
            slots = self.cache.slots(closed[items[first[start : start + self.cache.capacity]]])
            here = (topology >= start) & (topology < start + self.cache.capacity)
            yield items[here], slots[topology[here] - start]

    def _step(
        self,
        items: IntArray,
        slots: IntArray,
        max_steps: int,
        demand: Any,
        closed: BoolArray,
        found: Any,
    ) -> None:
        prepared = prepare(self.network)
        # A flow takes about 0.2 us a bus; some fifty of them where steps are taken.
        with threads_for(0.2 * len(items) * self.network.n_bus * (50 if max_steps else 1)):
            _correct_items(
                items,
                slots,
                self.cache.ratio,
                self.cache.impedance,
                *demand,
                closed,
                prepared.graph,
                prepared.branches,
                prepared.shunts,
                prepared.substation,
                prepared.v_substation,
                self._limits,
                self.setting.radial,
                self.alpha,
                max_steps,
                FLOW_TOLERANCE_MVA / self.network.base_mva,
                SAFE_TOLERANCE,
                max(1, min(16 * numba.get_num_threads(), len(items))),
                *found,
            )


@njit(cache=True, parallel=True, error_model="numpy")
def _correct_items(  # type: ignore[no-untyped-def]
    items,
    slots,
    ratio,
    impedance,
    p_load,
    q_load,
    p_gen,
    closed,
    graph,
    branches,
    shunts,
    substation,
    v_substation,
    limits,
    radial,
    alpha,
    max_steps,
    flow_tolerance,
    tolerance,
    n_chunk,
    shed,
    end,
    n_steps,
    n_flows,
    worst_limit,
):
    """Correct `shed` of the items in place and write how each ended; slots: where its topology's
    sensitivities lie.
    """
    n_bus, n_branch = shed.shape[1], closed.shape[1]
    for chunk in prange(n_chunk):
        walk = np.empty((4, n_bus), np.int64)
        links, seen = np.empty(n_branch, np.int64), np.empty(n_branch, np.bool_)
        shunt = shunts[4].copy()
        state, line, demand = np.zeros((n_bus, 11)), np.zeros((n_bus, 6)), np.empty((n_bus, 2))
        voltage, current = (
            np.empty((1, n_bus), np.complex128),
            np.empty((1, n_branch), np.complex128),
        )
        x, excess, side = (
            np.zeros(limits[1].shape[0]),
            np.zeros(limits[3].shape[0]),
            np.zeros(limits[3].shape[0]),
        )
        gain = np.empty(n_bus)
        for turn in range(chunk * len(items) // n_chunk, (chunk + 1) * len(items) // n_chunk):
            b = items[turn]
            n, n_link = find_forest(
                closed[b],
                graph[0],
                graph[1],
                graph[2],
                substation,
                walk[0],
                walk[1],
                walk[2],
                links,
                seen,
                walk[3],
            )
            if shunts[0]:
                collect_shunts(
                    closed[b],
                    branches[0],
                    branches[1],
                    shunts[1],
                    shunts[2],
                    shunts[3],
                    shunts[4],
                    shunt,
                )
            if radial and n_link:
                end[b] = NOT_RADIAL
                continue
            end[b] = _correct_one(
                b,
                n,
                n_link,
                walk,
                links,
                ratio[slots[turn]],
                impedance[slots[turn]],
                p_load,
                q_load,
                p_gen,
                closed,
                branches,
                shunts,
                v_substation,
                limits,
                alpha,
                max_steps,
                flow_tolerance,
                tolerance,
                shunt,
                state,
                line,
                demand,
                voltage,
                current,
                x,
                excess,
                side,
                gain,
                shed,
                n_steps,
                n_flows,
                worst_limit,
            )


@njit(error_model="numpy")
def _correct_one(  # type: ignore[no-untyped-def]
    b,
    n,
    n_link,
    walk,
    links,
    ratio,
    impedance,
    p_load,
    q_load,
    p_gen,
    closed,
    branches,
    shunts,
    v_substation,
    limits,
    alpha,
    max_steps,
    flow_tolerance,
    tolerance,
    shunt,
    state,
    line,
    demand,
    voltage,
    current,
    x,
    excess,
    side,
    gain,
    shed,
    n_steps,
    n_flows,
    worst_limit,
):
    """Step by (20) until item b is safe or nothing more can be done; return its end."""
    while True:
        for k in range(n):
            i = walk[0, k]
            share = kept_share(p_load[b, i], shed[b, i])
            demand[k, 0], demand[k, 1] = p_load[b, i] * share - p_gen[b, i], q_load[b, i] * share
        n_flows[b] += 1
        worst_limit[b] = -1
        iterations = solve_item(
            0,
            n,
            n_link,
            walk,
            links,
            branches,
            demand,
            shunt,
            v_substation,
            flow_tolerance,
            20,
            state,
            line,
            voltage,
            current,
        )
        if iterations >= 0:
            limit_columns(
                b,
                closed,
                voltage,
                current,
                walk[3],
                branches,
                shunts,
                limits[0],
                limits[1],
                limits[2],
                x,
            )
            if limit_excess(x, walk[3], *limits[1:], excess, side) <= tolerance:
                return CORRECTED if n_steps[b] else AS_PROPOSED
            worst_limit[b] = np.argmax(excess)
        if n_steps[b] >= max_steps:
            return OUT_OF_STEPS
        if iterations >= 0:
            bus = _choose_bus(
                b,
                n,
                walk,
                branches,
                limits,
                voltage[0],
                current[0],
                ratio,
                impedance,
                p_load,
                q_load,
                shed,
                excess,
                side,
                tolerance,
                gain,
            )
        else:
            bus = _heaviest(b, n, walk, impedance, p_load, q_load, shed)
        if bus < 0:
            return HIGH_VOLTAGE if bus == _TOO_HIGH else NOTHING_LEFT
        more = shed[b, bus] + alpha
        # Fifty steps of 0.02 add up to a rounding error less than 1.
        shed[b, bus] = more if more < 1.0 - 1e-9 else 1.0
        n_steps[b] += 1


_NONE, _TOO_HIGH = -1, -2


@njit(error_model="numpy")
def _choose_bus(  # type: ignore[no-untyped-def]
    b,
    n,
    walk,
    branches,
    limits,
    voltage,
    current,
    ratio,
    impedance,
    p_load,
    q_load,
    shed,
    excess,
    side,
    tolerance,
    gain,
):
    """Return the bus that helps the limit broken most, or the next one; _NONE or _TOO_HIGH where
    nothing helps.
    """
    kind, start, column = limits[1], limits[4], limits[5]
    while True:
        row = np.argmax(excess)
        if not excess[row] > tolerance:
            return _NONE
        _gains(
            row,
            b,
            n,
            walk,
            branches,
            limits,
            voltage,
            current,
            ratio,
            impedance,
            p_load,
            q_load,
            gain,
        )
        largest, best, chosen = 0.0, 0.0, -1
        for k in range(n):
            i = walk[0, k]
            helps = side[row] * gain[i]
            largest = max(largest, abs(helps))
            if can_shed(p_load[b, i]) and shed[b, i] < 1.0 and helps > best:
                best, chosen = helps, i
        if chosen >= 0 and best > LEAST_SHARE * largest:
            return chosen
        if side[row] > 0 and kind[column[start[row]]] == COLUMN_W:
            return _TOO_HIGH
        excess[row] = -1.0


@njit(error_model="numpy")
def _gains(
    row, b, n, walk, branches, limits, voltage, current, ratio, impedance, p_load, q_load, gain
):  # type: ignore[no-untyped-def]
    """Fill `gain` (n_bus,) with the rise of the limited quantity per active power drawn at each
    live bus.
    """
    ell_is_loss, kind, index, _, start, column, value, _, _ = limits
    from_bus, to_bus, z, tap = branches
    gain[:] = 0.0
    for t in range(start[row], start[row + 1]):
        c, k = column[t], index[column[t]]
        if kind[c] == COLUMN_Y:
            continue
        response = impedance[k] if kind[c] == COLUMN_W else ratio[k]
        if kind[c] == COLUMN_W:
            weight = -2.0 * np.conj(voltage[k])
        elif kind[c] == COLUMN_P:
            weight = np.conj(voltage[from_bus[k]] / tap[k])
        elif ell_is_loss:
            # r ell is the power lost: sent at the from end less received at the to end.
            drop = voltage[from_bus[k]] / tap[k] - voltage[to_bus[k]]
            weight = np.conj(drop) / z[k].real if z[k].real > 0 else complex(0.0, 0.0)
        else:
            weight = 2.0 * np.conj(current[k])
        for place in range(n):
            i = walk[0, place]
            if can_shed(p_load[b, i]):
                per_power = np.conj(complex(1.0, q_load[b, i] / p_load[b, i]) / voltage[i])
                gain[i] += value[t] * (weight * response[i] * per_power).real


@njit(error_model="numpy")
def _heaviest(b, n, walk, impedance, p_load, q_load, shed):  # type: ignore[no-untyped-def]
    """Return the bus that could relieve its own voltage most; _NONE where nothing is left to shed."""
    most, chosen = -1.0, _NONE
    for k in range(n):
        i = walk[0, k]
        if can_shed(p_load[b, i]) and shed[b, i] < 1.0:
            relief = (
                abs(impedance[i, i]) * abs(complex(p_load[b, i], q_load[b, i])) * (1.0 - shed[b, i])
            )
            if relief > most:
                most, chosen = relief, i
    return chosen
