"""The SOC tube: from which state of charge the rest of a day can still be held.

A policy can spend in the morning the energy that the evening needs. The tube prevents it. It is
made from the days that a method may learn from. What counts of a day are, per step t and limited
bus i, the squared AC voltage with idle batteries and the lossless one,

    (1)  w^low_ti = v_ti^2,   w^high_ti = w_0,ti

Per unit; P_k and E_k are power and energy of battery k, h the hours of a step. All batteries charge
with the share c of their power, or discharge with d, so that one plan serves all. S_i = |sum over k
of P_k dw_i/dp_k| by LinDistFlow, and kappa = v_min / (2 v_min - v_0) with v_0 the substation's
voltage. A linear program for each day and side finds the plan that holds it from the least energy
(low) or the least room (high). A day that the plan of a worse day holds too needs no program:

    low    min  mean over t, k of soc_tk + 10 max_tk (soc_tk - soc_start_k)+
    high   the same with 1 - soc and 1 - soc_start for soc and soc_start
    (2)    low   kappa c_t - d_t <= min_i (w^low_ti - v_min_i^2) / S_i
           high  d_t - c_t <= min_i (v_max_i^2 - w^high_ti) / S_i
    (3)          soc_(t+1)k = soc_tk + h P_k (eta_c c_t - d_t / eta_d) / E_k
    (4)          soc_min <= soc_t <= soc_max,  c + d <= 1,  c, d >= 0
    (5)    low   soc_0 <= soc_start,  soc_end <= soc_T
           high  soc_T - soc_end <= soc_0 - soc_start,  soc_end <= soc_T

soc_end is soc_start where no end is asked. A high plan charges in steps in which the day leaves the
band somewhere, and discharges in others. The tube is, per step and battery, the highest of the low
plans and the lowest of the high ones.

From inside the tube both limits (2) of such a day can be held to its end, with soc_T >= soc_end.
The exception is a step that asks all batteries to charge more (high) than it lets them (low). Other
days and the losses that batteries cause are not covered. There the tube gives way before voltage
does (`safe_powers/nearest.py`). docs/soc_tube.md derives kappa, gives the proof, (6), and lists
what is not promised.
"""

from __future__ import annotations

import numpy as np
import pyomo.environ as pyo

from feederguard.models.arrays import BoolArray, FloatArray
from feederguard.models.battery import Batteries
from feederguard.models.battery.batteries import battery_digest, check_batteries
from feederguard.models.network import Network
from feederguard.models.safety_qp.matrices import SafetyMatrices, safety_matrices
from feederguard.models.soc_tube.plan import HELD, ROUNDING, build_tube_plan, charging_factor
from feederguard.models.soc_tube.tube import SIDES, SocTube
from feederguard.models.solver import NotSolvedError, solve
from feederguard.models.voltage_regulation import VoltageDays
from feederguard.models.voltage_regulation.days import check_feeder
from feederguard.models.voltage_regulation.demand import idle_voltages, net_demand

TIME_LIMIT_S = 60.0


def compute_soc_tube(network: Network, batteries: Batteries, days: VoltageDays) -> SocTube:
    """Return the tube of `days`; a linear program of milliseconds for each day and side in need.

    Raises ValueError where a day cannot be held, naming the bus that no power holds or the battery
    that must be larger. Raises ValueError for no days and days of another feeder, for days on which
    the idle feeder has no AC solution, as `check_batteries`, and as `build_safety_qp`.
    """
    check_feeder(network, days)
    if not len(days):
        raise ValueError(
            f"{network.name}: there are no days to compute the SOC tube of; give the days that a "
            "method may learn from"
        )
    check_batteries(network, batteries, days.n_step, days.step_h)
    matrices = safety_matrices(network, batteries, days.step_h)
    idle = idle_squares(network, matrices, days)
    plans = {side: _plans(network, batteries, matrices, side, idle[side], days) for side in SIDES}
    low, high = np.max(plans["low"], axis=0), np.min(plans["high"], axis=0)
    return _between(network, batteries, low, high, days.step_h)


def idle_squares(
    network: Network, matrices: SafetyMatrices, days: VoltageDays
) -> dict[str, FloatArray]:
    """Return (1), squared voltages (B, T, m) of the limited buses for each of SIDES.

    Raises ValueError for a step without an AC solution.
    """
    v = idle_voltages(network, days)[..., matrices.bus]
    missing = np.argwhere(~np.isfinite(v))
    if missing.size:
        day, t, _ = missing[0]
        raise ValueError(
            f"{network.name}: with idle batteries there is no AC solution on {days.date[day]} at "
            f"step {t}; lower the demand of that day, or leave it out"
        )
    p, q = (x.reshape(-1, network.n_bus) for x in net_demand(network, days))
    return {"low": v**2, "high": matrices.lossless(p, q).reshape(v.shape)}


def share_limits(matrices: SafetyMatrices, side: str, squares: FloatArray) -> FloatArray:
    """Return the right side of (2), (..., T), a share of the power of all batteries.

    It is the share that may be charged (low) or discharged (high). Below zero it is the share that
    must be discharged or charged. squares: (1) of that side, (..., T, m).
    """
    room = squares - matrices.w_low if side == "low" else matrices.w_high - squares
    effect = np.abs(matrices.columns.sum(axis=0))
    # A bus that no battery moves is not for them to hold.
    shares = np.where(effect > 1e-9, room / np.maximum(effect, 1e-9), np.inf)
    return np.asarray(shares.min(axis=-1))


