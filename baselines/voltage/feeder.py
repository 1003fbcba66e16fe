"""The feeder on one day, as `optimum.py` asks for it: squared voltages and their slopes."""

from __future__ import annotations

import numpy as np

from feederguard.models.arrays import FloatArray, IntArray
from feederguard.models.battery import Batteries
from feederguard.models.network import Network
from feederguard.models.power_flow import solve_power_flow
from feederguard.models.power_flow.voltage_sensitivity import voltage_sensitivity
from feederguard.models.safety_qp.matrices import SafetyMatrices
from feederguard.models.voltage_regulation import VoltageDays
from feederguard.models.voltage_regulation.demand import battery_demand, net_demand
from feederguard.models.voltage_regulation.rules import outside_band, step_rules


class FeederDay:
    """One day on the feeder: squared voltages of judged buses, and their slopes, at any plan.

    exact: by the AC power flow; else by LinDistFlow. Raises ValueError for a substation that
    generators hold.
    """

    def __init__(
        self,
        network: Network,
        batteries: Batteries,
        matrices: SafetyMatrices,
        day: VoltageDays,
        exact: bool,
    ) -> None:
        self.network, self.batteries, self.exact = network, batteries, exact
        self.rules = step_rules(network)
        self.bus: IntArray = self.rules.bus
        free = np.setdiff1d(self.bus, matrices.bus)
        if free.size:
            raise ValueError(
                f"{network.name}: the voltage of substation {network.bus_name[free[0]]!r} is free, "
                "as a generator stands for the grid above it; this optimum takes substations held "
                "at a voltage: use baselines.opf, or drop gen_is_grid"
            )
        place = np.searchsorted(matrices.bus, self.bus)
        self.p_net, self.q_net = (net[0] for net in net_demand(network, day))
        self.lossless = matrices.lossless(self.p_net, self.q_net)[:, place]
        self.linear_slope = (matrices.columns / matrices.p_max[:, None])[:, place]
        self.low, self.high = self.rules.v_min**2, self.rules.v_max**2

    def voltages(self, p: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return squared voltages (T, m) at powers p (T, n_bat) and their slopes (T, n_bat, m).

        A step without an AC solution has those of LinDistFlow, which are then far outside the band.
        """
        w = self.lossless + p @ self.linear_slope
        slope = np.broadcast_to(self.linear_slope, (len(p), *self.linear_slope.shape))
        if not self.exact:
            return w, slope
        drawn = self.p_net + battery_demand(self.network, self.batteries, p)
        flow = solve_power_flow(self.network, drawn, self.q_net)
        true = voltage_sensitivity(
            self.network, flow.voltage, drawn, self.q_net, self.batteries.bus, self.bus
        )
        solved = flow.converged & np.isfinite(true).all(axis=(1, 2))
        w_ac = np.abs(flow.voltage[:, self.bus]) ** 2
        return np.where(solved[:, None], w_ac, w), np.where(solved[:, None, None], true, slope)

    def excess(self, w: FloatArray) -> FloatArray:
        """Return how far outside its band each voltage is, (T, m) pu; negative inside."""
        v = np.sqrt(np.maximum(w, 0.0))
        return outside_band(v, self.rules.v_min, self.rules.v_max)
