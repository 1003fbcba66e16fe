"""The judge of voltage regulation: every method, solved or learned, through the same AC power flow, day by day.

Source: Hou et al., DF-SRL, JMPCE 13(1), 2025, for the task and the reward. Per unit inside; p > 0 draws from the bus.

    (1)  cost    sum over steps and batteries of h |p|: the energy that passes through the batteries' terminals
    (2)  limits  v_min <= |V_i| <= v_max at every bus but substations that the grid above holds, by the AC power flow;
                 power and SOC limits of each battery; SOC at the end of a day not below that at its start
    (3)  reward  of a step: -0.001 sum |p_kW| + sum over buses of min(0, 1000 d_i),
                 d_i = min(|V_i| - v_min, v_max - |V_i|), which on 0.95..1.05 is 0.05 - |1 - |V_i||

(1) is `opf_objectives.regulation_power` of a plan that goes one way at a time. A battery's management keeps its power and SOC
limits whatever is asked of it (`battery_step.py`); what is judged is the power applied. In a step without an AC solution
no voltage can be held: it counts as a violation, and in (3) every bus as one at zero voltage.

Longer than other files: simulation and judgement share every check, and what environments need of them is public.
"""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter
from typing import Protocol, runtime_checkable
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import ArrayLike

from feederguard.models.battery import Batteries
from feederguard.models.battery_equations import check_batteries
from feederguard.models.battery_step import allowed_power, next_soc, power_interval
from feederguard.models.network import BoolArray, FloatArray, IntArray, Network
from feederguard.models.opf_periods import held_substations
from feederguard.models.power_flow import solve_power_flow
from feederguard.models.voltage_days import VoltageDays, VoltageState, check_feeder

__all__ = [
    "PlannedMethod",
    "VoltageDays",
    "VoltageMethod",
    "VoltageOutcomes",
    "VoltageState",
    "band_excess",
    "battery_demand",
    "bus_excess",
    "carry_year",
    "idle_voltages",
    "judged_buses",
    "net_demand",
    "next_soc",
    "power_interval",
    "regulation_reward",
    "simulate",
]

SAFE_TOLERANCE_PU = 1e-5  # of voltage magnitude
_FLOWS_AT_ONCE = 20_000  # keeps the arrays of a year on a large feeder out of the way

# Asked for several times in every step of an environment.
_judged: WeakKeyDictionary[Network, IntArray] = WeakKeyDictionary()


class VoltageMethod(Protocol):
    """A method that decides step by step, knowing the state alone."""

    @property
    def name(self) -> str: ...

    def decide(self, state: VoltageState) -> FloatArray:
        """Return the power of each battery, (B, n_bat) pu."""
        ...


@runtime_checkable
class PlannedMethod(Protocol):
    """A method that plans whole days, knowing them beforehand: the bound of what any other can do."""

    @property
    def name(self) -> str: ...

    def plan(self, days: VoltageDays, soc_start: FloatArray) -> FloatArray:
        """Return the power of each battery in each step, (B, T, n_bat) pu; soc_start (B, n_bat)."""
        ...


@dataclass(frozen=True, eq=False)
class VoltageOutcomes:
    """What the judge found of B days of T steps."""

    p_battery: FloatArray  # (B, T, n_bat) applied power, pu
    soc: FloatArray  # (B, T + 1, n_bat) before each step and at the end
    v: FloatArray  # (B, T, n_bus) voltage magnitude, pu; NaN where the flow failed
    v_idle: FloatArray  # (B, T, n_bus) the same with batteries idle
    converged: BoolArray  # (B, T)
    n_violation_steps: IntArray  # (B,) steps with a bus outside its band by over SAFE_TOLERANCE_PU, or without solution
    worst_excess_pu: (
        FloatArray  # (B,) largest distance outside the band, 0 where none; inf with a step without solution
    )
    regulation_mwh: FloatArray  # (B,) (1)
    loss_mwh: FloatArray  # (B,) lost in branches; NaN with a step without solution
    battery_loss_mwh: FloatArray  # (B,) lost in converting
    grid_mwh: FloatArray  # (B,) drawn from the grid above; NaN with a step without solution
    reward: FloatArray  # (B,) (3), summed over the day
    soc_short_mwh: FloatArray  # (B,) energy missing at the end of the day against what (2) asks for
    seconds_per_decision: float  # time spent in the method over B T, so a batch shares its time

    def __len__(self) -> int:
        return len(self.reward)


