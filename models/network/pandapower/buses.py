"""Bus rows of a pandapower net: what is connected to each bus, and which buses are fused."""

from __future__ import annotations

import math
from typing import Any

import networkx as nx
import numpy as np
import pandas as pd
from pandapower.auxiliary import pandapowerNet
from pandapower.pypower import idx_bus

from feederguard.models.arrays import FloatArray
from feederguard.models.network.fields import NetworkError
from feederguard.models.network.pandapower.generators import dispatched

V_MIN_PU, V_MAX_PU = 0.9, 1.1
# Nothing is connected to the star point of a three-winding transformer: its limits must not bind.
STAR_V_MIN_PU, STAR_V_MAX_PU = 0.5, 1.5

BUS_POWERS = ("p_load", "q_load", "p_gen", "q_gen", "g_shunt", "b_shunt")


def live_buses(net: pandapowerNet) -> set[int]:
    """Return the indices of the buses in service."""
    return set(net.bus.index[net.bus["in_service"].astype(bool)])


def fused_buses(net: pandapowerNet, name: str) -> dict[int, int]:
    """Return for every bus in service the lowest index of those that have its voltage.

    Closed bus-bus switches without impedance join them. Raises `NetworkError` for a
    bus-bus switch, open or closed, between two nominal voltages.
    """
    graph = nx.Graph()
    graph.add_nodes_from(live_buses(net))
    switches = net.switch
    switches = switches[
        (switches["et"] == "b") & switches["bus"].isin(graph) & switches["element"].isin(graph)
    ]
    for switch in switches.itertuples():
        one_kv, other_kv = net.bus["vn_kv"].at[switch.bus], net.bus["vn_kv"].at[switch.element]
        if not math.isclose(one_kv, other_kv):
            raise NetworkError(
                f"{name}: switch {switch.Index} joins bus {switch.bus} of {one_kv:g} kV to bus "
                f"{switch.element} of {other_kv:g} kV; give both the same vn_kv"
            )
        if switch.closed and not switch.z_ohm > 0:
            graph.add_edge(switch.bus, switch.element)
    return {int(bus): int(min(group)) for group in nx.connected_components(graph) for bus in group}


def read_substations(net: pandapowerNet, fused: dict[int, int], name: str) -> dict[int, complex]:
    """Return the voltage in pu of every substation, by its bus.

    An ext_grid in service holds it, or a gen that is a slack. fused: as `fused_buses`. Raises
    `NetworkError` where there is none, or where two hold one voltage at different values.
    """
    held: dict[int, complex] = {}
    grids = net.ext_grid[net.ext_grid["in_service"].astype(bool) & net.ext_grid["bus"].isin(fused)]
    slacks = net.gen[net.gen["in_service"].astype(bool) & net.gen["bus"].isin(fused)]
    slacks = slacks[slacks["slack"].astype(bool)] if "slack" in slacks else slacks[:0]
    held_by = list(zip(grids["bus"], grids["vm_pu"], grids["va_degree"].fillna(0.0), strict=True))
    # Where both are at one bus, the voltage is that of the ext_grid.
    grid_buses = {fused[bus] for bus in grids["bus"]}
    held_by += [
        (bus, vm, 0.0)
        for bus, vm in zip(slacks["bus"], slacks["vm_pu"], strict=True)
        if fused[bus] not in grid_buses
    ]
    first: dict[int, complex] = {}
    for bus, vm_pu, va_degree in held_by:
        voltage = complex(vm_pu * np.exp(1j * np.deg2rad(va_degree)))
        held[int(bus)] = voltage
        if abs(first.setdefault(fused[bus], voltage) - voltage) > 1e-9:
            raise NetworkError(
                f"{name}: two ext_grids hold bus {fused[bus]} at different voltages; keep one"
            )
    if not held:
        raise NetworkError(
            f"{name}: no ext_grid in service at a bus in service; add one where the net is fed"
        )
    return held


