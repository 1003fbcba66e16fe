"""The console command `feederguard`: the programs of this folder under one name.

    feederguard compare     compare methods of both jobs         python studies/compare_methods.py
    feederguard n-1         switching sheet for every fault      python studies/n_minus_1.py
    feederguard scaling     time, gap, memory by feeder size     python studies/scaling.py
    feederguard train       train an agent on a feeder           python studies/train.py
    feederguard networks    the bundled feeders
    feederguard solvers     solvers, installed and not           python -m feederguard.models.solver

Each has --help. A program is imported only when it is run, so that this page appears at once.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib import import_module

PROGRAMS = {
    "compare": "feederguard.studies.compare_methods",
    "n-1": "feederguard.studies.n_minus_1",
    "scaling": "feederguard.studies.scaling",
    "train": "feederguard.studies.train",
    "networks": "feederguard.studies.listings:networks",
    "solvers": "feederguard.studies.listings:solvers",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program named first on the command line and return its exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in ("-h", "--help"):
        print(__doc__)
        return 0 if given else 2
    if given[0] not in PROGRAMS:
        print(f"error: unknown command {given[0]!r}; use {', '.join(PROGRAMS)}", file=sys.stderr)
        return 2
    module, _, function = PROGRAMS[given[0]].partition(":")
    program: Callable[[Sequence[str]], int] = getattr(import_module(module), function or "main")
    return program(given[1:])
