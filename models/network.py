"""A distribution feeder in per-unit arrays: what every model, power flow and method of FeederGuard reads.

Everything is per unit on `base_mva` and on each bus's `vn_kv`. Branch k joins `from_bus[k]` and `to_bus[k]` by a
pi-model with an ideal transformer at its from end (the MATPOWER convention):

    V_from / (tap e^{j shift})  --[ g_from + j b_from | r + j x | g_to + j b_to ]--  V_to

Signs: `p_load`, `q_load` are positive when consumed; `p_gen`, `q_gen` positive when produced; `g_shunt`, `b_shunt`
are admittances to ground (b positive for a capacitor). Arrays keep the order of the source file, and `bus_name`,
`branch_name` its labels. A *tie* is a branch that is normally open (`closed` false).

Generators (`gen_*`) are what an optimal power flow may dispatch, several to a bus where the source has it so; the power
flow and load transfer know nothing of them and read `p_gen`, `q_gen` alone. A substation draws what it needs from the grid
above at a fixed voltage, whatever else is connected there. Where `gen_is_grid` says that generators *stand for* the grid
above, with its limits and cost, an optimal power flow draws from those alone, and chooses the voltage within its band.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import networkx as nx
import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from pandapower.auxiliary import pandapowerNet

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
ComplexArray = NDArray[np.complex128]

BRANCH_KINDS = ("line", "tie", "trafo")

_BUS_FLOATS = ("vn_kv", "v_min", "v_max", "p_load", "q_load", "p_gen", "q_gen", "g_shunt", "b_shunt")
_BRANCH_FLOATS = ("r", "x", "g_from", "b_from", "g_to", "b_to", "tap", "shift")
_BRANCH_LIMITS = {"s_max": np.inf, "angle_min": -np.inf, "angle_max": np.inf}  # the value that limits nothing
_GEN_LIMITS = ("gen_p_min", "gen_p_max", "gen_q_min", "gen_q_max")
_NAMES = ("bus_name", "branch_name", "kind", "gen_name")


def _none() -> Any:
    """Return the default of an optional array field; `_coerce` gives it its shape."""
    return field(default_factory=lambda: np.zeros(0))


class NetworkError(ValueError):
    """A feeder that cannot be a feeder: the message names the element, the rule and the remedy."""


@dataclass(frozen=True, eq=False)
class Network:
    """A feeder of n_bus buses and n_branch branches; radial or meshed, with one or more substations.

    Raises `NetworkError` when arrays disagree in length, values are not finite or physically impossible, names
    repeat, a branch or generator lies outside the feeder, a lower limit is above its upper one, there is no substation,
    a generator stands for the grid above elsewhere, or no path of branches and ties leads to some bus.
    """

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
    rating: FloatArray  # (n_branch,) current limit (apparent power at 1 pu voltage); inf where there is none
    closed: BoolArray  # (n_branch,) normal state; a tie is normally open
    open_end: IntArray  # (n_branch,) an open branch hangs from its other end: 0 open at both, 1 at from, 2 at to
    paper_limit_mw: float = float("inf")  # uniform limit on branch power in the `paper` setting of load transfer
    # (n_branch,) limit of apparent power at both ends, in an optimal power flow in place of the current rating; default inf
    s_max: FloatArray = _none()
    angle_min: FloatArray = _none()  # (n_branch,) least angle of V_from less that of V_to in rad; default -inf
    angle_max: FloatArray = _none()  # (n_branch,) greatest such angle in rad; default inf
    gen_name: tuple[str, ...] = ()
    gen_bus: IntArray = _none()  # (n_gen,)
    gen_p_min: FloatArray = _none()  # (n_gen,) least active output, negative where it may consume; -inf for none
    gen_p_max: FloatArray = _none()  # (n_gen,) greatest active output; inf for none
    gen_q_min: FloatArray = _none()  # (n_gen,) least reactive output; -inf for none
    gen_q_max: FloatArray = _none()  # (n_gen,) greatest reactive output; inf for none
    gen_cost: FloatArray = _none()  # (n_gen, 3) c2, c1, c0 of c2 P^2 + c1 P + c0 in $/h with P in MW; default 0
    gen_is_grid: BoolArray = _none()  # (n_gen,) stands for the grid above, at a substation; default none does

    def __post_init__(self) -> None:
        _coerce(self)
        _check_shapes(self)
        _check_names(self)
        _check_values(self)
        _check_generators(self)
        _check_substations(self)
        _check_reachable(self)

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
        """The rating that an optimal power flow holds, (n_branch,); inf where there is none, or `s_max` in its place."""
        return np.where(np.isfinite(self.s_max), np.inf, self.rating)

    @property
    def is_tie(self) -> BoolArray:
        """Normally open branches, (n_branch,)."""
        return ~self.closed

    @property
    def on_loop(self) -> BoolArray:
        """Branches that lie on a loop when every branch is closed, (n_branch,): opening one cuts nobody off."""
        graph = nx.MultiGraph()
        graph.add_nodes_from(range(self.n_bus))
        # All substations are one point for this question: a path from one to another is a loop through the grid above.
        root = int(self.substation[0])
        merged = {int(bus): root for bus in self.substation}
        for k, (i, j) in enumerate(zip(self.from_bus.tolist(), self.to_bus.tolist(), strict=True)):
            graph.add_edge(merged.get(i, i), merged.get(j, j), key=k)
        simple = nx.Graph(graph)
        bridges = {frozenset(edge) for edge in nx.bridges(simple)}
        on_loop = np.ones(self.n_branch, dtype=bool)
        for i, j, k in graph.edges(keys=True):
            on_loop[k] = frozenset((i, j)) not in bridges or graph.number_of_edges(i, j) > 1
        return on_loop

    @property
    def no_load_angle(self) -> FloatArray:
        """Voltage angle of each bus in rad when nothing flows: that of its substation less the shifts on the way."""
        graph = nx.Graph()
        for k, (i, j) in enumerate(zip(self.from_bus.tolist(), self.to_bus.tolist(), strict=True)):
            if self.closed[k] or not graph.has_edge(i, j):
                graph.add_edge(i, j, branch=k, weight=1 if self.closed[k] else self.n_bus)
        angle = np.zeros(self.n_bus)
        angle[self.substation] = np.angle(self.v_substation)
        _, paths = nx.multi_source_dijkstra(graph, set(self.substation.tolist()))
        for bus, path in sorted(paths.items(), key=lambda item: len(item[1])):
            if len(path) > 1:
                k = graph.edges[path[-2], bus]["branch"]
                angle[bus] = angle[path[-2]] + (-self.shift[k] if self.from_bus[k] == path[-2] else self.shift[k])
        return angle

    @property
    def base_current_a(self) -> FloatArray:
        """Ampere per pu current at each branch's from bus, (n_branch,)."""
        return np.asarray(1e3 * self.base_mva / (np.sqrt(3.0) * self.vn_kv[self.from_bus]))

    def bus_index(self, bus: str) -> int:
        """Return the position of the bus of that name; raises `NetworkError` listing near names."""
        return _index(self.bus_name, bus, "bus", self.name)

    def branch_index(self, branch: str) -> int:
        """Return the position of the branch of that name; raises `NetworkError` listing near names."""
        return _index(self.branch_name, branch, "branch", self.name)

    def with_changes(self, **changes: Any) -> Network:
        """Return a copy with some fields replaced, validated anew."""
        if len(changes.get("branch_name", self.branch_name)) != self.n_branch:
            # Limits that limit nothing fit any number of branches.
            for name, idle in _BRANCH_LIMITS.items():
                if (getattr(self, name) == idle).all():
                    changes.setdefault(name, np.zeros(0))
        if len(changes.get("gen_name", self.gen_name)) != self.n_gen and not self.gen_is_grid.any():
            changes.setdefault("gen_is_grid", np.zeros(0))
        return replace(self, **changes)

    @classmethod
    def from_pandapower(cls, net: pandapowerNet) -> Network:
        """Return the feeder of a pandapower net; see `feederguard.models.pandapower_exchange`."""
        from feederguard.models.pandapower_exchange import network_from_pandapower

        return network_from_pandapower(net)

    def to_pandapower(self) -> pandapowerNet:
        """Return the feeder as a pandapower net; see `feederguard.models.pandapower_exchange`."""
        from feederguard.models.pandapower_exchange import network_to_pandapower

        return network_to_pandapower(self)

    @classmethod
    def from_matpower(cls, path: str | Path) -> Network:
        """Return the feeder of a MATPOWER .m file; see `feederguard.models.matpower_case`."""
        from feederguard.models.matpower_case import network_from_matpower

        return network_from_matpower(path)


