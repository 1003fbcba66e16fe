"""A pandapower net read as a `Network`.

| pandapower | Network |
|---|---|
| bus in service | a bus; those joined by closed bus-bus switches are one, with the label of the lowest index and the tightest voltage limits; a missing limit is 0.90 or 1.10 pu |
| ext_grid | a substation at vm_pu and va_degree |
| load, motor, storage, ward (power), asymmetric_load | p_load, q_load: nominal times scaling, generation not subtracted |
| sgen, asymmetric_sgen | p_gen, q_gen |
| shunt, ward (impedance) | g_shunt, b_shunt |
| line, impedance | a line rated at max_i_ka x df x parallel, or at the sn_mva of an impedance |
| trafo | a branch from high to low voltage with tap changer and vector group in `tap` and `shift`, rated at sn_mva x df x parallel |
| trafo3w | three such branches that meet in an added bus, 'NAME star' |
| line or trafo with an open switch | an open branch (a line becomes a 'tie'); `open_end` tells where |
| open bus-bus switch | a 'tie' of its z_ohm, or where that is zero of `BUS_TIE_X_PU` (1e-6), so that it may close a loop |
| closed bus-bus switch with z_ohm > 0 | a line of that impedance |

What is out of service is left out; a line in service to a bus out of service stays charged from its other end, as in
pandapower, and becomes a shunt there. Impedances, tap tables and shunt steps are computed by pandapower itself
(`pandapower.converter.pypower.to_ppc`). Controllers are not run.
"""  # noqa: E501

from __future__ import annotations

import copy
import math
import warnings
from collections import Counter
from collections.abc import Sequence
from typing import Any

import networkx as nx
import numpy as np
import pandas as pd
from pandapower.auxiliary import pandapowerNet
from pandapower.converter.pypower.to_ppc import to_ppc
from pandapower.pypower import idx_bus

from feederguard.models.network import Network, NetworkError
from feederguard.models.pandapower_branches import read_branches, settle_strays

V_MIN_PU, V_MAX_PU = 0.9, 1.1
# Nobody is served from the star point of a three-winding transformer: its limits are not to bind.
STAR_V_MIN_PU, STAR_V_MAX_PU = 0.5, 1.5

_BUS_ELEMENTS = (
    "ext_grid",
    "load",
    "motor",
    "storage",
    "ward",
    "asymmetric_load",
    "shunt",
    "sgen",
    "asymmetric_sgen",
)
_BRANCH_ELEMENTS = ("line", "trafo", "trafo3w", "impedance")
_POWER = ("p_load", "q_load", "p_gen", "q_gen", "g_shunt", "b_shunt")
_REMEDY = {
    "gen": "make it a static generator (pandapower.toolbox.replace_gen_by_sgen), or an ext_grid if it feeds the net",
    "xward": "make it a ward (pandapower.toolbox.replace_xward_by_ward with its index)",
    "dcline": "make it a load at one end and an sgen at the other",
}


def network_from_pandapower(net: pandapowerNet, base_mva: float | None = None) -> Network:
    """Return the feeder of a pandapower net, per unit on base_mva (default: the net's sn_mva); the net stays as it is.

    A bus or branch keeps its name where that is unique; else it is called 'NAME (bus 3)', 'NAME (line 3)', and
    without a name '3' or 'line 3', by its index in pandapower. Warns, and leaves them out, of buses that not even an
    open branch joins to an ext_grid; warns of loads with a constant-impedance or constant-current part, which become
    constant power. Raises `NetworkError` where there is no ext_grid, where a switch or an ext_grid contradicts another
    element, and for what a `Network` cannot hold: PV generators, xwards, DC lines and links, FACTS, impedances that
    differ by direction.
    """
    name = str(net.get("name") or "pandapower net")
    base_mva = float(net.sn_mva if base_mva is None else base_mva)
    if not (math.isfinite(base_mva) and base_mva > 0):
        raise NetworkError(f"{name}: base_mva is {base_mva}; it must be positive")
    _refuse_unheld(net, name)
    _warn_voltage_dependent(net, name)
    fused = _fused_buses(net, name)
    substations = _substations(net, fused, name)

    part, ppc = _convert_part_in_service(net, base_mva)
    fused |= {int(star): int(star) for star in part.trafo3w["star"]}
    branches, left = settle_strays(read_branches(net, part, ppc, name), fused)
    buses = _read_buses(net, part, ppc)
    for bus, admittance in left.items():
        buses.loc[bus, ["g_shunt", "b_shunt"]] += [admittance.real, admittance.imag]
    buses = _merge_buses(buses, fused)
    buses["label"] = _labels(buses.text, buses.table, buses.index)
    buses, branches = _drop_islands(buses, branches, list(substations), name, base_mva)
    return _network(name, base_mva, buses, branches, substations)


