"""Studies as lists of independent tasks, done in this process, by worker processes or by a cluster.

A task depends only on its arguments and on what `setup` makes of the context. It therefore gives
the same tables wherever and whenever it is done. Each task computes on one core. A finished task is
written to a `Journal` at once. A run that is killed loses only the tasks in progress. When a worker
is killed, another worker repeats its task; Dask gives a task up after three workers died of it.

The workers of a Dask cluster must have the same package as the client, which is checked. They must
see the same files under the same paths (`absolute`). Trained agents are an exception: a worker that
does not find one trains it. On Slurm, with dask-jobqueue (`pip install dask-jobqueue`):

    from dask_jobqueue import SLURMCluster
    cluster = SLURMCluster(cores=1, processes=1, memory="4GB", walltime="02:00:00")
    cluster.scale(jobs=64)
    print(cluster.scheduler_address)       # keep this running; give the address to --scheduler
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any
from uuid import uuid4

import dask
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

from feederguard.studies.running.cores import n_cores, one_core
from feederguard.studies.running.journal import Journal, RunError, Tables, code_digest

WAIT_S = 60  # for the first worker of a cluster that the user started


def absolute(name: str) -> str:
    """Return the whole path if the name is a file or folder, since workers may run elsewhere.

    Other names are returned as they are.
    """
    return str(Path(name).resolve()) if Path(name).exists() else name


@dataclass(frozen=True)
class RunConfig:
    """Where the tasks of a study are done, and whether an interrupted run goes on."""

    workers: int = n_cores()
    """Number of worker processes; 1: this process alone."""
    scheduler: str | None = None
    """Address of a running Dask scheduler, such as tcp://host:8786; its workers are used."""
    resume: bool = False
    """Go on with an interrupted run in the same output folder."""

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ValueError(f"workers is {self.workers}; use at least one process")
        if self.scheduler is not None and "://" not in self.scheduler:
            raise ValueError(
                f"scheduler is {self.scheduler!r}; give an address such as tcp://host:8786"
            )


@dataclass(frozen=True)
class TaskList:
    """Independent tasks, and how one is done.

    `work` and `setup` are functions of a module, so that workers can import them. The context is
    sent with every task and should be small.
    """

    label: str  # shown at the progress bar
    tasks: Mapping[str, tuple[Any, ...]]  # unique name -> arguments
    work: Callable[..., Tables]  # work(bench, *arguments) returns the tables of one task
    setup: Callable[..., Any]  # setup(*context) returns the bench, once per process
    context: tuple[Any, ...]
    # All that decides the tables: an interrupted run is known by it. Where they are computed is no
    # part of it.
    key: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for function in (self.work, self.setup):
            assert function.__module__ != "__main__", (
                "run through the module, so that workers can import it"
            )


def run_tasks(
    todo: TaskList, journal: Path | None, run: RunConfig, console: Console
) -> dict[str, Tables]:
    """Return the tables of every task in their order; those in the journal are not done again.

    journal: None if the tasks keep what they make themselves, as training does.

    Raises RunError as `Journal` does and if a scheduler does not answer. Raises RuntimeError if a
    task killed its workers, and whatever a task raises. A KeyboardInterrupt is raised again after
    saying how to go on. What was finished stays in the journal.
    """
    if journal is None:
        try:
            found = dict(_watched(todo, todo.tasks, run, console))
        except KeyboardInterrupt:
            console.print(f"stopped while {todo.label}; the same command finds what was finished")
            raise
        return {name: found[name] for name in todo.tasks}
    n_task = len(todo.tasks)
    with Journal(journal, {"label": todo.label, **todo.key}, n_task, run.resume) as kept:
        done = kept.tasks() & todo.tasks.keys()
        damaged = kept.drop_damaged(sorted(done))
        done -= set(damaged)
        if damaged:
            console.print(
                f"{todo.label}: {len(damaged)} finished tasks are damaged in {journal} and are "
                "done again",
                soft_wrap=True,
                markup=False,
            )
        left = {name: arguments for name, arguments in todo.tasks.items() if name not in done}
        if run.resume and todo.tasks:
            told = (
                f"{len(done)} of {n_task} tasks are done already"
                if done
                else "nothing to resume, starting anew"
            )
            console.print(f"{todo.label}: {told} ({journal})", soft_wrap=True, markup=False)
        try:
            for name, tables in _watched(todo, left, run, console):
                kept.write(name, tables)
        except KeyboardInterrupt:
            n_left = len(todo.tasks.keys() - kept.tasks())
            console.print(
                f"stopped: {n_left} of {n_task} tasks are left; the same command with --resume "
                "goes on from here"
            )
            raise
        return {name: kept.read(name) for name in todo.tasks}


def _watched(
    todo: TaskList, left: Mapping[str, tuple[Any, ...]], run: RunConfig, console: Console
) -> Iterator[tuple[str, Tables]]:
    """Yield the tasks left as they finish, under a progress bar that counts all."""
    if not left:
        return
    columns = (
        TextColumn("{task.description:24}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    alone = run.scheduler is None and min(run.workers, len(left)) == 1
    finished = _in_process(todo, left) if alone else _on_cluster(todo, left, run)
    n_task = len(todo.tasks)
    with Progress(*columns, console=console, speed_estimate_period=3600) as progress:
        bar = progress.add_task(todo.label, total=n_task, completed=n_task - len(left))
        for name, tables in finished:
            yield name, tables
            progress.advance(bar)


def _in_process(
    todo: TaskList, left: Mapping[str, tuple[Any, ...]]
) -> Iterator[tuple[str, Tables]]:
    with one_core():
        bench = todo.setup(*todo.context)
    for name, arguments in left.items():
        with one_core():
            tables = todo.work(bench, *arguments)
        yield name, tables


def _on_cluster(
    todo: TaskList, left: Mapping[str, tuple[Any, ...]], run: RunConfig
) -> Iterator[tuple[str, Tables]]:
    """Yield tasks as workers finish them.

    Each is sent with its context: scattered data would die with the worker that holds them.
    """
    digest = str(tokenize(todo.setup.__module__, todo.setup.__qualname__, todo.context))[:16]
    # Another run on the same scheduler may use the same names for other tasks.
    own = uuid4().hex
    # Contexts of some MB are sent a few times at most; Dask would warn of them.
    with (
        _client(run) as client,
        dask.config.set({"distributed.admin.large-graph-warning-threshold": "1GB"}),
    ):
        # Earlier tasks first where a worker is free: they are the longer ones.
        futures = {}
        for k, (name, arguments) in enumerate(left.items()):
            future = client.submit(
                _on_worker,
                code_digest(),
                digest,
                todo.work,
                todo.setup,
                todo.context,
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
    """Keep one set of workers for every `run_tasks` inside, since starting them takes seconds.

    Raises RunError if a scheduler does not answer.
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
    # Ctrl-C reaches every process of a terminal, and only this one should report it. Threads and
    # processes inherit blocked signals. One that comes while the workers start is delivered later.
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


# The code that this process has loaded, even if the files change later.
_LOADED = code_digest()

# The benches of a worker process, by a digest of what they were made of.
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
    with one_core():
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
