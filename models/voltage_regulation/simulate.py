"""Simulation of voltage regulation: any method, day by day, under the batteries' own limits.

Every method, solved or learned, is judged by the same AC power flow. Source: Hou et al., DF-SRL,
JMPCE 13(1), 2025, for the task and the reward. Per unit inside; p > 0 draws from the bus.

    (1)  cost    sum over steps and batteries of h |p|: the energy through the batteries' terminals
    (2)  limits  v_min <= |V_i| <= v_max by the AC power flow, at every bus but substations that the
                 grid above holds; power and SOC limits of each battery; SOC at the end of a day not
                 below that at its start
    (3)  reward  of a step: -0.001 sum |p_kW| + sum over buses of min(0, 1000 d_i),
                 d_i = min(|V_i| - v_min, v_max - |V_i|), which on 0.95..1.05 is 0.05 - |1 - |V_i||

`rules.py` states (3) and the band of (2) in Pyomo. (1) is `opf_objectives.regulation_power` of a
plan that goes one way at a time. A battery's management keeps its power and SOC limits whatever is
asked of it (`battery/step.py`). What is judged is the power applied. A step without an AC solution
counts as a violation, and in (3) every bus then counts as one at zero voltage.
"""

from __future__ import annotations

from time import perf_counter

import numpy as np
from numpy.typing import ArrayLike

from feederguard.models.arrays import FloatArray
from feederguard.models.battery import Batteries
from feederguard.models.battery.batteries import check_batteries
from feederguard.models.battery.step import allowed_power, next_soc
from feederguard.models.network import Network
from feederguard.models.voltage_regulation.days import VoltageDays, VoltageState, check_feeder
from feederguard.models.voltage_regulation.demand import idle_voltages, net_demand
from feederguard.models.voltage_regulation.judge import VoltageOutcomes, judge_days
from feederguard.models.voltage_regulation.method import PlannedMethod, VoltageMethod


def simulate(
    network: Network,
    batteries: Batteries,
    days: VoltageDays,
    method: VoltageMethod | PlannedMethod,
    soc_start: ArrayLike | None = None,
) -> VoltageOutcomes:
    """Return the AC-judged outcome of each day; all days run side by side in time.

    soc_start: (n_bat,) or (B, n_bat), default that of the batteries. soc_short_mwh counts the
    energy missing at the end below the batteries' soc_end, or below their soc_start where they ask
    for no end. States say which step_h and n_step they are of, so a method made for others can
    refuse them.

    Raises ValueError for no days or days of another feeder, a battery at no bus, a bus that is not
    fed in the normal state, SOC outside its limits, and a method whose answer has another shape or
    is not finite.
    """
    _check(network, batteries, days)
    start = _starting_soc(network, batteries, soc_start, len(days))
    v_idle = idle_voltages(network, days)
    p, soc, seconds = _run(network, batteries, days, method, v_idle, start)
    return judge_days(network, batteries, days, p, soc, v_idle, seconds)


def carry_year(
    network: Network,
    batteries: Batteries,
    days: VoltageDays,
    method: VoltageMethod | PlannedMethod,
    soc_start: ArrayLike | None = None,
) -> VoltageOutcomes:
    """Return what `simulate` does, for days that follow one another.

    Each begins with the SOC at which the last one ended.

    soc_start: (n_bat,) at the start of the first day. Raises as `simulate`.
    """
    _check(network, batteries, days)
    soc = _starting_soc(network, batteries, soc_start, 1)
    v_idle = idle_voltages(network, days)
    parts = []
    for k in range(len(days)):
        parts.append(_run(network, batteries, days[k], method, v_idle[k : k + 1], soc))
        soc = parts[-1][1][:, -1]
    p, trajectory = (np.concatenate([part[side] for part in parts]) for side in (0, 1))
    return judge_days(
        network, batteries, days, p, trajectory, v_idle, float(np.mean([part[2] for part in parts]))
    )


def _run(
    network: Network,
    batteries: Batteries,
    days: VoltageDays,
    method: VoltageMethod | PlannedMethod,
    v_idle: FloatArray,
    start: FloatArray,
) -> tuple[FloatArray, FloatArray, float]:
    """Return applied powers (B, T, n_bat), SOC (B, T + 1, n_bat) and seconds a decision."""
    n_day, n_step = len(days), days.n_step
    p_net, q_net = net_demand(network, days)
    power = np.zeros((n_day, n_step, len(batteries)))
    soc = np.empty((n_day, n_step + 1, len(batteries)))
    soc[:, 0] = start
    begun = perf_counter()
    plan = method.plan(days, start) if isinstance(method, PlannedMethod) else None
    seconds = perf_counter() - begun
    if plan is not None:
        _check_answer(method.name, batteries, days, plan, power.shape)
    for t in range(n_step):
        if plan is None:
            state = VoltageState(
                p_net[:, t],
                q_net[:, t],
                v_idle[:, t],
                soc[:, t],
                np.full(n_day, t, dtype=np.int64),
                days.step_h,
                n_step,
            )
            begun = perf_counter()
            asked = np.asarray(method.decide(state), dtype=float)  # type: ignore[union-attr]
            seconds += perf_counter() - begun
            _check_answer(method.name, batteries, days, asked, (n_day, len(batteries)), t)
        else:
            asked = plan[:, t]
        power[:, t] = allowed_power(batteries, soc[:, t], asked, days.step_h)
        soc[:, t + 1] = next_soc(batteries, soc[:, t], power[:, t], days.step_h)
    return power, soc, seconds / max(1, n_day * n_step)


def _check(network: Network, batteries: Batteries, days: VoltageDays) -> None:
    check_feeder(network, days)
    if not len(days):
        raise ValueError(f"{network.name}: there are no days; give at least one")
    check_batteries(network, batteries, days.n_step, days.step_h)


def _starting_soc(
    network: Network, batteries: Batteries, soc: ArrayLike | None, n_day: int
) -> FloatArray:
    start = np.asarray(batteries.soc_start if soc is None else soc, dtype=float)
    n_bat = len(batteries)
    if start.shape not in ((n_bat,), (n_day, n_bat)):
        raise ValueError(
            f"{network.name}: soc_start has shape {start.shape}; give ({n_bat},) or ({n_day}, "
            f"{n_bat}), one per battery"
        )
    bad = np.argwhere(~((start >= batteries.soc_min) & (start <= batteries.soc_max)))
    if bad.size:
        k = bad[0][-1]
        raise ValueError(
            f"{network.name}: soc_start of battery {batteries.name[k]!r} is "
            f"{start[tuple(bad[0])]:g}; it must lie between soc_min {batteries.soc_min[k]:g} and "
            f"soc_max {batteries.soc_max[k]:g}"
        )
    return np.array(np.broadcast_to(start, (n_day, n_bat)))


def _check_answer(
    name: str,
    batteries: Batteries,
    days: VoltageDays,
    asked: FloatArray,
    shape: tuple[int, ...],
    step: int | None = None,
) -> None:
    if asked.shape != shape:
        raise ValueError(
            f"{name}: the powers have shape {asked.shape}; expected {shape}, one per battery"
        )
    if not np.isfinite(asked).all():
        place = np.argwhere(~np.isfinite(asked))[0]
        t = place[1] if step is None else step
        raise ValueError(
            f"{name}: the power of battery {batteries.name[place[-1]]!r} on {days.date[place[0]]} "
            f"at step {t} is {asked[tuple(place)]:g}; answer with a finite number"
        )
