"""AC power flow of a feeder, batched: the truth that every decision in FeederGuard is judged by.

Constant-power demand at every bus, substations at fixed voltage, the branch model of `network.py`; radial or meshed, with
one topology for the whole batch or one per item. The method (an exact Newton step by one sweep over the tree, loops closed
by link currents) is derived in `newton_sweep.py`; an item counts as converged only when the power mismatch at every
bus is below `tolerance_mva`, and one that fails is marked and filled with NaN while the rest of the batch goes on.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from weakref import WeakKeyDictionary

import numba
import numpy as np
from numpy.typing import ArrayLike, NDArray

from feederguard.models.network import BoolArray, ComplexArray, FloatArray, IntArray, Network
from feederguard.models.newton_sweep import find_forest, solve_many_forests, solve_one_forest
from feederguard.models.threads import threads_for


@dataclass(frozen=True, eq=False)
class PowerFlow:
    """The solved state of a batch; an unbatched call returns the same fields without the B axis.

    A de-energised bus has voltage 0 and `energised` False. An item that did not converge has `converged` False and NaN
    in every other field but `energised` and the lost load.
    """

    network: Network
    voltage: ComplexArray  # (B, n_bus) pu
    series_current: ComplexArray  # (B, n_branch) pu, from -> to, through r + jx
    converged: NDArray[np.bool_]  # (B,)
    energised: BoolArray  # (B, n_bus)
    iterations: NDArray[np.int64]  # (B,) Newton steps, -1 where it failed
    closed: BoolArray  # (B, n_branch) or (n_branch,), as asked
    p: FloatArray  # (B, n_bus) or (n_bus,) net active demand as asked, pu
    q: FloatArray  # (B, n_bus) or (n_bus,) net reactive demand as asked, pu

    @cached_property
    def current_from(self) -> ComplexArray:
        """Current into each branch at its from end, pu, (B, n_branch); charging included."""
        return self._end_currents[0]

    @cached_property
    def current_to(self) -> ComplexArray:
        """Current into each branch at its to end, pu, (B, n_branch); charging included."""
        return self._end_currents[1]

    @cached_property
    def s_from(self) -> ComplexArray:
        """Apparent power into each branch at its from end, pu, (B, n_branch)."""
        return self.voltage[..., self.network.from_bus] * np.conj(self.current_from)

    @cached_property
    def s_to(self) -> ComplexArray:
        """Apparent power into each branch at its to end, pu, (B, n_branch)."""
        return self.voltage[..., self.network.to_bus] * np.conj(self.current_to)

    @cached_property
    def loading(self) -> FloatArray:
        """Larger end current over the branch rating, (B, n_branch); 0 where there is no rating."""
        larger = np.maximum(np.abs(self.current_from), np.abs(self.current_to))
        return np.asarray(larger / np.where(self.network.rating > 0, self.network.rating, np.finfo(float).tiny))

    @cached_property
    def loss_mw(self) -> NDArray[np.float64]:
        """Active power lost in branches, MW, (B,)."""
        return np.asarray(self.network.base_mva * (self.s_from.real + self.s_to.real).sum(axis=-1))

    @cached_property
    def p_substation_mw(self) -> FloatArray:
        """Active power drawn from the grid above at each substation, MW, (B, n_substation)."""
        network = self.network
        at_bus = np.zeros(self.voltage.shape)
        for end, power in ((network.from_bus, self.s_from.real), (network.to_bus, self.s_to.real)):
            np.add.at(at_bus.T, end, power.T)
        at_bus += network.g_shunt * np.abs(self.voltage) ** 2 + self.p
        return np.asarray(network.base_mva * at_bus[..., network.substation])

    @cached_property
    def lost_load_mw(self) -> NDArray[np.float64]:
        """Net active demand of de-energised buses that are not net producers, MW, (B,)."""
        dark = np.where(self.energised, 0.0, np.maximum(self.p, 0.0))
        return np.asarray(self.network.base_mva * dark.sum(axis=-1))

    @cached_property
    def v_min_pu(self) -> NDArray[np.float64]:
        """Lowest voltage magnitude over energised buses, pu, (B,)."""
        return np.asarray(np.where(self.energised, np.abs(self.voltage), np.inf).min(axis=-1))

    @cached_property
    def v_max_pu(self) -> NDArray[np.float64]:
        """Highest voltage magnitude over energised buses, pu, (B,)."""
        return np.asarray(np.where(self.energised, np.abs(self.voltage), -np.inf).max(axis=-1))

    @cached_property
    def mismatch_mva(self) -> NDArray[np.float64]:
        """Largest difference at any energised bus between its demand and what its branches bring, MVA, (B,).

        Found from the voltages alone by Ohm's law, where a branch has an impedance, so it checks the solver.
        """
        network = self.network
        ratio = network.tap * np.exp(1j * network.shift)
        v = np.atleast_2d(self.voltage)
        closed = np.broadcast_to(self.closed, (len(v), network.n_branch))
        drop = v[:, network.from_bus] / ratio - v[:, network.to_bus]
        z = np.where(network.z == 0, 1.0, network.z)
        series = np.where(network.z == 0, np.atleast_2d(self.series_current), np.where(closed, drop / z, 0))
        again = PowerFlow(
            network, v, series, self.converged, self.energised, self.iterations, closed, self.p, self.q
        )  # fmt: skip
        out = (network.g_shunt + 1j * network.b_shunt) * v
        for end, current in zip((network.from_bus, network.to_bus), again._end_currents, strict=True):
            np.add.at(out.T, end, current.T)
        wrong = np.abs(v * np.conj(out) + self.p + 1j * self.q)
        wrong[:, network.substation] = 0.0
        wrong[~np.atleast_2d(self.energised)] = 0.0
        worst = network.base_mva * wrong.max(axis=1)
        return np.asarray(worst if self.voltage.ndim == 2 else worst[0])

    @cached_property
    def _end_currents(self) -> tuple[ComplexArray, ComplexArray]:
        network = self.network
        ratio = network.tap * np.exp(1j * network.shift)
        v_from, v_to = self.voltage[..., network.from_bus], self.voltage[..., network.to_bus]
        y = branch_admittances(network)
        at_from = self.series_current / np.conj(ratio) + np.where(self.closed, y.closed[:, 0], 0) * v_from
        at_to = -self.series_current + np.where(self.closed, y.closed[:, 1], 0) * v_to
        if network.open_end.any():
            at_from += np.where(~self.closed & (network.open_end == 2), y.open[:, 0], 0) * v_from
            at_to += np.where(~self.closed & (network.open_end == 1), y.open[:, 1], 0) * v_to
        return at_from, at_to


def solve_power_flow(
    network: Network,
    p: ArrayLike | None = None,
    q: ArrayLike | None = None,
    closed: ArrayLike | None = None,
    *,
    start: ArrayLike | None = None,
    tolerance_mva: float = 1e-8,
    max_iterations: int = 20,
) -> PowerFlow:
    """Return the AC power flow of one state or of a batch.

    p, q: net demand in pu, (n_bus,) or (B, n_bus), positive when consuming; default the nominal loads less the local
    generation. closed: branch states, (n_branch,) or (B, n_branch); default the normal ones. Batched and unbatched
    arguments mix. An item that fails (no solution, NaN demand) is marked in `converged`; it never raises.

    Warns (UserWarning) when p is left to its default where generators wait to be dispatched, as they then feed nothing.
    Raises ValueError when a shape does not fit the network or two batch sizes disagree.
    """
    if p is None:
        warn_of_idle_generators(
            network, "solve_power_flow: give p and q with their output, or run an optimal power flow"
        )
    p_array = _as_batch(network.p_load - network.p_gen if p is None else p, "p", network.n_bus, "bus")
    q_array = _as_batch(network.q_load - network.q_gen if q is None else q, "q", network.n_bus, "bus")
    c_array = _as_batch(network.closed if closed is None else closed, "closed", network.n_branch, "branch", bool)
    given = {"p": p_array, "q": q_array, "closed": c_array}
    if start is not None:
        given["start"] = _as_batch(start, "start", network.n_bus, "bus", complex)
    batched = {name: a.shape[0] for name, a in given.items() if a.ndim == 2}
    if len(set(batched.values())) > 1:
        sizes = ", ".join(f"{name} has {size}" for name, size in batched.items())
        raise ValueError(f"solve_power_flow: batch sizes disagree: {sizes}; give each 1 axis or the same first axis")
    n_item = next(iter(batched.values()), 1)

    voltage = np.empty((n_item, network.n_bus), np.complex128)
    current = np.empty((n_item, network.n_branch), np.complex128)
    iterations = np.empty(n_item, np.int64)
    energised = np.empty((n_item, network.n_bus), np.bool_)
    rows = np.atleast_2d(c_array)
    if len(rows) > 1 and (rows == rows[0]).all():
        rows = rows[:1]
    # Two Newton steps of a tree take about 0.1 us a bus, more where it is meshed.
    with threads_for(0.1 * n_item * network.n_bus):
        _run(
            prepare(network), np.atleast_2d(p_array), np.atleast_2d(q_array), rows,
            np.atleast_2d(given["start"]) if "start" in given else np.empty((0, network.n_bus), np.complex128),
            tolerance_mva / network.base_mva, max_iterations, voltage, current, iterations, energised,
        )  # fmt: skip
    # Demand that is not a number anywhere, even at the substation, makes no power flow.
    known = np.isfinite(np.atleast_2d(p_array)).all(axis=1) & np.isfinite(np.atleast_2d(q_array)).all(axis=1)
    bad = ~np.broadcast_to(known, (n_item,))
    voltage[bad], current[bad], iterations[bad] = np.nan, np.nan, -1
    converged = iterations >= 0
    if batched:
        return PowerFlow(network, voltage, current, converged, energised, iterations, c_array, p_array, q_array)
    return PowerFlow(
        network, voltage[0], current[0], converged[0], energised[0], iterations[0], c_array, p_array, q_array
    )


def warn_of_idle_generators(network: Network, remedy: str) -> None:
    """Warn when the network has generators for an optimal power flow, which nothing but that reads.

    Those that stand for the grid above are left out: what they would supply, the substation does.
    """
    idle = int((~network.gen_is_grid).sum())
    if idle:
        warnings.warn(
            f"{network.name}: its {idle} dispatchable generators feed nothing here, only p_gen and q_gen do; {remedy}",
            stacklevel=3,
        )


@dataclass(frozen=True, eq=False)
class BranchAdmittances:
    """Shunt admittances of a branch as its two buses see them."""

    closed: ComplexArray  # (n_branch, 2) while it is closed
    open: ComplexArray  # (n_branch, 2) at the end it hangs from, the other end being open


@dataclass(frozen=True, eq=False)
class _Prepared:
    """What the kernels need of a network, laid out once."""

    graph: tuple[IntArray, IntArray, IntArray]
    branches: tuple[IntArray, IntArray, ComplexArray, ComplexArray]
    shunts: tuple[bool, IntArray, ComplexArray, ComplexArray, ComplexArray]
    substation: IntArray
    v_substation: ComplexArray


_LANES_PAY_FROM = 8  # smaller batches would fill most lanes with copies

_prepared: WeakKeyDictionary[Network, _Prepared] = WeakKeyDictionary()


def prepare(network: Network) -> _Prepared:
    if network in _prepared:
        return _prepared[network]
    ends = np.concatenate([network.from_bus, network.to_bus])
    others = np.concatenate([network.to_bus, network.from_bus])
    by_bus = np.argsort(ends, kind="stable")
    start = np.concatenate([[0], np.cumsum(np.bincount(ends, minlength=network.n_bus))]).astype(np.int64)
    y = branch_admittances(network)
    prepared = _Prepared(
        (start, (by_bus % network.n_branch).astype(np.int64), others[by_bus]),
        (network.from_bus.copy(), network.to_bus.copy(), network.z, network.tap * np.exp(1j * network.shift)),
        (
            bool(np.any(y.closed) or np.any(network.open_end[:, None] * y.open)),
            network.open_end.copy(), y.closed, y.open, network.g_shunt + 1j * network.b_shunt,
        ),
        network.substation.copy(),
        network.v_substation.copy(),
    )  # fmt: skip
    _prepared[network] = prepared
    return prepared


def branch_admittances(network: Network) -> BranchAdmittances:
    y_from = network.g_from + 1j * network.b_from
    y_to = network.g_to + 1j * network.b_to
    tap_squared = network.tap**2

    def hanging(near: ComplexArray, far: ComplexArray) -> ComplexArray:
        # 1 / (z + 1 / y) written without dividing by a charging that is zero.
        return near + far / (1.0 + network.z * far)

    return BranchAdmittances(
        np.stack([y_from / tap_squared, y_to], axis=1),
        np.stack([hanging(y_from, y_to) / tap_squared, hanging(y_to, y_from)], axis=1),
    )


def _run(
    prepared: _Prepared, p: FloatArray, q: FloatArray, closed: BoolArray, start: ComplexArray, tolerance: float,
    max_iterations: int, voltage: ComplexArray, current: ComplexArray, iterations: IntArray, energised: BoolArray,
) -> None:  # fmt: skip
    """Fill the outputs. Choose the kernel: side by side on one tree where the whole batch shares it, else item by item."""
    if not len(voltage):
        return
    n_chunk = max(1, min(4 * numba.get_num_threads(), len(voltage)))
    common: Any = (tolerance, max_iterations, n_chunk, voltage, current, iterations)
    if len(closed) == 1 and len(voltage) >= _LANES_PAY_FROM and not len(start):
        forest = _radial_forest(prepared, closed[0])
        if forest is not None:
            order, arguments = forest
            solve_one_forest(p, q, *arguments, *common)
            energised[:] = False
            energised[:, order] = True
            return
    solve_many_forests(
        p, q, closed, prepared.graph, prepared.branches, prepared.shunts, prepared.substation, prepared.v_substation,
        start, *common, energised,
    )  # fmt: skip


def _radial_forest(prepared: _Prepared, closed: BoolArray) -> tuple[IntArray, Any] | None:
    """Return the walking order and the arguments of `solve_one_forest`, or None where the network is meshed."""
    from_bus, to_bus, z, ratio = prepared.branches
    any_branch_shunt, open_end, y_closed, y_open, y_bus = prepared.shunts
    n_bus = len(y_bus)
    order, parent, branch, place = (np.empty(n_bus, np.int64) for _ in range(4))
    links, seen = np.empty(len(z), np.int64), np.empty(len(z), np.bool_)
    n_live, n_link = find_forest(
        closed, *prepared.graph, prepared.substation, order, parent, branch, links, seen, place
    )
    if n_link:
        return None
    order, parent, branch = order[:n_live].copy(), parent[:n_live].copy(), branch[:n_live].copy()
    total = y_bus.copy()
    if any_branch_shunt:
        for end, column, hanging_end in ((from_bus, 0, 2), (to_bus, 1, 1)):
            np.add.at(total, end, np.where(closed, y_closed[:, column], 0))
            np.add.at(total, end, np.where(~closed & (open_end == hanging_end), y_open[:, column], 0))
    root = parent < 0
    forward = ~root & (from_bus[branch] == order[parent])
    near = np.where(forward, 1.0 / ratio[branch], 1.0 + 0j)
    far = np.where(forward | root, 1.0 + 0j, ratio[branch])
    v_root = np.zeros(n_live, np.complex128)
    v_root[: len(prepared.substation)] = prepared.v_substation
    return order, (
        order,
        parent,
        forward,
        branch,
        near,
        far,
        np.where(root, 0, z[branch]),
        total[order],
        v_root,
    )


def _as_batch(value: ArrayLike, name: str, width: int, label: str, dtype: type = float) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.ascontiguousarray(value, dtype=dtype)
    except (TypeError, ValueError) as error:
        raise ValueError(f"solve_power_flow: {name} must hold numbers, one per {label}: {error}") from None
    if dtype is bool and not np.isin(np.asarray(value), (0, 1)).all():
        raise ValueError(
            f"solve_power_flow: {name} holds other values than 0 and 1; give True (closed) or False per {label}"
        )
    if array.ndim not in (1, 2) or array.shape[-1] != width:
        raise ValueError(
            f"solve_power_flow: {name} has shape {array.shape}; expected ({width},) or (B, {width}), one per {label}"
        )
    # The kernels are compiled for writable arrays; a read-only one would compile them anew.
    return array if array.flags.writeable else array.copy()
