"""The exact derivative of squared AC voltages by battery powers, batched.

At a solved state with voltages V, net demands s and shunts y, the current a bus draws is, to first
order in its voltage, I = T dV + c with T of (2) in `newton_sweep.py`; one more unit of active
demand at bus i draws

    (1)  c_i = conj(1 / V_i)

The response dV of the whole radial feeder to such a column is one backward and one forward sweep
over the tree, the sweep of the Newton step itself. With V = e + jf,

    (2)  d w_j / d p_i = 2 (e_j de_j + f_j df_j)

exact to rounding: no difference quotient, no matrix inverse. Per unit.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
from numba import njit, prange

from feederguard.models.arrays import ComplexArray, FloatArray, IntArray, plain, threads_for
from feederguard.models.network import Network, NetworkError
from feederguard.models.once_per_object import once_per_object
from feederguard.models.power_flow.forest import Forest, collect_shunts
from feederguard.models.power_flow.layout import forest_of, prepare
from feederguard.models.power_flow.loops import respond
from feederguard.models.power_flow.newton_sweep import start_flat
from feederguard.models.power_flow.subtree import N_LINE, N_STATE, S_E, S_F, linearise

STAMP = "efd748a90488bbf2eeec5f931ed3321e34fbdc03b78e816ab927fe19770b2473"


class States(NamedTuple):
    """AC states of a batch, (B, n_bus) each."""

    voltage: ComplexArray
    p: FloatArray  # net active demand
    q: FloatArray  # net reactive demand


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
    forest, shunt = _tree(network)
    out = np.zeros((len(voltage), len(bus), len(at)))
    with threads_for(0.02 * len(voltage) * network.n_bus * len(bus)):
        n_chunk = max(1, min(8 * numba.get_num_threads(), len(voltage)))
        states = States(*(plain(array) for array in (voltage, p, q)))
        bus, at = np.array(bus, np.int64), np.array(at, np.int64)
        _sensitivity(prepare(network), forest, shunt, states, bus, at, n_chunk, out)
    return out


@once_per_object
def _tree(network: Network) -> tuple[Forest, ComplexArray]:
    """Return the forest and the shunt at each bus, (n_bus,)."""
    feeder, closed = prepare(network), network.closed.copy()
    forest = forest_of(feeder, closed)
    if forest.n_link:
        raise NetworkError(
            f"{network.name} is meshed: closed branch {network.branch_name[forest.links[0]]!r} "
            "closes a loop; voltage sensitivities are those of radial feeders, so open it with "
            "network.with_changes(closed=...)"
        )
    shunt = feeder.y_bus.copy()
    if feeder.any_branch_shunt:
        collect_shunts(feeder, closed, shunt)
    return forest, shunt


@njit(cache=True, parallel=True, error_model="numpy")
def _sensitivity(  # type: ignore[no-untyped-def]
    feeder, forest, shunt, states, bus, at, n_chunk, out
):
    """Fill `out` (B, len(bus), len(at)) with (2)."""
    n_item, n_bus = states.voltage.shape
    for chunk in prange(n_chunk):
        state, line = np.zeros((n_bus, N_STATE)), np.zeros((n_bus, N_LINE))
        lifted = np.zeros((n_bus, 4))
        # Column 0 of `respond` belongs to the state itself; it is not used here.
        re, im = np.zeros((n_bus, 1 + bus.shape[0])), np.zeros((n_bus, 1 + bus.shape[0]))
        start_flat(feeder, forest, state, line)
        for item in range(chunk * n_item // n_chunk, (chunk + 1) * n_item // n_chunk):
            re[:] = 0.0
            im[:] = 0.0
            for k in range(forest.n_live):
                i = forest.order[k]
                v, y = states.voltage[item, i], shunt[i]
                p, q = states.p[item, i], states.q[item, i]
                state[k, S_E], state[k, S_F] = v.real, v.imag
                t11, t12, t21, t22, _, _, _ = linearise(v.real, v.imag, p, q, y.real, y.imag)
                lifted[k, 0], lifted[k, 1], lifted[k, 2], lifted[k, 3] = t11, t12, t21, t22
            for c in range(bus.shape[0]):
                k = forest.place[bus[c]]
                if k >= 0:
                    drawn = 1.0 / np.conj(states.voltage[item, bus[c]])
                    re[k, 1 + c], im[k, 1 + c] = drawn.real, drawn.imag
            respond(forest, state, line, lifted, re, im)
            for i in range(at.shape[0]):
                k = forest.place[at[i]]
                if k >= 0:
                    v = states.voltage[item, at[i]]
                    for c in range(bus.shape[0]):
                        out[item, c, i] = 2.0 * (v.real * re[k, 1 + c] + v.imag * im[k, 1 + c])
