"""How squared voltages answer to battery powers at AC states: the exact derivative of the AC power
flow, batched.

At a solved state with voltages V, net demands s and shunts y, the current a bus draws is, to first
order in its voltage, I = T dV + c with T of (2) in `newton_sweep.py`; one more unit of active
demand at bus i draws

    (1)  c_i = conj(1 / V_i)

The response dV of the whole radial feeder to such a column is one backward and one forward sweep
over the tree, the sweep of the Newton step itself. With V = e + jf,

    (2)  d w_j / d p_i = 2 (e_j de_j + f_j df_j)

exact to rounding: no difference quotient, no matrix inverse. Per unit. The functions of
`newton_sweep.py` are compiled into the kernel here: after a change there, touch this file too.
"""

from __future__ import annotations

import numba
import numpy as np
from numba import njit, prange

from feederguard.models.arrays import ComplexArray, FloatArray, IntArray, plain, threads_for
from feederguard.models.network import Network, NetworkError
from feederguard.models.once_per_object import once_per_object
from feederguard.models.power_flow.layout import prepare
from feederguard.models.power_flow.newton_sweep import (
    collect_shunts,
    find_forest,
    linearise,
    respond,
    start_flat,
)


def voltage_sensitivity(
    network: Network,
    voltage: ComplexArray,
    p: FloatArray,
    q: FloatArray,
    bus: IntArray,
    at: IntArray | None = None,
) -> FloatArray:
    """Return d |V|^2 / d p at solved AC states of the normal topology, (B, len(bus), len(at)).

    voltage: (B, n_bus) complex, NaN where a flow failed (the answer is then NaN). p, q: (B, n_bus)
    net demand, batteries included. bus: buses where active demand changes. at: buses whose squared
    voltage is asked for, default all.

    Raises `NetworkError` for a meshed feeder, ValueError when a shape does not fit.
    """
    shape = (len(voltage), network.n_bus)
    for name, array in (("voltage", voltage), ("p", p), ("q", q)):
        if array.shape != shape:
            raise ValueError(
                f"{network.name}: {name} has shape {array.shape}; expected {shape}, the states of "
                "a batch"
            )
    at = np.arange(network.n_bus) if at is None else at
    walk, n_live, shunt = _tree(network)
    prepared = prepare(network)
    out = np.zeros((len(voltage), len(bus), len(at)))
    with threads_for(0.02 * len(voltage) * network.n_bus * len(bus)):
        n_chunk = max(1, min(8 * numba.get_num_threads(), len(voltage)))
        _sensitivity(
            plain(voltage),
            plain(p),
            plain(q),
            walk,
            n_live,
            prepared.branches,
            shunt,
            prepared.v_substation,
            np.array(bus, np.int64),
            np.array(at, np.int64),
            n_chunk,
            out,
        )
    return out


@once_per_object
def _tree(network: Network) -> tuple[IntArray, int, ComplexArray]:
    """Return the walk over the tree, the number of live buses and the shunt at each bus."""
    prepared, closed = prepare(network), network.closed.copy()
    walk = np.empty((4, network.n_bus), np.int64)
    links, seen = np.empty(network.n_branch, np.int64), np.empty(network.n_branch, np.bool_)
    n_live, n_link = find_forest(
        closed,
        *prepared.graph,
        prepared.substation,
        walk[0],
        walk[1],
        walk[2],
        links,
        seen,
        walk[3],
    )
    if n_link:
        raise NetworkError(
            f"{network.name} is meshed: closed branch {network.branch_name[links[0]]!r} closes a "
            "loop; voltage sensitivities "
            "are those of radial feeders, so open it with network.with_changes(closed=...)"
        )
    shunt = prepared.shunts[4].copy()
    if prepared.shunts[0]:
        collect_shunts(
            closed, prepared.branches[0], prepared.branches[1], *prepared.shunts[1:], shunt
        )
    return walk, n_live, shunt


@njit(cache=True, parallel=True, error_model="numpy")
def _sensitivity(voltage, p, q, walk, n, branches, shunt, v_substation, bus, at, n_chunk, out):  # type: ignore[no-untyped-def]
    n_item, n_bus = voltage.shape
    for chunk in prange(n_chunk):
        state, line, lifted = np.zeros((n_bus, 11)), np.zeros((n_bus, 6)), np.zeros((n_bus, 4))
        # Column 0 of `respond` belongs to the state itself; it is not used here.
        re, im = np.zeros((n_bus, 1 + bus.shape[0])), np.zeros((n_bus, 1 + bus.shape[0]))
        start_flat(n, walk, branches, v_substation, state, line)
        for item in range(chunk * n_item // n_chunk, (chunk + 1) * n_item // n_chunk):
            re[:] = 0.0
            im[:] = 0.0
            for k in range(n):
                i = walk[0, k]
                v, y = voltage[item, i], shunt[i]
                state[k, 0], state[k, 1] = v.real, v.imag
                t = linearise(v.real, v.imag, p[item, i], q[item, i], y.real, y.imag)
                lifted[k, 0], lifted[k, 1], lifted[k, 2], lifted[k, 3] = t[0], t[1], t[2], t[3]
            for c in range(bus.shape[0]):
                k = walk[3, bus[c]]
                if k >= 0:
                    drawn = 1.0 / np.conj(voltage[item, bus[c]])
                    re[k, 1 + c], im[k, 1 + c] = drawn.real, drawn.imag
            respond(n, 1 + bus.shape[0], walk, state, line, lifted, re, im)
            for i in range(at.shape[0]):
                k = walk[3, at[i]]
                if k >= 0:
                    v = voltage[item, at[i]]
                    for c in range(bus.shape[0]):
                        out[item, c, i] = 2.0 * (v.real * re[k, 1 + c] + v.imag * im[k, 1 + c])
