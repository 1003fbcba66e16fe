"""Time our batched power flow against power-grid-model's, in one run, on the same scenarios of
ieee33.

    pip install -e ".[bench]"
    python studies/benchmarks/power_flow.py [--scenarios 4096] [--threads 2] [--rounds 7]

Two jobs: every scenario on the normal topology, and every scenario on its own random radial
topology. The peer runs with each of its two iterative methods, node results only, the faster one
counting; both solve to 1e-8 pu, and the voltages are compared. Rounds alternate, the median of each
is reported, so the ratio survives a noisy machine.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from time import perf_counter
from typing import Any

import numba
import numpy as np
from rich.console import Console
from rich.table import Table

from feederguard.data.networks import load_network
from feederguard.models.arrays import BoolArray, FloatArray
from feederguard.models.network import Network
from feederguard.models.power_flow import solve_power_flow
from feederguard.models.switching.forests import spanning_forests


def main() -> None:
    """Run the benchmark as a program."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scenarios", type=int, default=4096)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    try:
        import power_grid_model  # noqa: F401
    except ImportError:
        raise SystemExit(
            'this benchmark measures against power-grid-model: pip install -e ".[bench]"'
        ) from None
    numba.set_num_threads(min(options.threads, numba.config.NUMBA_NUM_THREADS))
    network = load_network("ieee33")
    rng = np.random.default_rng(0)
    scale = rng.uniform(0.3, 1.0, (options.scenarios, network.n_bus))
    p, q = scale * network.p_load, scale * network.q_load
    usable = np.ones((options.scenarios, network.n_branch), dtype=bool)
    radial = spanning_forests(
        network,
        np.asarray(rng.uniform(size=usable.shape)),
        usable,
        np.zeros(network.n_branch, dtype=bool),
    )
    # A random tree can be too long for its load: lighten such scenarios, for both alike, until
    # either method solves them.
    for _ in range(6):
        flow = solve_power_flow(network, p, q, radial)
        deep = ~(flow.v_min_pu > 0.8)
        p[deep], q[deep] = 0.7 * p[deep], 0.7 * q[deep]
    table = Table(
        "job", "ours, 1/s", "power-grid-model, 1/s", "its method", "ratio", "largest difference, pu"
    )
    for job, closed in (("one topology", None), ("own radial topology", radial)):
        table.add_row(job, *_compare(network, p, q, closed, options.threads, options.rounds))
    Console(width=110).print(table)


def _compare(
    network: Network,
    p: FloatArray,
    q: FloatArray,
    closed: BoolArray | None,
    threads: int,
    rounds: int,
) -> tuple[str, ...]:
    peers = {
        name: _peer(network, p, q, closed, threads, name)
        for name in ("iterative_current", "newton_raphson")
    }
    runs: dict[str, Callable[[], Any]] = {
        "ours": lambda: solve_power_flow(network, p, q, closed).voltage,
        **peers,
    }
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    answers = {name: run() for name, run in runs.items()}
    for _ in range(rounds):
        for name, run in runs.items():
            begin = perf_counter()
            run()
            seconds[name].append(perf_counter() - begin)
    rate = {name: len(p) / float(np.median(times)) for name, times in seconds.items()}
    best = max(peers, key=lambda name: rate[name])
    difference = np.abs(np.abs(answers["ours"]) - answers[best]).max()
    return (
        f"{rate['ours']:,.0f}",
        f"{rate[best]:,.0f}",
        best,
        f"{rate['ours'] / rate[best]:.1f}",
        f"{difference:.1e}",
    )


def _peer(
    network: Network,
    p: FloatArray,
    q: FloatArray,
    closed: BoolArray | None,
    threads: int,
    method: str,
) -> Callable[[], FloatArray]:
    from power_grid_model import (
        CalculationMethod,
        ComponentType,
        DatasetType,
        LoadGenType,
        PowerGridModel,
        initialize_array,
    )

    def array(kind: Any, component: Any, shape: Any, **columns: Any) -> Any:
        made = initialize_array(kind, component, shape)
        for name, value in columns.items():
            made[name] = value
        return made

    n_bus, n_branch = network.n_bus, network.n_branch
    z_base = network.vn_kv[network.from_bus] ** 2 / network.base_mva
    status = network.closed.astype(np.int8)
    line_id, load_id = 1000 + np.arange(n_branch), 5000 + np.arange(n_bus)
    grid = {
        ComponentType.node: array(
            DatasetType.input,
            ComponentType.node,
            n_bus,
            id=np.arange(n_bus),
            u_rated=1e3 * network.vn_kv,
        ),
        ComponentType.line: array(
            DatasetType.input,
            ComponentType.line,
            n_branch,
            id=line_id,
            from_node=network.from_bus,
            to_node=network.to_bus,
            from_status=status,
            to_status=status,
            r1=network.r * z_base,
            x1=network.x * z_base,
            c1=0.0,
            tan1=0.0,
            i_n=1e3,
        ),
        ComponentType.sym_load: array(
            DatasetType.input,
            ComponentType.sym_load,
            n_bus,
            id=load_id,
            node=np.arange(n_bus),
            status=1,
            type=LoadGenType.const_power,
            p_specified=0.0,
            q_specified=0.0,
        ),
        # A short-circuit power that makes the source a fixed voltage.
        ComponentType.source: array(
            DatasetType.input,
            ComponentType.source,
            1,
            id=9000,
            node=network.substation,
            status=1,
            u_ref=1.0,
            sk=1e20,
        ),
    }
    model = PowerGridModel(grid)
    shape = p.shape
    watts = 1e6 * network.base_mva
    update = {
        ComponentType.sym_load: array(
            DatasetType.update,
            ComponentType.sym_load,
            shape,
            id=load_id,
            p_specified=watts * p,
            q_specified=watts * q,
        )
    }
    if closed is not None:
        update[ComponentType.line] = array(
            DatasetType.update,
            ComponentType.line,
            (shape[0], n_branch),
            id=line_id,
            from_status=closed.astype(np.int8),
            to_status=closed.astype(np.int8),
        )

    def run() -> FloatArray:
        output = model.calculate_power_flow(
            update_data=update,
            threading=threads,
            calculation_method=CalculationMethod[method],
            error_tolerance=1e-8,
            max_iterations=100,
            output_component_types=[ComponentType.node],
        )
        return np.asarray(output[ComponentType.node]["u_pu"])

    return run


if __name__ == "__main__":
    main()
