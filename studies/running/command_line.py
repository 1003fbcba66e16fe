"""What the programs of this folder share as programs: options from a dataclass, a console, and
errors in one sentence.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import tyro
from rich.console import Console

Options = TypeVar("Options")


def parse_options(
    kind: type[Options], arguments: Sequence[str] | None, prog: str, description: str | None = None
) -> Options:
    """Return the options of a command line (default: this program's), a dataclass whose fields'
    docstrings are the help.

    What cannot be read, and a ValueError of the dataclass, ends the program with status 2 and the
    reason on standard error.
    """
    with user_error():
        return tyro.cli(
            kind,
            prog=prog,
            description=description,
            args=arguments,
            config=(tyro.conf.FlagCreatePairsOff, tyro.conf.ConsolidateSubcommandArgs),
        )


@contextmanager
def user_error(kinds: tuple[type[Exception], ...] = (ValueError, OSError)) -> Iterator[None]:
    """End the program with one sentence and status 2 where what the user gave cannot be used.

    kinds: exceptions that say so. Around what computes, name the narrower one that is meant:
    anything else that goes wrong there is ours and keeps its traceback.
    """
    try:
        yield
    except kinds as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def console_of(width: int) -> Console:
    """Return a console: the terminal's own width, or `width` where output goes to a file."""
    return Console() if sys.stdout.isatty() else Console(width=width)
