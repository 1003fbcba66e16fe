"""How many threads a compiled loop is worth: waking a second one costs more than a small batch takes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numba

WORTH_SHARING_US = 2000.0


@contextmanager
def threads_for(estimated_us: float) -> Iterator[None]:
    """Run compiled loops inside on one thread when the work is estimated below WORTH_SHARING_US, else on all."""
    if estimated_us >= WORTH_SHARING_US:
        yield
        return
    before = numba.get_num_threads()
    numba.set_num_threads(1)
    try:
        yield
    finally:
        numba.set_num_threads(before)
