"""Every decision of a load-transfer comparison on the map: pick a fault, a setting and a method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from feederguard.data.sampling import SampledScenarios
from feederguard.models.arrays import FloatArray, IntArray
from feederguard.models.load_transfer import Setting
from feederguard.models.network import Network
from feederguard.models.power_flow import solve_power_flow
from feederguard.studies.pages.blocks import Choice, Layer, Picker, Selector
from feederguard.studies.pages.feeder_drawing import (
    FeederDrawing,
    branch_label,
    draw_feeder,
    places,
)
from feederguard.studies.pages.figure_style import packed
from feederguard.studies.pages.number_text import counted, milliseconds, number
from feederguard.studies.transfer.decision_states import (
    DecisionStates,
    read_decisions,
    solve_states,
)
from feederguard.studies.transfer.map import FAULT, LEAST_SHED_KW, map_changes, map_chart, marks_at
from feederguard.studies.transfer.profiles import (
    BusAxis,
    axis_of_buses,
    limit_changes,
    loading_changes,
    loading_chart,
    voltage_changes,
    voltage_chart,
)
from feederguard.studies.transfer.tables import SEARCH


def transfer_picker(
    network: Network, sampled: SampledScenarios, rows: pd.DataFrame, settings: Sequence[Setting]
) -> Picker:
    """Return the map and the profiles of every decision.

    rows: those of `transfer_section`, with a `reference` cost.
    """
    drawing = draw_feeder(network)
    axis = axis_of_buses(drawing)
    scenarios = sampled.scenarios
    numbers = sorted(set(rows["scenario"].tolist()))
    before = solve_power_flow(
        network, scenarios.p_load - scenarios.p_gen, scenarios.q_load, network.closed
    )
    v_before = np.where(
        before.converged[:, None] & before.energised, np.abs(before.voltage), np.nan
    )
    by_setting = {
        setting.name: Choice(
            "", {"transfer-voltage": limit_changes(axis, setting.v_min_pu, setting.v_max_pu)}
        )
        for setting in settings
    }
    by_all, voltages = _decisions(network, drawing, axis, sampled, rows, settings)
    floor = min(0.89, float(np.nanmin(np.concatenate([v_before, *voltages]))) - 0.012)
    methods = list(dict.fromkeys(rows["method"]))
    shown = next((name for name in ("ranked_switching", SEARCH) if name in methods), methods[-1])
    return Picker(
        "transfer-decisions",
        "Every decision on the map",
        (
            Selector(
                "Fault",
                tuple((str(k), _scenario_label(network, sampled, k)) for k in numbers),
                numbers.index(_hardest(numbers, rows[rows["setting"] == settings[-1].name])),
            ),
            Selector("Setting", tuple((setting.name, setting.name) for setting in settings)),
            Selector("Method", tuple((name, name) for name in methods), methods.index(shown)),
        ),
        (
            Layer((0,), _faults(network, axis, scenarios.fault, v_before, numbers)),
            Layer((1,), by_setting),
            Layer(
                (0, 1, 2),
                by_all,
                "This method was not run in this setting; the map shows the fault alone.",
            ),
        ),
        (
            map_chart(drawing),
            voltage_chart(axis, floor, max([1.05, *(setting.v_max_pu for setting in settings)])),
            loading_chart(drawing),
        ),
        places(drawing),
    )


def _hardest(numbers: Sequence[int], part: pd.DataFrame) -> int:
    """Return the scenario with the dearest optimum, since it shows most."""
    dearest = part.groupby("scenario")["reference"].first()
    return int(dearest.index[int(dearest.fillna(-np.inf).argmax())]) if len(dearest) else numbers[0]


def _faults(
    network: Network, axis: BusAxis, faults: IntArray, v_before: FloatArray, numbers: Sequence[int]
) -> dict[str, Choice]:
    """Return the choices by fault: its place, and the voltages before it."""
    return {
        str(k): Choice(
            "",
            {
                "transfer-map": {
                    FAULT: marks_at(
                        [int(faults[k])], [f"fault {network.branch_name[int(faults[k])]}"]
                    )
                },
                "transfer-voltage": {0: {"y": packed(axis.gapped(v_before[k]))}},
            },
        )
        for k in numbers
    }


def _decisions(
    network: Network,
    drawing: FeederDrawing,
    axis: BusAxis,
    sampled: SampledScenarios,
    rows: pd.DataFrame,
    settings: Sequence[Setting],
) -> tuple[dict[str, Choice], list[FloatArray]]:
    """Return the choices by scenario, setting and method, and the voltages of each setting.

    The voltages are (B, n_bus), NaN where there is none.
    """
    found: dict[str, Choice] = {}
    voltages: list[FloatArray] = []
    for setting in settings:
        part = rows[rows["setting"] == setting.name]
        told = part[part["cost"].notna()]
        if len(told):
            chosen = sampled.scenarios[told["scenario"].to_numpy()]
            states = solve_states(network, chosen, read_decisions(network, chosen, told), setting)
            voltages.append(states.v)
            for row, line in enumerate(told.to_dict("records")):
                fault = network.branch_index(line["fault_branch"])
                shows = {
                    "transfer-map": map_changes(network, states, row, fault),
                    "transfer-voltage": voltage_changes(states, row, axis),
                    "transfer-loading": loading_changes(states, row, drawing),
                }
                found[_key(line)] = Choice(_note(network, setting, states, row, line), shows)
        for line in part[part["cost"].isna()].to_dict("records"):
            found[_key(line)] = Choice(f"`{line['method']}` gave no decision: {line['note']}")
    return found, voltages


def _key(line: Mapping[Any, Any]) -> str:
    return f"{line['scenario']}|{line['setting']}|{line['method']}"


def _scenario_label(network: Network, sampled: SampledScenarios, k: int) -> str:
    b = int(sampled.scenarios.fault[k])
    load = network.base_mva * sampled.scenarios.p_load[k].sum()
    where = branch_label(network, b, int(network.from_bus[b]), int(network.to_bus[b]))
    return f"{k + 1}: {where}, {number(float(load))} MW of load"


def _note(
    network: Network, setting: Setting, states: DecisionStates, row: int, line: Mapping[Any, Any]
) -> str:
    v, loading = states.v[row], states.loading[row]
    closed, dark = states.closed[row], ~states.flow.energised[row]
    opened = network.closed & ~closed
    opened[network.branch_index(line["fault_branch"])] = False
    done = [
        f"{verb} {', '.join(network.branch_name[b] for b in np.flatnonzero(which))}"
        for verb, which in (("closes", ~network.closed & closed), ("opens", opened))
        if which.any()
    ]
    lost = states.lost_kw[row]
    shed_kw, dark_kw = float(lost[~dark].sum()), float(lost[dark].sum())
    if shed_kw >= LEAST_SHED_KW:
        done.append(
            f"sheds {number(shed_kw)} kW at "
            f"{counted(int((lost[~dark] >= LEAST_SHED_KW).sum()), 'bus', 'buses')}"
        )
    if dark.any():
        done.append(
            f"leaves {counted(int(dark.sum()), 'bus', 'buses')} ({number(dark_kw)} kW) dark"
        )
    words = f"**{line['method']}** " + ("; ".join(done) or "does nothing") + "."
    cost = f"Cost {number(line['cost'], 4)}"
    if line["reference"] == line["reference"]:
        cost += f" (optimum {number(line['reference'], 4)})"
    cost += f", decided in {milliseconds(float(line['seconds']))}."
    if not states.flow.converged[row]:
        return f"{words} {cost}\n\n**Not safe**: the AC power flow has no solution."
    low = int(np.nanargmin(v))
    state = f"Lowest voltage {v[low]:.4f} pu at bus {network.bus_name[low]}"
    if np.isfinite(loading).any():
        top = int(np.nanargmax(loading))
        name = f"{network.kind[top]} {network.branch_name[top]}"
        state += f", highest loading {100 * loading[top]:.1f} % ({name})"
    return f"{words} {cost}\n\n{_verdict(setting, states, row)}. {state}."


def _verdict(setting: Setting, states: DecisionStates, row: int) -> str:
    if states.safe[row]:
        return "**Safe** by the AC power flow"
    v, loading = states.v[row], states.loading[row]
    broken = [] if not np.nanmin(v) < setting.v_min_pu else ["a bus is under voltage"]
    broken += [] if not np.nanmax(v) > setting.v_max_pu else ["a bus is over voltage"]
    broken += [] if not (loading > 1.0).any() else ["a branch is overloaded"]
    broken += [] if states.forest[row] or not setting.radial else ["a loop is closed"]
    return "**Not safe**: " + (", ".join(broken) or "a limit is broken")
