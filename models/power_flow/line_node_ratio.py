"""Line-node power ratio: how the power in each line follows the power drawn at each bus.

Source: Zhou et al., Energy Engineering 121(6), 2024, equations (18), (19). Per unit; U bus
voltages, I_i current drawn at bus i, J_k current from -> to through the series impedance of line k.

    (19)  M_lambda = Y_line A^T Y_node^-1,   lambda_ki = d J_k / d I_i
          A (bus x line) is -1 / conj(t) at the from end and +1 at the to end (t tap and shift), so
          that the current drawn, not the one injected, counts as positive; Y_node has bus and
          branch shunts on its diagonal and its substation rows and columns removed (their voltages
          stand still)
    (18)  delta_ki = d P_k / d p_i = +- Re(conj(lambda_ki) U_k / U_i)

P_k is the active power that enters line k at its head, the end where power runs in. U_k is the
voltage there, behind the tap at a from end. The sign is + where the head is the from end. With real
lambda this is the paper's (18). In a mesh whose lines differ in r / x, lambda is complex, and the
paper's form would lose its imaginary part. The change of U itself is left out, as in the paper, and
so is that of a line's own charging: both are of the order of load times impedance. A load shed at
constant power factor takes its reactive power along:

    (a)   delta_ki = +- Re(conj(lambda_ki) U_k / U_i (1 + j q_i / p_i))

Nothing is divided by an impedance. Each column of M_lambda is a unit current walked along the
spanning forest; each loop adds an unknown current that must satisfy its own voltage drop. So a line
may have zero impedance; only a loop without any impedance has no answer. A dark bus has a zero
column, an open or dark line a zero row.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

import numpy as np
from numba import njit, prange
from numpy.typing import ArrayLike

from feederguard.models.arrays import (
    BoolArray,
    ComplexArray,
    FloatArray,
    IntArray,
    inner,
    plain,
    threads_for,
)
from feederguard.models.network import Network, NetworkError
from feederguard.models.power_flow.dense import solve_columns
from feederguard.models.power_flow.flow import PowerFlow
from feederguard.models.power_flow.forest import collect_shunts, find_forest, forest_room
from feederguard.models.power_flow.layout import prepare

STAMP = "73c6e6f74bfd6ad07fde5213798a96d7bcc74a38c945ae0463ddb74a963e7739"

CACHE_MB = 128.0


def line_node_ratio(network: Network, closed: ArrayLike) -> ComplexArray:
    """Return M_lambda of (19), complex (n_branch, n_bus), for branch states `closed` (n_branch,).

    Raises `NetworkError` when `closed` has another shape, or closes a loop that has no impedance.
    """
    return _solved(network, closed)[0]


def nodal_impedance(network: Network, closed: ArrayLike) -> ComplexArray:
    """Return Y_node^-1 of (19), complex (n_bus, n_bus) in pu.

    It is the voltage drop at bus j per current drawn at bus i.

    Rows and columns of substations and dark buses are zero. Raises as `line_node_ratio`.
    """
    return _solved(network, closed)[1]


def power_sensitivity(network: Network, ratio: ComplexArray, flow: PowerFlow) -> FloatArray:
    """Return delta of (18) at `flow`.

    It is active power into each line at its head per active power drawn at each bus.

    ratio: (n_branch, n_bus) or (B, n_branch, n_bus). The result is ([B,] n_branch, n_bus), 0 for
    dark buses.
    """
    return np.asarray(_complex_sensitivity(network, ratio, flow).real)


def shedding_sensitivity(
    network: Network, ratio: ComplexArray, flow: PowerFlow, p_load: FloatArray, q_load: FloatArray
) -> FloatArray:
    """Return delta of (a): as `power_sensitivity`, for loads that keep their power factor.

    p_load, q_load: ([B,] n_bus) demand. A bus without active demand has nothing to shed and gets 0.
    """
    loaded = p_load > 0
    tangent = np.divide(q_load, p_load, out=np.zeros(np.shape(p_load)), where=loaded)
    factor = np.where(loaded, 1.0 + 1j * tangent, 0.0)
    return np.asarray((_complex_sensitivity(network, ratio, flow) * factor[..., None, :]).real)


class RatioCache:
    """M_lambda and Y_node^-1 of the topologies used last.

    They take at most `size_mb`, but one topology always fits.

    They lie in `ratio` (capacity, n_branch, n_bus) and `impedance` (capacity, n_bus, n_bus), memory
    that is only taken once used; a loop without impedance leaves NaN in its slot.
    """

    def __init__(self, network: Network, size_mb: float = CACHE_MB) -> None:
        self.network = network
        per_topology = 16 * network.n_bus * (network.n_branch + network.n_bus)
        self.capacity = max(1, int(size_mb * 2**20 / per_topology))
        self.ratio: ComplexArray = np.empty(
            (self.capacity, network.n_branch, network.n_bus), np.complex128
        )
        self.impedance: ComplexArray = np.empty(
            (self.capacity, network.n_bus, network.n_bus), np.complex128
        )
        self._slot: OrderedDict[bytes, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._slot)

    def slots(self, closed: BoolArray) -> IntArray:
        """Return the slots of the topologies `closed` (T, n_branch), all different.

        Those that are not in the cache are computed.

        Valid until the next call. Raises ValueError when T exceeds the capacity.
        """
        if len(closed) > self.capacity:
            raise ValueError(
                f"{len(closed)} topologies asked of a cache of {self.capacity}; ask for fewer at a "
                "time"
            )
        slots = np.full(len(closed), -1, dtype=np.int64)
        keys = [row.tobytes() for row in np.packbits(closed, axis=1)]
        for k, key in enumerate(keys):
            if key in self._slot:
                self._slot.move_to_end(key)
                slots[k] = self._slot[key]
        new = np.flatnonzero(slots < 0)
        for k in new.tolist():
            # The oldest is not one of this call's: those found have just become the newest.
            slots[k] = (
                len(self._slot)
                if len(self._slot) < self.capacity
                else self._slot.popitem(last=False)[1]
            )
            self._slot[keys[k]] = int(slots[k])
        if len(new):
            _fill(self.network, closed[new], slots[new], self.ratio, self.impedance)
        return slots


def _solved(network: Network, closed: ArrayLike) -> tuple[ComplexArray, ComplexArray]:
    states = np.array(closed, dtype=bool)
    if states.shape != (network.n_branch,):
        raise NetworkError(
            f"{network.name}: closed has shape {states.shape}; expected ({network.n_branch},), a "
            "state per branch"
        )
    ratio = np.empty((1, network.n_branch, network.n_bus), np.complex128)
    impedance = np.empty((1, network.n_bus, network.n_bus), np.complex128)
    stuck = _fill(network, states[None], np.zeros(1, np.int64), ratio, impedance)[0]
    if stuck >= 0:
        raise NetworkError(
            f"{network.name}: closing branch {network.branch_name[stuck]!r} makes a loop without "
            "impedance, whose currents nothing determines; open it, or give it an impedance"
        )
    return ratio[0], impedance[0]


def _complex_sensitivity(network: Network, ratio: ComplexArray, flow: PowerFlow) -> ComplexArray:
    """Return +- conj(lambda) U_k / U_i."""
    forward = flow.s_from.real >= flow.s_to.real
    behind_tap = flow.voltage[..., network.from_bus] / (network.tap * np.exp(1j * network.shift))
    head = np.where(forward, behind_tap, -flow.voltage[..., network.to_bus])
    live = np.abs(flow.voltage) > 0
    per_voltage = np.where(live, 1.0 / np.where(live, flow.voltage, 1.0), 0.0)
    return np.asarray(np.conj(ratio) * head[..., :, None] * per_voltage[..., None, :])


def _fill(
    network: Network,
    closed: BoolArray,
    slots: IntArray,
    ratio: ComplexArray,
    impedance: ComplexArray,
) -> IntArray:
    """Fill the slots, and return for each topology a branch that closes a loop without impedance.

    It is -1 where there is no such branch.
    """
    # A column takes some ten nanoseconds a bus, more where loops are closed.
    with threads_for(2e-2 * len(closed) * network.n_bus**2):
        return np.asarray(_fill_slots(prepare(network), plain(closed), slots, ratio, impedance))


class Tree(NamedTuple):
    """The linear network (19) on a forest, by position in walking order, (n_live,) each."""

    z: ComplexArray  # series impedance of the branch to the parent
    near: ComplexArray  # ratio on the parent's side of z
    far: ComplexArray  # ratio on the child's side
    seen: ComplexArray  # the subtree's admittance as its parent sees it through z
    passed: ComplexArray  # share of a drawn current that z passes on
    sign: FloatArray  # 1 where the branch runs away from the root, -1 where towards it
    # Buffers of one response: current drawn at each bus (overwritten), voltage, series current.
    drawn: ComplexArray
    v: ComplexArray
    j: ComplexArray


@njit(cache=True, parallel=True, error_model="numpy")
def _fill_slots(feeder, closed, slots, ratio, impedance):  # type: ignore[no-untyped-def]
    stuck = np.empty(closed.shape[0], np.int64)
    for t in prange(closed.shape[0]):
        stuck[t] = _fill_one(feeder, closed[t], ratio[slots[t]], impedance[slots[t]])
    return stuck


@njit(error_model="numpy")
def _fill_one(feeder, closed, ratio, impedance):  # type: ignore[no-untyped-def]
    """Fill one slot, (n_branch, n_bus) and (n_bus, n_bus); return as `_fill`."""
    forest = find_forest(feeder, closed, forest_room(feeder))
    total = feeder.y_bus.copy()
    if feeder.any_branch_shunt:
        collect_shunts(feeder, closed, total)
    tree = _tree(feeder, forest, total)
    ratio[:] = 0.0
    impedance[:] = 0.0
    n, n_root = forest.n_live, len(feeder.substation)
    order, branch = forest.order, forest.branch
    for i in range(n_root, n):
        tree.drawn[:] = 0.0
        tree.drawn[i] = 1.0
        _respond(forest, tree)
        for k in range(n_root, n):
            ratio[branch[k], order[i]] = tree.sign[k] * tree.j[k]
            impedance[order[k], order[i]] = -tree.v[k]
    if not forest.n_link:
        return -1
    stuck = _close_loops(feeder, forest, tree, ratio, impedance)
    return forest.links[stuck] if stuck >= 0 else -1


@njit(error_model="numpy")
def _close_loops(feeder, forest, tree, ratio, impedance):  # type: ignore[no-untyped-def]
    """Add what the links carry; return the link whose loop has no impedance, -1 if there is none.

    The forest's answer to a unit current in each link gives the currents that meet every link's own
    voltage drop.
    """
    n_branch, n_bus = ratio.shape
    n_link = forest.n_link
    link_v = np.zeros((n_link, n_bus), np.complex128)
    link_j = np.zeros((n_link, n_branch), np.complex128)
    _answer_links(feeder, forest, tree, link_v, link_j)
    system = np.empty((n_link, n_link), np.complex128)
    current = np.empty((n_link, n_bus), np.complex128)
    for c in range(n_link):
        b = forest.links[c]
        i, j, tap = feeder.from_bus[b], feeder.to_bus[b], feeder.ratio[b]
        for d in range(n_link):
            system[c, d] = link_v[d, j] - link_v[d, i] / tap
        system[c, c] += feeder.z[b]
        for bus in range(n_bus):
            current[c, bus] = impedance[j, bus] - impedance[i, bus] / tap
    stuck = solve_columns(system, current, 1e-13)
    for c in range(n_link):
        for b in range(n_branch):
            if link_j[c, b] != 0.0:
                for bus in range(n_bus):
                    ratio[b, bus] += link_j[c, b] * current[c, bus]
        for i in range(n_bus):
            if link_v[c, i] != 0.0:
                for bus in range(n_bus):
                    impedance[i, bus] -= link_v[c, i] * current[c, bus]
    return stuck


@inner()
def _answer_links(feeder, forest, tree, link_v, link_j):  # type: ignore[no-untyped-def]
    """Fill the voltages (n_link, n_bus) and currents (n_link, n_branch) per link current."""
    for c in range(forest.n_link):
        b = forest.links[c]
        tree.drawn[:] = 0.0
        tree.drawn[forest.place[feeder.from_bus[b]]] += 1.0 / np.conj(feeder.ratio[b])
        tree.drawn[forest.place[feeder.to_bus[b]]] -= 1.0
        _respond(forest, tree)
        for k in range(forest.n_live):
            if forest.parent[k] >= 0:
                link_v[c, forest.order[k]] = tree.v[k]
                link_j[c, forest.branch[k]] = tree.sign[k] * tree.j[k]
        link_j[c, b] = 1.0


@njit(error_model="numpy")
def _tree(feeder, forest, total):  # type: ignore[no-untyped-def]
    """Return the `Tree` of a forest; total: (n_bus,) shunts."""
    n = forest.n_live
    tree = Tree(
        np.zeros(n, np.complex128),
        np.zeros(n, np.complex128),
        np.zeros(n, np.complex128),
        np.zeros(n, np.complex128),
        np.zeros(n, np.complex128),
        np.zeros(n),
        np.zeros(n, np.complex128),
        np.zeros(n, np.complex128),
        np.zeros(n, np.complex128),
    )
    admittance = np.empty(n, np.complex128)
    for k in range(n):
        admittance[k] = total[forest.order[k]]
    for k in range(n - 1, -1, -1):
        up, b = forest.parent[k], forest.branch[k]
        if up < 0:
            continue
        forward = feeder.from_bus[b] == forest.order[up]
        near = 1.0 / feeder.ratio[b] if forward else complex(1.0, 0.0)
        far = complex(1.0, 0.0) if forward else feeder.ratio[b]
        behind = abs(far) ** 2 * admittance[k]
        passed = 1.0 / (1.0 + behind * feeder.z[b])
        tree.z[k], tree.near[k], tree.far[k] = feeder.z[b], near, far
        tree.seen[k], tree.passed[k] = behind * passed, passed
        tree.sign[k] = 1.0 if forward else -1.0
        admittance[up] += abs(near) ** 2 * behind * passed
    return tree


@inner()
def _respond(forest, tree):  # type: ignore[no-untyped-def]
    """Fill the voltages v and series currents j of `tree` that its currents `drawn` cause."""
    drawn, v, j = tree.drawn, tree.v, tree.j
    for k in range(forest.n_live - 1, -1, -1):
        up = forest.parent[k]
        if up >= 0 and drawn[k] != 0.0:
            j[k] = tree.passed[k] * np.conj(tree.far[k]) * drawn[k]
            drawn[up] += np.conj(tree.near[k]) * j[k]
        else:
            j[k] = 0.0
    for k in range(forest.n_live):
        up = forest.parent[k]
        if up < 0:
            v[k] = 0.0
            continue
        above = tree.near[k] * v[up]
        j[k] += tree.seen[k] * above
        v[k] = tree.far[k] * (above - tree.z[k] * j[k])
