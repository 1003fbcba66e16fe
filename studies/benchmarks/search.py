"""The search for switch plans against the best decisions known, at several limits of time.

    python studies/benchmarks/search.py --feeders mantovani136 --limits-s 0.05 1

The reference is `search_reference.csv`: the best that long searches found, for a sample of faults
of bundled feeders at several loads in the radial setting. It is no proven optimum. Where a run here
finds better, its ratio is below 1. `--improve-s 60` searches for so long a fault and writes what is
cheaper into the reference.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, process_time

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from feederguard.data.networks import load_network
from feederguard.models.load_transfer import Scenarios, make_scenarios
from feederguard.models.switching.plans import SwitchPlans
from feederguard.models.switching.search import search_plans

REFERENCE = Path(__file__).with_name("search_reference.csv")


@dataclass(frozen=True)
class Cost:
    """What one run of all faults of a feeder at one load came to."""

    ratio: float  # of the totals, to the reference
    worst: float  # of one fault
    n_flows: float  # of each fault, mean
    cpu_ms: float  # mean
    wall_ms: float  # mean
    longest_ms: float


def main() -> None:
    """Run the benchmark as a program."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    known = pd.read_csv(REFERENCE, dtype={"fault": str})
    parser.add_argument("--feeders", nargs="+", default=list(known["feeder"].unique()))
    parser.add_argument("--loads", nargs="+", type=float, default=list(known["load"].unique()))
    parser.add_argument("--limits-s", nargs="+", type=float, default=[0.05, 1.0])
    parser.add_argument("--improve-s", type=float)
    options = parser.parse_args()
    table = Table("feeder", "load", "faults", "limit s", "total / best", "worst", "flows")
    for column in ("cpu ms", "wall ms", "longest ms"):
        table.add_column(column)
    chosen = known["feeder"].isin(options.feeders) & known["load"].isin(options.loads)
    for (name, load), part in known[chosen].groupby(["feeder", "load"], sort=False):
        plans, scenarios = case(str(name), float(str(load)), part["fault"].tolist())
        if options.improve_s:
            found = search_plans(plans, scenarios, beam=8, time_limit_s=options.improve_s)
            known.loc[part.index, "cost"] = np.minimum(part["cost"], found.cost.round(4))
            known.to_csv(REFERENCE, index=False)
            continue
        for limit in (*options.limits_s, None):
            cost = measure(plans, scenarios, part["cost"].to_numpy(), limit)
            table.add_row(
                str(name),
                f"{load:g}",
                str(len(part)),
                "default" if limit is None else f"{limit:g}",
                f"{cost.ratio:.4f}",
                f"{cost.worst:.3f}",
                f"{cost.n_flows:.0f}",
                f"{cost.cpu_ms:.0f}",
                f"{cost.wall_ms:.0f}",
                f"{cost.longest_ms:.0f}",
            )
    Console(width=110).print(table)


def case(name: str, load: float, faults: list[str]) -> tuple[SwitchPlans, Scenarios]:
    """Return the plans of a feeder at `load` times its load, radial, and a scenario a fault."""
    network = load_network(name)
    changed = {"p_load": load * network.p_load, "q_load": load * network.q_load}
    network = network.with_changes(**changed)
    plans = SwitchPlans(network, "radial")
    # Compiled code is loaded before anything is timed.
    search_plans(plans, make_scenarios(network, faults), time_limit_s=0.01)
    return plans, make_scenarios(network, faults)


def measure(
    plans: SwitchPlans, scenarios: Scenarios, best: np.ndarray, limit: float | None
) -> Cost:
    """Return what the search comes to, fault by fault, against the best costs known, (B,)."""
    costs, n_flows, cpu, wall = [], [], [], []
    for k in range(len(scenarios)):
        begin, cpu_begin = perf_counter(), process_time()
        found = search_plans(plans, scenarios[k : k + 1], time_limit_s=limit)
        wall.append(perf_counter() - begin)
        cpu.append(process_time() - cpu_begin)
        costs.append(found.cost[0])
        n_flows.append(found.n_flows[0])
    cost = np.array(costs)
    with np.errstate(invalid="ignore"):
        ratio = np.where(best > 0, cost / best, np.where(cost > 0, np.inf, 1.0))
    total = float(cost.sum() / best.sum()) if best.sum() > 0 else float(ratio.max())
    return Cost(
        total,
        float(ratio.max()),
        float(np.mean(n_flows)),
        1e3 * float(np.mean(cpu)),
        1e3 * float(np.mean(wall)),
        1e3 * max(wall),
    )


if __name__ == "__main__":
    main()
