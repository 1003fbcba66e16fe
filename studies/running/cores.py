"""The cores of this machine: how many there are to use, and how to compute on one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


def n_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def one_core() -> Iterator[None]:
    """Compute on one core, so that processes do not compete and sums do not depend on threads."""
    # Imported here: a page names the number of cores, and must not wait for torch.
    import numba
    import torch
    from threadpoolctl import threadpool_limits

    numba_threads, torch_threads = numba.get_num_threads(), torch.get_num_threads()
    with threadpool_limits(1):
        numba.set_num_threads(1)
        torch.set_num_threads(1)
        try:
            yield
        finally:
            numba.set_num_threads(numba_threads)
            torch.set_num_threads(torch_threads)
