"""Files that are written whole or not at all, and hashes of settings."""

import os
from pathlib import Path

import pytest

from feederguard.studies.running.files import hash_of, write_whole


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


def test_nothing_but_the_file_is_left(tmp_path: Path) -> None:
    write_whole(tmp_path / "agent.bin", b"new")
    assert [one.name for one in tmp_path.iterdir()] == ["agent.bin"]
