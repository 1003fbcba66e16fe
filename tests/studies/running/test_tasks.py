"""The runner: the same tables from one process, several, a cluster, and after any kill."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from feederguard.studies.running.journal import RunError, Tables, mark_written
from feederguard.studies.running.tasks import RunConfig, TaskList, run_tasks, shared_workers

# Workers import what they run, and a test file is not on their path.
TOY = '''
"""A study of random matrices, slow enough to be killed."""
import os, signal, sys, time
from pathlib import Path
import numpy as np, pandas as pd
from rich.console import Console
from feederguard.studies.running.tasks import RunConfig, TaskList, run_tasks

def setup(size, pause_s, victim):
    return size, pause_s, victim

def work(bench, k):
    size, pause_s, victim = bench
    time.sleep(pause_s)
    # The first worker that meets the victim's task dies of it.
    if victim and k == 3 and not Path(victim).exists():
        Path(victim).write_text("dead")
        os.kill(os.getpid(), signal.SIGKILL)
    a = np.random.default_rng(k).standard_normal((size, size))
    sums = pd.DataFrame({"k": [k], "sum": [(a @ a).sum()]})
    return {"sums": sums, "times": pd.DataFrame({"pid": [os.getpid()]})}

def run(folder, workers, scheduler=None, pause_s=0.0, victim="", n_task=12, resume=True):
    tasks = {f"task/{k}": (k,) for k in range(n_task)}
    listed = TaskList("toy", tasks, work, setup, (90, pause_s, victim), {"size": 90})
    where = RunConfig(workers, scheduler, resume)
    done = run_tasks(listed, Path(folder) / "journal.sqlite", where, Console())
    table = pd.concat([one["sums"] for one in done.values()])
    table.to_csv(Path(folder) / "table.csv", index=False)
    return done

if __name__ == "__main__":
    import toy_study
    toy_study.run(sys.argv[1], int(sys.argv[2]), pause_s=float(sys.argv[3]))
'''


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    (tmp_path / "toy_study.py").write_text(TOY)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.syspath_prepend(tmp_path)
    import toy_study  # type: ignore[import-not-found]

    yield toy_study
    del sys.modules["toy_study"]


def new(folder: Path) -> Path:
    folder.mkdir()
    return folder


def table(folder: Path) -> bytes:
    return (folder / "table.csv").read_bytes()


def in_process(
    tasks: int, work: Any, folder: Path, resume: bool = True, console: Console | None = None
) -> dict[str, Tables]:
    named = {f"t{k}": (k,) for k in range(tasks)}
    run, shown = RunConfig(1, None, resume), console or Console(quiet=True)
    return run_tasks(
        TaskList("mine", named, work, lambda: "bench", ()), folder / "j.sqlite", run, shown
    )


def test_results_come_in_the_order_of_the_tasks_and_are_kept(tmp_path: Path) -> None:
    asked: list[int] = []

    def work(bench: str, k: int) -> Tables:
        assert bench == "bench"
        asked.append(k)
        return {"t": pd.DataFrame({"k": [k]})}

    done = in_process(3, work, tmp_path)
    assert list(done) == ["t0", "t1", "t2"] and asked == [0, 1, 2]
    assert [int(tables["t"]["k"].iloc[0]) for tables in done.values()] == [0, 1, 2]
    # With more tasks only the new ones are done, and without --resume a finished run begins anew.
    in_process(5, work, tmp_path)
    assert asked[3:] == [3, 4]
    mark_written(tmp_path / "j.sqlite")
    in_process(2, work, tmp_path, resume=False)
    assert asked[5:] == [0, 1]


def test_a_failure_keeps_what_was_finished(tmp_path: Path) -> None:
    fails, asked = [1], []

    def work(bench: str, k: int) -> Tables:
        asked.append(k)
        if k in fails:
            raise ArithmeticError("no such number")
        return {"t": pd.DataFrame({"k": [k]})}

    with pytest.raises(ArithmeticError):
        in_process(3, work, tmp_path)
    fails.clear()
    with pytest.raises(RunError, match="holds 1 of 3 tasks of an interrupted run"):
        in_process(3, work, tmp_path, resume=False)
    assert len(in_process(3, work, tmp_path)) == 3
    assert asked == [0, 1, 1, 2]


def test_an_interrupt_says_how_to_go_on(tmp_path: Path) -> None:
    def work(bench: str, k: int) -> Tables:
        if k == 2:
            raise KeyboardInterrupt
        return {"t": pd.DataFrame({"k": [k]})}

    console = Console(width=200, record=True, file=StringIO())
    with pytest.raises(KeyboardInterrupt):
        in_process(5, work, tmp_path, console=console)
    told = console.export_text()
    assert "mine: nothing to resume, starting anew" in told
    assert (
        "stopped: 3 of 5 tasks are left; the same command with --resume goes on from here" in told
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"workers": 0}, "workers is 0; use at least one process"),
        (
            {"scheduler": "here:8786"},
            "scheduler is 'here:8786'; give an address such as tcp://host:8786",
        ),
    ],
)
def test_wrong_options_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        RunConfig(**changes)


def test_a_scheduler_that_does_not_answer_is_named(
    toy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from feederguard.studies.running import tasks

    real = tasks.Client
    monkeypatch.setattr(tasks, "Client", lambda address, timeout: real(address, timeout="0.5s"))
    with pytest.raises(
        RunError,
        match="no Dask scheduler answers at tcp://127.0.0.1:9 .* start one with `dask scheduler`",
    ):
        toy.run(tmp_path, 1, scheduler="tcp://127.0.0.1:9")


def test_one_process_four_workers_and_one_killed_give_the_same_table(
    toy: Any, tmp_path: Path
) -> None:
    one, four, killed = (new(tmp_path / name) for name in ("one", "four", "killed"))
    pids = [{int(t["times"]["pid"].iloc[0]) for t in toy.run(one, 1).values()}]
    with shared_workers(RunConfig(4)):
        pids.append(
            {int(t["times"]["pid"].iloc[0]) for t in toy.run(four, 4, pause_s=0.05).values()}
        )
        toy.run(killed, 4, pause_s=0.05, victim=str(tmp_path / "victim"))
    assert pids[0] == {os.getpid()} and len(pids[1]) > 1 and os.getpid() not in pids[1]
    assert (tmp_path / "victim").read_text() == "dead"
    assert table(one) == table(four) == table(killed)


def test_a_study_killed_again_and_again_ends_with_the_same_table(toy: Any, tmp_path: Path) -> None:
    whole, killed = new(tmp_path / "whole"), new(tmp_path / "killed")
    toy.run(whole, 1)
    rng = np.random.default_rng()
    deaths = 0
    for workers in (1, 1, 1, 1, 1):
        program = [
            sys.executable,
            str(tmp_path / "toy_study.py"),
            str(killed),
            str(workers),
            "0.15",
        ]
        child = subprocess.Popen(
            program, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        # Not before it has begun to write, then at any moment.
        wait_for(lambda: (killed / "journal.sqlite").exists() and size(killed) > 0, child)
        time.sleep(rng.uniform(0.0, 0.6))
        deaths += child.poll() is None
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    assert deaths >= 1
    toy.run(killed, 1)
    assert table(killed) == table(whole)


def size(folder: Path) -> int:
    return (folder / "journal.sqlite").stat().st_size


def wait_for(ready: Any, child: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 120
    while not ready() and child.poll() is None:
        assert time.monotonic() < end, "the program did not begin within two minutes"
        time.sleep(0.02)


@contextmanager
def program(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    child = subprocess.Popen(
        [sys.executable, "-m", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield child
    finally:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def test_a_scheduler_and_workers_of_their_own_give_the_same_table(toy: Any, tmp_path: Path) -> None:
    """As a person starts them: `dask scheduler`, and `dask worker ADDRESS` twice."""
    here, there = new(tmp_path / "here"), new(tmp_path / "there")
    toy.run(here, 1)
    with program(
        "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"
    ) as scheduler:
        assert scheduler.stderr is not None
        found = None
        for line in scheduler.stderr:
            found = re.search(r"tcp://127\.0\.0\.1:\d+", line)
            if found:
                break
        assert found, "the scheduler told no address"
        address = found.group()
        options = ("distributed.cli.dask_worker", address, "--nthreads", "1", "--no-dashboard")
        with program(*options), program(*options):
            done = toy.run(there, 1, scheduler=address, pause_s=0.2)
            assert os.getpid() not in {int(t["times"]["pid"].iloc[0]) for t in done.values()}
    assert table(here) == table(there)
