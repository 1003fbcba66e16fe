"""A cache for what follows from an object alone, such as a network laid out for the kernels."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import wraps
from typing import Any, ParamSpec, TypeVar, cast
from weakref import WeakKeyDictionary

Arguments = ParamSpec("Arguments")
Answer = TypeVar("Answer")


def once_per_object(compute: Callable[Arguments, Answer]) -> Callable[Arguments, Answer]:
    """Return the function with its answers kept for as long as its first argument lives.

    Arguments are positional, and all but the first hashable by value. An answer must not hold the
    first argument, or neither would ever be freed.
    """
    known: WeakKeyDictionary[Any, dict[tuple[Hashable, ...], Answer]] = WeakKeyDictionary()
    answer_of: Callable[..., Answer] = compute

    @wraps(compute)
    def kept(first: Any, /, *others: Hashable) -> Answer:
        answers = known.setdefault(first, {})
        if others not in answers:
            answers[others] = answer_of(first, *others)
        return answers[others]

    return cast(Callable[Arguments, Answer], kept)
