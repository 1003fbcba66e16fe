"""HiGHS, opened so that neither its output nor its threads depend on what ran before.

HiGHS keeps one scheduler of threads per process, made by the first solve. A solve that asks for
another number of threads ends with "Not Set" (seen with 1.11 to 1.16). With the option `threads` at
its default, HiGHS takes the scheduler as it is. So nothing here sets that option, and a caller's
own number gets a new scheduler.
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
    """Make the first instance of this process without a console: it prints a banner (1.16)."""
    with capture_output(capture_fd=True):
        highspy.Highs()


@contextmanager
def threads_of(options: Mapping[str, Any]) -> Iterator[None]:
    """Let the solves inside use the `threads` of a caller's options, whatever was used before."""
    if not options.get("threads"):
        yield
        return
    highspy.Highs.resetGlobalScheduler(True)
    try:
        yield
    finally:
        highspy.Highs.resetGlobalScheduler(True)
