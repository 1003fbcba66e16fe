"""What a journal keeps, whose results it gives back, and what it refuses."""

import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from feederguard.studies.running import journal as journal_module
from feederguard.studies.running.journal import (
    Journal,
    RunError,
    key_of,
    mark_written,
    source_digest,
)

KEY = {"scenarios": 3, "seed": 0}


def table(k: int) -> pd.DataFrame:
    return pd.DataFrame(
        {"k": [k, k + 1], "cost": [k / 7, np.nan], "note": ["", "a: b"], "safe": [True, False]}
    )


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    with Journal(tmp_path / "deep" / "j.sqlite", KEY, 2, resume=False) as journal:
        assert journal.tasks() == set()
        journal.write("b", {"z": table(1), "a": table(2), "empty": table(0)[:0]})
        assert journal.tasks() == {"b"}
        back = journal.read("b")
        assert list(back) == ["z", "a", "empty"]
        pd.testing.assert_frame_equal(back["z"], table(1))
        assert back["empty"].empty and list(back["empty"].columns) == list(table(0).columns)
        with pytest.raises(KeyError, match="holds no task 'a'"):
            journal.read("a")
        with pytest.raises(ValueError, match="task c returned no table; return at least one"):
            journal.write("c", {})


def test_an_interrupted_run_goes_on_or_is_refused_but_never_lost(tmp_path: Path) -> None:
    path = tmp_path / "j.sqlite"
    with Journal(path, KEY, 2, resume=False) as journal:
        journal.write("a", {"t": table(1)})
    with pytest.raises(
        RunError,
        match="holds 1 of 2 tasks of an interrupted run .* go on with --resume, or delete the file",
    ):
        Journal(path, KEY, 2, resume=False)
    # Other settings are another run: neither its results are taken, nor this one's lost.
    with Journal(path, {**KEY, "seed": 1}, 2, resume=True) as other:
        assert other.tasks() == set()
        other.write("a", {"t": table(5)})
    with Journal(path, KEY, 2, resume=True) as journal:
        assert journal.tasks() == {"a"}
        pd.testing.assert_frame_equal(journal.read("a")["t"], table(1))
        journal.write("b", {"t": table(2)})


def test_a_finished_run_is_read_again_or_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "j.sqlite"
    with Journal(path, KEY, 1, resume=False) as journal:
        journal.write("a", {"t": table(1)})
    # Finished, but stopped before its tables were written: that is an interrupted run too.
    with pytest.raises(RunError, match="holds 1 of 1 tasks of an interrupted run"):
        Journal(path, KEY, 1, resume=False)
    with Journal(path, KEY, 1, resume=True) as journal:
        assert journal.tasks() == {"a"}
    mark_written(path)
    with Journal(path, KEY, 3, resume=True) as journal:
        assert journal.tasks() == {"a"}
        journal.write("b", {"t": table(2)})
    # With more tasks it is unfinished again, and `mark_written` knows.
    mark_written(path)
    with pytest.raises(RunError, match="holds 2 of 3 tasks"):
        Journal(path, KEY, 1, resume=False)
    with Journal(path, KEY, 2, resume=True):
        pass
    mark_written(path)
    with Journal(path, KEY, 1, resume=False) as journal:
        assert journal.tasks() == set()


def test_a_damaged_task_is_found_and_dropped_and_the_others_stay(tmp_path: Path) -> None:
    path = tmp_path / "j.sqlite"
    with Journal(path, KEY, 2, resume=False) as journal:
        journal.write("a", {"t": table(1)})
        journal.write("b", {"t": table(2)})
    with sqlite3.connect(path) as file:
        file.execute("UPDATE result SET content = x'00ff' WHERE task = 'a'")
    file.close()
    with Journal(path, KEY, 2, resume=True) as journal:
        with pytest.raises(RunError, match="j.sqlite: what it holds of task 'a' is damaged"):
            journal.read("a")
        assert journal.drop_damaged(["a", "b"]) == ["a"]
        assert journal.tasks() == {"b"}


