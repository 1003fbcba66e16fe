"""The safety layer of voltage regulation: safe battery powers, with gradients in torch.

What is safe, and how it is found, is `feederguard.models.safe_powers.nearest`; equation numbers
are those of that module. Here its two projections become functions that torch differentiates.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch

from feederguard.models.arrays import FloatArray
from feederguard.models.safe_powers import SafePowers, nearest
from feederguard.models.safe_powers.projections import LinearProjection
from feederguard.models.voltage_regulation import VoltageState


def constants() -> dict[str, float]:
    """Return the constants that decide what the layer answers, by name."""
    return nearest.constants()


class SafetyLayer(SafePowers):
    """`SafePowers` with gradients: `correct` for acting, `project_ac` for an actor's gradient.

    Arguments and errors are those of `SafePowers`.
    """

    def project(self, state: VoltageState, p_proposed: torch.Tensor) -> torch.Tensor:
        """Return the projection onto (1), (B, n_bat) pu, differentiable in the proposals.

        There is no AC check. The derivative is that of the active set found. The answer has the
        kind of the proposals, float32 or float64; the arithmetic is float64.

        Raises ValueError as `correct`, and RuntimeError naming the item whose projection failed.
        """

        def find(proposed: FloatArray) -> LinearProjection:
            found = self.project_linear(state, proposed)
            if found.answer.failed.any():
                raise RuntimeError(
                    f"{self.network.name}: the safety projection of item "
                    f"{np.flatnonzero(found.answer.failed)[0]} failed; check its voltages, and "
                    "the batteries' limits"
                )
            return found

        return _Through.apply(p_proposed, find)  # type: ignore[no-untyped-call,no-any-return]

    def project_ac(self, state: VoltageState, p_proposed: torch.Tensor) -> torch.Tensor:
        """Return the projection onto (2) at the AC state of `project`'s answer, (B, n_bat) pu.

        It is differentiable in the proposals. A proposal that the AC power flow calls safe stays,
        cut to its interval. So the projection follows `correct` to second order, but for the tube,
        which it never leaves. The answer has no AC check. An item has no answer where a projection
        failed or led to an action without AC solution. It gets what `correct` falls back to, the
        less unsafe of its cut proposal and the answer to (1); `fallbacks` counts such items.

        The derivative is that of the last projection with (2) as it stands. In the unknowns that no
        bound holds it is orthogonal to the voltage rows tight in the answer. (2) itself moves with
        the proposal, through a_r, w(a_r) and J_r: that term, of second order, is left out. Where
        the proposal stays, the derivative is 1 where uncut and 0 where cut, at the bound too. Where
        the answer to (1) is taken, it is that of `project`.

        Raises ValueError as `correct`.
        """

        def find(proposed: FloatArray) -> _Projected:
            return self.project_at_ac(state, proposed)

        return _Through.apply(p_proposed, find)  # type: ignore[no-untyped-call,no-any-return]


class _Projected(Protocol):
    """Projected powers and the way back of a gradient."""

    @property
    def p(self) -> FloatArray: ...

    def pull_back(self, gradient: FloatArray) -> FloatArray: ...


class _Through(torch.autograd.Function):
    """A projection as torch sees it: the gradient goes back through its active set."""

    @staticmethod
    def forward(
        ctx: Any, p_proposed: torch.Tensor, find: Callable[[FloatArray], _Projected]
    ) -> torch.Tensor:
        ctx.found = find(p_proposed.detach().cpu().double().numpy())
        return torch.from_numpy(ctx.found.p).to(p_proposed)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        along = ctx.found.pull_back(gradient.cpu().double().numpy())
        return torch.from_numpy(along).to(gradient), None
