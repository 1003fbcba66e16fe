"""The safe powers nearest to a proposal: any battery powers in, powers safe by AC flow out.

The problem is the safety QP of `feederguard.models.safety_qp`, compiled from that Pyomo model and
projected onto in batch. Let a = p / p_max, and v the idle AC voltages of the state. The first
linearisation is LinDistFlow,

    (1)  min(v_i^2, w_0_i) + (G a)_i >= v_min_i^2,   w_0_i + (G a)_i <= v_max_i^2

with w_0 the lossless voltage. Its distance to v_i^2 is the margin, needed below only. Where
rounding or a negative reactance puts v_i^2 above w_0, there is no margin. (1) is exact where the
batteries idle. It knows nothing of the losses that charging adds, so its answer may lie outside the
band.

Every further linearisation is exact at the AC state of the last answer a_r, with the true slopes
J_r of `models/power_flow/voltage_sensitivity.py`:

    (2)  v_min_i^2 <= w_i(a_r) + (J_r (a - a_r))_i <= v_max_i^2

Each is projected onto from the same proposal, so the answers converge to the AC-safe action nearest
to it. This is a Gauss-Newton iteration: voltages are nearly linear in power, and two or three
rounds suffice. A proposal that is safe stays as it is. What is applied is always an action whose
own AC flow was computed. Where that flow is inside the band to the tolerance, the action is
certified.

Powers lead to a state of charge inside the tube, if there is one, where power and SOC limits let
them. For the sake of the tube no battery must charge or discharge by more than all at once have
room for in the band. A day's own plan keeps to that too, so the promise of
`models/soc_tube/compute.py` holds. Where the band cannot be held inside the tube, the tube gives
way: the proposal is brought into it, and projected with power and SOC limits alone. Where the band
cannot be held even so, slack is used, and `status` says it.

All of it is for the demand in the state and for an exact model of the feeder. With demand a step
late or in error a certificate does not hold; `studies/evidence/stale_demand.py` shows by how much.
"""

from __future__ import annotations

import numpy as np

from feederguard.models.arrays import BoolArray, FloatArray, IntArray
from feederguard.models.battery import Batteries
from feederguard.models.network import Network
from feederguard.models.safe_powers.answers import (
    STATUSES,
    TUBE_LEFT,
    SafeActions,
    put_items,
    take_items,
)
from feederguard.models.safe_powers.limits import Limits, StateLimits
from feederguard.models.safe_powers.projections import AcProjection, LinearProjection
from feederguard.models.safe_powers.search import SAME_ACTION, SETTLED, Search
from feederguard.models.safe_powers.voltages import AcVoltages
from feederguard.models.safety_qp.projection import CLIPPED, SLACK, Projection, project
from feederguard.models.safety_qp.statement import TOLERANCE_PU
from feederguard.models.soc_tube import SocTube
from feederguard.models.voltage_regulation import VoltageState
from feederguard.models.voltage_regulation.rules import band_excess

ROUNDS = 6  # linearisations at AC states; those an item does not need are not spent


def constants() -> dict[str, float]:
    """Return the constants that decide which powers are found, by name."""
    return {
        "rounds": ROUNDS,
        "tolerance_pu": TOLERANCE_PU,
        "same_action": SAME_ACTION,
        "settled": SETTLED,
    }


