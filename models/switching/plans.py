"""Switch states worth trying after a fault: plain plans, and what one exchange makes of a plan.

Radial settings: a plain plan keeps every line that is left and closes one tie for each detached
part; the last one closes nothing. Where several parts are detached, others close some of these
ties and leave the rest dark. An exchange closes an open branch and opens one on the loop that this
makes (branch exchange: Civanlar et al., IEEE Trans. Power Delivery 3(3), 1988), or joins a dark
part to a live one. Where a part may draw power though all its load is shed, an exchange may also
only open: nothing must be fed (`load_transfer/shedding.py`).

Meshed settings: with at most MOST_STATES states of the ties, every state is a plain plan. With
more, a plain plan closes no tie or one. An exchange changes one tie, or closes one and opens
another. Some of these plans leave dark what a tie could feed: that may be the cheapest way, or the
only safe one.

A failed branch stays open in every plan. A fault is given as the number of its branch, or as a
tuple of several.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from feederguard.models.arrays import BoolArray, IntArray
from feederguard.models.load_transfer import Scenarios, Setting, resolve_setting
from feederguard.models.load_transfer.scenario import Lost
from feederguard.models.load_transfer.shedding import draws_nothing_empty
from feederguard.models.network import Network
from feederguard.models.network.graph import energised_buses, zones
from feederguard.models.network.parallel import has_loop, parallels, parallels_among, team_leads
from feederguard.models.power_flow.forest import find_forest, forest_room
from feederguard.models.power_flow.layout import prepare
from feederguard.models.switching.forests import spanning_forests
from feederguard.models.switching.radial_states import radial_states

STAMP = "390408bdfd9ee0ce6b50dac6a531bde381abe428404ff30812cb584766ffe1be"


MOST_TIES_CHOSEN = 5  # of so many ties that feed everything, every choice is a plain plan
MOST_STATES = 512  # meshed settings with no more states than this have all of them as plain plans


class SwitchPlans:
    """Plans of one network and setting; answers are remembered per fault and switch state."""

    def __init__(self, network: Network, setting: str | Setting) -> None:
        self.network = network
        self.setting = resolve_setting(network, setting)
        self.switchable = self.setting.switchable_branches(network)
        self._leads: dict[Lost, IntArray] = {}
        demand = np.maximum(network.p_load, 0.0)[None], network.q_load[None], network.p_gen[None]
        nominal = Scenarios(np.zeros(1, dtype=np.int64), *demand)
        self.opens_alone = not draws_nothing_empty(network, nominal, self.setting)
        self._plain: dict[Lost, BoolArray] = {}
        self._neighbours: dict[tuple[Lost, bytes], BoolArray] = {}

    def dark(self, fault: Lost) -> BoolArray:
        """Return the normal state less what failed, (n_branch,); all behind it is dark."""
        return _less(self.network.closed, fault)

    def leads(self, fault: Lost) -> IntArray:
        """Return the branch that leads the team of each after the fault, (n_branch,)."""
        if fault not in self._leads:
            intact = _less(np.ones(self.network.n_branch, dtype=bool), fault)
            self._leads[fault] = team_leads(self.network, self.switchable, intact)
        return self._leads[fault]

    def operations(self, fault: Lost, closed: BoolArray) -> IntArray:
        """Return how many operations lead to each state (n_plan, n_branch) after the fault."""
        is_lead = self.leads(fault) == np.arange(self.network.n_branch)
        return np.asarray((closed != self.dark(fault))[:, is_lead].sum(axis=1))

    def beside(self, fault: Lost) -> list[int]:
        """Return what may stand closed beside a feed and be switched alone: leads of teams."""
        usable = _less(self.network.closed | self.switchable, fault)
        usable &= self.leads(fault) == np.arange(self.network.n_branch)
        branches = parallels_among(self.network, usable).branches
        return [b for b in branches.tolist() if self.switchable[b]]

    def plain(self, fault: Lost) -> BoolArray:
        """Return the plain plans of a fault, (n_plan, n_branch), at least one."""
        if fault not in self._plain:
            self._plain[fault] = (
                self._plain_radial(fault) if self.setting.radial else self._plain_meshed(fault)
            )
        return self._plain[fault]

    def neighbours(self, fault: Lost, closed: BoolArray) -> BoolArray:
        """Return every state one exchange away from `closed` (n_branch,), as (n_plan, n_branch)."""
        key = (fault, closed.tobytes())
        if key not in self._neighbours:
            usable = _less(self.switchable, fault)
            self._neighbours[key] = (
                self._exchanges(closed, usable)
                if self.setting.radial
                else self._toggles(fault, closed)
            )
        return self._neighbours[key]

    def every(self, fault: Lost, most: int) -> BoolArray | None:
        """Return every state to choose from after a fault, (n_plan, n_branch); None beyond `most`.

        Meshed settings: every tie state. Radial settings: every forest that feeds what can be fed,
        and every one that leaves dark what the fault itself cut off, both found chain by chain
        (`radial_states.py`), and what may stand beside their feeds. No other can be the cheapest
        where `draws_nothing_empty`. None too where several parts are detached, since each of them
        may be left dark.
        """
        if not self.setting.radial:
            return (
                self.plain(fault)
                if len(self.plain(fault)) == self.n_states(fault) <= most
                else None
            )
        if self.n_detached(fault) > 1:
            return None
        network, dark = self.network, self.dark(fault)
        usable = _less(network.closed | self.switchable, fault)
        feeding = next(row for row in self.plain(fault) if self.feeds_all(fault, row))
        states = radial_states(network, feeding, usable, self.switchable, most)
        live = energised_buses(network, dark)
        if states is None or self.feeds_all(fault, dark):
            return states
        inside = live[network.from_bus] & live[network.to_bus]
        rest = radial_states(network, dark, usable & inside, self.switchable, most - len(states))
        if rest is None:
            return None
        # The dark part keeps its normal state.
        rest[:, ~inside] = dark[~inside]
        return np.concatenate([states, rest])

    def feeds_all(self, fault: Lost, closed: BoolArray) -> bool:
        """Return whether a state (n_branch,) feeds every bus that some path could reach."""
        usable = _less(self.network.closed | self.switchable, fault)
        reached, live = energised_buses(self.network, np.stack([usable, closed]))
        return bool((reached == live).all())

    def n_detached(self, fault: Lost) -> int:
        """Return how many parts are dark until a switch is operated, of those that can be fed."""
        usable, dark = _less(self.network.closed | self.switchable, fault), self.dark(fault)
        reached, live = energised_buses(self.network, np.stack([usable, dark]))
        return len(set(zones(self.network, dark)[reached & ~live].tolist()))

    def _exchanges(self, closed: BoolArray, usable: BoolArray) -> BoolArray:
        """Return the exchanges of a radial setting, joins and openings included."""
        network = self.network
        live = energised_buses(network, closed)
        at_edge = live[network.from_bus] != live[network.to_bus]
        joins = np.flatnonzero(usable & ~closed & at_edge)
        opens = usable & closed & live[network.from_bus] & live[network.to_bus]
        alone = np.concatenate([joins, np.flatnonzero(opens & self.opens_alone)])
        lead = team_leads(network, usable, usable)
        alone = alone[lead[alone] == alone]
        ones = np.tile(closed, (len(alone), 1))
        ones[np.arange(len(alone)), alone] ^= True
        return np.concatenate([forest_exchanges(network, closed, usable), ones[:, lead]])

    def n_states(self, fault: Lost) -> float:
        """Return how many states there are after a fault.

        2^ties in a meshed setting; inf in a radial one, where they are not counted.
        """
        if self.setting.radial:
            return float("inf")
        return 2.0 ** len(self._ties(fault))

    def _plain_radial(self, fault: Lost) -> BoolArray:
        network = self.network
        usable = _less(network.closed | self.switchable, fault)
        # Of the teams each member in turn; equal forests fall together.
        open_ties = np.flatnonzero(usable & ~network.closed)
        keys = np.where(network.closed, 2.0, 0.0)[None].repeat(max(len(open_ties), 1), axis=0)
        keys[np.arange(len(open_ties)), open_ties] = 1.0
        forests = spanning_forests(
            network, keys, np.tile(usable, (len(keys), 1)), network.closed & ~self.switchable
        )
        feeding = np.unique(forests, axis=0)
        dark = self.dark(fault)
        if (feeding == dark).all(axis=1).any():
            return feeding
        partly = feeding[:0]
        if self.n_detached(fault) > 1:
            partly = _with_some_ties(network, feeding, dark, self.leads(fault))
        return np.concatenate([feeding, partly, dark[None]])

    def _plain_meshed(self, fault: Lost) -> BoolArray:
        ties = self._ties(fault)
        if 2 ** len(ties) <= MOST_STATES:
            states = (np.arange(2 ** len(ties))[:, None] >> np.arange(len(ties))) & 1
        else:
            states = np.concatenate(
                [np.zeros((1, len(ties)), np.int64), np.eye(len(ties), dtype=np.int64)]
            )
        # Few operations first: those settle cheap scenarios before the others are looked at.
        states = states[np.argsort(states.sum(axis=1), kind="stable")]
        plans = np.tile(self.dark(fault), (len(states), 1))
        plans[:, ties] = states.astype(bool)
        return plans[:, self.leads(fault)]

    def _ties(self, fault: Lost) -> IntArray:
        """Return the leads of the teams that may be switched in a meshed setting."""
        lead = self.leads(fault)
        return np.flatnonzero(_less(self.switchable, fault) & (lead == np.arange(len(lead))))

    def _toggles(self, fault: Lost, closed: BoolArray) -> BoolArray:
        ties = self._ties(fault)
        one = np.tile(closed, (len(ties), 1))
        one[np.arange(len(ties)), ties] ^= True
        is_open, is_closed = ties[~closed[ties]], ties[closed[ties]]
        pairs = np.array([(a, b) for a in is_open for b in is_closed], dtype=np.int64).reshape(
            -1, 2
        )
        two = np.tile(closed, (len(pairs), 1))
        two[np.arange(len(pairs)), pairs[:, 0]] = True
        two[np.arange(len(pairs)), pairs[:, 1]] = False
        return np.concatenate([one, two])[:, self.leads(fault)]


def _less(branches: BoolArray, fault: Lost) -> BoolArray:
    """Return a mask (n_branch,) without what failed."""
    left = branches.copy()
    left[np.array(fault)] = False
    return left


def _with_some_ties(
    network: Network, feeding: BoolArray, dark: BoolArray, lead: IntArray
) -> BoolArray:
    """Return the states that close some of the ties that feed everything, (n_plan, n_branch).

    feeding: (n_forest, n_branch). Of more than MOST_TIES_CHOSEN ties one is closed, or one is not.
    lead: (n_branch,) of the teams.
    """
    found = [feeding[:0]]
    for forest in feeding:
        ties = np.flatnonzero(forest & ~dark & (lead == np.arange(len(lead))))
        some = np.eye(len(ties), dtype=bool)
        some = np.concatenate([some, ~some])
        if len(ties) <= MOST_TIES_CHOSEN:
            some = (np.arange(2 ** len(ties))[1:-1, None] >> np.arange(len(ties))) % 2 == 1
        rows = np.tile(dark, (len(some), 1))
        rows[:, ties] = some
        found.append(rows[:, lead])
    rows = np.unique(np.concatenate(found), axis=0)
    live = energised_buses(network, rows)
    # A tie between dark buses would feed nobody.
    idle = (rows & ~dark) & ~(live[:, network.from_bus] & live[:, network.to_bus])
    return rows[~idle.any(axis=1)]


def forest_exchanges(network: Network, closed: BoolArray, free: BoolArray) -> BoolArray:
    """Return every state one exchange away from a forest, (n_plan, n_branch).

    An exchange closes an open branch and opens one on the loop that this makes. Where branches are
    parallel, their team goes with them, and what may stand beside a feed is opened or closed too.
    closed, free: (n_branch,); only free branches are operated.
    """
    pairs = _exchange_pairs(prepare(network), np.array(closed), np.array(free))
    plans = np.tile(closed, (len(pairs), 1))
    if not len(parallels(network).branches):
        plans[np.arange(len(pairs)), pairs[:, 0]] = True
        plans[np.arange(len(pairs)), pairs[:, 1]] = False
        return plans
    lead = team_leads(network, free, free)
    plans[np.arange(len(pairs)), lead[pairs[:, 0]]] = True
    plans[np.arange(len(pairs)), lead[pairs[:, 1]]] = False
    beside = [b for b in parallels(network).branches if free[b] and lead[b] == b]
    toggled = np.tile(closed, (len(beside), 1))
    toggled[np.arange(len(beside)), beside] ^= True
    plans = np.unique(np.concatenate([plans, toggled])[:, lead], axis=0)
    live = energised_buses(network, plans)
    kept = (live == energised_buses(network, closed)).all(axis=1)
    return np.asarray(plans[kept & ~has_loop(network, plans, live) & (plans != closed).any(axis=1)])


@njit(cache=True)
def _exchange_pairs(feeder, closed, free) -> Any:  # type: ignore[no-untyped-def]
    """Return (close, open) pairs: each open free branch, each free branch of the loop it makes."""
    n_branch = len(closed)
    forest = find_forest(feeder, closed, forest_room(feeder))
    parent, branch, place = forest.parent, forest.branch, forest.place
    depth = np.zeros(forest.n_live, np.int64)
    for k in range(forest.n_live):
        if parent[k] >= 0:
            depth[k] = depth[parent[k]] + 1
    pairs = []
    for b in range(n_branch):
        i, j = place[feeder.from_bus[b]], place[feeder.to_bus[b]]
        if closed[b] or not free[b] or i < 0 or j < 0:
            continue
        # Two different roots meet nowhere: the loop then runs through both substations.
        while i != j:
            if depth[i] < depth[j] or (depth[i] == depth[j] and parent[i] < 0):
                i, j = j, i
            if parent[i] < 0:
                break
            if free[branch[i]]:
                pairs.append((b, branch[i]))
            i = parent[i]
    out = np.empty((len(pairs), 2), np.int64)
    for k in range(len(pairs)):
        out[k, 0], out[k, 1] = pairs[k]
    return out
