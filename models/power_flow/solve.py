"""AC power flow of a feeder, batched: the truth that every decision in FeederGuard is judged by.

Constant-power demand at every bus, substations at fixed voltage, the branch model of
`network/network.py`; radial or meshed, with one topology for the whole batch or one per item. The
method is derived in `newton_sweep.py`: an exact Newton step by one sweep over the tree, with loops
closed by link currents. An item has converged when the power mismatch at every bus is below
`tolerance_mva`. One that fails is marked and filled with NaN; the rest of the batch goes on.

From no load, Newton's method may end in a wrong root of a meshed network whose angles are wide. A
meshed item with a voltage outside `_NEAR_PU` is solved again from the angles of its DC power flow,

    (1)  sum over branches at i of (theta_i - theta_j - shift) / |z| = -p_i,   |V| = 1

and the root nearer to 1 pu is kept.
"""

from __future__ import annotations

import warnings
from typing import Any

import numba
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse  # type: ignore[import-untyped]
from scipy.sparse.linalg import spsolve  # type: ignore[import-untyped]

from feederguard.models.arrays import BoolArray, ComplexArray, FloatArray, plain, threads_for
from feederguard.models.network import Network
from feederguard.models.network.checks import warn_of_idle_generators
from feederguard.models.power_flow.flow import PowerFlow
from feederguard.models.power_flow.forest import Answer, Feeder
from feederguard.models.power_flow.lanes import solve_one_forest
from feederguard.models.power_flow.layout import prepare, radial_forest
from feederguard.models.power_flow.newton_sweep import Asked, solve_many_forests


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
    they then feed nothing; and when meshed items keep voltages far from 1 pu. Raises ValueError
    when a shape does not fit the network, two batch sizes disagree, tolerance_mva is not positive,
    or max_iterations is not a positive whole number.
    """
    _check_limits(tolerance_mva, max_iterations)
    if p is None:
        warn_of_idle_generators(
            network,
            "solve_power_flow: give p and q with their output, or run an optimal power flow",
        )
    given = _given(network, p, q, closed, start)
    p_array, q_array, c_array = given["p"], given["q"], given["closed"]
    batched = _batch_sizes(given)
    n_item = next(iter(batched.values()), 1)
    asked = Asked(
        np.atleast_2d(p_array),
        np.atleast_2d(q_array),
        _one_if_all_equal(np.atleast_2d(c_array)),
        np.atleast_2d(given["start"])
        if "start" in given
        else np.empty((0, network.n_bus), np.complex128),
    )
    tolerance = tolerance_mva / network.base_mva
    answer = _solve(network, asked, n_item, tolerance, max_iterations)
    _leave_far_roots(network, asked, answer, tolerance, max_iterations)
    voltage, current, iterations, energised = answer
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


def _check_limits(tolerance_mva: float, max_iterations: int) -> None:
    whole = isinstance(max_iterations, (int, np.integer)) and not isinstance(max_iterations, bool)
    if not (whole and max_iterations >= 1):
        raise ValueError(f"solve_power_flow: max_iterations is {max_iterations!r}; give 1 or more")
    if not (np.isfinite(tolerance_mva) and tolerance_mva > 0):
        raise ValueError(
            f"solve_power_flow: tolerance_mva is {tolerance_mva!r}; give a positive number of MVA"
        )


def _given(
    network: Network,
    p: ArrayLike | None,
    q: ArrayLike | None,
    closed: ArrayLike | None,
    start: ArrayLike | None,
) -> dict[str, NDArray[Any]]:
    """Return the arguments as arrays, defaults filled in; `start` only where it is given."""
    p = network.p_load - network.p_gen if p is None else p
    q = network.q_load - network.q_gen if q is None else q
    closed = network.closed if closed is None else closed
    given = {
        "p": _as_batch(p, "p", network.n_bus, "bus"),
        "q": _as_batch(q, "q", network.n_bus, "bus"),
        "closed": _as_batch(closed, "closed", network.n_branch, "branch", bool),
    }
    if start is not None:
        given["start"] = _as_batch(start, "start", network.n_bus, "bus", complex)
    return given


def _batch_sizes(given: dict[str, NDArray[Any]]) -> dict[str, int]:
    """Return the batch size of each batched argument, all equal; raises ValueError otherwise."""
    batched = {name: a.shape[0] for name, a in given.items() if a.ndim == 2}
    if len(set(batched.values())) > 1:
        sizes = ", ".join(f"{name} has {size}" for name, size in batched.items())
        raise ValueError(
            f"solve_power_flow: batch sizes disagree: {sizes}; give each 1 axis or the same first "
            "axis"
        )
    return batched


def _one_if_all_equal(closed: BoolArray) -> BoolArray:
    """Return the first row alone where all rows are the same."""
    return closed[:1] if len(closed) > 1 and (closed == closed[0]).all() else closed


def _solve(
    network: Network, asked: Asked, n_item: int, tolerance: float, max_iterations: int
) -> Answer:
    answer = Answer(
        np.empty((n_item, network.n_bus), np.complex128),
        np.empty((n_item, network.n_branch), np.complex128),
        np.empty(n_item, np.int64),
        np.empty((n_item, network.n_bus), np.bool_),
    )
    # Two Newton steps of a tree take about 0.1 us a bus, more where it is meshed.
    with threads_for(0.1 * n_item * network.n_bus):
        _run(prepare(network), asked, tolerance, max_iterations, answer)
    # Demand that is not a number anywhere, even at the substation, makes no power flow.
    known = np.isfinite(asked.p).all(axis=1) & np.isfinite(asked.q).all(axis=1)
    bad = ~np.broadcast_to(known, (n_item,))
    answer.voltage[bad], answer.current[bad], answer.iterations[bad] = np.nan, np.nan, -1
    return answer


_LANES_PAY_FROM = 8  # smaller batches would fill most lanes with copies


def _run(
    feeder: Feeder, asked: Asked, tolerance: float, max_iterations: int, answer: Answer
) -> None:
    """Fill the answer by the kernel that fits the batch.

    A batch on one tree is solved side by side, any other item by item.
    """
    n_item = len(answer.voltage)
    if not n_item:
        return
    n_chunk = max(1, min(4 * numba.get_num_threads(), n_item))
    if len(asked.closed) == 1 and n_item >= _LANES_PAY_FROM and not len(asked.start):
        forest = radial_forest(feeder, asked.closed[0])
        if forest is not None:
            solve_one_forest(forest, asked.p, asked.q, tolerance, max_iterations, n_chunk, answer)
            answer.energised[:] = False
            answer.energised[:, forest.order] = True
            return
    solve_many_forests(feeder, asked, tolerance, max_iterations, n_chunk, answer)


# Below half the source's voltage a single line is past the point of collapse.
_NEAR_PU = (0.5, 1.4)


def _leave_far_roots(
    network: Network, asked: Asked, answer: Answer, tolerance: float, max_iterations: int
) -> None:
    """Solve meshed items with voltages outside `_NEAR_PU` again from (1), in place."""
    n_link = asked.closed.sum(axis=1) - (answer.energised.sum(axis=1) - len(network.substation))
    items = np.flatnonzero((n_link > 0) & (answer.iterations >= 0))
    items = items[_is_far(answer, items)]
    if not items.size:
        return
    p, q = (np.broadcast_to(rows, answer.voltage.shape)[items] for rows in (asked.p, asked.q))
    closed = np.broadcast_to(asked.closed, answer.current.shape)[items]
    start = np.stack(
        [_dc_start(network, *item) for item in zip(p, closed, answer.energised[items], strict=True)]
    )
    again = _solve(network, Asked(p, q, closed, start), len(items), tolerance, max_iterations)
    with np.errstate(invalid="ignore"):
        better = _distance(again, slice(None)) < _distance(answer, items)
    for old, new in zip(answer, again, strict=True):
        old[items[better]] = new[better]
    items = items[_is_far(answer, items)]
    if items.size:
        v = np.abs(answer.voltage[items[0]][answer.energised[items[0]]])
        warnings.warn(
            f"{network.name}: {len(items)} of {len(answer.voltage)} meshed power flows have "
            f"voltages far from 1 pu, the first one {v.min():.2f} to {v.max():.2f} pu, also from "
            "the angles of a DC power flow; another root may be the state of operation: give "
            "start, or less load",
            stacklevel=3,
        )


def _is_far(answer: Answer, items: Any) -> BoolArray:
    v = np.where(answer.energised[items], np.abs(answer.voltage[items]), 1.0)
    return np.asarray(((v < _NEAR_PU[0]) | (v > _NEAR_PU[1])).any(axis=1))


def _distance(answer: Answer, items: Any) -> FloatArray:
    """Return the largest distance of a voltage from 1 pu, NaN where there is no answer."""
    v = np.where(answer.energised[items], np.abs(answer.voltage[items]), 1.0)
    return np.asarray(np.abs(v - 1.0).max(axis=1))


def _dc_start(network: Network, p: FloatArray, closed: BoolArray, live: BoolArray) -> ComplexArray:
    """Return voltages of 1 pu at the angles of (1), 0 at dark buses, (n_bus,)."""
    on = closed & live[network.from_bus]
    i, j = network.from_bus[on], network.to_bus[on]
    weight = 1.0 / np.maximum(np.abs(network.z[on]), 1e-6)
    n_on = int(on.sum())
    ends = sparse.csr_array(
        (np.repeat([1.0, -1.0], n_on), (np.tile(np.arange(n_on), 2), np.concatenate([i, j]))),
        shape=(n_on, network.n_bus),
    )
    matrix = (ends.T @ (ends * weight[:, None])).tocsc()
    right = ends.T @ (weight * network.shift[on]) - np.where(np.isfinite(p), p, 0.0)
    theta = np.zeros(network.n_bus)
    theta[network.substation] = np.angle(network.v_substation)
    free = np.flatnonzero(live & ~np.isin(np.arange(network.n_bus), network.substation))
    known = right - matrix @ theta
    theta[free] = spsolve(matrix[free][:, free], known[free])
    return np.where(live, np.exp(1j * theta), 0)


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
