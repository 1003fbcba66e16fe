"""Limits on the power that several branches carry together: a substation's transformers, a head.

The power of a group is the sum of the active powers of its branches, each at its from end. It
counts positive away from the substations: at the end of a branch that fewer normally closed
branches part from a substation. The limit holds in both directions.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class GroupLimit:
    """A group of branches by name, and what may flow through them together.

    `Network` checks it.
    """

    name: str
    branches: tuple[str, ...]
    p_limit_mw: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "branches", tuple(str(name) for name in self.branches))
