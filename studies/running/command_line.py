"""What the programs share: options from a dataclass, errors in one sentence, and a console."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import tyro
from rich.console import Console

from feederguard.data.profiles import ProfileError
from feederguard.models.network import NetworkError
from feederguard.studies.running.journal import RunError

Options = TypeVar("Options")

# What blames the input or the machine while a program computes: no bug of ours.
RUN_ERRORS = (RunError, NetworkError, ProfileError, OSError)


def parse_options(
    kind: type[Options], arguments: Sequence[str] | None, prog: str, description: str | None = None
) -> Options:
    """Return the options of a command line (default: this program's) as a dataclass.

    The docstrings of its fields are the help texts. An option that cannot be read, or a ValueError
    of the dataclass, ends the program with status 2 and the reason on standard error.
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
    """End the program with one sentence and status 2 if the user's input cannot be used.

    kinds: exceptions that blame the input. Around computations, name a narrow one: other errors
    there are bugs and keep their traceback.
    """
    try:
        yield
    except kinds as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def console_of(width: int) -> Console:
    """Return a console as wide as the terminal, or of `width` columns if output goes to a file."""
    return Console() if sys.stdout.isatty() else Console(width=width)
