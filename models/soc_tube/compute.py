"""The SOC tube: per step and battery, the state of charge from which the rest of the day can still
be held.

A policy can spend in the morning the energy that the evening needs. Each of the days given (those
that a method may learn from) is known to the tube by its effect: per step t and limited bus i the
squared AC voltage with idle batteries, and the lossless one,

    (1)  w^low_ti = v_ti^2,   w^high_ti = w_0,ti

Per unit; all batteries charge with the share c of their power, or discharge with d, so that what
happens can be planned for all at once; P_k power, E_k energy, h hours a step, S_i = |sum over k of
P_k dw_i/dp_k| by LinDistFlow. For each day and side a linear program finds a plan that holds it
from as little energy (low), or as little room (high), as it can; a day that the plan of a worse one
holds too needs none:

    low    min  mean over t, k of soc_tk + 10 max_tk (soc_tk - soc_start_k)+
    high   the same with 1 - soc and 1 - soc_start for soc and soc_start
    (2)    low   kappa c_t - d_t <= min_i (w^low_ti - v_min_i^2) / S_i
           high  d_t - c_t <= min_i (v_max_i^2 - w^high_ti) / S_i
    (3)          soc_(t+1)k = soc_tk + h P_k (eta_c c_t - d_t / eta_d) / E_k
    (4)          soc_min <= soc_t <= soc_max,  c + d <= 1,  c, d >= 0
    (5)    low   soc_0 <= soc_start,  soc_end <= soc_T      high   soc_T - soc_end <= soc_0 - soc_start,  soc_end <= soc_T

kappa = v_min / (2 v_min - v_0), v_0 the substation's voltage, is how much more charging lowers w
than LinDistFlow says where w comes down to v_min^2. For one line r + jx that carries p + jq it is,
by the derivative of its power flow at w = v_min^2,

    (2a)  (A + g x / r) / (2 A - v_0^2)     A = sqrt(v_min^2 v_0^2 - g^2),  g = x p - r q

so kappa is exact without reactance (and with q = 0), and too small wherever x p > r q: with v_min
0.95, v_0 1 and q = 0 kappa is 1.056, (2a) for x = r 1.109 and for x = 5 r 2.02. In all other
directions LinDistFlow errs to the safe side: discharging lifts a low voltage more, and a high one
less, than it says.

The tube is, per step and battery, the highest of the low plans and the lowest of the high ones. The
second term of the objective keeps an idle battery's SOC inside where that can be, so that no energy
is moved every day that only the rarest day needs. Charging and discharging at once burns energy,
which only a high plan could gain from; it therefore charges in steps in which the day leaves the
band somewhere and discharges in others.

What it promises. Whoever is inside at t, on one of these days, or on one with no worse voltages at
any step, can hold both limits (2) to the end of the day with soc_T >= soc_end (soc_start where no
end is asked), unless some step asks all batteries to charge more (high) than it lets them (low).
For inside the tube every battery lies between the two plans of that day, and stays there: with u =
c - d a battery's own net share, u^low and u^high those of the plans, and [a, b] the shares that (2)
allows, u^low <= b and u^high >= a;

    (6)  u^low <= u^high: any u of [max(u^low, a), min(u^high, b)]     else: a u of [u^high, u^low] that ends between the plans

of which the first are some where a <= b, and the second are inside [a, b] since a <= u^high and
u^low <= b. From between the plans, u >= u^low ends above the low one and u <= u^high below the high
one; on the way from u^high, which ends below the high plan, to u^low, which ends above the low one,
there is one that ends between them. So every battery keeps to [a, b], hence their sum keeps (2),
and by (5) of the low plan soc_T >= soc_end: the low side brings the energy back, the high side
alone would not. Where soc_end is soc_start, by (5) the ends of the tube lie in what its beginning
may be, so who ends inside it can hold tomorrow too. Where no plan exists, or two plans leave
nothing between them, there is an error.

What it does not promise. It is a box within a coupled set: other SOC may do as well, since
batteries can help each other out, and the best are asked no more than the worst. Where reactance
makes charging lower w by more than kappa says, (2a), a low plan's charging may leave the band; on
the bundled feeders, in the train steps with the lowest voltage within 0.0003 pu of v_min, charging
all batteries lowers it by 1.031 to 1.055 times what LinDistFlow says, for kappa 1.056. Other days,
the losses that batteries themselves cause, and steps in which some buses are too low while others
are too high (each plan looks at one side, and then a > b) are not covered; nor is it promised that
who follows one day's plans stays inside the tube of all of them. In all these the tube gives way
before voltage does (`agents/safety_layer.py`).
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
    """Return the tube of `days`; a linear program of milliseconds for each side of the days that
    need one.

    Raises ValueError where a day cannot be held, naming the bus that no power holds, or the battery
    that must be larger; for days on which the idle feeder has no AC solution; as `check_batteries`,
    and as `build_safety_qp`.
    """
    check_feeder(network, days)
    if not len(days):
        raise ValueError(
            f"{network.name}: the SOC tube is of no days; give the days that a method may learn "
            "from"
        )
    check_batteries(network, batteries, days.n_step, days.step_h)
    matrices = safety_matrices(network, batteries, days.step_h)
    idle = idle_squares(network, matrices, days)
    plans = {
        side: _plans(
            network,
            batteries,
            matrices,
            side,
            idle[side],
            days.step_h,
            [str(date) for date in days.date],
        )
        for side in SIDES
    }
    return _between(
        network, batteries, np.max(plans["low"], axis=0), np.min(plans["high"], axis=0), days.step_h
    )


def idle_squares(
    network: Network, matrices: SafetyMatrices, days: VoltageDays
) -> dict[str, FloatArray]:
    """Return (1), squared voltages (B, T, m) of the limited buses for each of SIDES; raises
    ValueError without AC solution.
    """
    v = idle_voltages(network, days)[..., matrices.bus]
    missing = np.argwhere(~np.isfinite(v))
    if missing.size:
        day, t, _ = missing[0]
        raise ValueError(
            f"{network.name}: with idle batteries there is no AC solution on {days.date[day]} at "
            f"step {t}; lower the demand of "
            "that day, or leave it out"
        )
    p, q = (x.reshape(-1, network.n_bus) for x in net_demand(network, days))
    return {"low": v**2, "high": matrices.lossless(p, q).reshape(v.shape)}


def share_limits(matrices: SafetyMatrices, side: str, squares: FloatArray) -> FloatArray:
    """Return the right side of (2), (..., T): the share of all power that may be charged (low) or
    discharged (high).

    Below zero it is the share that must be discharged or charged. squares: (1) of that side, (...,
    T, m).
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
    step_h: float,
    dates: list[str],
) -> list[FloatArray]:
    """Return the SOC (T + 1, n_bat) of plans that hold every day between them, the worst day's
    first.
    """
    limit = share_limits(matrices, side, squares)
    outside: BoolArray = np.any(squares > matrices.w_high, axis=-1)
    kappa, sign = (charging_factor(network), 1.0) if side == "low" else (1.0, -1.0)
    socs: list[FloatArray] = []
    powers: list[FloatArray] = []
    for day in np.argsort(np.minimum(limit, 0.0).sum(axis=1), kind="stable").tolist():
        if any((sign * power <= limit[day] + HELD).all() for power in powers):
            continue
        _check_power(network, batteries, matrices, side, squares[day], dates[day])
        model = build_tube_plan(network, batteries, side, limit[day], step_h, outside[day])
        try:
            solve(model, "highs", time_limit_s=TIME_LIMIT_S, explain=False)
        except NotSolvedError as error:
            if "infeasible" not in error.solution.reason:
                raise
            words = _shortage(
                network, batteries, side, limit[day], step_h, outside[day], dates[day]
            )
            raise ValueError(words) from None
        c, d = (
            np.array([pyo.value(x) for x in variable.values()]) for variable in (model.c, model.d)
        )
        powers.append(kappa * c - d)
        soc = np.array(
            [[pyo.value(model.soc[t, k]) for k in model.alike.tolist()] for t in model.point]
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
            "of its energy stored for the "
            f"heaviest demand and must not have more than {high[t, k]:.3f} for the most "
            "generation; raise its energy by some "
            f"{lacks:.2g} MWh"
        )
    # A solver's rounding must not put the start outside, nor low above high.
    low[0], high[0] = (
        np.minimum(low[0], batteries.soc_start),
        np.maximum(high[0], batteries.soc_start),
    )
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
        f"{network.bus_name[matrices.bus[i]]!r} at "
        f"{np.sqrt(max(reached[t, i], 0.0)):.4f} pu, {'below' if side == 'low' else 'above'} its "
        "limit, with the "
        f"{_WHAT[side]} of {date} at step {t}; raise p_max of battery "
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
    head = f"{network.name}: no plan from soc_start holds the {_WHAT[side]} of {date} to the end of the day"
    model = build_tube_plan(network, batteries, side, limit, step_h, outside, elastic=True)
    try:
        solve(model, "highs", time_limit_s=TIME_LIMIT_S, explain=False)
    except NotSolvedError as error:
        if "infeasible" not in error.solution.reason:
            raise
        return f"{head}, however much energy the batteries have; raise their p_max, or leave that day out"
    missing = {
        k: network.base_mva * float(batteries.energy[k]) * pyo.value(model.short[k])
        for k in model.battery
    }
    k = max(missing, key=lambda k: missing[k])
    return (
        f"{head}; battery {batteries.name[k]!r} lacks most, {missing[k]:.3g} MWh beside its "
        f"{network.base_mva * batteries.energy[k]:.3g}: raise its energy, or move its soc_start"
    )
