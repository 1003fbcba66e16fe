"""The loop of the paper's correction, compiled: steps (20) of `paper_correction.py`."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit, prange

from feederguard.models.arrays import BoolArray, ComplexArray, FloatArray, IntArray, inner
from feederguard.models.load_transfer.ac_state import (
    COLUMN_P,
    COLUMN_W,
    COLUMN_Y,
    Limits,
    LimitState,
    limit_columns,
    limit_excess,
    limit_state,
)
from feederguard.models.load_transfer.shedding import can_shed, net_after_shedding
from feederguard.models.power_flow.forest import (
    Answer,
    Feeder,
    Work,
    answer_room,
    collect_shunts,
    find_forest,
    forest_room,
    work_room,
)
from feederguard.models.power_flow.newton_sweep import solve_item

STAMP = "fc62ca45bc4f6e56922da3f32d43683a61b6025d9f68e9de0f5e963bae70a830"

CORRECTION_ENDS = (
    "as_proposed",
    "corrected",
    "nothing_left",
    "high_voltage",
    "not_radial",
    "out_of_steps",
)
AS_PROPOSED, CORRECTED, NOTHING_LEFT, HIGH_VOLTAGE, NOT_RADIAL, OUT_OF_STEPS = range(
    len(CORRECTION_ENDS)
)

LEAST_SHARE = 1e-6  # of the largest sensitivity; below it a bus does not count as helping
_NONE, _TOO_HIGH = -1, -2


class Batch(NamedTuple):
    """The items to correct, some of a batch of B."""

    items: IntArray  # positions in the batch
    slots: IntArray  # where the sensitivities of each item's topology lie
    p_load: FloatArray  # (B, n_bus)
    q_load: FloatArray  # (B, n_bus)
    p_gen: FloatArray  # (B, n_bus)
    closed: BoolArray  # (B, n_branch)
    refused: BoolArray  # (B,) a loop is closed where the setting allows none


class Sensitivities(NamedTuple):
    """The slots of a `RatioCache`, and in `Case` one of them."""

    ratio: ComplexArray  # (capacity, n_branch, n_bus) M_lambda
    impedance: ComplexArray  # (capacity, n_bus, n_bus) Y_node^-1


class Rule(NamedTuple):
    """What ends a correction, and how far a step goes."""

    alpha: float  # fraction of a bus's demand shed per step
    max_steps: int
    flow_tolerance: float  # of AC flows, pu
    tolerance: float  # of limits


class Found(NamedTuple):
    """What a correction writes, as the fields of `CorrectionRun`."""

    shed: FloatArray  # (B, n_bus) corrected in place
    end: IntArray  # (B,)
    n_steps: IntArray  # (B,)
    n_flows: IntArray  # (B,)
    worst_limit: IntArray  # (B,)


class Case(NamedTuple):
    """One item."""

    feeder: Feeder
    limits: Limits
    response: Sensitivities
    p_load: FloatArray  # (n_bus,)
    q_load: FloatArray  # (n_bus,)
    p_gen: FloatArray  # (n_bus,)
    closed: BoolArray  # (n_branch,)
    shed: FloatArray  # (n_bus,)


class Room(NamedTuple):
    """Buffers of one thread."""

    work: Work
    answer: Answer  # of one item
    limit: LimitState
    gain: FloatArray  # (n_bus,) rise of the limited quantity per active power drawn


@njit(cache=True, parallel=True, error_model="numpy")
def correct_items(feeder, limits, batch, response, rule, n_chunk, found):
    """Correct the items and fill `found`."""
    n_item = len(batch.items)
    for chunk in prange(n_chunk):
        first, last = chunk * n_item // n_chunk, (chunk + 1) * n_item // n_chunk
        _correct_some(feeder, limits, batch, response, rule, first, last, found)


@njit(error_model="numpy")
def _correct_some(feeder, limits, batch, response, rule, first, last, found):
    """Correct the items listed from `first` to before `last`."""
    forests, n_bus = forest_room(feeder), batch.p_load.shape[1]
    room = Room(work_room(feeder), answer_room(feeder), limit_state(limits), np.empty(n_bus))
    for turn in range(first, last):
        b, slot = batch.items[turn], batch.slots[turn]
        forest = find_forest(feeder, batch.closed[b], forests)
        if feeder.any_branch_shunt:
            collect_shunts(feeder, batch.closed[b], room.work.shunt)
        if batch.refused[b]:
            found.end[b] = NOT_RADIAL
            continue
        case = Case(
            feeder,
            limits,
            Sensitivities(response.ratio[slot], response.impedance[slot]),
            batch.p_load[b],
            batch.q_load[b],
            batch.p_gen[b],
            batch.closed[b],
            found.shed[b],
        )
        found.end[b] = _correct_one(case, forest, rule, room, b, found)


@njit(error_model="numpy")
def _correct_one(case, forest, rule, room, b, found):
    """Step by (20) until item b is safe or nothing more can be done; return its end."""
    n_steps, limit, demand = found.n_steps, room.limit, room.work.demand
    while True:
        for k in range(forest.n_live):
            i = forest.order[k]
            demand[k, 0], demand[k, 1] = net_after_shedding(
                case.p_load[i], case.q_load[i], case.p_gen[i], case.shed[i], 0.0
            )
        found.n_flows[b] += 1
        found.worst_limit[b] = -1
        iterations = solve_item(
            case.feeder, forest, room.work, 0, rule.flow_tolerance, 20, room.answer
        )
        if iterations >= 0:
            limit_columns(case.feeder, case.limits, forest, case.closed, room.answer, limit.x)
            if limit_excess(case.limits, forest, limit) <= rule.tolerance:
                return CORRECTED if n_steps[b] else AS_PROPOSED
            found.worst_limit[b] = np.argmax(limit.excess)
        if n_steps[b] >= rule.max_steps:
            return OUT_OF_STEPS
        if iterations >= 0:
            bus = _choose_bus(case, forest, room, rule.tolerance)
        else:
            bus = _heaviest(case, forest)
        if bus < 0:
            return HIGH_VOLTAGE if bus == _TOO_HIGH else NOTHING_LEFT
        more = case.shed[bus] + rule.alpha
        # Fifty steps of 0.02 add up to a rounding error less than 1.
        case.shed[bus] = more if more < 1.0 - 1e-9 else 1.0
        n_steps[b] += 1


@inner()
def _choose_bus(case, forest, room, tolerance):
    """Return the bus that helps the limit broken most, or the next one.

    _NONE or _TOO_HIGH where nothing helps.
    """
    limits, excess, side, gain = case.limits, room.limit.excess, room.limit.side, room.gain
    while True:
        row = np.argmax(excess)
        if not excess[row] > tolerance:
            return _NONE
        _gains(case, forest, room, row)
        largest, best, chosen = 0.0, 0.0, -1
        for k in range(forest.n_live):
            i = forest.order[k]
            helps = side[row] * gain[i]
            largest = max(largest, abs(helps))
            if can_shed(case.p_load[i]) and case.shed[i] < 1.0 and helps > best:
                best, chosen = helps, i
        if chosen >= 0 and best > LEAST_SHARE * largest:
            return chosen
        if side[row] > 0 and limits.kind[limits.column[limits.start[row]]] == COLUMN_W:
            return _TOO_HIGH
        excess[row] = -1.0


@inner()
def _gains(case, forest, room, row):
    """Fill `gain` with the rise of limit `row` per active power drawn at each live bus."""
    limits, feeder, gain = case.limits, case.feeder, room.gain
    voltage, current = room.answer.voltage[0], room.answer.current[0]
    gain[:] = 0.0
    for t in range(limits.start[row], limits.start[row + 1]):
        c, k = limits.column[t], limits.index[limits.column[t]]
        kind = limits.kind[c]
        if kind == COLUMN_Y:
            continue
        response = case.response.impedance[k] if kind == COLUMN_W else case.response.ratio[k]
        if kind == COLUMN_W:
            weight = -2.0 * np.conj(voltage[k])
        elif kind == COLUMN_P:
            weight = np.conj(voltage[feeder.from_bus[k]] / feeder.ratio[k])
        elif limits.by_power:
            # r ell is the power lost: sent at the from end less received at the to end.
            drop = voltage[feeder.from_bus[k]] / feeder.ratio[k] - voltage[feeder.to_bus[k]]
            r = feeder.z[k].real
            weight = np.conj(drop) / r if r > 0 else complex(0.0, 0.0)
        else:
            weight = 2.0 * np.conj(current[k])
        for place in range(forest.n_live):
            i = forest.order[place]
            if can_shed(case.p_load[i]):
                per_power = np.conj(complex(1.0, case.q_load[i] / case.p_load[i]) / voltage[i])
                gain[i] += limits.value[t] * (weight * response[i] * per_power).real


@inner()
def _heaviest(case, forest):
    """Return the bus that could relieve its own voltage most, _NONE where all is shed."""
    most, chosen = -1.0, _NONE
    for k in range(forest.n_live):
        i = forest.order[k]
        if can_shed(case.p_load[i]) and case.shed[i] < 1.0:
            power = abs(complex(case.p_load[i], case.q_load[i]))
            relief = abs(case.response.impedance[i, i]) * power * (1.0 - case.shed[i])
            if relief > most:
                most, chosen = relief, i
    return chosen
