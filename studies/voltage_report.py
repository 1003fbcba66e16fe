"""The chapter on voltage regulation of a study's report: every day of every method on the feeder, and the figures.

A schedule keeps the power of each battery; SOC and voltages are computed anew from it by the judge's own simulation. A picture
of a day shows the first seed of a learned method, the figures over all days show all seeds.

Longer than other files: the chapter's figures, texts and tables are one page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from feederguard.models.network import FloatArray, IntArray, Network
from feederguard.models.voltage_days import VoltageDays
from feederguard.models.voltage_regulation import (
    SAFE_TOLERANCE_PU,
    VoltageOutcomes,
    judged_buses,
    simulate,
)
from feederguard.studies.feeder_drawing import (
    NO_TEXT,
    FeederDrawing,
    base_traces,
    bus_labels,
    draw_feeder,
    map_layout,
    places,
)
from feederguard.studies.report import (
    BLACK,
    BLUE,
    GREEN,
    INK,
    ORANGE,
    PURPLE,
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
from feederguard.studies.voltage_study import VoltageBench
from feederguard.studies.voltage_tables import BOUND, VoltageResults, with_optimum

LEAST_GAP_PCT = 0.1  # where the axis of gaps begins
NO_STEPS = 0.5  # where "none" stands on a logarithmic axis of counts
MOST_POINTS = 400  # of a learning curve

WHAT = {
    "no_control": "the batteries do nothing",
    "droop": "each battery answers its own bus's voltage, the slopes tuned on the training days",
    "ddpg": "learned (DDPG), nothing behind it",
    "td3": "learned (TD3), nothing behind it",
    "sac": "learned (soft actor-critic), nothing behind it",
    "ppo": "learned (PPO), nothing behind it",
    "safe_ddpg": "learned, with one learned linear correction per limit (Dalal et al. 2018)",
    "df_srl": "TD3 with the safety layer: the nearest powers that keep every voltage in its band and the SOC in reach",
    "df_srl_no_tube": "the same agent, its layer without the tube that keeps the SOC in reach",
    "idle_safe": "nothing proposed, the safety layer alone",
    "lindistflow_opf": "perfect information, a model without losses",
    "ac_opf": "perfect information and the AC equations: the optimum that all others are measured by",
}


def voltage_section(
    bench: VoltageBench, results: VoltageResults, summary: pd.DataFrame, schedules: Mapping[str, FloatArray]
) -> Section:
    """Return the chapter on a comparison of voltage regulation.

    summary: what `voltage_tables.summarise` makes of the results; schedules: applied powers (n_day, n_step, n_bat) in pu on
    the test days by method, of the first seed of a learned one; a method without is left out of the pictures of days. Raises
    ValueError where a schedule has another shape.
    """
    days = with_optimum(results.days)
    shape = (len(bench.test), bench.test.n_step, len(bench.batteries))
    for name, schedule in schedules.items():
        if np.shape(schedule) != shape:
            raise ValueError(
                f"report: the schedule of {name!r} has shape {np.shape(schedule)}; expected {shape}, days, steps and "
                "batteries"
            )
    blocks: list[Block] = [Prose(_question(bench)), Prose(_brief(summary, days))]
    if schedules:
        blocks.append(_picker(bench, days, schedules))
    blocks += [_distributions(days), _outside(summary), _summary_table(summary, results)]
    blocks.append(_times(summary))
    if len(results.training):
        blocks += [*_learning(results.training, days), _training_table(summary)]
    blocks.append(Prose(_reading(summary)))
    return Section("voltage", f"Voltage regulation on {results.feeder}", tuple(blocks))


def _question(bench: VoltageBench) -> str:
    network, batteries, test = bench.network, bench.batteries, bench.test
    low, high = _band(network)
    power = 1e3 * network.base_mva * batteries.p_max
    energy = 1e3 * network.base_mva * batteries.energy
    return (
        "Sunshine lifts the voltage at noon and the evening's demand pulls it down. How should the batteries of a feeder "
        f"be charged and discharged so that every bus stays between {low:.2f} and {high:.2f} pu all day, with as little "
        "energy through the batteries as possible?\n\n"
        f"{bench.feeder} has {network.n_bus} buses and {len(batteries)} batteries ({_range(power)} kW and {_range(energy)} "
        f"kWh each). Every method met the same {len(test)} test days, {test.n_step} steps of {60 * test.step_h:g} minutes "
        "each, and every step was judged by the same AC power flow. Learned methods never saw those days."
    )


def _range(values: FloatArray) -> str:
    low, high = f"{values.min():.4g}", f"{values.max():.4g}"
    return low if low == high else f"{low} to {high}"


def _brief(summary: pd.DataFrame, days: pd.DataFrame) -> str:
    held = summary[(summary["violation_steps"] == 0) & (summary["failed_days"] == 0)]
    worst = summary[summary["violation_steps"] > 0]
    said = (
        [f"- {len(held)} of {len(summary)} methods kept every bus in its band on every day: {_names(held)}."]
        if len(held)
        else []
    )
    if not len(held):
        said = ["- No method kept every bus in its band on every day."]
    online = held[~held["method"].isin(["ac_opf", "lindistflow_opf"]) & held["gap_pct"].notna()]
    if len(online):
        best = online.iloc[int(online["gap_pct"].argmin())]
        said.append(
            f"- Of those that do not know the day beforehand, `{best['method']}` came nearest to the optimum: "
            f"{best['gap_pct']:.0f} % more energy, {number(best['decision_ms'])} ms a decision."
        )
    if len(worst):
        share = ", ".join(f"`{line['method']}` {number(line['violation_pct'])} %" for line in worst.to_dict("records"))
        said.append(f"- Steps with a bus outside the band: {share}.")
    return "In brief:\n\n" + "\n".join(said)


def _names(table: pd.DataFrame) -> str:
    return ", ".join(f"`{name}`" for name in table["method"])


def _band(network: Network) -> tuple[float, float]:
    judged = judged_buses(network)
    return float(network.v_min[judged].min()), float(network.v_max[judged].max())


@dataclass(frozen=True, eq=False)
class _Schedule:
    """A schedule as a method that plans."""

    name: str
    p: FloatArray  # (B, T, n_bat)

    def plan(self, days: VoltageDays, soc_start: FloatArray) -> FloatArray:
        return self.p


# Traces of the map after those of the bare feeder, and of the other charts.
_BATTERY, _BUS, _LOW, _HIGH = range(4, 8)
_MAP, _VOLTAGE, _POWER, _SOC = "voltage-map", "voltage-day", "voltage-power", "voltage-soc"


def _picker(bench: VoltageBench, days: pd.DataFrame, schedules: Mapping[str, FloatArray]) -> Picker:
    drawing = draw_feeder(bench.network)
    by_day: dict[str, Choice] = {}
    by_both: dict[str, Choice] = {}
    first = days.sort_values("seed", kind="stable").drop_duplicates(["method", "date"])
    lines = {(line["method"], str(line["date"])[:10]): line for line in first.to_dict("records")}
    lowest, highest = np.inf, -np.inf
    hardest = 0
    for name, schedule in schedules.items():
        outcome = simulate(bench.network, bench.batteries, bench.test, _Schedule(name, np.asarray(schedule, float)))
        if not by_day:
            judged = judged_buses(bench.network)
            idle = outcome.v_idle[..., judged]
            low, high = _band(bench.network)
            hardest = int(((idle < low) | (idle > high)).any(axis=-1).sum(axis=1).argmax())
            lowest, highest = float(np.nanmin(idle)), float(np.nanmax(idle))
            for k, date in enumerate(bench.test.date):
                by_day[str(date)] = Choice("", {_VOLTAGE: _envelope(idle[k], (0, 1))})
        lowest, highest = min(lowest, float(np.nanmin(outcome.v))), max(highest, float(np.nanmax(outcome.v)))
        for k, date in enumerate(bench.test.date):
            line = lines.get((name, str(date)))
            if line is not None and line["note"]:
                by_both[f"{date}|{name}"] = Choice(f"`{name}` has no plan for this day: {line['note']}")
            else:
                by_both[f"{date}|{name}"] = _choice(bench, outcome, k, name, line)
    names = list(schedules)
    shown = next((name for name in ("df_srl", "idle_safe") if name in names), names[-1])
    weekday = [f"{date} ({np.datetime64(date, 'D').astype(object):%A})" for date in bench.test.date]
    dates = [str(date) for date in bench.test.date]
    return Picker(
        "voltage-days",
        "Every day on the map",
        (
            Selector("Day", tuple(zip(dates, weekday, strict=True)), hardest),
            Selector("Method", tuple((name, name) for name in names), names.index(shown)),
        ),
        (Layer((0,), by_day), Layer((0, 1), by_both, "There is no schedule of this method on this day.")),
        (
            _map_chart(bench, drawing), _voltage_chart(bench, lowest, highest), _power_chart(bench, schedules),
            _soc_chart(bench),
        ),
        {**places(drawing), "battery": _battery_places(bench, drawing)},
    )  # fmt: skip


def _envelope(v: FloatArray, at: tuple[int, int]) -> dict[int, dict[str, Any]]:
    """Return lowest and highest voltage (T, n_judged) as what changes in two traces."""
    return {at[0]: {"y": packed(v.min(axis=-1))}, at[1]: {"y": packed(v.max(axis=-1))}}


def _choice(bench: VoltageBench, outcome: VoltageOutcomes, k: int, name: str, line: Mapping[Any, Any] | None) -> Choice:
    network, batteries = bench.network, bench.batteries
    base_kw = 1e3 * network.base_mva
    judged = judged_buses(network)
    v, p, soc = outcome.v[k], base_kw * outcome.p_battery[k], 100 * outcome.soc[k]
    worst, step = _worst_voltages(network, v)
    used = bench.test.step_h * np.abs(p).sum(axis=0)
    most = max(float((base_kw * batteries.energy).max()), 1e-12)
    size = (5 + 26 * np.sqrt(np.minimum(used / most, 2.0))).round(1)
    # A failed step leaves no voltage to compare; such a bus counts as too low.
    low = np.flatnonzero(~(worst >= network.v_min - SAFE_TOLERANCE_PU) & np.isin(np.arange(network.n_bus), judged))
    high = np.flatnonzero((worst > network.v_max + SAFE_TOLERANCE_PU) & np.isin(np.arange(network.n_bus), judged))
    times = [_clock(t * bench.test.step_h) for t in step]
    return Choice(
        _note(bench, outcome, k, name, line),
        {
            _MAP: {
                _BATTERY: {
                    "marker": {"size": size.tolist()}, "text": [f"{kwh:.0f}" if kwh >= 0.5 else NO_TEXT for kwh in used],
                    "customdata": packed(used),
                },
                _BUS: {"marker": {"color": packed(worst)}, "customdata": times},
                _LOW: {"at": ["bus", low.tolist()]},
                _HIGH: {"at": ["bus", high.tolist()]},
            },
            _VOLTAGE: _envelope(v[..., judged], (2, 3)),
            _POWER: {0: {"y": packed(np.maximum(p, 0).sum(axis=1))}, 1: {"y": packed(np.minimum(p, 0).sum(axis=1))}},
            _SOC: {
                0: {"y": packed(soc.min(axis=1))}, 1: {"y": packed(soc.max(axis=1))}, 2: {"y": packed(soc.mean(axis=1))},
            },
        },
    )  # fmt: skip


def _worst_voltages(network: Network, v: FloatArray) -> tuple[FloatArray, IntArray]:
    """Return of each bus the voltage furthest towards or beyond a limit in a day (T, n_bus), and its step; NaN before all."""
    excess = np.maximum(network.v_min - v, v - network.v_max)
    step = np.where(np.isnan(excess), np.inf, excess).argmax(axis=0)
    return v[step, np.arange(network.n_bus)], step


def _clock(hours: float) -> str:
    minutes = round(60 * hours)
    return f"{minutes // 60:02d}:{minutes % 60:02d}"


def _note(bench: VoltageBench, outcome: VoltageOutcomes, k: int, name: str, line: Mapping[Any, Any] | None) -> str:
    outside, n_step = int(outcome.n_violation_steps[k]), bench.test.n_step
    energy = 1e3 * float(outcome.regulation_mwh[k])
    words = f"**{name}**: {number(energy)} kWh through the batteries"
    if line is not None and line["optimum_kwh"] == line["optimum_kwh"]:
        words += f" (optimum {number(line['optimum_kwh'])} kWh)"
    short = 1e3 * float(outcome.soc_short_mwh[k])
    words += f"; {number(short)} kWh missing at the end of the day." if short > 0.05 else "."
    if not outcome.converged[k].all():
        failed = counted(int((~outcome.converged[k]).sum()), "step", "steps")
        return f"{words}\n\n**Outside the band**: {failed} without an AC solution."
    if outside:
        return f"{words}\n\n**Outside the band** in {outside} of {n_step} steps, by up to {outcome.worst_excess_pu[k]:.4f} pu."
    return f"{words}\n\n**Inside the band** in all {n_step} steps, by the AC power flow."


def _battery_places(bench: VoltageBench, drawing: FeederDrawing) -> dict[str, list[Any]]:
    buses = bench.batteries.bus
    return {"x": drawing.x[buses].tolist(), "y": (drawing.y[buses] - 0.34).tolist(), "name": list(bench.batteries.name)}


def _map_chart(bench: VoltageBench, drawing: FeederDrawing) -> Chart:
    network = bench.network
    low, high = _band(network)
    middle, reach = (low + high) / 2, 0.75 * (high - low)
    spots = _battery_places(bench, drawing)
    outside: dict[str, Any] = {"x": [None], "y": [None], "mode": "markers", "hoverinfo": "skip"}
    traces = [
        *base_traces(drawing),
        go.Scatter(
            x=spots["x"], y=spots["y"], mode="markers+text", name="battery, kWh through its terminals (size)",
            hovertext=spots["name"], customdata=[0.0] * len(spots["x"]), text=[NO_TEXT] * len(spots["x"]),
            textposition="bottom center", textfont={"size": 10, "color": "#04674b"},
            hovertemplate="battery %{hovertext}: %{customdata:.1f} kWh<extra></extra>",
            marker={"symbol": "square", "color": GREEN, "opacity": 0.75, "size": [5] * len(spots["x"]), "line": {"width": 0}},
        ),
        go.Scatter(
            x=drawing.x, y=drawing.y, mode="markers", name="bus, coloured by the day's worst voltage",
            text=[f"bus {name}" for name in network.bus_name], customdata=[""] * network.n_bus,
            hovertemplate="%{text}: %{marker.color:.4f} pu at %{customdata}<extra></extra>",
            marker={
                "size": 13, "line": {"width": 1.5, "color": INK}, "color": [middle] * network.n_bus, "cmin": middle - reach,
                "cmax": middle + reach, "colorscale": [[0, BLUE], [0.5, "#ffffff"], [1, VERMILLION]],
                "colorbar": {
                    "orientation": "h", "thickness": 10, "len": 0.45, "x": 0.5, "y": 0, "yanchor": "top", "outlinewidth": 0,
                    "tickvals": [low, middle, high],
                    "ticktext": [f"{low:g} lower limit", f"{middle:g}", f"{high:g} upper limit"],
                    "title": {"text": "voltage, pu", "side": "top", "font": {"size": 12}},
                },
            },
        ),
        go.Scatter(
            **outside, name="below its band",
            marker={"symbol": "triangle-down", "size": 17, "color": BLUE, "line": {"width": 1.5, "color": BLACK}},
        ),
        go.Scatter(
            **outside, name="above its band",
            marker={"symbol": "triangle-up", "size": 17, "color": VERMILLION, "line": {"width": 1.5, "color": BLACK}},
        ),
        bus_labels(drawing),
    ]  # fmt: skip
    layout = map_layout(drawing)
    layout["margin"]["b"] = 60
    layout["height"] += 70
    return Chart(
        _MAP, "The feeder on that day", new_figure(traces, **layout),
        "One column per branch from the substation on the left, lengths not to scale. Each bus shows the voltage at which "
        "it came nearest to a limit, or went furthest beyond it, and hovering tells when; the squares under the buses are "
        "the batteries.",
        least_width_px=drawing.width_px,
    )  # fmt: skip


def _hours(bench: VoltageBench, ends: bool = False) -> FloatArray:
    return np.asarray(np.arange(bench.test.n_step + ends) * bench.test.step_h, dtype=np.float64)


def _clock_axis(bench: VoltageBench) -> dict[str, Any]:
    last = bench.test.n_step * bench.test.step_h
    every = 3.0 if last > 12 else max(bench.test.step_h, last / 8)
    ticks = np.arange(0.0, last + 1e-9, every)
    return {
        "title": {"text": "time of day"}, "range": [0, last], "tickmode": "array", "tickvals": ticks.tolist(),
        "ticktext": [_clock(t) for t in ticks],
    }  # fmt: skip


def _voltage_chart(bench: VoltageBench, lowest: float, highest: float) -> Chart:
    low, high = _band(bench.network)
    x = _hours(bench).tolist()
    common: dict[str, Any] = {"x": x, "y": [None] * len(x), "mode": "lines"}
    idle: dict[str, Any] = {"line": {"color": "#9aa6b0", "width": 1.5, "dash": "dot", "shape": "hv"}}
    text = [_clock(t) for t in x]
    traces = [
        go.Scatter(**common, **idle, name="batteries idle, lowest and highest bus", hoverinfo="skip"),
        go.Scatter(**common, **idle, showlegend=False, hoverinfo="skip"),
        go.Scatter(
            **common, name="lowest bus", line={"color": BLUE, "width": 2, "shape": "hv"}, text=text,
            hovertemplate="%{text}: %{y:.4f} pu<extra>lowest bus</extra>",
        ),
        go.Scatter(
            **common, name="highest bus", line={"color": ORANGE, "width": 2.4, "dash": "8px,2px", "shape": "hv"}, text=text,
            hovertemplate="%{text}: %{y:.4f} pu<extra>highest bus</extra>",
        ),
        *(
            go.Scatter(
                x=[0, x[-1] + bench.test.step_h], y=[limit, limit], mode="lines", name="limit", showlegend=limit == low,
                hoverinfo="skip", line={"color": VERMILLION, "width": 1.6, "dash": "dash"},
            )
            for limit in (low, high)
        ),
    ]  # fmt: skip
    room = 0.006
    figure = new_figure(
        traces, height=330, xaxis=_clock_axis(bench),
        yaxis={"title": {"text": "voltage, pu"}, "range": [min(lowest, low) - room, max(highest, high) + room]},
    )  # fmt: skip
    return Chart(_VOLTAGE, "Lowest and highest voltage over the day", figure, least_width_px=520)


def _power_chart(bench: VoltageBench, schedules: Mapping[str, FloatArray]) -> Chart:
    x = (_hours(bench) + bench.test.step_h / 2).tolist()
    text = [_clock(t) for t in _hours(bench)]
    common: dict[str, Any] = {"x": x, "y": [None] * len(x), "text": text, "textposition": "none"}
    hover = "%{text}: %{y:.1f} kW<extra>%{fullData.name}</extra>"
    figure = new_figure(
        [
            go.Bar(**common, name="charging", hovertemplate=hover, marker={"color": GREEN}),
            go.Bar(
                **common, name="discharging", hovertemplate=hover,
                marker={"color": PURPLE, "pattern": {"shape": "/", "bgcolor": PURPLE, "fgcolor": "#fff", "size": 5}},
            ),
        ],
        height=280, barmode="relative", bargap=0.08, xaxis=_clock_axis(bench),
        yaxis={"title": {"text": "power of all batteries, kW"}, "zeroline": True, "zerolinecolor": "#9aa6b0"},
    )  # fmt: skip
    return Chart(_POWER, "What the batteries draw and feed", figure, least_width_px=520)


def _soc_chart(bench: VoltageBench) -> Chart:
    x = _hours(bench, ends=True).tolist()
    common: dict[str, Any] = {"x": x, "y": [None] * len(x), "mode": "lines", "text": [_clock(t) for t in x]}
    hover = "%{text}: %{y:.1f} %<extra>%{fullData.name}</extra>"
    edge = {"color": SKY, "width": 1}
    start = 100 * float(bench.batteries.soc_start.mean())
    figure = new_figure(
        [
            go.Scatter(**common, name="emptiest battery", line=edge, hovertemplate=hover, showlegend=False),
            go.Scatter(
                **common, name="emptiest to fullest battery", line=edge, fill="tonexty", fillcolor="rgba(86,180,233,0.25)",
                hovertemplate="%{text}: %{y:.1f} %<extra>fullest battery</extra>",
            ),
            go.Scatter(**common, name="mean", line={"color": BLUE, "width": 2.4}, hovertemplate=hover),
            go.Scatter(
                x=[0, x[-1]], y=[start, start], mode="lines", name="at the start of the day", hoverinfo="skip",
                line={"color": "#9aa6b0", "width": 1.4, "dash": "dash"},
            ),
        ],
        height=280, xaxis=_clock_axis(bench),
        yaxis={"title": {"text": "state of charge, %"}, "range": [-2, 102]},
    )  # fmt: skip
    return Chart(_SOC, "State of charge", figure, least_width_px=520)


def _distributions(days: pd.DataFrame) -> Chart:
    """Return the box plots of energy and of the gap to the optimum, a row per method."""
    methods = list(dict.fromkeys(days["method"]))
    figure = make_subplots(rows=1, cols=2, shared_yaxes=True, horizontal_spacing=0.04)
    held = days[(days["violation_steps"] == 0) & days["optimum_kwh"].gt(0)]
    held = held.assign(gap=100 * (held["energy_kwh"] / held["optimum_kwh"] - 1))
    energies = days.loc[days["energy_kwh"] > 0, "energy_kwh"]
    floor = 10.0 ** np.floor(np.log10(max(float(energies.min()), 0.1))) if len(energies) else 0.1
    for method in methods:
        look = {
            "orientation": "h", "boxpoints": "all", "jitter": 0.5, "pointpos": 0, "width": 0.6, "showlegend": False,
            "y0": method, "name": method, "fillcolor": "#d8dde2" if method == BOUND else "#cfe5f4",
            "line": {"width": 1.5, "color": INK if method == BOUND else BLUE},
            "marker": {"size": 3.5, "opacity": 0.5, "color": INK if method == BOUND else BLUE},
            "hovertemplate": "%{x:.4g}<extra>" + method + "</extra>",
        }  # fmt: skip
        one = days[days["method"] == method]
        energy = one["energy_kwh"].dropna().clip(lower=floor)
        gap = held.loc[held["method"] == method, "gap"].clip(lower=LEAST_GAP_PCT)
        for column, values in ((1, energy), (2, gap)):
            if len(values):
                figure.add_trace(go.Box(x=values, y=[method] * len(values), **{**look, "y0": None}), 1, column)
    best = days.loc[(days["method"] == BOUND) & days["optimum_kwh"].gt(0), "optimum_kwh"]
    if len(best):
        figure.add_vline(x=float(best.median()), line={"color": INK, "width": 1.4, "dash": "dash"}, col=1, row=1)
    figure.add_vline(x=LEAST_GAP_PCT, line={"color": INK, "width": 2.5}, col=2, row=1)
    top = np.log10(max(float(energies.max()), 10 * floor)) if len(energies) else 1.0
    figure.update_xaxes(
        **decades(np.log10(floor), top, f"≤ {floor:g}"), range=[np.log10(floor) - 0.15, top + 0.15],
        title={"text": "energy of a day, kWh"}, col=1,
    )  # fmt: skip
    most = np.log10(max(float(held["gap"].max()) if len(held) else 1.0, 10.0))
    figure.update_xaxes(
        **decades(np.log10(LEAST_GAP_PCT), most, f"≤ {LEAST_GAP_PCT:g}"), range=[np.log10(LEAST_GAP_PCT) - 0.15, most + 0.2],
        title={"text": "energy above the optimum, %"}, col=2,
    )  # fmt: skip
    figure.update_yaxes(
        categoryorder="array", categoryarray=methods[::-1], showgrid=False, range=[-0.6, len(methods) - 0.4]
    )
    layout = {name: value for name, value in figure.to_plotly_json()["layout"].items() if name != "template"}
    styled = new_figure(
        figure.data, **layout, height=80 + 34 * max(2, len(methods)), margin={"l": 60, "r": 26, "t": 8, "b": 52}
    )
    return Chart(
        "voltage-energy", "Energy of a day and gap to the optimum", styled,
        "A point per day (and seed), boxes from the lower to the upper quartile. Energy: through the batteries' "
        "terminals, and what buying back the energy missing at the end of the day would draw. Dashed: the optimum's "
        "median. Right: only days on which the method held the band; the thick line is the optimum itself, where all gaps "
        f"up to {LEAST_GAP_PCT:g} % stand.",
        least_width_px=680, image="test_days.png",
    )  # fmt: skip


def _outside(summary: pd.DataFrame) -> Chart:
    """Return the bars of steps outside the band."""
    share = summary["violation_pct"].fillna(0.0)
    figure = new_figure(
        [
            go.Bar(
                y=summary["method"], x=share, orientation="h", showlegend=False, cliponaxis=False, textposition="outside",
                text=[" none" if s == 0 else f" {number(float(s))} %" for s in share], textfont={"size": 11},
                marker={"color": VERMILLION}, hovertemplate="%{y}: %{x:.3g} % of the steps<extra></extra>",
            )
        ],
        height=80 + 26 * max(2, len(summary)), margin={"l": 60, "r": 40, "t": 8, "b": 48},
        xaxis={"title": {"text": "steps with a bus outside its band, %"}, "rangemode": "tozero",
               "range": [0, max(1.0, 1.12 * float(share.max()))]},
        yaxis={"categoryorder": "array", "categoryarray": list(summary["method"])[::-1], "showgrid": False},
    )  # fmt: skip
    return Chart("voltage-outside", "How often the band was left", figure, least_width_px=420)


def _times(summary: pd.DataFrame) -> Chart:
    """Return the bars of decision times."""
    looks = (
        ("decision_ms", "over all steps", BLUE, ""),
        ("decision_outside_ms", "where idle batteries leave the band", ORANGE, "/"),
    )
    traces = []
    for k, (column, name, colour, shape) in enumerate(looks):
        times = summary[column]
        traces.append(
            go.Bar(
                y=summary["method"], x=times, orientation="h", name=name, offsetgroup=str(k), cliponaxis=False,
                marker={"color": colour, "pattern": {"shape": shape, "bgcolor": colour, "fgcolor": "#fff", "size": 6}},
                text=["" if t != t else f" {milliseconds(t / 1e3)} " for t in times], textposition="outside",
                textfont={"size": 11}, hovertemplate="%{y}: %{x:.3g} ms<extra>" + name + "</extra>",
            )
        )  # fmt: skip
    known = pd.concat([summary["decision_ms"], summary["decision_outside_ms"]]).dropna().clip(lower=1e-5)
    low, high = (np.floor(np.log10(known.min())), np.log10(known.max())) if len(known) else (0.0, 1.0)
    figure = new_figure(
        traces, barmode="group", bargap=0.3, height=120 + 40 * max(2, len(summary)),
        xaxis={"title": {"text": "time of a decision, ms (logarithmic)"},
               "range": [low - 0.2, high + 0.14 * (high - low) + 0.2], **decades(low, high)},
        yaxis={"categoryorder": "array", "categoryarray": list(summary["method"])[::-1], "showgrid": False},
    )  # fmt: skip
    return Chart(
        "voltage-times", "Time of a decision", figure,
        "Median of single decisions, safety layer and AC check included where there are any; of the optima, a day's time "
        "over its steps. A step of the axis is a factor of ten.", least_width_px=620,
    )  # fmt: skip


_CURVES = ((BLUE, "solid"), (VERMILLION, "10px,3px"), (GREEN, "4px,3px"), (PURPLE, "12px,3px,2px,3px"), (ORANGE, "2px,3px"),
           (SKY, "16px,4px"), (BLACK, "6px,2px,2px,2px,2px,2px"))  # fmt: skip


def _learning(training: pd.DataFrame, days: pd.DataFrame) -> list[Chart]:
    """Return the learning curves: cost of a day, and steps outside the band so far."""
    cost: list[go.Scatter] = []
    outside: list[go.Scatter] = []
    for k, (kind, part) in enumerate(training.groupby("method", sort=False)):
        runs = [one.sort_values("day") for _, one in part.groupby("seed")]
        n = min(len(run) for run in runs)
        width = max(1, n // 20)
        smooth = np.array([(-run["reward"].iloc[:n]).rolling(width, min_periods=1).mean() for run in runs])
        total = np.array([run["violation_steps"].iloc[:n].cumsum() for run in runs], dtype=float)
        kept = np.unique(np.linspace(0, n - 1, min(n, MOST_POINTS)).round().astype(int))
        colour, dash = _CURVES[k % len(_CURVES)]
        for traces, values, told in (
            (cost, smooth, "cost %{y:.3g}"),
            (outside, np.maximum(total, NO_STEPS), "%{y:.0f} steps"),
        ):
            line = {"color": colour, "width": 2.2, "dash": dash}
            hover = f"day %{{x}}: {told}<extra>{kind}</extra>"
            traces += _spread(kept + 1, values[:, kept], line, str(kind), hover)
    optimum = days[(days["method"] == BOUND) & (days["note"] == "")]
    best = -float(optimum["reward"].mean()) if len(optimum) else np.nan
    if best > 0:
        ends = [1, int(training["day"].max())]
        cost.append(
            go.Scatter(
                x=ends, y=[best, best], mode="lines", name="ac_opf, mean of the test days", hoverinfo="skip",
                line={"color": "#9aa6b0", "width": 1.6, "dash": "dot"},
            )
        )  # fmt: skip
    days_axis = {"title": {"text": "days of training"}, "rangemode": "tozero"}
    known = np.concatenate([np.ravel(trace.y) for trace in cost])
    known = known[np.isfinite(known) & (known > 0)]
    counts = np.log10(max(float(training.groupby(["method", "seed"])["violation_steps"].sum().max()), 1.0))
    lowest = float(np.log10(NO_STEPS))
    ticks = decades(0, counts)
    ticks = {**ticks, "tickvals": [NO_STEPS, *ticks["tickvals"]], "ticktext": ["none", *ticks["ticktext"]]}
    ends_of_cost = (np.log10(known.min()), np.log10(known.max())) if len(known) else (0.0, 1.0)
    return [
        Chart(
            "voltage-learning", "Learning curves: cost of a day",
            new_figure(
                cost, height=360, xaxis=days_axis,
                yaxis={"title": {"text": "cost of a day = −reward"}, **decades(*ends_of_cost)},
            ),
            "Moving mean over a twentieth of the training, exploration included; mean over seeds, shaded from the least "
            "to the most where there are several.", least_width_px=480, image="learning_curves.png",
        ),
        Chart(
            "voltage-learning-outside", "Learning curves: steps outside the band so far",
            new_figure(
                outside, height=360, xaxis=days_axis,
                yaxis={"title": {"text": "steps outside, in all"}, **ticks, "range": [lowest - 0.1, counts + 0.2]},
            ),
            "What training itself did to the feeder, exploration included.", least_width_px=480,
        ),
    ]  # fmt: skip


def _spread(x: IntArray, values: FloatArray, line: dict[str, Any], name: str, hover: str) -> list[go.Scatter]:
    """Return the mean of values (n_seed, n) as a line, over the band from the least to the most where there are several."""
    mean = go.Scatter(x=x, y=values.mean(axis=0), mode="lines", name=name, line=line, hovertemplate=hover)
    if len(values) == 1:
        return [mean]
    edge: dict[str, Any] = {"mode": "lines", "line": {"width": 0}, "hoverinfo": "skip", "showlegend": False}
    shade = f"rgba({', '.join(str(int(line['color'][k : k + 2], 16)) for k in (1, 3, 5))}, 0.15)"
    return [
        go.Scatter(x=x, y=values.min(axis=0), **edge),
        go.Scatter(x=x, y=values.max(axis=0), fill="tonexty", fillcolor=shade, **edge),
        mean,
    ]


def _summary_table(summary: pd.DataFrame, results: VoltageResults) -> DataTable:
    headings = (
        "method", "steps outside", "%", "worst, pu", "energy, kWh a day", "missing at the end, kWh a day", "reward a day",
        "gap to optimum, %", "over days", "time of a decision",
    )  # fmt: skip
    rows = []
    for line in summary.to_dict("records"):
        known = line["gap_pct"] == line["gap_pct"]
        rows.append(
            (
                f"`{line['method']}`", _mean(line, "violation_steps", 0), _mean(line, "violation_pct", 2),
                _excess(line["worst_excess_pu"]), _mean(line, "regulation_kwh_day", 1), _mean(line, "soc_short_kwh_day", 2),
                _mean(line, "reward_day", 2), _mean(line, "gap_pct", 1), f"{line['gap_days']:.0f}" if known else "–",
                milliseconds(float(line["decision_ms"]) / 1e3),
            )
        )  # fmt: skip
    one_day = results.days.drop_duplicates("date")
    seeds = int(summary["seeds"].max())
    several = (
        f" Learned methods: mean over {seeds} seeds ± 95 % interval." if seeds > 1 else " Learned methods: one seed."
    )
    failed = [
        f"{line['method']} on {counted(int(line['failed_days']), 'day', 'days')}"
        for line in summary.to_dict("records")
        if line["failed_days"]
    ]
    missing = f" No plan: {', '.join(failed)}; left out of the means." if failed else ""
    return DataTable(
        f"{results.feeder}, {len(one_day)} test days, {int(one_day['steps'].sum())} steps", headings, tuple(rows),
        "Outside: a bus beyond its band by over 1e-5 pu by the AC power flow. Gap: energy, with what is missing at the "
        f"end bought back, over that of `{BOUND}` on the days that the method held.{several}{missing}",
    )  # fmt: skip


def _training_table(summary: pd.DataFrame) -> DataTable:
    rows = tuple(
        (
            f"`{line['method']}`", f"{line['training_days']:,.0f}", f"{line['training_steps']:,.0f}",
            _mean(line, "training_violation_steps", 0), _mean(line, "training_violation_pct", 2),
            _excess(line["training_worst_pu"]), milliseconds(float(line["training_s"])),
        )
        for line in summary[summary["training_s"].notna()].to_dict("records")
    )  # fmt: skip
    return DataTable(
        "The same in training, exploration included",
        ("method", "days", "steps", "steps outside", "%", "worst, pu", "time of training"), rows, "Of one agent, on one core.",
    )  # fmt: skip


def _mean(line: Mapping[Any, Any], name: str, digits: int) -> str:
    """Return a mean with its interval, where there is one."""
    mean, width = line[name], line.get(f"{name}_ci95", np.nan)
    if mean != mean:
        return "–"
    # A zero that rounding made negative is a zero.
    text = f"{mean if round(mean, digits) else 0.0:,.{digits}f}"
    return text if width != width else f"{text} ± {width:,.{digits}f}"


def _excess(value: float) -> str:
    return "–" if value != value else "0" if value <= SAFE_TOLERANCE_PU else f"{value:.4f}"


def _reading(summary: pd.DataFrame) -> str:
    names: Sequence[str] = list(summary["method"])
    told = "\n".join(f"- `{name}`: {WHAT[name]}" for name in names if name in WHAT)
    return (
        "**How to read it.** First the band: a method that leaves it spends less energy by not doing its job, so compare "
        "energy only between methods that hold it. Then the gap: how much more energy a method needs than the optimum, "
        "which knew the whole day beforehand; no method that decides step by step can be expected to reach it. Energy "
        f"missing at the end of a day has to be bought back, and is charged as such.\n\n{told}"
    )
