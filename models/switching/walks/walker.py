"""Estimates and random walks of one scenario of a radial setting, as the search asks for them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from feederguard.models.arrays import BoolArray, ComplexArray, FloatArray, plain
from feederguard.models.load_transfer import Scenarios, Setting
from feederguard.models.load_transfer.rules import (
    CURTAIL_WEIGHT,
    cost_of_squares,
    current_limit_pu,
    shed_per_base,
)
from feederguard.models.load_transfer.setting import voltage_band
from feederguard.models.network import Network
from feederguard.models.network.graph import energised_buses
from feederguard.models.network.parallel import has_loop, team_leads
from feederguard.models.once_per_object import once_per_object
from feederguard.models.power_flow.layout import prepare
from feederguard.models.switching.plans import SwitchPlans
from feederguard.models.switching.walks.annealing import Met, Walks, estimate_all, walk_all
from feederguard.models.switching.walks.rough_cost import Draw, Rough

KEPT = 16  # states that each walk hands back
# A limit on active power stands for a current at this voltage.
TYPICAL_VOLTAGE = 0.95
TYPICAL_Q = 0.5  # reactive over active current of an overloaded branch


class Estimated(NamedTuple):
    """States without repeats, the cheapest first, and their estimated costs."""

    closed: BoolArray  # (n_state, n_branch)
    cost: FloatArray  # (n_state,)


class Walker:
    """Estimates and walks over the radial states after one fault, a batch of one scenario.

    Inside, a team of parallel branches is its lead.
    """

    def __init__(self, plans: SwitchPlans, scenario: Scenarios) -> None:
        network, fault = plans.network, scenario.lost(0)
        self.plans, self._fault = plans, fault
        self._lead = plans.leads(fault)
        self._is_lead = self._lead == np.arange(network.n_branch)
        failed = scenario.failed_branches(network.n_branch)[0]
        self._rough = rough_of(network, plans.setting)
        self._draw = draw_of(network, scenario)
        self._idle = plans.dark(fault) & self._is_lead
        self._free = plans.switchable & ~failed & self._is_lead
        self._opens = ~network.closed | plans.opens_alone
        self.n_estimate = 0

    @property
    def n_free(self) -> int:
        """How many branches, or teams of them, may be operated."""
        return int(self._free.sum())

    def plain(self) -> BoolArray:
        """Return the plain plans of the fault, (n_plan, n_branch)."""
        return self.plans.plain(self._fault)

    def estimates(self, states: BoolArray) -> FloatArray:
        """Return the estimated costs of radial states (n_state, n_branch)."""
        cost = np.zeros(len(states))
        bare = plain(states & self._is_lead, np.bool_)
        feeder = prepare(self.plans.network)
        estimate_all(feeder, self._rough, self._draw, bare, self._idle, cost)
        self.n_estimate += len(states)
        return cost

    def walk(self, starts: BoolArray, hot: FloatArray, n_step: int, seed: int) -> Estimated:
        """Return the best states met by walks of n_step steps from states (n_walk, n_branch).

        hot: (n_walk,). seed: of the first walk; the others follow.
        """
        n_walk, n_branch = starts.shape
        walks = Walks(
            plain(starts & self._is_lead, np.bool_),
            plain(hot, float),
            np.arange(seed, seed + n_walk),
            *self._draw,
            self._idle,
            self._free,
            self._opens,
        )
        met = Met(
            np.zeros((n_walk, KEPT, n_branch), dtype=bool),
            np.full((n_walk, KEPT), np.inf),
            np.zeros((n_walk, KEPT), np.int64),
            np.zeros(n_walk, np.int64),
        )
        walk_all(prepare(self.plans.network), self._rough, walks, n_step, met)
        self.n_estimate += int(met.n_estimate.sum())
        return self._put_together(met)

    def _put_together(self, met: Met) -> Estimated:
        network = self.plans.network
        cost = met.cost.ravel()
        order = np.argsort(cost, kind="stable")
        order = order[np.isfinite(cost[order])]
        _, first = np.unique(met.key.ravel()[order], return_index=True)
        order = order[np.sort(first)]
        closed, cost = met.closed.reshape(-1, network.n_branch)[order], cost[order]
        # What stands beside a feed and is no lead follows its lead.
        closed = closed[:, self._lead]
        keep = ~has_loop(network, closed, energised_buses(network, closed))
        return Estimated(closed[keep], cost[keep])


def draw_of(network: Network, scenario: Scenarios) -> Draw:
    """Return demand and generation of a batch of one scenario."""
    p, q, g = (plain(a[0], float) for a in (scenario.p_load, scenario.q_load, scenario.p_gen))
    # A load of a bad power factor frees more current for its price.
    worth = (1.0 + TYPICAL_Q * q / np.where(p > 0, p, np.inf)) / network.priority
    return Draw(p, q, g, np.argsort(-worth, kind="stable").astype(np.int64))


@once_per_object
def rough_of(network: Network, setting: Setting) -> Rough:
    """Return what estimates need of a network and setting."""
    feeder = prepare(network)
    z, limit = _teams(network, setting.switchable_branches(network), _limits(network, setting))
    return Rough(
        z,
        np.abs(feeder.ratio),
        limit,
        plain(voltage_band(network, setting).low, float),
        feeder.y_bus.copy(),
        plain(network.priority, float),
        CURTAIL_WEIGHT,
        cost_of_squares(float(shed_per_base(network, 1.0)) ** 2, 0.0),
        cost_of_squares(0.0, 1.0),
    )


def _limits(network: Network, setting: Setting) -> FloatArray:
    """Return the current that each branch may carry, (n_branch,) pu."""
    if setting.active_limit_mw is None:
        return plain(current_limit_pu(network, setting), float)
    limit = setting.active_limit_mw / network.base_mva / TYPICAL_VOLTAGE
    return np.where(setting.limited_branches(network), limit, np.inf)


def _teams(
    network: Network, switchable: BoolArray, limit: FloatArray
) -> tuple[ComplexArray, FloatArray]:
    """Return impedance and limit of each team at the place of its lead, (n_branch,) each."""
    lead = team_leads(network, switchable, np.ones(network.n_branch, dtype=bool))
    z, limit = network.z.copy(), limit.copy()
    for b in np.unique(lead[lead != np.arange(network.n_branch)]).tolist():
        members = lead == b
        if (network.z[members] == 0).any():
            limit[b] = limit[members].sum()
            continue
        z[b] = 1 / (1 / network.z[members]).sum()
        # The member that is full first tells how much the team carries.
        limit[b] = (limit[members] * np.abs(network.z[members]) / np.abs(z[b])).min()
    return z, limit
