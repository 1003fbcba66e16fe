"""The safety layer of voltage regulation: from any proposal to the nearest battery powers that are
safe by AC flow.

Its problem is the safety QP of `feederguard.models.safety_qp`, compiled from that Pyomo model and
projected onto in batch. With a = p / p_max and the idle AC voltages v of the state, the first
linearisation is LinDistFlow,

    (1)  min(v_i^2, w_0_i) + (G a)_i >= v_min_i^2,   w_0_i + (G a)_i <= v_max_i^2

w_0 the lossless voltage: its distance to v_i^2 is the margin, needed below only; where rounding or
a negative reactance puts v_i^2 above w_0 there is none. It is exact where the batteries idle;
charging adds losses that it does not know of, so an answer to (1) alone may lie outside the band,
and what follows makes the action safe. Every further linearisation is exact at the AC state of the
last answer a_r, with the true slopes J_r of `models/power_flow/voltage_sensitivity.py`:

    (2)  v_min_i^2 <= w_i(a_r) + (J_r (a - a_r))_i <= v_max_i^2

and is projected onto from the same proposal, so that the answers converge to the AC-safe action
nearest to it (a Gauss-Newton iteration; voltages are nearly linear in power, so two or three
suffice). A proposal that is safe as it is stays as it is. What is applied is always an action whose
own AC flow was computed; where that flow is inside the band to the tolerance, it is certified.

Powers lead to a state of charge inside the tube, if there is one, where power and SOC limits let
them; but for its sake no battery must charge or discharge by more than all at once have room for in
the band, else others would have to make up for it. (A day's own plan keeps to that too, so what
`models/soc_tube/compute.py` promises holds.) Where the band cannot be held that way the tube gives
way: the proposal is brought into it, and projected with power and SOC limits alone. Where the band
cannot be held even so, slack is used, and `status` says it.

All of it is for the demand in the state and for an exact model of the feeder: with demand a step
late or in error a certificate does not hold (`studies/evidence/stale_demand.py` shows by how much).

Longer than other files: acting and its two gradients share one search, and what is known of an item
on the way.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from feederguard.models.arrays import BoolArray, ComplexArray, FloatArray, IntArray, threads_for
from feederguard.models.battery import Batteries
from feederguard.models.battery.step import power_interval
from feederguard.models.network import Network
from feederguard.models.power_flow import solve_power_flow
from feederguard.models.power_flow.layout import prepare
from feederguard.models.power_flow.newton_sweep import solve_many_forests
from feederguard.models.power_flow.voltage_sensitivity import voltage_sensitivity
from feederguard.models.safe_powers.answers import (
    AS_PROPOSED,
    CORRECTED,
    FAILED_ITEM,
    SLACK_USED,
    STATUSES,
    TUBE_LEFT,
    SafeActions,
    put_items,
    take_items,
)
from feederguard.models.safety_qp.matrices import safety_matrices
from feederguard.models.safety_qp.projection import CLIPPED, SLACK, Projection, project, pull_back
from feederguard.models.safety_qp.statement import TOLERANCE_PU
from feederguard.models.soc_tube import SocTube
from feederguard.models.soc_tube.plan import charging_factor
from feederguard.models.soc_tube.tube import check_tube, tube_interval
from feederguard.models.voltage_regulation import VoltageState
from feederguard.models.voltage_regulation.days import check_steps
from feederguard.models.voltage_regulation.rules import judged_buses

ROUNDS = 6  # linearisations at AC states; those an item does not need are not spent

_SAME_ACTION = 1e-9  # in units of p_max: closer than that is the same action
_SOC_ROUNDING = 1e-6  # what float32 may add to a full battery
_SETTLED = 1e-5  # change of action between two linearisations that ends an item

Limits = tuple[FloatArray, FloatArray]  # of the voltages' change, low and high, each (B, m)

_FEW = 8  # items; from there on the batch kernel of `solve_power_flow` is faster
FLOW_TOLERANCE_MVA, FLOW_ITERATIONS = 1e-8, 20  # those of `solve_power_flow`


def settings() -> dict[str, float]:
    """Return the constants that decide what the layer answers, by name."""
    return {
        "rounds": ROUNDS,
        "tolerance_pu": TOLERANCE_PU,
        "same_action": _SAME_ACTION,
        "settled": _SETTLED,
    }


class SafetyLayer:
    """Makes battery powers safe; `correct` for acting, `project` for an actor's gradient.

    tube: keeps SOC where the rest of the day can be held; None leaves SOC its physical limits
    alone. rounds: most linearisations at AC states; 0 leaves LinDistFlow alone, checked but not
    improved.

    step_h: hours of a step, that of the days it will meet: by it SOC limits become power limits. A
    state that says what days it is of (those of `simulate` and the environments do) is refused
    where they have another step, or another number of steps than the tube.

    Raises `NetworkError` for a meshed feeder or a bus that is not fed; ValueError for batteries
    without bus or power, a tube of other batteries or of another step (one made by hand says only
    how many batteries), and numbers that are not positive.
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
        if tube is not None:
            check_tube(tube, network, batteries, step_h)
        self.network, self.batteries, self.step_h, self.tube = (
            network,
            batteries,
            float(step_h),
            tube,
        )
        self._n_step = None if tube is None else tube.n_step
        self.rounds, self.tolerance_pu = rounds, tolerance_pu
        self.statuses: tuple[str, ...] = STATUSES
        self.fallbacks = 0  # items of `project_ac` so far that (2) gave no answer to
        self.matrices = safety_matrices(network, batteries, step_h, tolerance_pu)
        self._cap = 0.5 * self.matrices.rho
        # What an action of 1 of each battery draws at each bus.
        self._drawn = np.zeros((len(batteries), network.n_bus))
        self._drawn[np.arange(len(batteries)), batteries.bus] = batteries.p_max
        self._judged = judged_buses(network)
        self._band = network.v_min[self._judged], network.v_max[self._judged]
        self._closed = network.closed[None].copy()
        effect = np.abs(self.matrices.columns.sum(axis=0))
        # A bus that no battery moves has room without end.
        self._effect = np.where(effect > 1e-9, effect, np.nan)
        self._kappa = charging_factor(network)
        # What the squared voltage of a limit changes by per pu.
        self._by_pu = 2 * np.sqrt(self.matrices.w_low), 2 * np.sqrt(self.matrices.w_high)

    def correct(self, state: VoltageState, p_proposed: FloatArray) -> SafeActions:
        """Return the safe powers nearest to the proposals (B, n_bat) pu, each with its status and
        certificate.

        Raises ValueError when shapes do not fit, a proposal is not finite, a SOC is not between 0
        and 1, or the state is of days of another step or, with a tube, of another length.
        """
        proposal = self._read(state, p_proposed)
        limits = self._limits(state)
        lo, hi = self._interval(state, limits)
        answer = self._make_safe(state, proposal, lo, hi, limits)
        if self.tube is not None:
            stuck = np.flatnonzero(~answer.certified)
            if len(stuck):
                part = state[stuck]
                inside = np.clip(proposal[stuck], lo[stuck], hi[stuck])
                low, high = limits
                wider = self._make_safe(
                    part, inside, *self._physical(part), (low[stuck], high[stuck])
                )
                wider.status[wider.certified] = TUBE_LEFT
                # Where neither is safe, the one that leaves the band less is applied.
                before, after = (self._excess(v) for v in (answer.v[stuck], wider.v))
                better = np.flatnonzero(wider.certified | (after < before))
                put_items(answer, stuck[better], take_items(wider, better))
        return answer

    def project(self, state: VoltageState, p_proposed: torch.Tensor) -> torch.Tensor:
        """Return the projection onto (1), (B, n_bat) pu like the proposals, differentiable in them;
        no AC check.

        The derivative is that of the active set found. float32 and float64; the arithmetic is
        float64. Raises ValueError as `correct`, and RuntimeError naming the item whose projection
        failed.
        """
        return _Projected.apply(p_proposed, self, state)  # type: ignore[no-untyped-call,no-any-return]

    def project_ac(self, state: VoltageState, p_proposed: torch.Tensor) -> torch.Tensor:
        """Return the projection onto (2) at the AC state of `project`'s answer, (B, n_bat) pu,
        differentiable in the proposals.

        A proposal that the AC power flow calls safe stays, cut to its interval. So it follows
        `correct` to second order, but for the tube, which it never leaves; no AC check of the
        answer. An item without such an answer (a projection failed, or led to an action without AC
        solution) gets what `correct` falls back to, the less unsafe of its cut proposal and the
        answer to (1); `fallbacks` counts them.

        The derivative is that of the last projection with (2) as it stands: in the unknowns that no
        bound holds, orthogonal to the voltage rows tight in its answer. That (2) itself moves with
        the proposal, through a_r, w(a_r) and J_r, is left out, a term of second order. Where the
        proposal stays, it is 1 where uncut and 0 where cut, at the bound too; where the answer to
        (1) is taken, that of `project`.

        Raises ValueError as `correct`.
        """
        return _ProjectedAtAc.apply(p_proposed, self, state)  # type: ignore[no-untyped-call,no-any-return]

    def project_batch(
        self, state: VoltageState, p_proposed: FloatArray
    ) -> tuple[FloatArray, IntArray]:
        """Return the projections onto (1), (B, n_bat) pu, and their status, positions in
        `projection.STATUSES`.

        A failed item is NaN. Raises ValueError as `correct`.
        """
        answer, _ = self._project(state, self._read(state, p_proposed))
        return answer.a * self.batteries.p_max, answer.status

    def _read(self, state: VoltageState, p_proposed: FloatArray) -> FloatArray:
        """Return proposals as actions after checking what came in."""
        check_steps(f"{self.network.name}: the safety layer", self.step_h, self._n_step, state)
        n_item, n_bat = len(state), len(self.batteries)
        proposed = np.asarray(p_proposed, dtype=float)
        for name, array, shape in (
            ("p_proposed", proposed, (n_item, n_bat)),
            ("soc", state.soc, (n_item, n_bat)),
            ("p_net", state.p_net, (n_item, self.network.n_bus)),
            ("q_net", state.q_net, (n_item, self.network.n_bus)),
            ("v_idle", state.v_idle, (n_item, self.network.n_bus)),
        ):
            if np.shape(array) != shape:
                raise ValueError(
                    f"{self.network.name}: {name} has shape {np.shape(array)}; the safety layer "
                    f"expects {shape}"
                )
            if name != "v_idle" and not np.isfinite(array).all():
                item, k = np.argwhere(~np.isfinite(array))[0]
                what = (
                    f"battery {self.batteries.name[k]!r}"
                    if name in ("p_proposed", "soc")
                    else f"bus {self.network.bus_name[k]!r}"
                )
                raise ValueError(
                    f"{self.network.name}: {name} of {what} in item {item} is {array[item, k]:g}; "
                    "give a finite number"
                )
        beyond = np.argwhere((state.soc < -_SOC_ROUNDING) | (state.soc > 1 + _SOC_ROUNDING))
        if beyond.size:
            item, k = beyond[0]
            raise ValueError(
                f"{self.network.name}: soc of battery {self.batteries.name[k]!r} in item {item} is "
                f"{state.soc[item, k]:g}; "
                "give a fraction of its energy, between 0 and 1"
            )
        if (
            self.tube is not None
            and n_item
            and not (0 <= state.step.min() and state.step.max() < self.tube.n_step)
        ):
            raise ValueError(
                f"{self.network.name}: step {state.step.max()} lies outside the {self.tube.n_step} "
                "steps of the SOC tube; "
                "compute the tube for days of this length"
            )
        return proposed / self.batteries.p_max

    def _excess(self, v: FloatArray) -> FloatArray:
        """Return what `band_excess` does, its buses looked up once."""
        judged = v[:, self._judged]
        excess = np.maximum(self._band[0] - judged, judged - self._band[1]).max(axis=-1)
        return np.where(np.isnan(excess), np.inf, excess)

    def _physical(self, state: VoltageState) -> tuple[FloatArray, FloatArray]:
        low, high = power_interval(self.batteries, state.soc, self.step_h)
        return low / self.batteries.p_max, high / self.batteries.p_max

    def _interval(self, state: VoltageState, limits: Limits) -> tuple[FloatArray, FloatArray]:
        if self.tube is None:
            return self._physical(state)
        low, high = tube_interval(self.tube, self.batteries, state.soc, state.step, self.step_h)
        low, high = low / self.batteries.p_max, high / self.batteries.p_max
        if (low > 0).any():
            low = np.minimum(low, np.maximum(self._room(-limits[0]) / self._kappa, 0.0))
        if (high < 0).any():
            high = np.maximum(high, -np.maximum(self._room(limits[1]), 0.0))
        return low, high

    def _room(self, left: FloatArray) -> FloatArray:
        """Return the share of their power that all batteries may use one way inside the band, (B,
        1); left: (B, m) of w.
        """
        room = np.fmin.reduce(left / self._effect, axis=1, initial=np.inf)
        return np.asarray(room[:, None])

    def _limits(self, state: VoltageState) -> Limits:
        """Return the limits of G a by (1), each (B, m)."""
        m = self.matrices
        lossless = m.lossless(state.p_net, state.q_net)
        idle = state.v_idle[:, m.bus] ** 2
        # Without an idle AC solution there is no margin to derive: the AC flow of the answer
        # decides.
        idle = np.where(np.isfinite(idle), np.minimum(idle, lossless), lossless)
        return m.w_low - idle, m.w_high - lossless

    def _project(self, state: VoltageState, proposal: FloatArray) -> tuple[Projection, BoolArray]:
        """Return the projection onto (1), tube first, and where the proposal passed through uncut,
        (B, n_bat).
        """
        low, high = limits = self._limits(state)
        lo, hi = self._interval(state, limits)
        answer = project(proposal, lo, hi, self.matrices.columns, low, high, self._cap)
        through = np.ones(proposal.shape, dtype=bool)
        stuck = (
            np.flatnonzero(answer.status == SLACK)
            if self.tube is not None
            else np.zeros(0, np.int64)
        )
        if len(stuck):
            inside = np.clip(proposal[stuck], lo[stuck], hi[stuck])
            through[stuck] = inside == proposal[stuck]
            wider = project(
                inside,
                *self._physical(state[stuck]),
                self.matrices.columns,
                low[stuck],
                high[stuck],
                self._cap,
            )
            put_items(answer, stuck, wider)
        return answer, through

    def _make_safe(
        self,
        state: VoltageState,
        proposal: FloatArray,
        lo: FloatArray,
        hi: FloatArray,
        limits: Limits,
    ) -> SafeActions:
        """Return safe actions within an interval: nothing to do, or (1) and then (2) until it
        settles.
        """
        search = _Search(self, state, proposal, np.clip(proposal, lo, hi))
        left = np.flatnonzero(~search.safe)
        if len(left):
            low, high = (limit[left] for limit in limits)
            step = project(
                proposal[left], lo[left], hi[left], self.matrices.columns, low, high, self._cap
            )
            search.visit(left, step, low, high, self.matrices.columns)
            for _ in range(self.rounds):
                left = left[~search.settled[left]]
                if not len(left):
                    break
                low, high, columns = search.linearise(left)
                step = project(proposal[left], lo[left], hi[left], columns, low, high, self._cap)
                search.visit(left, step, low, high, columns)
        return search.answer()

    def _voltages(self, p: FloatArray, q: FloatArray) -> ComplexArray:
        """Return the AC voltages (B, n_bus) of net demands, NaN where there is no solution.

        A few items take less time than `solve_power_flow` takes to check them again: they go to its
        kernel directly.
        """
        n_item, network = len(p), self.network
        if n_item >= _FEW:
            return solve_power_flow(network, p, q).voltage
        known = prepare(network)
        voltage = np.empty((n_item, network.n_bus), np.complex128)
        current = np.empty((n_item, network.n_branch), np.complex128)
        energised = np.empty((n_item, network.n_bus), np.bool_)
        with threads_for(0.0):
            solve_many_forests(
                p,
                q,
                self._closed,
                known.graph,
                known.branches,
                known.shunts,
                known.substation,
                known.v_substation,
                np.empty((0, network.n_bus), np.complex128),
                FLOW_TOLERANCE_MVA / network.base_mva,
                FLOW_ITERATIONS,
                1,
                voltage,
                current,
                np.empty(n_item, np.int64),
                energised,
            )
        return voltage


