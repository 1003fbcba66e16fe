"""What a load transfer may do and must respect: three settings of the problem, and a user's own.

paper    meshed operation allowed; ties switchable; 0.90-1.10 pu; one limit on active power in every
         branch away from the substations (Zhou et al., Energy Engineering 121(6), 2024; the limit
         is a calibration, see the feeder's meta.json)
radial   always a spanning tree of feeds (`network/parallel.py`); ties and every line on a loop
         switchable; 0.90-1.05 pu; ratings
meshed   loops allowed; ties switchable; the network's own voltage limits; ratings

Where a feeder has devices, only branches with a device that may be operated are switchable. The
network's own voltage limits count too: `voltage_band`.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace

import numpy as np

from feederguard.models.arrays import BoolArray, FloatArray, IntArray
from feederguard.models.devices import block_devices, isolate, operable_branches
from feederguard.models.network import Network, NetworkError
from feederguard.models.network.graph import energised_buses
from feederguard.models.once_per_object import once_per_object
from feederguard.models.power_flow import solve_power_flow

PUBLISHED = ("paper", "radial")  # the settings of the published tables
SETTING_NAMES = (*PUBLISHED, "meshed")
# Where a limit gives way to the voltage at no load, so much more is allowed above it: open cables
# charge a feeder a little differently after each switching.
NO_LOAD_MARGIN_PU = 0.002


@dataclass(frozen=True)
class Setting:
    """Topology rule, switchable branches and limits of a load transfer."""

    name: str
    radial: bool
    v_min_pu: float  # at every bus, where the network's own limit is not tighter
    v_max_pu: float  # likewise
    # On branches away from a substation; None: thermal ratings instead.
    active_limit_mw: float | None = None
    # Names of branches or devices; None: ties, and when radial every branch on a loop that a device
    # can open. Without device data, lines on a loop count as such.
    switchable: tuple[str, ...] | None = None
    # Names of branches or devices that are not operated.
    blocked: tuple[str, ...] = ()
    # What a rating may be exceeded by in an emergency: 1.2 allows 120 %.
    rating_factor: float = 1.0
    # A load is shed whole or not at all, as an operator can; else by any fraction, as in the
    # papers. Generation is curtailed by any fraction.
    whole_loads: bool = False
    # Limits that are eased, by the names of `limit_places`, each with the violation that is allowed
    # in the units of the judge. `switching/fallback.py` eases what nothing can hold.
    eased: tuple[tuple[str, float], ...] = ()

    def __post_init__(self) -> None:
        if not 0 < self.v_min_pu < self.v_max_pu:
            raise ValueError(
                f"setting {self.name!r}: voltage band {self.v_min_pu}..{self.v_max_pu} pu is empty"
            )
        if self.active_limit_mw is not None and not self.active_limit_mw > 0:
            raise ValueError(
                f"setting {self.name!r}: active_limit_mw is {self.active_limit_mw}; it must be "
                "positive"
            )
        if not 0 < self.rating_factor < np.inf:
            raise ValueError(
                f"setting {self.name!r}: rating_factor is {self.rating_factor}; give a positive "
                "number, 1 for the ratings themselves"
            )

    def switchable_branches(self, network: Network) -> BoolArray:
        """Return which branches may change state, (n_branch,).

        Raises `NetworkError` for an unknown name, and for one that no device may operate.
        """
        may = operable_branches(network, self.switchable, self.blocked)
        if self.switchable is not None:
            out = np.flatnonzero(may & ~network.in_service)
            if out.size:
                raise NetworkError(
                    f"{network.name}: branch {network.branch_name[out[0]]!r} is out of service, so "
                    "nobody can switch it; leave it out of switchable"
                )
            return may
        return may & (loop_switches(network) if self.radial else network.is_tie)

    def limited_branches(self, network: Network) -> BoolArray:
        """Return the branches that carry the limit on active power, (n_branch,)."""
        at_substation = np.isin(network.from_bus, network.substation) | np.isin(
            network.to_bus, network.substation
        )
        return ~at_substation


@dataclass(frozen=True, eq=False)
class NoLoad:
    """A network with nothing drawn or produced and its normal switches, NaN where it is dark."""

    voltage: FloatArray  # (n_bus,) pu
    current: FloatArray  # (n_branch,) the larger one of both ends, pu


@once_per_object
def no_load(network: Network) -> NoLoad:
    """Return what a network is like before anything is drawn."""
    nothing = np.zeros(network.n_bus)
    flow = solve_power_flow(network, nothing, nothing)
    larger = np.maximum(np.abs(flow.current_from), np.abs(flow.current_to))
    return NoLoad(np.where(flow.energised, np.abs(flow.voltage), np.nan), larger)


@dataclass(frozen=True, eq=False)
class VoltageBand:
    """The voltage that each bus may have after a transfer, (n_bus,) each, in pu."""

    low: FloatArray
    high: FloatArray
    given_low: FloatArray  # the limits of network and setting, before any follows the voltage
    given_high: FloatArray  # likewise
    no_load: FloatArray  # with nothing drawn or produced, normal switches; NaN at a dark bus
    # no_load is outside the limits, so that neither switching nor shedding brings it back
    beyond: BoolArray
    note: str  # which buses are beyond, in words; empty where none is


@once_per_object
def voltage_band(network: Network, setting: Setting) -> VoltageBand:
    """Return the limits of voltage that hold at each bus.

    They are the network's own, v_min..v_max, widened about 1 pu by its emergency_voltage_factor,
    and nowhere wider than the setting's. Shedding cannot help a bus that is outside them already
    at no load, as where the source itself is. Such a bus may have its voltage at no load plus
    NO_LOAD_MARGIN_PU; or fall below it by as much as its lower limit lies below 1 pu. A warning
    (UserWarning) names these buses. Substations have no limit.

    Raises `NetworkError` where network and setting leave no voltage for a bus.
    """
    low, high = network.v_min, network.v_max
    if network.emergency_voltage_factor != 1:
        low, high = (1 + network.emergency_voltage_factor * (limit - 1) for limit in (low, high))
    low, high = np.maximum(low, setting.v_min_pu), np.minimum(high, setting.v_max_pu)
    free = ~np.isin(np.arange(network.n_bus), network.substation)
    empty = np.flatnonzero(free & ~(low < high))
    if empty.size:
        i = empty[0]
        raise NetworkError(
            f"{network.name}: bus {network.bus_name[i]!r} has limits {network.v_min[i]:g} to "
            f"{network.v_max[i]:g} pu and the {setting.name} setting {setting.v_min_pu:g} to "
            f"{setting.v_max_pu:g} pu, which leaves no voltage; change one of them"
        )
    rest = no_load(network).voltage
    above, below = free & (rest > high), free & (rest < low)
    note = ""
    if (above | below).any():
        worst = int(np.nanargmax(np.where(above, rest - high, low - rest)))
        note = (
            f"{network.name}: {int((above | below).sum())} bus(es) are outside their limits with "
            f"nothing drawn, bus {network.bus_name[worst]!r} at {rest[worst]:.4f} pu where "
            f"{low[worst]:g} to {high[worst]:g} pu is allowed; no switching or shedding helps, so "
            "their limits follow that voltage; mend the source voltage, the tap or the limits"
        )
        warnings.warn(note, stacklevel=2)
    return VoltageBand(
        np.where(below, rest - (1 - np.minimum(low, 1)), low),
        np.where(above, rest + NO_LOAD_MARGIN_PU, high),
        low,
        high,
        rest,
        above | below,
        note,
    )


def loop_switches(network: Network) -> BoolArray:
    """Return the ties and every branch on a loop that a device can open, (n_branch,).

    Without device data these are the lines, as the papers assume.
    """
    if network.devices is not None:
        return operable_branches(network) & (network.is_tie | network.on_loop)
    return np.asarray(network.is_tie | (network.on_loop & (np.array(network.kind) == "line")))


def resolve_setting(network: Network, setting: str | Setting) -> Setting:
    """Return the setting of this name with the network's limits; a `Setting` is returned unchanged.

    Raises ValueError for an unknown name, and `NetworkError` when the network has no limit for the
    paper setting.
    """
    if isinstance(setting, Setting):
        return setting
    if setting == "radial":
        return Setting("radial", True, 0.90, 1.05)
    if setting == "meshed":
        # One band for all buses: the widest. The limits of each bus lie within it.
        low, high = max(float(network.v_min.min()), 1e-3), float(network.v_max.max())
        return Setting("meshed", False, low, high)
    if setting == "paper":
        if not np.isfinite(network.paper_limit_mw):
            raise NetworkError(
                f"{network.name}: the paper setting needs a uniform active-power limit and this "
                "feeder has none; give it paper_limit_mw, use the setting 'radial' or 'meshed', or "
                "pass a Setting"
            )
        return Setting("paper", False, 0.90, 1.10, network.paper_limit_mw)
    raise ValueError(
        f"unknown setting {setting!r}; use one of {', '.join(SETTING_NAMES)}, or a Setting"
    )


def refuse_whole_loads(setting: Setting, who: str) -> None:
    """Raise ValueError where the setting sheds whole loads and `who` sheds by fractions."""
    if setting.whole_loads:
        raise ValueError(
            f"{who} sheds loads by fractions, and the {setting.name} setting sheds whole loads; "
            "use plan_search, proven_search or misocp, or whole_loads=False"
        )


def restrict(
    network: Network, setting: Setting, switchable: tuple[str, ...], blocked: tuple[str, ...]
) -> tuple[Network, Setting]:
    """Return network and setting when only some devices are operated, and some are blocked.

    switchable, blocked: names of branches or devices; no name: no restriction. A blocked device
    does not isolate either, and a line that it cannot open hangs from its end. Raises
    `NetworkError` for an unknown name, and for one of `switchable` that no device may operate.
    """
    if network.devices is not None and blocked:
        network = block_devices(network, blocked)
    setting = replace(setting, switchable=switchable or setting.switchable, blocked=blocked)
    setting.switchable_branches(network)
    return network, setting


def device_note(network: Network) -> str:
    """Return in words which devices the answers for a network rest on."""
    if network.devices is None:
        return (
            f"{network.name} has no device data: a switch is assumed in every tie and in every "
            "line on a loop"
        )
    n = int(operable_branches(network).sum())
    return f"{len(network.devices)} devices of {network.name}; {n} branches can be operated by them"


def faultable_branches(network: Network, kinds: tuple[str, ...] = ("line",)) -> IntArray:
    """Return the branches whose loss makes a load-transfer problem, in file order.

    These are the normally closed branches of the kinds, but for those whose loss cuts off every
    load whatever is switched. With devices it takes the whole block with it. kinds: of
    `BRANCH_KINDS`; lines alone keep the published samples.
    """
    candidates = np.flatnonzero(network.closed & np.isin(network.kind, kinds)).tolist()
    usable = network.closed | operable_branches(network)
    loaded, bridge = network.p_load > 0, ~network.on_loop
    keep = []
    for b in candidates:
        if network.devices is not None:
            lost = isolate(network, b)
            failed, served = lost.failed, loaded & ~lost.dead_bus
        elif bridge[b]:
            failed, served = np.arange(network.n_branch) == b, loaded
        else:
            keep.append(b)
            continue
        if (energised_buses(network, usable & ~failed) & served).any():
            keep.append(b)
    return np.array(keep, dtype=np.int64)
