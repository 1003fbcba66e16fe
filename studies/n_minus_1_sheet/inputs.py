"""Inputs of an N-1 sheet beside the feeder: the demand of an hour, and the customers by bus.

Demand follows the profile as in the comparison (`feederguard.data.sampling`). Each bus has its load
series, scaled so that the peak hour has the nominal total. Generation of the feeder follows the
profile's PV series; it is zero if the profile has none.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from feederguard.data.profiles import Profiles, bus_series
from feederguard.models.arrays import FloatArray, IntArray
from feederguard.models.network import Network

NOMINAL, PEAK = "nominal", "peak"


def find_hour(profiles: Profiles, network: Network, hour: str) -> int:
    """Return the row of hourly profiles for an hour: peak, a row, or a time within an hour.

    Raises ValueError that names the possible rows or times.
    """
    if hour == PEAK:
        return int((_by_bus(profiles, network) @ network.p_load).argmax())
    if hour.isdigit():
        if int(hour) >= profiles.n_step:
            raise ValueError(
                f"hour {hour} is outside {profiles.name}; its rows are 0 to {profiles.n_step - 1}"
            )
        return int(hour)
    first, last = (np.datetime_as_string(profiles.time[k], unit="m") for k in (0, -1))
    try:
        time = np.datetime64(hour, "h").astype("datetime64[m]")
    except ValueError:
        raise ValueError(
            f"hour {hour!r} is no hour; give {NOMINAL}, {PEAK}, a row (0 to "
            f"{profiles.n_step - 1}) or a time such as {first}"
        ) from None
    found = np.flatnonzero(profiles.time == time)
    if not len(found):
        raise ValueError(
            f"hour {hour} is outside {profiles.name}, which runs from {first} to {last}; give one "
            "of its hours"
        )
    return int(found[0])


def demand_at_hour(profiles: Profiles, network: Network, step: int) -> dict[str, FloatArray]:
    """Return demand and generation of one hour, (n_bus,) each, as arguments of `make_scenarios`.

    Raises ValueError if the profile leaves the feeder without any demand.
    """
    by_bus, sun_series = _by_bus(profiles, network), bus_series(profiles, network)[1]
    peak = float((by_bus @ network.p_load).max())
    if not peak > 0:
        raise ValueError(
            f"{network.name}: demand is zero in every hour of {profiles.name}; give loads or "
            "another profile"
        )
    load = by_bus[step] * network.p_load.sum() / peak
    sun = (
        np.where(sun_series >= 0, profiles.pv[step][sun_series], 0.0)
        if profiles.n_pv
        else np.zeros(network.n_bus)
    )
    # A negative load is generation that follows the load's series.
    demand, produced = np.maximum(network.p_load, 0.0), np.maximum(-network.p_load, 0.0)
    return {
        "p_load": load * demand,
        "q_load": load * network.q_load,
        "p_gen": sun * network.p_gen + load * produced,
    }


def read_customers(path: Path, network: Network) -> tuple[IntArray, int]:
    """Return the customers at each bus, (n_bus,), and the number of buses with load but no line.

    Raises ValueError, with file and line, for a missing column, an unknown or repeated bus, or a
    number that is no count.
    """
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = csv.DictReader(file)
        missing = [name for name in ("bus", "customers") if name not in (rows.fieldnames or [])]
        if missing:
            raise ValueError(
                f"{path}: column {missing[0]} is missing; its first line must name bus,customers"
            )
        customers = np.zeros(network.n_bus, dtype=np.int64)
        seen = np.zeros(network.n_bus, dtype=bool)
        position = {name: i for i, name in enumerate(network.bus_name)}
        for row in rows:
            bus, number = (row["bus"] or "").strip(), (row["customers"] or "").strip()
            place = f"{path}, line {rows.line_num}"
            if bus not in position:
                shown = ", ".join(network.bus_name[:5])
                raise ValueError(
                    f"{place}: bus {bus!r} is not in {network.name} ({shown}, ...); correct or "
                    "delete the line"
                )
            if seen[position[bus]]:
                raise ValueError(f"{place}: bus {bus!r} has a line already; give each bus one")
            if not number.isdigit():
                raise ValueError(
                    f"{place}: customers of bus {bus!r} is {number!r}; give a whole number, zero "
                    "or more"
                )
            customers[position[bus]], seen[position[bus]] = int(number), True
    return customers, int(((network.p_load > 0) & ~seen).sum())


def _by_bus(profiles: Profiles, network: Network) -> FloatArray:
    """Return the load of each bus per unit of its nominal demand, (n_step, n_bus)."""
    series = bus_series(profiles, network)[0]
    return np.where(series >= 0, profiles.load[:, series], 0.0)
