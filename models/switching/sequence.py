"""In which order to operate: every state between the trip and the decision judged by AC flow.

A fault has tripped its branch, and what hung from it is dark. A decision asks for the operations A:
sectionalisers to open, ties to close, and one shedding of all its buses at once, curtailment of
generation with it. After the
operations in a set S of A, in whatever order,

    (1)  closed(S) = the normal state less the faulted branch and what S opens, with what S closes
    (2)  shed(S)   = the decision's fractions shed and curtailed where the shedding is in S, else
                     none
    (3)  excess e(S) = the judge's worst violation of its limits, 0 within SAFE_TOLERANCE,
         inf where the flow has no solution

The states between form the lattice of the 2^n subsets of A; an order is a path through it from
nothing to A. Parallel branches are operated as one. A loop is energised where feeds between live
buses form one (`network/parallel.py`). Radial settings allow none on the way, unless make before
break is asked for; meshed settings always allow it. Of the paths left, the chosen one is least, one
after another, in

    (4)  the largest e(S) strictly between the ends, which every order has in common
    (5)  the number of states between with e(S) > 0
    (6)  demand that goes from live to dark, in pu
    (7)  closings done before an opening that is still to come
    (8)  demand dark or shed, in pu, summed over the states

(4) is a bottleneck and (5)-(8) add up along the path, so two passes of dynamic programming over the
subsets find it. (6) keeps restored what was restored; where loops are allowed it makes before it
breaks. (7) is the rule of the trade: isolate, open, close. By (8) the shedding waits until it is
needed. Beyond MOST_COUNTED operations the next operation is chosen one at a time by the same
measures, which promises no best order; the answer says so. Some order always exists: openings
energise no loop, and every closing after them leads to a part of the decision's own forest.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from feederguard.models.arrays import BoolArray, FloatArray, IntArray
from feederguard.models.load_transfer import (
    Decisions,
    Scenarios,
    Setting,
    judge_with_flow,
    resolve_setting,
)
from feederguard.models.load_transfer.judge import SAFE_TOLERANCE
from feederguard.models.load_transfer.scenario import shed_power
from feederguard.models.load_transfer.shedding import can_shed
from feederguard.models.network import Network
from feederguard.models.network.parallel import has_loop, team_leads

MOST_COUNTED = 12  # operations of one fault whose orders are all compared: 4096 states
STATES_AT_ONCE = 4096  # in one call of the power flow
OPEN, SHED, CLOSE = "open", "shed", "close"

Penalty = tuple[int, float, int, float]  # (5) to (8)


@dataclass(frozen=True)
class Operation:
    """One thing to do: open or close a team of branches, or shed what the decision sheds."""

    kind: str  # OPEN, SHED or CLOSE
    branches: tuple[int, ...]  # one but where several are parallel; none for the shedding


@dataclass(frozen=True, eq=False)
class SwitchingSequence:
    """The operations of one fault in order, and the n + 1 states from tripped to decided."""

    operations: tuple[Operation, ...]  # n of them; operation k leads to state k + 1
    closed: BoolArray  # (n + 1, n_branch)
    shed: FloatArray  # (n + 1, n_bus) fractions
    curtail: FloatArray  # (n + 1, n_bus) fractions of generation
    excess: FloatArray  # (n + 1,) (3)
    loop: BoolArray  # (n + 1,) whether a loop is energised
    compared: bool  # every order was compared; else one operation was chosen at a time

    def __len__(self) -> int:
        return len(self.operations)


def order_operations(
    network: Network,
    scenarios: Scenarios,
    decisions: Decisions,
    setting: str | Setting,
    *,
    make_before_break: bool = False,
) -> list[SwitchingSequence]:
    """Return for each scenario the order that leads to its decision.

    The shed fractions of buses that the decision leaves dark, or that have no demand, are left out:
    nobody operates those. make_before_break: loops may be energised on the way although the setting
    is radial. Raises ValueError as `judge`, and as `resolve_setting`.
    """
    setting = resolve_setting(network, setting)
    if len(scenarios) != len(decisions):
        raise ValueError(
            f"order_operations: {len(scenarios)} scenarios and {len(decisions)} decisions; give "
            "one decision for each"
        )
    outcome_flow = judge_with_flow(network, scenarios, decisions, setting)[1]
    live = outcome_flow.energised
    shed = np.where(live & can_shed(scenarios.p_load), decisions.shed, 0.0)
    curtail = np.where(live & (scenarios.p_gen > 0), decisions.curtail, 0.0)
    wanted = Decisions(decisions.closed, shed, curtail)
    cases = [
        _Case.of(network, setting, scenarios[k : k + 1], wanted[k : k + 1])
        for k in range(len(scenarios))
    ]
    loops_allowed = make_before_break or not setting.radial
    answers: list[SwitchingSequence | None] = [None] * len(cases)
    for batch in _batches(
        [k for k, case in enumerate(cases) if len(case.operations) <= MOST_COUNTED], cases
    ):
        masks = [np.arange(2 ** len(cases[k].operations)) for k in batch]
        judged = _judge(network, setting, [cases[k] for k in batch], masks)
        for k, states in zip(batch, judged, strict=True):
            path = _best_path(cases[k], states, loops_allowed)
            answers[k] = cases[k].sequence(
                path, states.excess[path], states.loop[path], compared=True
            )
    for k, case in enumerate(cases):
        if answers[k] is None:
            answers[k] = _one_at_a_time(network, setting, case, loops_allowed)
    return [answer for answer in answers if answer is not None]


@dataclass(frozen=True, eq=False)
class _Case:
    """A fault, its decision and the operations between, in the order in which equals are taken."""

    scenario: Scenarios  # a batch of one
    start: BoolArray  # (n_branch,) tripped
    shed: FloatArray  # (n_bus,) of the decision
    curtail: FloatArray  # (n_bus,) of the decision
    operations: tuple[Operation, ...]

    @classmethod
    def of(
        cls,
        network: Network,
        setting: Setting,
        scenario: Scenarios,
        decision: Decisions,
    ) -> _Case:
        closed, shed, curtail = decision.closed[0], decision.shed[0], decision.curtail[0]
        start = network.closed.copy()
        failed = scenario.failed_branches(network.n_branch)[0]
        start[failed] = False
        lead = team_leads(network, setting.switchable_branches(network), ~failed)

        def of_each_team(kind: str, operated: BoolArray) -> list[Operation]:
            teams = np.unique(lead[operated])
            return [
                Operation(kind, tuple(np.flatnonzero(operated & (lead == b)).tolist()))
                for b in teams
            ]

        operations = of_each_team(OPEN, start & ~closed)
        operations += [Operation(SHED, ())] * bool((shed > 0).any() or (curtail > 0).any())
        operations += of_each_team(CLOSE, ~start & closed)
        return cls(scenario, start, shed, curtail, tuple(operations))

    def states(self, masks: IntArray) -> Decisions:
        """Return (1) and (2) of the subsets given as bit masks, as decisions."""
        closed = np.tile(self.start, (len(masks), 1))
        shed, curtail = (np.zeros((len(masks), len(self.shed))) for _ in range(2))
        for bit, operation in enumerate(self.operations):
            done = (masks >> bit) & 1 == 1
            if operation.kind == SHED:
                shed[done], curtail[done] = self.shed, self.curtail
            else:
                closed[np.ix_(done, operation.branches)] = operation.kind == CLOSE
        return Decisions(closed, shed, curtail)

    def sequence(
        self, path: list[int], excess: FloatArray, loop: BoolArray, *, compared: bool
    ) -> SwitchingSequence:
        """Return the answer for a path of masks from 0 to the full set."""
        done = [
            (after ^ before).bit_length() - 1
            for before, after in zip(path[:-1], path[1:], strict=True)
        ]
        states = self.states(np.array(path))
        return SwitchingSequence(
            tuple(self.operations[bit] for bit in done),
            states.closed,
            states.shed,
            states.curtail,
            excess,
            loop,
            compared,
        )


@dataclass(frozen=True, eq=False)
class _States:
    """What the power flow says of some subsets of one case."""

    excess: FloatArray  # (B,)
    loop: BoolArray  # (B,)
    live: BoolArray  # (B, n_bus)
    unserved: FloatArray  # (B,) demand dark or shed, pu


def _batches(items: list[int], cases: list[_Case]) -> Iterator[list[int]]:
    batch: list[int] = []
    total = 0
    for k in items:
        n = 2 ** len(cases[k].operations)
        if batch and total + n > STATES_AT_ONCE:
            yield batch
            batch, total = [], 0
        batch.append(k)
        total += n
    if batch:
        yield batch


def _judge(
    network: Network, setting: Setting, cases: list[_Case], masks: list[IntArray]
) -> list[_States]:
    """Return the states of several cases after one call of the judge."""
    rows = np.repeat(np.arange(len(cases)), [len(m) for m in masks])
    states = Decisions.join([case.states(m) for case, m in zip(cases, masks, strict=True)])
    scenarios = Scenarios.join([case.scenario for case in cases])[rows]
    outcomes, flow = judge_with_flow(network, scenarios, states, setting)
    worst = np.where(outcomes.converged, outcomes.worst_violation, np.inf)
    live = flow.energised
    unserved = shed_power(scenarios, states.shed, live).sum(axis=1)
    everything = _States(
        np.where(worst <= SAFE_TOLERANCE, 0.0, worst),
        has_loop(network, states.closed, live),
        live,
        unserved,
    )
    ends = np.cumsum([len(m) for m in masks])[:-1]
    split = [
        np.split(getattr(everything, name), ends) for name in ("excess", "loop", "live", "unserved")
    ]
    return [_States(*part) for part in zip(*split, strict=True)]


def _best_path(case: _Case, states: _States, loops_allowed: bool) -> list[int]:
    """Return the masks of the best path through all subsets, by (4) and then (5) to (8)."""
    n = len(case.operations)
    full = 2**n - 1
    allowed = np.ones(full + 1, dtype=bool) if loops_allowed else ~states.loop
    # Every order has both ends in common.
    allowed[[0, full]] = True
    between = states.excess.copy()
    between[[0, full]] = 0.0
    allowed &= between <= _bottleneck(n, between, allowed)
    best: list[tuple[Penalty, int] | None] = [None] * (full + 1)
    best[0] = (0, 0.0, 0, 0.0), 0
    steps = _interrupted(case, states)
    for mask in range(1, full + 1):
        if not allowed[mask]:
            continue
        # Of equals the last operation of the list comes last: openings, shedding, closings in file
        # order.
        for bit in reversed(range(n)):
            before = mask ^ (1 << bit)
            known = best[before] if mask >> bit & 1 else None
            if known is None:
                continue
            step = _penalty(
                case, before, bit, between[mask], steps[bit][before], states.unserved[mask]
            )
            total = (
                known[0][0] + step[0],
                known[0][1] + step[1],
                known[0][2] + step[2],
                known[0][3] + step[3],
            )
            # Rounded, so that sums formed in another order do not decide.
            total = (total[0], round(total[1], 9), total[2], round(total[3], 9))
            current = best[mask]
            if current is None or total < current[0]:
                best[mask] = total, before
    path = [full] if n else [0]
    while path[-1]:
        known = best[path[-1]]
        assert known is not None, "openings first, then closings, is always a path"
        path.append(known[1])
    return path[::-1]


def _bottleneck(n: int, between: FloatArray, allowed: BoolArray) -> float:
    """Return the least that the largest excess (4) of a path can be."""
    masks = np.arange(2**n)
    reach = np.where(allowed, between, np.nan)
    # The subsets of k + 1 operations follow from those of k.
    count = np.array([bin(mask).count("1") for mask in masks])
    for size in range(1, n + 1):
        level = masks[(count == size) & allowed]
        before = np.full(len(level), np.nan)
        for bit in range(n):
            has = (level >> bit) & 1 == 1
            before[has] = np.fmin(before[has], reach[level[has] ^ (1 << bit)])
        reach[level] = np.maximum(before, between[level])
    return float(reach[-1])


def _interrupted(case: _Case, states: _States) -> list[FloatArray]:
    """Return the demand (6) that each operation takes from live to dark, by the mask before it."""
    masks = np.arange(len(states.live))
    p = case.scenario.p_load[0]
    steps = []
    for bit in range(len(case.operations)):
        after = masks | (1 << bit)
        steps.append(np.asarray((states.live & ~states.live[after]) @ p))
    return steps


def _penalty(
    case: _Case, before: int, bit: int, excess: float, interrupted: float, unserved: float
) -> Penalty:
    """Return what one operation adds to (5) to (8)."""
    early = 0
    if case.operations[bit].kind == OPEN:
        early = sum(
            before >> k & 1
            for k, operation in enumerate(case.operations)
            if operation.kind == CLOSE
        )
    return int(excess > 0), float(interrupted), early, float(unserved)


def _one_at_a_time(
    network: Network, setting: Setting, case: _Case, loops_allowed: bool
) -> SwitchingSequence:
    """Return an order in which each next operation is the best by (4) to (8) alone."""
    n = len(case.operations)
    path = [0]
    (now,) = _judge(network, setting, [case], [np.array([0])])
    excess, loop = [float(now.excess[0])], [bool(now.loop[0])]
    for _ in range(n):
        free = [bit for bit in range(n) if not path[-1] >> bit & 1]
        masks = np.array([path[-1] | 1 << bit for bit in free])
        (states,) = _judge(network, setting, [case], [masks])
        gone = (now.live & ~states.live) @ case.scenario.p_load[0]
        # Openings energise no loop, so that as long as one is left something is allowed, and then
        # every closing is.
        opens_left = any(case.operations[bit].kind == OPEN for bit in free)
        ranks = [
            (
                bool(states.loop[i]) and not loops_allowed,
                float(states.excess[i]),
                round(float(gone[i]), 9),
                opens_left and case.operations[bit].kind == CLOSE,
                round(float(states.unserved[i]), 9),
                bit,
            )
            for i, bit in enumerate(free)
        ]
        chosen = min(range(len(free)), key=lambda i: ranks[i])
        path.append(int(masks[chosen]))
        excess.append(float(states.excess[chosen]))
        loop.append(bool(states.loop[chosen]))
        now = _States(
            states.excess[chosen : chosen + 1],
            states.loop[chosen : chosen + 1],
            states.live[chosen : chosen + 1],
            states.unserved[chosen : chosen + 1],
        )
    return case.sequence(path, np.array(excess), np.array(loop), compared=False)
