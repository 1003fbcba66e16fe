"""Line-node power ratio: how the power in every line follows the power drawn at every bus, per
topology.

Source: Zhou et al., Energy Engineering 121(6), 2024, equations (18), (19). Per unit; U bus
voltages, I_i current drawn at bus i, J_k current from -> to through the series impedance of line k.

    (19)  M_lambda = Y_line A^T Y_node^-1,   lambda_ki = d J_k / d I_i
          A (bus x line) is -1 / conj(t) at the from end and +1 at the to end (t tap and shift), so
          that the current drawn, not the one injected, counts as positive; Y_node has bus and
          branch shunts on its diagonal and its substation rows and columns removed (their voltages
          stand still)
    (18)  delta_ki = d P_k / d p_i = +- Re(conj(lambda_ki) U_k / U_i)

P_k is the active power that enters line k at its head, the end where power runs in; U_k is the
voltage there, behind the tap at a from end; + where the head is the from end, - where it is the to
end. With real lambda this is the paper's (18). In a mesh whose lines differ in r / x, lambda is
complex and the paper's form would lose its imaginary part. The change of U itself is left out, as
in the paper, and so is the change of a line's own charging: both are of the order of load times
impedance. A load shed at constant power factor takes its reactive power along:

    (a)   delta_ki = +- Re(conj(lambda_ki) U_k / U_i (1 + j q_i / p_i))

Nothing is divided by an impedance: each column of M_lambda is a unit current walked along the
spanning forest, each loop one more unknown current that must satisfy its own voltage drop. So a
line of zero impedance is a line like any other; only a loop without any impedance has no answer. A
dark bus has a zero column, an open or dark line a zero row.

One long file on purpose, as numba's cache watches only the file it compiled. `find_forest` and
`collect_shunts` are compiled into the kernel here: after a change in `newton_sweep.py`, touch this
file too.
"""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
from numba import njit, prange
from numpy.typing import ArrayLike

from feederguard.models.arrays import (
    BoolArray,
    ComplexArray,
    FloatArray,
    IntArray,
    plain,
    threads_for,
)
from feederguard.models.network import Network, NetworkError
from feederguard.models.power_flow.flow import PowerFlow
from feederguard.models.power_flow.layout import prepare
from feederguard.models.power_flow.newton_sweep import collect_shunts, find_forest

CACHE_MB = 128.0


def line_node_ratio(network: Network, closed: ArrayLike) -> ComplexArray:
    """Return M_lambda of (19) for the branch states `closed` (n_branch,), complex (n_branch,
    n_bus).

    Raises `NetworkError` when `closed` has another shape, or closes a loop that has no impedance.
    """
    return _solved(network, closed)[0]


def nodal_impedance(network: Network, closed: ArrayLike) -> ComplexArray:
    """Return Y_node^-1 of (19), the voltage drop at bus j per current drawn at bus i, complex
    (n_bus, n_bus) in pu.

    Rows and columns of substations and dark buses are zero. Raises as `line_node_ratio`.
    """
    return _solved(network, closed)[1]


def power_sensitivity(network: Network, ratio: ComplexArray, flow: PowerFlow) -> FloatArray:
    """Return delta of (18): active power into each line at its head per active power drawn at each
    bus, at `flow`.

    ratio: (n_branch, n_bus) or (B, n_branch, n_bus). The result is ([B,] n_branch, n_bus), 0 for
    dark buses.
    """
    return np.asarray(_complex_sensitivity(network, ratio, flow).real)


def shedding_sensitivity(
    network: Network, ratio: ComplexArray, flow: PowerFlow, p_load: FloatArray, q_load: FloatArray
) -> FloatArray:
    """Return delta of (a): as `power_sensitivity`, per active power of a load that keeps its power
    factor.

    p_load, q_load: ([B,] n_bus) demand. A bus without active demand has nothing to shed and gets 0.
    """
    loaded = p_load > 0
    tangent = np.divide(q_load, p_load, out=np.zeros(np.shape(p_load)), where=loaded)
    factor = np.where(loaded, 1.0 + 1j * tangent, 0.0)
    return np.asarray((_complex_sensitivity(network, ratio, flow) * factor[..., None, :]).real)


