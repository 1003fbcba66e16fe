"""Numbers, counts and times as a report writes them."""

from __future__ import annotations

import numpy as np


def number(value: float, digits: int = 3) -> str:
    """Return a number to that many significant digits, "–" for NaN.

    Only very small and very large numbers get an exponent.
    """
    if value != value:
        return "–"
    if value and not 1e-5 <= abs(value) < 1e6:
        return f"{value:.{digits - 1}e}"
    places = max(0, digits - 1 - int(np.floor(np.log10(abs(value))))) if value else 0
    return f"{value:,.{places}f}"


def counted(count: int, one: str, many: str) -> str:
    """Return a number of things with their name."""
    return f"{count} {one if count == 1 else many}"


def milliseconds(seconds: float) -> str:
    """Return a time in the unit that reads best."""
    if seconds != seconds:
        return "–"
    return f"{number(1e3 * seconds)} ms" if seconds < 1 else f"{number(seconds)} s"
