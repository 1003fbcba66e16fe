"""Batteries on a feeder, and the check that none charges and discharges at once.

Per unit on the feeder's base. Battery k draws c_t >= 0 from its bus while charging and feeds d_t >= 0 into it while
discharging; soc_t is the stored fraction of its energy E at the end of step t of h hours, soc_0 the one before the first.
The equations that an optimal power flow imposes are those of `opf_periods.py`:

    (1)  soc_t = soc_(t-1) + h (eta_c c_t - d_t / eta_d) / E

Using both ways at once is a loss made on purpose: for the same power at the bus it stores h (1/eta_d - eta_c) min(c, d)
less. A model that knows its bus only by d - c gains from that where energy has to be got rid of: at a negative price, where
curtailment costs or is impossible, at a voltage or rating limit under surplus, or to come down to a fixed final SOC.
Elsewhere the energy kept does no harm, so the *netted* plan, min(c, d) taken off both, costs no more: simultaneous use is
then never needed, yet a solver may return it, as the optimum is not unique. With eta_c = eta_d = 1 that is always so.
`net_batteries` replaces such answers by netted ones, and `simultaneous_use` names what is left.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from feederguard.models.network import FloatArray, IntArray, Network

_TOLERATED = 1e-5  # of a SOC, for what a solver may leave
_FRACTIONS = ("efficiency_charge", "efficiency_discharge", "soc_min", "soc_max", "soc_start")


def _filled(value: float) -> Any:
    return field(default_factory=lambda: np.array(value))


@dataclass(frozen=True, eq=False)
class Batteries:
    """n_bat batteries in per unit; a single number stands for all of them.

    Raises ValueError when a bus is no whole number, lengths differ, a name repeats, or a value is not finite or outside what
    its comment allows.
    """

    bus: IntArray  # (n_bat,) position of the bus in the network
    p_max: FloatArray  # (n_bat,) limit of charging and of discharging power at the bus, zero or more
    energy: FloatArray  # (n_bat,) energy of a full battery in pu h, positive
    efficiency_charge: FloatArray = _filled(0.95)  # (n_bat,) stored per drawn, above 0 and at most 1
    efficiency_discharge: FloatArray = _filled(0.95)  # (n_bat,) fed per taken out of store, above 0 and at most 1
    soc_min: FloatArray = _filled(0.0)  # (n_bat,) fractions of the energy, 0 <= min <= start <= max <= 1
    soc_max: FloatArray = _filled(1.0)  # (n_bat,)
    soc_start: FloatArray = _filled(0.5)  # (n_bat,) before the first step
    soc_end: FloatArray | None = None  # (n_bat,) after the last step; None asks for at least soc_start
    name: tuple[str, ...] = ()  # default "battery 1", ...

    def __post_init__(self) -> None:
        bus = _positions(self.bus)
        object.__setattr__(self, "bus", bus)
        names = self.name or tuple(f"battery {k + 1}" for k in range(len(bus)))
        object.__setattr__(self, "name", tuple(str(name) for name in names))
        floats = ("p_max", "energy", *_FRACTIONS, *(() if self.soc_end is None else ("soc_end",)))
        for label in ("name", *floats):
            value = getattr(self, label) if label == "name" else np.array(getattr(self, label), dtype=float)
            if label != "name" and value.ndim == 0:
                value = np.full(len(bus), float(value))
            if len(value) != len(bus):
                raise ValueError(
                    f"batteries: {label} has {len(value)} entries for {len(bus)} buses; give one number or one per battery"
                )
            object.__setattr__(self, label, value)
        for label in ("bus", *floats):
            getattr(self, label).setflags(write=False)
        _check(self, floats)

    def __len__(self) -> int:
        return len(self.bus)

    @classmethod
    def at(
        cls,
        network: Network,
        bus_names: Sequence[str],
        p_max_mw: ArrayLike,
        energy_mwh: ArrayLike,
        efficiency_charge: ArrayLike = 0.95,
        efficiency_discharge: ArrayLike = 0.95,
        soc_min: ArrayLike = 0.0,
        soc_max: ArrayLike = 1.0,
        soc_start: ArrayLike = 0.5,
        soc_end: ArrayLike | None = None,
        names: Sequence[str] | None = None,
    ) -> Batteries:
        """Return batteries at the named buses; every other argument is one number or one per battery.

        SOC in fractions of the energy; soc_end None asks for at least soc_start after the last step. A battery is named
        by its bus unless `names` are given; the second one at a bus gets " (2)" after that. Raises `NetworkError` for an
        unknown bus, and ValueError as the class does, naming p_max_mw and energy_mwh as they were given.
        """
        if isinstance(bus_names, str):
            raise ValueError(f"batteries: bus_names is the text {bus_names!r}; give a list of bus names")
        for label, given in (("p_max_mw", p_max_mw), ("energy_mwh", energy_mwh)):
            _check_typed(label, given, [str(bus) for bus in bus_names])
        order = [str(bus) for bus in bus_names]
        copies = [order[: k + 1].count(bus) for k, bus in enumerate(order)]
        labels = names or [bus if n == 1 else f"{bus} ({n})" for bus, n in zip(order, copies, strict=True)]
        return cls(
            bus=np.array([network.bus_index(bus) for bus in order], dtype=np.int64),
            p_max=np.asarray(p_max_mw, dtype=float) / network.base_mva,
            energy=np.asarray(energy_mwh, dtype=float) / network.base_mva,
            efficiency_charge=np.asarray(efficiency_charge, dtype=float),
            efficiency_discharge=np.asarray(efficiency_discharge, dtype=float),
            soc_min=np.asarray(soc_min, dtype=float),
            soc_max=np.asarray(soc_max, dtype=float),
            soc_start=np.asarray(soc_start, dtype=float),
            soc_end=None if soc_end is None else np.asarray(soc_end, dtype=float),
            name=tuple(labels),
        )


def battery_digest(batteries: Batteries) -> str:
    """Return a hash of every number of the batteries to ten digits, names left out."""
    digest = hashlib.sha256()
    for item in fields(batteries):
        if item.name != "name":
            value = getattr(batteries, item.name)
            numbers = [] if value is None else np.asarray(value, dtype=float).tolist()
            digest.update(f"{item.name}={','.join(f'{number:.10g}' for number in numbers)};".encode())
    return digest.hexdigest()[:16]


@dataclass(frozen=True)
class SimultaneousUse:
    """One battery at one step that charges and discharges at once."""

    battery: str
    step: int
    p_charge_mw: float
    p_discharge_mw: float


def simultaneous_use(model: Any, tolerance_mw: float = 1e-6) -> list[SimultaneousUse]:
    """Return every battery and step of a solved OPF at which both powers exceed the tolerance; empty is what one wants.

    Raises ValueError when the model has not been solved.
    """
    periods = model.periods
    charge, discharge, _ = _solved_powers(model)
    base = periods.network.base_mva
    found = np.argwhere(base * np.minimum(charge, discharge) > tolerance_mw)
    return [
        SimultaneousUse(periods.batteries.name[k], int(t), float(base * charge[t, k]), float(base * discharge[t, k]))
        for t, k in found
    ]


def net_batteries(model: Any) -> float:
    """Net charging against discharging in a solved OPF, in place, and return the energy (MWh) that this keeps in store.

    Power at every bus and step stays as it is, so the network and any objective of p_discharge - p_charge do too. Step by
    step min(c, d) is taken off both as far as the energy kept fits under soc_max, and under a fixed soc_end, in all later
    steps; what has to be burnt is left, for `simultaneous_use` to name. SOC is recomputed by (1), and where a solver's
    tolerance (1e-5 or less) keeps it from the end that is asked for, the last power that can is moved by that.

    Raises ValueError when the model has not been solved.
    """
    periods, batteries = model.periods, model.periods.batteries
    charge, discharge, soc = _solved_powers(model)
    if not soc.size:
        return 0.0
    worth = periods.step_h * (1 / batteries.efficiency_discharge - batteries.efficiency_charge) / batteries.energy
    room = np.broadcast_to(batteries.soc_max, soc.shape) - _soc(periods, charge, discharge)
    if batteries.soc_end is not None:
        room = np.vstack([room[:-1], np.minimum(room[-1], batteries.soc_end - (batteries.soc_max - room[-1]))])
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
    for variable, values in ((model.p_charge, charge), (model.p_discharge, discharge), (model.soc, soc)):
        for t, k in np.ndindex(*values.shape):
            variable[t, k].set_value(float(values[t, k]), skip_validation=True)
    return float(periods.network.base_mva * (kept * batteries.energy).sum())


def _solved_powers(model: Any) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return c, d and soc, (T, n_bat), with the hair's breadth below zero of a solver's tolerance taken away."""
    shape = (model.periods.n_step, len(model.periods.batteries))
    arrays = []
    for variable in (model.p_charge, model.p_discharge, model.soc):
        values = [variable[t, k].value for t, k in np.ndindex(*shape)]
        if any(value is None for value in values):
            raise ValueError(f"{model.name}: {variable.name} has no values yet; solve the model first")
        arrays.append(np.array(values, dtype=float).reshape(shape))
    return np.maximum(arrays[0], 0.0), np.maximum(arrays[1], 0.0), arrays[2]


