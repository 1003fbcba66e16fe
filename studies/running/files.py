"""Files that are written whole or not at all, and hashes."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any


def hash_of(parts: dict[str, Any]) -> str:
    """Return a hash of 16 hexadecimal digits of named values that JSON can hold."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all after a crash; raises OSError."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(content)
    os.replace(temporary, path)
