"""Our batched power flow beside power-grid-model's, in one run, on the same scenarios of ieee33.

    pip install -e ".[bench]"
    python studies/benchmarks/power_flow.py [--scenarios 4096] [--threads 2] [--rounds 7]

Two jobs: every scenario on the normal topology, and every scenario on its own random radial
topology. power-grid-model runs with each of its two iterative methods, node results only, and the
faster one counts. Both solve to 1e-8 pu, and the voltages are compared. Rounds alternate and the
median of each is reported, so that a noisy machine changes the ratio little.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
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

LINE_ID, LOAD_ID = 1000, 5000  # of the first line and load in power-grid-model


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark as a program."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scenarios", type=int, default=4096)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args(arguments)
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
    # A random tree can be too long for its load. The loads of such scenarios are reduced, for both
    # programs alike, until both solve them.
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
    """Return a call of power-grid-model that gives the voltages of all scenarios, (B, n_bus) pu."""
    from power_grid_model import CalculationMethod, ComponentType, PowerGridModel

    model = PowerGridModel(_peer_grid(network))
    update = _peer_update(network, p, q, closed)

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


def _peer_grid(network: Network) -> dict[Any, Any]:
    """Return the feeder as power-grid-model reads it, without load."""
    from power_grid_model import ComponentType, LoadGenType

    n_bus, n_branch = network.n_bus, network.n_branch
    z_base = network.vn_kv[network.from_bus] ** 2 / network.base_mva
    status = network.closed.astype(np.int8)
    return {
        ComponentType.node: _peer_array(
            "input", "node", n_bus, id=np.arange(n_bus), u_rated=1e3 * network.vn_kv
        ),
        ComponentType.line: _peer_array(
            "input",
            "line",
            n_branch,
            id=LINE_ID + np.arange(n_branch),
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
        ComponentType.sym_load: _peer_array(
            "input",
            "sym_load",
            n_bus,
            id=LOAD_ID + np.arange(n_bus),
            node=np.arange(n_bus),
            status=1,
            type=LoadGenType.const_power,
            p_specified=0.0,
            q_specified=0.0,
        ),
        # A short-circuit power so large that the source is a fixed voltage.
        ComponentType.source: _peer_array(
            "input", "source", 1, id=9000, node=network.substation, status=1, u_ref=1.0, sk=1e20
        ),
    }


def _peer_update(
    network: Network, p: FloatArray, q: FloatArray, closed: BoolArray | None
) -> dict[Any, Any]:
    """Return the loads and switch states of all scenarios as power-grid-model reads them."""
    from power_grid_model import ComponentType

    watts = 1e6 * network.base_mva
    update = {
        ComponentType.sym_load: _peer_array(
            "update",
            "sym_load",
            p.shape,
            id=LOAD_ID + np.arange(network.n_bus),
            p_specified=watts * p,
            q_specified=watts * q,
        )
    }
    if closed is not None:
        update[ComponentType.line] = _peer_array(
            "update",
            "line",
            (len(p), network.n_branch),
            id=LINE_ID + np.arange(network.n_branch),
            from_status=closed.astype(np.int8),
            to_status=closed.astype(np.int8),
        )
    return update


def _peer_array(kind: str, component: str, shape: Any, **columns: Any) -> Any:
    """Return an array of power-grid-model's with these columns filled."""
    from power_grid_model import ComponentType, DatasetType, initialize_array

    made = initialize_array(DatasetType[kind], ComponentType[component], shape)
    for name, value in columns.items():
        made[name] = value
    return made


if __name__ == "__main__":
    main()
