"""A feeder after a fault as nodes and chains: what hangs from a node or chain is folded into it.

Trees of closed branches without a tie hang from one bus, whatever is switched: their load, their
losses and their lowest voltage become numbers of that bus (`Lump`). A *chain* is a path of branches
whose inner buses lead nowhere else, with one tie at most. Its ends are nodes. A bus with much load
is a node too, so that it is fed from one side. Transformers off nominal ratio and branches that may
stand beside a feed (`network/parallel.py`) are chains by themselves.

Powers in MW and Mvar, those of `demand.py`. A `Power` is, for shed powers s_k in MW,

    constant - sum of coefficient[k] s_k,   coefficients >= 0

where folding a convex loss takes its tangent at s = 0, which lies below it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from feederguard.models.arrays import BoolArray, FloatArray

HEAVY = 0.04  # a bus with this share of all load is a node

Sheds = dict[int, float]  # coefficient of the shed power of each bus


@dataclass(frozen=True)
class Power:
    """Active and reactive power less what is shed of them."""

    p: float = 0.0
    q: float = 0.0
    p_sheds: Sheds = field(default_factory=dict)
    q_sheds: Sheds = field(default_factory=dict)

    def plus(self, other: Power, p_factor: float = 1.0, q_factor: float = 1.0) -> Power:
        """Return self + other, its parts times factors that are not negative."""
        return Power(
            self.p + p_factor * other.p,
            self.q + q_factor * other.q,
            add_sheds(self.p_sheds, other.p_sheds, p_factor),
            add_sheds(self.q_sheds, other.q_sheds, q_factor),
        )

    def along(self, p_part: float, q_part: float) -> tuple[float, Sheds]:
        """Return p_part P + q_part Q, for parts that are not negative."""
        sheds = add_sheds(add_sheds({}, self.p_sheds, p_part), self.q_sheds, q_part)
        return p_part * self.p + q_part * self.q, sheds


@dataclass
class Lump:
    """A bus with all that hangs from it."""

    load: Power  # with the losses behind it
    below: tuple[float, float]  # how far below zero P and Q come with all shed
    # Fall of squared voltage from the bus to the hanging bus that needs most, and what that bus may
    # fall less than others.
    fall: float
    fall_sheds: Sheds


@dataclass(frozen=True)
class HangingLimit:
    """What is shed along one direction of P and Q is at least so much."""

    sheds: Sheds
    least: float


@dataclass(frozen=True)
class Chain:
    """A path of branches from node i to node j, with its inner lumps in order."""

    i: int
    j: int
    branches: tuple[int, ...]
    lumps: tuple[Lump, ...]


@dataclass(frozen=True, eq=False)
class BranchData:
    """What folding needs of each branch, (n_branch,) each."""

    from_bus: list[int]
    to_bus: list[int]
    # Losses in MW and Mvar are these times (P^2 + Q^2) / w. The fall of squared voltage is twice
    # r P + x Q at the far end, and z2 times that quotient.
    r: FloatArray
    x: FloatArray
    z2: FloatArray
    limit: FloatArray  # most apparent power in MVA
    tie: BoolArray  # normally open
    alone: BoolArray  # a chain by itself
    highest: float  # no squared voltage is higher
    angles: tuple[float, ...]  # of the directions of P and Q along which `limit` holds


@dataclass
class ChainGraph:
    """Nodes and chains of one scenario."""

    nodes: dict[int, Lump] = field(default_factory=dict)
    chains: list[Chain] = field(default_factory=list)
    hanging: list[HangingLimit] = field(default_factory=list)


def fold(
    data: BranchData,
    usable: list[int],
    roots: set[int],
    lumps: dict[int, Lump],
) -> ChainGraph:
    """Return nodes and chains of the usable branches among the buses of `lumps`.

    lumps: of single buses, which are changed. roots: the substations; they keep their own lump.
    """
    at: dict[int, dict[int, int]] = {bus: {} for bus in lumps}
    for b in usable:
        i, j = data.from_bus[b], data.to_bus[b]
        if i in at and j in at:
            at[i][b], at[j][b] = j, i
    graph = ChainGraph()
    _fold_trees(data, at, roots, lumps, graph.hanging)
    heavy = HEAVY * sum(abs(lump.load.p) for lump in lumps.values() if lump.load.p > 0)
    nodes = {
        bus
        for bus, near in at.items()
        if bus in roots
        or len(near) != 2
        or any(data.alone[b] for b in near)
        or lumps[bus].load.p > heavy
    }
    _trace(data, at, nodes, lumps, graph)
    graph.nodes = {bus: lumps[bus] for bus in sorted(nodes)}
    return graph


def _trace(
    data: BranchData,
    at: dict[int, dict[int, int]],
    nodes: set[int],
    lumps: dict[int, Lump],
    graph: ChainGraph,
) -> None:
    """Add the chains between nodes, and a node before every second tie of a path."""
    done: set[int] = set()
    starts = sorted(nodes)
    while starts:
        i = starts.pop(0)
        for b in sorted(at[i]):
            if b in done:
                continue
            path, inner, bus = [b], [], at[i][b]
            while bus not in nodes:
                following = next(k for k in at[bus] if k != path[-1])
                if data.tie[following] and any(data.tie[k] for k in path):
                    nodes.add(bus)
                    starts.append(bus)
                    break
                inner.append(bus)
                path.append(following)
                bus = at[bus][following]
            done.update(path)
            graph.chains.append(Chain(i, bus, tuple(path), tuple(lumps[k] for k in inner)))


def _fold_trees(
    data: BranchData,
    at: dict[int, dict[int, int]],
    roots: set[int],
    lumps: dict[int, Lump],
    hanging: list[HangingLimit],
) -> None:
    """Take leaves off, one by one, and add them to the lump of the bus that feeds them."""

    def is_leaf(bus: int) -> bool:
        if bus in roots or len(at[bus]) != 1:
            return False
        (b,) = at[bus]
        return not (data.tie[b] or data.alone[b])

    leaves = [bus for bus in at if is_leaf(bus)]
    while leaves:
        leaf = leaves.pop()
        if leaf not in at or not is_leaf(leaf):
            continue
        ((b, bus),) = at.pop(leaf).items()
        del at[bus][b]
        _add_leaf(data, b, lumps[leaf], lumps[bus], hanging)
        if is_leaf(bus):
            leaves.append(bus)


def _add_leaf(
    data: BranchData, b: int, leaf: Lump, lump: Lump, hanging: list[HangingLimit]
) -> None:
    load, limit = leaf.load, float(data.limit[b])
    for angle in data.angles:
        most, sheds = load.along(float(np.cos(angle)), float(np.sin(angle)))
        if most > limit:
            hanging.append(HangingLimit(sheds, most - limit))
    r, x, z2 = float(data.r[b]), float(data.x[b]), float(data.z2[b])
    p, q = max(load.p, 0.0), max(load.q, 0.0)
    ell, ell_sheds = Power(p, q, load.p_sheds, load.q_sheds).along(2 * p, 2 * q)
    ell, ell_sheds = 0.5 * ell / data.highest, add_sheds({}, ell_sheds, 1 / data.highest)
    fall, sheds = load.along(2 * r, 2 * x)
    if fall + z2 * ell + leaf.fall > lump.fall:
        lump.fall = fall + z2 * ell + leaf.fall
        lump.fall_sheds = add_sheds(add_sheds(leaf.fall_sheds, sheds), ell_sheds, z2)
    lost = Power(ell, ell, ell_sheds, ell_sheds)
    lump.load = lump.load.plus(load).plus(lost, r, x)
    lump.below = lump.below[0] + leaf.below[0], lump.below[1] + leaf.below[1]


def add_sheds(first: Sheds, second: Sheds, factor: float = 1.0) -> Sheds:
    """Return the coefficients of first + factor * second."""
    total = dict(first)
    for bus, value in second.items():
        total[bus] = total.get(bus, 0.0) + factor * value
    return total


def widest(first: Sheds, second: Sheds) -> Sheds:
    """Return the larger coefficient of each bus."""
    return {bus: max(first.get(bus, 0.0), second.get(bus, 0.0)) for bus in first.keys() | second}


def sum_of(lumps: list[Lump]) -> Power:
    """Return the power of several lumps together."""
    total = Power()
    for lump in lumps:
        total = total.plus(lump.load)
    return total


def no_limit(values: FloatArray) -> FloatArray:
    """Return limits with a large finite number for none."""
    return np.where(np.isfinite(values), values, 1e6)
