"""Feeders for voltage regulation: loads, photovoltaics, batteries, and the days of a year.

A year on a feeder: bus i draws its nominal power times its own series of the profiles
(`bus_series`), at its power factor. All are scaled alike, so that in the year's highest step the
feeder draws its nominal total. Photovoltaics follow series of their own, at unity power factor.
Where the profiles have none, they are those of the bundled year at the same time of year. Only
whole calendar days are kept; test days are those of every fourth week
(`feederguard.data.profiles`).

The bundled cases have bands of 0.95..1.05 pu and are sized by one rule. Without control, some bus
leaves its band in about 11 % of the year's steps, both below and above. Batteries without foresight
can hold the band: on every day the idle policy under the safety layer needs no slack.
`studies/evidence/size_voltage_case.py` prints both.

    feeder      peak load        photovoltaics and batteries, each        at
    cigre_lv18  250 kW, R1..R18  110 kWp at R11..R18 only; 40 kW, 400 kWh R1..R18
    ieee33      80 % of nominal  1.2 MWp; 0.5 MW, 5 MWh                   9 12 15 18 25 28 31 33
    bus69       80 % of nominal  1.1 MWp; 0.5 MW, 7 MWh                   12 17 22 27 54 58 61 65
    caracas141  nominal          7 MWp; 2 MW, 30 MWh                      36 52 71 80 84 87

On `cigre_lv18` the 18 buses share the load equally at a power factor of 0.95; R11..R18 are the
buses off the trunk. A battery starts each day half full and must end it at least half full. Ratings
of branches are no limit here; the script prints the largest loading.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from feederguard.data.networks import load_network
from feederguard.data.profiles import ProfileError, Profiles, bus_series, load_profiles
from feederguard.data.profiles.clock import MINUTES_A_DAY
from feederguard.models.arrays import BoolArray, FloatArray, IntArray
from feederguard.models.battery import Batteries
from feederguard.models.battery.batteries import check_batteries
from feederguard.models.network import Network
from feederguard.models.voltage_regulation import VoltageDays

WEEKS = ("train", "test", "all")


@dataclass(frozen=True, eq=False)
class VoltageCase:
    """A feeder whose batteries hold its voltage, and the days on which they do."""

    network: Network
    batteries: Batteries
    days: VoltageDays


@dataclass(frozen=True)
class _Sizing:
    """What is placed on a bundled feeder."""

    battery_bus: tuple[str, ...]
    p_max_mw: float
    energy_mwh: float
    pv_bus: tuple[str, ...]
    pv_mw: float
    # with load_mw: equal shares of it at a power factor of 0.95; else the feeder's own loads
    load_bus: tuple[str, ...] = ()
    load_mw: float = 0.0
    load_scale: float = 1.0  # of the feeder's own loads


_CIGRE = tuple(f"R{k}" for k in range(1, 19))
_IEEE33 = ("9", "12", "15", "18", "25", "28", "31", "33")
_BUS69 = ("12", "17", "22", "27", "54", "58", "61", "65")
_CARACAS = ("36", "52", "71", "80", "84", "87")
_SIZINGS = {
    "cigre_lv18": _Sizing(_CIGRE, 0.040, 0.400, _CIGRE[10:], 0.110, _CIGRE, 0.250),
    "ieee33": _Sizing(_IEEE33, 0.5, 5.0, _IEEE33, 1.2, load_scale=0.8),
    "bus69": _Sizing(_BUS69, 0.5, 7.0, _BUS69, 1.1, load_scale=0.8),
    "caracas141": _Sizing(_CARACAS, 2.0, 30.0, _CARACAS, 7.0),
}


def list_voltage_cases() -> list[str]:
    """Return the names of the feeders that have a bundled case."""
    return list(_SIZINGS)


def load_voltage_case(
    feeder: str = "cigre_lv18", weeks: str = "train", profiles: Profiles | None = None
) -> VoltageCase:
    """Return a bundled case; weeks: "train", "test" or "all"; profiles default to the bundled year.

    Raises ValueError for a feeder that has no bundled case, and as `voltage_case`.
    """
    if feeder not in _SIZINGS:
        raise ValueError(
            f"no voltage case of feeder {feeder!r}; bundled are {', '.join(_SIZINGS)}, and "
            "voltage_case(network, batteries, "
            "profiles) makes one of your own"
        )
    sizing = _SIZINGS[feeder]
    network = _sized(load_network(feeder), sizing)
    batteries = Batteries.at(network, sizing.battery_bus, sizing.p_max_mw, sizing.energy_mwh)
    return voltage_case(network, batteries, profiles, weeks)


def voltage_case(
    network: Network, batteries: Batteries, profiles: Profiles | None = None, weeks: str = "all"
) -> VoltageCase:
    """Return the days of the weeks asked for, on a feeder with loads, generation and batteries.

    The module docstring says how the case is made.

    Raises ValueError for unknown weeks, a battery at no bus, and demand that is zero all year;
    `ProfileError` when the profiles hold no whole day or none of the weeks asked for.
    """
    if weeks not in WEEKS:
        raise ValueError(f"weeks is {weeks!r}; use one of {', '.join(WEEKS)}")
    profiles = load_profiles() if profiles is None else profiles
    step_h = profiles.step_minutes / 60
    check_batteries(network, batteries, profiles.steps_per_day, step_h)
    steps = _whole_days(profiles, weeks)
    load, sun = _per_unit(network, profiles, steps.ravel())
    shape = (*steps.shape, network.n_bus)
    return VoltageCase(
        network,
        batteries,
        VoltageDays(
            p_load=(load * network.p_load).reshape(shape),
            q_load=(load * network.q_load).reshape(shape),
            p_gen=(sun * network.p_gen).reshape(shape),
            step_h=step_h,
            date=profiles.time[steps[:, 0]].astype("datetime64[D]"),
        ),
    )


def _sized(network: Network, sizing: _Sizing) -> Network:
    """Return the feeder with the loads, photovoltaics and band of its case."""
    changes = {"v_min": np.full(network.n_bus, 0.95), "v_max": np.full(network.n_bus, 1.05)}
    changes |= {
        "p_load": sizing.load_scale * network.p_load,
        "q_load": sizing.load_scale * network.q_load,
    }
    if sizing.load_bus:
        share = _at(network, sizing.load_bus, sizing.load_mw / len(sizing.load_bus))
        changes |= {"p_load": share, "q_load": share * np.tan(np.arccos(0.95))}
    return network.with_changes(p_gen=_at(network, sizing.pv_bus, sizing.pv_mw), **changes)


def _at(network: Network, buses: Sequence[str], power_mw: float) -> FloatArray:
    power = np.zeros(network.n_bus)
    power[[network.bus_index(bus) for bus in buses]] = power_mw / network.base_mva
    return power


def _whole_days(profiles: Profiles, weeks: str) -> IntArray:
    """Return the steps of whole calendar days, (B, T)."""
    day = profiles.time.astype("datetime64[D]")
    number = (day - day[0]).astype(np.int64)
    first, count = np.unique(number, return_index=True, return_counts=True)[1:]
    first = first[count == profiles.steps_per_day]
    if not len(first):
        raise ProfileError(
            f"{profiles.name}: {profiles.n_step} steps of {profiles.step_minutes} minutes hold no "
            "whole day of "
            f"{profiles.steps_per_day}; give at least one from midnight to midnight"
        )
    if weeks != "all":
        first = first[
            np.isin(first, profiles.test_steps if weeks == "test" else profiles.train_steps)
        ]
        if not len(first):
            raise ProfileError(
                f"{profiles.name}: no whole day lies in the {weeks} weeks; give a longer series"
            )
    return np.asarray(first[:, None] + np.arange(profiles.steps_per_day))


def _per_unit(
    network: Network, profiles: Profiles, steps: IntArray
) -> tuple[FloatArray, FloatArray]:
    """Return demand over nominal and generation over installed power, (n, n_bus) each."""
    load_series, _ = bus_series(profiles, network)
    takes = load_series >= 0
    by_bus = np.where(takes, profiles.load[:, load_series], 0.0)
    peak = float((by_bus @ network.p_load).max())
    if not peak > 0:
        raise ValueError(
            f"{network.name}: demand is zero in every step of {profiles.name}; give loads or "
            "another profile"
        )
    return by_bus[steps] * (network.p_load.sum() / peak), _sunshine(
        profiles, steps, network.p_gen > 0
    )


def _sunshine(profiles: Profiles, steps: IntArray, has_pv: BoolArray) -> FloatArray:
    """Return generation per unit of installed power, (n, n_bus).

    PV bus number k follows series k mod n_pv.
    """
    source, rows = profiles, steps
    if not profiles.n_pv:
        source = load_profiles().resample(profiles.step_minutes)
        rows = _same_time_of_year(profiles, source, steps)
    series = np.where(has_pv, (np.cumsum(has_pv) - 1) % source.n_pv, 0)
    return np.where(has_pv, source.pv[rows][:, series], 0.0)


def _same_time_of_year(profiles: Profiles, source: Profiles, steps: IntArray) -> IntArray:
    """Return the steps of the source that lie as long after New Year as those of the profiles."""
    minute = (profiles.time[steps] - profiles.time[steps].astype("datetime64[Y]")).astype(np.int64)
    known = (source.time - source.time.astype("datetime64[Y]")).astype(np.int64)
    # A year may end a day later than the source: that day takes the source's last one.
    day = np.minimum(minute // MINUTES_A_DAY, known[-1] // MINUTES_A_DAY)
    return np.asarray(np.searchsorted(known, day * MINUTES_A_DAY + minute % MINUTES_A_DAY))
