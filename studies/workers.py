"""Independent pieces of a study on all cores, in order, each worker process set up once."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any, TypeVar

import numba

Piece = TypeVar("Piece")
Result = TypeVar("Result")


def spread(
    work: Callable[[Piece], Result], pieces: Sequence[Piece], workers: int, setup: Callable[..., None], *context: Any
) -> Iterator[Result]:
    """Yield work(piece) for each piece, in order, as they finish; `setup(*context)` runs first in every worker.

    One worker means this process. Raises ValueError when workers is not positive.
    """
    if workers < 1:
        raise ValueError(f"workers is {workers}; use at least one process")
    if workers == 1:
        setup(*context)
        yield from map(work, pieces)
        return
    # Not fork: a process that has run OpenMP threads cannot be forked safely.
    with ProcessPoolExecutor(
        workers, mp_context=get_context("spawn"), initializer=_start, initargs=(setup, context)
    ) as pool:
        yield from pool.map(work, pieces)


def n_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _start(setup: Callable[..., None], context: tuple[Any, ...]) -> None:
    # Ctrl-C reaches every process of a terminal; only the first should tell about it.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    # The processes share the cores already.
    numba.set_num_threads(1)
    setup(*context)
