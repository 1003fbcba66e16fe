"""The exact load-transfer methods on ieee33: proof times, and agreement of solvers and models.

    python studies/benchmarks/load_transfer.py radial    all 31 faults at nominal load, by SCIP
    python studies/benchmarks/load_transfer.py outer     HiGHS outer approximation beside SCIP
    python studies/benchmarks/load_transfer.py paper     MISOCP beside the enumerated AC optimum

Every decision is judged by the AC power flow before any repair; the worst violation is printed. The
last part takes 50 random scenarios.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from time import perf_counter

import numpy as np
import pyomo.environ as pyo
from rich.console import Console
from rich.table import Table

from feederguard.baselines.enumeration import TieEnumeration
from feederguard.baselines.misocp import Misocp, read_decision
from feederguard.data.networks import load_network
from feederguard.data.profiles import load_profiles
from feederguard.data.sampling import sample_scenarios
from feederguard.models.load_transfer import judge, make_scenarios
from feederguard.models.load_transfer.setting import faultable_branches
from feederguard.models.network import Network
from feederguard.models.reconfiguration import build_load_transfer
from feederguard.models.solver import Solution, solve


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark as a program."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=("radial", "outer", "paper"))
    parser.add_argument("--scenarios", type=int, default=50, help="of the paper part (default: 50)")
    parser.add_argument(
        "--profiles", default="simbench_2016", help="of the paper part: a bundled year or a file"
    )
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    network = load_network("ieee33")
    console = Console(width=110)
    if options.part == "paper":
        _paper(network, options.profiles, options.scenarios, options.seed, console)
    else:
        _radial(network, options.part == "outer", console)


def _radial(network: Network, with_outer: bool, console: Console) -> None:
    table = Table(
        "lost",
        "cost",
        "bound",
        "oper.",
        "shed %",
        "cone gap",
        "AC violation",
        "SCIP s",
        "outer cost",
        "outer s",
    )
    seconds, outer_seconds, differences = [], [], []
    for fault in faultable_branches(network).tolist():
        scenario = make_scenarios(network, fault)
        model = build_load_transfer(network, scenario, "radial")
        solution = solve(model, "scip", time_limit_s=120.0, rel_gap=1e-4)
        outcome = judge(network, scenario, read_decision(model, scenario), "radial")
        seconds.append(solution.seconds)
        outer: Solution | None = None
        if with_outer:
            outer = solve(
                build_load_transfer(network, scenario, "radial"),
                "highs_outer_approximation",
                300.0,
                1e-4,
            )
            outer_seconds.append(outer.seconds)
            differences.append(abs(outer.objective / solution.objective - 1))
        table.add_row(
            network.branch_name[fault],
            f"{outcome.cost[0]:.3f}",
            f"{solution.bound:.3f}",
            str(outcome.n_operations[0]),
            f"{100 * outcome.shed_ratio[0]:.2f}",
            f"{_cone_gap(model, network):.1e}",
            f"{outcome.worst_violation[0]:.1e}",
            f"{solution.seconds:.2f}",
            "" if outer is None else f"{outer.objective:.3f}",
            "" if outer is None else f"{outer.seconds:.2f}",
        )
    console.print(table)
    console.print(
        f"SCIP: {len(seconds)} faults, median {np.median(seconds):.2f} s, worst {max(seconds):.2f} "
        "s"
    )
    if with_outer:
        console.print(
            f"HiGHS outer approximation: median {np.median(outer_seconds):.2f} s, worst "
            f"{max(outer_seconds):.2f} s, largest relative difference of objective "
            f"{max(differences):.1e}"
        )


def _cone_gap(model: pyo.ConcreteModel, network: Network) -> float:
    """Return the largest |P^2 + Q^2 - w ell / t^2| of a solved model, pu^2."""
    near = [
        pyo.value(model.w[int(network.from_bus[b])]) / network.tap[b] ** 2 for b in model.branch
    ]
    return max(
        float(
            abs(
                pyo.value(model.P[b]) ** 2
                + pyo.value(model.Q[b]) ** 2
                - near[b] * pyo.value(model.ell[b])
            )
        )
        for b in model.branch
    )


def _paper(network: Network, profiles: str, count: int, seed: int, console: Console) -> None:
    scenarios = sample_scenarios(network, load_profiles(profiles), count, seed).scenarios
    lines = []
    for method in (TieEnumeration(network, "paper"), Misocp(network, "paper", time_limit_s=60.0)):
        begin = perf_counter()
        decisions = method.decide(scenarios)
        seconds = (perf_counter() - begin) / count
        outcome = judge(network, scenarios, decisions, "paper")
        lines.append(
            (method.name, outcome, seconds, sum(report.repaired for report in method.reports))
        )
    table = Table(
        "method", "mean cost", "mean shed ratio", "operations", "safe %", "repaired", "s/scenario"
    )
    for name, outcome, seconds, repaired in lines:
        table.add_row(
            name,
            f"{outcome.cost.mean():.2f}",
            f"{outcome.shed_ratio.mean():.4f}",
            f"{outcome.n_operations.mean():.2f}",
            f"{100 * outcome.safe.mean():.1f}",
            str(repaired),
            f"{seconds:.2f}",
        )
    console.print(table)
    difference = lines[1][1].cost / lines[0][1].cost - 1
    console.print(
        f"MISOCP over enumeration, {count} scenarios: mean {100 * difference.mean():.3f} %, worst "
        f"{100 * difference.max():.3f} %, best {100 * difference.min():.3f} %, "
        f"{int((np.abs(difference) < 1e-3).sum())} of {count} within 0.1 %"
    )


if __name__ == "__main__":
    main()
