"""What every optimal power flow has besides its network model: steps, generators, batteries.

Per unit; step t, bus i, generator g, substation s, battery k. What carries (t) may change by step;
hats are data. AC OPF and DistFlow OPF start here. They then state how the injections p_i, q_i flow
through the network.

    (1)  p_i = sum of p_g + p_s + sum of (d_k - c_k) at i + p^_gen_i(t) - p^_load_i(t)
         q_i = sum of q_g + q_s at i + q^_gen_i - q^_load_i(t)
    (2)  p_min_g <= p_g <= p_max_g(t),   q_min_g <= q_g <= q_max_g

A substation draws p_s, q_s without limit from the grid above, which holds its voltage. Generators
may stand for the grid above (`Network.gen_is_grid`). They then supply the substation within (2) in
place of p_s and q_s, and its voltage is free within its band. The charging power c_k and the
discharging power d_k of batteries obey `battery.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np
import pyomo.environ as pyo
from numpy.typing import ArrayLike

from feederguard.models.arrays import FloatArray
from feederguard.models.battery import Batteries
from feederguard.models.battery.batteries import check_batteries
from feederguard.models.equations.battery import add_batteries
from feederguard.models.network import Network
from feederguard.models.network.pi_model import held_substations


class OpfData(TypedDict, total=False):
    """The data of an optimal power flow, as keyword arguments of every call that takes them.

    Powers are one row for one period, or (T, n) for T steps. One row among several (T, n) arrays
    stands in every step. What is left out, or None, is that of the network. Each default counts by
    itself: scale q_load with p_load where that is meant.
    """

    p_load: ArrayLike | None  # (n_bus,) or (T, n_bus) pu, active demand, positive when consumed
    q_load: ArrayLike | None  # (n_bus,) or (T, n_bus) pu, reactive demand
    p_gen: ArrayLike | None  # (n_bus,) or (T, n_bus) pu, local generation that is not dispatched
    gen_p_max: ArrayLike | None  # (n_gen,) or (T, n_gen) pu, available power of each generator
    step_h: float  # hours per step, default 1
    batteries: Batteries | None  # default none


@dataclass(frozen=True, eq=False)
class Periods:
    """The checked data of T steps on one network; `model.periods` keeps them."""

    network: Network
    p_load: FloatArray  # (T, n_bus) active demand, positive when consumed
    q_load: FloatArray  # (T, n_bus) reactive demand
    p_gen: FloatArray  # (T, n_bus) local generation that is not dispatched
    gen_p_max: FloatArray  # (T, n_gen) available power of each generator
    step_h: float
    batteries: Batteries

    @property
    def n_step(self) -> int:
        return len(self.p_load)


def read_periods(
    network: Network,
    p_load: ArrayLike | None = None,
    q_load: ArrayLike | None = None,
    p_gen: ArrayLike | None = None,
    gen_p_max: ArrayLike | None = None,
    step_h: float = 1.0,
    batteries: Batteries | None = None,
) -> Periods:
    """Return the data of an OPF, checked; the arguments are those of `OpfData`.

    The network's q_gen stands in every step.

    Raises ValueError for a shape that fits neither the network nor the other arguments, and for
    values that are not finite. Also for an available power below gen_p_min, a step that is not
    positive, a battery at no bus, and batteries that cannot reach soc_end.
    """
    arrays = {
        "p_load": _rows(network, "p_load", p_load, network.p_load),
        "q_load": _rows(network, "q_load", q_load, network.q_load),
        "p_gen": _rows(network, "p_gen", p_gen, network.p_gen),
        "gen_p_max": _rows(network, "gen_p_max", gen_p_max, network.gen_p_max, "generator"),
    }
    n_step = _number_of_steps(network, arrays)
    if isinstance(step_h, str) or not (np.isfinite(step_h) and step_h > 0):
        raise ValueError(
            f"{network.name}: step_h is {step_h!r}; it must be a positive number of hours"
        )
    if not (batteries is None or isinstance(batteries, Batteries)):
        raise ValueError(
            f"{network.name}: batteries is a {type(batteries).__name__}; give "
            "Batteries.at(network, bus_names, p_max_mw=..., "
            "energy_mwh=...) of feederguard.models.battery"
        )
    rows = {
        name: np.broadcast_to(array, (n_step, array.shape[-1])) for name, array in arrays.items()
    }
    periods = Periods(
        network, **rows, step_h=float(step_h), batteries=batteries or Batteries(*np.zeros((3, 0)))
    )
    _check_available(periods)
    check_batteries(network, periods.batteries, n_step, periods.step_h)
    return periods


def start_opf(name: str, periods: Periods) -> pyo.ConcreteModel:
    """Return a model with steps, generators, substations and batteries, but without a network.

    Sets: time, bus, branch (closed branches, by their number in the network), gen, battery, and
    substation (positions in network.substation of those that no generator stands for).
    Variables: p_gen, q_gen [t, g]; p_substation, q_substation [t, s]; p_charge, p_discharge, soc
    [t, k]. Expressions: p_injected, q_injected [t, i].
    """
    network = periods.network
    model = pyo.ConcreteModel(name)
    model.periods = periods
    model.time, model.bus = pyo.RangeSet(0, periods.n_step - 1), pyo.RangeSet(0, network.n_bus - 1)
    model.branch = pyo.Set(initialize=np.flatnonzero(network.closed).tolist())
    model.gen = pyo.RangeSet(0, network.n_gen - 1)
    model.substation = pyo.Set(initialize=np.flatnonzero(held_substations(network)).tolist())
    _add_generators(model, periods)
    model.p_substation = pyo.Var(
        model.time, model.substation, initialize=0.0, doc="active power from the grid above"
    )
    model.q_substation = pyo.Var(
        model.time, model.substation, initialize=0.0, doc="reactive power from the grid above"
    )
    add_batteries(model, periods.batteries, periods.step_h)
    _add_injections(model, periods)
    return model


def voltage_bands(network: Network) -> tuple[FloatArray, FloatArray]:
    """Return the least and the greatest |V| of every bus in pu, (n_bus,) each.

    A substation that the grid above holds is at its own voltage, even outside the feeder's band.
    """
    low, high = network.v_min.copy(), network.v_max.copy()
    held = held_substations(network)
    low[network.substation[held]] = high[network.substation[held]] = np.abs(
        network.v_substation[held]
    )
    return low, high


def _add_generators(model: pyo.ConcreteModel, periods: Periods) -> None:
    network, p_max = periods.network, periods.gen_p_max

    def p_bounds(m: Any, t: int, g: int) -> tuple[float | None, float | None]:
        return _bound(network.gen_p_min[g]), _bound(p_max[t, g])

    def q_bounds(m: Any, t: int, g: int) -> tuple[float | None, float | None]:
        return _bound(network.gen_q_min[g]), _bound(network.gen_q_max[g])

    def p_start(m: Any, t: int, g: int) -> float:
        return float(np.clip(0.0, network.gen_p_min[g], p_max[t, g]))

    def q_start(m: Any, t: int, g: int) -> float:
        return float(np.clip(0.0, network.gen_q_min[g], network.gen_q_max[g]))

    model.p_gen = pyo.Var(
        model.time, model.gen, bounds=p_bounds, initialize=p_start, doc="(2) active output"
    )
    model.q_gen = pyo.Var(
        model.time, model.gen, bounds=q_bounds, initialize=q_start, doc="(2) reactive output"
    )


def _add_injections(model: pyo.ConcreteModel, periods: Periods) -> None:
    network = periods.network
    fixed_p = periods.p_gen - periods.p_load
    fixed_q = network.q_gen - periods.q_load
    generators = _by_bus(network.gen_bus, network.n_bus)
    batteries = _by_bus(periods.batteries.bus, network.n_bus)
    grid = {int(network.substation[s]): s for s in model.substation}

    def p_rule(m: Any, t: int, i: int) -> Any:
        total: Any = float(fixed_p[t, i]) + sum(m.p_gen[t, g] for g in generators[i])
        total += sum(m.p_discharge[t, k] - m.p_charge[t, k] for k in batteries[i])
        return total + m.p_substation[t, grid[i]] if i in grid else total

    def q_rule(m: Any, t: int, i: int) -> Any:
        total: Any = float(fixed_q[t, i]) + sum(m.q_gen[t, g] for g in generators[i])
        return total + m.q_substation[t, grid[i]] if i in grid else total

    model.p_injected = pyo.Expression(model.time, model.bus, rule=p_rule, doc="(1)")
    model.q_injected = pyo.Expression(model.time, model.bus, rule=q_rule, doc="(1)")


def _by_bus(bus: ArrayLike, n_bus: int) -> list[list[int]]:
    """Return for each bus the numbers of the things that stand at it."""
    lists: list[list[int]] = [[] for _ in range(n_bus)]
    for k, i in enumerate(np.asarray(bus).tolist()):
        lists[i].append(k)
    return lists


def _bound(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _rows(
    network: Network, name: str, given: Any, nominal: FloatArray, label: str = "bus"
) -> FloatArray:
    """Return what was given as (n,) or (T, n) numbers, one per `label`; None is the nominal row."""
    try:
        array = np.asarray(nominal if given is None else given, dtype=float)
    except (TypeError, ValueError):
        raise ValueError(
            f"{network.name}: {name} is {given!r}; give numbers in pu, one per {label}"
        ) from None
    width = len(nominal)
    if array.ndim not in (1, 2) or array.shape[-1] != width or not len(array) and width:
        raise ValueError(
            f"{network.name}: {name} has shape {array.shape}; give ({width},) or (T, {width}), "
            f"one per {label}"
        )
    _check_numbers(network, name, array, label)
    return array


def _check_numbers(network: Network, name: str, array: FloatArray, label: str) -> None:
    """Raise ValueError for the first value that is NaN, or infinite for a bus."""
    names = network.gen_name if label == "generator" else network.bus_name
    # The available power of a generator may be infinite: it then limits nothing.
    bad = np.argwhere(np.isnan(array) | (np.isinf(array) & (label != "generator")))
    if bad.size:
        *step, k = bad[0].tolist()
        at = f" at step {step[0]}" if step else ""
        raise ValueError(
            f"{network.name}: {name} of {label} {names[k]!r}{at} is {array[tuple(bad[0])]}; give a "
            "finite number in pu"
        )


def _number_of_steps(network: Network, arrays: dict[str, FloatArray]) -> int:
    """Return T; raises ValueError where the arrays disagree on it."""
    lengths = {name: len(array) for name, array in arrays.items() if array.ndim == 2}
    if len(set(lengths.values())) > 1:
        sizes = ", ".join(f"{name} has {length}" for name, length in lengths.items())
        raise ValueError(
            f"{network.name}: numbers of steps disagree: {sizes}; give each the same, or one row "
            "without steps"
        )
    return next(iter(lengths.values()), 1)


def _check_available(periods: Periods) -> None:
    """Raise ValueError where a generator must give more than is available."""
    network = periods.network
    short = np.argwhere(periods.gen_p_max < network.gen_p_min)
    if short.size:
        t, g = short[0]
        raise ValueError(
            f"{network.name}: gen_p_max of generator {network.gen_name[g]!r} at step {t} is "
            f"{periods.gen_p_max[t, g]:g} pu, below its gen_p_min {network.gen_p_min[g]:g}; "
            "lower gen_p_min or raise what is available"
        )