def _meet_end(periods: Any, charge: FloatArray, discharge: FloatArray) -> None:
    """Move one power of each battery, in place, by what a solver's tolerance left between its last SOC and the end asked."""
    batteries = periods.batteries
    last = _soc(periods, charge, discharge)[-1]
    asked = np.maximum(last, batteries.soc_start) if batteries.soc_end is None else batteries.soc_end
    for k in np.flatnonzero((asked != last) & (np.abs(asked - last) <= _TOLERATED)).tolist():
        # More stored is more charged or less discharged; less stored the other way round.
        energy = (asked[k] - last[k]) * batteries.energy[k] / periods.step_h
        ways = (
            (charge, energy / batteries.efficiency_charge[k]), (discharge, -energy * batteries.efficiency_discharge[k])
        )  # fmt: skip
        for power, more in ways:
            moved = power[:, k] + more
            # A power that is on stays on and within its limit, so that no battery comes to work both ways.
            fit = np.flatnonzero(
                (power[:, k] > 1e-6 * batteries.p_max[k]) & (moved >= 0) & (moved <= batteries.p_max[k])
            )
            if fit.size:
                power[fit[-1], k] = moved[fit[-1]]
                break
        else:
            idle = ways[0] if energy > 0 else ways[1]
            idle[0][-1, k] += abs(idle[1])


