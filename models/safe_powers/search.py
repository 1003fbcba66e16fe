"""The search for safe actions: linearise at AC states, project, and keep the best action so far.

Equations are those of `nearest.py`.
"""

from __future__ import annotations

import numpy as np

from feederguard.models.arrays import FloatArray, IntArray
from feederguard.models.power_flow.voltage_sensitivity import voltage_sensitivity
from feederguard.models.safe_powers.answers import (
    AS_PROPOSED,
    CORRECTED,
    FAILED_ITEM,
    SLACK_USED,
    SafeActions,
)
from feederguard.models.safe_powers.limits import StateLimits
from feederguard.models.safe_powers.voltages import AcVoltages
from feederguard.models.safety_qp.projection import Projection
from feederguard.models.voltage_regulation import VoltageState
from feederguard.models.voltage_regulation.rules import step_rules

SAME_ACTION = 1e-9  # in units of p_max: closer than that is the same action
SETTLED = 1e-5  # change of action between two linearisations that ends an item


class Search:
    """Knows of each item the last action with its AC state, and the best action so far.

    clipped: (B, n_bat) the proposed actions cut to their interval, where every item begins.
    """

    def __init__(
        self,
        limits: StateLimits,
        ac: AcVoltages,
        tolerance_pu: float,
        state: VoltageState,
        proposal: FloatArray,
        clipped: FloatArray,
    ) -> None:
        n_item = len(state)
        self.limits, self.ac, self.tolerance_pu = limits, ac, tolerance_pu
        self.state, self.proposal = state, proposal
        self._rules = step_rules(limits.network)
        w_low, w_high = limits.matrices.w_low, limits.matrices.w_high
        # What the squared voltage of a limit changes by per pu.
        self._per_pu = 2 * np.sqrt(w_low), 2 * np.sqrt(w_high)
        self.voltage = np.empty((n_item, limits.network.n_bus), np.complex128)
        self.a = clipped
        self.excess = self._flow(np.arange(n_item))
        self.safe = self.excess <= tolerance_pu
        self.best, self.best_v = self.a.copy(), np.abs(self.voltage)
        self.best_excess = self.excess.copy()
        self.slack = np.zeros(n_item)
        self.rounds = np.zeros(n_item, dtype=np.int64)
        self.settled = self.safe.copy()
        self.moved = np.zeros(n_item, dtype=bool)

    def visit(
        self,
        items: IntArray,
        step: Projection,
        low: FloatArray,
        high: FloatArray,
        columns: FloatArray,
    ) -> None:
        """Go to the projections, compute their AC flows, and keep what is better than before."""
        a, moved = step.a, self.moved[items]
        near = np.abs(a - self.a[items]).max(axis=1, initial=0.0) <= SETTLED
        # Settled: what the last flow was computed for is the answer, or there is none to go to.
        go = ~(step.failed | (near & moved))
        if not go.all():
            self.settled[items[~go]] = True
            items, a, low, high, moved = items[go], a[go], low[go], high[go], moved[go]
            columns = columns if columns.ndim == 2 else columns[go]
            if not len(items):
                return
        self.rounds[items] += moved
        self.moved[items] = True
        self.a[items] = a
        self.excess[items] = self._flow(items)
        y = a @ columns if columns.ndim == 2 else np.einsum("bn,bnm->bm", a, columns)
        self.slack[items] = self._slack_pu(y, low, high)
        self._keep(items)

    def linearise(self, items: IntArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return (2) at the last actions: limits of J a (B, m), and columns of J (B, n, m)."""
        batteries, m = self.limits.batteries, self.limits.matrices
        p, q = self._demand(items)
        voltage = self.voltage[items]
        slope = voltage_sensitivity(self.limits.network, voltage, p, q, batteries.bus, m.bus)
        columns = slope * batteries.p_max[:, None]
        rest = np.einsum("bn,bnm->bm", self.a[items], columns) - np.abs(voltage[:, m.bus]) ** 2
        # An action without an AC solution has no slopes: its projection fails and ends the item.
        return m.w_low + rest, m.w_high + rest, columns

    def answer(self) -> SafeActions:
        """Return the best action of each item with its status and certificate."""
        certified = self.best_excess <= self.tolerance_pu
        same = np.abs(self.best - self.proposal).max(axis=1, initial=0.0) <= SAME_ACTION
        status = np.where(same, AS_PROPOSED, CORRECTED)
        status[~certified] = np.where(
            self.slack[~certified] > 0.1 * self.tolerance_pu, SLACK_USED, FAILED_ITEM
        )
        slack = np.where(certified, 0.0, self.slack)
        p = self.best * self.limits.batteries.p_max
        return SafeActions(p, status, slack, self.best_v, certified, self.rounds)

    def _keep(self, items: IntArray) -> None:
        """Keep of safe actions the one nearest to the proposal, of others the least unsafe."""
        distance = ((self.a[items] - self.proposal[items]) ** 2).sum(axis=1)
        before = ((self.best[items] - self.proposal[items]) ** 2).sum(axis=1)
        safe = self.excess[items] <= self.tolerance_pu
        was_safe = self.best_excess[items] <= self.tolerance_pu
        # The latest safe action is nearest to the AC-safe projection, but for rounding.
        better = np.where(
            safe & was_safe,
            distance < before + 1e-12,
            self.excess[items] < self.best_excess[items],
        )
        kept = items[better]
        self.best[kept], self.best_excess[kept] = self.a[kept], self.excess[kept]
        self.best_v[kept] = np.abs(self.voltage[kept])

    def _demand(self, items: IntArray) -> tuple[FloatArray, FloatArray]:
        p = self.ac.demand(self.state.p_net[items], self.a[items])
        return p, self.state.q_net[items]

    def _flow(self, items: IntArray) -> FloatArray:
        """Compute the AC flows of the items' actions; return their `band_excess`, (B,) pu."""
        voltage = self.ac.solve(*self._demand(items))
        self.voltage[items] = voltage
        return self._rules.band_excess(np.abs(voltage))

    def _slack_pu(self, y: FloatArray, low: FloatArray, high: FloatArray) -> FloatArray:
        """Return the largest slack of an answer, (B,) pu of voltage."""
        below, above = (low - y) / self._per_pu[0], (y - high) / self._per_pu[1]
        return np.asarray(np.maximum(below, above).max(axis=1, initial=0.0))
