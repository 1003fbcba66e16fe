"""AC voltages of a feeder at the actions of its batteries."""

from __future__ import annotations

import numpy as np

from feederguard.models.arrays import ComplexArray, FloatArray, threads_for
from feederguard.models.battery import Batteries
from feederguard.models.network import Network
from feederguard.models.power_flow import solve_power_flow
from feederguard.models.power_flow.forest import Answer
from feederguard.models.power_flow.layout import prepare
from feederguard.models.power_flow.newton_sweep import Asked, solve_many_forests
from feederguard.models.voltage_regulation.demand import battery_demand

FLOW_TOLERANCE_MVA, FLOW_ITERATIONS = 1e-8, 20  # those of `solve_power_flow`
_FEW = 8  # items; from there on the batch kernel of `solve_power_flow` is faster


class AcVoltages:
    """Computes AC voltages of one feeder whose batteries act."""

    def __init__(self, network: Network, batteries: Batteries) -> None:
        self.network = network
        # What an action of 1 of each battery draws at each bus, (n_bat, n_bus).
        self._drawn = battery_demand(network, batteries, np.diag(batteries.p_max))
        self._closed = network.closed[None].copy()

    def demand(self, p_net: FloatArray, actions: FloatArray) -> FloatArray:
        """Return the active demand with batteries, (B, n_bus) pu; actions (B, n_bat)."""
        return np.asarray(p_net + actions @ self._drawn)

    def solve(self, p: FloatArray, q: FloatArray) -> ComplexArray:
        """Return the AC voltages (B, n_bus) of net demands (B, n_bus), NaN without a solution.

        A few items take less time than `solve_power_flow` takes to check them again. They go to its
        kernel directly.
        """
        n_item, network = len(p), self.network
        if n_item >= _FEW:
            return solve_power_flow(network, p, q).voltage
        answer = Answer(
            np.empty((n_item, network.n_bus), np.complex128),
            np.empty((n_item, network.n_branch), np.complex128),
            np.empty(n_item, np.int64),
            np.empty((n_item, network.n_bus), np.bool_),
        )
        asked = Asked(p, q, self._closed, np.empty((0, network.n_bus), np.complex128))
        tolerance = FLOW_TOLERANCE_MVA / network.base_mva
        with threads_for(0.0):
            solve_many_forests(prepare(network), asked, tolerance, FLOW_ITERATIONS, 1, answer)
        return answer.voltage
