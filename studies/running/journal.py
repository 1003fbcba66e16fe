"""The finished tasks of a run, kept in one SQLite file: each is in it whole or not at all.

A run is known by its key: a hash of the settings that decide its tables, of this package's source
text and of the versions of the libraries that compute. Results of other settings or other code are
therefore never reused. Each table of a task is kept as the bytes of a Parquet file. It is read back
from there in an undisturbed run too, so that a resumed run gives the same tables. One process
writes at a time.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any

import pandas as pd
from pyarrow import ArrowException

Tables = dict[str, pd.DataFrame]

_COMPUTING = (
    "numpy",
    "scipy",
    "numba",
    "torch",
    "pyomo",
    "highspy",
    "pyscipopt",
    "casadi",
    "pymoo",
)

_SCHEMA = """
CREATE TABLE IF NOT EXISTS run (
    key TEXT PRIMARY KEY, n_task INTEGER NOT NULL, written INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS result (
    key TEXT, task TEXT, name TEXT, content BLOB NOT NULL, PRIMARY KEY (key, task, name));
"""


class RunError(ValueError):
    """A run that cannot begin as asked, because of its journal or its workers."""


class Journal:
    """The finished tasks of one run. As a context manager it locks the file until it is left.

    path: made if it does not exist. key: named values that decide the tables and that JSON can
    hold. n_task: tasks of the whole run. resume: go on with an interrupted run of the same key.

    Raises RunError if the file is no journal or another process writes to it. Raises it too if
    resume is False and the file holds a run of this key whose tables were not written
    (`mark_written`): results are not thrown away unasked.
    """

    def __init__(self, path: Path, key: Mapping[str, Any], n_task: int, resume: bool) -> None:
        self.path, self.key, self.resume = path, key_of(key), resume
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = sqlite3.connect(path, timeout=0.5, isolation_level=None)
        except (OSError, sqlite3.Error) as error:
            raise RunError(
                f"{path} cannot be opened ({error}); name another output folder"
            ) from None
        try:
            self._file.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._file.executescript(_SCHEMA)
            # With exclusive locking the first write takes the lock and keeps it.
            self._file.execute("BEGIN IMMEDIATE")
            self._begin(n_task)
            self._file.execute("COMMIT")
        except sqlite3.DatabaseError as error:
            self._file.close()
            if "locked" in str(error):
                remedy = (
                    f"is in use ({error}): wait for the other run, or name another output folder"
                )
            elif any(word in str(error) for word in ("readonly", "full", "I/O")):
                remedy = f"cannot be written ({error}); free some space, or name another folder"
            else:
                remedy = (
                    f"is damaged or no journal of this version ({error}); delete it, or name "
                    "another folder"
                )
            raise RunError(f"{path} {remedy}") from None
        except RunError:
            self._file.close()
            raise

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def tasks(self) -> set[str]:
        """Return the names of the finished tasks."""
        with self._told():
            found = self._file.execute(
                "SELECT DISTINCT task FROM result WHERE key = ?", (self.key,)
            ).fetchall()
        return {task for (task,) in found}

    def write(self, task: str, tables: Tables) -> None:
        """Keep the tables of a task, all in one transaction.

        Raises ValueError for a task without a table: it would look like one that is not done.
        """
        if not tables:
            raise ValueError(
                f"task {task} returned no table; return at least one, which may be empty"
            )
        rows = [(self.key, task, name, _bytes_of(table)) for name, table in tables.items()]
        with self._told(), self._file:
            self._file.execute("BEGIN IMMEDIATE")
            self._file.executemany("INSERT OR REPLACE INTO result VALUES (?, ?, ?, ?)", rows)

    def read(self, task: str) -> Tables:
        """Return the tables of a finished task in the order they were written.

        Raises KeyError for another task, and RunError for one whose content is damaged.
        """
        with self._told():
            found = self._file.execute(
                "SELECT name, content FROM result WHERE key = ? AND task = ? ORDER BY rowid",
                (self.key, task),
            ).fetchall()
        if not found:
            raise KeyError(f"{self.path} holds no task {task!r}")
        try:
            return {name: pd.read_parquet(io.BytesIO(content)) for name, content in found}
        except (ArrowException, OSError, ValueError, TypeError) as error:
            raise RunError(
                f"{self.path}: what it holds of task {task!r} is damaged ({error}); delete the "
                "file to start anew"
            ) from None

    def drop_damaged(self, tasks: Iterable[str]) -> list[str]:
        """Return which of these finished tasks are damaged, after deleting them."""
        damaged = []
        for task in tasks:
            try:
                self.read(task)
            except RunError:
                damaged.append(task)
                with self._told():
                    self._file.execute(
                        "DELETE FROM result WHERE key = ? AND task = ?", (self.key, task)
                    )
        return damaged

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Turn errors of the file into a RunError; what was written before stays in it."""
        try:
            yield
        except sqlite3.OperationalError as error:
            raise RunError(
                f"{self.path} cannot be used ({error}); finished tasks are kept: free some space "
                "or allow writing, and go on with --resume"
            ) from None
        except sqlite3.DatabaseError as error:
            raise RunError(
                f"{self.path} is damaged ({error}); delete it, or name another folder"
            ) from None

    def _begin(self, n_task: int) -> None:
        """Delete runs whose tables were written, keep interrupted ones, and add this run."""
        runs = self._file.execute("SELECT key, n_task, written FROM run").fetchall()
        for key, n, written in runs:
            done = self._count(key)
            if key == self.key and done and not written and not self.resume:
                raise RunError(
                    f"{self.path} holds {done} of {n} tasks of an interrupted run with the same "
                    "settings: go on with --resume, or delete the file to start anew"
                )
            if (written or not done) and not (self.resume and key == self.key):
                self._file.execute("DELETE FROM result WHERE key = ?", (key,))
                self._file.execute("DELETE FROM run WHERE key = ?", (key,))
        self._file.execute("INSERT OR REPLACE INTO run VALUES (?, ?, 0)", (self.key, n_task))

    def _count(self, key: str) -> int:
        (n,) = self._file.execute(
            "SELECT COUNT(DISTINCT task) FROM result WHERE key = ?", (key,)
        ).fetchone()
        return int(n)


def mark_written(path: Path) -> None:
    """Note that the tables of every finished run are written, so that the next may begin anew."""
    try:
        with contextlib.closing(sqlite3.connect(path)) as file, file:
            file.execute(
                "UPDATE run SET written = 1 WHERE n_task <= (SELECT COUNT(DISTINCT task) FROM "
                "result WHERE result.key = run.key)"
            )
    except sqlite3.Error as error:
        raise RunError(
            f"{path} cannot be marked as written ({error}); the tables are complete, so delete it"
        ) from None


def key_of(parts: Mapping[str, Any]) -> str:
    """Return a hash of named values (paths or what JSON can hold) and of `code_digest`."""
    text = json.dumps({**parts, "code": code_digest()}, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@cache
def code_digest() -> str:
    """Return the `source_digest` of this package, as its files were at the first call."""
    return source_digest(Path(__file__).resolve().parents[2])


def source_digest(root: Path) -> str:
    """Return a hash of the package's source text below root and of the libraries' versions.

    The files of all sub-packages count, each with its path below root. The libraries are those that
    compute.
    """
    digest = hashlib.sha256(" ".join(f"{name} {version(name)}" for name in _COMPUTING).encode())
    for folder in ("agents", "baselines", "data", "models", "studies"):
        for path in sorted((root / folder).rglob("*.py")):
            digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _bytes_of(table: pd.DataFrame) -> bytes:
    content = io.BytesIO()
    table.to_parquet(content, index=False)
    return content.getvalue()
