"""The face of a package: names that it hands on from its modules, imported when first asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazy_face(package: str, places: Mapping[str, str]) -> Callable[[str], Any]:
    """Return the `__getattr__` of a package (PEP 562) that hands on names from modules.

    places: the module that each name comes from. Other names raise AttributeError with the names
    there are.
    """

    def __getattr__(name: str) -> Any:
        if name not in places:
            raise AttributeError(
                f"module {package!r} has no attribute {name!r}; it hands on {', '.join(places)}"
            )
        return getattr(import_module(places[name]), name)

    return __getattr__
