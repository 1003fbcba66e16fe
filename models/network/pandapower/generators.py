"""What an optimal power flow may dispatch in a pandapower net, with limits and costs.

| pandapower, in service | generator row |
|---|---|
| ext_grid with a cost or a limit of power, or controllable | the grid above |
| voltage of such an ext_grid | held unless it is controllable |
| gen | P and Q limits; P and voltage held where controllable is False |
| sgen, load, storage with controllable True, in a net with costs | P and Q limits |
| limits of a load or storage | with the other sign |

A net without any cost is one for power flows: what is controllable there stays fixed at its p_mw
and q_mvar. A missing limit is no limit, as in `pandapower.runopp`. Costs are those of poly_cost and
of pwl_cost, where it is convex; an element without a cost costs nothing. The cost of a load or
storage is of what it consumes, and its constant counts negative, as in runopp. Costs that cannot be
used stop no power flow: the reason is kept as `cost_error` for the objective that asks for them.

Rows of ext_grids stand for the grid above (`Network.gen_is_grid`), and so do gens that are slacks.
An ext_grid without cost and limits is no row: it supplies what is needed and holds the voltage.
Beside it, no generator stands for the grid above.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from pandapower.auxiliary import pandapowerNet

from feederguard.models.arrays import BoolArray, FloatArray
from feederguard.models.network.costs import lines_of
from feederguard.models.network.fields import NetworkError

# Tables in the order of the rows, and the sign of their power as generation.
_TABLES = {"ext_grid": 1.0, "gen": 1.0, "sgen": 1.0, "load": -1.0, "storage": -1.0}
_LIMITS = ("min_p_mw", "max_p_mw", "min_q_mvar", "max_q_mvar")


def has_costs(net: pandapowerNet) -> bool:
    """Return whether the net has costs of anything, and so is meant for an optimal power flow."""
    return bool(len(net.poly_cost) or len(net.pwl_cost))


def dispatched(net: pandapowerNet, table: str) -> BoolArray:
    """Return which elements of a table become generator rows, in its order."""
    elements = net[table]
    running = elements["in_service"].to_numpy(bool)
    if table == "gen":
        return np.asarray(running)
    if table != "ext_grid":
        return np.asarray(running & _flag(elements, "controllable", False) & has_costs(net))
    limited = np.isfinite(np.stack([_number(elements, name) for name in _LIMITS])).any(axis=0)
    priced = elements.index.isin(
        [*_costs_of(net, "poly_cost", table), *_costs_of(net, "pwl_cost", table)]
    )
    return np.asarray(running & (limited | priced | _flag(elements, "controllable", False)))


def read_generators(net: pandapowerNet, fused: dict[int, int], name: str) -> pd.DataFrame:
    """Return a row per generator.

    Columns: the label (`text`, `table`, `index`), the fused `bus`, limits in MW and Mvar (inf for
    none), `c2`, `c1`, `c0`; `v_held`, the voltage in pu that the element holds (NaN where an
    optimal power flow chooses it); `is_grid`, whether it stands for the grid above; `lines` of a
    piecewise linear cost. `rows.attrs["cost_error"]` says why costs cannot be used: they are
    neither quadratic nor convex and piecewise linear, price reactive power, or are quadratic or
    piecewise for loads and storages. Raises `NetworkError` for a gen that is not controllable and
    has a scaling.
    """
    _refuse_scaled(net, fused, name)
    frames = [_rows(net, table, sign, fused) for table, sign in _TABLES.items()]
    rows = pd.concat([frame for frame in frames if len(frame)] or frames[:1], ignore_index=True)
    try:
        costs = [
            _cost(net, table, index, name)
            for table, index in zip(rows["table"], rows["index"], strict=True)
        ]
        told = ""
    except NetworkError as error:
        costs, told = [(np.zeros(3), np.zeros((0, 2)))] * len(rows), str(error)
    rows[["c2", "c1", "c0"]] = np.array([c for c, _ in costs], dtype=float).reshape(-1, 3)
    rows["lines"] = pd.Series([lines for _, lines in costs], index=rows.index, dtype=object)
    free = (
        net.ext_grid["in_service"].to_numpy(bool)
        & ~dispatched(net, "ext_grid")
        & net.ext_grid["bus"].isin(fused)
    )
    rows["is_grid"] &= ~rows["bus"].isin([fused[bus] for bus in net.ext_grid["bus"][free]])
    rows.attrs["cost_error"] = told
    return rows


def hold_voltages(
    net: pandapowerNet, buses: pd.DataFrame, rows: pd.DataFrame, fused: dict[int, int]
) -> None:
    """Narrow the limits of the buses, in place, to voltages held and to the gens' own limits."""
    for bus, vm_pu in rows.loc[rows["v_held"].notna(), ["bus", "v_held"]].itertuples(index=False):
        buses.loc[bus, ["v_min", "v_max"]] = vm_pu
    gens = net.gen[
        dispatched(net, "gen") & net.gen["bus"].isin(fused) & _flag(net.gen, "controllable", True)
    ]
    at = [fused[bus] for bus in gens["bus"]]
    for column, limit in (("min_vm_pu", "v_min"), ("max_vm_pu", "v_max")):
        for bus, own in zip(at, _number(gens, column).tolist(), strict=True):
            low, high = buses.loc[bus, ["v_min", "v_max"]].to_numpy(float)
            if low < own < high:
                buses.loc[bus, limit] = own


