"""MATPOWER case files (.m, format version 2), read the way MATPOWER runs them, as a `Network`.

`script.py` carries out the statements of the file, its unit conversions among them; `generators.py`
reads the generators. Source of the meaning of each column: MATPOWER 8.1, caseformat.m, bustypes.m,
makeYbus.m and makeAang.m.
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from feederguard.models.arrays import FloatArray
from feederguard.models.network.fields import NetworkError
from feederguard.models.network.matpower.case import MatpowerCase
from feederguard.models.network.matpower.generators import read_generators
from feederguard.models.network.matpower.script import COLUMN, Variables, column, run_case_file

_KV_WHERE_NONE_IS_GIVEN = 1.0
_REFUSED = {
    "dcline": "model each DC line as a load and a generator instead",
    "switch": (
        "make each switch a row of mpc.branch with a small BR_X and its state as BR_STATUS, or its "
        "two buses one"
    ),
}
_INSTEAD = {
    "storage": "give batteries to the model, as Batteries.at(network, ...) of models.battery",
}
_WITHOUT_EFFECT = ("areas", "if.map", "if.lims", "gentype", "genfuel")


def parse_matpower(path: str | Path) -> MatpowerCase:
    """Return the case of a MATPOWER .m file, its unit conversions carried out.

    Raises `NetworkError` with file, line and statement where it cannot be read as in MATPOWER.
    """
    path = Path(path)
    if not path.is_file():
        raise NetworkError(f"{path}: no such file; give the path of a MATPOWER case file (.m)")
    fields = run_case_file(path, path.read_text(encoding="utf-8-sig", errors="replace"))
    version = fields.pop("version", "2")
    if version != "2":
        raise NetworkError(
            f"{path}: mpc.version is {version!r}, expected '2'; convert it with MATPOWER's savecase"
        )
    base = fields.pop("baseMVA", None)
    if not (
        isinstance(base, np.ndarray)
        and base.size == 1
        and np.isfinite(base).all()
        and base.item() > 0
    ):
        raise NetworkError(
            f"{path}: mpc.baseMVA must be one positive number; set it to the MVA base of the case"
        )
    matrices = {
        name: _matrix_field(path, fields, name, width)
        for name, width in (("bus", 13), ("gen", 10), ("branch", 11), ("gencost", 4))
    }
    names = fields.pop("bus_name", [])
    return MatpowerCase(
        name=path.stem,
        base_mva=float(base.item()),
        bus_name=tuple(str(name) for name in names) if isinstance(names, list) else (),
        other_fields=tuple(name for name, value in fields.items() if np.size(value)),
        other_tables=tuple(
            name for name, value in fields.items() if isinstance(value, np.ndarray) and value.size
        ),
        **matrices,
    )


def fields_of_matpower(path: str | Path) -> dict[str, Any]:
    """Return the fields of the feeder of a MATPOWER .m file.

    Buses are named by their numbers, branches by their rows from 1.

    - Reference buses are substations at their generator's VG.
    - Generators in service become generator rows with limits and costs, those at reference buses as
      the grid above. The power flow reads none of them, nor PG and QG.
    - A PV bus is a bus like any other: the power flow holds no voltage there.
    - RATE_A is the current limit at 1 pu voltage (`rating`) and the limit of apparent power
      (`s_max`); 0 means none. ANGMIN and ANGMAX mean none where both are 0.
    - A branch with BR_STATUS 0 is a normally open tie.
    - A branch is a 'trafo' where TAP is not 0, the BASE_KV of its ends differ, or r is negative.
    - Isolated buses (type 4) and what is connected to them are dropped.
    - A case without any BASE_KV is read as one of 1 kV, with a warning: nothing per unit depends on
      it.
    - Limits of interfaces (mpc.if) are left out: in MATPOWER they act only when toggled on.
    - Costs that cannot be used are told in `cost_error`; a power flow needs none.
    - Other tables, such as mpc.storage, are left out with a warning; an empty one is nothing.

    Raises `NetworkError` for

    - a file that cannot be interpreted, an unknown bus number, a DC line or a switch;
    - a reference bus without a generator, or a bus without BASE_KV where others have one;
    - constraints or costs of the user's own (mpc.A, l, u, N);
    - a capability curve, or a dispatchable load with reactive power;
    - what `Network` itself refuses.
    """
    path, case = Path(path), parse_matpower(path)
    _refuse_unheld(path, case)
    case = _with_base_kv(path, case)
    position = _bus_positions(path, case)
    bus = case.bus[column(case.bus, "BUS_TYPE") != COLUMN["NONE"]]
    fields = _buses(path, case, bus, position) | _branches(
        path, case, position, column(bus, "BASE_KV")
    )
    return {"name": case.name, "base_mva": case.base_mva, **fields}


def _refuse_unheld(path: Path, case: MatpowerCase) -> None:
    """Raise for tables that a Network cannot hold, and warn of others that are not read."""
    for table, remedy in _REFUSED.items():
        if table in case.other_fields:
            raise NetworkError(f"{path}: mpc.{table} is not supported; {remedy}")
    for table in case.other_tables:
        if table not in (*_WITHOUT_EFFECT, "A", "l", "u", "N"):
            remedy = _INSTEAD.get(table, "what it says has no part in the network")
            warnings.warn(f"{path}: mpc.{table} is not read: {remedy}", stacklevel=4)
    own = [field for field in ("A", "l", "u", "N") if field in case.other_fields]
    if own:
        raise NetworkError(
            f"{path}: mpc.{own[0]} holds constraints or costs of the user's own on MATPOWER's "
            "variables, which a Network "
            "cannot hold; remove them, and add the constraints to the model that build_ac_opf "
            "returns"
        )


def _matrix_field(path: Path, fields: Variables, name: str, width: int) -> FloatArray:
    value = fields.pop(name, None)
    if value is None and name == "gencost":
        return np.zeros((0, width))
    if not isinstance(value, np.ndarray):
        raise NetworkError(
            f"{path}: mpc.{name} is missing or no matrix; a case needs mpc.baseMVA, bus, gen and "
            "branch"
        )
    if value.size == 0 and name != "bus":
        return np.zeros((0, width))
    if value.shape[1] < width:
        raise NetworkError(
            f"{path}: mpc.{name} has {value.shape[1]} columns, a version 2 case has at least "
            f"{width}"
        )
    return np.asarray(value, dtype=np.float64)


def _with_base_kv(path: Path, case: MatpowerCase) -> MatpowerCase:
    if column(case.bus, "BASE_KV").any() or not len(case.bus):
        return case
    warnings.warn(
        f"{path}: no bus has a BASE_KV; all are taken as {_KV_WHERE_NONE_IS_GIVEN:g} kV, which "
        "makes amperes and ohms meaningless and leaves everything per unit as it is",
        stacklevel=3,
    )
    bus = case.bus.copy()
    bus[:, COLUMN["BASE_KV"] - 1] = _KV_WHERE_NONE_IS_GIVEN
    return replace(case, bus=bus)


def _bus_positions(path: Path, case: MatpowerCase) -> dict[int, int]:
    """Map each bus number to its place in the Network, -1 for an isolated bus."""
    position: dict[int, int] = {}
    kept = 0
    for number, kind, base_kv in case.bus[:, [0, 1, COLUMN["BASE_KV"] - 1]].tolist():
        if not float(number).is_integer() or int(number) in position:
            raise NetworkError(
                f"{path}: bus number {number:.12g} is used twice or is no integer; number the "
                "buses uniquely"
            )
        if kind not in (1, 2, 3, 4):
            raise NetworkError(
                f"{path}: bus {number:.12g} is of type {kind:g}; use 1 (PQ), 2 (PV), 3 "
                "(reference), 4 (isolated)"
            )
        if kind != COLUMN["NONE"] and not base_kv > 0:
            raise NetworkError(
                f"{path}: BASE_KV of bus {number:.12g} is {base_kv:g}; write its nominal voltage "
                "in kV into column 10 of mpc.bus"
            )
        position[int(number)] = -1 if kind == COLUMN["NONE"] else kept
        kept += kind != COLUMN["NONE"]
    return position


def _place(path: Path, position: dict[int, int], number: float, where: str) -> int:
    if number not in position:
        raise NetworkError(
            f"{path}: {where} is at bus {number:.12g}, which mpc.bus does not list; add the bus or "
            "correct it"
        )
    return position[int(number)]


def _buses(
    path: Path, case: MatpowerCase, bus: FloatArray, position: dict[int, int]
) -> dict[str, Any]:
    """Return the bus and generator fields of the Network."""
    gen_buses = column(case.gen, "GEN_BUS").tolist()
    gen_at = [
        _place(path, position, at, f"row {row + 1} of mpc.gen") for row, at in enumerate(gen_buses)
    ]
    substation = np.flatnonzero(column(bus, "BUS_TYPE") == COLUMN["REF"])
    if not substation.size:
        raise NetworkError(
            f"{path}: no bus is of type 3 (reference); give that type to the bus that feeds the "
            "network"
        )
    return {
        "bus_name": tuple(str(int(number)) for number in column(bus, "BUS_I")),
        "vn_kv": column(bus, "BASE_KV"),
        "v_min": column(bus, "VMIN"),
        "v_max": column(bus, "VMAX"),
        "p_load": column(bus, "PD") / case.base_mva,
        "q_load": column(bus, "QD") / case.base_mva,
        "g_shunt": column(bus, "GS") / case.base_mva,
        "b_shunt": column(bus, "BS") / case.base_mva,
        "substation": substation,
        **read_generators(path, case, bus, gen_at),
    }


def _branches(
    path: Path, case: MatpowerCase, position: dict[int, int], vn_kv: FloatArray
) -> dict[str, Any]:
    """Return the branch fields of the Network."""
    ends = np.array(
        [
            [_place(path, position, end, f"row {row + 1} of mpc.branch") for end in pair]
            for row, pair in enumerate(case.branch[:, :2].tolist())
        ],
        dtype=np.int64,
    ).reshape(-1, 2)
    kept = (ends >= 0).all(axis=1)
    branch, (i, j) = case.branch[kept], ends[kept].T
    r, tap, rate = column(branch, "BR_R"), column(branch, "TAP"), column(branch, "RATE_A")
    half_b, zero, closed = (
        column(branch, "BR_B") / 2,
        np.zeros(len(branch)),
        column(branch, "BR_STATUS") != 0,
    )
    transforms = (tap != 0) | ~np.isclose(vn_kv[i], vn_kv[j], rtol=1e-9)
    return {
        "branch_name": tuple(str(row + 1) for row in np.flatnonzero(kept)),
        # A negative r belongs to the equivalent of a larger grid, which is no line.
        "kind": tuple(
            np.select([r < 0, ~closed, transforms], ["trafo", "tie", "trafo"], "line").tolist()
        ),
        "from_bus": i,
        "to_bus": j,
        "r": r,
        "x": column(branch, "BR_X"),
        "g_from": zero,
        "b_from": half_b,
        "g_to": zero,
        "b_to": half_b,
        "tap": np.where(tap == 0, 1.0, tap),
        "shift": np.deg2rad(column(branch, "SHIFT")),
        "rating": np.where(rate == 0, np.inf, rate / case.base_mva),
        "s_max": np.where(rate == 0, np.inf, rate / case.base_mva),
        **_angle_limits(branch),
        "closed": closed,
        "open_end": np.zeros(len(branch), dtype=np.int64),
    }


def _angle_limits(branch: FloatArray) -> dict[str, FloatArray]:
    """Return the limits of V_from's angle less V_to's in rad."""
    if branch.shape[1] < COLUMN["ANGMAX"]:
        return {}
    low, high = column(branch, "ANGMIN"), column(branch, "ANGMAX")
    without = (low == 0) & (high == 0)
    return {
        "angle_min": np.where(without | (low <= -360), -np.inf, np.deg2rad(low)),
        "angle_max": np.where(without | (high >= 360), np.inf, np.deg2rad(high)),
    }
