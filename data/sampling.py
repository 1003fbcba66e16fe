"""Random load-transfer scenarios: a fault, and one hour of a year's demand and sunshine.

Demand: bus i follows the load series that `bus_series` gives it, and keeps its power factor. One
factor scales all buses, so that the feeder's peak hour of the year carries its nominal total. With
one series for all buses, demand is that series times the nominal demand.

Photovoltaics: local generation of the feeder is its installed power. A feeder without any gets
`pv_share` of its nominal demand as installed power at every load bus.

Sunshine: the profile's own PV series. A profile without any takes those of the bundled year at the
same hour of the year.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from feederguard.data.profiles import Profiles, bus_series, load_profiles
from feederguard.models.arrays import IntArray
from feederguard.models.load_transfer import Scenarios, make_scenarios
from feederguard.models.load_transfer.setting import faultable_branches
from feederguard.models.network import Network

PV_SHARE = 0.3


@dataclass(frozen=True, eq=False)
class SampledScenarios:
    """Scenarios and where they came from."""

    scenarios: Scenarios
    step: IntArray  # (B,) row of the hourly profile


def sample_scenarios(
    network: Network,
    profiles: Profiles,
    count: int,
    seed: int,
    weeks: str = "test",
    pv_share: float = PV_SHARE,
) -> SampledScenarios:
    """Return `count` scenarios; faults and hours are drawn uniformly and independently.

    The same seed gives the same scenarios.

    weeks: "test" or "train" (every fourth week is test). pv_share: installed photovoltaics over
    nominal demand, used where the feeder has no generation of its own.

    Raises ValueError when count is not positive, weeks is unknown, pv_share is negative, or no
    fault makes a problem.
    """
    if count < 1:
        raise ValueError(f"count is {count}; sample at least one scenario")
    if weeks not in ("test", "train"):
        raise ValueError(f"weeks is {weeks!r}; use 'test' or 'train'")
    if not pv_share >= 0:
        raise ValueError(f"pv_share is {pv_share}; it must be zero or more")
    faults = faultable_branches(network)
    if not len(faults):
        raise ValueError(
            f"{network.name}: no line whose loss leaves a load that could be fed; there is nothing "
            "to sample"
        )
    hourly = profiles.resample(60)
    rng = np.random.default_rng(seed)
    steps = rng.choice(hourly.test_steps if weeks == "test" else hourly.train_steps, count)
    fault = rng.choice(faults, count)
    load_series, pv_series = bus_series(hourly, network)
    by_bus = np.where(load_series >= 0, hourly.load[:, load_series], 0.0)
    peak = float((by_bus @ network.p_load).max())
    if not peak > 0:
        raise ValueError(
            f"{network.name}: demand is zero in every hour of {profiles.name}; give loads or "
            "another profile"
        )
    load = by_bus[steps] * network.p_load.sum() / peak
    # A negative load is a net producer: it follows its series as generation. Its reactive power
    # stays as it is given.
    demand, produced = np.maximum(network.p_load, 0.0), np.maximum(-network.p_load, 0.0)
    installed = network.p_gen if network.p_gen.any() else pv_share * demand
    sun = _sunshine(hourly, steps, installed > 0)
    return SampledScenarios(
        make_scenarios(
            network, fault, load * demand, load * network.q_load, sun * installed + load * produced
        ),
        steps,
    )


def _sunshine(hourly: Profiles, steps: IntArray, has_pv: np.ndarray) -> np.ndarray:
    """Return PV output per unit of installed power, (B, n_bus).

    PV bus number k follows series k mod n_pv.
    """
    source, rows = hourly, steps
    if not hourly.n_pv:
        source = load_profiles().resample(60)
        rows = _same_hour_of_year(hourly, source, steps)
    series = np.where(has_pv, (np.cumsum(has_pv) - 1) % source.n_pv, 0)
    return np.asarray(np.where(has_pv, source.pv[rows][:, series], 0.0))


def _same_hour_of_year(hourly: Profiles, source: Profiles, steps: IntArray) -> IntArray:
    def hour_of_year(time: np.ndarray) -> np.ndarray:
        return np.asarray(
            (time - time.astype("datetime64[Y]")).astype("timedelta64[h]").astype(np.int64)
        )

    wanted = hour_of_year(hourly.time[steps])
    known = hour_of_year(source.time)
    order = np.argsort(known)
    return np.asarray(order[np.searchsorted(known[order], np.minimum(wanted, known.max()))])
