"""How far a lower bound of the cost lies below the best known decision, after every fault.

    python studies/benchmarks/bounds.py bus69 synthetic:3 --load 1.3 --every 4

A feeder is bundled, a path, or synthetic:SEED. The decision is that of the plan search, so a gap
holds what the search leaves as well as what the bound does. Gaps are relative to the cost. A bound
above a safe decision would be an error, and stops the program.
"""

from __future__ import annotations

import argparse
from time import process_time

import numpy as np
from rich.console import Console
from rich.table import Table

from feederguard.baselines.plan_search import PlanSearch
from feederguard.data.networks import load_network
from feederguard.data.synthetic import synthetic_feeder
from feederguard.models.arrays import FloatArray
from feederguard.models.bounds import CostBound
from feederguard.models.load_transfer import judge, make_scenarios
from feederguard.models.network import Network

KNOWN = 1.02  # times the cost
# The judge accepts a little outside each limit, a bound that much above the decision.
TOLERANCE = 1e-4


def main() -> None:
    """Run the benchmark as a program."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("feeders", nargs="+")
    parser.add_argument("--load", type=float, default=1.0)
    parser.add_argument("--every", type=int, default=1, help="take every so many-th branch")
    parser.add_argument("--time-limit-s", type=float, default=10.0)
    options = parser.parse_args()
    table = Table("feeder", "faults", "median %", "90 % below", "worst %", "CPU s", "wall s, most")
    for name in options.feeders:
        seed = name.removeprefix("synthetic:")
        network = load_network(name) if seed == name else synthetic_feeder(int(seed))
        gaps, seconds, wall = measure(network, options.load, options.every, options.time_limit_s)
        shown = [f"{100 * value:.2f}" for value in np.quantile(gaps, [0.5, 0.9, 1.0])]
        table.add_row(name, str(len(gaps)), *shown, f"{seconds.mean():.1f}", f"{wall.max():.1f}")
    Console(width=100).print(table)


def measure(
    network: Network, load: float, every: int, time_limit_s: float
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return gap, seconds of CPU and of the clock for the bound of each fault with a safe decision.

    load: times the nominal. Raises RuntimeError where a bound is above a safe decision.
    """
    p_load = load * np.maximum(network.p_load, 0.0)
    faults = np.flatnonzero(network.closed)[::every]
    scenarios = make_scenarios(network, faults, p_load, load * network.q_load)
    decisions = PlanSearch(network, "radial").decide(scenarios)
    outcomes, bound = judge(network, scenarios, decisions, "radial"), CostBound(network, "radial")
    rows = []
    for k in np.flatnonzero(outcomes.safe).tolist():
        cost, begin = float(outcomes.cost[k]), process_time()
        # A little more than the cost is given as known, so that a wrong bound would show.
        found = bound.bound(scenarios[k : k + 1], KNOWN * cost, time_limit_s)
        if found.value > cost * (1 + TOLERANCE) + 1e-9:
            raise RuntimeError(
                f"{network.name}, fault {network.branch_name[faults[k]]!r}: bound {found.value:g} "
                f"above the safe decision of {cost:g}; report it with the feeder"
            )
        gap = (cost - max(found.value, 0.0)) / cost if cost > 0 else 0.0
        rows.append((gap, process_time() - begin, found.seconds))
    gaps, seconds, wall = np.array(rows).T
    return gaps, seconds, wall


if __name__ == "__main__":
    main()
