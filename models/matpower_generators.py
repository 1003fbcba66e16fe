"""The generators of a MATPOWER case: their limits and costs, what they fix, and the voltage they hold.

| generator in service at | Network |
|---|---|
| a reference (3) or PV (2) bus | a generator row, dispatched by an optimal power flow; PG and QG are not kept |
| a reference bus, besides | VG of the last such row is the voltage of the substation |
| a PQ (1) bus | p_gen, q_gen: PG and QG at that bus, fixed |

Source of the meaning of each column: MATPOWER 8.1, caseformat.m, idx_gen.m, idx_cost.m and bustypes.m.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from feederguard.models.matpower_script import COLUMN, column
from feederguard.models.network import ComplexArray, FloatArray, NetworkError

if TYPE_CHECKING:
    from feederguard.models.matpower_case import MatpowerCase


def read_generators(path: Path, case: MatpowerCase, bus: FloatArray, gen_at: list[int]) -> dict[str, Any]:
    """Return `p_gen`, `q_gen`, `v_substation` and the `gen_*` fields of the Network, in pu on the case's base.

    bus: the rows of mpc.bus that are kept; gen_at: for each row of mpc.gen the place of its bus among them, -1 where
    it is not kept. A generator bears the number of its row from 1.

    Raises `NetworkError` for a reference bus that no generator in service holds, and for costs that are no polynomial
    of degree two or less in P.
    """
    at, kind = np.array(gen_at, dtype=np.int64), column(bus, "BUS_TYPE")
    running = (column(case.gen, "GEN_STATUS") > 0) & (at >= 0)
    fixed = running & (kind[at] == COLUMN["PQ"])
    rows = np.flatnonzero(running & ~fixed)
    gen = case.gen[rows]
    power = {}
    for name, source in (("p_gen", "PG"), ("q_gen", "QG")):
        power[name] = np.zeros(len(bus))
        np.add.at(power[name], at[fixed], column(case.gen, source)[fixed] / case.base_mva)
    return power | {
        "v_substation": _held_voltage(path, bus, gen, at[rows]),
        "gen_name": tuple(str(row + 1) for row in rows),
        "gen_bus": at[rows],
        "gen_p_min": column(gen, "PMIN") / case.base_mva,
        "gen_p_max": column(gen, "PMAX") / case.base_mva,
        "gen_q_min": column(gen, "QMIN") / case.base_mva,
        "gen_q_max": column(gen, "QMAX") / case.base_mva,
        "gen_cost": _costs(path, case, rows),
    }


def _held_voltage(path: Path, bus: FloatArray, gen: FloatArray, at: Any) -> ComplexArray:
    """Return VG at the angle VA for every reference bus, in their order."""
    held = np.full(len(bus), np.nan)
    held[at] = column(gen, "VG")  # of several generators the last one rules, as in MATPOWER
    reference = column(bus, "BUS_TYPE") == COLUMN["REF"]
    idle = np.flatnonzero(reference & np.isnan(held))
    if idle.size:
        raise NetworkError(
            f"{path}: reference bus {column(bus, 'BUS_I')[idle[0]]:.12g} has no generator in service to hold its "
            "voltage; add a row to mpc.gen with its VG, or set its status to 1"
        )
    return np.asarray((held * np.exp(1j * np.deg2rad(column(bus, "VA"))))[reference])


def _costs(path: Path, case: MatpowerCase, rows: Any) -> FloatArray:
    """Return c2, c1, c0 of some rows of mpc.gen, 0 where the case has no costs."""
    costs = np.zeros((len(rows), 3))
    if not len(case.gencost):
        return costs
    n_gen = len(case.gen)
    if len(case.gencost) not in (n_gen, 2 * n_gen):
        raise NetworkError(
            f"{path}: mpc.gencost has {len(case.gencost)} rows and mpc.gen {n_gen}; give one row per generator"
        )
    for k, row in enumerate(rows.tolist()):
        costs[k] = _polynomial(path, case.gencost[row], row)
        if len(case.gencost) > n_gen and _polynomial(path, case.gencost[n_gen + row], n_gen + row).any():
            raise NetworkError(
                f"{path}: row {n_gen + row + 1} of mpc.gencost prices reactive power, which a Network cannot hold; "
                "remove the second half of mpc.gencost"
            )
    return costs


def _polynomial(path: Path, cost: FloatArray, row: int) -> FloatArray:
    """Return the three lowest coefficients of a cost row, the highest power first."""
    model, n = cost[COLUMN["MODEL"] - 1], int(cost[COLUMN["NCOST"] - 1])
    first = COLUMN["COST"] - 1
    coefficients = cost[first : first + n]
    if model != COLUMN["POLYNOMIAL"] or len(coefficients) < n or coefficients[:-3].any():
        raise NetworkError(
            f"{path}: row {row + 1} of mpc.gencost is no polynomial of degree two or less (MODEL {model:g}, NCOST {n}); "
            "fit one with MODEL 2 and NCOST 3"
        )
    return np.concatenate([np.zeros(max(0, 3 - n)), coefficients[-3:]])
