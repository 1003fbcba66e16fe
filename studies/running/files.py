"""Files that are written whole or not at all, names in their cells, and hashes."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd


def hash_of(parts: dict[str, Any]) -> str:
    """Return a hash of 16 hexadecimal digits of named values that JSON can hold."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all after a crash; raises OSError."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def make_writable(folder: Path) -> None:
    """Make a folder if it is missing; raises ValueError if it takes no file."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(probe := folder / ".feederguard-probe", b"")
        probe.unlink()
    except OSError as error:
        raise ValueError(
            f"{folder} cannot be written to ({error.strerror}); free some space, or name another "
            "folder"
        ) from None


def csv_text(table: pd.DataFrame) -> str:
    """Return a table as CSV in which no cell is a formula.

    A spreadsheet runs a text that begins with = + - or @ as one; such a text gets a leading '.
    """
    texts = table.select_dtypes(["object", "string"]).columns
    safe = table.assign(**{column: table[column].map(_as_data) for column in texts})
    return str(safe.to_csv(index=False))


def _as_data(cell: Any) -> Any:
    return f"'{cell}" if isinstance(cell, str) and cell[:1] in tuple("=+-@\t\r") else cell


def joined(names: Iterable[str]) -> str:
    """Return names in one cell, separated by blanks, those with blanks in quotes: `shlex.split`."""
    return shlex.join(names)