def _coerce(network: Network) -> None:
    """Freeze every array in its declared type, so that kernels get what they were compiled for."""
    kinds = {"substation": np.int64, "from_bus": np.int64, "to_bus": np.int64, "open_end": np.int64,
             "gen_bus": np.int64, "gen_is_grid": np.bool_, "closed": np.bool_, "v_substation": np.complex128}  # fmt: skip
    for item in fields(network):
        value = getattr(network, item.name)
        if item.name in _NAMES:
            object.__setattr__(network, item.name, tuple(str(name) for name in value))
        elif item.name not in ("name", "base_mva", "paper_limit_mw"):
            array: NDArray[Any] = np.array(value, dtype=kinds.get(item.name, np.float64))
            if not array.size and item.name in _BRANCH_LIMITS:
                array = np.full(network.n_branch, _BRANCH_LIMITS[item.name])
            elif not array.size and item.name == "gen_cost":
                array = np.zeros((network.n_gen, 3))
            elif not array.size and item.name == "gen_is_grid":
                array = np.zeros(network.n_gen, dtype=np.bool_)
            array.setflags(write=False)
            object.__setattr__(network, item.name, array)


def _check_shapes(network: Network) -> None:
    expected = {name: network.n_bus for name in _BUS_FLOATS}
    expected |= {name: network.n_branch for name in (*_BRANCH_FLOATS, *_BRANCH_LIMITS, "rating", "closed", "open_end")}
    expected |= {"kind": network.n_branch, "from_bus": network.n_branch, "to_bus": network.n_branch}
    expected |= {"v_substation": len(network.substation)}
    expected |= {name: network.n_gen for name in ("gen_bus", *_GEN_LIMITS, "gen_cost", "gen_is_grid")}
    for name, length in expected.items():
        if len(getattr(network, name)) != length:
            raise NetworkError(f"{network.name}: {name} has {len(getattr(network, name))} entries, expected {length}")
    if network.gen_cost.shape != (network.n_gen, 3):
        raise NetworkError(
            f"{network.name}: gen_cost has shape {network.gen_cost.shape}, expected ({network.n_gen}, 3); "
            "give c2, c1 and c0 of every generator"
        )


