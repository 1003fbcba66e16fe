"""The lines of an N-1 sheet, from the AC power flow: one per fault and one per switching step.

Loading is the larger end current over the rating. In a setting with a uniform limit it is active
power over that limit. A state is within limits if the judge finds no violation beyond its
tolerance. Other states carry a mark with the size of the violation and with the number of steps in
a row that it lasts; at the last step it lasts until the repair.

A load point is a bus with load. Customers are counted only if a file gives their number at each
bus. At a bus that sheds a part of its load, that part of its customers counts, rounded up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from feederguard.models.arrays import BoolArray, FloatArray, IntArray
from feederguard.models.load_transfer import (
    Decisions,
    Outcomes,
    Report,
    Scenarios,
    Setting,
    judge_with_flow,
)
from feederguard.models.load_transfer.rules import current_limit_pu
from feederguard.models.load_transfer.scenario import curtailed_power
from feederguard.models.load_transfer.setting import voltage_band
from feederguard.models.network import Network
from feederguard.models.power_flow import PowerFlow
from feederguard.models.switching.sequence import OPEN, SHED, SwitchingSequence
from feederguard.studies.n_minus_1_sheet.before import group_powers
from feederguard.studies.n_minus_1_sheet.faults import (
    SheetFault,
    device_text,
    response_columns,
)
from feederguard.studies.running.files import joined

NOTHING, RESTORED, SHEDS, PARTLY, NO_TIE, LEFT, UNSAFE = (
    "nothing to do",
    "restored",
    "restored, load shed",
    "partly restored",
    "dark: no tie",
    "left dark",
    "NOT SAFE",
)
UNKNOWN = "no power flow solution"
# A bound that the cost exceeds by more says nothing.
MOST_OVER_BOUND = 10.0
_DECIDED = ("closed", "shed", "curtail")  # fields of decisions and of the states of a sequence


@dataclass(frozen=True, eq=False)
class Places:
    """Where the AC states of a batch are nearest their limits, (B,) each.

    NaN and -1 stand for a state without a power flow solution.
    """

    v_min_bus: IntArray
    v_max_pu: FloatArray
    below: FloatArray  # how far a bus is below its limit at most, pu, 0 within
    above: FloatArray  # how far above
    branch: IntArray  # with the highest loading, -1 if no branch has a limit
    loading: FloatArray  # of that branch, 1 at its limit
    amount: FloatArray  # its current in A, or its active power in MW
    beyond: FloatArray  # the amount above the limit
    group: list[str]  # with the highest loading, empty if there is none
    group_loading: FloatArray  # of that group, NaN if there is none


def amount_unit(setting: Setting) -> str:
    """Return the unit of loading amounts in column names: a (rating) or mw (uniform limit)."""
    return "a" if setting.active_limit_mw is None else "mw"


def find_places(network: Network, setting: Setting, flow: PowerFlow) -> Places:
    """Return where a batch of AC states is nearest its limits."""
    magnitude = np.abs(flow.voltage)
    ok = flow.converged
    free = flow.energised & ~np.isin(np.arange(network.n_bus), network.substation)
    if setting.active_limit_mw is None:
        size = np.maximum(np.abs(flow.current_from), np.abs(flow.current_to))
        limit, unit = current_limit_pu(network, setting), network.base_current_a
    else:
        size = np.maximum(np.abs(flow.s_from.real), np.abs(flow.s_to.real))
        limit = np.where(
            setting.limited_branches(network), setting.active_limit_mw / network.base_mva, np.inf
        )
        unit = np.full(network.n_branch, network.base_mva)
    loading = np.where(ok[:, None], size / limit, 0.0)
    branch = np.where(ok & np.isfinite(limit).any(), loading.argmax(axis=1), -1)
    rows = np.arange(len(branch))

    def at_branch(values: FloatArray) -> FloatArray:
        return np.where(branch >= 0, values[rows, branch], np.nan)

    lowest = np.where(flow.energised & ok[:, None], magnitude, np.inf)
    highest = np.where(free & ok[:, None], magnitude, -np.inf).max(axis=1)
    band = voltage_band(network, setting)

    def beyond_band(distance: FloatArray) -> FloatArray:
        return np.where(ok, np.where(free, np.maximum(distance, 0.0), 0.0).max(axis=1), np.nan)

    return Places(
        np.where(ok, lowest.argmin(axis=1), -1),
        np.where(np.isfinite(highest), highest, np.nan),
        beyond_band(band.low - magnitude),
        beyond_band(magnitude - band.high),
        branch,
        at_branch(loading),
        at_branch(size * unit),
        at_branch((size - np.where(np.isfinite(limit), limit, 0.0)) * unit),
        *_of_groups(network, setting, flow),
    )


def _of_groups(network: Network, setting: Setting, flow: PowerFlow) -> tuple[list[str], FloatArray]:
    """Return the group with the highest loading in each state, and that loading."""
    n, (names, powers, limits) = len(flow.converged), group_powers(network, setting, flow)
    if not names:
        return [""] * n, np.full(n, np.nan)
    loading = np.abs(np.stack(powers, axis=1)) / np.array(limits)
    known = np.where(flow.converged[:, None], loading, -1.0)
    worst = known.argmax(axis=1)
    shown = [names[k] if ok else "" for k, ok in zip(worst, flow.converged, strict=True)]
    return shown, np.where(flow.converged, known[np.arange(n), worst], np.nan)


def step_rows(
    network: Network,
    setting: Setting,
    scenarios: Scenarios,
    sequences: list[SwitchingSequence],
    faults: list[SheetFault],
) -> pd.DataFrame:
    """Return a line per switching step of every fault; step 0 is the tripped state.

    One call of the power flow solves all states.
    """
    lengths = [len(sequence) + 1 for sequence in sequences]
    item = np.repeat(np.arange(len(sequences)), lengths)
    states = Decisions(
        *(np.concatenate([getattr(s, name) for s in sequences]) for name in _DECIDED)
    )
    outcomes, flow = judge_with_flow(network, scenarios[item], states, setting)
    places = find_places(network, setting, flow)
    p_kw = 1e3 * network.base_mva * scenarios.p_load[item]
    unit = amount_unit(setting)
    excess = np.concatenate([s.excess for s in sequences])
    within = excess == 0
    over = np.where(within, np.nan, np.maximum(places.loading - 1, 0.0))
    return pd.DataFrame(
        {
            "fault": [faults[k].label for k in item],
            "step": np.concatenate([np.arange(n) for n in lengths]),
            **_actions(network, scenarios, sequences, faults),
            "dark_kw": (p_kw * ~flow.energised).sum(axis=1),
            "shed_kw": (p_kw * np.where(flow.energised, states.shed, 0.0)).sum(axis=1),
            "loop_energised": np.concatenate([s.loop for s in sequences]),
            "v_min_pu": outcomes.v_min_pu,
            "v_min_bus": _names(network.bus_name, places.v_min_bus),
            "v_max_pu": places.v_max_pu,
            "max_loading_pct": 100 * places.loading,
            "max_loading_branch": _names(network.branch_name, places.branch),
            f"max_loading_{unit}": places.amount,
            "within_limits": within,
            "overload_pct": 100 * over,
            f"overload_{unit}": np.where(within, np.nan, np.maximum(places.beyond, 0.0)),
            "max_group_loading_pct": 100 * places.group_loading,
            "max_group": places.group,
            "undervoltage_pu": np.where(within, np.nan, places.below),
            "overvoltage_pu": np.where(within, np.nan, places.above),
            "lasts_steps": np.concatenate([_run_lengths(s.excess > 0) for s in sequences]),
        }
    ).pipe(_with_marks, np.cumsum(lengths) - 1)


def fault_rows(
    network: Network,
    setting: Setting,
    scenarios: Scenarios,
    sequences: list[SwitchingSequence],
    reports: list[Report],
    steps: pd.DataFrame,
    customers: IntArray | None,
    faults: list[SheetFault],
) -> pd.DataFrame:
    """Return a line per fault: decision, load without supply, final state, and proof.

    steps: the table of `step_rows`; customers: (n_bus,), None to count load points.
    """

    final = Decisions(*(np.stack([getattr(s, name)[-1] for s in sequences]) for name in _DECIDED))
    outcomes, flow = judge_with_flow(network, scenarios, final, setting)
    p_kw = 1e3 * network.base_mva * scenarios.p_load
    dark_kw, shed_kw = p_kw * ~flow.energised, p_kw * np.where(flow.energised, final.shed, 0.0)
    curtailed_kw = (
        1e3 * network.base_mva * curtailed_power(scenarios, final.curtail, flow.energised)
    )
    by_fault = steps.groupby("fault", sort=False)
    fault = scenarios.fault
    bound = np.array([report.bound for report in reports])
    return pd.DataFrame(
        {
            "fault": by_fault.tail(1)["fault"].to_numpy(),
            # Of the failed branch; of several, or of a block, the first.
            "from_bus": _names(network.bus_name, network.from_bus[fault]),
            "to_bus": _names(network.bus_name, network.to_bus[fault]),
            "kind": [one.kind for one in faults],
            "status": _statuses(outcomes, dark_kw.sum(axis=1), shed_kw.sum(axis=1)),
            "operations": [_told(network, sequence) for sequence in sequences],
            "n_operations": outcomes.n_operations,
            **response_columns(network, faults, scenarios.p_load, customers),
            "interrupted_kw": by_fault.head(1)["dark_kw"].to_numpy(),
            "dark_kw": dark_kw.sum(axis=1),
            "dark_buses": [_listed(network, np.flatnonzero(row)) for row in ~flow.energised],
            "shed_kw": shed_kw.sum(axis=1),
            "shed_kw_at": [_by_bus(network, row) for row in shed_kw],
            "curtailed_kw": curtailed_kw.sum(axis=1),
            "curtailed_kw_at": [_by_bus(network, row) for row in curtailed_kw],
            **_counted(network, flow.energised, final.shed, customers),
            **_of_steps(by_fault, amount_unit(setting)),
            "safe": outcomes.safe,
            "cost": outcomes.cost,
            "bound": bound,
            "gap_pct": 100 * _gap(outcomes.cost, bound, outcomes.safe),
            "proof": [report.reason for report in reports],
            "order": [
                "all orders compared" if s.compared else "one operation at a time"
                for s in sequences
            ],
        }
    )


def _of_steps(by_fault: Any, unit: str) -> dict[str, Any]:
    """Return the columns of a fault's last step, and the worst of all its steps."""
    last = by_fault.tail(1)
    shown = ("v_min_pu", "v_min_bus", "max_loading_pct", "max_loading_branch")
    beyond = by_fault["within_limits"].agg(lambda held: int((~held).sum()))
    return {
        **{name: last[name].to_numpy() for name in (*shown, f"max_loading_{unit}")},
        "steps_beyond_limits": beyond.to_numpy(),
        "worst_overload_pct": by_fault["overload_pct"].max().to_numpy(),
        "worst_undervoltage_pu": by_fault["undervoltage_pu"].max().to_numpy(),
        "worst_overvoltage_pu": by_fault["overvoltage_pu"].max().to_numpy(),
    }