def simulate(
    network: Network,
    batteries: Batteries,
    days: VoltageDays,
    method: VoltageMethod | PlannedMethod,
    soc_start: ArrayLike | None = None,
) -> VoltageOutcomes:
    """Return the AC-judged outcome of each day, all of them side by side in time.

    soc_start: (n_bat,) or (B, n_bat), default that of the batteries. Where the batteries ask for a soc_end, energy
    missing below it is what soc_short_mwh counts; else energy missing below their soc_start.

    Raises ValueError for no days or days of another feeder, a battery at no bus, a bus that is not fed in the normal state,
    SOC outside its limits, and a method whose answer has another shape or is not finite. States say which step_h and n_step
    they are of, so a method made for others can refuse them.
    """
    _check(network, batteries, days)
    start = _starting_soc(network, batteries, soc_start, len(days))
    v_idle = idle_voltages(network, days)
    p, soc, seconds = _run(network, batteries, days, method, v_idle, start)
    return _judge(network, batteries, days, p, soc, v_idle, seconds)


def carry_year(
    network: Network,
    batteries: Batteries,
    days: VoltageDays,
    method: VoltageMethod | PlannedMethod,
    soc_start: ArrayLike | None = None,
) -> VoltageOutcomes:
    """Return what `simulate` returns for days one after another, each beginning with the SOC at which the last one ended.

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
    return _judge(network, batteries, days, p, trajectory, v_idle, float(np.mean([part[2] for part in parts])))


def regulation_reward(network: Network, p_kw: ArrayLike, v: ArrayLike) -> FloatArray:
    """Return (3) of each item: p_kw (..., n_bat) in kW, v (..., n_bus) in pu, NaN where there is no AC solution."""
    magnitude = np.nan_to_num(np.asarray(v, dtype=float)[..., judged_buses(network)], nan=0.0)
    low, high = (limit[judged_buses(network)] for limit in (network.v_min, network.v_max))
    distance = np.minimum(magnitude - low, high - magnitude)
    penalty = np.minimum(0.0, 1000.0 * distance).sum(axis=-1)
    return np.asarray(-0.001 * np.abs(np.asarray(p_kw, dtype=float)).sum(axis=-1) + penalty)


def band_excess(network: Network, v: FloatArray) -> FloatArray:
    """Return how far the worst judged bus lies outside its band, (...) pu; below zero inside, inf without AC solution."""
    return np.asarray(bus_excess(network, v).max(axis=-1))


def bus_excess(network: Network, v: FloatArray) -> FloatArray:
    """Return how far each judged bus lies outside its band, (..., n_judged) pu, as `band_excess`."""
    buses = judged_buses(network)
    excess = np.maximum(network.v_min[buses] - v[..., buses], v[..., buses] - network.v_max[buses])
    return np.where(np.isnan(excess), np.inf, excess)


def judged_buses(network: Network) -> IntArray:
    """Return the buses whose voltage is judged: all but substations held by the grid above, ascending."""
    if network not in _judged:
        held = network.substation[held_substations(network)]
        _judged[network] = np.setdiff1d(np.arange(network.n_bus), held)
    return _judged[network]


def idle_voltages(network: Network, days: VoltageDays) -> FloatArray:
    """Return AC voltage magnitudes with batteries idle, (B, T, n_bus) pu; NaN where there is no solution."""
    return _flow(network, *net_demand(network, days))[0]


def net_demand(network: Network, days: VoltageDays) -> tuple[FloatArray, FloatArray]:
    """Return demand less local generation without batteries, p and q, each (B, T, n_bus) pu."""
    return days.p_load - days.p_gen, days.q_load - network.q_gen


def battery_demand(network: Network, batteries: Batteries, p: FloatArray) -> FloatArray:
    """Return what batteries of powers p (..., n_bat) draw from each bus, (..., n_bus) pu."""
    sits = np.zeros((len(batteries), network.n_bus))
    sits[np.arange(len(batteries)), batteries.bus] = 1.0
    return np.asarray(p @ sits)


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
                p_net[:, t], q_net[:, t], v_idle[:, t], soc[:, t], np.full(n_day, t, dtype=np.int64), days.step_h, n_step
            )  # fmt: skip
            begun = perf_counter()
            asked = np.asarray(method.decide(state), dtype=float)  # type: ignore[union-attr]
            seconds += perf_counter() - begun
            _check_answer(method.name, batteries, days, asked, (n_day, len(batteries)), t)
        else:
            asked = plan[:, t]
        power[:, t] = allowed_power(batteries, soc[:, t], asked, days.step_h)
        soc[:, t + 1] = next_soc(batteries, soc[:, t], power[:, t], days.step_h)
    return power, soc, seconds / max(1, n_day * n_step)


def _judge(
    network: Network,
    batteries: Batteries,
    days: VoltageDays,
    p: FloatArray,
    soc: FloatArray,
    v_idle: FloatArray,
    seconds: float,
) -> VoltageOutcomes:
    p_net, q_net = net_demand(network, days)
    v, loss, grid = _flow(network, p_net + battery_demand(network, batteries, p), q_net)
    excess = band_excess(network, v)
    mwh = network.base_mva * days.step_h
    to_heat = (1 - batteries.efficiency_charge) * np.maximum(p, 0.0)
    to_heat = to_heat + (1 / batteries.efficiency_discharge - 1) * np.maximum(-p, 0.0)
    wanted = batteries.soc_start if batteries.soc_end is None else batteries.soc_end
    missing = np.maximum(wanted - soc[:, -1], 0.0) * batteries.energy
    return VoltageOutcomes(
        p_battery=p,
        soc=soc,
        v=v,
        v_idle=v_idle,
        converged=np.asarray(np.isfinite(v).all(axis=-1)),
        n_violation_steps=(excess > SAFE_TOLERANCE_PU).sum(axis=1),
        worst_excess_pu=np.maximum(excess.max(axis=1), 0.0),
        regulation_mwh=mwh * np.abs(p).sum(axis=(1, 2)),
        loss_mwh=days.step_h * loss.sum(axis=1),
        battery_loss_mwh=mwh * to_heat.sum(axis=(1, 2)),
        grid_mwh=days.step_h * grid.sum(axis=1),
        reward=regulation_reward(network, 1e3 * network.base_mva * p, v).sum(axis=1),
        soc_short_mwh=network.base_mva * missing.sum(axis=1),
        seconds_per_decision=seconds,
    )


def _flow(network: Network, p: FloatArray, q: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return voltage magnitudes (B, T, n_bus), and branch losses and power from the grid above (B, T) in MW."""
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


