"""Array types, and how many threads a compiled loop is worth: waking a second one costs more than a
small batch takes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numba
import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
ComplexArray = NDArray[np.complex128]


WORTH_SHARING_US = 2000.0


@contextmanager
def threads_for(estimated_us: float) -> Iterator[None]:
    """Run compiled loops inside on one thread when the work is estimated below WORTH_SHARING_US,
    else on all.
    """
    if estimated_us >= WORTH_SHARING_US:
        yield
        return
    before = numba.get_num_threads()
    numba.set_num_threads(1)
    try:
        yield
    finally:
        numba.set_num_threads(before)
