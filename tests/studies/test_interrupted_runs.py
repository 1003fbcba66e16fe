"""Whole studies that are killed, resumed and spread over workers: the same files, byte by byte."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

ROOT = Path(__file__).resolve().parents[2]


def tables(folder: Path) -> list[bytes]:
    return [
        (folder / name).read_bytes()
        for name in ("summary.csv", "decisions.parquet", "training.parquet")
    ]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], list[bytes]]:
    """Return the command line of a study of a minute with training, and one process's tables."""
    folder = tmp_path_factory.mktemp("whole")
    program = [
        sys.executable,
        str(ROOT / "studies" / "compare_methods.py"),
        "--job",
        "transfer",
        "--scenarios",
        "30",
    ]
    program += [
        "--train-scenarios",
        "300",
        "--methods",
        "no_transfer",
        "genetic",
        "ranked_switching",
        "plan_search",
    ]
    subprocess.run([*program, *places(folder), "--workers", "1"], check=True, capture_output=True)
    return program, tables(folder)


def places(folder: Path) -> list[str]:
    return ["--output", str(folder), "--agents-cache", str(folder / "agents")]


@pytest.mark.slow
def test_four_workers_write_the_files_of_one_process_even_if_one_is_killed(
    undisturbed: tuple[list[str], list[bytes]], tmp_path: Path
) -> None:
    program, whole = undisturbed
    child = subprocess.Popen(
        [*program, *places(tmp_path), "--workers", "4"], stdout=subprocess.DEVNULL
    )
    killed = False
    while child.poll() is None:
        journal = tmp_path / "journal.sqlite"
        if not killed and journal.exists() and journal.stat().st_size > 30_000:
            workers = [
                one
                for one in psutil.Process(child.pid).children()
                if "spawn_main" in " ".join(one.cmdline())
            ]
            workers[-1].kill()
            killed = True
        time.sleep(0.2)
    assert child.returncode == 0 and killed
    assert tables(tmp_path) == whole


@pytest.mark.slow
def test_a_scheduler_and_two_workers_started_by_hand_write_the_same_files(
    undisturbed: tuple[list[str], list[bytes]], tmp_path: Path
) -> None:
    program, whole = undisturbed
    address = f"tcp://127.0.0.1:{free_port()}"
    dask = [
        sys.executable,
        "-m",
        "distributed.cli.dask_scheduler",
        "--host",
        address,
        "--no-dashboard",
    ]
    worker = [
        sys.executable,
        "-m",
        "distributed.cli.dask_worker",
        address,
        "--nthreads",
        "1",
        "--no-dashboard",
    ]
    quiet: dict[str, Any] = {
        "stdout": subprocess.DEVNULL,
        "stderr": subprocess.DEVNULL,
        "start_new_session": True,
    }
    started = [subprocess.Popen(command, **quiet) for command in (dask, worker, worker)]
    try:
        done = subprocess.run(
            [*program, *places(tmp_path), "--scheduler", address], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
    finally:
        for one in started:
            os.killpg(one.pid, signal.SIGKILL)
            one.wait()
    assert tables(tmp_path) == whole


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.mark.slow
def test_a_study_killed_at_five_moments_ends_with_the_files_of_an_undisturbed_one(
    undisturbed: tuple[list[str], list[bytes]], tmp_path: Path
) -> None:
    """Killed with everything it started, then resumed; some minutes."""
    program, whole = undisturbed
    again = [*program, *places(tmp_path), "--resume"]
    rng = np.random.default_rng()
    deaths = 0
    for _ in range(5):
        child = subprocess.Popen(
            again, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        try:
            child.wait(rng.uniform(5.0, 45.0))
        except subprocess.TimeoutExpired:
            deaths += 1
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
    assert deaths >= 2
    subprocess.run(again, check=True, capture_output=True)
    assert tables(tmp_path) == whole