class _Search:
    """What is known of each item while it is made safe: the last action and its AC state, and the
    best one so far.
    """

    def __init__(
        self, layer: SafetyLayer, state: VoltageState, proposal: FloatArray, clipped: FloatArray
    ) -> None:
        n_item = len(state)
        self.layer, self.state, self.proposal = layer, state, proposal
        self.voltage = np.empty((n_item, layer.network.n_bus), np.complex128)
        self.a = clipped
        self.excess = self._flow(np.arange(n_item))
        self.safe = self.excess <= layer.tolerance_pu
        self.best, self.best_v, self.best_excess = (
            self.a.copy(),
            np.abs(self.voltage),
            self.excess.copy(),
        )
        self.slack = np.zeros(n_item)
        self.rounds = np.zeros(n_item, dtype=np.int64)
        self.settled = self.safe.copy()
        self.moved = np.zeros(n_item, dtype=bool)

    def visit(
        self,
        items: IntArray,
        step: Projection,
        low: FloatArray,
        high: FloatArray,
        columns: FloatArray,
    ) -> None:
        """Go to the projections, compute their AC flows, and keep what is better than before."""
        a, moved = step.a, self.moved[items]
        near = np.abs(a - self.a[items]).max(axis=1, initial=0.0) <= _SETTLED
        # Settled: what the last flow was computed for is the answer, or there is none to go to.
        go = ~(step.failed | (near & moved))
        if not go.all():
            self.settled[items[~go]] = True
            items, a, low, high, moved = items[go], a[go], low[go], high[go], moved[go]
            columns = columns if columns.ndim == 2 else columns[go]
            if not len(items):
                return
        self.rounds[items] += moved
        self.moved[items] = True
        self.a[items] = a
        self.excess[items] = self._flow(items)
        y = a @ columns if columns.ndim == 2 else np.einsum("bn,bnm->bm", a, columns)
        self.slack[items] = self._slack_pu(y, low, high)
        self._keep(items)

    def linearise(self, items: IntArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return (2) at the last actions as limits of J a, each (B, m), and the columns of J, (B,
        n, m).
        """
        layer, m = self.layer, self.layer.matrices
        p, q = self._demand(items)
        voltage = self.voltage[items]
        slope = voltage_sensitivity(layer.network, voltage, p, q, layer.batteries.bus, m.bus)
        columns = slope * layer.batteries.p_max[:, None]
        rest = np.einsum("bn,bnm->bm", self.a[items], columns) - np.abs(voltage[:, m.bus]) ** 2
        # An action without an AC solution has no slopes: the item ends there, as its projection
        # fails.
        return m.w_low + rest, m.w_high + rest, columns

    def answer(self) -> SafeActions:
        layer = self.layer
        certified = self.best_excess <= layer.tolerance_pu
        same = np.abs(self.best - self.proposal).max(axis=1, initial=0.0) <= _SAME_ACTION
        status = np.where(same, AS_PROPOSED, CORRECTED)
        status[~certified] = np.where(
            self.slack[~certified] > 0.1 * layer.tolerance_pu, SLACK_USED, FAILED_ITEM
        )
        slack = np.where(certified, 0.0, self.slack)
        return SafeActions(
            self.best * layer.batteries.p_max, status, slack, self.best_v, certified, self.rounds
        )

    def _keep(self, items: IntArray) -> None:
        """Of safe actions the one nearest to the proposal is kept, of others the least unsafe."""
        tolerance = self.layer.tolerance_pu
        distance = ((self.a[items] - self.proposal[items]) ** 2).sum(axis=1)
        before = ((self.best[items] - self.proposal[items]) ** 2).sum(axis=1)
        safe, was = self.excess[items] <= tolerance, self.best_excess[items] <= tolerance
        # The latest safe action is nearest to the AC-safe projection, but for rounding.
        better = np.where(
            safe & was, distance < before + 1e-12, self.excess[items] < self.best_excess[items]
        )
        kept = items[better]
        self.best[kept], self.best_excess[kept] = self.a[kept], self.excess[kept]
        self.best_v[kept] = np.abs(self.voltage[kept])

    def _demand(self, items: IntArray) -> tuple[FloatArray, FloatArray]:
        return self.state.p_net[items] + self.a[items] @ self.layer._drawn, self.state.q_net[items]

    def _flow(self, items: IntArray) -> FloatArray:
        """Compute the AC flows of the items' actions; return how far each leaves the band, pu, inf
        without solution.
        """
        p, q = self._demand(items)
        voltage = self.layer._voltages(p, q)
        self.voltage[items] = voltage
        return self.layer._excess(np.abs(voltage))

    def _slack_pu(self, y: FloatArray, low: FloatArray, high: FloatArray) -> FloatArray:
        """Return the largest slack of an answer in pu of voltage, (B,)."""
        below, above = (low - y) / self.layer._by_pu[0], (y - high) / self.layer._by_pu[1]
        return np.asarray(np.maximum(below, above).max(axis=1, initial=0.0))


class _Projected(torch.autograd.Function):
    """The projection as torch sees it; the gradient goes back through the active set."""

    @staticmethod
    def forward(
        ctx: Any, p_proposed: torch.Tensor, layer: SafetyLayer, state: VoltageState
    ) -> torch.Tensor:
        proposal = layer._read(state, p_proposed.detach().cpu().double().numpy())
        answer, through = layer._project(state, proposal)
        if answer.failed.any():
            raise RuntimeError(
                f"{layer.network.name}: the safety projection of item "
                f"{np.flatnonzero(answer.failed)[0]} failed; "
                "check its voltages, and the batteries' limits"
            )
        ctx.layer, ctx.answer, ctx.through = layer, answer, through
        return torch.from_numpy(answer.a * layer.batteries.p_max).to(p_proposed)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        layer = ctx.layer
        p_max = layer.batteries.p_max
        along = pull_back(
            ctx.answer, layer.matrices.columns, gradient.cpu().double().numpy() * p_max
        )
        return torch.from_numpy(along * ctx.through / p_max).to(gradient), None, None


class _ProjectedAtAc(torch.autograd.Function):
    """`project_ac`: the gradient goes back through the active set of the second projection."""

    @staticmethod
    def forward(
        ctx: Any, p_proposed: torch.Tensor, layer: SafetyLayer, state: VoltageState
    ) -> torch.Tensor:
        proposal = layer._read(state, p_proposed.detach().cpu().double().numpy())
        limits = layer._limits(state)
        lo, hi = layer._interval(state, limits)
        search = _Search(layer, state, proposal, np.clip(proposal, lo, hi))
        a, left = search.a.copy(), np.flatnonzero(~search.safe)
        ctx.layer, ctx.left, ctx.uncut = layer, left, (proposal > lo) & (proposal < hi)
        if len(left):
            low, high = (limit[left] for limit in limits)
            first = project(
                proposal[left], lo[left], hi[left], layer.matrices.columns, low, high, layer._cap
            )
            search.visit(left, first, low, high, layer.matrices.columns)
            low, high, columns = search.linearise(left)
            answer = project(proposal[left], lo[left], hi[left], columns, low, high, layer._cap)
            lost = np.flatnonzero(answer.failed)
            if len(lost):
                layer.fallbacks += len(lost)
                # The search holds what `correct` would: the answer to (1), or the cut proposal
                # where that is less unsafe.
                answer.a[lost] = search.best[left[lost]]
                by_first = lost[(answer.a[lost] == first.a[lost]).all(axis=1)]
                put_items(answer, by_first, take_items(first, by_first))
                columns[by_first] = layer.matrices.columns
                cut = np.setdiff1d(lost, by_first)
                # No row is at work in a cut proposal.
                answer.status[cut], answer.kind[cut] = CLIPPED, 0
                answer.side[cut] = np.where(ctx.uncut[left[cut]], 0, 1)
            ctx.answer, ctx.columns = answer, columns
            a[left] = answer.a
        return torch.from_numpy(a * layer.batteries.p_max).to(p_proposed)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        p_max = ctx.layer.batteries.p_max
        wanted = gradient.cpu().double().numpy() * p_max
        along = wanted * ctx.uncut
        if len(ctx.left):
            along[ctx.left] = pull_back(ctx.answer, ctx.columns, wanted[ctx.left])
        return torch.from_numpy(along / p_max).to(gradient), None, None