def _check(network: Network, batteries: Batteries, days: VoltageDays) -> None:
    check_feeder(network, days)
    if not len(days):
        raise ValueError(f"{network.name}: there are no days; give at least one")
    check_batteries(network, batteries, days.n_step, days.step_h)


def _check_fed(network: Network, energised: BoolArray) -> None:
    dark = np.flatnonzero(~energised.all(axis=0))
    if dark.size:
        raise ValueError(
            f"{network.name}: bus {network.bus_name[dark[0]]!r} is not fed in the normal state; close a branch to it, or "
            "leave it out"
        )


def _starting_soc(network: Network, batteries: Batteries, soc: ArrayLike | None, n_day: int) -> FloatArray:
    start = np.asarray(batteries.soc_start if soc is None else soc, dtype=float)
    n_bat = len(batteries)
    if start.shape not in ((n_bat,), (n_day, n_bat)):
        raise ValueError(
            f"{network.name}: soc_start has shape {start.shape}; give ({n_bat},) or ({n_day}, {n_bat}), one per battery"
        )
    bad = np.argwhere(~((start >= batteries.soc_min) & (start <= batteries.soc_max)))
    if bad.size:
        k = bad[0][-1]
        raise ValueError(
            f"{network.name}: soc_start of battery {batteries.name[k]!r} is {start[tuple(bad[0])]:g}; it must lie between "
            f"soc_min {batteries.soc_min[k]:g} and soc_max {batteries.soc_max[k]:g}"
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
        raise ValueError(f"{name}: the powers have shape {asked.shape}; expected {shape}, one per battery")
    if not np.isfinite(asked).all():
        place = np.argwhere(~np.isfinite(asked))[0]
        t = place[1] if step is None else step
        raise ValueError(
            f"{name}: the power of battery {batteries.name[place[-1]]!r} on {days.date[place[0]]} at step {t} is "
            f"{asked[tuple(place)]:g}; answer with a finite number"
        )