def _actions(
    network: Network,
    scenarios: Scenarios,
    sequences: list[SwitchingSequence],
    faults: list[SheetFault],
) -> dict[str, list[str]]:
    """Return the action of each step, its element and devices, and the buses at its ends."""
    action, element, devices, ends, fractions, curtailed = [], [], [], [], [], []
    demands = zip(scenarios.p_load, scenarios.p_gen, strict=True)
    for fault, one, (p_load, p_gen), sequence in zip(
        scenarios.fault.tolist(), faults, demands, sequences, strict=True
    ):
        branches = [(fault,), *(operation.branches for operation in sequence.operations)]
        kinds = ["isolate", *(operation.kind for operation in sequence.operations)]
        shed, off = sequence.shed[-1], sequence.curtail[-1]
        told = _by_bus(network, 1e3 * network.base_mva * shed * p_load)
        if off.any():
            told += f" curtail {_by_bus(network, 1e3 * network.base_mva * off * p_gen)}"
        exact, exact_off = (
            joined(f"{network.bus_name[i]}:{float(part[i])!r}" for i in np.flatnonzero(part > 0))
            for part in (shed, off)
        )
        for kind, team in zip(kinds, branches, strict=True):
            action.append(kind)
            isolates = kind == "isolate"
            name = one.label if isolates else _team(network, team)
            element.append(told.strip() if kind == SHED else name)
            places = "; ".join(place.text(network) for place in one.response.isolating)
            known = network.devices is not None
            by = [device_text(network, b, opens=kind == OPEN) for b in team]
            devices.append(places * known if isolates else "; ".join(filter(None, by)))
            ends.append(
                ("", "")
                if kind == SHED
                else tuple(_bus(network, at[team[0]]) for at in (network.from_bus, network.to_bus))
            )
            fractions.append(exact if kind == SHED else "")
            curtailed.append(exact_off if kind == SHED else "")
    return {
        "action": action,
        "element": element,
        "devices": devices,
        "from_bus": [a for a, _ in ends],
        "to_bus": [b for _, b in ends],
        "shed_fractions": fractions,
        "curtail_fractions": curtailed,
    }