def _check_names(network: Network) -> None:
    for label, names in (("bus", network.bus_name), ("branch", network.branch_name), ("generator", network.gen_name)):
        seen: set[str] = set()
        for name in names:
            if name in seen:
                raise NetworkError(f"{network.name}: {label} {name!r} appears twice; give every {label} its own name")
            seen.add(name)


def _check_values(network: Network) -> None:
    if not (np.isfinite(network.base_mva) and network.base_mva > 0):
        raise NetworkError(f"{network.name}: base_mva is {network.base_mva}; it must be positive")
    for names, label, array_names in (
        (network.bus_name, "bus", _BUS_FLOATS),
        (network.branch_name, "branch", _BRANCH_FLOATS),
    ):
        for array_name in array_names:
            bad = np.flatnonzero(~np.isfinite(getattr(network, array_name)))
            if bad.size:
                value = getattr(network, array_name)[bad[0]]
                raise NetworkError(
                    f"{network.name}: {array_name} of {label} {names[bad[0]]!r} is {value}; give a finite number"
                )
    # The star equivalent of a three-winding transformer can carry a negative resistance; a line cannot.
    bad = np.flatnonzero((network.r < 0) & (np.array(network.kind) != "trafo"))
    if bad.size:
        raise NetworkError(
            f"{network.name}: r of branch {network.branch_name[bad[0]]!r} is {network.r[bad[0]]:g}; "
            "it must be zero or more"
        )
    for array_name, low in (("vn_kv", 1e-9), ("tap", 1e-9), ("rating", 0.0), ("s_max", 0.0)):
        values = getattr(network, array_name)
        names, label = (network.bus_name, "bus") if array_name == "vn_kv" else (network.branch_name, "branch")
        bad = np.flatnonzero(~(values >= low))
        if bad.size:
            raise NetworkError(
                f"{network.name}: {array_name} of {label} {names[bad[0]]!r} is {values[bad[0]]:g}; "
                f"it must be {'positive' if low else 'zero or more'}"
            )
    bad = np.flatnonzero(~(network.v_min <= network.v_max))
    if bad.size:
        raise NetworkError(
            f"{network.name}: bus {network.bus_name[bad[0]]!r} has v_min {network.v_min[bad[0]]:g} above "
            f"v_max {network.v_max[bad[0]]:g}; swap them"
        )
    for k, kind in enumerate(network.kind):
        if kind not in BRANCH_KINDS:
            raise NetworkError(
                f"{network.name}: branch {network.branch_name[k]!r} is of kind {kind!r}; "
                f"use one of {', '.join(BRANCH_KINDS)}"
            )
    if not np.isin(network.open_end, (0, 1, 2)).all():
        raise NetworkError(f"{network.name}: open_end must be 0 (both ends), 1 (from) or 2 (to)")
    for name in ("from_bus", "to_bus"):
        ends = getattr(network, name)
        bad = np.flatnonzero((ends < 0) | (ends >= network.n_bus))
        if bad.size:
            raise NetworkError(
                f"{network.name}: {name} of branch {network.branch_name[bad[0]]!r} is {ends[bad[0]]}; "
                f"buses are numbered 0 to {network.n_bus - 1}"
            )
    bad = np.flatnonzero(network.from_bus == network.to_bus)
    if bad.size:
        raise NetworkError(
            f"{network.name}: branch {network.branch_name[bad[0]]!r} starts and ends at bus "
            f"{network.bus_name[network.from_bus[bad[0]]]!r}; remove it"
        )


