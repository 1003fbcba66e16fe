"""One step of a battery: the powers that its limits leave, and the state of charge it leads to.

Per unit; battery k, step of h hours; c charging and d discharging power at the bus. (1) is that of
`equations/battery.py`. A power p, positive while charging, is c = max(p, 0) and d = max(-p, 0).

    (1)  soc' = soc + h (eta_c c - d / eta_d) / E
    (2)  -min(p_max, (soc - soc_min) E eta_d / h) <= p <= min(p_max, (soc_max - soc) E / (eta_c h))

Every function takes any leading shape before the battery axis.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from feederguard.models.arrays import FloatArray
from feederguard.models.battery.batteries import Batteries

_ROUNDING = 1e-12  # of SOC: what the arithmetic of (1) after (2) can miss a limit by


def power_interval(
    batteries: Batteries, soc: ArrayLike, step_h: float
) -> tuple[FloatArray, FloatArray]:
    """Return (2), the least and the greatest power of each battery, two arrays (..., n_bat) pu.

    Zero always lies between them. A SOC outside its limits leaves only the way back.
    """
    soc = np.asarray(soc, dtype=float)
    below = (soc - batteries.soc_min) * batteries.energy * batteries.efficiency_discharge / step_h
    above = (batteries.soc_max - soc) * batteries.energy / (batteries.efficiency_charge * step_h)
    low = -np.clip(below, 0.0, batteries.p_max)
    return np.asarray(low + 0.0), np.asarray(np.clip(above, 0.0, batteries.p_max))


def soc_change(
    batteries: Batteries, charge: FloatArray, discharge: FloatArray, step_h: float
) -> FloatArray:
    """Return soc' - soc of (1), (..., n_bat), for powers c, d (..., n_bat) pu."""
    stored = batteries.efficiency_charge * charge - discharge / batteries.efficiency_discharge
    return np.asarray(step_h * stored / batteries.energy)


def next_soc(batteries: Batteries, soc: ArrayLike, p: ArrayLike, step_h: float) -> FloatArray:
    """Return (1), the SOC after a step at power p, (..., n_bat).

    A limit missed by rounding alone counts as met.
    """
    p = np.asarray(p, dtype=float)
    change = soc_change(batteries, np.maximum(p, 0.0), np.maximum(-p, 0.0), step_h)
    after = np.asarray(soc, dtype=float) + change
    after = np.where(np.abs(after - batteries.soc_min) <= _ROUNDING, batteries.soc_min, after)
    return np.where(np.abs(after - batteries.soc_max) <= _ROUNDING, batteries.soc_max, after)


def allowed_power(batteries: Batteries, soc: ArrayLike, p: ArrayLike, step_h: float) -> FloatArray:
    """Return the power inside (2) nearest to the one asked for, (..., n_bat) pu."""
    low, high = power_interval(batteries, soc, step_h)
    return np.asarray(np.clip(np.asarray(p, dtype=float), low, high))
