"""The names of an OPF's limits in an engineer's words, and their violations in engineering units.

The models of `ac_opf.py` and `distflow_opf.py` are in per unit and number buses and branches. A
message names them, and gives MW, MVA or ampere. Any other constraint or variable keeps its own
name, index and number.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from feederguard.models.equations.periods import Periods
from feederguard.models.network import Network


@dataclass(frozen=True)
class NamedLimit:
    """A limit, where and when it holds, and by how much it is exceeded."""

    limit: str
    place: str
    step: int | None
    amount: float
    unit: str


@dataclass(frozen=True)
class _Quantity:
    limit: str
    thing: str  # "bus", "branch", "generator", "substation" or "battery"
    unit: str
    square: bool = False  # the model limits the square of what is named


_QUANTITIES = {
    "w": _Quantity("voltage", "bus", "pu", square=True),
    "v": _Quantity("voltage", "bus", "pu"),
    "active_balance": _Quantity("active power balance", "bus", "MW"),
    "reactive_balance": _Quantity("reactive power balance", "bus", "Mvar"),
    "p_gen": _Quantity("active power", "generator", "MW"),
    "q_gen": _Quantity("reactive power", "generator", "Mvar"),
    "p_substation": _Quantity("active power", "substation", "MW"),
    "q_substation": _Quantity("reactive power", "substation", "Mvar"),
    "ell": _Quantity("current", "branch", "A", square=True),
    "current_limit": _Quantity("current", "branch", "A"),
    "end_current_limit": _Quantity("current", "branch", "A"),
    "power_limit": _Quantity("apparent power", "branch", "MVA"),
    "angle_limit": _Quantity("angle difference", "branch", "deg"),
    "p_charge": _Quantity("charging power", "battery", "MW"),
    "p_discharge": _Quantity("discharging power", "battery", "MW"),
    "battery_power": _Quantity("power", "battery", "MW"),
    "soc": _Quantity("stored energy", "battery", "MWh"),
    "soc_final": _Quantity("stored energy at the end", "battery", "MWh"),
}


def describe_limit(
    model: Any, part: Any, limit: float, excess: float, squared: bool, voltages: float = 1.0
) -> NamedLimit:
    """Return the limit of a constraint or variable by name, and its violation in engineering units.

    part: Pyomo's constraint or variable. limit: its bound in the model's unit. excess: how far it
    is above (positive) or below (negative) that. squared: whether the constraint is of second
    degree. voltages: |V_i| |V_j| in pu at the ends of a branch, by which all forms but the polar
    one multiply its angle.
    """
    component, index = part.parent_component(), part.index()
    name = component.local_name
    periods = model.__dict__.get("periods")
    if not isinstance(periods, Periods) or name not in _QUANTITIES or index is None:
        place = "every point" if index is None else f"index {index!r}"
        return NamedLimit(name, place, None, abs(excess), "")
    quantity = _QUANTITIES[name]
    # What holds for the whole horizon has no step.
    indices = index if isinstance(index, tuple) else (None, index)
    thing = int(indices[1])
    step = None if periods.n_step == 1 or indices[0] is None else int(indices[0])
    place = f"{quantity.thing} {_name(periods, quantity.thing, thing)!r}"
    # The limit of `ell`, [t, b], is linear in a square. The side of a polygon, [t, b, end, side],
    # is no square.
    squared = squared or name == "current_limit" and len(indices) == 2
    if quantity.unit == "deg":
        angle = (
            abs(excess)
            if model.find_component("theta") is not None
            else _angle(model, index, excess, voltages)
        )
        return NamedLimit(quantity.limit, place, step, math.degrees(angle), quantity.unit)
    amount = _amount(periods.network, quantity, thing, limit, excess, squared)
    return NamedLimit(
        quantity.limit, place, step, amount * _per_unit(periods, quantity, thing), quantity.unit
    )


def _angle(model: Any, index: tuple[int, int, int], excess: float, voltages: float) -> float:
    """Return in rad how far an angle is beyond its limit, given as a product of voltages."""
    network = model.periods.network
    _, b, side = index
    sine = abs(excess) / voltages
    if model.find_component("pair") is None:
        # DistFlow's angle limit is behind the tap, and divided by the cosine of the limit.
        limit = float((network.angle_max if side == 1 else network.angle_min)[b] - network.shift[b])
        sine *= float(network.tap[b]) * math.cos(limit)
    return math.asin(min(sine, 1.0))


def _name(periods: Periods, thing: str, k: int) -> str:
    network = periods.network
    if thing == "substation":
        return network.bus_name[int(network.substation[k])]
    names = {"bus": network.bus_name, "branch": network.branch_name, "generator": network.gen_name}
    return str(names.get(thing, periods.batteries.name)[k])


def _amount(
    network: Network, quantity: _Quantity, thing: int, limit: float, excess: float, squared: bool
) -> float:
    """Return the excess in per unit of the quantity itself, where the model limits its square.

    Currents count at 1 pu of voltage.
    """
    if quantity.square:
        return abs(math.sqrt(max(limit + excess, 0.0)) - math.sqrt(max(limit, 0.0)))
    if quantity.unit in ("A", "MVA") and squared:
        rating = float((network.rating if quantity.unit == "A" else network.s_max)[thing])
        # Behind a tap below 1 the model limits the square of tap times the rated end's current.
        share = limit / rating**2 if limit > 0 and rating > 0 else 1.0
        return abs(math.sqrt(max(rating**2 + excess / share, 0.0)) - rating)
    return abs(excess)


def _per_unit(periods: Periods, quantity: _Quantity, thing: int) -> float:
    network = periods.network
    if quantity.unit == "A":
        return float(network.base_current_a[thing])
    if quantity.unit == "MWh":
        return float(network.base_mva * periods.batteries.energy[thing])
    return 1.0 if quantity.unit == "pu" else network.base_mva