def _refuse_unheld(net: pandapowerNet, name: str) -> None:
    """Raise for any element in service that the network would lose in silence."""
    held = {"bus", "controller", *_BUS_ELEMENTS, *_BRANCH_ELEMENTS}
    live = _live_buses(net)
    for table, frame in net.items():
        if not isinstance(frame, pd.DataFrame) or "in_service" not in frame or table in held:
            continue
        lost = frame[frame["in_service"].astype(bool)]
        if "bus" in lost:
            lost = lost[lost["bus"].isin(live)]
        if len(lost):
            remedy = _REMEDY.get(table, "replace it by loads and sgens of the same power")
            raise NetworkError(
                f"{name}: a Network cannot hold {table} {lost.index[0]}; {remedy}, or set it out of service"
            )


def _warn_voltage_dependent(net: pandapowerNet, name: str) -> None:
    parts = [column for column in net.load if str(column).startswith(("const_z", "const_i"))]
    dependent = net.load[net.load.in_service.astype(bool) & (net.load[parts].fillna(0.0) != 0).any(axis=1)]
    if len(dependent):
        warnings.warn(
            f"{name}: load {_shown(dependent.index)} depends on voltage (const_z or const_i percent); "
            "it is taken as constant power",
            stacklevel=4,
        )


def _live_buses(net: pandapowerNet) -> set[int]:
    return set(net.bus.index[net.bus.in_service.astype(bool)])


def _fused_buses(net: pandapowerNet, name: str) -> dict[int, int]:
    """Return for every bus in service the lowest index that closed bus-bus switches make one with it."""
    graph = nx.Graph()
    graph.add_nodes_from(_live_buses(net))
    switches = net.switch[(net.switch.et == "b") & net.switch.bus.isin(graph) & net.switch.element.isin(graph)]
    for switch in switches.itertuples():
        one_kv, other_kv = net.bus.vn_kv.at[switch.bus], net.bus.vn_kv.at[switch.element]
        if not math.isclose(one_kv, other_kv):
            raise NetworkError(
                f"{name}: switch {switch.Index} joins bus {switch.bus} of {one_kv:g} kV to bus {switch.element} of "
                f"{other_kv:g} kV; give both the same vn_kv"
            )
        if switch.closed and not switch.z_ohm > 0:
            graph.add_edge(switch.bus, switch.element)
    return {int(bus): int(min(group)) for group in nx.connected_components(graph) for bus in group}


def _substations(net: pandapowerNet, fused: dict[int, int], name: str) -> dict[int, complex]:
    """Return the voltage of every bus that an ext_grid in service holds."""
    held: dict[int, complex] = {}
    grids = net.ext_grid[net.ext_grid.in_service.astype(bool) & net.ext_grid.bus.isin(fused)]
    for bus, vm_pu, va_degree in zip(grids.bus, grids.vm_pu, grids.va_degree.fillna(0.0), strict=True):
        voltage = complex(vm_pu * np.exp(1j * np.deg2rad(va_degree)))
        if abs(held.setdefault(fused[bus], voltage) - voltage) > 1e-9:
            raise NetworkError(f"{name}: two ext_grids hold bus {fused[bus]} at different voltages; keep one of them")
    if not held:
        raise NetworkError(f"{name}: no ext_grid in service at a bus in service; add one where the net is fed")
    return held