class RatioCache:
    """M_lambda and Y_node^-1 of the topologies used last, at most `size_mb` of them (at least one
    topology).

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
        """Return where the topologies `closed` (T, n_branch), all different, lie; computes those
        that are not there.

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
            "impedance, whose currents "
            "nothing determines; open it, or give it an impedance"
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
    """Fill the slots; return for each topology a branch that closes a loop without impedance, -1
    where there is none.
    """
    prepared = prepare(network)
    # A column takes some ten nanoseconds a bus, more where loops are closed.
    with threads_for(2e-2 * len(closed) * network.n_bus**2):
        return np.asarray(
            _fill_slots(
                plain(closed),
                slots,
                prepared.graph,
                prepared.branches,
                prepared.shunts,
                prepared.substation,
                ratio,
                impedance,
            )
        )


@njit(cache=True, parallel=True, error_model="numpy")
def _fill_slots(closed, slots, graph, branches, shunts, substation, ratio, impedance):  # type: ignore[no-untyped-def]
    stuck = np.empty(closed.shape[0], np.int64)
    for t in prange(closed.shape[0]):
        stuck[t] = _fill_one(
            closed[t], graph, branches, shunts, substation, ratio[slots[t]], impedance[slots[t]]
        )
    return stuck


@njit(error_model="numpy")
def _fill_one(closed, graph, branches, shunts, substation, ratio, impedance):  # type: ignore[no-untyped-def]
    """Fill one slot, (n_branch, n_bus) and (n_bus, n_bus); return as `_fill`."""
    n_branch, n_bus = ratio.shape
    walk = np.empty((4, n_bus), np.int64)
    links, seen = np.empty(n_branch, np.int64), np.empty(n_branch, np.bool_)
    n, n_link = find_forest(
        closed,
        graph[0],
        graph[1],
        graph[2],
        substation,
        walk[0],
        walk[1],
        walk[2],
        links,
        seen,
        walk[3],
    )
    total = shunts[4].copy()
    if shunts[0]:
        collect_shunts(
            closed, branches[0], branches[1], shunts[1], shunts[2], shunts[3], shunts[4], total
        )
    tree = _tree(n, walk, branches, total)
    ratio[:] = 0.0
    impedance[:] = 0.0
    drawn, v, j = np.zeros(n, np.complex128), np.zeros(n, np.complex128), np.zeros(n, np.complex128)
    for i in range(len(substation), n):
        drawn[:] = 0.0
        drawn[i] = 1.0
        _respond(n, walk, tree, drawn, v, j)
        for k in range(len(substation), n):
            ratio[walk[2, k], walk[0, i]] = tree[k, _SIGN] * j[k]
            impedance[walk[0, k], walk[0, i]] = -v[k]
    if not n_link:
        return -1
    stuck = _close_loops(n, n_link, walk, links, branches, tree, drawn, v, j, ratio, impedance)
    return links[stuck] if stuck >= 0 else -1


@njit(error_model="numpy")
def _close_loops(n, n_link, walk, links, branches, tree, drawn, v, j, ratio, impedance):  # type: ignore[no-untyped-def]
    """Add to the forest's answers what the links carry; return the link whose loop has no
    impedance, -1 if none.

    The forest's answer to a unit current in each link gives the currents that meet every link's own
    voltage drop.
    """
    from_bus, to_bus, z, tap = branches
    n_branch, n_bus = ratio.shape
    link_v, link_j = (
        np.zeros((n_link, n_bus), np.complex128),
        np.zeros((n_link, n_branch), np.complex128),
    )
    system, current = (
        np.empty((n_link, n_link), np.complex128),
        np.empty((n_link, n_bus), np.complex128),
    )
    for c in range(n_link):
        drawn[:] = 0.0
        drawn[walk[3, from_bus[links[c]]]] += 1.0 / np.conj(tap[links[c]])
        drawn[walk[3, to_bus[links[c]]]] -= 1.0
        _respond(n, walk, tree, drawn, v, j)
        for k in range(n):
            if walk[1, k] >= 0:
                link_v[c, walk[0, k]] = v[k]
                link_j[c, walk[2, k]] = tree[k, _SIGN] * j[k]
        link_j[c, links[c]] = 1.0
    for c in range(n_link):
        b = links[c]
        for d in range(n_link):
            system[c, d] = link_v[d, to_bus[b]] - link_v[d, from_bus[b]] / tap[b]
        system[c, c] += z[b]
        for bus in range(n_bus):
            current[c, bus] = impedance[to_bus[b], bus] - impedance[from_bus[b], bus] / tap[b]
    stuck = _eliminate(system, current)
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


