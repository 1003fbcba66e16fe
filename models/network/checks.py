"""The rules that every network keeps, checked when it is made."""

from __future__ import annotations

import warnings

import numpy as np

from feederguard.models.network.fields import (
    BRANCH_DEFAULTS,
    BRANCH_FLOATS,
    BRANCH_KINDS,
    BUS_FLOATS,
    GEN_LIMITS,
    NetworkError,
    NetworkFields,
)
from feederguard.models.network.graph import energised_buses


def check_shapes(network: NetworkFields) -> None:
    """Raise `NetworkError` when an array has not one entry per bus, branch or generator."""
    expected = dict.fromkeys((*BUS_FLOATS, "priority"), network.n_bus)
    per_branch = ("kind", "from_bus", "to_bus", "rating", "closed", "open_end")
    expected |= dict.fromkeys((*BRANCH_FLOATS, *BRANCH_DEFAULTS, *per_branch), network.n_branch)
    expected |= {"v_substation": len(network.substation)}
    expected |= dict.fromkeys(("gen_bus", *GEN_LIMITS, "gen_cost", "gen_is_grid"), network.n_gen)
    for name, length in expected.items():
        if len(getattr(network, name)) != length:
            raise NetworkError(
                f"{network.name}: {name} has {len(getattr(network, name))} entries, expected "
                f"{length}"
            )
    if network.gen_cost.shape != (network.n_gen, 3):
        raise NetworkError(
            f"{network.name}: gen_cost has shape {network.gen_cost.shape}, expected "
            f"({network.n_gen}, 3); give c2, c1 and c0 of every generator"
        )


def check_names(network: NetworkFields) -> None:
    """Raise `NetworkError` when two buses, branches or generators have the same name."""
    for label, names in (
        ("bus", network.bus_name),
        ("branch", network.branch_name),
        ("generator", network.gen_name),
    ):
        seen: set[str] = set()
        for name in names:
            if name in seen:
                raise NetworkError(
                    f"{network.name}: {label} {name!r} appears twice; give every {label} its own "
                    "name"
                )
            seen.add(name)


def check_values(network: NetworkFields) -> None:
    """Raise `NetworkError` when a number is not finite, has an impossible sign, or names no bus."""
    if not (np.isfinite(network.base_mva) and network.base_mva > 0):
        raise NetworkError(f"{network.name}: base_mva is {network.base_mva}; it must be positive")
    _check_finite(network)
    _check_signs(network)
    bad = np.flatnonzero(~(network.v_min <= network.v_max))
    if bad.size:
        raise NetworkError(
            f"{network.name}: bus {network.bus_name[bad[0]]!r} has v_min {network.v_min[bad[0]]:g} "
            f"above v_max {network.v_max[bad[0]]:g}; swap them"
        )
    for k, kind in enumerate(network.kind):
        if kind not in BRANCH_KINDS:
            raise NetworkError(
                f"{network.name}: branch {network.branch_name[k]!r} is of kind {kind!r}; "
                f"use one of {', '.join(BRANCH_KINDS)}"
            )
    bad = np.flatnonzero(~(np.isfinite(network.priority) & (network.priority > 0)))
    if bad.size:
        raise NetworkError(
            f"{network.name}: priority of bus {network.bus_name[bad[0]]!r} is "
            f"{network.priority[bad[0]]:g}; give a positive number, 1 for an ordinary bus"
        )
    if not np.isin(network.open_end, (0, 1, 2)).all():
        raise NetworkError(f"{network.name}: open_end must be 0 (both ends), 1 (from) or 2 (to)")
    out = np.flatnonzero(network.closed & ~network.in_service)
    if out.size:
        raise NetworkError(
            f"{network.name}: branch {network.branch_name[out[0]]!r} is closed and out of service; "
            "open it (closed False), or set it in service"
        )
    if not (np.isfinite(network.emergency_voltage_factor) and network.emergency_voltage_factor > 0):
        raise NetworkError(
            f"{network.name}: emergency_voltage_factor is {network.emergency_voltage_factor}; give "
            "a positive number, 1 for the band v_min..v_max itself"
        )
    _check_ends(network)


def _check_finite(network: NetworkFields) -> None:
    for names, label, array_names in (
        (network.bus_name, "bus", BUS_FLOATS),
        (network.branch_name, "branch", BRANCH_FLOATS),
    ):
        for array_name in array_names:
            bad = np.flatnonzero(~np.isfinite(getattr(network, array_name)))
            if bad.size:
                value = getattr(network, array_name)[bad[0]]
                raise NetworkError(
                    f"{network.name}: {array_name} of {label} {names[bad[0]]!r} is {value}; give a "
                    "finite number"
                )


def _check_signs(network: NetworkFields) -> None:
    # The star equivalent of a three-winding transformer can have a negative resistance.
    bad = np.flatnonzero((network.r < 0) & (np.array(network.kind) != "trafo"))
    if bad.size:
        raise NetworkError(
            f"{network.name}: r of branch {network.branch_name[bad[0]]!r} is "
            f"{network.r[bad[0]]:g}; it must be zero or more"
        )
    for array_name, low in (("vn_kv", 1e-9), ("tap", 1e-9), ("rating", 0.0), ("s_max", 0.0)):
        values = getattr(network, array_name)
        names, label = (
            (network.bus_name, "bus") if array_name == "vn_kv" else (network.branch_name, "branch")
        )
        bad = np.flatnonzero(~(values >= low))
        if bad.size:
            raise NetworkError(
                f"{network.name}: {array_name} of {label} {names[bad[0]]!r} is {values[bad[0]]:g}; "
                f"it must be {'positive' if low else 'zero or more'}"
            )


