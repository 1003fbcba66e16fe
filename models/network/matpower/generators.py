"""The generators of a MATPOWER case: limits, costs, and the voltage they hold.

Every generator in service becomes a generator row within its limits, whatever the type of its bus,
as in MATPOWER's optimal power flow. PG and QG are not kept. A generator at a reference bus stands
for the grid above (`gen_is_grid`), and VG of the last such row is the voltage of the substation.

Source of the meaning of each column: MATPOWER 8.1, caseformat.m, idx_gen.m, idx_cost.m and
bustypes.m.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from feederguard.models.arrays import ComplexArray, FloatArray
from feederguard.models.network.costs import lines_of
from feederguard.models.network.fields import NetworkError
from feederguard.models.network.matpower.script import COLUMN, column

if TYPE_CHECKING:
    from feederguard.models.network.matpower.case import MatpowerCase


def read_generators(
    path: Path, case: MatpowerCase, bus: FloatArray, gen_at: list[int]
) -> dict[str, Any]:
    """Return `p_gen`, `q_gen`, `v_substation` and the `gen_*` fields, in pu on the case's base.

    bus: the rows of mpc.bus that are kept. gen_at: for each row of mpc.gen the place of its bus
    among them, -1 where it is not kept. A generator is named by the number of its row, from 1.

    Costs that are neither a polynomial of degree two or less in P nor convex and piecewise linear
    are told in `cost_error`: no power flow needs them. Raises `NetworkError` for a reference bus
    that no generator in service holds, and for capability curves and dispatchable loads with
    reactive power, which the limits cannot hold.
    """
    at = np.array(gen_at, dtype=np.int64)
    rows = np.flatnonzero((column(case.gen, "GEN_STATUS") > 0) & (at >= 0))
    gen = case.gen[rows]
    _refuse_coupled_limits(path, gen, rows)
    return {
        "p_gen": np.zeros(len(bus)),
        "q_gen": np.zeros(len(bus)),
        "v_substation": _held_voltage(path, bus, gen, at[rows]),
        "gen_name": tuple(str(row + 1) for row in rows),
        "gen_bus": at[rows],
        "gen_p_min": column(gen, "PMIN") / case.base_mva,
        "gen_p_max": column(gen, "PMAX") / case.base_mva,
        "gen_q_min": column(gen, "QMIN") / case.base_mva,
        "gen_q_max": column(gen, "QMAX") / case.base_mva,
        **_costs_or_error(path, case, rows),
        "gen_is_grid": column(bus, "BUS_TYPE")[at[rows]] == COLUMN["REF"],
    }


def _refuse_coupled_limits(path: Path, gen: FloatArray, rows: Any) -> None:
    """Raise where the limits of Q depend on P, which four numbers cannot say."""
    if gen.shape[1] >= COLUMN["QC2MAX"]:
        curved = np.flatnonzero(gen[:, COLUMN["PC1"] - 1 : COLUMN["QC2MAX"]].any(axis=1))
        if curved.size:
            raise NetworkError(
                f"{path}: row {rows[curved[0]] + 1} of mpc.gen has a capability curve (PC1 to "
                "QC2MAX), which a Network cannot hold; set these columns to 0 and give QMIN and "
                "QMAX that are safe at every output"
            )
    # isload.m; MATPOWER keeps the power factor of such a load as it is.
    load = (column(gen, "PMIN") < 0) & (column(gen, "PMAX") == 0)
    coupled = np.flatnonzero(load & ((column(gen, "QMIN") != 0) | (column(gen, "QMAX") != 0)))
    if coupled.size:
        raise NetworkError(
            f"{path}: row {rows[coupled[0]] + 1} of mpc.gen is a dispatchable load with reactive "
            "power, whose constant power factor a Network cannot hold; set its QMIN and QMAX to "
            "0, or make it a fixed load "
            "(PD, QD)"
        )


def _held_voltage(path: Path, bus: FloatArray, gen: FloatArray, at: Any) -> ComplexArray:
    """Return VG at the angle VA for every reference bus, in their order."""
    held = np.full(len(bus), np.nan)
    held[at] = column(gen, "VG")  # of several generators the last one counts, as in MATPOWER
    reference = column(bus, "BUS_TYPE") == COLUMN["REF"]
    idle = np.flatnonzero(reference & np.isnan(held))
    if idle.size:
        raise NetworkError(
            f"{path}: reference bus {column(bus, 'BUS_I')[idle[0]]:.12g} has no generator in "
            "service to hold its voltage; add a row to mpc.gen with its VG, or set its status to 1"
        )
    return np.asarray((held * np.exp(1j * np.deg2rad(column(bus, "VA"))))[reference])


def _costs_or_error(path: Path, case: MatpowerCase, rows: Any) -> dict[str, Any]:
    """Return `gen_cost` and `gen_cost_lines`, or else `cost_error`."""
    try:
        costs, lines = _costs(path, case, rows)
    except NetworkError as error:
        return {"gen_cost": np.zeros((len(rows), 3)), "cost_error": str(error)}
    return {"gen_cost": costs, "gen_cost_lines": lines}


def _costs(path: Path, case: MatpowerCase, rows: Any) -> tuple[FloatArray, FloatArray]:
    """Return c2, c1, c0 of some rows of mpc.gen, and the lines of piecewise linear costs."""
    costs, lines = np.zeros((len(rows), 3)), [np.zeros((0, 3))]
    if not len(case.gencost):
        return costs, lines[0]
    n_gen = len(case.gen)
    if len(case.gencost) not in (n_gen, 2 * n_gen):
        raise NetworkError(
            f"{path}: mpc.gencost has {len(case.gencost)} rows and mpc.gen {n_gen}; give one row "
            "per generator"
        )
    for k, row in enumerate(rows.tolist()):
        if case.gencost[row][COLUMN["MODEL"] - 1] == COLUMN["PW_LINEAR"]:
            own = _piecewise(path, case.gencost[row], row)
            if len(own) > 1:
                lines.append(np.insert(own, 0, k, axis=1))
            else:
                costs[k] = [0.0, *own[0]]
        else:
            costs[k] = _polynomial(path, case.gencost[row], row)
        if len(case.gencost) > n_gen and case.gencost[n_gen + row, COLUMN["COST"] - 1 :].any():
            raise NetworkError(
                f"{path}: row {n_gen + row + 1} of mpc.gencost prices reactive power, which a "
                "Network cannot hold; remove the second half of mpc.gencost"
            )
    return costs, np.concatenate(lines)


def _piecewise(path: Path, cost: FloatArray, row: int) -> FloatArray:
    """Return the lines of a cost row of points P1, f1, P2, f2, ..., (n_line, 2)."""
    n, first = int(cost[COLUMN["NCOST"] - 1]), COLUMN["COST"] - 1
    points = cost[first : first + 2 * n]
    try:
        return lines_of(points[0::2], points[1::2])
    except ValueError as reason:
        raise NetworkError(
            f"{path}: row {row + 1} of mpc.gencost (MODEL 1) {reason}; give a convex cost, or a "
            "polynomial with MODEL 2 and NCOST 3"
        ) from None


def _polynomial(path: Path, cost: FloatArray, row: int) -> FloatArray:
    """Return the three lowest coefficients of a cost row, the highest power first."""
    model, n = cost[COLUMN["MODEL"] - 1], int(cost[COLUMN["NCOST"] - 1])
    first = COLUMN["COST"] - 1
    coefficients = cost[first : first + n]
    if model != COLUMN["POLYNOMIAL"] or len(coefficients) < n or coefficients[:-3].any():
        raise NetworkError(
            f"{path}: row {row + 1} of mpc.gencost is no polynomial of degree two or less (MODEL "
            f"{model:g}, NCOST {n}); fit one with MODEL 2 and NCOST 3"
        )
    return np.concatenate([np.zeros(max(0, 3 - n)), coefficients[-3:]])
