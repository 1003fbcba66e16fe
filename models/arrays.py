"""Array types, arrays as compiled kernels take them, and how many threads a kernel is worth."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numba
import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

FloatArray = NDArray[np.float64]
Float32Array = NDArray[np.float32]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
ComplexArray = NDArray[np.complex128]
StrArray = NDArray[np.str_]
TimeArray = NDArray[np.datetime64]


def inner(**options: Any) -> Any:
    """Return numba's decorator for a function that only a kernel calls.

    It does not count references, which would cost more than its work where arrays come in
    NamedTuples. So such a function must not make an array, return one, or receive one from a
    function that it calls. options: as `numba.njit`.
    """
    return numba.njit(error_model="numpy", _nrt=False, **options)


# Waking a second thread costs more than a smaller batch takes.
WORTH_SHARING_US = 2000.0


def plain(array: ArrayLike, dtype: DTypeLike | None = None) -> NDArray[Any]:
    """Return the array contiguous and writable, as kernels are compiled for; a copy where needed.

    A read-only or strided array would compile the kernel anew.
    """
    contiguous: NDArray[Any] = np.ascontiguousarray(array, dtype)
    return contiguous if contiguous.flags.writeable else contiguous.copy()


@contextmanager
def threads_for(estimated_us: float) -> Iterator[None]:
    """Run kernels on one thread when their work is below WORTH_SHARING_US, else on all."""
    if estimated_us >= WORTH_SHARING_US:
        yield
        return
    before = numba.get_num_threads()
    numba.set_num_threads(1)
    try:
        yield
    finally:
        numba.set_num_threads(before)
