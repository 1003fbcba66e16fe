"""Two small tables: the bundled feeders, and the solvers on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rich.table import Table

from feederguard.data.networks import list_networks, load_network
from feederguard.data.voltage_cases import list_voltage_cases
from feederguard.models.solver import print_solvers
from feederguard.studies.running.command_line import console_of, parse_options


@dataclass(frozen=True)
class NetworksConfig:
    """Print the bundled feeders: size, load, and the jobs each has data for."""


def networks(arguments: Sequence[str] | None = None) -> int:
    """Print the table and return 0."""
    parse_options(NetworksConfig, arguments, "feederguard networks")
    table = Table(
        "feeder", "buses", "lines", "transformers", "ties", "load, MW", "load, Mvar", "jobs"
    )
    for name in list_networks():
        network = load_network(name)
        kinds = [network.kind.count(kind) for kind in ("line", "trafo", "tie")]
        p, q = (network.base_mva * float(np.sum(x)) for x in (network.p_load, network.q_load))
        jobs = ["radial transfer"] * bool(kinds[2]) + ["paper transfer"] * bool(
            np.isfinite(network.paper_limit_mw)
        )
        jobs += ["voltage"] * (name in list_voltage_cases())
        table.add_row(
            name,
            str(network.n_bus),
            *map(str, kinds),
            f"{p:.3f}",
            f"{q:.3f}",
            ", ".join(jobs) or "power flow",
        )
    console_of(110).print(table)
    return 0


@dataclass(frozen=True)
class SolversConfig:
    """Print which solvers are installed, and how to get the others."""


def solvers(arguments: Sequence[str] | None = None) -> int:
    """Print the table and return 0."""
    parse_options(SolversConfig, arguments, "feederguard solvers")
    print_solvers()
    return 0
