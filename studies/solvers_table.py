"""Solvers found on this machine, and how to get the others: `feederguard solvers`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from feederguard.models.solver import print_solvers
from feederguard.studies.command_line import parse_options


@dataclass(frozen=True)
class SolversConfig:
    """Print which solvers are installed and, for what is not, how to get it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table and return 0."""
    parse_options(SolversConfig, arguments, "feederguard solvers")
    print_solvers()
    return 0