def test_a_full_disk_is_one_sentence_and_finished_tasks_stay(tmp_path: Path) -> None:
    path = tmp_path / "j.sqlite"
    with Journal(path, KEY, 2, resume=False) as journal:
        journal.write("a", {"t": table(1)})
        # No page more: what SQLite says of a disk without space.
        (pages,) = journal._file.execute("PRAGMA page_count").fetchone()
        journal._file.execute(f"PRAGMA max_page_count = {pages}")
        big = pd.DataFrame({"k": np.random.default_rng(0).random(20000)})
        with pytest.raises(RunError, match="full.; finished tasks are kept: free some space"):
            journal.write("b", {"t": big})
        assert journal.tasks() == {"a"}


def test_one_process_writes_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "j.sqlite"
    with (
        Journal(path, KEY, 1, resume=False),
        pytest.raises(RunError, match="is in use .* wait for the other run"),
    ):
        Journal(path, KEY, 1, resume=True)


def test_a_file_that_is_no_journal_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "j.sqlite"
    path.write_text("once upon a time, and much more of it than a header has" * 9)
    with pytest.raises(
        RunError, match="is damaged or no journal of this version .* delete it, or name another"
    ):
        Journal(path, KEY, 1, resume=True)
    older = tmp_path / "older.sqlite"
    with sqlite3.connect(older) as file:
        file.execute("CREATE TABLE run (key TEXT PRIMARY KEY, n_task INTEGER NOT NULL)")
    with pytest.raises(RunError, match="no journal of this version .no such column"):
        Journal(older, KEY, 1, resume=True)
    with pytest.raises(RunError, match="cannot be opened"):
        Journal(path / "below" / "j.sqlite", KEY, 1, resume=True)


def test_a_kill_in_the_middle_of_a_write_leaves_nothing_of_it(tmp_path: Path) -> None:
    path = tmp_path / "j.sqlite"
    with Journal(path, KEY, 2, resume=False) as journal:
        journal.write("a", {"t": table(1)})
    # A process dies with half of a task written and not committed.
    code = (
        "import os, sqlite3, sys; f = sqlite3.connect(sys.argv[1], isolation_level=None); "
        "f.execute('PRAGMA cache_size = 1'); f.execute('BEGIN'); key = f.execute('SELECT key FROM "
        "run').fetchone()[0]; [f.execute('INSERT INTO result VALUES (?, ?, ?, ?)', (key, 'b', "
        "str(k), b'x' * 100000)) for k in range(50)]; os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)])
    assert done.returncode == -9
    assert path.with_name("j.sqlite-journal").exists()
    with Journal(path, KEY, 2, resume=True) as journal:
        assert journal.tasks() == {"a"}
        pd.testing.assert_frame_equal(journal.read("a")["t"], table(1))
    assert sqlite3.connect(path).execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_the_key_stands_for_every_value() -> None:
    assert key_of(KEY) == key_of({"seed": 0, "scenarios": 3})
    assert (
        len(
            {
                key_of(KEY),
                key_of({**KEY, "seed": 1}),
                key_of({"scenarios": 3}),
                key_of({**KEY, "path": Path("a")}),
            }
        )
        == 4
    )


def test_a_changed_file_of_a_sub_package_is_another_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "models" / "network" / "pandapower" / "read.py"
    file.parent.mkdir(parents=True)
    digests = []
    for text in ("a = 1", "a = 2"):
        file.write_text(text)
        digests.append(source_digest(tmp_path))
    file.rename(tmp_path / "models" / "network" / "read.py")
    digests.append(source_digest(tmp_path))
    assert len(set(digests)) == 3
    # The digest is part of the key.
    keys = set()
    for digest in digests:
        monkeypatch.setattr(journal_module, "code_digest", lambda digest=digest: digest)
        keys.add(key_of(KEY))
    assert len(keys) == 3
