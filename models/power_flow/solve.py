"""AC power flow of a feeder, batched: the truth that every decision in FeederGuard is judged by.

Constant-power demand at every bus, substations at fixed voltage, the branch model of
`network/network.py`; radial or meshed, with one topology for the whole batch or one per item. The
method (an exact Newton step by one sweep over the tree, loops closed by link currents) is derived
in `newton_sweep.py`; an item counts as converged only when the power mismatch at every bus is below
`tolerance_mva`, and one that fails is marked and filled with NaN while the rest of the batch goes
on.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import ArrayLike, NDArray

from feederguard.models.arrays import (
    BoolArray,
    ComplexArray,
    FloatArray,
    IntArray,
    plain,
    threads_for,
)
from feederguard.models.network import Network
from feederguard.models.network.checks import warn_of_idle_generators
from feederguard.models.power_flow.flow import PowerFlow
from feederguard.models.power_flow.layout import Prepared, prepare, radial_forest
from feederguard.models.power_flow.newton_sweep import solve_many_forests, solve_one_forest


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

    p, q: net demand in pu, (n_bus,) or (B, n_bus), positive when consuming; default the nominal
    loads less the local generation. closed: branch states, (n_branch,) or (B, n_branch); default
    the normal ones. Batched and unbatched arguments mix. An item that fails (no solution, NaN
    demand) is marked in `converged`; it never raises.

    Warns (UserWarning) when p is left to its default where generators wait to be dispatched, as
    they then feed nothing. Raises ValueError when a shape does not fit the network or two batch
    sizes disagree.
    """
    if p is None:
        warn_of_idle_generators(
            network,
            "solve_power_flow: give p and q with their output, or run an optimal power flow",
        )
    p_array = _as_batch(
        network.p_load - network.p_gen if p is None else p, "p", network.n_bus, "bus"
    )
    q_array = _as_batch(
        network.q_load - network.q_gen if q is None else q, "q", network.n_bus, "bus"
    )
    c_array = _as_batch(
        network.closed if closed is None else closed, "closed", network.n_branch, "branch", bool
    )
    given = {"p": p_array, "q": q_array, "closed": c_array}
    if start is not None:
        given["start"] = _as_batch(start, "start", network.n_bus, "bus", complex)
    batched = {name: a.shape[0] for name, a in given.items() if a.ndim == 2}
    if len(set(batched.values())) > 1:
        sizes = ", ".join(f"{name} has {size}" for name, size in batched.items())
        raise ValueError(
            f"solve_power_flow: batch sizes disagree: {sizes}; give each 1 axis or the same first "
            "axis"
        )
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
            prepare(network),
            np.atleast_2d(p_array),
            np.atleast_2d(q_array),
            rows,
            np.atleast_2d(given["start"])
            if "start" in given
            else np.empty((0, network.n_bus), np.complex128),
            tolerance_mva / network.base_mva,
            max_iterations,
            voltage,
            current,
            iterations,
            energised,
        )
    # Demand that is not a number anywhere, even at the substation, makes no power flow.
    known = np.isfinite(np.atleast_2d(p_array)).all(axis=1) & np.isfinite(
        np.atleast_2d(q_array)
    ).all(axis=1)
    bad = ~np.broadcast_to(known, (n_item,))
    voltage[bad], current[bad], iterations[bad] = np.nan, np.nan, -1
    converged = iterations >= 0
    if batched:
        return PowerFlow(
            network, voltage, current, converged, energised, iterations, c_array, p_array, q_array
        )
    return PowerFlow(
        network,
        voltage[0],
        current[0],
        converged[0],
        energised[0],
        iterations[0],
        c_array,
        p_array,
        q_array,
    )


_LANES_PAY_FROM = 8  # smaller batches would fill most lanes with copies


def _run(
    prepared: Prepared,
    p: FloatArray,
    q: FloatArray,
    closed: BoolArray,
    start: ComplexArray,
    tolerance: float,
    max_iterations: int,
    voltage: ComplexArray,
    current: ComplexArray,
    iterations: IntArray,
    energised: BoolArray,
) -> None:
    """Fill the outputs. Choose the kernel: side by side on one tree where the whole batch shares
    it, else item by item.
    """
    if not len(voltage):
        return
    n_chunk = max(1, min(4 * numba.get_num_threads(), len(voltage)))
    common: Any = (tolerance, max_iterations, n_chunk, voltage, current, iterations)
    if len(closed) == 1 and len(voltage) >= _LANES_PAY_FROM and not len(start):
        forest = radial_forest(prepared, closed[0])
        if forest is not None:
            order, arguments = forest
            solve_one_forest(p, q, *arguments, *common)
            energised[:] = False
            energised[:, order] = True
            return
    solve_many_forests(
        p,
        q,
        closed,
        prepared.graph,
        prepared.branches,
        prepared.shunts,
        prepared.substation,
        prepared.v_substation,
        start,
        *common,
        energised,
    )


def _as_batch(
    value: ArrayLike, name: str, width: int, label: str, dtype: type = float
) -> NDArray[Any]:
    try:
        array = plain(value, dtype)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"solve_power_flow: {name} must hold numbers, one per {label}: {error}"
        ) from None
    if dtype is bool and not np.isin(np.asarray(value), (0, 1)).all():
        raise ValueError(
            f"solve_power_flow: {name} holds other values than 0 and 1; give True (closed) or "
            f"False per {label}"
        )
    if array.ndim not in (1, 2) or array.shape[-1] != width:
        raise ValueError(
            f"solve_power_flow: {name} has shape {array.shape}; expected ({width},) or (B, "
            f"{width}), one per {label}"
        )
    return array
