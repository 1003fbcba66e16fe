"""What a study ran on and with, so that others can run it again and compare its times."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from feederguard.studies.running.cores import n_cores

PACKAGES = (
    "feederguard",
    "numpy",
    "scipy",
    "numba",
    "pandas",
    "pyomo",
    "highspy",
    "pyscipopt",
    "casadi",
    "torch",
    "gymnasium",
    "stable-baselines3",
    "pymoo",
    "pandapower",
    "plotly",
)


@dataclass(frozen=True)
class Provenance:
    """Command, seed, versions and machine of one run."""

    command: str
    seed: str  # one seed, or what the seeds are
    packages: tuple[tuple[str, str], ...]  # name and version of each that is installed
    python: str
    system: str
    cpu: str
    cores: int  # that this process may use
    memory_gib: float  # NaN where the system does not say
    date: str  # UTC, to the minute

    def lines(self) -> list[tuple[str, str]]:
        """Return each fact as a name and a value, but for the command."""
        memory = (
            "not told by the system"
            if self.memory_gib != self.memory_gib
            else f"{self.memory_gib:.1f} GiB"
        )
        return [
            ("seed", self.seed),
            ("date", self.date),
            ("processor", f"{self.cpu}, {self.cores} core(s) usable"),
            ("memory", memory),
            ("system", self.system),
            ("Python", self.python),
            ("packages", ", ".join(f"{name} {number}" for name, number in self.packages)),
        ]


def find_provenance(seed: int | str, arguments: Sequence[str] | None = None) -> Provenance:
    """Return the provenance of this process.

    arguments: the command line, program first; default: that of this process.
    """
    return Provenance(
        command=command_line(sys.argv if arguments is None else arguments),
        seed=str(seed),
        packages=tuple((name, found) for name in PACKAGES if (found := _version(name))),
        python=f"{platform.python_implementation()} {platform.python_version()}",
        system=f"{platform.system()} {platform.machine()}",
        cpu=_cpu(),
        cores=n_cores(),
        memory_gib=_memory_gib(),
        date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )


def command_line(arguments: Sequence[str]) -> str:
    """Return a command to paste into a shell: `python studies/x.py ...` or a console command.

    A program under the current folder is named relative to it.
    """
    program, *rest = arguments
    path = Path(program)
    if path.suffix == ".py":
        inside = path.resolve().is_relative_to(Path.cwd())
        words = ["python", str(path.resolve().relative_to(Path.cwd()) if inside else path)]
    else:
        words = [path.name]
    return shlex.join([*words, *rest])


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _cpu() -> str:
    """Return the processor's name; only Linux has a file that tells it."""
    try:
        told = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        told = ""
    for line in told.splitlines():
        if line.lower().startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine() or "not told by the system"


def _memory_gib() -> float:
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30)
    except (AttributeError, ValueError, OSError):
        return float("nan")
