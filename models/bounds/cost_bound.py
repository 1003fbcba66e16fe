"""A lower bound of the cost of a load transfer after one fault, for any decision the judge accepts.

In the radial setting, by the program of `chain_program.py` on HiGHS; its module says why it bounds.
A fault cuts parts off. Each is dark as a whole, which costs its load, or live as a whole; the bound
is the least of all these cases. Generation, cables and transformers off nominal ratio are bounded
too, but less tightly: what they supply counts at its most, and no limit holds upwards.

There is no bound in meshed settings, in those with a limit of active power or with eased limits,
and with negative impedances.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from time import perf_counter

import networkx as nx
import numpy as np

from feederguard.models.arrays import BoolArray, FloatArray
from feederguard.models.bounds.chain_program import ChainProgram, Limits
from feederguard.models.bounds.chains import BranchData, Lump, Power, fold, no_limit
from feederguard.models.bounds.demand import LeastDemand, least_demand
from feederguard.models.load_transfer import Scenarios, Setting, resolve_setting
from feederguard.models.load_transfer.judge import SAFE_TOLERANCE
from feederguard.models.load_transfer.rules import (
    COST_BASE_MVA,
    CURTAIL_WEIGHT,
    cost_of_squares,
    current_limit_pu,
    shed_per_base,
)
from feederguard.models.load_transfer.setting import voltage_band
from feederguard.models.network import Network
from feederguard.models.network.graph import energised_buses
from feederguard.models.network.parallel import parallels, team_leads
from feederguard.models.network.pi_model import branch_admittances

NO_BOUND, BY_PROGRAM = "no bound", "mixed-integer program over chains"
MOST_CASES = 16  # of parts dark or live
CLOSE = 1 - 5e-4  # costs above this share of the known one need no proof
BESIDE_ANGLE = 0.15  # rad between the directions along which ratings hold
ROUNDING = 1e-6  # of a bound, for the solver's tolerances


@dataclass(frozen=True)
class LowerBound:
    """A bound of the cost, -inf for none, how it was found, and in how many seconds."""

    value: float
    reason: str
    seconds: float


class CostBound:
    """Bounds for the scenarios of one network and setting; raises as `resolve_setting`."""

    def __init__(self, network: Network, setting: str | Setting) -> None:
        self.network, self.setting = network, resolve_setting(network, setting)
        impedances = np.concatenate([network.r, network.x])
        self.applies = bool(
            self.setting.radial
            and self.setting.active_limit_mw is None
            and not self.setting.eased
            and (impedances >= 0).all()
        )
        self._switchable = self.setting.switchable_branches(network)
        self._free = set(parallels(network).branches.tolist())

    def bound(
        self, scenario: Scenarios, known_cost: float = np.inf, time_limit_s: float = 10.0
    ) -> LowerBound:
        """Return a lower bound of the cost of a scenario, a batch of one.

        known_cost: of a safe decision; nothing above it needs a proof.
        """
        begin = perf_counter()
        parts, never = self._parts(scenario)
        if not self.applies or 2 ** len(parts) > MOST_CASES:
            return LowerBound(-np.inf, NO_BOUND, perf_counter() - begin)
        most = min(CLOSE * known_cost, self._most(scenario))
        cases = []
        for choice in itertools.product((False, True), repeat=len(parts)):
            dark = never.copy()
            for part, is_dark in zip(parts, choice, strict=True):
                dark[part] |= is_dark
            power = self._dark_power(scenario, dark)
            if cost_of_squares((power / COST_BASE_MVA) ** 2, 0.0) < most:
                cases.append((power, dark))
        value = most
        for k, (power, dark) in enumerate(sorted(cases, key=lambda case: case[0])):
            left = time_limit_s - (perf_counter() - begin)
            value = min(value, self._case(scenario, dark, power, value, left / (len(cases) - k)))
        value -= ROUNDING * abs(value)
        return LowerBound(float(value), BY_PROGRAM, perf_counter() - begin)

    def _usable(self, scenario: Scenarios) -> BoolArray:
        network = self.network
        failed = scenario.failed_branches(network.n_branch)[0]
        return np.asarray((network.closed | self._switchable) & ~failed)

    def _parts(self, scenario: Scenarios) -> tuple[list[list[int]], BoolArray]:
        """Return the buses of each part that the fault cuts off, and those out of reach."""
        network = self.network
        usable = self._usable(scenario)
        reached = energised_buses(network, usable)
        normal = network.closed & usable
        live = energised_buses(network, normal)
        graph = nx.Graph()
        graph.add_nodes_from(np.flatnonzero(reached & ~live).tolist())
        for b in np.flatnonzero(normal).tolist():
            i, j = int(network.from_bus[b]), int(network.to_bus[b])
            if i in graph and j in graph:
                graph.add_edge(i, j)
        return [sorted(part) for part in nx.connected_components(graph)], ~reached

    def _dark_power(self, scenario: Scenarios, dark: BoolArray) -> float:
        """Return S of the dark buses in MW."""
        price = self.network.priority * scenario.p_load[0] + CURTAIL_WEIGHT * scenario.p_gen[0]
        return self.network.base_mva * float(price[dark].sum())

    def _most(self, scenario: Scenarios) -> float:
        """Return a cost that no sensible decision exceeds."""
        every = self._dark_power(scenario, np.ones(self.network.n_bus, dtype=bool))
        per_base = shed_per_base(self.network, every / self.network.base_mva)
        return float(cost_of_squares(per_base**2, self.network.n_branch**2))

    def _case(
        self, scenario: Scenarios, dark: BoolArray, power: float, cutoff: float, seconds: float
    ) -> float:
        network = self.network
        ends_live = ~dark[network.from_bus] & ~dark[network.to_bus]
        usable = self._usable(scenario) & ends_live
        if (energised_buses(network, usable) != ~dark).any():
            return np.inf
        source = np.abs(network.v_substation) ** 2
        band = voltage_band(network, self.setting)
        high = band.high**2 + SAFE_TOLERANCE
        high[network.substation] = source
        demand = least_demand(network, scenario, usable, high)
        top = float(source.max())
        most_fall = top - band.low**2 + SAFE_TOLERANCE
        roots = dict(zip(network.substation.tolist(), (top - source).tolist(), strict=True))
        others = ~dark & ~np.isin(np.arange(network.n_bus), network.substation)
        widest = float(most_fall[others].max(initial=0.0))
        lumps = {bus: Lump(Power(), (0.0, 0.0), 0.0, {}) for bus in roots}
        for bus in np.flatnonzero(others).tolist():
            lumps[bus] = _lump(demand, bus, widest - float(most_fall[bus]))
        data = self._branch_data(demand, top, high)
        graph = fold(data, np.flatnonzero(usable).tolist(), set(roots), lumps)
        failed = scenario.failed_branches(network.n_branch)[0]
        fed = np.where(others, network.base_mva * scenario.p_load[0], 0.0)
        load = float(np.hypot(*np.maximum(demand.load[others].sum(axis=0), 0.0)))
        below = demand.below[others].sum(axis=0)
        limits = Limits(
            top,
            (float(below[0]), float(below[1])),
            widest,
            roots,
            self._ratios(),
            self._free,
            self._switchable,
            team_leads(network, self._switchable, ~failed) == np.arange(network.n_branch),
            fed,
            network.priority,
            power,
            4 * load / max(4, len(graph.chains)),
            demand.angle,
        )
        least = None if self._free else self._least_operations(usable, others)
        return ChainProgram(graph, data, limits, cutoff, least).program.least(seconds)

    def _least_operations(self, usable: BoolArray, others: BoolArray) -> int:
        return int(others.sum()) - int((usable & self.network.closed).sum())

    def _ratios(self) -> dict[int, tuple[float, float]]:
        tap2 = self.network.tap**2
        return {
            b: (1.0 / float(tap2[b]), float(tap2[b]))
            for b in np.flatnonzero(self.network.tap != 1).tolist()
        }

    def _branch_data(self, demand: LeastDemand, top: float, high: FloatArray) -> BranchData:
        network, base = self.network, self.network.base_mva
        within = np.minimum(1.0, network.tap**2)
        shunt = np.abs(branch_admittances(network).closed).max(axis=1) * np.sqrt(high.max())
        current = current_limit_pu(network, self.setting) * np.sqrt(1 + SAFE_TOLERANCE) + shunt
        turned = np.maximum(network.tap, 1.0) * np.maximum(1 / network.tap, 1.0)
        alone = network.tap != 1
        alone[list(self._free)] = True
        directions = demand.angle + np.array([-1.0, 0.0, 1.0]) * BESIDE_ANGLE
        return BranchData(
            network.from_bus.tolist(),
            network.to_bus.tolist(),
            network.r * within / base,
            network.x * within / base,
            np.abs(network.z) ** 2 * within / base**2,
            no_limit(base * current * turned * np.sqrt(top)),
            ~network.closed,
            alone,
            max(top, float(high.max())) if demand.below.any() else top,
            tuple(np.clip(directions, 0.0, np.pi / 2).tolist()),
        )


def _lump(demand: LeastDemand, bus: int, fall: float) -> Lump:
    p, q = demand.load[bus].tolist()
    p_shed, q_shed = ({bus: value} if value else {} for value in demand.per_shed[bus].tolist())
    below = float(demand.below[bus, 0]), float(demand.below[bus, 1])
    return Lump(Power(p, q, p_shed, q_shed), below, fall, {})
