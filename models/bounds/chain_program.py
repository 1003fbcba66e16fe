"""The least cost of a radial load transfer, relaxed to a small mixed-integer program over chains.

It bounds from below what the judge accepts. P, Q and the inequalities (1)-(4) are those of
`demand.py`, chains and lumps those of `chains.py`. W is the highest squared voltage of a
substation, u_n the fall W - w_n at node n, at most D. Chain c from node i to node j is in one
state: feeding j (f), feeding i (b), open at its tie (o), or open elsewhere (m, moved); a branch
that may stand beside a feed also beside (z), where it may carry anything. Of P and likewise of Q: F
goes on to the far end in the first two states, T is what the lumps draw then; a, b what those draw
that hang from i, from j in the others; h are losses of these. Shed powers are s_k.

    (1)  f + b + o + m + z = 1;   every node but a substation is fed once: sum of f or b into it = 1
    (2)  what enters a node by its chains is its load;   T, a and b of a chain sum to its load
    (3)  cos(a) P + sin(a) Q <= I sqrt(w) at each branch, sqrt by its tangent at W
    (4)  u_j >= u_i + fall along the chain - M (1 - f);   u_i + fall to the worst inner bus <= D
         in states f, o and m
    (5)  h >= tangents of r ell and x ell, summed over the chain
    (6)  S = sum of priority_k s_k + S_dark,  N = sum of ties closed and lines opened
    (7)  cost >= tangents of 22 (S / 0.1 MW)^2 + chords of 3 N^2

In state m the lumps nearest to i draw first, wherever the chain is open: no other split has a lower
voltage fall for that power. `moved_stubs.py` has its tangents.

Every bus is live here but those that S_dark counts. A decision that leaves more dark has a point
here too, which costs no more: close again what it opened there, with all load shed.

Where all is fed a forest has N = N_0 + 2 m in all, N_0 the ties that must be closed. (7) then has
chords between every second number only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from feederguard.models.arrays import BoolArray, FloatArray
from feederguard.models.bounds.chains import (
    BranchData,
    Chain,
    ChainGraph,
    Lump,
    Power,
    Sheds,
    add_sheds,
    sum_of,
    widest,
)
from feederguard.models.bounds.moved_stubs import StubTangent, moved_stub, worst_fall
from feederguard.models.bounds.rows import Program, Terms, plus
from feederguard.models.load_transfer.rules import COST_BASE_MVA, cost_of_squares

# Where (5) has its tangents, of a typical flow, and of W.
LOSS_POINTS, LOSS_VOLTAGE = (0.0, 0.3, 0.8, 1.8), 0.92
SHED_POINTS = 80  # tangents of S^2
UNBOUND = 1e6  # MW


@dataclass(frozen=True, eq=False)
class Limits:
    """Numbers of one scenario that (1)-(7) need."""

    top: float  # W
    below: tuple[float, float]  # no flow of P and Q lies further below zero
    most_fall: float  # D
    root_fall: dict[int, float]  # u of the substations
    # Of branches off nominal ratio: u_far = ratio u_near + ..., from end to to end, and back.
    ratio: dict[int, tuple[float, float]]
    free: set[int]  # branches that may stand beside a feed
    switchable: BoolArray  # (n_branch,)
    counted: BoolArray  # (n_branch,) whose operation counts
    shed_max: FloatArray  # (n_bus,) MW
    price: FloatArray  # (n_bus,)
    dark: float  # S_dark in MW
    flow: float  # typical flow in MVA, for tangents
    angle: float  # of the demand


class ChainProgram:
    """(1)-(7) as rows; `program` holds them."""

    def __init__(
        self, graph: ChainGraph, data: BranchData, limits: Limits, cutoff: float, least: int | None
    ) -> None:
        """cutoff: only costs up to it matter. least: N_0 where (7) may skip every second number."""
        self.data, self.limits, self.program = data, limits, Program()
        program = self.program
        self.shed = {
            k: program.column(0.0, float(limits.shed_max[k]))
            for k in np.flatnonzero(limits.shed_max > 0).tolist()
        }
        self.fall = {n: self._fall_column(n) for n in graph.nodes}
        self.into: dict[int, tuple[Terms, Terms]] = {n: ({}, {}) for n in graph.nodes}
        self.fed: dict[int, Terms] = {n: {} for n in graph.nodes}
        self.operations: Terms = {}
        for chain in graph.chains:
            _Ways(self, chain).add()
        for n, lump in graph.nodes.items():
            self._add_node(n, lump)
        for limit in graph.hanging:
            program.row(self.shed_terms(limit.sheds), limit.least)
        self._add_cost(cutoff, least)

    def shed_terms(self, sheds: Sheds, factor: float = 1.0) -> Terms:
        """Return factor times the sum of coefficient s."""
        return {self.shed[k]: factor * value for k, value in sheds.items() if k in self.shed}

    def _fall_column(self, n: int) -> int:
        if n in self.limits.root_fall:
            fall = self.limits.root_fall[n]
            return self.program.column(fall, fall)
        lowest = -1.0 if any(self.limits.below) or self.limits.ratio else 0.0
        return self.program.column(lowest, self.limits.most_fall)

    def _add_node(self, n: int, lump: Lump) -> None:
        if n in self.limits.root_fall:
            return
        program, load = self.program, lump.load
        program.row(self.fed[n], 1.0, 1.0)
        for arriving, power, sheds in zip(
            self.into[n], (load.p, load.q), (load.p_sheds, load.q_sheds), strict=True
        ):
            program.row(plus(arriving, self.shed_terms(sheds)), power, power)
        if lump.fall > 0:
            terms = plus({self.fall[n]: 1.0}, self.shed_terms(lump.fall_sheds, -1.0))
            program.row(terms, upper=self.limits.most_fall - lump.fall)

    def _add_cost(self, cutoff: float, least: int | None) -> None:
        program, base = self.program, COST_BASE_MVA
        load_cost, switch_cost = cost_of_squares(1.0, 0.0), cost_of_squares(0.0, 1.0)
        every = float(self.limits.shed_max @ self.limits.price) + self.limits.dark
        most_shed = min(np.sqrt(cutoff / load_cost), every / base + 1.0)
        most_operations = min(int(np.sqrt(cutoff / switch_cost)), len(self.data.from_bus))
        shed, operations = program.column(0.0, most_shed), program.column(0.0, most_operations)
        shed_cost, operations_cost = (program.column(0, np.inf, cost=1) for _ in range(2))
        price = {self.shed[k]: self.limits.price[k] / base for k in self.shed}
        program.row(plus(price, {shed: -1.0}), -self.limits.dark / base, -self.limits.dark / base)
        program.row(plus(self.operations, {operations: -1.0}), 0.0, 0.0)
        for at in [0.0, *np.geomspace(0.05, max(most_shed, 0.1), SHED_POINTS).tolist()]:
            program.row({shed_cost: 1.0, shed: -2 * load_cost * at}, -load_cost * at**2)
        first, step = (0, 1) if least is None else (least, 2)
        for k in range(first, max(most_operations, first) + 1, step):
            slope = switch_cost * (2 * k + step)
            program.row({operations_cost: 1.0, operations: -slope}, switch_cost * k**2 - slope * k)
        program.row({operations: 1.0}, first)
        program.row({shed_cost: 1.0, operations_cost: 1.0}, upper=cutoff)


class _Ways:
    """Columns of one chain, and its rows seen from either end (0: i, 1: j).

    Pairs of columns are of P and Q.
    """

    def __init__(self, owner: ChainProgram, chain: Chain) -> None:
        self.owner, self.program, self.limits, self.data = (
            owner,
            owner.program,
            owner.limits,
            owner.data,
        )
        self.chain, self.ends = chain, (chain.i, chain.j)
        self.total = sum_of(list(chain.lumps))
        self.ties = [k for k, b in enumerate(chain.branches) if self.data.tie[b]]
        roots, loop, first = self.limits.root_fall, chain.i == chain.j, chain.branches[0]
        column, low = self.program.column, [-below for below in self.limits.below]
        # Feeding away from the end: from i it is f, from j it is b.
        self.feeds = [
            column(0, float(self.ends[1 - e] not in roots and not loop), whole=True) for e in (0, 1)
        ]
        can_move = any(self.limits.switchable[b] and not self.data.tie[b] for b in chain.branches)
        self.normal = column(0, float(bool(self.ties)), whole=True)
        self.moved = column(0, float(can_move), whole=True)
        self.beside = column(0, float(first in self.limits.free), whole=True)
        self.flow, self.drawn, self.stub, self.moved_stub = (
            [[column(low[part], UNBOUND) for part in (0, 1)] for _ in (0, 1)] for _ in range(4)
        )
        self.loss, self.stub_loss = (
            [[column(0, UNBOUND) for _ in (0, 1)] for _ in (0, 1)] for _ in range(2)
        )
        self.bent = [column(0, UNBOUND) for _ in (0, 1)]

    def add(self) -> None:
        """Add every row."""
        self._add_states()
        self._add_balance()
        if self.chain.branches[0] in self.limits.free:
            self._add_beside()
        for end in (0, 1):
            self._add_leaving(end)
            self._add_limits(end)
            self._add_falls(end)
            self._add_losses(end)

    def _from_end(self, end: int) -> tuple[list[int], list[Lump]]:
        step = 1 if end == 0 else -1
        return list(self.chain.branches[::step]), list(self.chain.lumps[::step])

    def _stub_lumps(self, end: int) -> list[Lump]:
        """Return the lumps that hang from that end while the chain is open at its tie."""
        if len(self.ties) != 1:
            return []
        lumps = self.chain.lumps
        return list(lumps[: self.ties[0]]) if end == 0 else list(lumps[self.ties[0] :][::-1])

    def _add_states(self) -> None:
        states = [*self.feeds, self.normal, self.moved, self.beside]
        self.program.row(dict.fromkeys(states, 1.0), 1.0, 1.0)
        counted = [self.data.tie[b] for b in self.chain.branches if self.limits.counted[b]]
        n_tie, opened = float(sum(counted)), float(bool(counted))
        cost = [n_tie, n_tie, max(n_tie - 1, 0.0), n_tie + opened, n_tie]
        self.owner.operations.update({state: n for state, n in zip(states, cost, strict=True) if n})
        for end in (0, 1):
            self.owner.fed[self.ends[1 - end]][self.feeds[end]] = 1.0

    def _add_balance(self) -> None:
        """Add (2) of the chain, and that a state that is not taken draws nothing."""
        powers = (self.total.p, self.total.q)
        for part, sheds in enumerate((self.total.p_sheds, self.total.q_sheds)):
            load, low = powers[part], -self.limits.below[part]
            groups = [
                ([self.drawn[0][part]], self.feeds[0]),
                ([self.drawn[1][part]], self.feeds[1]),
                ([self.stub[end][part] for end in (0, 1)], self.normal),
                ([self.moved_stub[end][part] for end in (0, 1)], self.moved),
            ]
            every = {k: 1.0 for columns, _ in groups for k in columns}
            self.program.row(plus(every, self.owner.shed_terms(sheds)), load, load)
            for columns, state in groups:
                self.program.row(plus(dict.fromkeys(columns, 1.0), {state: -load}), upper=0.0)
                for k in columns:
                    self.program.row({k: 1.0, state: -low}, 0.0)
            if len(self.ties) == 1:
                for end in (0, 1):
                    hung = sum_of(self._stub_lumps(end))
                    most = (hung.p, hung.q)[part]
                    self.program.row({self.stub[end][part]: 1.0, self.normal: -most}, upper=0.0)

    def _add_beside(self) -> None:
        most = float(self.data.limit[self.chain.branches[0]])
        for part in (0, 1):
            through = self.program.column(-most, most)
            for sign in (1.0, -1.0):
                self.program.row({through: sign, self.beside: -most}, upper=0.0)
            for end, sign in ((0, -1.0), (1, 1.0)):
                terms = self.owner.into[self.ends[end]][part]
                terms[through] = terms.get(through, 0.0) + sign

    def _leaving(self, end: int, part: int) -> Terms:
        """Return what leaves the node at that end."""
        columns = (self.flow, self.drawn, self.loss, self.stub, self.moved_stub, self.stub_loss)
        return {pairs[end][part]: 1.0 for pairs in columns}

    def _add_leaving(self, end: int) -> None:
        for part in (0, 1):
            near, far = (self.owner.into[self.ends[e]][part] for e in (end, 1 - end))
            for k, value in self._leaving(end, part).items():
                near[k] = near.get(k, 0.0) - value
            flow = self.flow[end][part]
            far[flow] = far.get(flow, 0.0) + 1.0
            low = -self.limits.below[part]
            self.program.row({flow: 1.0, self.feeds[end]: -low}, 0.0)

    def _add_limits(self, end: int) -> None:
        """Add (3) for power that leaves from that end."""
        branches, lumps = self._from_end(end)
        most = self.data.limit[branches]
        fall, bend = self.owner.fall[self.ends[end]], 1.0 / (2 * self.limits.top)
        highest = self.program.upper[fall]
        behind = [sum_of(lumps[m:]) for m in range(len(branches))]
        for part in (0, 1):
            flow = self.flow[end][part]
            self.program.row({flow: 1.0, self.feeds[end]: -float(most[-1])}, upper=0.0)
        for angle in self.data.angles:
            cos, sin = float(np.cos(angle)), float(np.sin(angle))
            terms: Terms = {fall: bend}
            for part, size in ((0, cos), (1, sin)):
                share = size / float(most[0])
                terms.update({k: share * v for k, v in self._leaving(end, part).items()})
            for state in (self.feeds[end], self.normal, self.moved):
                terms[state] = bend * highest - 1.0
            self.program.row(terms, upper=bend * highest)
            loads = [power.along(cos, sin) for power in behind]
            m = int(np.argmin([most[k] - load for k, (load, _) in enumerate(loads)]))
            if m > 0:
                load, sheds = loads[m]
                terms = {self.flow[end][0]: cos, self.flow[end][1]: sin}
                terms[self.feeds[end]] = load - float(most[m])
                self.program.row(plus(terms, self.owner.shed_terms(sheds, -1.0)), upper=0.0)

    def _add_falls(self, end: int) -> None:
        """Add (4) for power that leaves from that end."""
        branches, lumps = self._from_end(end)
        near, far = self.ends[end], self.ends[1 - end]
        fall, through, roots = self.owner.fall, self.feeds[end], self.limits.root_fall
        r, x = (2 * np.cumsum(values[branches]) for values in (self.data.r, self.data.x))
        if near != far and far not in roots:
            constant, sheds = 0.0, Sheds()
            for k, lump in enumerate(lumps):
                load, coefficients = lump.load.along(float(r[k]), float(x[k]))
                constant, sheds = constant + load, add_sheds(sheds, coefficients)
            ratio, shift = self._ratio(branches[0], end)
            most = ratio * self.program.upper[fall[near]] + shift
            slack = max(most - self.program.lower[fall[far]], 0.0)
            terms = {fall[far]: 1.0, fall[near]: -ratio, self.bent[end]: -1.0}
            terms[through] = -constant - slack
            terms[self.flow[end][0]], terms[self.flow[end][1]] = -float(r[-1]), -float(x[-1])
            self.program.row(plus(terms, self.owner.shed_terms(sheds)), shift - slack)
        if lumps and branches[0] not in self.limits.ratio:
            self._add_inner_falls(end, lumps, self._path(end))

    def _path(self, end: int) -> FloatArray:
        """Return 2 r, 2 x summed from that end, and weights of ell, for each branch, (3, n)."""
        branches, _ = self._from_end(end)
        r, x = self.data.r[branches], self.data.x[branches]
        r_sum, x_sum = 2 * np.cumsum(r), 2 * np.cumsum(x)
        # What a branch loses flows through those before it.
        bend = self.data.z2[branches] + r * (r_sum - 2 * r) + x * (x_sum - 2 * x)
        return np.stack([r_sum, x_sum, bend])

    def _ratio(self, branch: int, end: int) -> tuple[float, float]:
        """Return ratio and shift of u_far = ratio u_near + shift + fall."""
        if branch not in self.limits.ratio:
            return 1.0, 0.0
        along = self.data.from_bus[branch] == self.ends[end]
        ratio = self.limits.ratio[branch][0 if along else 1]
        shift = (1 - ratio) * self.limits.top
        if self.ends[end] not in self.limits.root_fall:
            # A node that is live here may be dark in truth: none falls beyond what is allowed.
            shift = min(shift, (1 - ratio) * self.limits.most_fall)
        return ratio, shift

    def _add_inner_falls(self, end: int, lumps: list[Lump], path: FloatArray) -> None:
        near, stub = self.ends[end], self._stub_lumps(end)
        still, bent = path * np.array([[1.0], [1.0], [0.0]]), path.copy()
        bent[2] /= self.data.highest
        fed = worst_fall(lumps, still)
        hung = worst_fall(stub, bent)
        common = {self.owner.fall[near]: 1.0, self.feeds[end]: fed.fall, self.normal: hung.fall}
        common[self.flow[end][0]], common[self.flow[end][1]] = fed.slopes
        sheds = self.owner.shed_terms(widest(fed.sheds, hung.sheds), -1.0)
        for tangent in moved_stub(lumps, bent):
            terms = plus(common, self._moved(end, tangent))
            self.program.row(plus(terms, sheds), upper=self.limits.most_fall)

    def _moved(self, end: int, tangent: StubTangent) -> Terms:
        terms = {self.moved: -tangent.constant}
        terms[self.moved_stub[end][0]], terms[self.moved_stub[end][1]] = tangent.slopes
        return terms

    def _add_losses(self, end: int) -> None:
        """Add (5) for power that leaves from that end."""
        branches, lumps = self._from_end(end)
        path = self._path(end)
        behind = [sum_of(lumps[m:]) for m in range(len(branches))]
        losses = [self.data.r[branches], self.data.x[branches]]
        for part, weights in enumerate(losses):
            if weights.any():
                self._add_tangents(end, self.loss[end][part], weights, behind)
                self._add_stub_loss(end, part, weights, lumps)
        if self.ends[1 - end] not in self.limits.root_fall and branches[0] not in self.limits.ratio:
            self._add_tangents(end, self.bent[end], path[2], behind)

    def _add_stub_loss(self, end: int, part: int, weights: FloatArray, lumps: list[Lump]) -> None:
        only = np.stack([np.zeros(len(weights)), np.zeros(len(weights)), weights])
        only[2] /= self.data.highest
        stub, column = self._stub_lumps(end), self.stub_loss[end][part]
        terms: Terms = {column: 1.0}
        for m in range(len(stub)):
            power, weight = sum_of(stub[m:]), float(only[2][m])
            p, q = max(power.p, 0.0), max(power.q, 0.0)
            ell, sheds = power.along(2 * p, 2 * q)
            terms = plus(terms, {self.normal: -weight * (ell - p * p - q * q)})
            terms = plus(terms, self.owner.shed_terms(sheds, weight))
        self.program.row(terms, 0.0)
        for tangent in moved_stub(lumps, only):
            slopes = plus({column: 1.0, self.moved: tangent.constant}, {})
            slopes[self.moved_stub[end][0]] = -tangent.slopes[0]
            self.program.row(slopes, 0.0)

    def _add_tangents(
        self, end: int, column: int, weights: FloatArray, behind: list[Power]
    ) -> None:
        """Add column >= tangents of the sum of weight ell, w that of the node at that end."""
        v, fall = LOSS_VOLTAGE * self.limits.top, self.owner.fall[self.ends[end]]
        highest, angle = self.program.upper[fall], self.limits.angle
        for share in LOSS_POINTS:
            at = share * self.limits.flow
            terms: Terms = {column: 1.0}
            for weight, power in zip(weights.tolist(), behind, strict=True):
                p = max(at * float(np.cos(angle)) + power.p, 0.0)
                q = max(at * float(np.sin(angle)) + power.q, 0.0)
                grows, square = 2 * weight / v, weight * (p**2 + q**2) / v**2
                load, sheds = power.along(grows * p, grows * q)
                own = {self.flow[end][0]: -grows * p, self.flow[end][1]: -grows * q}
                own[self.feeds[end]] = square * (self.limits.top - highest) - load
                own[fall] = -square
                terms = plus(plus(terms, own), self.owner.shed_terms(sheds))
            self.program.row(terms, terms.get(fall, 0.0) * highest)
