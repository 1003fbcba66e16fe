"""Studies as lists of independent tasks: done in this process, by processes of our own, or by a
Dask cluster that is there.

A task depends on its arguments and on what `setup` makes of the context, and on nothing else, so
that it gives the same tables wherever and whenever it is done. Every one computes on one core. What
is finished is in a `Journal` before anything else happens: a run that is killed loses the tasks in
the making and no more, a worker that is killed has its task done again by another (Dask gives a
task up when three workers died of it).

A cluster's workers need this package as the client has it, which is checked, and see the same files
under the same paths
(`absolute`; trained agents that a worker does not see it trains itself). On Slurm, with dask-jobqueue (`pip install
dask-jobqueue`):

    from dask_jobqueue import SLURMCluster
    cluster = SLURMCluster(cores=1, processes=1, memory="4GB", walltime="02:00:00")
    cluster.scale(jobs=64)
    print(cluster.scheduler_address)       # keep this running; give the address to --scheduler
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any
from uuid import uuid4

import dask
import numba
import torch
from dask.base import tokenize
from distributed import Client, KilledWorker, LocalCluster, as_completed
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from threadpoolctl import threadpool_limits

from feederguard.studies.running.journal import Journal, RunError, Tables, code_digest


def n_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


WAIT_S = 60  # for the first worker of somebody else's cluster


def absolute(name: str) -> str:
    """Return a name as it is, or the whole path where it names a file or folder: workers may stand
    elsewhere.
    """
    return str(Path(name).resolve()) if Path(name).exists() else name


@dataclass(frozen=True)
class RunConfig:
    """Where the tasks of a study are done, and whether an interrupted run goes on."""

    workers: int = n_cores()
    """Processes that work side by side; 1: this process alone."""
    scheduler: str | None = None
    """Address of a running Dask scheduler, such as tcp://host:8786, to use its workers instead."""
    resume: bool = False
    """Go on with an interrupted run in the same output folder."""

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ValueError(f"workers is {self.workers}; use at least one process")
        if self.scheduler is not None and "://" not in self.scheduler:
            raise ValueError(
                f"scheduler is {self.scheduler!r}; give an address such as tcp://host:8786"
            )


def run_tasks(
    tasks: Mapping[str, tuple[Any, ...]],
    work: Callable[..., Tables],
    setup: Callable[..., Any],
    context: tuple[Any, ...],
    journal: Path | None,
    key: Mapping[str, Any],
    run: RunConfig,
    console: Console,
    label: str,
) -> dict[str, Tables]:
    """Return the tables of every task, in the order of `tasks`, after doing those that the journal
    does not hold.

    tasks: unique names and arguments. work(bench, *arguments) returns the tables of one;
    setup(*context) returns the bench, once per process: both functions of a module, context small
    enough to be sent with every task. key: all that decides the tables, to know an interrupted run
    by; where they are computed is no part of it. journal: None where the tasks keep what they make
    themselves, as training does.

    Raises RunError as `Journal` and for a scheduler that does not answer, KeyboardInterrupt after
    saying how to go on, RuntimeError where a task killed its workers, and whatever a task raises;
    what was finished stays in the journal.
    """
    for function in (work, setup):
        assert function.__module__ != "__main__", (
            "run through the module, so that workers can import it"
        )
    if journal is None:
        try:
            found = dict(_watched(tasks, work, setup, context, run, console, label, len(tasks)))
        except KeyboardInterrupt:
            console.print(f"stopped while {label}; the same command finds what was finished")
            raise
        return {name: found[name] for name in tasks}
    with Journal(journal, {"label": label, **key}, len(tasks), run.resume) as kept:
        done = kept.tasks() & tasks.keys()
        todo = {name: arguments for name, arguments in tasks.items() if name not in done}
        if run.resume and tasks:
            told = (
                f"{len(done)} of {len(tasks)} tasks are done already"
                if done
                else "nothing to resume, starting anew"
            )
            console.print(f"{label}: {told} ({journal})", soft_wrap=True, markup=False)
        try:
            for name, tables in _watched(
                todo, work, setup, context, run, console, label, len(tasks)
            ):
                kept.write(name, tables)
        except KeyboardInterrupt:
            left = len(tasks.keys() - kept.tasks())
            console.print(
                f"stopped: {left} of {len(tasks)} tasks are left; the same command with --resume "
                "goes on from here"
            )
            raise
        return {name: kept.read(name) for name in tasks}


