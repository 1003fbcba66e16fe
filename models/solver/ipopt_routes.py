"""The routes to Ipopt, in the order in which they are tried.

1. the executable that `idaes get-extensions` installs (idaes.bin_directory)
2. `ipopt` on the PATH
3. the Ipopt bundled with CasADi, which is always there
"""

from __future__ import annotations

import functools
import shutil
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path


@dataclass(frozen=True)
class IpoptRoute:
    """A way to Ipopt."""

    executable: Path | None  # None is the library in CasADi
    description: str
    missing: str = ""  # how to get it, where it is missing


def find_ipopt() -> IpoptRoute:
    """Return the first route to Ipopt that is not missing."""
    return next(route for route in ipopt_routes() if not route.missing)


def ipopt_routes() -> list[IpoptRoute]:
    """Return the three routes in order, found or missing."""
    folder, reason = _idaes_bin_directory()
    found = shutil.which("ipopt", path=str(folder)) if folder is not None else None
    first = IpoptRoute(
        None,
        "executable of idaes get-extensions",
        missing=reason or "idaes get-extensions (it downloads)",
    )
    if found:
        first = IpoptRoute(Path(found), f"executable of idaes get-extensions ({found})")
    found = shutil.which("ipopt")
    second = IpoptRoute(
        None, "executable on the PATH", missing="put a folder with ipopt on the PATH"
    )
    if found:
        second = IpoptRoute(Path(found), f"executable on the PATH ({found})")
    return [first, second, IpoptRoute(None, f"bundled with CasADi {version('casadi')}")]


@functools.cache  # a second import after a failed one would fail for another reason
def _idaes_bin_directory() -> tuple[Path | None, str]:
    """Return the folder of idaes's executables, or None and, where idaes itself fails, why."""
    try:
        from idaes.config import bin_directory
    except ModuleNotFoundError as error:
        return None, f"pip install idaes-pse ({error})"
    # Importing idaes makes folders in the user's home, which may be missing or not writable.
    except Exception as error:
        return (
            None,
            f"idaes does not start ({type(error).__name__}: {error}); set HOME or IDAES_DATA to a "
            "writable folder",
        )
    # idaes has no folder at all where it finds no home.
    folder = None if bin_directory is None else Path(bin_directory)
    return (folder, "") if folder is not None and folder.is_dir() else (None, "")
