"""Tuning of the genetic algorithm on train weeks: mean cost and time of each configuration.

    python studies/evidence/tune_genetic.py [--feeder ieee33] [--scenarios 16] [--seed 100]

All configurations have the same number of fitness evaluations. The mean cost of a row is divided by
that of the best row of its setting. The defaults of `GeneticConfig` are the row with the lowest
average of this ratio over the two settings, with --scenarios 10.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from time import perf_counter

from rich.console import Console
from rich.table import Table

from feederguard.baselines.genetic import Genetic, GeneticConfig
from feederguard.data.networks import load_network
from feederguard.data.profiles import load_profiles
from feederguard.data.sampling import sample_scenarios
from feederguard.models.load_transfer import judge
from feederguard.models.load_transfer.setting import PUBLISHED, SETTING_NAMES

GRID = tuple(
    GeneticConfig(population, 10_000 // population, crossover_eta, 15.0, mutations)
    for population in (50, 100, 200)
    for crossover_eta in (3.0, 10.0)
    for mutations in (1.0, 2.0, 4.0)
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the tuning as a program."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--feeder", default="ieee33")
    parser.add_argument("--scenarios", type=int, default=16)
    parser.add_argument("--seed", type=int, default=100)
    parser.add_argument("--settings", nargs="+", choices=SETTING_NAMES, default=PUBLISHED)
    options = parser.parse_args(arguments)
    network = load_network(options.feeder)
    scenarios = sample_scenarios(
        network, load_profiles(), options.scenarios, options.seed, weeks="train"
    ).scenarios
    console = Console(width=110)
    for setting in options.settings:
        table = Table(
            *asdict(GRID[0]),
            "mean cost",
            "safe %",
            "s/scenario",
            title=f"{options.feeder}, {setting} setting",
        )
        for config in GRID:
            begin = perf_counter()
            decisions = Genetic(network, setting, config).decide(scenarios)
            seconds = (perf_counter() - begin) / options.scenarios
            outcome = judge(network, scenarios, decisions, setting)
            table.add_row(
                *(f"{value:g}" for value in asdict(config).values()),
                f"{outcome.cost.mean():.2f}",
                f"{100 * outcome.safe.mean():.1f}",
                f"{seconds:.2f}",
            )
        console.print(table)


if __name__ == "__main__":
    main()
