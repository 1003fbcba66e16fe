"""The search for switch plans, with a lower bound of the cost after every fault.

`plan_search.py` answers. The bound is of all decisions: nothing must be fed
(`load_transfer/shedding.py`). The cost is

    (1)  C_load (S / S_base)^2 + C_sw N^2  >=  floor(N)

with floor(N) the cost of N operations that shed nothing that can be fed. Take a radial setting
whose normal state is a forest, on a network that draws nothing once it is empty, and a fault that
cuts off one part. The cheapest decision then feeds all that can be fed, or leaves that part dark.
To feed all takes N_0 operations: one closing where a tie leads to the dark part, none where none
does. Every other way takes N_0 + 2, N_0 + 4, ...: each further closing opens another branch. In the
dark it takes none, or 2, 4, ..., and costs at least dark(N): the load cut off and N operations.
Where a branch may stand beside a feed (`network/parallel.py`) and be switched alone, each 2 is a 1.
So where all plans of at most N operations were raced, and the dark one with none,

    (2)  no decision costs less than min(their best, floor(N + 2), dark(2))

The plain plans are the dark one and all those of N_0 operations. Those of N + 2 are among the
exchanges of those of N. Proofs are tried cheapest first:

    operations     the cost is floor(N_0), below dark(2): nobody does with less
    layers         (2) with N_0, and with up to MOST_LAYERS rounds more where that could settle it
    every state    where few loops make at most MOST_LISTED radial states, all are raced; tie
                   states likewise
    counted        on other networks, as those with cables or generation, and where a fault cuts off
                   several parts, each of which may stay dark: every state of 0, 1, 2, ...
                   operations is raced that is radial and whose dark load is not too dear, until
                   floor(N) reaches the best, or MOST_LISTED states were listed; FEW_LISTED where
                   that many cannot settle it
    program        the bound of `models/bounds/`, of a relaxed mixed-integer program, in the radial
                   setting, within `prove_s` seconds, at most BOUND_S
    MISOCP         its proven bound in what is left of `prove_s` seconds

Racing a plan means its least shedding by AC power flow (`models/load_transfer/least_shedding.py`).
A plan that a race finds better replaces the answer. A race aims a little inside each limit, and the
judge accepts a little outside: a proof by race holds to that tolerance. Where loads are shed whole,
each race says what it left open, and no bound is above that. With generation the least shedding of
a plan is a local optimum. A plan that would be cheaper without shedding then bounds the cost by
that, and the answer is not proven. What is left is "not proven", and its bound is still one.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from time import perf_counter

import numpy as np

from feederguard.baselines.misocp import Misocp
from feederguard.baselines.plan_search import PlanSearch
from feederguard.models.arrays import BoolArray, FloatArray
from feederguard.models.bounds import CostBound
from feederguard.models.load_transfer import (
    Decisions,
    Report,
    Scenarios,
    Setting,
    judge,
    resolve_setting,
)
from feederguard.models.load_transfer.least_shedding import Candidates, race_topologies
from feederguard.models.load_transfer.rules import transfer_rules
from feederguard.models.load_transfer.scenario import Lost
from feederguard.models.load_transfer.shedding import draws_nothing_empty
from feederguard.models.network import Network
from feederguard.models.network.graph import energised_buses
from feederguard.models.network.parallel import has_loop, refuse_loops
from feederguard.models.solver import NotSolvedError
from feederguard.models.switching.plans import SwitchPlans

BOUND_S = 10.0
MOST_LISTED = 60_000  # plans of one fault that are raced for a proof
FEW_LISTED = 2_000  # likewise, where they can raise the bound but not reach the cost
MOST_LOOPS = 10  # counting radial states takes all choices of so many chains
MOST_LAYERS = 1
MOST_EXPANDED = 100  # plans whose exchanges make the next layer
RACED_AT_ONCE = 4000
# A decision of the MISOCP that is cheaper by less only uses the judge's tolerance.
TOLERANCE = 1e-4
OPERATIONS, EVERY_RADIAL, EVERY_TIE, BY_PROGRAM, BY_MISOCP = (
    "operations alone",
    "every radial state",
    "every tie state",
    "bound by a relaxed program",
    "MISOCP",
)
NOT_PROVEN, NOTHING_SAFE = "not proven", "no plan tried can be made safe"


@dataclass
class _Answer:
    """The best decision so far of one scenario, and what bounds it."""

    decision: Decisions
    cost: float
    bound: float = -np.inf
    reason: str = NOT_PROVEN
    open_cost: float = np.inf  # bounds the states that whole loads left open (`least_shedding.py`)

    def settled(self) -> bool:
        return self.bound >= self.cost * (1 - 1e-9)


class ProvenSearch:
    """Plan search with proofs on one network and setting; `reports` holds bound and reason.

    A report's seconds are those of the search; `proof_seconds` holds those of its proof. prove_s:
    seconds for the last two proofs of each scenario, None: neither. Raises ValueError when prove_s
    is not positive, `NetworkError` where a radial setting meets a normal state with a loop, and as
    `PlanSearch`.
    """

    name = "proven_search"

    def __init__(
        self,
        network: Network,
        setting: str | Setting,
        prove_s: float | None = None,
        beam: int = 4,
        max_rounds: int | None = None,
    ) -> None:
        if prove_s is not None and not prove_s > 0:
            raise ValueError(f"prove_s is {prove_s}; give the proof some seconds, or None for none")
        self.network = network
        self.setting = resolve_setting(network, setting)
        self._search = PlanSearch(network, self.setting, beam, max_rounds)
        self._rules = transfer_rules(network, self.setting)
        self._bound_s = min(prove_s or 0.0, BOUND_S)
        self._bound = CostBound(network, self.setting)
        left = (prove_s or 0.0) - self._bound_s
        self._misocp = Misocp(network, self.setting, time_limit_s=left) if left > 0 else None
        self.reports: list[Report] = []
        self.proof_seconds: list[float] = []
        if self.setting.radial:
            what = "branches that are closed in its normal state"
            refuse_loops(network, network.closed, what, "open one of them")

    def decide(self, scenarios: Scenarios) -> Decisions:
        """Return the best decision found for each scenario; raises ValueError as `judge`."""
        self.reports, self.proof_seconds = [], []
        answers = []
        for k in range(len(scenarios)):
            begin = perf_counter()
            answer = self._find(scenarios[k : k + 1])
            found = perf_counter()
            if answer.reason != NOTHING_SAFE:
                self._prove(scenarios[k : k + 1], answer)
            self.reports.append(
                Report(min(answer.bound, answer.cost), answer.reason, found - begin, False)
            )
            self.proof_seconds.append(perf_counter() - found)
            answers.append(answer.decision)
        return Decisions.join(answers)

    def _find(self, scenario: Scenarios) -> _Answer:
        plans, fault = self._search.plans, scenario.lost(0)
        idle = Decisions(plans.dark(fault)[None], np.zeros((1, self.network.n_bus)))
        outcome = judge(self.network, scenario, idle, self.setting)
        if outcome.cost[0] == 0 and outcome.safe[0]:
            # Nobody is cut off: a tie closed onto buses without load would help nobody.
            return _Answer(idle, 0.0, 0.0, OPERATIONS)
        decision = self._search.decide(scenario)
        cost = float(judge(self.network, scenario, decision, self.setting).cost[0])
        if self._search.reports[0].reason == NOTHING_SAFE:
            return _Answer(decision, cost, self._floor(scenario, 0), NOTHING_SAFE)
        return _Answer(decision, cost)

    def _prove(self, scenario: Scenarios, answer: _Answer) -> None:
        if not answer.settled():
            (self._prove_radial if self.setting.radial else self._prove_meshed)(scenario, answer)
            if self.setting.whole_loads and answer.reason != OPERATIONS:
                # What the search raced, once more: it does not say what whole loads left open.
                self._race(scenario, self._search.plans.plain(scenario.lost(0)), answer)
            answer.bound = min(answer.bound, answer.open_cost)
            if not answer.settled():
                answer.reason = NOT_PROVEN
        if not answer.settled() and self._bound_s and self._bound.applies:
            found = self._bound.bound(scenario, answer.cost, self._bound_s)
            if found.value > answer.bound:
                answer.bound, answer.reason = found.value, BY_PROGRAM
        if answer.bound < answer.cost * (1 - TOLERANCE) and self._misocp is not None:
            self._prove_by_misocp(self._misocp, scenario, answer)

    def _prove_meshed(self, scenario: Scenarios, answer: _Answer) -> None:
        plans, fault = self._search.plans, scenario.lost(0)
        if scenario.p_gen.any():
            answer.bound = min(answer.cost, self._floor(scenario, 0))
            return
        if len(plans.plain(fault)) == plans.n_states(fault):
            answer.bound, answer.reason = answer.cost, EVERY_TIE
            return
        # The plain plans close no tie or one.
        self._bound_by_layer(scenario, answer, 1, step=1)

    def _prove_radial(self, scenario: Scenarios, answer: _Answer) -> None:
        plans, fault = self._search.plans, scenario.lost(0)
        simple = draws_nothing_empty(self.network, scenario, self.setting)
        if not simple or scenario.p_gen.any() or plans.n_detached(fault) > 1:
            self._prove_by_counting(scenario, answer)
            return
        layer = np.array([row for row in plans.plain(fault) if plans.feeds_all(fault, row)])
        n = int(plans.operations(fault, layer).min())
        layer = layer[plans.operations(fault, layer) == n]
        # What may stand beside a feed is operated alone.
        step = 1 if plans.beside(fault) else 2
        dark = self._floor(scenario, step, feeds=energised_buses(self.network, plans.dark(fault)))
        if plans.feeds_all(fault, plans.dark(fault)):
            dark = np.inf
        if answer.cost <= min(self._floor(scenario, n), dark) * (1 + 1e-9):
            answer.bound, answer.reason = answer.cost, OPERATIONS
            return
        self._bound_by_layer(scenario, answer, n, step, dark)
        if answer.settled():
            return
        if int(self.network.is_tie.sum()) <= MOST_LOOPS:
            states = self._search.plans.every(fault, MOST_LISTED)
            if states is not None:
                self._race(scenario, states, answer)
                answer.bound, answer.reason = answer.cost, f"{EVERY_RADIAL} ({len(states)})"
                return
        for _ in range(MOST_LAYERS):
            # Only where the next floor could settle it.
            if (
                step == 1
                or answer.settled()
                or answer.cost > min(self._floor(scenario, n + 4), dark)
                or len(layer) > MOST_EXPANDED
            ):
                return
            layer, n = self._next_layer(fault, layer, n + 2), n + 2
            if len(layer) > MOST_LISTED:
                return
            self._race(scenario, layer, answer)
            self._bound_by_layer(scenario, answer, n, dark=dark)

    def _bound_by_layer(
        self, scenario: Scenarios, answer: _Answer, n: int, step: int = 2, dark: float = np.inf
    ) -> None:
        """Apply (2) after all plans of at most n operations were raced; dark: dark(2)."""
        answer.bound = min(answer.cost, self._floor(scenario, n + step), dark)
        answer.reason = (
            f"every state of {n} operation{'s' * (n != 1)}" if answer.settled() else NOT_PROVEN
        )

    def _prove_by_counting(self, scenario: Scenarios, answer: _Answer) -> None:
        """Race the states of 0, 1, 2, ... operations until more of them cannot be cheaper."""
        idle = self._search.plans.dark(scenario.lost(0))
        free = self._search.plans.switchable & ~scenario.failed_branches(self.network.n_branch)[0]
        lead = self._search.plans.leads(scenario.lost(0))
        free &= lead == np.arange(len(lead))
        places, listed, unsure = np.flatnonzero(free), 0, np.inf
        most = self._most_listed(scenario, len(places), answer.cost)
        for n in range(len(places) + 1):
            floor = self._floor(scenario, n)
            listed += math.comb(len(places), n)
            answer.bound = min(answer.cost, floor, unsure)
            # Beyond `unsure` the bound cannot rise.
            if answer.settled() or listed > most or unsure <= floor:
                done = f"every state of at most {n - 1} operations" if n > 1 else OPERATIONS
                answer.reason = done if answer.settled() else NOT_PROVEN
                return
            chosen = itertools.combinations(places.tolist(), n)
            while rows := list(itertools.islice(chosen, RACED_AT_ONCE)):
                closed = np.tile(idle, (len(rows), 1))
                closed[np.arange(len(rows))[:, None], np.array(rows, dtype=np.int64)] ^= True
                closed, at_least = self._worth_racing(scenario, closed[:, lead], answer.cost)
                self._race(scenario, closed, answer)
                if scenario.p_gen.any():
                    unsure = min(unsure, at_least.min(initial=np.inf))
        answer.bound = min(answer.cost, unsure)
        answer.reason = f"{EVERY_RADIAL} ({listed})" if answer.settled() else NOT_PROVEN

    def _most_listed(self, scenario: Scenarios, n_place: int, cost: float) -> int:
        """Return how many states are worth listing: few where all that could settle are too many.

        Counting settles once floor(n) reaches the cost.
        """
        listed = 0
        for n in range(n_place + 1):
            if self._floor(scenario, n) >= cost * (1 - 1e-9):
                return MOST_LISTED
            listed += math.comb(n_place, n)
            if listed > MOST_LISTED:
                return FEW_LISTED
        return MOST_LISTED

    def _worth_racing(
        self, scenario: Scenarios, closed: BoolArray, cost: float
    ) -> tuple[BoolArray, FloatArray]:
        """Return the radial states whose operations and dark load cost less, and these costs."""
        network = self.network
        live = energised_buses(network, closed)
        radial = ~has_loop(network, closed, live)
        closed, live = closed[radial], live[radial]
        failed = scenario.failed_branches(network.n_branch)[0].astype(float)
        points = self._rules.cost.point(
            shed=np.where(live, 0.0, scenario.p_load),
            curtailed=np.where(live, 0.0, scenario.p_gen),
            y=self._rules.charged(closed.astype(float), failed[None]),
            failed=failed,
        )
        at_least = self._rules.cost.objective(points)
        # What costs as much without shedding proves nothing else.
        cheaper = at_least < cost * (1 - 1e-9)
        return closed[cheaper], at_least[cheaper]

    def _next_layer(self, fault: Lost, layer: BoolArray, n: int) -> BoolArray:
        """Return all plans of n operations, which are exchanges of those of n - 2."""
        found: dict[bytes, BoolArray] = {}
        # Plans of its own: what they remember of thousands of exchanges goes with them.
        plans = SwitchPlans(self.network, self.setting)
        for closed in layer:
            near = plans.neighbours(fault, closed)
            found.update((row.tobytes(), row) for row in near[plans.operations(fault, near) == n])
        return np.array(list(found.values()), dtype=bool).reshape(len(found), self.network.n_branch)

    def _race(self, scenario: Scenarios, closed: BoolArray, answer: _Answer) -> None:
        """Take over the best of these states where it beats the answer."""
        for begin in range(0, len(closed), RACED_AT_ONCE):
            part = closed[begin : begin + RACED_AT_ONCE]
            candidates = Candidates(np.array([0, len(part)]), part)
            cutoff = np.array([answer.cost * (1 - 1e-9)])
            race = race_topologies(self.network, scenario, candidates, self.setting, cutoff=cutoff)
            answer.open_cost = min(answer.open_cost, float(race.open_cost[0]))
            if race.winner[0] >= 0:
                answer.decision = Decisions(part[race.winner[:1]], race.shed, race.curtail)
                answer.cost = float(
                    judge(self.network, scenario, answer.decision, self.setting).cost[0]
                )

    def _prove_by_misocp(self, misocp: Misocp, scenario: Scenarios, answer: _Answer) -> None:
        try:
            decision = misocp.decide(scenario, start=answer.decision)
        except NotSolvedError:
            return
        outcome = judge(self.network, scenario, decision, self.setting)
        if outcome.safe[0] and outcome.cost[0] < answer.cost * (1 - TOLERANCE):
            answer.decision, answer.cost = decision, float(outcome.cost[0])
        if misocp.reports[0].bound > answer.bound:
            answer.bound, answer.reason = float(misocp.reports[0].bound), BY_MISOCP

    def _floor(self, scenario: Scenarios, n: int, feeds: BoolArray | None = None) -> float:
        """Return floor(n) of (1) by the compiled cost itself; feeds: (n_bus,) live at most."""
        network, failed = self.network, scenario.failed_branches(self.network.n_branch)[0]
        live = self._within_reach(scenario) if feeds is None else feeds
        shed = np.where(live, 0.0, scenario.p_load[0])
        curtailed = np.where(live, 0.0, scenario.p_gen[0])
        y = (network.closed & ~failed).astype(float)
        # Any n branches: the cost counts departures from the normal state.
        others = np.flatnonzero(~failed)[:n]
        y[others] = 1.0 - y[others]
        points = self._rules.cost.point(
            shed=shed, curtailed=curtailed, y=y, failed=failed.astype(float)
        )
        return float(self._rules.cost.objective(points)[0])

    def _within_reach(self, scenario: Scenarios) -> BoolArray:
        """Return the buses that some path could reach, (n_bus,)."""
        rows, row = self._rules.within_reach(self.network, scenario)
        return np.asarray(rows[row[0]])
