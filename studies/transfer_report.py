"""The chapter on load transfer of a study's report: what was asked, every decision on the map, and the figures.

A table row keeps a decision by the names of what it switches and the MW that it sheds at each bus. The states that the page
shows are computed anew from those, all of a setting in one batched AC power flow, the judge's own.

Longer than other files: the chapter's figures, texts and tables are one page.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from feederguard.data.sampling import SampledScenarios
from feederguard.models.load_transfer import EPSILON, judge_with_flow
from feederguard.models.network import BoolArray, FloatArray, IntArray, Network
from feederguard.models.power_flow import PowerFlow, solve_power_flow
from feederguard.models.scenario import Decisions, Scenarios
from feederguard.models.setting import Setting, resolve_setting
from feederguard.studies.feeder_drawing import (
    MOST_LABELS,
    NO_TEXT,
    FeederDrawing,
    base_traces,
    branch_label,
    bus_labels,
    draw_feeder,
    map_layout,
    places,
)
from feederguard.studies.paper_tables import PRINTED
from feederguard.studies.report import (
    BLACK,
    BLUE,
    GREEN,
    INK,
    MUTED,
    ORANGE,
    SKY,
    VERMILLION,
    Block,
    Chart,
    Choice,
    DataTable,
    Layer,
    Picker,
    Prose,
    Section,
    Selector,
    counted,
    decades,
    milliseconds,
    new_figure,
    number,
    packed,
)
from feederguard.studies.transfer_tables import SEARCH, best_references

PAPER_FEEDER = "ieee33"
LEAST_SHED_KW = 0.05  # smaller amounts are a solver's crumbs and are not drawn
OVERLOADED = 1.0001  # of the limit, for what rounding and the judge's tolerance leave
LEAST_GAP_PCT = 0.01  # where the axis of gaps begins

WHAT = {
    "no_transfer": "nothing is switched: what lies behind the fault stays dark",
    "genetic": "a genetic algorithm, the paper's baseline",
    "ddpg": "a learned agent (DDPG), as the paper trains it",
    "ddpg_corrected": "the same agent with the paper's correction: load is shed in steps of 2 % until the AC flow holds",
    "ddpg_safe": "the same agent with our correction: the least further shedding that the AC flow needs",
    "ranked_switching": "a learned ranking of switching plans, the best of them checked by AC flow",
    "plan_search": "every tie state (or a search where they are too many), each with its least shedding",
    "misocp": "a mixed-integer cone program, solved with a bound on what any answer can cost",
    "enumeration": "an AC optimum for every tie state, the best of them taken",
}


def transfer_section(
    network: Network, sampled: SampledScenarios, rows: pd.DataFrame, summary: pd.DataFrame, feeder: str
) -> Section:
    """Return the chapter on a comparison of load transfer.

    rows: the columns of `transfer_tables.Row`, one line per decision; summary: what `transfer_tables.summarise` makes of
    them; sampled: the scenarios by number. Raises ValueError where a row names a branch or bus that the feeder does not have.
    """
    rows = rows.assign(reference=best_references(rows))
    settings = [resolve_setting(network, name) for name in dict.fromkeys(rows["setting"])]
    n_scenario = int(rows["scenario"].nunique())
    blocks: list[Block] = [Prose(_question(network, feeder, settings, n_scenario)), Prose(_brief(summary))]
    blocks.append(_picker(network, sampled, rows, settings))
    for setting in settings:
        part, lines = (table[table["setting"] == setting.name] for table in (rows, summary))
        blocks += [_distributions(part, setting), _summary_table(lines, setting, feeder, n_scenario)]
    blocks.append(_times(summary, feeder))
    theirs = _paper_table(summary, feeder, n_scenario)
    blocks += [theirs] if theirs is not None else []
    blocks.append(Prose(_reading(rows)))
    return Section("transfer", f"Load transfer on {feeder}", tuple(blocks))


def _question(network: Network, feeder: str, settings: Sequence[Setting], n_scenario: int) -> str:
    rules = "\n".join(f"- {_rules(network, setting)}" for setting in settings)
    return (
        "A line of the feeder fails and is isolated. Which switches should be operated, and how much load shed, so that "
        "everyone else is supplied at once and nothing is overloaded or under voltage? Shedding and switching both cost: "
        "22 (shed power / 0.1 MW)² + 3 (number of operations)², equation (1) of Zhou et al. 2024.\n\n"
        f"{feeder} has {network.n_bus} buses, {int(network.closed.sum())} branches in service and "
        f"{int(network.is_tie.sum())} normally open ties. Every method met the same {n_scenario} random faults, each at a "
        f"random hour of the test weeks, and every decision was judged by the same AC power flow.\n\n{rules}"
    )


def _rules(network: Network, setting: Setting) -> str:
    shape = "always a tree" if setting.radial else "loops allowed"
    n_free = int(setting.switchable_branches(network).sum())
    limit = (
        "every line within its current rating"
        if setting.active_limit_mw is None
        else f"at most {setting.active_limit_mw:g} MW in every branch but those at the substation (our calibration; the "
        "paper's limits are not published)"
    )
    return (
        f"**{setting.name} setting**: {shape}; {n_free} branches may be switched; {setting.v_min_pu:.2f} to "
        f"{setting.v_max_pu:.2f} pu; {limit}."
    )


def _brief(summary: pd.DataFrame) -> str:
    """Return what the tables say in a sentence or two a setting."""
    said = []
    for setting, part in summary.groupby("setting", sort=False):
        safe = part[(part["safe_pct"] > 100 - 1e-9) & (part["failed"] == 0)]
        words = f"**{setting} setting**: {len(safe)} of {len(part)} methods gave nothing but safe decisions"
        if len(safe):
            best = safe.iloc[int(safe["cost"].argmin())]
            # What is as cheap to four digits and faster is the better news.
            near = safe[safe["cost"] <= best["cost"] * 1.001]
            fast = near.iloc[int(near["seconds_mean"].argmin())]
            words += (
                f"; the cheapest of them cost {number(best['cost'], 4)} on average, and `{fast['method']}` reached that "
                f"within 0.1 % in {milliseconds(float(fast['seconds_mean']))} a decision"
            )
        unsafe = part[part["safe_pct"] < 100 - 1e-9]
        if len(unsafe):
            worst = ", ".join(
                f"`{line['method']}` ({line['safe_pct']:.0f} % safe)" for line in unsafe.to_dict("records")
            )
            words += f". Not always safe: {worst}"
        said.append(f"- {words}.")
    return "In brief:\n\n" + "\n".join(said)


@dataclass(frozen=True, eq=False)
class _States:
    """The AC states of some decisions."""

    closed: BoolArray  # (B, n_branch)
    lost_kw: FloatArray  # (B, n_bus) load that is shed, or dark
    flow: PowerFlow
    loading: FloatArray  # (B, n_branch) of the setting's limit, NaN where there is none
    v: FloatArray  # (B, n_bus) pu, NaN where there is no voltage
    safe: BoolArray  # (B,)
    forest: BoolArray  # (B,) no loop is closed


def read_decisions(network: Network, scenarios: Scenarios, rows: pd.DataFrame) -> Decisions:
    """Return the decisions that rows (one per scenario) tell by name; raises ValueError for a name of another feeder."""
    branch = {name: b for b, name in enumerate(network.branch_name)}
    bus = {name: i for i, name in enumerate(network.bus_name)}
    closed = np.tile(network.closed, (len(rows), 1))
    closed[np.arange(len(rows)), scenarios.fault] = False
    shed = np.zeros((len(rows), network.n_bus))
    columns = (rows["closed_branches"], rows["opened_branches"], rows["shed_mw"])
    for k, (to_close, to_open, sheds) in enumerate(zip(*columns, strict=True)):
        closed[k, _numbers(to_close, branch, "branch")] = True
        closed[k, _numbers(to_open, branch, "branch")] = False
        for name, mw in re.findall(r"(.+?):([0-9.eE+-]+)(?: |$)", sheds):
            if name not in bus:
                raise ValueError(f"report: a decision sheds at bus {name!r}, which {network.name} does not have")
            demand = network.base_mva * scenarios.p_load[k, bus[name]]
            # The table keeps six digits, which may round a whole load up.
            shed[k, bus[name]] = min(1.0, float(mw) / demand) if demand > 0 else 0.0
    return Decisions(closed, shed)


def _numbers(told: str, known: Mapping[str, int], label: str) -> list[int]:
    """Return the positions of names joined by spaces, which names themselves may hold."""
    words, found = told.split(), []
    while words:
        for count in range(len(words), 0, -1):
            if " ".join(words[:count]) in known:
                found.append(known[" ".join(words[:count])])
                words = words[count:]
                break
        else:
            raise ValueError(f"report: a decision names {label} {words[0]!r}, which this feeder does not have")
    return found


def _solve(network: Network, scenarios: Scenarios, decisions: Decisions, setting: Setting) -> _States:
    outcome, flow = judge_with_flow(network, scenarios, decisions, setting)
    limited = np.isfinite(network.rating)
    loading = flow.loading
    if setting.active_limit_mw is not None:
        limited = setting.limited_branches(network)
        larger = np.maximum(np.abs(flow.s_from.real), np.abs(flow.s_to.real))
        loading = network.base_mva * larger / setting.active_limit_mw
    live = flow.energised & flow.converged[:, None]
    lost = np.where(flow.energised, decisions.shed, 1.0) * scenarios.p_load
    both = decisions.closed & flow.energised[:, network.from_bus] & flow.energised[:, network.to_bus]
    return _States(
        decisions.closed, 1e3 * network.base_mva * lost, flow,
        np.where(limited & flow.converged[:, None], loading, np.nan), np.where(live, np.abs(flow.voltage), np.nan),
        outcome.safe, both.sum(axis=1) == flow.energised.sum(axis=1) - len(network.substation),
    )  # fmt: skip


# Traces of the map after those of the bare feeder.
_OVER, _TIE, _DEAD, _BUS, _DARK, _SHED, _NAMES, _CLOSED, _OPENED, _FAULT = range(4, 14)


def _picker(network: Network, sampled: SampledScenarios, rows: pd.DataFrame, settings: Sequence[Setting]) -> Picker:
    drawing = draw_feeder(network)
    scenarios = sampled.scenarios
    numbers = sorted(set(rows["scenario"].tolist()))
    before = solve_power_flow(network, scenarios.p_load - scenarios.p_gen, scenarios.q_load, network.closed)
    v_before = np.where(before.converged[:, None] & before.energised, np.abs(before.voltage), np.nan)
    along, spots, names = _axis_of_buses(drawing)

    by_scenario, by_setting, by_all = {}, {}, {}
    for k in numbers:
        fault = int(scenarios.fault[k])
        by_scenario[str(k)] = Choice(
            "", {"transfer-map": {_FAULT: _mark([fault], [f"fault {network.branch_name[fault]}"])},
                 "transfer-voltage": {0: {"y": packed(_gapped(v_before[k], along))}}},
        )  # fmt: skip
    low_v, high_v = [v_before], []
    for setting in settings:
        ends = [spots[0] - 0.5, spots[-1] + 0.5] if len(spots) else [0, 1]
        by_setting[setting.name] = Choice(
            "", {"transfer-voltage": {2: {"x": ends, "y": [setting.v_min_pu] * 2}, 3: {"x": ends, "y": [setting.v_max_pu] * 2}}}
        )  # fmt: skip
        high_v.append(setting.v_max_pu)
        part = rows[rows["setting"] == setting.name]
        told = part[part["cost"].notna()]
        if len(told):
            chosen = scenarios[told["scenario"].to_numpy()]
            states = _solve(network, chosen, read_decisions(network, chosen, told), setting)
            low_v.append(states.v)
            for row, line in enumerate(told.to_dict("records")):
                key = f"{line['scenario']}|{setting.name}|{line['method']}"
                by_all[key] = _choice(network, drawing, setting, states, row, line, along)
        for line in part[part["cost"].isna()].to_dict("records"):
            key = f"{line['scenario']}|{setting.name}|{line['method']}"
            by_all[key] = Choice(f"`{line['method']}` gave no decision: {line['note']}")
    floor = min(0.89, float(np.nanmin(np.concatenate(low_v))) - 0.012)
    methods = list(dict.fromkeys(rows["method"]))
    shown = next((name for name in ("ranked_switching", SEARCH) if name in methods), methods[-1])
    # What costs most even at the optimum has most to show.
    dearest = rows[rows["setting"] == settings[-1].name].groupby("scenario")["reference"].first()
    hardest = numbers.index(int(dearest.index[int(dearest.fillna(-np.inf).argmax())])) if len(dearest) else 0
    return Picker(
        "transfer-decisions",
        "Every decision on the map",
        (
            Selector("Fault", tuple((str(k), _scenario_label(network, sampled, k)) for k in numbers), hardest),
            Selector("Setting", tuple((setting.name, setting.name) for setting in settings)),
            Selector("Method", tuple((name, name) for name in methods), methods.index(shown)),
        ),
        (
            Layer((0,), by_scenario), Layer((1,), by_setting),
            Layer((0, 1, 2), by_all, "This method was not run in this setting; the map shows the fault alone."),
        ),
        (
            _map_chart(drawing), _voltage_chart(network, spots, names, floor, max([*high_v, 1.05])),
            _loading_chart(network, drawing),
        ),
        places(drawing),
    )  # fmt: skip


def _scenario_label(network: Network, sampled: SampledScenarios, k: int) -> str:
    b = int(sampled.scenarios.fault[k])
    load = network.base_mva * sampled.scenarios.p_load[k].sum()
    where = branch_label(network, b, int(network.from_bus[b]), int(network.to_bus[b]))
    return f"{k + 1}: {where}, {number(float(load))} MW of load"


def _choice(
    network: Network, drawing: FeederDrawing, setting: Setting, states: _States, row: int, line: Mapping[Any, Any],
    along: Sequence[int],
) -> Choice:  # fmt: skip
    closed, v, loading = states.closed[row], states.v[row], states.loading[row]
    live, lost = states.flow.energised[row], states.lost_kw[row]
    fault = network.branch_index(line["fault_branch"])
    dead = network.closed & (~closed | ~(live[network.from_bus] & live[network.to_bus]))
    tie_closed, opened = np.flatnonzero(network.is_tie & closed), network.closed & ~closed
    opened[fault] = False
    over = np.flatnonzero(loading > OVERLOADED)
    shed = np.flatnonzero(live & (lost >= LEAST_SHED_KW))
    dark = np.flatnonzero(~live)
    peak = 1e3 * network.base_mva * max(float(network.p_load.max()), 1e-12)
    label = network.n_bus <= MOST_LABELS
    size = (9 + 24 * np.sqrt(lost / peak)).round(1)
    in_order = drawing.branch_order
    load_pct = 100 * loading[in_order]
    marks: dict[int, dict[str, Any]] = {
        _OVER: {"at": ["branch", over.tolist()]},
        _TIE: {"at": ["branch", tie_closed.tolist()]},
        _DEAD: {"at": ["branch", np.flatnonzero(dead).tolist()]},
        _BUS: {"customdata": packed(v)},
        _DARK: _loads(dark, lost, size, label),
        _SHED: _loads(shed, lost, size, label),
        _CLOSED: {
            "at": ["middle", tie_closed.tolist()], "text": [NO_TEXT, *(f" close {network.branch_name[b]}" for b in tie_closed)],
        },
        _OPENED: _mark(np.flatnonzero(opened).tolist(), [f"open {network.branch_name[b]}" for b in np.flatnonzero(opened)]),
    }  # fmt: skip
    gapped = _gapped(v, along)
    spots = [k for k, i in enumerate(along) if i >= 0 and not live[i]]
    return Choice(
        _note(network, setting, states, row, line),
        {
            "transfer-map": marks,
            "transfer-voltage": {1: {"y": packed(gapped)}, 4: {"x": [None, *spots], "y": _bottom(len(spots))}},
            "transfer-loading": {
                0: {"y": packed(np.where(load_pct <= 100 * OVERLOADED, load_pct, np.nan))},
                1: {"y": packed(np.where(load_pct > 100 * OVERLOADED, load_pct, np.nan))},
            },
        },
    )


def _loads(buses: IntArray, lost_kw: FloatArray, size: FloatArray, label: bool) -> dict[str, Any]:
    """Return the marks of loads that are lost; what has no load is a small mark without figure."""
    told = [NO_TEXT if kw < LEAST_SHED_KW else f"{kw:.0f}" if kw >= 9.95 else f"{kw:.1f}" for kw in lost_kw[buses]]
    # The first is no point, but what the legend shows.
    return {
        "at": ["bus", buses.tolist()], "customdata": [None, *lost_kw[buses].round(1).tolist()],
        "marker": {"size": [14.0, *size[buses].tolist()]}, "text": [NO_TEXT, *told] if label else NO_TEXT,
    }  # fmt: skip


def _mark(items: list[int], labels: list[str]) -> dict[str, Any]:
    # A line higher than the names of the buses beside it.
    return {"at": ["middle", items], "text": [NO_TEXT, *(f"{label}<br> " for label in labels)]}


def _bottom(count: int) -> list[float | None]:
    # The second axis, whose zero lies at the bottom of the figure.
    return [None, *[0.04] * count]


def _note(network: Network, setting: Setting, states: _States, row: int, line: Mapping[Any, Any]) -> str:
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
            f"sheds {number(shed_kw)} kW at {counted(int((lost[~dark] >= LEAST_SHED_KW).sum()), 'bus', 'buses')}"
        )
    if dark.any():
        done.append(f"leaves {counted(int(dark.sum()), 'bus', 'buses')} ({number(dark_kw)} kW) dark")
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
        state += f", highest loading {100 * loading[top]:.1f} % ({network.kind[top]} {network.branch_name[top]})"
    return f"{words} {cost}\n\n{_verdict(setting, states, row)}. {state}."


def _verdict(setting: Setting, states: _States, row: int) -> str:
    if states.safe[row]:
        return "**Safe** by the AC power flow"
    v, loading = states.v[row], states.loading[row]
    broken = [] if not np.nanmin(v) < setting.v_min_pu else ["a bus is under voltage"]
    broken += [] if not np.nanmax(v) > setting.v_max_pu else ["a bus is over voltage"]
    broken += [] if not (loading > 1.0).any() else ["a branch is overloaded"]
    broken += [] if states.forest[row] or not setting.radial else ["a loop is closed"]
    return "**Not safe**: " + (", ".join(broken) or "a limit is broken")


def _axis_of_buses(drawing: FeederDrawing) -> tuple[list[int], list[int], list[str]]:
    """Return the buses along the axis (-1: a gap before the next run), the places of buses on it, and their names."""
    along: list[int] = []
    for bus in drawing.order.tolist():
        if along and drawing.run[bus] != drawing.run[along[-1]]:
            along.append(-1)
        along.append(bus)
    spots = [k for k, bus in enumerate(along) if bus >= 0]
    return along, spots, [drawing.network.bus_name[along[k]] for k in spots]


def _gapped(values: FloatArray, along: Sequence[int]) -> FloatArray:
    picked = values[np.maximum(along, 0)]
    return np.where(np.asarray(along) < 0, np.nan, picked)


def _sparse(values: Sequence[Any], names: Sequence[str]) -> dict[str, Any]:
    """Return tick marks that leave room for one another."""
    widest = max((len(name) for name in names), default=1)
    every = max(1, -(-len(names) * (7 * widest + 8) // 900))
    return {"tickmode": "array", "tickvals": list(values)[::every], "ticktext": list(names)[::every], "tickangle": 0}


def _map_chart(drawing: FeederDrawing) -> Chart:
    network = drawing.network
    large = network.n_bus > MOST_LABELS
    grey = "#c3cad1"
    empty: dict[str, Any] = {"x": [None], "y": [None]}

    def marks(name: str, symbol: str, colour: str, **marker: Any) -> go.Scatter:
        return go.Scatter(
            **empty, mode="markers+text", name=name, text=NO_TEXT,
            textposition="top right" if symbol == "square" else "top center",
            hovertemplate="%{hovertext}: " + name + "<extra></extra>", textfont={"size": 12, "color": colour},
            marker={"symbol": symbol, "color": colour, "size": 14, **marker},
        )  # fmt: skip

    traces = [
        *base_traces(drawing),
        go.Scatter(**empty, mode="lines", name="over its limit", line={"color": VERMILLION, "width": 7}, hoverinfo="skip"),
        go.Scatter(**empty, mode="lines", showlegend=False, line={"color": GREEN, "width": 3.5}, hoverinfo="skip"),
        go.Scatter(**empty, mode="lines", name="without supply", line={"color": grey, "width": 4}, hoverinfo="skip"),
        go.Scatter(
            x=drawing.x, y=drawing.y, mode="markers", showlegend=False, customdata=[None] * network.n_bus,
            text=[f"bus {name}" for name in network.bus_name], hovertemplate="%{text}: %{customdata:.4f} pu<extra></extra>",
            marker={"size": 5 if large else 8, "color": "#fff", "line": {"width": 1.6, "color": INK}},
        ),
        go.Scatter(
            **empty, mode="markers+text", name="dark bus, kW lost (size)", text=NO_TEXT, textposition="bottom center",
            textfont={"size": 11, "color": MUTED}, hovertemplate="%{hovertext} is dark: %{customdata} kW lost<extra></extra>",
            marker={"size": 14, "color": "#dfe3e7", "opacity": 0.9, "line": {"width": 1.6, "color": "#8a97a3"}},
        ),
        go.Scatter(
            **empty, mode="markers+text", name="load shed, kW (size)", text=NO_TEXT, textposition="bottom center",
            textfont={"size": 11, "color": "#8a5a00"}, hovertemplate="%{hovertext}: %{customdata} kW shed<extra></extra>",
            marker={"color": ORANGE, "size": 14, "opacity": 0.9, "line": {"width": 1, "color": "#8a5a00"}},
        ),
        bus_labels(drawing),
        marks("switch closed", "square", GREEN, line={"width": 1.5, "color": "#fff"}),
        marks("switch opened", "square-open", BLUE, line={"width": 3}),
        marks("fault", "x-thin", VERMILLION, size=17, line={"width": 5, "color": VERMILLION}),
    ]  # fmt: skip
    figure = new_figure(traces, **map_layout(drawing))
    return Chart(
        "transfer-map", "The feeder after the decision", figure,
        "One column per branch from the substation on the left, lengths not to scale; hover over a bus or a mark for its "
        "name and figures.", least_width_px=drawing.width_px,
    )  # fmt: skip


def _voltage_chart(network: Network, spots: list[int], names: list[str], floor: float, top: float) -> Chart:
    n = spots[-1] + 1 if spots else 1
    text = [""] * n
    for k, name in zip(spots, names, strict=True):
        text[k] = f"bus {name}"
    limit = {"mode": "lines", "line": {"color": VERMILLION, "width": 1.6, "dash": "dash"}, "hoverinfo": "skip"}
    hover = "%{text}: %{y:.4f} pu<extra>%{fullData.name}</extra>"
    common: dict[str, Any] = {"x": list(range(n)), "y": [None] * n, "text": text, "hovertemplate": hover}
    figure = new_figure(
        [
            go.Scatter(**common, mode="lines", name="before the fault", line={"color": "#9aa6b0", "width": 2, "dash": "dot"}),
            go.Scatter(
                **common, mode="lines+markers", name="after the decision", line={"color": BLUE, "width": 2},
                marker={"size": 6 if n < 200 else 3},
            ),
            go.Scatter(x=[None], y=[None], name="limit", **limit),
            go.Scatter(x=[None], y=[None], showlegend=False, **limit),
            go.Scatter(
                x=[None], y=[None], yaxis="y2", mode="markers", name="dark", hoverinfo="skip",
                marker={"symbol": "x-thin", "size": 7, "line": {"width": 1.6, "color": MUTED}},
            ),
        ],
        height=330,
        xaxis={"title": {"text": "bus, in the order of the map: trunk, then lateral by lateral"}, "showgrid": False,
               "range": [-1, n], **_sparse(spots, names)},
        yaxis={"title": {"text": "voltage, pu"}, "range": [floor, top + 0.012]},
        yaxis2={"overlaying": "y", "range": [0, 1], "visible": False, "fixedrange": True},
    )  # fmt: skip
    return Chart("transfer-voltage", "Voltage against its limits", figure, least_width_px=760)


def _loading_chart(network: Network, drawing: FeederDrawing) -> Chart:
    order = drawing.branch_order
    n = len(order)
    text = [branch_label(network, b, int(network.from_bus[b]), int(network.to_bus[b])) for b in order.tolist()]
    common = {"x": list(range(n)), "y": [None] * n, "text": text, "textposition": "none"}
    hover = "%{text}: %{y:.1f} % of its limit<extra></extra>"
    figure = new_figure(
        [
            go.Bar(**common, name="within its limit", marker={"color": SKY}, hovertemplate=hover),
            go.Bar(
                **common, name="over its limit", hovertemplate=hover,
                marker={"color": VERMILLION, "pattern": {"shape": "/", "bgcolor": VERMILLION, "fgcolor": "#fff", "size": 6}},
            ),
            go.Scatter(
                x=[-0.7, n - 0.3], y=[100, 100], mode="lines", name="limit", hoverinfo="skip",
                line={"color": VERMILLION, "width": 1.6, "dash": "dash"},
            ),
        ],
        height=320, barmode="overlay", bargap=0.25,
        xaxis={"title": {"text": "branch, in the order of the map; ties at the end"}, "showgrid": False, "range": [-1, n],
               **_sparse(range(n), [network.branch_name[b] for b in order])},
        yaxis={"title": {"text": "loading, % of limit"}, "rangemode": "tozero"},
    )  # fmt: skip
    return Chart(
        "transfer-loading", "Loading of every branch", figure,
        "Current over rating in the radial setting, active power over the uniform limit in the paper setting. No bar: "
        "nothing flows, or the branch has no limit.", least_width_px=760,
    )  # fmt: skip


def _distributions(part: pd.DataFrame, setting: Setting) -> Chart:
    """Return the box plots of cost and of the gap to the optimum, a row per method."""
    methods = list(dict.fromkeys(part["method"]))
    best = part.drop_duplicates("scenario")["reference"].dropna()
    figure = make_subplots(rows=1, cols=2, shared_yaxes=True, horizontal_spacing=0.04)
    boxes: dict[str, Any] = {
        "orientation": "h", "boxpoints": "all", "jitter": 0.5, "pointpos": 0, "width": 0.6, "line": {"width": 1.5},
        "marker": {"size": 3.5, "opacity": 0.55}, "showlegend": False,
    }  # fmt: skip
    if len(best):
        figure.add_trace(
            go.Box(x=best, y=["the optimum"] * len(best), name="the optimum", fillcolor="#d8dde2", **_with(boxes, INK)),
            1,
            1,
        )
        figure.add_vline(x=float(best.median()), line={"color": INK, "width": 1.4, "dash": "dash"}, col=1, row=1)
    lost = 0
    for method in methods:
        one = part[(part["method"] == method) & part["cost"].notna()]
        safe, broken = one[one["safe"]], one[~one["safe"].astype(bool)]
        gap = 100 * (safe["cost"] / safe["reference"] - 1)
        lost += int((~np.isfinite(gap) & safe["reference"].notna()).sum())
        gap = gap[np.isfinite(gap)].clip(lower=LEAST_GAP_PCT)
        for column, values in ((1, safe["cost"]), (2, gap)):
            if len(values):
                figure.add_trace(
                    go.Box(
                        x=values, y=[method] * len(values), name=method, hovertemplate="%{x:.4g}<extra>" + method + "</extra>",
                        fillcolor="#cfe5f4", **_with(boxes, BLUE),
                    ), 1, column,
                )  # fmt: skip
        if len(broken):
            figure.add_trace(
                go.Scatter(
                    x=broken["cost"], y=[method] * len(broken), mode="markers", showlegend=False,
                    hovertemplate="not safe, cost %{x:.4g}<extra>" + method + "</extra>",
                    marker={"symbol": "x-thin", "size": 8, "line": {"width": 1.8, "color": VERMILLION}},
                ), 1, 1,
            )  # fmt: skip
    figure.add_vline(x=LEAST_GAP_PCT, line={"color": INK, "width": 2.5}, col=2, row=1)
    _axes_of_boxes(figure, [*reversed(methods), *(["the optimum"] if len(best) else [])], part)
    styled = new_figure(
        figure.data,
        **_without_template(figure),
        height=80 + 34 * (len(methods) + 1),
        margin={"l": 60, "r": 26, "t": 8, "b": 52},
    )
    note = "" if not lost else f" {lost} decisions where the optimum costs nothing have no relative gap."
    return Chart(
        f"transfer-cost-{setting.name}", f"Cost and gap to the optimum, {setting.name} setting", styled,
        "A point per fault, boxes from the lower to the upper quartile. Left: cost of the safe decisions; red crosses are "
        "decisions that are not safe, in no box; dashed: the optimum's median. Right: by how much a safe decision costs "
        "more than the optimum of the same fault; the thick line is the optimum itself, where all gaps up to "
        f"{LEAST_GAP_PCT:g} % stand.{note}",
        least_width_px=680, image="cost.png",
    )  # fmt: skip


def _with(boxes: Mapping[str, Any], colour: str) -> dict[str, Any]:
    return {**boxes, "line": {"width": 1.5, "color": colour}, "marker": {**boxes["marker"], "color": colour}}


def _axes_of_boxes(figure: go.Figure, rows: list[str], part: pd.DataFrame) -> None:
    cost = part.loc[part["cost"] > 0, "cost"]
    ends = (np.log10(cost.min()), np.log10(cost.max())) if len(cost) else (0.0, 1.0)
    figure.update_xaxes(**decades(*ends), title={"text": "cost, equation (1), no unit"}, col=1)
    safe = part[part["safe"].astype(bool) & part["reference"].notna() & (part["reference"] > 0)]
    most = 100 * float((safe["cost"] / safe["reference"]).max()) if len(safe) else 100.0
    figure.update_xaxes(
        **decades(np.log10(LEAST_GAP_PCT), np.log10(max(most, 10.0)), f"≤ {LEAST_GAP_PCT:g}"), col=2,
        title={"text": "cost above the optimum, %"},
        range=[np.log10(LEAST_GAP_PCT) - 0.15, max(1.1, np.log10(max(most, 1.0)) + 0.2)],
    )  # fmt: skip
    figure.update_yaxes(categoryorder="array", categoryarray=rows, showgrid=False, range=[-0.6, len(rows) - 0.4])


def _without_template(figure: go.Figure) -> dict[str, Any]:
    layout: dict[str, Any] = figure.to_plotly_json()["layout"]
    return {name: value for name, value in layout.items() if name not in ("template", "height")}


def _times(summary: pd.DataFrame, feeder: str) -> Chart:
    """Return the bars of decision times."""
    methods = list(dict.fromkeys(summary["method"]))
    traces = []
    looks = ((BLUE, ""), (ORANGE, "/"), (GREEN, "x"), (VERMILLION, "."))
    for k, (setting, part) in enumerate(summary.groupby("setting", sort=False)):
        mean = 1e3 * part["seconds_mean"].to_numpy()
        colour, shape = looks[k % len(looks)]
        traces.append(
            go.Bar(
                y=part["method"], x=mean, orientation="h", name=f"{setting} setting, mean", offsetgroup=str(k),
                marker={"color": colour, "pattern": {"shape": shape, "bgcolor": colour, "fgcolor": "#fff", "size": 6}},
                text=[f" {milliseconds(float(t) / 1e3)} " for t in mean], textposition="outside", cliponaxis=False,
                textfont={"size": 11},
                hovertemplate="%{y}: %{x:.3g} ms<extra>" + str(setting) + " setting, mean</extra>",
            )
        )  # fmt: skip
    printed = {name: float(PRINTED[name]["seconds"]) for name in methods if name in PRINTED}
    if _is_papers(summary, feeder) and printed:
        traces.append(
            go.Scatter(
                y=list(printed), x=[1e3 * s for s in printed.values()], mode="markers",
                name="as printed by Zhou et al., their machine",
                marker={"symbol": "diamond-open", "size": 10, "color": BLACK, "line": {"width": 2}},
                hovertemplate="%{y}: %{x:.3g} ms<extra>printed</extra>",
            )
        )  # fmt: skip
    known = 1e3 * summary["seconds_mean"].dropna().clip(lower=1e-7)
    top = max(float(known.max()), 1e3 * max(printed.values(), default=0.0) if _is_papers(summary, feeder) else 0.0)
    low, high = np.floor(np.log10(known.min())), np.log10(top)
    figure = new_figure(
        traces, barmode="group", bargap=0.3, height=120 + 24 * len(methods) * max(1, summary["setting"].nunique()),
        xaxis={"title": {"text": "time of a decision, ms (logarithmic)"},
               "range": [low - 0.2, high + 0.12 * (high - low) + 0.2], **decades(low, high)},
        yaxis={"categoryorder": "array", "categoryarray": methods[::-1], "showgrid": False},
    )  # fmt: skip
    return Chart(
        "transfer-times", "Time of a decision", figure,
        "One decision at a time, with the AC checks that the method makes itself. A step of the axis is a factor of ten.",
        least_width_px=620,
    )  # fmt: skip


def _summary_table(lines: pd.DataFrame, setting: Setting, feeder: str, n_scenario: int) -> DataTable:
    headings = (
        "method", "mean cost", "load shed, %", "switch operations", "all supplied, %", "flow solved, %", "safe, %",
        "gap to optimum, %", "time, mean", "99 % within", "training",
    )  # fmt: skip
    rows = []
    for line in lines.to_dict("records"):
        gap = line["gap_pct"]
        rows.append(
            (
                f"`{line['method']}`", number(line["cost"], 4), number(100 * line["shed_ratio"]),
                number(line["switch_operations"]), f"{line['connected_pct']:.1f}", f"{line['converged_pct']:.1f}",
                f"{line['safe_pct']:.1f}", "–" if gap != gap else f"{gap:,.2f}", milliseconds(float(line["seconds_mean"])),
                milliseconds(float(line["seconds_p99"])),
                milliseconds(float(line["training_s"])),
            )
        )  # fmt: skip
    failed = [f"{line['method']}: {int(line['failed'])}" for line in lines.to_dict("records") if line["failed"]]
    missing = f" Scenarios without a decision, left out of the means: {', '.join(failed)}." if failed else ""
    return DataTable(
        f"{feeder}, {setting.name} setting, {n_scenario} faults", headings, tuple(rows),
        "Gap: total cost of the safe decisions over the total of their optima. All supplied: every bus that some path "
        f"could reach is energised.{missing}",
    )  # fmt: skip


def _is_papers(summary: pd.DataFrame, feeder: str) -> bool:
    return feeder == PAPER_FEEDER and bool((summary["setting"] == "paper").any())


def _paper_table(summary: pd.DataFrame, feeder: str, n_scenario: int) -> DataTable | None:
    """Return the paper's printed figures beside ours, None where the paper prints none of this."""
    ours = summary[(summary["setting"] == "paper") & summary["method"].isin(list(PRINTED))]
    if not _is_papers(summary, feeder) or ours.empty:
        return None
    headings = (
        "method", "shed ratio", "printed", "switch operations", "printed", "reward × 10⁴", "printed", "safe, %", "printed",
        "time, s", "printed",
    )  # fmt: skip
    rows = []
    for line in ours.to_dict("records"):
        theirs = PRINTED[str(line["method"])]
        rows.append(
            (
                f"`{line['method']}`", f"{line['shed_ratio']:.3f}", theirs["shed_ratio"], f"{line['switch_operations']:.2f}",
                theirs["n_operations"], f"{1e4 / (line['cost'] + EPSILON):.2f}", theirs["reward"], f"{line['safe_pct']:.1f}",
                theirs["safe"], number(line["seconds_mean"]), theirs["seconds"],
            )
        )  # fmt: skip
    return DataTable(
        "Beside the paper's printed figures", headings, tuple(rows),
        "printed: Zhou et al., Energy Engineering 121(6), 2024, Tables 1 to 3. The conditions differ: theirs are means "
        "over their own test set and several trainings, on hourly loads and branch limits that are not published, and on "
        f"their machine; ours are {n_scenario} faults of one seed, on the bundled load year, with a uniform branch limit "
        f"calibrated to their level. reward: 1 / (mean cost + {EPSILON:g}), the one comparable with theirs. `--tables "
        "paper` makes the full comparison over seeds.",
    )  # fmt: skip


