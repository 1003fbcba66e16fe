"""AC states read into the columns of the compiled limits (4), (5) of load transfer.

A column holds one of w, P, ell, y of one bus or branch. Only `put_bus` and `put_branch` turn an AC
state into these numbers. The judge reads whole batches by them, and the compiled
searches (`shedding_sweep.py`, the paper's correction) one state at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numba import njit, prange

from feederguard.models.arrays import (
    BoolArray,
    ComplexArray,
    FloatArray,
    IntArray,
    inner,
    threads_for,
)
from feederguard.models.load_transfer.rules import TransferRules
from feederguard.models.load_transfer.scenario import Scenarios
from feederguard.models.network.parallel import has_loop
from feederguard.models.once_per_object import once_per_object
from feederguard.models.power_flow import PowerFlow
from feederguard.models.power_flow.layout import prepare

COLUMN_W, COLUMN_P, COLUMN_ELL, COLUMN_Y = range(4)
_KINDS = {"w": COLUMN_W, "P": COLUMN_P, "ell": COLUMN_ELL, "y": COLUMN_Y}


class Limits(NamedTuple):
    """The compiled limits as kernels take them.

    Limit k is lower[k] <= constant[k] + sum of value[t] x[column[t]] over start[k] <= t <
    start[k + 1] <= upper[k].
    """

    by_power: bool  # whether branches are limited in power rather than in current
    inside: FloatArray  # (n_bus,) squared voltage that a dark bus is given; its limit contains it
    # First column of each variable, -1 where it has none.
    w: int
    p: int
    ell: int
    y: int
    kind: IntArray  # (n_column,) COLUMN_W, COLUMN_P, COLUMN_ELL or COLUMN_Y
    index: IntArray  # (n_column,) the bus or branch
    constant: FloatArray  # (n_limit,)
    start: IntArray  # (n_limit + 1,)
    column: IntArray
    value: FloatArray
    lower: FloatArray  # (n_limit,)
    upper: FloatArray  # (n_limit,)


class LimitState(NamedTuple):
    """Buffers for the limits at one AC state."""

    x: FloatArray  # (n_column,)
    excess: FloatArray  # (n_limit,) distance beyond the nearer bound, negative inside
    side: FloatArray  # (n_limit,) 1 where the upper bound is the nearer one, else -1


@once_per_object
def lay_out_limits(rules: TransferRules) -> Limits:
    """Return the limits of `rules` for the kernels, the same object every time.

    Raises ValueError when a limit is quadratic.
    """
    compiled, rows = rules.limits, rules.limits.limits
    if len(rows.product_value):
        raise ValueError(
            f"{compiled.name}: a limit is quadratic; write it linear in w, P, ell and y"
        )
    setting = rules.setting
    kind, index = (np.zeros(compiled.n_column, np.int64) for _ in range(2))
    for name, places in compiled.columns.items():
        kind[places] = _KINDS[name]
        index[places] = np.arange(len(places))
    first = {
        name: int(compiled.columns[name][0]) if name in compiled.columns else -1 for name in _KINDS
    }
    return Limits(
        by_power=setting.active_limit_mw is not None,
        inside=rules.inside,
        w=first["w"],
        p=first["P"],
        ell=first["ell"],
        y=first["y"],
        kind=kind,
        index=index,
        constant=rows.constant,
        start=rows.start,
        column=rows.column,
        value=rows.value,
        lower=compiled.lower,
        upper=compiled.upper,
    )


@inner()
def put_bus(limits, x, i, w):
    """Write the squared voltage of bus i into the columns x."""
    if limits.w >= 0:
        x[limits.w + i] = w


@inner()
def put_branch(limits, x, b, closed, sent, received, larger, r):
    """Write P, ell, y of branch b into the columns x; return ell.

    sent, received: active power into the branch at its from and to end. larger: the larger squared
    current of its ends; with limits on power it does not count. r: series resistance.
    """
    if limits.by_power:
        # In (5) a branch receives P - r ell. With P sent by the AC flow, this ell makes that the AC
        # power received.
        ell = (sent + received) / r if r > 0 else 0.0
    else:
        ell = larger
    if limits.p >= 0:
        x[limits.p + b] = sent
    if limits.ell >= 0:
        x[limits.ell + b] = ell
    if limits.y >= 0:
        x[limits.y + b] = 1.0 if closed else 0.0
    return ell


@njit
def limit_state(limits):
    """Return empty buffers for the limits at one state."""
    n_limit = limits.constant.shape[0]
    return LimitState(np.zeros(limits.kind.shape[0]), np.zeros(n_limit), np.zeros(n_limit))


@inner()
def end_currents(feeder, closed, answer, b):
    """Return the currents into branch b at its from and to end at item 0 of `answer`.

    An open branch that hangs from one end draws its charging there.
    """
    v_from, v_to = answer.voltage[0, feeder.from_bus[b]], answer.voltage[0, feeder.to_bus[b]]
    if closed[b]:
        j = answer.current[0, b]
        return (
            j / np.conj(feeder.ratio[b]) + feeder.y_closed[b, 0] * v_from,
            -j + feeder.y_closed[b, 1] * v_to,
        )
    at_from = feeder.y_open[b, 0] * v_from if feeder.open_end[b] == 2 else complex(0.0, 0.0)
    at_to = feeder.y_open[b, 1] * v_to if feeder.open_end[b] == 1 else complex(0.0, 0.0)
    return at_from, at_to


@inner()
def limit_columns(feeder, limits, forest, closed, answer, x):
    """Fill x with item 0 of `answer`, an AC state with the branch states `closed` (n_branch,)."""
    voltage = answer.voltage
    for i in range(voltage.shape[1]):
        v = voltage[0, i]
        w = v.real * v.real + v.imag * v.imag if forest.place[i] >= 0 else limits.inside[i]
        put_bus(limits, x, i, w)
    for b in range(closed.shape[0]):
        at_from, at_to = end_currents(feeder, closed, answer, b)
        sent = (voltage[0, feeder.from_bus[b]] * np.conj(at_from)).real
        received = (voltage[0, feeder.to_bus[b]] * np.conj(at_to)).real
        larger = 0.0 if limits.by_power else max(abs(at_from) ** 2, abs(at_to) ** 2)
        put_branch(limits, x, b, closed[b], sent, received, larger, feeder.z[b].real)


@inner()
def limit_excess(limits, forest, state):
    """Fill `excess` and `side` of a `LimitState` from its x; return the largest excess, at least 0.

    Limits of dark buses hold.
    """
    x, excess, side = state.x, state.excess, state.side
    kind, index, start, column = limits.kind, limits.index, limits.start, limits.column
    worst = 0.0
    for k in range(limits.constant.shape[0]):
        total = limits.constant[k]
        dark = False
        for t in range(start[k], start[k + 1]):
            total += limits.value[t] * x[column[t]]
            dark = dark or (kind[column[t]] == COLUMN_W and forest.place[index[column[t]]] < 0)
        above, below = total - limits.upper[k], limits.lower[k] - total
        excess[k] = -1.0 if dark else max(above, below)
        side[k] = 1.0 if above >= below else -1.0
        worst = max(worst, excess[k])
    return worst


class _Reading(NamedTuple):
    """What the judge reports about a network and setting is measured by."""

    reachable: BoolArray  # (n_row, n_bus) buses that a path could reach
    row: IntArray  # (B,) the row of each item
    per_limit: FloatArray  # (n_branch,) one over the limit, 0 where there is none
    groups: int  # the limits of groups are the last ones, so many


class _Flows(NamedTuple):
    """AC states of a batch."""

    voltage: ComplexArray  # (B, n_bus)
    at_from: ComplexArray  # (B, n_branch) current into each branch at its from end
    at_to: ComplexArray  # (B, n_branch) times sign_to: current into it at its to end
    sign_to: float
    energised: BoolArray  # (B, n_bus)
    converged: BoolArray  # (B,)


@dataclass(frozen=True, eq=False)
class ReadState:
    """What the limits and the report need of AC states, one entry per item."""

    points: FloatArray  # (B, n_column) of the compiled limits
    v_min: FloatArray  # (B,) lowest voltage of a live bus, pu; NaN where the flow failed
    loading: FloatArray  # (B,) largest power or current over its limit, groups too; NaN likewise
    connected: BoolArray  # (B,) every bus that a path could reach is energised
    is_forest: BoolArray  # (B,) no loop among the closed feeds (`network/parallel.py`)


def read_state(
    rules: TransferRules, scenarios: Scenarios, flow: PowerFlow, closed: BoolArray
) -> ReadState:
    """Return the columns of the compiled limits at each AC state, and what the judge reports.

    closed: (B, n_branch) branch states of the batched flow.
    """
    if rules.plain:
        # Without taps and shunts both ends carry the series current.
        flows = (flow.voltage, flow.series_current, flow.series_current, -1.0)
    else:
        at_ends = (flow.current_from, flow.current_to)
        flows = (flow.voltage, *(np.ascontiguousarray(current) for current in at_ends), 1.0)
    found = ReadState(
        np.zeros((len(closed), rules.limits.n_column)),
        np.full(len(closed), np.nan),
        np.full(len(closed), np.nan),
        np.ones(len(closed), dtype=bool),
        ~has_loop(flow.network, closed, flow.energised),
    )
    report = _Report(*(getattr(found, field) for field in _Report._fields))
    # Some nanoseconds a branch.
    with threads_for(5e-3 * closed.size):
        _read_items(
            prepare(flow.network),
            lay_out_limits(rules),
            _Reading(
                *rules.within_reach(flow.network, scenarios),
                rules.per_limit,
                len(flow.network.groups),
            ),
            _Flows(*flows, flow.energised, flow.converged),
            closed,
            report,
        )
    return found


class _Report(NamedTuple):
    """The arrays of `ReadState`."""

    points: FloatArray
    v_min: FloatArray
    loading: FloatArray
    connected: BoolArray


@njit(cache=True, parallel=True, error_model="numpy")
def _read_items(feeder, limits, reading, flows, closed, report):
    """Fill `report` for every item."""
    for item in prange(closed.shape[0]):
        reachable = reading.reachable[reading.row[item]]
        _read_item(feeder, limits, reachable, reading, flows, closed[item], item, report)


@inner()
def _read_item(feeder, limits, reachable, reading, flows, closed, item, report):
    """Fill row `item`; closed: (n_branch,)."""
    x = report.points[item]
    lowest, connected = _read_buses(limits, reachable, flows, item, x)
    highest = 0.0
    for b in range(closed.shape[0]):
        size = _read_branch(feeder, limits, flows, item, closed[b], b, x)
        highest = max(highest, size * reading.per_limit[b])
    for k in range(limits.constant.shape[0] - reading.groups, limits.constant.shape[0]):
        total = 0.0
        for t in range(limits.start[k], limits.start[k + 1]):
            total += limits.value[t] * x[limits.column[t]]
        highest = max(highest, abs(total))
    report.connected[item] = connected
    if flows.converged[item]:
        report.v_min[item], report.loading[item] = np.sqrt(lowest), highest


@inner()
def _read_buses(limits, reachable, flows, item, x):
    """Write the buses into x; return the lowest |V|^2 of a live bus, and whether all are fed."""
    lowest, connected = np.inf, True
    for i in range(flows.voltage.shape[1]):
        w = limits.inside[i]
        if flows.energised[item, i]:
            v = flows.voltage[item, i]
            w = v.real * v.real + v.imag * v.imag
            lowest = min(lowest, w)
        elif reachable[i]:
            connected = False
        put_bus(limits, x, i, w)
    return lowest, connected


@inner()
def _read_branch(feeder, limits, flows, item, closed, b, x):
    """Write branch b into x; return its power or current, pu."""
    a, c = flows.at_from[item, b], flows.sign_to * flows.at_to[item, b]
    sent = (flows.voltage[item, feeder.from_bus[b]] * np.conj(a)).real
    received = (flows.voltage[item, feeder.to_bus[b]] * np.conj(c)).real
    larger = max(a.real * a.real + a.imag * a.imag, c.real * c.real + c.imag * c.imag)
    ell = put_branch(limits, x, b, closed, sent, received, larger, feeder.z[b].real)
    return max(abs(sent), abs(received)) if limits.by_power else np.sqrt(ell)
