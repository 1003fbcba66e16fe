"""Net demand of days, with batteries and without, and its AC voltages."""

from __future__ import annotations

import numpy as np

from feederguard.models.arrays import BoolArray, FloatArray
from feederguard.models.battery import Batteries
from feederguard.models.network import Network
from feederguard.models.power_flow import solve_power_flow
from feederguard.models.voltage_regulation.days import VoltageDays

_FLOWS_AT_ONCE = 20_000  # keeps the arrays of a year on a large feeder out of the way


def idle_voltages(network: Network, days: VoltageDays) -> FloatArray:
    """Return AC voltage magnitudes with batteries idle, (B, T, n_bus) pu; NaN without solution.

    Raises ValueError where a bus is not fed in the normal state.
    """
    return flow_of_days(network, *net_demand(network, days))[0]


def net_demand(network: Network, days: VoltageDays) -> tuple[FloatArray, FloatArray]:
    """Return demand less local generation, without batteries: p and q, each (B, T, n_bus) pu."""
    return days.p_load - days.p_gen, days.q_load - network.q_gen


def battery_demand(network: Network, batteries: Batteries, p: FloatArray) -> FloatArray:
    """Return what batteries of powers p (..., n_bat) draw from each bus, (..., n_bus) pu."""
    sits = np.zeros((len(batteries), network.n_bus))
    sits[np.arange(len(batteries)), batteries.bus] = 1.0
    return np.asarray(p @ sits)


def flow_of_days(
    network: Network, p: FloatArray, q: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return AC voltage magnitudes, losses and power from the grid above of net demands p and q.

    Voltages are (B, T, n_bus) pu, NaN without solution. Losses of the branches and power are (B, T)
    in MW. Raises ValueError where a bus is not fed in the normal state.
    """
    shape = p.shape[:2]
    p, q = p.reshape(-1, network.n_bus), np.broadcast_to(q, p.shape).reshape(-1, network.n_bus)
    v, loss, grid = np.empty(p.shape), np.empty(len(p)), np.empty(len(p))
    for first in range(0, len(p), _FLOWS_AT_ONCE):
        rows = slice(first, first + _FLOWS_AT_ONCE)
        flow = solve_power_flow(network, p[rows], q[rows])
        _check_fed(network, flow.energised)
        v[rows], loss[rows] = np.abs(flow.voltage), flow.loss_mw
        grid[rows] = flow.p_substation_mw.sum(axis=-1)
    return v.reshape(*shape, -1), loss.reshape(shape), grid.reshape(shape)


def _check_fed(network: Network, energised: BoolArray) -> None:
    dark = np.flatnonzero(~energised.all(axis=0))
    if dark.size:
        raise ValueError(
            f"{network.name}: bus {network.bus_name[dark[0]]!r} is not fed in the normal state; "
            "close a branch to it, or leave it out"
        )
