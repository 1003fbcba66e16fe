"""Small feeders for tests, drawn in a line.

pytest puts tests/ on the import path (`pythonpath` in pyproject.toml), so any test writes

    from feeders import feeder, ring, row, two_buses

`pair`, `battery` and `demand_days` make a small case of voltage regulation.
"""

import re
from dataclasses import fields
from typing import Any

import numpy as np

from feederguard.models.battery import Batteries
from feederguard.models.network import Network
from feederguard.models.voltage_regulation import VoltageDays

BUS_DEFAULTS = {
    "vn_kv": 10.0,
    "v_min": 0.9,
    "v_max": 1.1,
    "p_load": 0.0,
    "q_load": 0.0,
    "p_gen": 0.0,
    "q_gen": 0.0,
    "g_shunt": 0.0,
    "b_shunt": 0.0,
}
BRANCH_DEFAULTS = {
    "r": 0.01,
    "x": 0.01,
    "g_from": 0.0,
    "b_from": 0.0,
    "g_to": 0.0,
    "b_to": 0.0,
    "tap": 1.0,
    "shift": 0.0,
    "rating": np.inf,
    "open_end": 0,
    "s_max": np.inf,
    "angle_min": -np.inf,
    "angle_max": np.inf,
}


def feeder(branches: str, **given: Any) -> Network:
    """Return the feeder whose branches are drawn as "0-1 a:1-2 t:0~2".

    `-` is a closed line, `~` a tie, normally open. Before the colon stands the name, else the
    branch is called as it is drawn. Buses are numbered from 0 and called "0", "1" and so on.

    Any field of `Network` may be given. A single number counts for every bus or branch. On the base
    of 1 MVA a power in MW is the power in per unit. Without more said, bus 0 is the substation at
    1 pu, and nothing is consumed, produced or limited but the voltage, to 0.9 to 1.1 pu.
    """
    unknown = set(given) - {field.name for field in fields(Network)}
    if unknown:
        raise TypeError(f"Network has no field {sorted(unknown)}")
    drawn = [re.fullmatch(r"(?:(.+):)?(\d+)([-~])(\d+)", branch) for branch in branches.split()]
    if None in drawn:
        raise ValueError(f"{branches!r} is no drawing; write name:0-1 for a line, 0~1 for a tie")
    names, starts, marks, ends = zip(*(match.groups() for match in drawn if match), strict=True)
    from_bus, to_bus = [int(bus) for bus in starts], [int(bus) for bus in ends]
    kind = given.get("kind", ["tie" if mark == "~" else "line" for mark in marks])
    n_bus, n_branch = max(*from_bus, *to_bus) + 1, len(names)
    values = {
        "name": "hand",
        "base_mva": 1.0,
        "bus_name": [str(bus) for bus in range(n_bus)],
        "substation": [0],
        "v_substation": [1.0],
        "branch_name": [
            name or branch for name, branch in zip(names, branches.split(), strict=True)
        ],
        "kind": [kind] * n_branch if isinstance(kind, str) else kind,
        "from_bus": from_bus,
        "to_bus": to_bus,
        "closed": [mark == "-" for mark in marks],
    }
    values |= {key: value for key, value in given.items() if key != "kind"}
    for defaults, size in ((BUS_DEFAULTS, n_bus), (BRANCH_DEFAULTS, n_branch)):
        for key, default in defaults.items():
            value = given.get(key, default)
            values[key] = value if np.ndim(value) else np.full(size, value)
    return Network(**values)


def row(n_bus: int, **given: Any) -> Network:
    """Return a feeder without branching: bus 0 feeds bus 1 through "1", bus 1 feeds bus 2, ..."""
    return feeder(" ".join(f"{bus}:{bus - 1}-{bus}" for bus in range(1, n_bus)), **given)


def two_buses(r: float = 0.1, x: float = 0.0, **given: Any) -> Network:
    """Return the substation and one bus behind the line "l"."""
    return feeder("l:0-1", r=r, x=x, **given)


def ring(p2: float, p3: float, tie: bool = True, **given: Any) -> Network:
    """Return a ring with a tie, or without it; its lines have no resistance and lose no power.

    0 --a-- 1 --b-- 2 --c-- 3
    |                       .
    +--d-- 4 . . . e . . . .+
    """
    branches = "a:0-1 b:1-2 c:2-3 d:0-4" + (" e:4~3" if tie else "")
    return feeder(branches, **{"p_load": [0, 0.05, p2, p3, 0.05], "r": 0.0, **given})


def row_with_spare(
    p_mw: list[float], r: Any = 0.0, x: Any = 0.01, gen_mw: float = 0.0, **given: Any
) -> Network:
    """Return a row of lines with a spare line that may fail; the last load has the generation.

    0 --l1-- 1 --l2-- 2 ...
    |
    +--spare-- n (no load)

    r, x: of each line of the row, or one for all.
    """
    n = len(p_mw)
    lines = [f"l{k}:{k - 1}-{k}" for k in range(1, n + 1)]
    r, x = (np.append(np.broadcast_to(z, n), 0.01) for z in (r, x))
    p_gen = [0.0] * n + [gen_mw, 0.0]
    values = {"name": "row", "r": r, "x": x, "p_load": [0.0, *p_mw, 0.0], "p_gen": p_gen}
    return feeder(" ".join([*lines, f"spare:0-{n + 1}"]), **values | given)


def pair(**given: Any) -> Network:
    """Return 0 --r = 0.1-- 1 with 1 MW at bus 1 and the band 0.95 to 1.05.

    0.95 pu is reached at v (1 - v) / r = 0.475 pu of demand, 1.05 pu at -0.525.
    """
    return two_buses(**{"name": "pair", "v_min": 0.95, "v_max": 1.05, "p_load": [0, 1.0]} | given)


def battery(**given: Any) -> Batteries:
    """Return one battery at bus 1: 1 pu h, 0.5 pu, 80 % in and 50 % out, half full."""
    values = {
        "bus": [1],
        "p_max": 0.5,
        "energy": 1.0,
        "efficiency_charge": 0.8,
        "efficiency_discharge": 0.5,
        "name": ("b",),
    }
    return Batteries(**values | given)


def demand_days(p: Any, step_h: float = 1.0, first: str = "2016-02-01") -> VoltageDays:
    """Return days (B, T) of net demand at bus 1 of two; below zero it is generation."""
    p = np.atleast_2d(np.asarray(p, dtype=float))
    load, made = (np.stack([0 * p, np.maximum(side, 0)], axis=-1) for side in (p, -p))
    return VoltageDays(load, 0 * load, made, step_h, np.datetime64(first) + np.arange(len(p)))
