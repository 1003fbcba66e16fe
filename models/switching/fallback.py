"""What is decided where no plan was found: a deeper search, then the limits that nothing holds go.

A limit may be broken whatever is shed or curtailed, as where reactive demand that nobody can shed
overloads a line. Nobody is shed for it. In the state that the fault leaves, with everything behind
it dark,

    (1)  a limit is hopeless when it is broken with nothing and with all of the load shed, with and
         without the generation
    (2)  hopeless limits are eased to the least of these violations and some room beside it, and
         the plans are searched again. All other limits hold, at the least cost

Where that finds nothing, the state stays as the fault leaves it, and nothing is shed.
"""

from __future__ import annotations

import itertools
import warnings
from dataclasses import dataclass, replace

import numpy as np

from feederguard.models.arrays import BoolArray, FloatArray, StrArray
from feederguard.models.load_transfer import (
    Decisions,
    Scenarios,
    judge_with_flow,
    limit_places,
    limit_violations,
)
from feederguard.models.load_transfer.judge import SAFE_TOLERANCE
from feederguard.models.load_transfer.least_shedding import least_shedding
from feederguard.models.load_transfer.rules import limit_words
from feederguard.models.load_transfer.setting import NO_LOAD_MARGIN_PU, voltage_band
from feederguard.models.switching.plans import SwitchPlans
from feederguard.models.switching.search import Found, search_plans

IMPOSSIBLE = "no switch state tried keeps every limit, however much is shed"
HOPELESS = "nothing relieves the"
AS_IT_IS = "the state stays as the fault leaves it"
MOST_NAMED = 3  # limits in a reason
BEAM, ROUNDS = 4, 2  # of the search without the hopeless limits, at least


@dataclass(frozen=True, eq=False)
class Settled:
    """A decision for every scenario, and where no plan tried can be made safe."""

    found: Found
    impossible: BoolArray  # (B,) no plan tried keeps every limit
    reason: StrArray  # (B,) why it is impossible; empty otherwise

    @property
    def decisions(self) -> Decisions:
        """The decisions."""
        return self.found.decisions


def settle(
    plans: SwitchPlans, scenarios: Scenarios, found: Found, *, beam: int = 0, max_rounds: int = 0
) -> Settled:
    """Return a decision for every scenario, `found` where its cost is finite.

    The others are searched from the plain plans, with `beam` and `max_rounds` as `search_plans`;
    beam 0 skips that. Where no plan is found either, (2) of the module decides.
    """
    lost = np.flatnonzero(np.isinf(found.cost))
    if len(lost) and beam:
        # Nothing is called impossible before the search from the plain plans.
        deeper = search_plans(plans, scenarios[lost], beam=beam, max_rounds=max_rounds)
        found.take_over(lost, deeper)
    impossible = np.isinf(found.cost)
    reason = [""] * len(scenarios)
    for k in np.flatnonzero(impossible).tolist():
        reason[k] = _relieve(plans, scenarios[[k]], found, k, (max(beam, BEAM), max_rounds))
    return Settled(found, impossible, np.array(reason, dtype=str))


def _relieve(
    plans: SwitchPlans, scenario: Scenarios, found: Found, k: int, effort: tuple[int, int]
) -> str:
    """Write the decision of scenario k into `found`; return the reason."""
    network, setting = plans.network, plans.setting
    dark = plans.dark(scenario.lost(0))[None]
    rest = least_shedding(network, scenario, dark, setting)
    found.n_flows[k] += rest.n_flows[0]
    found.active[k] |= rest.active[0]
    if rest.safe[0]:
        _write(found, k, Decisions(dark, rest.shed, rest.curtail))
        return IMPOSSIBLE
    corners, broken = _corners(plans, scenario, dark)
    found.n_flows[k] += len(corners)
    least = broken.min(axis=0)
    hopeless = np.flatnonzero((least > SAFE_TOLERANCE) & np.isfinite(least))
    reason = f"{IMPOSSIBLE}: {HOPELESS} {_named(plans, hopeless)}" if len(hopeless) else IMPOSSIBLE
    if len(hopeless):
        # It has said before what is beyond its limits with nothing drawn.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            eased = _eased(plans, hopeless, least)
            other = search_plans(eased, scenario, beam=effort[0], max_rounds=max(effort[1], ROUNDS))
        found.n_flows[k] += other.n_flows[0]
        if np.isfinite(other.cost[0]):
            _write(found, k, other.decisions)
            return reason
    # Where nothing is shed and there is no power flow, the corner that breaks the limits least.
    worst = broken.max(axis=1)
    chosen = 0 if np.isfinite(worst[0]) else int(np.argmin(worst))
    _write(found, k, corners[[chosen]])
    return f"{reason}; {AS_IT_IS}" + ("" if chosen == 0 else ", but for what is shed")


def _write(found: Found, k: int, decision: Decisions) -> None:
    found.closed[k], found.shed[k] = decision.closed[0], decision.shed[0]
    found.curtail[k] = decision.curtail[0]


def _corners(
    plans: SwitchPlans, scenario: Scenarios, dark: BoolArray
) -> tuple[Decisions, FloatArray]:
    """Return the four corners of (1), nothing shed first, and what they break, (4, n_limit)."""
    ends = np.array(list(itertools.product((0.0, 1.0), repeat=2)))[..., None]
    shed, curtail = (np.tile(ends[:, j], plans.network.n_bus) for j in range(2))
    corners = Decisions(np.tile(dark, (len(ends), 1)), shed, curtail)
    flow = judge_with_flow(
        plans.network, scenario[np.zeros(len(ends), dtype=np.int64)], corners, plans.setting
    )[1]
    broken = limit_violations(plans.network, plans.setting, flow)
    return corners, np.nan_to_num(broken, nan=np.inf)


def _eased(plans: SwitchPlans, hopeless: np.ndarray, least: FloatArray) -> SwitchPlans:
    """Return the plans of a setting whose hopeless limits are eased.

    The room beside the least violation is that of `voltage_band` and `current_limit_pu`.
    """
    network, setting = plans.network, plans.setting
    places, band = limit_places(network, setting), voltage_band(network, setting)
    eased = []
    for row in hopeless.tolist():
        room, bus = 1.0, places.bus[row]
        if bus >= 0:
            room = max(1 - band.low[bus] ** 2, 2 * NO_LOAD_MARGIN_PU)
        eased.append((places.name[row], float(least[row] + room)))
    return SwitchPlans(network, replace(setting, eased=(*setting.eased, *eased)))


def _named(plans: SwitchPlans, rows: np.ndarray) -> str:
    places = limit_places(plans.network, plans.setting)
    words = list(dict.fromkeys(limit_words(plans.network, places, row) for row in rows.tolist()))
    more = len(words) - MOST_NAMED
    return ", ".join(words[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
