"""The compiled limits (4), (5) of load transfer as the compiled kernels take them: one tuple of
plain arrays.

`shedding_sweep.py` and the paper's correction linearise each limit at an AC state, so they must
know what a column of the compiled limits stands for: which of w, P, ell, y, and of which bus or
branch. That and the rows themselves are laid out here, once per network and setting.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit, prange

from feederguard.models.arrays import BoolArray, ComplexArray, FloatArray, IntArray, threads_for
from feederguard.models.load_transfer.rules import TransferRules
from feederguard.models.load_transfer.scenario import Scenarios
from feederguard.models.load_transfer.shedding_sweep import COLUMN_ELL, COLUMN_P, COLUMN_W, COLUMN_Y
from feederguard.models.once_per_object import once_per_object
from feederguard.models.power_flow import PowerFlow

_KINDS = {"w": COLUMN_W, "P": COLUMN_P, "ell": COLUMN_ELL, "y": COLUMN_Y}


@once_per_object
def lay_out_limits(rules: TransferRules) -> tuple[Any, ...]:
    """Return (by_power, kind, index, constant, start, column, value, lower, upper), the same tuple
    every time.

    by_power: whether branches are limited in power rather than current. kind, index: (n_column,)
    one of COLUMN_W, COLUMN_P, COLUMN_ELL, COLUMN_Y, and the bus or branch. The others are those of
    `CompiledModel.limits`: limit k is lower[k] <= constant[k] + sum of value[t] x[column[t]] over
    start[k] <= t < start[k + 1] <= upper[k].

    Raises ValueError when a limit is quadratic.
    """
    limits, rows = rules.limits, rules.limits.limits
    if len(rows.product_value):
        raise ValueError(f"{limits.name}: a limit is quadratic; write it linear in w, P, ell and y")
    kind, index = _columns(rules)
    by_power = rules.setting.active_limit_mw is not None
    return (
        by_power,
        kind,
        index,
        rows.constant,
        rows.start,
        rows.column,
        rows.value,
        limits.lower,
        limits.upper,
    )


def _columns(rules: TransferRules) -> tuple[IntArray, IntArray]:
    columns = rules.limits.columns
    n = sum(len(places) for places in columns.values())
    kind, index = np.zeros(n, np.int64), np.zeros(n, np.int64)
    for name, places in columns.items():
        kind[places] = _KINDS[name]
        index[places] = np.arange(len(places))
    return kind, index


@dataclass(frozen=True, eq=False)
class _State:
    """What the limits and the report need of an AC state, one entry per item."""

    points: FloatArray  # (B, n_column) of the compiled limits
    v_min: FloatArray
    loading: FloatArray
    connected: BoolArray
    is_forest: BoolArray


def read_state(
    rules: TransferRules, scenarios: Scenarios, flow: PowerFlow, closed: BoolArray
) -> _State:
    at_from: ComplexArray = (
        flow.series_current if rules.plain else np.ascontiguousarray(flow.current_from)
    )
    at_to: ComplexArray = (
        flow.series_current if rules.plain else np.ascontiguousarray(flow.current_to)
    )
    # Some nanoseconds a branch.
    with threads_for(5e-3 * closed.size):
        return _State(
            *_read_items(
                flow.voltage,
                at_from,
                at_to,
                -1.0 if rules.plain else 1.0,
                flow.energised,
                flow.converged,
                closed,
                scenarios.fault,
                *rules.reading,
            )
        )


@njit(cache=True, parallel=True, error_model="numpy")
def _read_items(  # type: ignore[no-untyped-def]
    voltage,
    at_from,
    at_to,
    sign_to,
    energised,
    converged,
    closed,
    fault,
    reachable,
    from_bus,
    to_bus,
    r,
    n_substation,
    active,
    per_limit,
    inside,
    col_w,
    col_p,
    col_ell,
    col_y,
    n_column,
):
    """Return points of the compiled limits, lowest voltage, largest loading, and whether connected,
    and radial.

    at_from, sign_to * at_to: currents into each branch at its ends. active: whether limits are on
    active power, else on current. per_limit: (n_branch,) one over the limit. col_*: first column of
    that variable, -1 where it has none.
    """
    n_item, n_bus, n_branch = voltage.shape[0], voltage.shape[1], at_from.shape[1]
    points = np.zeros((n_item, n_column))
    v_min, loading = np.full(n_item, np.nan), np.full(n_item, np.nan)
    connected, is_forest = np.ones(n_item, np.bool_), np.empty(n_item, np.bool_)
    for item in prange(n_item):
        lowest, n_live, highest = np.inf, 0, 0.0
        for i in range(n_bus):
            w = inside
            if energised[item, i]:
                v = voltage[item, i]
                w = v.real * v.real + v.imag * v.imag
                lowest = min(lowest, w)
                n_live += 1
            elif reachable[fault[item], i]:
                connected[item] = False
            if col_w >= 0:
                points[item, col_w + i] = w
        n_live -= n_substation
        for b in range(n_branch):
            i, j = from_bus[b], to_bus[b]
            n_live -= closed[item, b] and energised[item, i] and energised[item, j]
            a, c = at_from[item, b], sign_to * at_to[item, b]
            sent = (voltage[item, i] * np.conj(a)).real
            received = (voltage[item, j] * np.conj(c)).real
            if active:
                # In (5) a branch receives P - r ell: with P sent by the AC flow, this ell makes it
                # the AC power received.
                size, ell = (
                    max(abs(sent), abs(received)),
                    (sent + received) / r[b] if r[b] > 0 else 0.0,
                )
            else:
                ell = max(a.real * a.real + a.imag * a.imag, c.real * c.real + c.imag * c.imag)
                size = np.sqrt(ell)
            highest = max(highest, size * per_limit[b])
            if col_p >= 0:
                points[item, col_p + b] = sent
            if col_ell >= 0:
                points[item, col_ell + b] = ell
            if col_y >= 0:
                points[item, col_y + b] = closed[item, b]
        # As many closed branches between energised buses as energised buses less the substations.
        is_forest[item] = n_live == 0
        if converged[item]:
            v_min[item], loading[item] = np.sqrt(lowest), highest
    return points, v_min, loading, connected, is_forest
