"""A pandapower net read as a `Network`.

| pandapower | Network |
|---|---|
| bus in service | a bus |
| min_vm_pu, max_vm_pu | v_min, v_max; 0.90 and 1.10 where missing |
| ext_grid, gen with slack | a substation at vm_pu and va_degree |
| gen; ext_grid, sgen, load, storage where dispatched | generators, by `generators.py` |
| other load, motor, storage, ward (power) | p_load, q_load: nominal times scaling |
| other sgen | p_gen, q_gen, or where its power is negative p_load, q_load |
| asymmetric load, sgen | a load, an sgen of the sum of their phases |
| shunt, ward (impedance) | g_shunt, b_shunt |
| line, impedance | a line rated at max_i_ka x df x parallel, or at the sn_mva of an impedance |
| trafo | a branch from high to low voltage, rated at sn_mva x df x parallel at its own voltage |
| tap changer and vector group of a trafo | `tap` and `shift` |
| max_loading_percent | that share of the rating; all of it where missing |
| trafo3w | three such branches that meet in an added bus, 'NAME star' |
| line or trafo with an open switch | an open branch, a line a 'tie'; `open_end` tells where |
| line or trafo out of service | an open branch, `in_service` False; left out where a bus is too |
| bus-bus switch | a 'coupler' of its z_ohm, or of almost none (`COUPLER_X_PU_PER_MVA`) where 0 |
| switch | a device, by `switches.py` |

Generation is not subtracted from loads. All else that is out of service is left out. A line in
service to a bus out of service stays charged from its other end, as in pandapower, and becomes a
shunt there. Lines and trafos out of service reach no bus: what only they join is left out, and so
are those without a whole row of numbers.
pandapower itself computes impedances, tap tables and shunt steps
(`pandapower.converter.pypower.to_ppc`). Controllers are not run.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections import Counter
from collections.abc import Iterable
from typing import Any

import networkx as nx
import numpy as np
import pandas as pd
from pandapower.auxiliary import pandapowerNet
from pandapower.converter.pypower.to_ppc import to_ppc

from feederguard.models.network.fields import NetworkError
from feederguard.models.network.pandapower.branches import (
    UNDER_REPAIR,
    read_branches,
    settle_strays,
    under_repair,
)
from feederguard.models.network.pandapower.buses import (
    BUS_POWERS,
    fused_buses,
    live_buses,
    read_buses,
    read_substations,
    set_missing_limits,
)
from feederguard.models.network.pandapower.generators import (
    dispatched,
    has_costs,
    hold_voltages,
    read_generators,
)
from feederguard.models.network.pandapower.switches import read_devices
from feederguard.models.network.pandapower.tables import checked_tables

_BUS_ELEMENTS = (
    *("load", "motor", "storage", "ward", "asymmetric_load", "shunt"),
    *("sgen", "asymmetric_sgen", "ext_grid", "gen"),
)
_BRANCH_ELEMENTS = ("line", "trafo", "trafo3w", "impedance")
_REMEDY = {
    "xward": "make it a ward (pandapower.toolbox.replace_xward_by_ward with its index)",
    "dcline": "make it a load at one end and an sgen at the other",
}


def fields_of_pandapower(net: pandapowerNet, base_mva: float | None = None) -> dict[str, Any]:
    """Return the fields of the feeder of a pandapower net, per unit on base_mva.

    The net is not changed. base_mva: default its sn_mva. A bus or branch keeps its name where that
    is unique. Else it is called 'NAME (bus 3)' or 'NAME (line 3)', and without a name '3' or
    'line 3', by its index in pandapower.

    Warns of

    - buses that not even an open branch joins to an ext_grid; they are left out;
    - controllable sgens, loads and storages in a net with costs, and in a net without costs gens
      that are no slack: their power is in none of p_gen, p_load and q_load;
    - loads with a constant-impedance or constant-current part, taken as constant power.

    Raises `NetworkError` for tables that cannot be read (`tables.py`), where there is no ext_grid,
    where elements contradict each other, and for what a `Network` cannot hold: xwards, DC lines and
    links, FACTS, and impedances that differ by direction.
    """
    if not isinstance(net, pandapowerNet):
        raise NetworkError(f"a pandapower net is expected, not a {type(net).__name__}")
    name = str(net.get("name") or "pandapower net")
    net = checked_tables(net, name)
    base_mva = float(net.sn_mva if base_mva is None else base_mva)
    if not (math.isfinite(base_mva) and base_mva > 0):
        raise NetworkError(f"{name}: base_mva is {base_mva}; it must be positive")
    _refuse_unheld(net, name)
    _warn_voltage_dependent(net, name)
    _warn_dispatched(net, name)
    substations = read_substations(net, fused_buses(net, name), name)

    part, case = _convert_part_in_service(net, base_mva, name)
    own = {bus: bus for bus in (*live_buses(net), *map(int, part.trafo3w["star"]))}
    branches, left = settle_strays(read_branches(net, part, case, name), own)
    buses = read_buses(net, part, case)
    for bus, admittance in left.items():
        buses.loc[bus, ["g_shunt", "b_shunt"]] += [admittance.real, admittance.imag]
    buses = set_missing_limits(buses)
    generators = read_generators(net, own, name)
    hold_voltages(net, buses, generators, own)
    buses["label"] = _labels(buses["text"], buses["table"], buses.index)
    buses, branches = _drop_islands(buses, branches, list(substations), name, base_mva)
    told = generators.attrs
    generators = generators[generators["bus"].isin(buses.index)]
    generators.attrs = told
    labels = _labels(net.switch["name"], ["switch"] * len(net.switch), net.switch.index)
    return dict(
        **_fields(name, base_mva, buses, branches, substations, generators),
        devices=read_devices(net, branches, labels, name),
    )


def _refuse_unheld(net: pandapowerNet, name: str) -> None:
    """Raise for any element in service that a Network cannot hold."""
    held = {"bus", "controller", *_BUS_ELEMENTS, *_BRANCH_ELEMENTS}
    live = live_buses(net)
    for table, frame in net.items():
        if not isinstance(frame, pd.DataFrame) or "in_service" not in frame or table in held:
            continue
        lost = frame[frame["in_service"].fillna(False).astype(bool)]
        if "bus" in lost:
            lost = lost[lost["bus"].isin(live)]
        if len(lost):
            remedy = _REMEDY.get(table, "replace it by loads and sgens of the same power")
            raise NetworkError(
                f"{name}: a Network cannot hold {table} {lost.index[0]}; {remedy}, or set it out "
                "of service"
            )


def _warn_voltage_dependent(net: pandapowerNet, name: str) -> None:
    parts = [column for column in net.load if str(column).startswith(("const_z", "const_i"))]
    varying = (net.load[parts].fillna(0.0) != 0).any(axis=1) & net.load["in_service"].astype(bool)
    if varying.any():
        warnings.warn(
            f"{name}: load {_shown(net.load.index[varying])} depends on voltage (const_z or "
            "const_i percent); it is taken as constant power",
            stacklevel=4,
        )


def _warn_dispatched(net: pandapowerNet, name: str) -> None:
    # In a net without costs, gens are there for their part in the power flow.
    for table in ("sgen", "load", "storage") if has_costs(net) else ("gen",):
        chosen = dispatched(net, table) & net[table]["bus"].isin(live_buses(net)).to_numpy()
        if table == "gen":
            chosen &= ~net.gen["slack"].to_numpy(bool)  # the substation supplies what is needed
        if chosen.any():
            remedy = "make it an sgen" if table == "gen" else "set controllable to False"
            warnings.warn(
                f"{name}: the power of {table} {_shown(net[table].index[chosen])} is for an "
                f"optimal power flow to choose, and the power flow does not see it; {remedy} to "
                "keep it as it is",
                stacklevel=4,
            )


def _convert_part_in_service(
    net: pandapowerNet, base_mva: float, name: str
) -> tuple[pandapowerNet, dict[str, Any]]:
    """Return a copy of what is in service, without generation and switches, and its pypower case.

    So every row of the case is an element, and no switch cuts or fuses it. Lines and trafos under
    repair are part of it, and their column 'under_repair' is True. Bus-bus switches with an
    impedance are kept, closed, so that pandapower converts it. Every trafo3w of the copy has a name
    and its star point in the column 'star'.
    """
    part = copy.deepcopy(net)
    part.sn_mva = base_mva
    live = live_buses(net)
    for table in (*_BUS_ELEMENTS, *_BRANCH_ELEMENTS):
        kept = part[table]["in_service"].astype(bool)
        if table in UNDER_REPAIR:
            out = under_repair(part, table, live)
            part[table] = part[table].assign(under_repair=out)
            part[table].loc[out, "in_service"] = True
            kept |= out
        if table in ("load", "storage"):
            kept &= ~dispatched(part, table)
        part[table] = part[table][kept]
    for table in ("sgen", "asymmetric_sgen", "gen", *_REMEDY):
        if table in part:
            part[table] = part[table][:0]
    joins = (
        (part.switch["et"] == "b")
        & part.switch["bus"].isin(live)
        & part.switch["element"].isin(live)
    )
    part.switch = part.switch[joins & (part.switch["z_ohm"] > 0)].assign(closed=True)
    part.bus["in_service"] = True
    # pandapower leaves out buses that only a switch connects, unless an ext_grid holds them.
    part.ext_grid = pd.DataFrame(
        {
            "bus": part.bus.index,
            "vm_pu": 1.0,
            "va_degree": 0.0,
            "slack_weight": 1.0,
            "in_service": True,
        }
    )
    try:
        case = to_ppc(part, check_connectivity=False, init="flat", mode="pf")
    except Exception as error:  # on values it does not expect pandapower raises anything
        raise NetworkError(
            f"{name}: pandapower cannot convert it ({type(error).__name__}: {error}); "
            "pandapower.diagnostic(net) tells what is wrong"
        ) from error
    names = [_text(text) or f"trafo3w {index}" for index, text in part.trafo3w["name"].items()]
    stars = part._pd2ppc_lookups["aux"].get("trafo3w", np.zeros(0, dtype=np.int64))
    part.trafo3w = part.trafo3w.assign(name=names, star=stars)
    return part, case


def _drop_islands(
    buses: pd.DataFrame, branches: pd.DataFrame, substations: list[int], name: str, base_mva: float
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the buses that branches, open ones too, join to a substation, and their branches.

    A branch under repair joins none. Warns of the other buses.
    """
    sound = branches[~branches["under_repair"]]
    graph = nx.Graph(zip(sound["from_bus"], sound["to_bus"], strict=True))
    graph.add_edges_from((substations[0], bus) for bus in substations)
    fed = buses.index.isin(list(nx.node_connected_component(graph, substations[0])))
    if not fed.all():
        lost = buses[~fed]
        p_mw, q_mvar = lost["p_load"].sum() * base_mva, lost["q_load"].sum() * base_mva
        warnings.warn(
            f"{name}: left out bus {_shown(lost['label'])}, which no branch in service joins to an "
            f"ext_grid, and with it {p_mw:g} MW and {q_mvar:g} Mvar of load",
            stacklevel=4,
        )
    kept = buses.index[fed]
    return buses[fed], branches[branches["from_bus"].isin(kept) & branches["to_bus"].isin(kept)]