def _convert_part_in_service(net: pandapowerNet, base_mva: float) -> tuple[pandapowerNet, dict[str, Any]]:
    """Return a copy with only what is in service, without generation and switches, and its pypower case.

    The case's rows are then those of the elements themselves, cut and fused by no switch; bus-bus switches with an
    impedance are kept, closed, to have it converted. The copy's trafo3w get their star point in the column 'star'.
    """
    part = copy.deepcopy(net)
    part.sn_mva = base_mva
    live = _live_buses(net)
    for table in (*_BUS_ELEMENTS, *_BRANCH_ELEMENTS):
        part[table] = part[table][part[table].in_service.astype(bool)]
    for table in _BUS_ELEMENTS:
        part[table] = part[table][part[table].bus.isin(live)]
    for table in ("sgen", "asymmetric_sgen", "gen", "xward", "dcline"):
        part[table] = part[table][:0]
    joins = (part.switch.et == "b") & part.switch.bus.isin(live) & part.switch.element.isin(live)
    part.switch = part.switch[joins & (part.switch.z_ohm > 0)].assign(closed=True)
    part.bus["in_service"] = True
    # pandapower leaves out buses that only a switch connects, unless an ext_grid holds them.
    part.ext_grid = pd.DataFrame(
        {"bus": part.bus.index, "vm_pu": 1.0, "va_degree": 0.0, "slack_weight": 1.0, "in_service": True}
    )
    ppc = to_ppc(part, check_connectivity=False, init="flat", mode="pf")
    part.trafo3w["star"] = part._pd2ppc_lookups["aux"].get("trafo3w", np.zeros(0, dtype=np.int64))
    return part, ppc


def _read_buses(net: pandapowerNet, part: pandapowerNet, ppc: dict[str, Any]) -> pd.DataFrame:
    """Return label, limits, power and shunts in pu of the buses in service and of the star points, by bus index."""
    live = net.bus[net.bus.in_service.astype(bool)]
    buses = pd.DataFrame({"text": live["name"], "table": "bus"})
    for limit, column in (("v_min", "min_vm_pu"), ("v_max", "max_vm_pu")):
        buses[limit] = live[column].astype(float) if column in live else np.nan
    names = part.trafo3w["name"]
    names = names.where(names.notna(), [f"trafo3w {index}" for index in names.index])
    stars = pd.DataFrame({"text": [f"{text} star" for text in names], "table": "star"}, index=part.trafo3w["star"])
    buses = pd.concat([buses, stars.assign(v_min=STAR_V_MIN_PU, v_max=STAR_V_MAX_PU)])

    rows = ppc["bus"][part._pd2ppc_lookups["bus"][buses.index]]
    buses["vn_kv"] = rows[:, idx_bus.BASE_KV]
    columns = {"p_load": idx_bus.PD, "q_load": idx_bus.QD, "g_shunt": idx_bus.GS, "b_shunt": idx_bus.BS}
    for column, position in columns.items():
        buses[column] = rows[:, position] / part.sn_mva
    buses[["p_gen", "q_gen"]] = 0.0
    for table, phases in (("sgen", ("",)), ("asymmetric_sgen", ("_a", "_b", "_c"))):
        units = net[table][net[table].in_service.astype(bool) & net[table].bus.isin(live.index)]
        for column, power in (("p_gen", "p{}_mw"), ("q_gen", "q{}_mvar")):
            total = sum(units[power.format(phase)] for phase in phases) * units.scaling / part.sn_mva
            buses[column] = buses[column].add(total.groupby(units.bus).sum(), fill_value=0.0)
    return buses