class SafePowers:
    """Makes battery powers safe.

    step_h: hours of a step, that of the days it will meet; by it SOC limits become power limits.
    tube: keeps SOC where the rest of the day can be held; None leaves SOC its physical limits
    alone. rounds: most linearisations at AC states; 0 leaves LinDistFlow alone, checked but not
    improved.

    The states of `simulate` and of the environments say what days they are of. A state is refused
    where its days have another step, or another number of steps than the tube.

    Raises `NetworkError` for a meshed feeder or a bus that is not fed. Raises ValueError for
    batteries without bus or power, a tube of other batteries or of another step, and numbers that
    are not positive. A tube made by hand says only of how many batteries it is.
    """

    def __init__(
        self,
        network: Network,
        batteries: Batteries,
        step_h: float = 0.25,
        tube: SocTube | None = None,
        rounds: int = ROUNDS,
        tolerance_pu: float = TOLERANCE_PU,
    ) -> None:
        if rounds < 0:
            raise ValueError(
                f"{network.name}: rounds of the safety layer is {rounds}; it must be zero or more"
            )
        self.network, self.batteries = network, batteries
        self.step_h, self.tube = float(step_h), tube
        self.rounds, self.tolerance_pu = rounds, tolerance_pu
        self.statuses: tuple[str, ...] = STATUSES
        self.fallbacks = 0  # items of `project_at_ac` so far that (2) gave no answer to
        self.limits = StateLimits(network, batteries, step_h, tube, tolerance_pu)
        self.matrices = self.limits.matrices
        self.ac = AcVoltages(network, batteries)

    def correct(self, state: VoltageState, p_proposed: FloatArray) -> SafeActions:
        """Return the safe powers nearest to the proposals (B, n_bat) pu.

        Each has its status and certificate. Raises ValueError when shapes do not fit, a proposal is
        not finite, or a SOC is not between 0 and 1. Raises it for a state of days of another step
        or, with a tube, of another length.
        """
        proposal = self.limits.actions(state, p_proposed)
        limits = self.limits.voltage(state)
        lo, hi = self.limits.interval(state, limits)
        answer = self._make_safe(state, proposal, lo, hi, limits)
        stuck = np.flatnonzero(~answer.certified)
        if self.tube is not None and len(stuck):
            part = state[stuck]
            inside = np.clip(proposal[stuck], lo[stuck], hi[stuck])
            low, high = limits
            physical = self.limits.physical(part)
            wider = self._make_safe(part, inside, *physical, (low[stuck], high[stuck]))
            wider.status[wider.certified] = TUBE_LEFT
            # Where neither is safe, the one that leaves the band less is applied.
            before, after = (band_excess(self.network, v) for v in (answer.v[stuck], wider.v))
            better = np.flatnonzero(wider.certified | (after < before))
            put_items(answer, stuck[better], take_items(wider, better))
        return answer

    def project_batch(
        self, state: VoltageState, p_proposed: FloatArray
    ) -> tuple[FloatArray, IntArray]:
        """Return the projections onto (1), (B, n_bat) pu, and their status.

        The status is a position in `projection.STATUSES`. A failed item is NaN. Raises ValueError
        as `correct`.
        """
        found = self.project_linear(state, p_proposed)
        return found.p, found.answer.status

    def project_linear(self, state: VoltageState, p_proposed: FloatArray) -> LinearProjection:
        """Return the projection onto (1) with its derivative; raises ValueError as `correct`.

        Where the tube would cost slack, the projection leaves it.
        """
        proposal = self.limits.actions(state, p_proposed)
        low, high = limits = self.limits.voltage(state)
        lo, hi = self.limits.interval(state, limits)
        columns = self.matrices.columns
        answer = self._project(proposal, lo, hi, columns, low, high)
        through = np.ones(proposal.shape, dtype=bool)
        stuck = np.flatnonzero(answer.status == SLACK)
        if self.tube is not None and len(stuck):
            inside = np.clip(proposal[stuck], lo[stuck], hi[stuck])
            through[stuck] = inside == proposal[stuck]
            lo, hi = self.limits.physical(state[stuck])
            wider = self._project(inside, lo, hi, columns, low[stuck], high[stuck])
            put_items(answer, stuck, wider)
        return LinearProjection(answer, through, columns, self.batteries.p_max)

    def project_at_ac(self, state: VoltageState, p_proposed: FloatArray) -> AcProjection:
        """Return the projection onto (2) at the AC state of the answer to (1), with its derivative.

        Raises ValueError as `correct`. `SafetyLayer.project_ac` says what it promises.
        """
        proposal = self.limits.actions(state, p_proposed)
        limits = self.limits.voltage(state)
        lo, hi = self.limits.interval(state, limits)
        search = self._search(state, proposal, lo, hi)
        a, left = search.a.copy(), np.flatnonzero(~search.safe)
        uncut = (proposal > lo) & (proposal < hi)
        if not len(left):
            return AcProjection(a, left, uncut, None, np.empty(0), self.batteries.p_max)
        asked, lo, hi = proposal[left], lo[left], hi[left]
        low, high = (limit[left] for limit in limits)
        first = self._project(asked, lo, hi, self.matrices.columns, low, high)
        search.visit(left, first, low, high, self.matrices.columns)
        low, high, columns = search.linearise(left)
        answer = self._project(asked, lo, hi, columns, low, high)
        lost = np.flatnonzero(answer.failed)
        if len(lost):
            self.fallbacks += len(lost)
            self._fall_back(answer, columns, lost, first, search.best[left[lost]], uncut[left])
        a[left] = answer.a
        return AcProjection(a, left, uncut, answer, columns, self.batteries.p_max)

    def _fall_back(
        self,
        answer: Projection,
        columns: FloatArray,
        lost: IntArray,
        first: Projection,
        best: FloatArray,
        uncut: BoolArray,
    ) -> None:
        """Write over the lost items what `correct` would answer.

        best: (len(lost), n_bat) the answer to (1), or the cut proposal where that is less unsafe.
        """
        answer.a[lost] = best
        by_first = lost[(answer.a[lost] == first.a[lost]).all(axis=1)]
        put_items(answer, by_first, take_items(first, by_first))
        columns[by_first] = self.matrices.columns
        cut = np.setdiff1d(lost, by_first)
        # No row is at work in a cut proposal.
        answer.status[cut], answer.kind[cut] = CLIPPED, 0
        answer.side[cut] = np.where(uncut[cut], 0, 1)

    def _make_safe(
        self,
        state: VoltageState,
        proposal: FloatArray,
        lo: FloatArray,
        hi: FloatArray,
        limits: Limits,
    ) -> SafeActions:
        """Return safe actions within an interval: (1) where needed, then (2) until it settles."""
        search = self._search(state, proposal, lo, hi)
        left = np.flatnonzero(~search.safe)
        if len(left):
            low, high = (limit[left] for limit in limits)
            columns = self.matrices.columns
            step = self._project(proposal[left], lo[left], hi[left], columns, low, high)
            search.visit(left, step, low, high, columns)
            for _ in range(self.rounds):
                left = left[~search.settled[left]]
                if not len(left):
                    break
                low, high, columns = search.linearise(left)
                step = self._project(proposal[left], lo[left], hi[left], columns, low, high)
                search.visit(left, step, low, high, columns)
        return search.answer()

    def _search(
        self, state: VoltageState, proposal: FloatArray, lo: FloatArray, hi: FloatArray
    ) -> Search:
        clipped = np.clip(proposal, lo, hi)
        return Search(self.limits, self.ac, self.tolerance_pu, state, proposal, clipped)

    def _project(
        self,
        proposal: FloatArray,
        lo: FloatArray,
        hi: FloatArray,
        columns: FloatArray,
        low: FloatArray,
        high: FloatArray,
    ) -> Projection:
        return project(proposal, lo, hi, columns, low, high, 0.5 * self.matrices.rho)