def _fields(
    name: str,
    base_mva: float,
    buses: pd.DataFrame,
    branches: pd.DataFrame,
    substations: dict[int, complex],
    generators: pd.DataFrame,
) -> dict[str, Any]:
    position = {bus: i for i, bus in enumerate(buses.index)}
    open_from, open_to = branches["open_from"].to_numpy(bool), branches["open_to"].to_numpy(bool)
    wound, coupler = branches["table"].isin(["trafo", "trafo3w"]), branches["table"] == "switch"
    flat = np.where(coupler, "coupler", np.where(open_from | open_to, "tie", "line"))
    z, y_from, y_to = (
        branches[column].to_numpy(np.complex128) for column in ("z", "y_from", "y_to")
    )
    powers: dict[str, Any] = {column: buses[column].to_numpy() for column in BUS_POWERS}
    return dict(
        name=name,
        base_mva=base_mva,
        bus_name=tuple(buses["label"]),
        vn_kv=buses["vn_kv"].to_numpy(),
        v_min=buses["v_min"].to_numpy(),
        v_max=buses["v_max"].to_numpy(),
        priority=buses["priority"].to_numpy(),
        **powers,
        substation=np.array([position[bus] for bus in substations]),
        v_substation=np.array(list(substations.values())),
        branch_name=tuple(_labels(branches["text"], branches["table"], branches["index"])),
        kind=tuple(np.where(wound, "trafo", flat)),
        from_bus=branches["from_bus"].map(position).to_numpy(),
        to_bus=branches["to_bus"].map(position).to_numpy(),
        r=z.real,
        x=z.imag,
        g_from=y_from.real,
        b_from=y_from.imag,
        g_to=y_to.real,
        b_to=y_to.imag,
        tap=branches["tap"].to_numpy(),
        shift=branches["shift"].to_numpy(),
        rating=branches["rating"].to_numpy(),
        closed=~(open_from | open_to | branches["under_repair"].to_numpy(bool)),
        in_service=~branches["under_repair"].to_numpy(bool),
        open_end=np.where(open_from & ~open_to, 1, np.where(open_to & ~open_from, 2, 0)),
        gen_name=tuple(_labels(generators["text"], generators["table"], generators["index"])),
        gen_bus=generators["bus"].map(position).to_numpy(),
        gen_p_min=generators["p_min"].to_numpy() / base_mva,
        gen_p_max=generators["p_max"].to_numpy() / base_mva,
        gen_q_min=generators["q_min"].to_numpy() / base_mva,
        gen_q_max=generators["q_max"].to_numpy() / base_mva,
        gen_cost=generators[["c2", "c1", "c0"]].to_numpy(),
        gen_cost_lines=[
            (g, *line) for g, lines in enumerate(generators["lines"]) for line in lines.tolist()
        ],
        cost_error=generators.attrs["cost_error"],
        gen_is_grid=generators["is_grid"].to_numpy(bool),
    )


def _labels(names: Iterable[Any], tables: Iterable[str], indices: Iterable[Any]) -> list[str]:
    """Return each unique name; for others the name with table and index, or these alone."""
    texts = [_text(name) for name in names]
    own = {text for text, count in Counter(texts).items() if text and count == 1}
    labels = []
    for text, table, index in zip(texts, tables, indices, strict=True):
        place = (
            str(index)
            if table == "bus" and not text and str(index) not in own
            else f"{table} {index}"
        )
        labels.append(text if text in own else f"{text} ({place})" if text else place)
    return labels


def _text(name: Any) -> str:
    return "" if pd.isna(name) else str(name).strip()


def _shown(items: Iterable[Any]) -> str:
    texts = [str(item) for item in items]
    return ", ".join(texts[:10]) + (f" and {len(texts) - 10} more" if len(texts) > 10 else "")