def _check_ends(network: NetworkFields) -> None:
    for name in ("from_bus", "to_bus"):
        ends = getattr(network, name)
        bad = np.flatnonzero((ends < 0) | (ends >= network.n_bus))
        if bad.size:
            raise NetworkError(
                f"{network.name}: {name} of branch {network.branch_name[bad[0]]!r} is "
                f"{ends[bad[0]]}; buses are numbered 0 to {network.n_bus - 1}"
            )
    bad = np.flatnonzero(network.from_bus == network.to_bus)
    if bad.size:
        raise NetworkError(
            f"{network.name}: branch {network.branch_name[bad[0]]!r} starts and ends at bus "
            f"{network.bus_name[network.from_bus[bad[0]]]!r}; remove it"
        )


def check_generators(network: NetworkFields) -> None:
    """Raise `NetworkError` when a generator or an angle limit is impossible."""
    bad = np.flatnonzero((network.gen_bus < 0) | (network.gen_bus >= network.n_bus))
    if bad.size:
        raise NetworkError(
            f"{network.name}: gen_bus of generator {network.gen_name[bad[0]]!r} is "
            f"{network.gen_bus[bad[0]]}; buses are numbered 0 to {network.n_bus - 1}"
        )
    for label, names, low_name, high_name in (
        ("generator", network.gen_name, "gen_p_min", "gen_p_max"),
        ("generator", network.gen_name, "gen_q_min", "gen_q_max"),
        ("branch", network.branch_name, "angle_min", "angle_max"),
    ):
        low, high = getattr(network, low_name), getattr(network, high_name)
        bad = np.flatnonzero(~((low <= high) & (low < np.inf) & (high > -np.inf)))
        if bad.size:
            raise NetworkError(
                f"{network.name}: {label} {names[bad[0]]!r} has {low_name} {low[bad[0]]:g} and "
                f"{high_name} {high[bad[0]]:g}; give a lower limit not above the upper one"
            )
    bad = np.flatnonzero(~np.isfinite(network.gen_cost).all(axis=1))
    if bad.size:
        raise NetworkError(
            f"{network.name}: gen_cost of generator {network.gen_name[bad[0]]!r} is "
            f"{network.gen_cost[bad[0]]}; give three finite numbers"
        )
    lines = network.gen_cost_lines
    if lines.shape[1:] != (3,) or not (
        np.isfinite(lines).all() and np.isin(lines[:, 0], np.arange(network.n_gen)).all()
    ):
        raise NetworkError(
            f"{network.name}: gen_cost_lines must have rows of a generator (0 to "
            f"{network.n_gen - 1}), a slope in $/MWh and a constant in $/h, all finite"
        )


def check_groups(network: NetworkFields) -> None:
    """Raise `NetworkError` when a group has no branch, an unknown one, or no positive limit."""
    seen: set[str] = set()
    for group in network.groups:
        problem = ""
        unknown = [name for name in group.branches if name not in network.branch_name]
        if group.name in seen:
            problem = "appears twice; give every group its own name"
        elif not group.branches:
            problem = "has no branches; name those that it limits, or remove it"
        elif unknown:
            problem = f"holds branch {unknown[0]!r}, which is not there; correct the name"
        elif len(set(group.branches)) < len(group.branches):
            problem = "names a branch twice; name each once"
        elif not 0 < group.p_limit_mw < np.inf:
            problem = (
                f"has a limit of {group.p_limit_mw:g} MW; give a positive number, or remove it"
            )
        if problem:
            raise NetworkError(f"{network.name}: group {group.name!r} {problem}")
        seen.add(group.name)


def check_substations(network: NetworkFields) -> None:
    """Raise `NetworkError` when substations, or generators for the grid above, are misplaced."""
    if not len(network.substation):
        raise NetworkError(
            f"{network.name}: no substation; mark the bus that feeds the network (type 'slack')"
        )
    if ((network.substation < 0) | (network.substation >= network.n_bus)).any():
        raise NetworkError(f"{network.name}: substation is outside buses 0 to {network.n_bus - 1}")
    if len(set(network.substation.tolist())) < len(network.substation):
        raise NetworkError(f"{network.name}: a bus is named twice as substation; name it once")
    if not (np.isfinite(network.v_substation).all() and (np.abs(network.v_substation) > 0).all()):
        raise NetworkError(f"{network.name}: v_substation must be finite and not zero")
    astray = np.flatnonzero(network.gen_is_grid & ~np.isin(network.gen_bus, network.substation))
    if astray.size:
        raise NetworkError(
            f"{network.name}: generator {network.gen_name[astray[0]]!r} stands for the grid above "
            f"(gen_is_grid) at bus {network.bus_name[network.gen_bus[astray[0]]]!r}, which is no "
            "substation; move it to one, or set gen_is_grid to False"
        )


def check_reachable(network: NetworkFields) -> None:
    """Raise `NetworkError` when no path of branches, open ones too, leads to some bus."""
    fed = energised_buses(network, network.in_service)
    island = [network.bus_name[i] for i in np.flatnonzero(~fed)]
    if island:
        shown = ", ".join(island[:5]) + (", ..." if len(island) > 5 else "")
        raise NetworkError(
            f"{network.name}: {len(island)} bus(es) form an island that no branch or tie in "
            f"service joins to a substation: {shown}; add the missing branch or remove them"
        )


def warn_of_idle_generators(network: NetworkFields, remedy: str) -> None:
    """Warn when the network has generators, which only an optimal power flow reads.

    Generators that stand for the grid above do not count: the substation supplies what they would.
    remedy: what the caller can do, the end of the sentence.
    """
    idle = int((~network.gen_is_grid).sum())
    if idle:
        warnings.warn(
            f"{network.name}: its {idle} dispatchable generators feed nothing here, only p_gen and "
            f"q_gen do; {remedy}",
            stacklevel=3,
        )
