"""The branch limit of the paper setting: the load that the optimum sheds at each of several limits.

    python studies/evidence/calibrate_paper_limit.py bus69_zhou --limits-mw 1.5 1.6 1.7

Zhou et al. 2024 do not publish their limits. In their Table 1 about 0.21 +- 0.02 of the load is
shed on average. A feeder's `paper_limit_mw` (meta.json) is the limit at which the optimum sheds as
much. The paper's load data are the hourly file of ISO New England for 2022 (--profiles FILE); the
default is the bundled year. Every tie state is tried, each with its least shedding by AC power
flow.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np
from rich.console import Console
from rich.table import Table

from feederguard.data.networks import load_network
from feederguard.data.profiles import load_profiles
from feederguard.data.sampling import sample_scenarios
from feederguard.models.load_transfer import judge
from feederguard.models.switching.plans import SwitchPlans
from feederguard.models.switching.search import search_plans


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the calibration as a program."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("feeder", help="bundled feeder by name, or a path to one")
    parser.add_argument(
        "--limits-mw", type=float, nargs="+", required=True, help="limits to try, MW"
    )
    parser.add_argument(
        "--profiles", default="simbench_2016", help="bundled year by name, or a load file"
    )
    parser.add_argument(
        "--scenarios", type=int, default=300, help="random faults in test weeks (default: 300)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the scenarios (default: 0)")
    options = parser.parse_args(arguments)
    table = Table(
        "limit MW", "mean shed ratio", "mean cost", "operations", "safe %", "without a safe state"
    )
    network = load_network(options.feeder)
    sampled = sample_scenarios(
        network, load_profiles(options.profiles), options.scenarios, options.seed
    )
    for limit in options.limits_mw:
        limited = network.with_changes(paper_limit_mw=limit)
        plans = SwitchPlans(limited, "paper")
        fewest = 2 ** int(plans.switchable.sum() - 1)
        if fewest > len(plans.plain(int(sampled.scenarios.fault[0]))):
            parser.error(f"{network.name} has too many ties to try every state of them")
        found = search_plans(plans, sampled.scenarios)
        outcome = judge(limited, sampled.scenarios, found.decisions, "paper")
        table.add_row(
            f"{limit:g}",
            f"{outcome.shed_ratio.mean():.3f}",
            f"{outcome.cost.mean():.1f}",
            f"{outcome.n_operations.mean():.2f}",
            f"{100 * outcome.safe.mean():.1f}",
            str(int(np.isinf(found.cost).sum())),
        )
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