def _check_generators(network: Network) -> None:
    bad = np.flatnonzero((network.gen_bus < 0) | (network.gen_bus >= network.n_bus))
    if bad.size:
        raise NetworkError(
            f"{network.name}: gen_bus of generator {network.gen_name[bad[0]]!r} is {network.gen_bus[bad[0]]}; "
            f"buses are numbered 0 to {network.n_bus - 1}"
        )
    for label, names, low_name, high_name in (
        ("generator", network.gen_name, "gen_p_min", "gen_p_max"),
        ("generator", network.gen_name, "gen_q_min", "gen_q_max"),
        ("branch", network.branch_name, "angle_min", "angle_max"),
    ):
        low, high = getattr(network, low_name), getattr(network, high_name)
        bad = np.flatnonzero(~((low <= high) & (low < np.inf) & (high > -np.inf)))
        if bad.size:
            raise NetworkError(
                f"{network.name}: {label} {names[bad[0]]!r} has {low_name} {low[bad[0]]:g} and {high_name} "
                f"{high[bad[0]]:g}, between which there is nothing; give a lower limit not above the upper one"
            )
    bad = np.flatnonzero(~np.isfinite(network.gen_cost).all(axis=1))
    if bad.size:
        raise NetworkError(
            f"{network.name}: gen_cost of generator {network.gen_name[bad[0]]!r} is {network.gen_cost[bad[0]]}; "
            "give three finite numbers"
        )


def _check_substations(network: Network) -> None:
    if not len(network.substation):
        raise NetworkError(f"{network.name}: no substation; mark the bus that feeds the network (type 'slack')")
    if ((network.substation < 0) | (network.substation >= network.n_bus)).any():
        raise NetworkError(f"{network.name}: substation is outside buses 0 to {network.n_bus - 1}")
    if len(set(network.substation.tolist())) < len(network.substation):
        raise NetworkError(f"{network.name}: a bus is named twice as substation; name it once")
    if not (np.isfinite(network.v_substation).all() and (np.abs(network.v_substation) > 0).all()):
        raise NetworkError(f"{network.name}: v_substation must be finite and not zero")
    astray = np.flatnonzero(network.gen_is_grid & ~np.isin(network.gen_bus, network.substation))
    if astray.size:
        raise NetworkError(
            f"{network.name}: generator {network.gen_name[astray[0]]!r} stands for the grid above (gen_is_grid) at bus "
            f"{network.bus_name[network.gen_bus[astray[0]]]!r}, which is no substation; move it to one, or set gen_is_grid to "
            "False"
        )


def _check_reachable(network: Network) -> None:
    graph = nx.Graph()
    graph.add_nodes_from(range(network.n_bus))
    graph.add_edges_from(zip(network.from_bus.tolist(), network.to_bus.tolist(), strict=True))
    fed: set[int] = set()
    for bus in network.substation.tolist():
        if bus not in fed:
            fed |= nx.node_connected_component(graph, bus)
    island = [network.bus_name[i] for i in range(network.n_bus) if i not in fed]
    if island:
        shown = ", ".join(island[:5]) + (", ..." if len(island) > 5 else "")
        raise NetworkError(
            f"{network.name}: {len(island)} bus(es) form an island that no branch or tie joins to a substation: "
            f"{shown}; add the missing branch or remove them"
        )


def _index(names: Sequence[str], name: str, label: str, network: str) -> int:
    try:
        return names.index(str(name))
    except ValueError:
        shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
        raise NetworkError(f"{network}: no {label} {name!r}; there are {shown}") from None