def _with_marks(steps: pd.DataFrame, last: IntArray) -> pd.DataFrame:
    """Return the steps with a mark: what is beyond limits, how far, and for how many steps."""
    marks = []
    for k, row in enumerate(steps.to_dict("records")):
        if row["within_limits"]:
            marks.append("")
            continue
        failed = not np.isfinite(row["v_min_pu"])
        parts = [
            f"{words} {row[name]:.4g} {unit}"
            for words, name, unit in (
                ("overload", "overload_pct", "%"),
                ("under-voltage", "undervoltage_pu", "pu"),
                ("over-voltage", "overvoltage_pu", "pu"),
            )
            if row[name] > 0
        ]
        if row["max_group_loading_pct"] > 100:
            over = row["max_group_loading_pct"] - 100
            parts.append(f"overload {over:.4g} % of group {row['max_group']!r}")
        lasting = "lasting" if k in last else "timed"
        n = row["lasts_steps"]
        marks.append(
            f"{lasting} {UNKNOWN if failed else ', '.join(parts)} for {n} step{'s' * (n != 1)}"
        )
    steps["mark"] = marks
    return steps


def _run_lengths(beyond: BoolArray) -> IntArray:
    """Return for each state how many states in a row are beyond limits; 0 for one within."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], beyond, [False]]).astype(int)))
    lengths = np.zeros(len(beyond), dtype=np.int64)
    for start, stop in zip(edges[::2], edges[1::2], strict=True):
        lengths[start:stop] = stop - start
    return lengths


def _statuses(outcomes: Outcomes, dark_kw: FloatArray, shed_kw: FloatArray) -> list[str]:
    words = []
    for k in range(len(outcomes)):
        if not outcomes.safe[k]:
            words.append(UNSAFE)
        elif outcomes.n_operations[k]:
            words.append(PARTLY if dark_kw[k] > 0 else SHEDS if shed_kw[k] > 0 else RESTORED)
        elif dark_kw[k] > 0:
            words.append(NO_TIE if outcomes.connected[k] else LEFT)
        else:
            words.append(SHEDS if shed_kw[k] > 0 else NOTHING)
    return words


def _counted(
    network: Network, live: BoolArray, shed: FloatArray, customers: IntArray | None
) -> dict[str, IntArray]:
    """Return the numbers of customers, or load points, that are dark and that are shed, (B,)."""
    if customers is None:
        loaded = network.p_load > 0
        return {
            "load_points_dark": (~live & loaded).sum(axis=1),
            "load_points_shed": (live & loaded & (shed > 0)).sum(axis=1),
        }
    part = np.ceil(np.where(live, shed, 0.0) * customers - 1e-9).astype(np.int64)
    return {"customers_dark": (~live * customers).sum(axis=1), "customers_shed": part.sum(axis=1)}


def _gap(cost: FloatArray, bound: FloatArray, safe: BoolArray) -> FloatArray:
    """Return cost over bound less one.

    It is 0 if both are zero, and inf if no useful bound is known or the decision is not safe.
    """
    known = np.isfinite(bound) & (bound > cost / MOST_OVER_BOUND)
    ratio = np.divide(cost, bound, out=np.full(len(cost), np.inf), where=known) - 1
    return np.where(safe, np.where(cost <= 0, 0.0, np.maximum(ratio, 0.0)), np.inf)


def _told(network: Network, sequence: SwitchingSequence) -> str:
    return "; ".join(
        operation.kind
        if operation.kind == SHED
        else f"{operation.kind} {_team(network, operation.branches)}"
        for operation in sequence.operations
    )


def _team(network: Network, branches: tuple[int, ...]) -> str:
    """Return the name of a branch, or the names of parallel branches that are operated as one."""
    return " + ".join(network.branch_name[b] for b in branches)


def _by_bus(network: Network, kw: FloatArray) -> str:
    """Return bus:kW of every bus with some, (n_bus,)."""
    return joined(f"{network.bus_name[i]}:{kw[i]:.6g}" for i in np.flatnonzero(kw > 0))


def _bus(network: Network, bus: int) -> str:
    return network.bus_name[int(bus)]


def _listed(network: Network, buses: IntArray) -> str:
    return joined(network.bus_name[i] for i in buses)


def _names(names: tuple[str, ...], places: IntArray) -> list[str]:
    return [names[int(k)] if k >= 0 else "" for k in places]