def _soc(periods: Any, charge: FloatArray, discharge: FloatArray) -> FloatArray:
    """Return soc_t by (1), (T, n_bat)."""
    batteries = periods.batteries
    flow = batteries.efficiency_charge * charge - discharge / batteries.efficiency_discharge
    return np.asarray(batteries.soc_start + np.cumsum(periods.step_h * flow / batteries.energy, axis=0))


def _check_typed(label: str, given: ArrayLike, buses: Sequence[str]) -> None:
    """Raise ValueError for a power or an energy as the user typed it, before it becomes per unit."""
    allowed = "zero or more" if label == "p_max_mw" else "positive"
    try:
        values = np.atleast_1d(np.asarray(given, dtype=float))
    except (TypeError, ValueError):
        raise ValueError(f"batteries: {label} is {given!r}; give one number or one per battery, {allowed}") from None
    bad = np.flatnonzero(~(np.isfinite(values) & ((values >= 0) if label == "p_max_mw" else (values > 0))))
    if bad.size:
        # A single number stands for all batteries, and a list of a wrong length is told of as such.
        place = f"battery at bus {buses[bad[0]]!r}" if len(values) == len(buses) else "batteries"
        raise ValueError(f"{place}: {label} is {values[bad[0]]:g}; give a finite number, {allowed}")


def _positions(given: Any) -> IntArray:
    """Return buses as whole numbers, (n_bat,); raises ValueError for anything that is none."""
    bus = np.atleast_1d(np.array(given))
    whole = bus.dtype.kind in "iu" or (
        bus.dtype.kind == "f" and bool((np.isfinite(bus) & (bus == np.floor(bus))).all())
    )
    if not whole:
        raise ValueError(
            f"batteries: bus is {given!r}; give whole numbers, positions in the network, or use Batteries.at with bus names"
        )
    return np.asarray(bus, dtype=np.int64)


def _check(batteries: Batteries, floats: Sequence[str]) -> None:
    ranges = {"p_max": (0.0, np.inf, "zero or more"), "energy": (1e-12, np.inf, "positive")}
    ranges |= {label: (1e-9, 1.0, "above 0 and at most 1") for label in _FRACTIONS[:2]}
    ranges |= {
        label: (0.0, 1.0, "a fraction between 0 and 1") for label in ("soc_min", "soc_max", "soc_start", "soc_end")
    }
    for label in floats:
        low, high, allowed = ranges[label]
        values = getattr(batteries, label)
        bad = np.flatnonzero(~(np.isfinite(values) & (values >= low) & (values <= high)))
        if bad.size:
            raise ValueError(
                f"battery {batteries.name[bad[0]]!r}: {label} is {values[bad[0]]:g}; give a finite number, {allowed}"
            )
    crossed = np.flatnonzero(batteries.soc_min > batteries.soc_max)
    if crossed.size:
        k = crossed[0]
        raise ValueError(
            f"battery {batteries.name[k]!r}: soc_min {batteries.soc_min[k]:g} is above soc_max {batteries.soc_max[k]:g}; "
            "exchange them, or give others"
        )
    for label in ("soc_start", *(("soc_end",) if "soc_end" in floats else ())):
        values = getattr(batteries, label)
        bad = np.flatnonzero((values < batteries.soc_min) | (values > batteries.soc_max))
        if bad.size:
            k = bad[0]
            raise ValueError(
                f"battery {batteries.name[k]!r}: {label} is {values[k]:g}; "
                f"it must lie between soc_min {batteries.soc_min[k]:g} and soc_max {batteries.soc_max[k]:g}"
            )
    repeated = [name for k, name in enumerate(batteries.name) if name in batteries.name[:k]]
    if repeated:
        raise ValueError(f"battery {repeated[0]!r} appears twice; give every battery its own name")
    if (batteries.bus < 0).any():
        raise ValueError(f"batteries: bus {batteries.bus.min()} is no position; buses are numbered from 0")
