"""A distribution feeder in per-unit arrays, read by every model, power flow and method here.

Everything is per unit on `base_mva` and on each bus's `vn_kv`. Branch k joins `from_bus[k]` and
`to_bus[k]` by a pi-model with an ideal transformer at its from end (the MATPOWER convention):

    V_from / (tap e^{j shift})  --[ g_from + j b_from | r + j x | g_to + j b_to ]--  V_to

Signs: `p_load`, `q_load` are positive when consumed; `p_gen`, `q_gen` positive when produced;
`g_shunt`, `b_shunt` are admittances to ground (b positive for a capacitor). Arrays keep the order
of the source file, and `bus_name`, `branch_name` its labels. A *tie* is a branch that is normally
open (`closed` false). What is not `in_service` is neither a tie nor any other branch to close.

Generators (`gen_*`) are what an optimal power flow may dispatch; a bus may have several. The power
flow and load transfer do not read them, only `p_gen` and `q_gen`.

A substation draws what it needs from the grid above, at a fixed voltage. Where `gen_is_grid` says
that generators *stand for* the grid above, with its limits and cost, it is otherwise: an optimal
power flow draws from those generators alone, and chooses the voltage within its band.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feederguard.models.arrays import BoolArray, ComplexArray, FloatArray, IntArray
from feederguard.models.network.devices import Devices
from feederguard.models.network.groups import GroupLimit

BRANCH_KINDS = ("line", "tie", "trafo", "coupler")
# Series reactance of a coupler of two buses per MVA of the base: 1 kA at 20 kV drops 3.5e-11 pu.
COUPLER_X_PU_PER_MVA = 1e-12
BUS_FLOATS = ("vn_kv", "v_min", "v_max", "p_load", "q_load", "p_gen", "q_gen", "g_shunt", "b_shunt")
BRANCH_FLOATS = ("r", "x", "g_from", "b_from", "g_to", "b_to", "tap", "shift")
# With the value that limits nothing.
BRANCH_LIMITS = {"s_max": np.inf, "angle_min": -np.inf, "angle_max": np.inf}
# What an optional array field holds where it is not given.
BRANCH_DEFAULTS = {**BRANCH_LIMITS, "in_service": True}
GEN_LIMITS = ("gen_p_min", "gen_p_max", "gen_q_min", "gen_q_max")
_NAMES = ("bus_name", "branch_name", "kind", "gen_name")
_PLAIN = (
    *("name", "base_mva", "emergency_voltage_factor", "paper_limit_mw"),
    *("cost_error", "devices"),
)


def _none() -> Any:
    """Return the default of an optional array field; `coerce` gives it its shape."""
    return field(default_factory=lambda: np.zeros(0))


class NetworkError(ValueError):
    """A feeder that cannot be a feeder: the message names the element, the rule and the remedy."""


@dataclass(frozen=True, eq=False)
class NetworkFields:
    """The fields of a `Network`, unchecked: n_bus buses and n_branch branches."""

    name: str
    base_mva: float
    bus_name: tuple[str, ...]
    vn_kv: FloatArray  # (n_bus,) nominal line-to-line voltage
    v_min: FloatArray  # (n_bus,) lower voltage limit
    v_max: FloatArray  # (n_bus,) upper voltage limit
    p_load: FloatArray  # (n_bus,) nominal active demand
    q_load: FloatArray  # (n_bus,) nominal reactive demand
    p_gen: FloatArray  # (n_bus,) local active generation at constant power
    q_gen: FloatArray  # (n_bus,) local reactive generation at constant power
    g_shunt: FloatArray  # (n_bus,) shunt conductance
    b_shunt: FloatArray  # (n_bus,) shunt susceptance, positive for a capacitor
    substation: IntArray  # (n_substation,) buses held at a fixed voltage
    v_substation: ComplexArray  # (n_substation,) that voltage
    branch_name: tuple[str, ...]
    kind: tuple[str, ...]  # (n_branch,) each of BRANCH_KINDS
    from_bus: IntArray  # (n_branch,)
    to_bus: IntArray  # (n_branch,)
    r: FloatArray  # (n_branch,) series resistance
    x: FloatArray  # (n_branch,) series reactance
    g_from: FloatArray  # (n_branch,) shunt conductance at the from end, behind the tap
    b_from: FloatArray  # (n_branch,) shunt susceptance at the from end, behind the tap
    g_to: FloatArray  # (n_branch,) shunt conductance at the to end
    b_to: FloatArray  # (n_branch,) shunt susceptance at the to end
    tap: FloatArray  # (n_branch,) off-nominal ratio at the from end, 1 for a line
    shift: FloatArray  # (n_branch,) phase shift at the from end in rad
    # (n_branch,) current limit (apparent power at 1 pu voltage); inf where there is none
    rating: FloatArray
    closed: BoolArray  # (n_branch,) normal state; a tie is normally open
    # (n_branch,) an open branch hangs from its other end: 0 open at both, 1 at from, 2 at to
    open_end: IntArray
    # (n_branch,) not out for repair; default all. What is out of service is open, carries no
    # charging and is never operated
    in_service: BoolArray = _none()
    # widening of the band v_min..v_max about 1 pu that the owner allows after a fault; 1 for none
    emergency_voltage_factor: float = 1.0
    # uniform limit on branch power in the `paper` setting of load transfer
    paper_limit_mw: float = float("inf")
    # (n_bus,) what shedding there weighs in the cost of a load transfer; default 1
    priority: FloatArray = _none()
    # (n_branch,) limit of apparent power at both ends, default inf; an optimal power flow holds it
    # in place of the current rating
    s_max: FloatArray = _none()
    # (n_branch,) least and greatest angle of V_from less that of V_to in rad; default none
    angle_min: FloatArray = _none()
    angle_max: FloatArray = _none()
    gen_name: tuple[str, ...] = ()
    gen_bus: IntArray = _none()  # (n_gen,)
    # (n_gen,) least active output, negative where it may consume; -inf for none
    gen_p_min: FloatArray = _none()
    gen_p_max: FloatArray = _none()  # (n_gen,) greatest active output; inf for none
    gen_q_min: FloatArray = _none()  # (n_gen,) least reactive output; -inf for none
    gen_q_max: FloatArray = _none()  # (n_gen,) greatest reactive output; inf for none
    # (n_gen, 3) c2, c1, c0 of c2 P^2 + c1 P + c0 in $/h with P in MW; default 0
    gen_cost: FloatArray = _none()
    # (n_line, 3) generator, a, b: each line a P + b in $/h is a lower limit of what the generator
    # costs beside gen_cost; `costs.py`. Default none
    gen_cost_lines: FloatArray = _none()
    cost_error: str = ""  # why costs of the source cannot be used; only an objective asks for them
    # (n_gen,) stands for the grid above, at a substation; default none does
    gen_is_grid: BoolArray = _none()
    # Switching devices; None where the data have none. Then the papers' assumption holds: one
    # device in every tie and in every line on a loop.
    devices: Devices | None = None
    # what may flow through several branches together; `groups.py`
    groups: Sequence[GroupLimit] = ()

    @property
    def n_bus(self) -> int:
        return len(self.bus_name)

    @property
    def n_branch(self) -> int:
        return len(self.branch_name)

    @property
    def n_gen(self) -> int:
        return len(self.gen_name)

    @property
    def z(self) -> ComplexArray:
        """Series impedance r + jx, (n_branch,)."""
        return np.asarray(self.r + 1j * self.x)

    @property
    def current_limit(self) -> FloatArray:
        """Current rating that an optimal power flow holds, (n_branch,); inf for none.

        Where `s_max` is given, it is held in place of the rating.
        """
        return np.where(np.isfinite(self.s_max), np.inf, self.rating)

    @property
    def is_tie(self) -> BoolArray:
        """Normally open branches in service, (n_branch,)."""
        return ~self.closed & self.in_service

    @property
    def base_current_a(self) -> FloatArray:
        """Ampere per pu current at each branch's from bus, (n_branch,)."""
        return np.asarray(1e3 * self.base_mva / (np.sqrt(3.0) * self.vn_kv[self.from_bus]))

    def bus_index(self, bus: str) -> int:
        """Return the position of a bus by name; an unknown one raises `NetworkError`."""
        return _index(self.bus_name, bus, "bus", self.name)

    def branch_index(self, branch: str) -> int:
        """Return the position of a branch by name; an unknown one raises `NetworkError`."""
        return _index(self.branch_name, branch, "branch", self.name)


