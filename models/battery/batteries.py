"""Batteries on a feeder, and the check that none charges and discharges at once.

Per unit on the feeder's base. Battery k draws c_t >= 0 from its bus while charging and feeds d_t >=
0 into it while discharging; soc_t is the stored fraction of its energy E at the end of step t of h
hours, soc_0 the one before the first. The equations that an optimal power flow imposes are those of
`equations/periods.py`:

    (1)  soc_t = soc_(t-1) + h (eta_c c_t - d_t / eta_d) / E

Using both ways at once is a loss made on purpose: for the same power at the bus it stores h
(1/eta_d - eta_c) min(c, d) less. A model that knows its bus only by d - c gains from that where
energy has to be got rid of: at a negative price, where curtailment costs or is impossible, at a
voltage or rating limit under surplus, or to come down to a fixed final SOC. Elsewhere the energy
kept does no harm, so the *netted* plan, min(c, d) taken off both, costs no more: simultaneous use
is then never needed, yet a solver may return it, as the optimum is not unique. With eta_c = eta_d =
1 that is always so. `net_batteries` replaces such answers by netted ones, and `simultaneous_use`
names what is left.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any, TypedDict, Unpack

import numpy as np
from numpy.typing import ArrayLike

from feederguard.models.arrays import FloatArray, IntArray
from feederguard.models.network import Network

_FRACTIONS = ("efficiency_charge", "efficiency_discharge", "soc_min", "soc_max", "soc_start")


class Shares(TypedDict, total=False):
    """What `Batteries.at` takes besides power and energy: one number, or one per battery."""

    efficiency_charge: ArrayLike
    efficiency_discharge: ArrayLike
    soc_min: ArrayLike
    soc_max: ArrayLike
    soc_start: ArrayLike
    soc_end: ArrayLike | None


def _filled(value: float) -> Any:
    return field(default_factory=lambda: np.array(value))


@dataclass(frozen=True, eq=False)
class Batteries:
    """n_bat batteries in per unit; a single number stands for all of them.

    Raises ValueError when a bus is no whole number, lengths differ, a name repeats, or a value is
    not finite or outside what its comment allows.
    """

    bus: IntArray  # (n_bat,) position of the bus in the network
    # (n_bat,) limit of charging and of discharging power at the bus, zero or more
    p_max: FloatArray
    energy: FloatArray  # (n_bat,) energy of a full battery in pu h, positive
    # (n_bat,) stored per drawn, above 0 and at most 1
    efficiency_charge: FloatArray = _filled(0.95)
    # (n_bat,) fed per taken out of store, above 0 and at most 1
    efficiency_discharge: FloatArray = _filled(0.95)
    # (n_bat,) fractions of the energy, 0 <= min <= start <= max <= 1
    soc_min: FloatArray = _filled(0.0)
    soc_max: FloatArray = _filled(1.0)  # (n_bat,)
    soc_start: FloatArray = _filled(0.5)  # (n_bat,) before the first step
    # (n_bat,) after the last step; None asks for at least soc_start
    soc_end: FloatArray | None = None
    name: tuple[str, ...] = ()  # default "battery 1", ...

    def __post_init__(self) -> None:
        bus = _positions(self.bus)
        object.__setattr__(self, "bus", bus)
        names = self.name or tuple(f"battery {k + 1}" for k in range(len(bus)))
        object.__setattr__(self, "name", tuple(str(name) for name in names))
        floats = ("p_max", "energy", *_FRACTIONS, *(() if self.soc_end is None else ("soc_end",)))
        for label in ("name", *floats):
            value = (
                getattr(self, label)
                if label == "name"
                else np.array(getattr(self, label), dtype=float)
            )
            if label != "name" and value.ndim == 0:
                value = np.full(len(bus), float(value))
            if len(value) != len(bus):
                raise ValueError(
                    f"batteries: {label} has {len(value)} entries for {len(bus)} buses; give one "
                    "number or one per battery"
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
        names: Sequence[str] | None = None,
        **shares: Unpack[Shares],
    ) -> Batteries:
        """Return batteries at the named buses.

        Every argument is one number, or one per battery. shares: efficiency_charge,
        efficiency_discharge and the SOC limits of the class, in fractions of the energy. A battery
        is named by its bus unless `names` are given; the second one at a bus gets " (2)" after
        that. Raises `NetworkError` for an unknown bus, and ValueError as the class does, naming
        p_max_mw and energy_mwh as they were given.
        """
        if isinstance(bus_names, str):
            raise ValueError(
                f"batteries: bus_names is the text {bus_names!r}; give a list of bus names"
            )
        for label, given in (("p_max_mw", p_max_mw), ("energy_mwh", energy_mwh)):
            _check_typed(label, given, [str(bus) for bus in bus_names])
        order = [str(bus) for bus in bus_names]
        copies = [order[: k + 1].count(bus) for k, bus in enumerate(order)]
        labels = names or [
            bus if n == 1 else f"{bus} ({n})" for bus, n in zip(order, copies, strict=True)
        ]
        numbers: dict[str, Any] = {key: _array_or_none(value) for key, value in shares.items()}
        return cls(
            bus=np.array([network.bus_index(bus) for bus in order], dtype=np.int64),
            p_max=np.asarray(p_max_mw, dtype=float) / network.base_mva,
            energy=np.asarray(energy_mwh, dtype=float) / network.base_mva,
            name=tuple(labels),
            **numbers,
        )


def _array_or_none(value: Any) -> FloatArray | None:
    return None if value is None else np.asarray(value, dtype=float)


def battery_digest(batteries: Batteries) -> str:
    """Return a hash of every number of the batteries to ten digits, names left out."""
    digest = hashlib.sha256()
    for item in fields(batteries):
        if item.name != "name":
            value = getattr(batteries, item.name)
            numbers = [] if value is None else np.asarray(value, dtype=float).tolist()
            digest.update(
                f"{item.name}={','.join(f'{number:.10g}' for number in numbers)};".encode()
            )
    return digest.hexdigest()[:16]


def _check_typed(label: str, given: ArrayLike, buses: Sequence[str]) -> None:
    """Raise ValueError for a bad power or energy as the user typed it, in MW or MWh."""
    allowed = "zero or more" if label == "p_max_mw" else "positive"
    try:
        values = np.atleast_1d(np.asarray(given, dtype=float))
    except (TypeError, ValueError):
        raise ValueError(
            f"batteries: {label} is {given!r}; give one number or one per battery, {allowed}"
        ) from None
    bad = np.flatnonzero(
        ~(np.isfinite(values) & ((values >= 0) if label == "p_max_mw" else (values > 0)))
    )
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
            f"batteries: bus is {given!r}; give whole numbers, positions in the network, or use "
            "Batteries.at with bus names"
        )
    return np.asarray(bus, dtype=np.int64)


def _check(batteries: Batteries, floats: Sequence[str]) -> None:
    ranges = {"p_max": (0.0, np.inf, "zero or more"), "energy": (1e-12, np.inf, "positive")}
    ranges |= {label: (1e-9, 1.0, "above 0 and at most 1") for label in _FRACTIONS[:2]}
    ranges |= {
        label: (0.0, 1.0, "a fraction between 0 and 1")
        for label in ("soc_min", "soc_max", "soc_start", "soc_end")
    }
    for label in floats:
        low, high, allowed = ranges[label]
        values = getattr(batteries, label)
        bad = np.flatnonzero(~(np.isfinite(values) & (values >= low) & (values <= high)))
        if bad.size:
            raise ValueError(
                f"battery {batteries.name[bad[0]]!r}: {label} is {values[bad[0]]:g}; give a finite "
                f"number, {allowed}"
            )
    crossed = np.flatnonzero(batteries.soc_min > batteries.soc_max)
    if crossed.size:
        k = crossed[0]
        raise ValueError(
            f"battery {batteries.name[k]!r}: soc_min {batteries.soc_min[k]:g} is above soc_max "
            f"{batteries.soc_max[k]:g}; "
            "exchange them, or give others"
        )
    for label in ("soc_start", *(("soc_end",) if "soc_end" in floats else ())):
        values = getattr(batteries, label)
        bad = np.flatnonzero((values < batteries.soc_min) | (values > batteries.soc_max))
        if bad.size:
            k = bad[0]
            raise ValueError(
                f"battery {batteries.name[k]!r}: {label} is {values[k]:g}; "
                f"it must lie between soc_min {batteries.soc_min[k]:g} and soc_max "
                f"{batteries.soc_max[k]:g}"
            )
    repeated = [name for k, name in enumerate(batteries.name) if name in batteries.name[:k]]
    if repeated:
        raise ValueError(f"battery {repeated[0]!r} appears twice; give every battery its own name")
    if (batteries.bus < 0).any():
        raise ValueError(
            f"batteries: bus {batteries.bus.min()} is no position; buses are numbered from 0"
        )


def check_batteries(network: Network, batteries: Batteries, n_step: int, step_h: float) -> None:
    """Raise ValueError when a battery is at no bus, or too weak to reach its soc_end in time."""
    lost = np.flatnonzero(batteries.bus >= network.n_bus)
    if lost.size:
        raise ValueError(
            f"{network.name}: battery {batteries.name[lost[0]]!r} is at bus "
            f"{batteries.bus[lost[0]]}; "
            f"buses are numbered 0 to {network.n_bus - 1}, or use Batteries.at with bus names"
        )
    if batteries.soc_end is None:
        return
    power_hours = n_step * step_h * batteries.p_max / batteries.energy
    up = batteries.soc_start + batteries.efficiency_charge * power_hours
    down = batteries.soc_start - power_hours / batteries.efficiency_discharge
    far = np.flatnonzero((batteries.soc_end > up + 1e-9) | (batteries.soc_end < down - 1e-9))
    if far.size:
        k = far[0]
        raise ValueError(
            f"{network.name}: battery {batteries.name[k]!r} cannot go from soc_start "
            f"{batteries.soc_start[k]:g} to soc_end "
            f"{batteries.soc_end[k]:g} in {n_step} steps of {step_h:g} h; raise its p_max or move "
            "soc_end"
        )
