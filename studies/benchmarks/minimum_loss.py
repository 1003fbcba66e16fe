"""Minimum-loss reconfiguration against the published optima: loss, bound, gap and time.

    python studies/benchmarks/minimum_loss.py --feeders ieee33 bus69 --time-limit-s 60

The solver starts without an incumbent. Where it stops at the time limit, incumbent and bound are
reported as they are. Beside them stands the loss of branch exchange
(`baselines/branch_exchange.py`), which is quick and proves nothing.
"""

from __future__ import annotations

import argparse
from time import perf_counter

import numpy as np
import pyomo.environ as pyo
from rich.console import Console
from rich.table import Table

from feederguard.baselines.branch_exchange import branch_exchange
from feederguard.data.networks import load_network
from feederguard.models.power_flow import solve_power_flow
from feederguard.models.reconfiguration import build_loss_reconfiguration
from feederguard.models.solver import NotSolvedError, solve

# Published optima in kW, all lines switchable; sources in the feeders' meta.json.
PUBLISHED_KW = {"ieee33": 139.551, "bus69": 98.605, "mantovani136": 280.193}


def main() -> None:
    """Run the benchmark as a program."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--feeders", nargs="+", default=list(PUBLISHED_KW))
    parser.add_argument("--time-limit-s", type=float, default=60.0)
    options = parser.parse_args()
    table = Table(
        "feeder",
        "published kW",
        "MISOCP, AC kW",
        "bound kW",
        "gap %",
        "s",
        "exchange kW",
        "exchange s",
    )
    for name in options.feeders:
        network = load_network(name)
        begin = perf_counter()
        exchanged = branch_exchange(network)
        exchange_s = perf_counter() - begin
        model = build_loss_reconfiguration(network)
        try:
            solution = solve(model, time_limit_s=options.time_limit_s, accept_incumbent=True)
            closed = np.array([pyo.value(model.y[b]) > 0.5 for b in model.branch])
            loss = f"{1e3 * solve_power_flow(network, closed=closed).loss_mw:.3f}"
        except NotSolvedError as error:
            solution, loss = error.solution, "none found"
        table.add_row(
            name,
            f"{PUBLISHED_KW[name]:.3f}" if name in PUBLISHED_KW else "-",
            loss,
            f"{solution.bound:.3f}",
            f"{100 * solution.gap:.3f}",
            f"{solution.seconds:.1f}",
            f"{1e3 * solve_power_flow(network, closed=exchanged).loss_mw:.3f}",
            f"{exchange_s:.2f}",
        )
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
