"""What a search may spend on one decision: seconds, AC power flows, or both."""

from __future__ import annotations

from time import perf_counter

FIRST_SLICE_S = 0.008
SLICE = 0.15  # of the time used so far goes into one slice at most


class Budget:
    """The limits of one decision, and what was spent of them; None: no limit.

    Raises ValueError when a limit is not positive.
    """

    def __init__(self, time_limit_s: float | None = None, max_flows: int | None = None) -> None:
        for name, limit in (("time_limit_s", time_limit_s), ("max_flows", max_flows)):
            if limit is not None and not limit > 0:
                raise ValueError(f"{name} is {limit}; give a positive number, or None for no limit")
        self.time_limit_s, self.max_flows = time_limit_s, max_flows
        self._begin, self._flows = perf_counter(), 0.0

    @property
    def limited(self) -> bool:
        """Whether there is any limit."""
        return self.time_limit_s is not None or self.max_flows is not None

    def spend(self, n_flows: float) -> None:
        """Count AC power flows, or parts of one for cheaper work."""
        self._flows += n_flows

    def allows(self, n_flows: float) -> bool:
        """Return whether there is time left, and this many flows."""
        if self.max_flows is not None and self._flows + n_flows > self.max_flows:
            return False
        return self.time_limit_s is None or perf_counter() - self._begin < self.time_limit_s

    def slice_s(self) -> float:
        """Return the seconds that the next slice of work should take; inf without a time limit."""
        if self.time_limit_s is None:
            return float("inf")
        used = perf_counter() - self._begin
        return min(max(FIRST_SLICE_S, SLICE * used), max(self.time_limit_s - used, 0.0))
