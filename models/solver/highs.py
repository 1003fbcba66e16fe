"""HiGHS, opened so that neither its console output nor its threads depend on what ran before.

HiGHS keeps one scheduler of threads per process, made by the first solve. A solve that asks for
another number of threads ends with "Not Set" (seen with 1.11 to 1.16). The option `threads` at its
default takes the scheduler as it is. So nothing here sets that option, and a caller's own number is
met with a new scheduler.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

import highspy
from pyomo.common.tee import capture_output


def silent_highs() -> Any:
    """Return a new `highspy.Highs` that prints nothing."""
    swallow_banner()
    highs = highspy.Highs()
    highs.setOptionValue("output_flag", False)
    return highs


@cache
def swallow_banner() -> None:
    """Make the first instance of this process, whose constructor prints a banner (1.16), without a
    console.
    """
    with capture_output(capture_fd=True):
        highspy.Highs()


@contextmanager
def threads_of(options: Mapping[str, Any]) -> Iterator[None]:
    """Solve inside with the `threads` that a caller's HiGHS options ask for, whatever the process
    used before.
    """
    if not options.get("threads"):
        yield
        return
    highspy.Highs.resetGlobalScheduler(True)
    try:
        yield
    finally:
        highspy.Highs.resetGlobalScheduler(True)