def read_buses(net: pandapowerNet, part: pandapowerNet, case: dict[str, Any]) -> pd.DataFrame:
    """Return a row per bus in service and per star point of a trafo3w, by pandapower index.

    `part` is what is in service of the net, without generation, and `case` that part's pypower
    case. Columns: the label (`text`, `table`), `vn_kv`, the limits `v_min`, `v_max` (NaN where
    missing) and `BUS_POWERS`, in pu.
    """
    live = net.bus[net.bus["in_service"].astype(bool)]
    buses = pd.DataFrame({"text": live["name"].astype(object), "table": "bus"})
    for limit, column in (("v_min", "min_vm_pu"), ("v_max", "max_vm_pu")):
        buses[limit] = live[column].astype(float) if column in live else np.nan
    stars = [f"{text} star" for text in part.trafo3w["name"]]
    if stars:
        added = pd.DataFrame({"text": stars, "table": "star"}, index=part.trafo3w["star"].tolist())
        buses = pd.concat([buses, added.assign(v_min=STAR_V_MIN_PU, v_max=STAR_V_MAX_PU)])

    matrix = case["bus"][part._pd2ppc_lookups["bus"][buses.index]]
    buses["vn_kv"] = matrix[:, idx_bus.BASE_KV]
    positions = {
        "p_load": idx_bus.PD,
        "q_load": idx_bus.QD,
        "g_shunt": idx_bus.GS,
        "b_shunt": idx_bus.BS,
    }
    for column, position in positions.items():
        buses[column] = matrix[:, position] / part.sn_mva
    buses["priority"] = _priorities(net, buses.index)
    buses[["p_gen", "q_gen"]] = 0.0
    for table, phases in (("sgen", ("",)), ("asymmetric_sgen", ("_a", "_b", "_c"))):
        running = net[table]["in_service"].astype(bool) & net[table]["bus"].isin(live.index)
        if table == "sgen":
            running &= ~dispatched(net, table)
        units = net[table][running]
        p, q = (
            units[[power.format(phase) for phase in phases]].sum(axis=1) * units["scaling"]
            for power in ("p{}_mw", "q{}_mvar")
        )
        # Negative generation is demand.
        for kind, chosen, sign in (("gen", p >= 0, 1), ("load", p < 0, -1)):
            for column, power in ((f"p_{kind}", p), (f"q_{kind}", q)):
                at_bus = (sign * power[chosen] / part.sn_mva).groupby(units["bus"]).sum()
                buses[column] += at_bus.reindex(buses.index, fill_value=0.0)
    return buses


def _priorities(net: pandapowerNet, buses: pd.Index) -> FloatArray:
    """Return the mean `priority` of the loads of each bus, weighed by their power; default 1.

    Raises `NetworkError` for one that is no positive number.
    """
    priority = np.ones(len(buses))
    if "priority" not in net.load:
        return priority
    loads = net.load[net.load["in_service"].astype(bool) & net.load["bus"].isin(buses)]
    given = pd.to_numeric(loads["priority"], errors="coerce").where(loads["priority"].notna(), 1.0)
    bad = loads.index[~(given > 0)]
    if len(bad):
        raise NetworkError(
            f"load {bad[0]}: priority is {loads['priority'].at[bad[0]]}; give a positive number, "
            "1 or nothing for an ordinary load"
        )
    power = (loads["p_mw"] * loads["scaling"]).abs()
    for bus, here in power.groupby(loads["bus"]):
        if here.sum() > 0:
            priority[buses.get_loc(bus)] = (given[here.index] * here).sum() / here.sum()
    return priority


def set_missing_limits(buses: pd.DataFrame) -> pd.DataFrame:
    """Return the rows with 0.90 and 1.10 pu where a bus has no limit."""
    return buses.fillna({"v_min": V_MIN_PU, "v_max": V_MAX_PU})
