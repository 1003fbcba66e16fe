"""Every state of the devices of a small feeder, each with its least shedding: by code of its own.

Nothing here is shared with the package but the fields of `Network`, `Scenarios` and `Decisions`.
Power flow: V of the live buses from Y V = conj(S / V), by Newton's method on the nodal matrix.
Least shedding: the limits linearised at the last power flow, scipy's HiGHS for the linear program,
again until nothing moves. States are taken in the order of their operations and dark load alone,
which bound their cost, until no bound is below the best.

Sound branches between the same two buses are operated together where both can be operated and are
normally in the same state: one operation. Closed ones are one edge of the tree. What is out of
service stays as it is. A bus beyond its limits with nothing drawn may have that voltage plus 0.002
pu, or as much less as its lower limit lies below 1 pu. A branch that charging overloads then may
carry the root of the squares of that current and its rating (`docs/load_transfer.md`).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import linprog

COST_LOAD, COST_SWITCH, BASE_MVA, CURTAIL = 22.0, 3.0, 0.1, 0.05
EXACT = 2e-7  # limits in squared pu, and relative


@dataclass(frozen=True)
class Best:
    """The cheapest safe decision of one scenario."""

    cost: float
    closed: np.ndarray
    fractions: np.ndarray  # (2 n_bus,) shed, then curtailed
    n_solved: int


class Grid:
    """One network under a band of voltages and its ratings."""

    def __init__(self, network: Any, low: float, high: float, radial: bool, switchable: Any):
        self.n, self.radial = network, radial
        self.switchable = np.asarray(switchable) & network.in_service
        self.series = 1 / (network.r + 1j * network.x)
        # How many closed branches part each bus from a substation.
        self.steps = np.where(np.isin(np.arange(network.n_bus), network.substation), 0, 999)
        for _ in range(network.n_bus):
            for b in np.flatnonzero(network.closed):
                ends = [network.from_bus[b], network.to_bus[b]]
                self.steps[ends] = np.minimum(self.steps[ends], self.steps[ends[::-1]] + 1)
        ends = zip(network.from_bus.tolist(), network.to_bus.tolist(), strict=True)
        self.pair = [(min(i, j), max(i, j)) for i, j in ends]
        self.low, self.high = np.full(network.n_bus, low), np.full(network.n_bus, high)
        fed = self.live(network.closed)
        v, _ = self.flow(network.closed, fed, np.zeros(network.n_bus, dtype=complex))
        idle = np.where(fed, np.abs(v), 1.0) if v is not None else np.ones(network.n_bus)
        self.high = np.where(idle > high, idle + 0.002, self.high)
        self.low = np.where(idle < low, idle - (1 - low), self.low)
        self.rating = network.rating.copy()
        if v is not None:
            self._follow_charging(v, fed)

    def _follow_charging(self, v: np.ndarray, fed: np.ndarray) -> None:
        """Widen the ratings that charging exceeds with nothing drawn."""
        n = self.n
        for b in np.flatnonzero(n.closed & fed[n.from_bus] & fed[n.to_bus]):
            i, j, y = n.from_bus[b], n.to_bus[b], self.series[b]
            at_from = (y + n.g_from[b] + 1j * n.b_from[b]) * v[i] - y * v[j]
            at_to = (y + n.g_to[b] + 1j * n.b_to[b]) * v[j] - y * v[i]
            idle = max(abs(at_from), abs(at_to))
            if idle > n.rating[b]:
                self.rating[b] = np.hypot(idle, n.rating[b])

    def live(self, closed: np.ndarray) -> np.ndarray:
        """Return which buses are fed, (n_bus,)."""
        n = self.n
        fed = np.zeros(n.n_bus, dtype=bool)
        fed[n.substation] = True
        for _ in range(n.n_bus):
            grown = fed.copy()
            for b in np.flatnonzero(closed):
                i, j = n.from_bus[b], n.to_bus[b]
                grown[i] = grown[j] = grown[i] or grown[j]
            if (grown == fed).all():
                break
            fed = grown
        return fed

    def is_forest(self, closed: np.ndarray, live: np.ndarray) -> bool:
        """Return whether no loop is energised; a path between two substations is one."""
        n = self.n
        joined = np.flatnonzero(closed & live[n.from_bus] & live[n.to_bus])
        return len({self.pair[b] for b in joined}) == live.sum() - len(n.substation)

    def lost(self, case: Any) -> list[int]:
        """Return the branches that failed."""
        return [int(case.fault[0])] if case.failed is None else np.flatnonzero(case.failed[0])

    def teams(self, case: Any) -> list[list[int]]:
        """Return the branches that can be operated after the fault, team by team."""
        found: dict[Any, list[int]] = {}
        for b in np.flatnonzero(self.switchable).tolist():
            if b not in self.lost(case):
                found.setdefault((self.pair[b], bool(self.n.closed[b])), []).append(b)
        return list(found.values())

    def flow(self, closed: np.ndarray, live: np.ndarray, s: np.ndarray) -> tuple[Any, Any]:
        """Return V (n_bus,) for injections s, None without a solution, and the nodal matrix."""
        n = self.n
        y = np.zeros((n.n_bus, n.n_bus), dtype=complex)
        for b in np.flatnonzero(closed & live[n.from_bus] & live[n.to_bus]):
            i, j = n.from_bus[b], n.to_bus[b]
            y[i, i] += self.series[b] + n.g_from[b] + 1j * n.b_from[b]
            y[j, j] += self.series[b] + n.g_to[b] + 1j * n.b_to[b]
            y[i, j] -= self.series[b]
            y[j, i] -= self.series[b]
        y[np.diag_indices(n.n_bus)] += n.g_shunt + 1j * n.b_shunt
        free = self._free(live)
        v = np.full(n.n_bus, complex(n.v_substation[0]))
        v[n.substation] = n.v_substation
        for _ in range(30):
            miss = y[free] @ np.where(live, v, 0.0) - np.conj(s[free] / v[free])
            if np.abs(miss).max(initial=0.0) < 1e-12:
                return v, y
            v[free] -= self._respond(y, v, s, free, miss[:, None])[:, 0]
            if not np.isfinite(v).all() or (np.abs(v) < 0.2).any():
                break
        return None, y

    def _free(self, live: np.ndarray) -> np.ndarray:
        return np.setdiff1d(np.flatnonzero(live), self.n.substation)

    def _respond(self, y: Any, v: Any, s: Any, free: Any, right: Any) -> Any:
        """Solve Y dV + conj(S / V^2 dV) = right for the free buses."""
        a, k = y[np.ix_(free, free)], np.diag(np.conj(s[free] / v[free] ** 2))
        m = len(free)
        system = np.block([[a.real + k.real, -a.imag + k.imag], [a.imag + k.imag, a.real - k.real]])
        found = np.linalg.solve(system, np.concatenate([right.real, right.imag]))
        return found[:m] + 1j * found[m:]

    def excess(self, closed: Any, live: Any, v: Any, dv: Any = None) -> tuple[Any, Any]:
        """Return how far each limit is broken (negative inside), and its change by each column."""
        n, columns = self.n, 0 if dv is None else dv.shape[1]
        values, rows = [], []

        def add(value: float, row: Any) -> None:
            values.append(value)
            rows.append(row if dv is not None else np.zeros(columns))

        for i in self._free(live):
            w = abs(v[i]) ** 2
            change = 2 * (np.conj(v[i]) * dv[i]).real if dv is not None else 0
            add(w - self.high[i] ** 2, change)
            add(self.low[i] ** 2 - w, -change)
        for b in np.flatnonzero(closed & live[n.from_bus] & live[n.to_bus]):
            if not np.isfinite(self.rating[b]):
                continue
            i, j = n.from_bus[b], n.to_bus[b]
            ends = ((i, j, n.g_from[b] + 1j * n.b_from[b]), (j, i, n.g_to[b] + 1j * n.b_to[b]))
            for near, far, shunt in ends:
                out = self.series[b] + shunt
                current = out * v[near] - self.series[b] * v[far]
                change = (
                    2 * (np.conj(current) * (out * dv[near] - self.series[b] * dv[far])).real
                    if dv is not None
                    else 0
                )
                add(abs(current) ** 2 / self.rating[b] ** 2 - 1, change / self.rating[b] ** 2)
        for group in n.groups:
            power, change = 0.0, np.zeros(columns)
            for b in [n.branch_name.index(name) for name in group.branches]:
                i, j = n.from_bus[b], n.to_bus[b]
                if not (closed[b] and live[i] and live[j]):
                    continue
                sign = 1 if self.steps[i] <= self.steps[j] else -1
                out = self.series[b] + n.g_from[b] + 1j * n.b_from[b]
                current = out * v[i] - self.series[b] * v[j]
                power += sign * (v[i] * np.conj(current)).real
                if dv is not None:
                    slope = out * dv[i] - self.series[b] * dv[j]
                    change += sign * (dv[i] * np.conj(current) + v[i] * np.conj(slope)).real
            limit = group.p_limit_mw / n.base_mva
            add(power / limit - 1, change / limit)
            add(-power / limit - 1, -change / limit)
        return np.array(values), np.array(rows)

    def injections(self, case: Any, fractions: np.ndarray) -> np.ndarray:
        """Return the injected power of each bus, (n_bus,)."""
        m = self.n.n_bus
        keeps = np.where(case.p_load[0] > 0, 1 - fractions[:m], 1.0)
        load = (case.p_load[0] + 1j * case.q_load[0]) * keeps
        return case.p_gen[0] * (1 - fractions[m:]) - load

    def prices(self, case: Any) -> np.ndarray:
        """Return what each lever costs in S, pu, (2 n_bus,)."""
        return np.concatenate([self.n.priority * case.p_load[0], CURTAIL * case.p_gen[0]])

    def violation(self, case: Any, closed: Any, fractions: Any) -> float:
        """Return the largest excess of a decision; inf where it is no tree or has no flow."""
        live = self.live(closed)
        if self.radial and not self.is_forest(closed, live):
            return np.inf
        v, _ = self.flow(closed, live, self.injections(case, fractions))
        return np.inf if v is None else float(self.excess(closed, live, v)[0].max(initial=0.0))

    def cost(self, case: Any, closed: Any, fractions: Any) -> float:
        """Return the cost (1) of a decision."""
        dark = ~self.live(closed)
        paid = self.prices(case) @ np.where(np.tile(dark, 2), 1.0, fractions)
        moved = closed != self.n.closed
        operated = sum(moved[team].any() for team in self.teams(case))
        shed = self.n.base_mva / BASE_MVA * paid
        return COST_LOAD * shed**2 + COST_SWITCH * int(operated) ** 2

    def least(self, case: Any, closed: Any, live: Any) -> Any:
        """Return the fractions of the least shedding of a state, None where none was found."""
        m, price = self.n.n_bus, self.prices(case)
        movable = np.flatnonzero((price > 0) & np.tile(live, 2))
        power = np.concatenate([case.p_load[0] + 1j * case.q_load[0], -case.p_gen[0]])
        for begin in (0.0, 0.5, 1.0):
            x = np.zeros(2 * m)
            x[movable] = begin
            for _ in range(40):
                s = self.injections(case, x)
                v, y = self.flow(closed, live, s)
                if v is None:
                    break
                free = self._free(live)
                right = np.zeros((m, len(movable)), dtype=complex)
                right[movable % m, np.arange(len(movable))] = np.conj(
                    power[movable] / v[movable % m]
                )
                dv = np.zeros((m, len(movable)), dtype=complex)
                dv[free] = self._respond(y, v, s, free, right[free])
                over, rows = self.excess(closed, live, v, dv)
                if over.max(initial=-1) <= EXACT and not x.any():
                    return x
                # A slack that is dear, where the linearised limits leave nothing.
                a = np.hstack([rows, -np.ones((len(over), 1))])
                program = linprog(
                    np.append(price[movable], 1e3),
                    A_ub=a,
                    b_ub=rows @ x[movable] - over,
                    bounds=[(0, 1)] * len(movable) + [(0, None)],
                )
                if program.x is None:
                    break
                moved = np.abs(program.x[:-1] - x[movable]).max(initial=0.0)
                if moved < 1e-8 and over.max() <= EXACT:
                    return x
                x[movable] = program.x[:-1]
        return None

    def best(self, case: Any) -> Best:
        """Return the cheapest safe decision of a scenario, a batch of one."""
        n = self.n
        tripped = n.closed.copy()
        tripped[self.lost(case)] = False
        teams = self.teams(case)
        best = Best(np.inf, tripped, np.zeros(2 * n.n_bus), 0)
        n_solved = 0
        promising = []
        for flips in itertools.product((False, True), repeat=len(teams)):
            closed = tripped.copy()
            for team, flip in zip(teams, flips, strict=True):
                closed[team] ^= flip
            live = self.live(closed)
            if not self.radial or self.is_forest(closed, live):
                bound = self.cost(case, closed, np.zeros(2 * n.n_bus))
                promising.append((bound, closed, live))
        for bound, closed, live in sorted(promising, key=lambda item: item[0]):
            if bound >= best.cost:
                break
            fractions = self.least(case, closed, live)
            n_solved += 1
            if fractions is None:
                continue
            cost = self.cost(case, closed, fractions)
            if cost < best.cost:
                best = Best(cost, closed, fractions, 0)
        return Best(best.cost, best.closed, best.fractions, n_solved)