def _watched(
    todo: Mapping[str, tuple[Any, ...]],
    work: Callable[..., Tables],
    setup: Callable[..., Any],
    context: tuple[Any, ...],
    run: RunConfig,
    console: Console,
    label: str,
    n_task: int,
) -> Iterator[tuple[str, Tables]]:
    """Yield tasks as they come, under a bar that counts those done before."""
    if not todo:
        return
    columns = (
        TextColumn("{task.description:24}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    alone = run.scheduler is None and min(run.workers, len(todo)) == 1
    finished = (
        _in_process(todo, work, setup, context)
        if alone
        else _on_cluster(todo, work, setup, context, run)
    )
    with Progress(*columns, console=console, speed_estimate_period=3600) as progress:
        bar = progress.add_task(label, total=n_task, completed=n_task - len(todo))
        for name, tables in finished:
            yield name, tables
            progress.advance(bar)


def _in_process(
    todo: Mapping[str, tuple[Any, ...]],
    work: Callable[..., Tables],
    setup: Callable[..., Any],
    context: tuple[Any, ...],
) -> Iterator[tuple[str, Tables]]:
    with _one_core():
        bench = setup(*context)
    for name, arguments in todo.items():
        with _one_core():
            tables = work(bench, *arguments)
        yield name, tables


def _on_cluster(
    todo: Mapping[str, tuple[Any, ...]],
    work: Callable[..., Tables],
    setup: Callable[..., Any],
    context: tuple[Any, ...],
    run: RunConfig,
) -> Iterator[tuple[str, Tables]]:
    """Yield tasks as workers finish them, each sent with its context: what is scattered dies with
    the worker that held it.
    """
    digest = str(tokenize(setup.__module__, setup.__qualname__, context))[:16]
    # Tasks of another run on the same scheduler are other tasks, whatever they are called.
    own = uuid4().hex
    # Contexts of some MB are sent a few times at most; Dask would warn of them.
    with (
        _client(run) as client,
        dask.config.set({"distributed.admin.large-graph-warning-threshold": "1GB"}),
    ):
        # Earlier tasks first where a worker is free: they are the longer ones.
        futures = {}
        for k, (name, arguments) in enumerate(todo.items()):
            future = client.submit(
                _on_worker,
                code_digest(),
                digest,
                work,
                setup,
                context,
                arguments,
                key=f"{name}-{own}",
                pure=False,
                priority=-k,
            )
            futures[future] = name
        try:
            for future in as_completed(futures):
                try:
                    tables = future.result()
                except KilledWorker as error:
                    raise RuntimeError(
                        f"{futures[future]}: its worker died again and again, perhaps for want of "
                        "memory; try fewer --workers"
                    ) from error
                yield futures[future], tables
                future.release()
        finally:
            client.cancel(list(futures))


# The cluster of `shared_workers`, while it is open.
_shared: ContextVar[Client | None] = ContextVar("shared workers", default=None)


@contextmanager
def shared_workers(run: RunConfig) -> Iterator[None]:
    """Keep one set of workers for every `run_tasks` inside, since each must load what it computes
    with.

    Raises RunError for a scheduler that does not answer.
    """
    if run.scheduler is None and run.workers == 1:
        yield
        return
    with _client(run) as client:
        token = _shared.set(client)
        try:
            yield
        finally:
            _shared.reset(token)


@contextmanager
def _client(run: RunConfig) -> Iterator[Client]:
    shared = _shared.get()
    if shared is not None:
        yield shared
        return
    if run.scheduler is not None:
        try:
            client = Client(run.scheduler, timeout="10s")
        except (OSError, ValueError) as error:
            raise RunError(
                f"no Dask scheduler answers at {run.scheduler} ({error}); start one with `dask "
                "scheduler`"
            ) from None
        with client:
            try:
                client.wait_for_workers(1, timeout=WAIT_S)
            except TimeoutError:
                raise RunError(
                    f"the Dask scheduler at {run.scheduler} has no workers after {WAIT_S} s; start "
                    f"some with `dask worker {run.scheduler}`"
                ) from None
            yield client
        return
    # Threads and processes inherit what their maker blocks: Ctrl-C reaches every process of a
    # terminal, and only this one should tell about it. One that comes while the workers start is
    # heard when they are there.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        cluster = LocalCluster(
            n_workers=run.workers,
            threads_per_worker=1,
            processes=True,
            dashboard_address="127.0.0.1:0",
            memory_limit=None,
            silence_logs=logging.CRITICAL,
            host="127.0.0.1",
        )
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    with cluster, Client(cluster) as client:
        yield client


# What this process has loaded, whatever becomes of the files.
_LOADED = code_digest()

# What a worker process holds, by what it was made of.
_benches: dict[str, Any] = {}
_making = Lock()


def _on_worker(
    code: str,
    digest: str,
    work: Callable[..., Tables],
    setup: Callable[..., Any],
    context: tuple[Any, ...],
    arguments: tuple[Any, ...],
) -> Tables:
    if code != _LOADED:
        raise RunError(
            "a worker runs other code or versions than this program; start the workers anew"
        )
    with _one_core():
        with _making:
            if digest not in _benches:
                try:
                    _benches[digest] = setup(*context)
                except (ValueError, OSError) as error:
                    raise RunError(
                        f"a worker cannot begin ({error}); it must see the same files under the "
                        "same paths"
                    ) from None
        return work(_benches[digest], *arguments)


@contextmanager
def _one_core() -> Iterator[None]:
    """Compute on one core: the processes share the cores already, and sums come out the same
    wherever they are formed.
    """
    numba_threads, torch_threads = numba.get_num_threads(), torch.get_num_threads()
    with threadpool_limits(1):
        numba.set_num_threads(1)
        torch.set_num_threads(1)
        try:
            yield
        finally:
            numba.set_num_threads(numba_threads)
            torch.set_num_threads(torch_threads)