def _merge_buses(buses: pd.DataFrame, fused: dict[int, int]) -> pd.DataFrame:
    """Return one row per fused bus, in the place of its lowest index: power added, limits the tightest."""
    root = buses.index.map(fused)
    groups = buses.groupby(root)
    merged = buses[buses.index == root].copy()
    merged[list(_POWER)] = groups[list(_POWER)].sum(min_count=1)
    merged["v_min"] = groups.v_min.max().fillna(V_MIN_PU)
    merged["v_max"] = groups.v_max.min().fillna(V_MAX_PU)
    return merged


def _drop_islands(
    buses: pd.DataFrame, branches: pd.DataFrame, substations: list[int], name: str, base_mva: float
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the buses that open or closed branches join to a substation, and their branches; warn of the others."""
    graph = nx.Graph(zip(branches.from_bus, branches.to_bus, strict=True))
    graph.add_edges_from((substations[0], bus) for bus in substations)
    fed = buses.index.isin(nx.node_connected_component(graph, substations[0]))
    if not fed.all():
        lost = buses[~fed]
        warnings.warn(
            f"{name}: left out bus {_shown(lost.label)}, which no branch joins to an ext_grid, and with it "
            f"{lost.p_load.sum() * base_mva:g} MW and {lost.q_load.sum() * base_mva:g} Mvar of load",
            stacklevel=4,
        )
    return buses[fed], branches[branches.from_bus.isin(buses.index[fed])]


def _network(
    name: str, base_mva: float, buses: pd.DataFrame, branches: pd.DataFrame, substations: dict[int, complex]
) -> Network:
    is_open = branches.open_from | branches.open_to
    wound = branches.table.isin(["trafo", "trafo3w"])
    texts = [f"{text}{suffix}" if pd.notna(text) else text
             for text, suffix in zip(branches.text, branches.suffix, strict=True)]  # fmt: skip
    return Network(
        name=name,
        base_mva=base_mva,
        bus_name=tuple(buses.label),
        vn_kv=buses.vn_kv.to_numpy(),
        v_min=buses.v_min.to_numpy(),
        v_max=buses.v_max.to_numpy(),
        **{column: buses[column].to_numpy() for column in _POWER},
        substation=buses.index.get_indexer(list(substations)),
        v_substation=np.array(list(substations.values())),
        branch_name=tuple(_labels(texts, branches.table, branches["index"])),
        kind=tuple(np.where(wound, "trafo", np.where(is_open, "tie", "line"))),
        from_bus=buses.index.get_indexer(branches.from_bus),
        to_bus=buses.index.get_indexer(branches.to_bus),
        r=branches.z.to_numpy().real,
        x=branches.z.to_numpy().imag,
        g_from=branches.y_from.to_numpy().real,
        b_from=branches.y_from.to_numpy().imag,
        g_to=branches.y_to.to_numpy().real,
        b_to=branches.y_to.to_numpy().imag,
        tap=branches.tap.to_numpy(),
        shift=branches["shift"].to_numpy(),
        rating=branches.rating.to_numpy(),
        closed=~is_open.to_numpy(),
        open_end=np.select([branches.open_from & branches.open_to, branches.open_from, branches.open_to], [0, 1, 2], 0),
    )


def _labels(names: Sequence[object], tables: Sequence[str], indices: Sequence[object]) -> list[str]:
    """Return each name that is unique; for the others the name with table and index, or these alone."""
    texts = ["" if pd.isna(name) else str(name).strip() for name in names]
    own = {text for text, count in Counter(texts).items() if text and count == 1}
    labels = []
    for text, table, index in zip(texts, tables, indices, strict=True):
        place = str(index) if table == "bus" and not text and str(index) not in own else f"{table} {index}"
        labels.append(text if text in own else f"{text} ({place})" if text else place)
    return labels


def _shown(items: Sequence[object]) -> str:
    return ", ".join(map(str, items[:10])) + (f" and {len(items) - 10} more" if len(items) > 10 else "")