def _plans(
    network: Network,
    batteries: Batteries,
    matrices: SafetyMatrices,
    side: str,
    squares: FloatArray,
    days: VoltageDays,
) -> list[FloatArray]:
    """Return the SOC (T + 1, n_bat) of plans that hold every day, the worst day's first."""
    limit = share_limits(matrices, side, squares)
    outside: BoolArray = np.any(squares > matrices.w_high, axis=-1)
    kappa, sign = (charging_factor(network), 1.0) if side == "low" else (1.0, -1.0)
    socs: list[FloatArray] = []
    powers: list[FloatArray] = []
    for day in np.argsort(np.minimum(limit, 0.0).sum(axis=1), kind="stable").tolist():
        if any((sign * power <= limit[day] + HELD).all() for power in powers):
            continue
        date = str(days.date[day])
        _check_power(network, batteries, matrices, side, squares[day], date)
        asked = (network, batteries, side, limit[day], days.step_h, outside[day])
        model = build_tube_plan(*asked)
        try:
            solve(model, "highs", time_limit_s=TIME_LIMIT_S, explain=False)
        except NotSolvedError as error:
            if "infeasible" not in error.solution.reason:
                raise
            raise ValueError(_shortage(*asked, date)) from None
        c, d = (
            np.array([pyo.value(x) for x in variable.values()]) for variable in (model.c, model.d)
        )
        powers.append(kappa * c - d)
        soc = np.array(
            [[pyo.value(model.soc[t, k]) for k in model.make.tolist()] for t in model.point]
        )
        socs.append(np.clip(soc, batteries.soc_min, batteries.soc_max))
    return socs


def _between(
    network: Network, batteries: Batteries, low: FloatArray, high: FloatArray, step_h: float
) -> SocTube:
    if (low > high + ROUNDING).any():
        t, k = np.unravel_index(int((low - high).argmax()), low.shape)
        lacks = network.base_mva * batteries.energy[k] * (low[t, k] - high[t, k])
        raise ValueError(
            f"{network.name}: before step {t} battery {batteries.name[k]!r} needs {low[t, k]:.3f} "
            "of its energy stored for the heaviest demand and must not have more than "
            f"{high[t, k]:.3f} for the most generation; raise its energy by some {lacks:.2g} MWh"
        )
    # A solver's rounding must not put the start outside, nor low above high.
    low[0] = np.minimum(low[0], batteries.soc_start)
    high[0] = np.maximum(high[0], batteries.soc_start)
    return SocTube(np.minimum(low, high), high, step_h, battery_digest(batteries))


_WHAT = {"low": "demand", "high": "generation"}


def _check_power(
    network: Network,
    batteries: Batteries,
    matrices: SafetyMatrices,
    side: str,
    squares: FloatArray,
    date: str,
) -> None:
    """Raise ValueError where all batteries at full power, whatever their SOC, do not hold a bus."""
    effect = -matrices.columns.sum(axis=0)  # charging lowers every voltage
    reached = squares + effect if side == "low" else squares - effect
    beyond = np.where(
        effect > 1e-9,
        matrices.w_low - reached if side == "low" else reached - matrices.w_high,
        -np.inf,
    )
    t, i = np.unravel_index(int(beyond.argmax()), beyond.shape)
    if beyond[t, i] <= 0:
        return
    raise ValueError(
        f"{network.name}: all batteries at full power leave bus "
        f"{network.bus_name[matrices.bus[i]]!r} at {np.sqrt(max(reached[t, i], 0.0)):.4f} pu, "
        f"{'below' if side == 'low' else 'above'} its limit, with the {_WHAT[side]} of {date} at "
        f"step {t}; raise p_max of battery "
        f"{batteries.name[int(np.argmin(matrices.columns[:, i]))]!r}"
    )


def _shortage(
    network: Network,
    batteries: Batteries,
    side: str,
    limit: FloatArray,
    step_h: float,
    outside: BoolArray,
    date: str,
) -> str:
    """Return in words which battery must be larger for the day to be held."""
    head = (
        f"{network.name}: no plan from soc_start holds the {_WHAT[side]} of {date} to the end of "
        "the day"
    )
    model = build_tube_plan(network, batteries, side, limit, step_h, outside, may_miss=True)
    try:
        solve(model, "highs", time_limit_s=TIME_LIMIT_S, explain=False)
    except NotSolvedError as error:
        if "infeasible" not in error.solution.reason:
            raise
        return (
            f"{head}, however much energy the batteries have; raise their p_max, or leave that day "
            "out"
        )
    missing = {
        k: network.base_mva * float(batteries.energy[k]) * pyo.value(model.short[k])
        for k in model.battery
    }
    k = max(missing, key=lambda k: missing[k])
    return (
        f"{head}; battery {batteries.name[k]!r} lacks most, {missing[k]:.3g} MWh beside its "
        f"{network.base_mva * batteries.energy[k]:.3g}: raise its energy, or move its soc_start"
    )