def coerce(network: NetworkFields) -> None:
    """Turn every field into its declared type, and freeze the arrays."""
    kinds = {
        "substation": np.int64,
        "from_bus": np.int64,
        "to_bus": np.int64,
        "open_end": np.int64,
        "gen_bus": np.int64,
        "gen_is_grid": np.bool_,
        "closed": np.bool_,
        "in_service": np.bool_,
        "v_substation": np.complex128,
    }
    for item in fields(network):
        value = getattr(network, item.name)
        if item.name in _NAMES:
            object.__setattr__(network, item.name, tuple(str(name) for name in value))
        elif item.name == "groups":
            object.__setattr__(network, item.name, tuple(value))
        elif item.name not in _PLAIN:
            array: NDArray[Any] = np.array(value, dtype=kinds.get(item.name, np.float64))
            if not array.size and item.name in BRANCH_DEFAULTS:
                array = np.full(network.n_branch, BRANCH_DEFAULTS[item.name])
            elif not array.size and item.name == "priority":
                array = np.ones(network.n_bus)
            elif not array.size and item.name == "gen_cost":
                array = np.zeros((network.n_gen, 3))
            elif not array.size and item.name == "gen_cost_lines":
                array = np.zeros((0, 3))
            elif not array.size and item.name == "gen_is_grid":
                array = np.zeros(network.n_gen, dtype=np.bool_)
            array.setflags(write=False)
            object.__setattr__(network, item.name, array)
    if network.open_end.shape == network.in_service.shape and not network.in_service.all():
        # What is out of service is disconnected at both ends.
        object.__setattr__(network, "open_end", np.where(network.in_service, network.open_end, 0))
        network.open_end.setflags(write=False)


def _index(names: Sequence[str], name: str, label: str, network: str) -> int:
    try:
        return names.index(str(name))
    except ValueError:
        shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
        raise NetworkError(f"{network}: no {label} {name!r}; there are {shown}") from None