def _reading(rows: pd.DataFrame) -> str:
    told = "\n".join(f"- `{name}`: {WHAT[name]}" for name in dict.fromkeys(rows["method"]) if name in WHAT)
    sources = [_source(str(setting), part) for setting, part in rows.groupby("setting", sort=False)]
    optimum = "What stands for the optimum: " + "; ".join(sources) + "."
    if any("`misocp`" in source for source in sources):
        optimum += (
            " A bound holds for decisions without any violation; the judge allows 1e-5, so that a gap can come out a few "
            "hundredths of a percent below zero."
        )
    return (
        "**How to read it.** A decision is safe when the AC power flow finds a solution in which every voltage and branch "
        "limit holds (and, in the radial setting, no loop is closed). A cheap decision that is not safe is no bargain: on "
        f"the map, look for thick red lines and for buses outside the band. {optimum}\n\n{told}"
    )


def _source(setting: str, part: pd.DataFrame) -> str:
    """Return where the optima of a setting are from."""
    known = part[np.isfinite(part["bound"])]
    exact = list(dict.fromkeys(known.loc[known["method"] != SEARCH, "method"]))
    words = {
        "enumeration": "the best AC optimum over all tie states (`enumeration`)",
        "misocp": "the lower bound that `misocp` proved",
    }
    if exact:
        return f"in the {setting} setting " + " or ".join(words.get(name, f"the bound of `{name}`") for name in exact)
    if len(known):
        return f"in the {setting} setting the best that `{SEARCH}` found after trying every state"
    return f"in the {setting} setting nothing, since no method proved a bound"
