"""The least whole loads that make one switch state safe by AC power flow.

Nobody can shed a part of a bus. With x_k 0 or 1 for the load of bus k:

    (1)  x       the answer of the program over the cuts so far (`program.py`)
    (2)  at x    an AC power flow; limits broken there are linearised (`shedding_cuts.py`), and the
                 cuts join the others: again (1), until a state is safe

The first cuts are those of the limits that hold the least shedding by fractions. Losses make the
limits convex where power flows towards the loads. No cut then excludes what is safe, and the value
of (1) bounds the cost from below: the first safe x is the optimum. With generation (1) bounds
nothing for sure, and x is a heuristic answer. A choice of loads that comes back is excluded by
itself.

With more than FEW loads what fractions shed in part is shed whole, and loads are given back while
the state stays safe: first those shed in part, the dearest before the others. The bound is then
that of fractions. Where MOST_ROUNDS of (1) and (2) settle nothing, loads are given back likewise
after everything was shed. This is safe wherever shedding everything is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from feederguard.models.arrays import BoolArray, FloatArray, IntArray
from feederguard.models.load_transfer.shedding_sweep import Aims, Case, cuts_at
from feederguard.models.load_transfer.whole_loads.program import Choice, choose_least

MOST_ROUNDS = 40
FEW = 40  # loads that are chosen by (1)
MOST_GIVEN = 60  # loads of a safe answer that are tried to be given back, with more than FEW
NEAR = 1e-4  # limits are linearised at fractions that lie so far inside


@dataclass(frozen=True, eq=False)
class WholeShedding:
    """The least whole loads found for one state; levers as in `shedding_sweep.py`."""

    fractions: FloatArray  # (2 n_bus,) of loads, 0 or 1, and of generation
    price: float  # what they cost, live buses alone
    bound: float  # of the price, from below
    safe: bool
    n_flows: int


def shed_whole(
    case: Case,
    aims: Aims,
    price: FloatArray,
    low: FloatArray,
    start: FloatArray,
    too_dear: Callable[[float], bool],
    broken: BoolArray,
) -> WholeShedding:
    """Return the least whole loads of one state; not safe where their price is too dear.

    price, low: (2 n_bus,) of each lever, and the least fraction of it; a load with a part of it in
    `low` is shed whole. start: (2 n_bus,) the least shedding by fractions. broken: (n_limit,) is
    marked where a limit was broken on the way.
    """
    return _Search(case, aims, price, low, too_dear, broken).run(start)


class _Search:
    """The cuts of one state, and what was tried."""

    def __init__(
        self,
        case: Case,
        aims: Aims,
        price: FloatArray,
        low: FloatArray,
        too_dear: Callable[[float], bool],
        broken: BoolArray,
    ) -> None:
        self.case, self.aims, self.price, self.broken = case, aims, price, broken
        self.too_dear = too_dear
        n_bus = len(case.p_load)
        self.low = low.copy()
        self.low[:n_bus] = np.ceil(low[:n_bus] - 1e-9)
        self.n_flows, self.n_bus = 0, n_bus
        self.few = int((price[:n_bus] > 0).sum()) <= FEW
        self.cuts: list[FloatArray] = []
        self.right: list[float] = []

    def run(self, start: FloatArray) -> WholeShedding:
        """Return the answer from the least shedding by fractions, (2 n_bus,)."""
        x = np.where(self.price > 0, np.maximum(start, self.low), 0.0)
        partly = (x > 0) & (x < 1)
        bound = 0.0
        if self.few:
            # The state is safe: its nearest limits are those that hold it.
            _, levers = self._add_cuts(x, self.aims._replace(tolerance=-NEAR))
        else:
            x[: self.n_bus] = np.ceil(x[: self.n_bus])
            worst, levers = self._add_cuts(x, self.aims)
            bound = 0.0 if self.case.p_gen.any() else float(self.price[levers] @ start[levers])
            if worst <= self.aims.tolerance:
                self._give_back(x, levers, partly, MOST_GIVEN)
                return self._answer(x, levers, bound)
        return self._iterate(x, levers, bound) or self._from_everything(bound)

    def _iterate(self, x: FloatArray, levers: IntArray, bound: float) -> WholeShedding | None:
        """Return what (1) and (2) settle, None where they do not."""
        movable, tried = levers[self.price[levers] > 0], set()
        for _ in range(MOST_ROUNDS):
            choice = self._choose(movable) if self.cuts else None
            if choice is None:
                return None
            bound = max(bound, choice.bound) if not self.case.p_gen.any() else 0.0
            if self.too_dear(bound):
                return WholeShedding(x, bound, bound, False, self.n_flows)
            x = x.copy()
            x[movable] = choice.x
            x[: self.n_bus] = np.ceil(x[: self.n_bus] - 1e-6)
            worst, _ = self._add_cuts(x, self.aims)
            if worst <= self.aims.tolerance:
                return self._answer(x, levers, bound)
            if x.tobytes() in tried:
                self._exclude(movable, x)
            tried.add(x.tobytes())
        return None

    def _add_cuts(self, x: FloatArray, aims: Aims) -> tuple[float, IntArray]:
        """Add the cuts of the limits broken at x; return the largest excess and the levers."""
        self.n_flows += 1
        worst, levers, cuts, right = cuts_at(self.case, aims, self.price, x, self.broken)
        for row, limit in zip(cuts, right, strict=True):
            if aims.tolerance < 0 and not row.any():
                # An open branch is at its limit of nothing, and no shedding moves it.
                continue
            wide = np.zeros(len(x))
            wide[levers] = row
            self.cuts.append(wide)
            self.right.append(float(limit))
        return float(worst), levers

    def _choose(self, movable: IntArray) -> Choice | None:
        cuts = np.array(self.cuts)[:, movable]
        return choose_least(
            self.price[movable],
            (movable < self.n_bus) & self.few,
            self.low[movable],
            cuts,
            np.array(self.right),
        )

    def _exclude(self, movable: IntArray, x: FloatArray) -> None:
        """Ask for another choice of loads than that of x."""
        loads = movable[movable < self.n_bus]
        row = np.zeros(len(x))
        row[loads] = np.where(x[loads] > 0.5, 1.0, -1.0)
        self.cuts.append(row)
        self.right.append(float((x[loads] > 0.5).sum()) - 1.0)

    def _from_everything(self, bound: float) -> WholeShedding:
        """Return everything shed less what can be given back, generation on or off."""
        for off in (0.0, 1.0):
            x = np.where(self.price > 0, 1.0, 0.0)
            x[self.n_bus :] *= off
            worst, levers = self._worst(x)
            if worst <= self.aims.tolerance:
                break
        else:
            return WholeShedding(x, np.inf, bound, False, self.n_flows)
        self._give_back(x, levers, x > 2, len(levers))
        return self._answer(x, levers, bound)

    def _give_back(self, x: FloatArray, levers: IntArray, first: BoolArray, most: int) -> None:
        """Give back loads of x, the dearest first, while it stays safe; `most`: how many to try."""
        order = levers[np.lexsort((-self.price[levers], ~first[levers]))]
        order = order[(order < self.n_bus) & (x[order] > self.low[order])]
        for k in order[:most].tolist():
            x[k] = self.low[k]
            if self._worst(x)[0] > self.aims.tolerance:
                x[k] = 1.0

    def _answer(self, x: FloatArray, levers: IntArray, bound: float) -> WholeShedding:
        price = float(self.price[levers] @ x[levers])
        return WholeShedding(x, price, bound, not self.too_dear(price), self.n_flows)

    def _worst(self, x: FloatArray) -> tuple[float, IntArray]:
        self.n_flows += 1
        worst, levers, _, _ = cuts_at(self.case, self.aims, self.price, x, self.broken.copy())
        return float(worst), levers
