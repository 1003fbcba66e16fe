"""Batteries of a solved optimal power flow that charge and discharge at once: named, and netted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from feederguard.models.arrays import FloatArray
from feederguard.models.battery.step import soc_change

_TOLERATED = 1e-5  # of a SOC, for what a solver may leave


@dataclass(frozen=True)
class SimultaneousUse:
    """One battery at one step that charges and discharges at once."""

    battery: str
    step: int
    p_charge_mw: float
    p_discharge_mw: float


def simultaneous_use(model: Any, tolerance_mw: float = 1e-6) -> list[SimultaneousUse]:
    """Return every battery and step of a solved OPF at which both powers exceed the tolerance.

    Raises ValueError when the model has not been solved.
    """
    periods = model.periods
    charge, discharge, _ = _solved_powers(model)
    base = periods.network.base_mva
    found = np.argwhere(base * np.minimum(charge, discharge) > tolerance_mw)
    return [
        SimultaneousUse(
            periods.batteries.name[k],
            int(t),
            float(base * charge[t, k]),
            float(base * discharge[t, k]),
        )
        for t, k in found
    ]


def net_batteries(model: Any) -> float:
    """Net charging against discharging in a solved OPF, in place; return the energy kept, MWh.

    The power at every bus and step stays, and so do the network and any objective of p_discharge -
    p_charge. In each step min(c, d) is taken off both, as far as the energy kept fits under soc_max
    and a fixed soc_end in all later steps. What has to be burnt stays; `simultaneous_use` names it.
    SOC is recomputed by (1). A solver's tolerance (1e-5 or less) may keep it from the end that is
    asked for. Then the last power that can move is moved by that.

    Raises ValueError when the model has not been solved.
    """
    periods, batteries = model.periods, model.periods.batteries
    charge, discharge, soc = _solved_powers(model)
    if not soc.size:
        return 0.0
    worth = (
        periods.step_h
        * (1 / batteries.efficiency_discharge - batteries.efficiency_charge)
        / batteries.energy
    )
    room = np.broadcast_to(batteries.soc_max, soc.shape) - _soc(periods, charge, discharge)
    if batteries.soc_end is not None:
        room = np.vstack(
            [room[:-1], np.minimum(room[-1], batteries.soc_end - (batteries.soc_max - room[-1]))]
        )
    # What a step may keep is bounded by the tightest later step.
    room = np.maximum(np.minimum.accumulate(room[::-1], axis=0)[::-1], 0.0)
    kept = np.zeros(len(batteries))
    for t in range(len(charge)):
        both = np.minimum(charge[t], discharge[t])
        fits = np.where(worth > 1e-12, (room[t] - kept) / np.maximum(worth, 1e-12), np.inf)
        off = np.clip(fits, 0.0, both)
        kept += worth * off
        charge[t] -= off
        discharge[t] -= off
    _meet_end(periods, charge, discharge)
    soc = _soc(periods, charge, discharge)
    if batteries.soc_end is not None:
        # The sum of the steps may miss the end by the last bit of a float.
        near = np.abs(soc[-1] - batteries.soc_end) < 1e-12
        soc[-1] = np.where(near, batteries.soc_end, soc[-1])
    for variable, values in (
        (model.p_charge, charge),
        (model.p_discharge, discharge),
        (model.soc, soc),
    ):
        for t, k in np.ndindex(*values.shape):
            variable[t, k].set_value(float(values[t, k]), skip_validation=True)
    return float(periods.network.base_mva * (kept * batteries.energy).sum())


def _solved_powers(model: Any) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return c, d and soc, (T, n_bat); powers below zero by a solver's tolerance become zero."""
    shape = (model.periods.n_step, len(model.periods.batteries))
    arrays = []
    for variable in (model.p_charge, model.p_discharge, model.soc):
        values = [variable[t, k].value for t, k in np.ndindex(*shape)]
        if any(value is None for value in values):
            raise ValueError(
                f"{model.name}: {variable.name} has no values yet; solve the model first"
            )
        arrays.append(np.array(values, dtype=float).reshape(shape))
    return np.maximum(arrays[0], 0.0), np.maximum(arrays[1], 0.0), arrays[2]


def _meet_end(periods: Any, charge: FloatArray, discharge: FloatArray) -> None:
    """Move one power of each battery, in place, so that its last SOC is the end asked.

    Only differences that a solver's tolerance explains are closed.
    """
    batteries = periods.batteries
    last = _soc(periods, charge, discharge)[-1]
    asked = (
        np.maximum(last, batteries.soc_start) if batteries.soc_end is None else batteries.soc_end
    )
    for k in np.flatnonzero((asked != last) & (np.abs(asked - last) <= _TOLERATED)).tolist():
        # More stored is more charged or less discharged; less stored the other way round.
        energy = (asked[k] - last[k]) * batteries.energy[k] / periods.step_h
        ways = (
            (charge, energy / batteries.efficiency_charge[k]),
            (discharge, -energy * batteries.efficiency_discharge[k]),
        )
        for power, more in ways:
            moved = power[:, k] + more
            # A power that is on stays on and within its limit, so that no battery comes to work
            # both ways.
            fit = np.flatnonzero(
                (power[:, k] > 1e-6 * batteries.p_max[k])
                & (moved >= 0)
                & (moved <= batteries.p_max[k])
            )
            if fit.size:
                power[fit[-1], k] = moved[fit[-1]]
                break
        else:
            idle = ways[0] if energy > 0 else ways[1]
            idle[0][-1, k] += abs(idle[1])


def _soc(periods: Any, charge: FloatArray, discharge: FloatArray) -> FloatArray:
    """Return soc_t by (1) of `step.py`, (T, n_bat)."""
    batteries = periods.batteries
    change = soc_change(batteries, charge, discharge, periods.step_h)
    return np.asarray(batteries.soc_start + np.cumsum(change, axis=0))
