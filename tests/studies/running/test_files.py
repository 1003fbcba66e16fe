"""Files that are written whole or not at all, and hashes of settings."""

import csv
import io
import os
import shlex
from pathlib import Path

import pandas as pd
import pytest

from feederguard.studies.running.files import (
    csv_text,
    hash_of,
    joined,
    make_writable,
    write_whole,
)


def test_the_hash_stands_for_every_value_and_for_no_order() -> None:
    parts = {"seed": 1, "hidden": [64, 64], "of": {"a": 0.5}}
    assert hash_of(parts) == hash_of(dict(reversed(parts.items())))
    assert len(hash_of(parts)) == 16 and int(hash_of(parts), 16)
    assert len({hash_of(parts), hash_of({**parts, "seed": 2}), hash_of({"seed": 1})}) == 3


def test_a_write_that_fails_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "agent.bin"
    write_whole(path, b"old")

    def full(source: object, target: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="disk full"):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old"


def test_a_folder_that_takes_no_file_is_said_before_the_work(tmp_path: Path) -> None:
    make_writable(tmp_path / "new" / "deep")
    assert list((tmp_path / "new" / "deep").iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="below cannot be written to .*; free some space, or name"):
        make_writable(tmp_path / "file" / "below")


def test_a_failed_write_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(source: object, target: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError):
        write_whole(tmp_path / "agent.bin", b"new")
    assert list(tmp_path.iterdir()) == []


def test_no_cell_is_a_formula() -> None:
    names = ["=1+2", "+3", "-4", "@SUM(A1)", "plain", "a=b", "<b>"]
    told = csv_text(pd.DataFrame({"bus": names, "kw": [-1.5] * 7}))
    rows = list(csv.reader(io.StringIO(told)))[1:]
    assert [row[0] for row in rows] == ["'=1+2", "'+3", "'-4", "'@SUM(A1)", "plain", "a=b", "<b>"]
    assert {row[1] for row in rows} == {"-1.5"}


def test_names_in_one_cell_come_apart_again() -> None:
    names = ["12", "Bus 3", "a'b", "x  y", 'say "no"', "R1", ""]
    assert shlex.split(joined(names)) == names
    assert joined(["12", "R1-b"]) == "12 R1-b"


def test_nothing_but_the_file_is_left(tmp_path: Path) -> None:
    write_whole(tmp_path / "agent.bin", b"new")
    assert [one.name for one in tmp_path.iterdir()] == ["agent.bin"]