def _rows(net: pandapowerNet, table: str, sign: float, fused: dict[int, int]) -> pd.DataFrame:
    elements = net[table][dispatched(net, table) & net[table]["bus"].isin(fused)]
    low_p, high_p, low_q, high_q = (_number(elements, limit) for limit in _LIMITS)
    v_held = np.full(len(elements), np.nan)
    if table in ("ext_grid", "gen"):
        held = ~_flag(elements, "controllable", table == "gen")
        v_held[held] = elements["vm_pu"].to_numpy(float)[held]
        if table == "gen":
            p_mw = (elements["p_mw"] * elements["scaling"]).to_numpy(float)
            low_p, high_p = np.where(held, p_mw, low_p), np.where(held, p_mw, high_p)
    limits = {}
    for part, low, high in (("p", low_p, high_p), ("q", low_q, high_q)):
        low, high = np.where(np.isnan(low), -np.inf, low), np.where(np.isnan(high), np.inf, high)
        limits[f"{part}_min"], limits[f"{part}_max"] = (low, high) if sign > 0 else (-high, -low)
    return pd.DataFrame(
        {
            "text": elements["name"].to_numpy(object),
            "table": table,
            "index": elements.index.to_numpy(),
            "bus": elements["bus"].map(fused).to_numpy(),
            **limits,
            "v_held": v_held,
            "is_grid": np.full(len(elements), True)
            if table == "ext_grid"
            else _flag(elements, "slack", False),
        }
    )


def _refuse_scaled(net: pandapowerNet, fused: dict[int, int], name: str) -> None:
    held = (
        dispatched(net, "gen")
        & net.gen["bus"].isin(fused).to_numpy()
        & ~_flag(net.gen, "controllable", True)
    )
    scaled = net.gen.index[held & (_number(net.gen, "scaling") != 1.0)]
    if has_costs(net) and len(scaled):
        raise NetworkError(
            f"{name}: gen {scaled[0]} is not controllable and has scaling "
            f"{net.gen['scaling'].at[scaled[0]]:g}, which "
            "pandapower's runpp applies and its runopp does not; write the product into p_mw and "
            "set scaling to 1"
        )


def _cost(net: pandapowerNet, table: str, index: int, name: str) -> tuple[FloatArray, FloatArray]:
    """Return c2, c1, c0 of an element by its generation, and the lines of a piecewise cost."""
    total, lines = np.zeros(3), np.zeros((0, 2))
    for cost in net.poly_cost[
        (net.poly_cost["et"] == table) & (net.poly_cost["element"] == index)
    ].itertuples():
        if cost.cq1_eur_per_mvar or cost.cq2_eur_per_mvar2:
            raise NetworkError(
                f"{name}: poly_cost {cost.Index} prices reactive power, which a Network cannot "
                "hold; set cq1_eur_per_mvar and cq2_eur_per_mvar2 to 0"
            )
        if _TABLES[table] < 0 and cost.cp2_eur_per_mw2:
            raise NetworkError(
                f"{name}: poly_cost {cost.Index} is quadratic in what {table} {index} consumes, "
                "and pandapower's runopp turns the sign of that part, which makes it a reward; "
                "set cp2_eur_per_mw2 to 0"
            )
        total += [
            cost.cp2_eur_per_mw2,
            _TABLES[table] * cost.cp1_eur_per_mw,
            _TABLES[table] * cost.cp0_eur,
        ]
    for cost in net.pwl_cost[
        (net.pwl_cost["et"] == table) & (net.pwl_cost["element"] == index)
    ].itertuples():
        own = _lines(cost, name)
        if len(own) == 1:
            total[1] += _TABLES[table] * own[0, 0]
        elif _TABLES[table] < 0 or len(lines):
            raise NetworkError(
                f"{name}: pwl_cost {cost.Index} is piecewise linear in what {table} {index} "
                "consumes, or the second one of it; give one poly_cost instead"
            )
        else:
            lines = own
    return total, lines


def _lines(cost: Any, name: str) -> FloatArray:
    """Return the lines of a row of pwl_cost, (n_line, 2).

    Its points are (from, to, slope); the first line goes through the origin, as in runopp.
    """
    who = f"{name}: pwl_cost {cost.Index}"
    if cost.power_type != "p":
        raise NetworkError(f"{who} prices reactive power, which a Network cannot hold; remove it")
    try:
        points = np.array(cost.points, dtype=float).reshape(-1, 3)
        if (points[1:, 0] != points[:-1, 1]).any():
            raise ValueError("has a gap between two of its pieces")
        p_mw = np.append(points[:1, 0], points[:, 1])
        steps = points[:, 2] * np.diff(p_mw)
        return lines_of(p_mw, points[0, 2] * p_mw[0] + np.append(0.0, np.cumsum(steps)))
    except (ValueError, TypeError, IndexError) as reason:
        raise NetworkError(
            f"{who} cannot be used, as it {reason}; give pieces (from, to, slope) of rising slope"
        ) from None


def _costs_of(net: pandapowerNet, costs: str, table: str) -> list[int]:
    return [int(element) for element in net[costs].loc[net[costs]["et"] == table, "element"]]


def _number(elements: pd.DataFrame, column: str) -> FloatArray:
    """Return a column of numbers, NaN where there is none."""
    return (
        elements[column].to_numpy(float) if column in elements else np.full(len(elements), np.nan)
    )


def _flag(elements: pd.DataFrame, column: str, default: bool) -> BoolArray:
    """Return a column of True and False, which pandapower may leave out or leave empty."""
    given = elements[column] if column in elements else [None] * len(elements)
    return np.array(
        [default if flag is None or pd.isna(flag) else bool(flag) for flag in given], dtype=bool
    )
