"""Observations of a feeder with batteries before a step, and the way back to the state.

One row of numbers, in this order; everything a safety layer needs can be read back from it:

    p_net   of the buses with nominal load or generation, over the larger of these two
    q_net   of the buses with nominal reactive load, over it
    v_idle  of every judged bus: 2 (V - V_mid) / (v_max - v_min), so that -1..1 is the band;
            V = 0 stands for no solution
    soc     of every battery, 0..1
    time    sine and cosine of 2 pi step / n_step
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from feederguard.models.arrays import Float32Array, FloatArray, IntArray
from feederguard.models.battery import Batteries
from feederguard.models.battery.step import power_interval
from feederguard.models.network import Network
from feederguard.models.once_per_object import once_per_object
from feederguard.models.voltage_regulation import VoltageDays, VoltageState
from feederguard.models.voltage_regulation.rules import judged_buses

STEPS_A_DAY = 96


def observe(
    network: Network, batteries: Batteries, state: VoltageState, n_step: int = STEPS_A_DAY
) -> Float32Array:
    """Return the observations of B states, (B, n_observation); n_step: steps in a day.

    Raises ValueError when a net demand or SOC is not finite.
    """
    layout = _layout(network)
    angle = 2 * np.pi * state.step / n_step
    parts = (
        state.p_net[:, layout.p_bus] / layout.p_unit,
        state.q_net[:, layout.q_bus] / layout.q_unit,
        (np.nan_to_num(state.v_idle[:, layout.v_bus], nan=0.0) - layout.v_middle) / layout.v_reach,
        state.soc,
        np.sin(angle)[:, None],
        np.cos(angle)[:, None],
    )
    observations = np.concatenate(parts, axis=1, dtype=np.float32, casting="same_kind")
    if not np.isfinite(observations).all():
        item, column = np.argwhere(~np.isfinite(observations))[0]
        raise ValueError(
            f"{network.name}: {_column_name(network, batteries, layout, int(column))} in state "
            f"{item} is not finite; give a number"
        )
    return observations


def read_observations(
    network: Network, batteries: Batteries, observations: ArrayLike, n_step: int = STEPS_A_DAY
) -> VoltageState:
    """Return the states that observations (B, n_observation) stand for.

    Numbers are exact to float32, the step is exact. Demand of buses without nominal load is zero,
    and substations have their voltage. Raises ValueError when the width is another.
    """
    layout, n_bat = _layout(network), len(batteries)
    rows = np.asarray(observations, dtype=float)
    if rows.ndim != 2 or rows.shape[1] != layout.width(n_bat):
        raise ValueError(
            f"{network.name}: observations have shape {rows.shape}; expected (B, "
            f"{layout.width(n_bat)}), rows of observe"
        )
    ends = np.cumsum([len(layout.p_bus), len(layout.q_bus), len(layout.v_bus), n_bat])
    p, q, v, soc, time = np.split(rows, ends, axis=1)
    p_net, q_net = np.zeros((len(rows), network.n_bus)), np.zeros((len(rows), network.n_bus))
    p_net[:, layout.p_bus], q_net[:, layout.q_bus] = p * layout.p_unit, q * layout.q_unit
    v_idle = np.zeros((len(rows), network.n_bus))
    v_idle[:, network.substation] = np.abs(network.v_substation)
    magnitude = v * layout.v_reach + layout.v_middle
    # No bus that is fed comes near a tenth of its voltage.
    v_idle[:, layout.v_bus] = np.where(magnitude < 0.1, np.nan, magnitude)
    v_idle[np.isnan(v_idle).any(axis=1)] = np.nan
    turns = np.arctan2(time[:, 0], time[:, 1]) / (2 * np.pi)
    return VoltageState(
        p_net, q_net, v_idle, soc, np.round(turns * n_step).astype(np.int64) % n_step
    )


def soc_columns(network: Network, batteries: Batteries) -> slice:
    """Return where in an observation the SOC stands; all else of a day is known beforehand."""
    layout = _layout(network)
    first = len(layout.p_bus) + len(layout.q_bus) + len(layout.v_bus)
    return slice(first, first + len(batteries))


def check_observable(network: Network, days: VoltageDays) -> None:
    """Raise ValueError when a day has demand or generation that an observation leaves out."""
    layout = _layout(network)
    for label, net, shown in (
        ("active", days.p_load - days.p_gen, layout.p_bus),
        ("reactive", days.q_load - network.q_gen, layout.q_bus),
    ):
        unseen = np.any(net != 0, axis=(0, 1))
        unseen[shown] = False
        if unseen.any():
            raise ValueError(
                f"{network.name}: the days have {label} demand at bus "
                f"{network.bus_name[np.flatnonzero(unseen)[0]]!r}, which has no nominal one, so an "
                "agent would not see it; give the network its nominal load there"
            )


@dataclass(frozen=True, eq=False)
class _Layout:
    """The meaning and the unit of each number of an observation."""

    p_bus: IntArray
    p_unit: FloatArray
    q_bus: IntArray
    q_unit: FloatArray
    v_bus: IntArray
    v_middle: FloatArray
    v_reach: FloatArray

    def width(self, n_bat: int) -> int:
        return len(self.p_bus) + len(self.q_bus) + len(self.v_bus) + n_bat + 2


@once_per_object
def _layout(network: Network) -> _Layout:
    active = np.maximum(np.abs(network.p_load), np.abs(network.p_gen))
    reactive = np.maximum(np.abs(network.q_load), np.abs(network.q_gen))
    p_bus, q_bus, v_bus = np.flatnonzero(active), np.flatnonzero(reactive), judged_buses(network)
    low, high = network.v_min[v_bus], network.v_max[v_bus]
    # Voltages are measured by the width of the band.
    reach = np.maximum((high - low) / 2, 1e-3)
    return _Layout(p_bus, active[p_bus], q_bus, reactive[q_bus], v_bus, (low + high) / 2, reach)


def _column_name(network: Network, batteries: Batteries, layout: _Layout, column: int) -> str:
    groups = (
        ("p_net of bus", layout.p_bus),
        ("q_net of bus", layout.q_bus),
        ("v_idle of bus", layout.v_bus),
    )
    for label, buses in groups:
        if column < len(buses):
            return f"{label} {network.bus_name[buses[column]]!r}"
        column -= len(buses)
    return (
        f"soc of battery {batteries.name[column]!r}"
        if column < len(batteries)
        else "the time of day"
    )


def batteries_text(network: Network, batteries: Batteries) -> str:
    """Return every number of the batteries as one line of JSON.

    Powers and energies are in pu of the network's base.
    """
    known = {
        item.name: None
        if value is None
        else [f"{number:.10g}" for number in np.asarray(value, dtype=float).tolist()]
        for item in fields(batteries)
        if item.name != "name"
        for value in [getattr(batteries, item.name)]
    }
    return json.dumps({"base_mva": network.base_mva, **known}, sort_keys=True)


def cut_to_limits(batteries: Batteries, soc: FloatArray, actions: Tensor, step_h: float) -> Tensor:
    """Return what power and SOC limits leave of actions in [-1, 1], (B, n_bat).

    It is differentiable in the actions; what is cut off has no gradient. soc: (B, n_bat).
    """
    # A battery without power does nothing.
    unit = np.where(batteries.p_max > 0, batteries.p_max, 1.0)
    low, high = (
        torch.from_numpy(limit / unit).to(actions)
        for limit in power_interval(batteries, soc, step_h)
    )
    return torch.minimum(torch.maximum(actions, low), high)