# Columns of a tree, by position: series impedance, ratios on the parent's and the child's side (as
# in `newton_sweep.py`), the subtree's admittance as its parent sees it through z, the share of a
# drawn current that z passes on, direction.
_Z, _NEAR, _FAR, _SEEN, _PASSED, _SIGN = range(6)


@njit(error_model="numpy")
def _tree(n, walk, branches, total):  # type: ignore[no-untyped-def]
    from_bus, _, z, tap = branches
    tree = np.zeros((n, 6), np.complex128)
    admittance = np.empty(n, np.complex128)
    for k in range(n):
        admittance[k] = total[walk[0, k]]
    for k in range(n - 1, -1, -1):
        up, b = walk[1, k], walk[2, k]
        if up < 0:
            continue
        forward = from_bus[b] == walk[0, up]
        near = 1.0 / tap[b] if forward else complex(1.0, 0.0)
        far = complex(1.0, 0.0) if forward else tap[b]
        behind = abs(far) ** 2 * admittance[k]
        passed = 1.0 / (1.0 + behind * z[b])
        tree[k, _Z], tree[k, _NEAR], tree[k, _FAR] = z[b], near, far
        tree[k, _SEEN], tree[k, _PASSED] = behind * passed, passed
        tree[k, _SIGN] = 1.0 if forward else -1.0
        admittance[up] += abs(near) ** 2 * behind * passed
    return tree


@njit(error_model="numpy")
def _respond(n, walk, tree, drawn, v, j):  # type: ignore[no-untyped-def]
    """Fill the voltages and series currents that the currents `drawn`, by position, cause;
    overwrites `drawn`.
    """
    for k in range(n - 1, -1, -1):
        up = walk[1, k]
        if up >= 0 and drawn[k] != 0.0:
            j[k] = tree[k, _PASSED] * np.conj(tree[k, _FAR]) * drawn[k]
            drawn[up] += np.conj(tree[k, _NEAR]) * j[k]
        else:
            j[k] = 0.0
    for k in range(n):
        up = walk[1, k]
        if up < 0:
            v[k] = 0.0
            continue
        above = tree[k, _NEAR] * v[up]
        j[k] += tree[k, _SEEN] * above
        v[k] = tree[k, _FAR] * (above - tree[k, _Z] * j[k])


@njit(error_model="numpy")
def _eliminate(a, b):  # type: ignore[no-untyped-def]
    """Overwrite b with the solution of a x = b; where a is singular fill it with NaN and return a
    column at fault.
    """
    n, width = a.shape[0], b.shape[1]
    largest = 0.0
    for c in range(n):
        for k in range(n):
            largest = max(largest, abs(a[c, k]))
    for c in range(n):
        best = c
        for i in range(c + 1, n):
            if abs(a[i, c]) > abs(a[best, c]):
                best = i
        if not abs(a[best, c]) > 1e-13 * largest:
            b[:] = np.nan
            return c
        for k in range(n):
            a[c, k], a[best, k] = a[best, k], a[c, k]
        for k in range(width):
            b[c, k], b[best, k] = b[best, k], b[c, k]
        for i in range(n):
            if i != c and a[i, c] != 0.0:
                factor = a[i, c] / a[c, c]
                for k in range(c, n):
                    a[i, k] -= factor * a[c, k]
                for k in range(width):
                    b[i, k] -= factor * b[c, k]
    for c in range(n):
        for k in range(width):
            b[c, k] /= a[c, c]
    return -1
