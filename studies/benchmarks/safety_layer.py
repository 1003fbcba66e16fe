"""Time and accuracy of the safety layer, in one run.

    python studies/benchmarks/safety_layer.py [--items 2000] [--rounds 15] [--threads 2]

The projections are those of `safety_items.py`. Printed are

- for 1 and for `--threads` threads, the rate in batches of 1024 items, the same states and
  proposals for all:
    - kernel: the projection alone, its limits computed before and drawn at random;
    - project_batch: limits and intervals computed from states, inputs checked;
    - correct: what acting costs, from states, linearised again if needed, with AC certificates;
    - project, project_ac: forward plus backward through torch, beside the kernels' own;
- DAQP in a loop on the kernel's items (without soft rows), and the Pyomo model built and solved
  each time;
- the worst difference to independent solvers over `--items` projections: HiGHS on the Pyomo model,
  and DAQP;
- one projection with its AC check, random items: median and 99th percentile;
- one safe decision on the bundled case: policy, SOC tube, projection and AC check, one state at a
  time, over all states of the test days and over those in which idle batteries leave the band;
- a feeder at deep sag (`deep_sag.py`).

Rounds are timed one by one, and the median is reported. The policy of the decisions is the trained
`df_srl` of the study with seed 0, inside its SOC tube, from `--agents-cache`. If the cache has
none, an untrained policy of the same size is timed, and the line says so.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter

import numba
import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from feederguard.agents.safety_layer import SafetyLayer
from feederguard.agents.voltage_agent import VoltageAgent, VoltageAgentConfig
from feederguard.data.voltage_cases import load_voltage_case
from feederguard.models.arrays import BoolArray, IntArray
from feederguard.models.battery import Batteries
from feederguard.models.network import Network
from feederguard.models.safety_qp.matrices import SafetyMatrices, safety_matrices
from feederguard.models.safety_qp.projection import SLACK, TIGHT, pull_back
from feederguard.models.soc_tube import compute_soc_tube
from feederguard.models.voltage_regulation import VoltageDays, VoltageState, simulate
from feederguard.models.voltage_regulation.demand import net_demand
from feederguard.models.voltage_regulation.judge import SAFE_TOLERANCE_PU
from feederguard.models.voltage_regulation.rules import band_excess
from feederguard.studies.benchmarks.deep_sag import sag_table
from feederguard.studies.benchmarks.safety_items import (
    REFERENCE_RHO,
    Items,
    active,
    benchmark_feeder,
    draw_items,
    solve_by_daqp,
    solve_by_highs,
    solve_by_kernel,
)
from feederguard.studies.trained.voltage_agents import kept_df_srl, kept_tube
from feederguard.studies.trained.voltage_makers import VoltageCourse

BATCH = 1024


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark as a program."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--items", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--feeder", default="cigre_lv18", help="bundled voltage case of the decisions"
    )
    parser.add_argument(
        "--agents-cache", type=Path, default=Path("results/agents"), help="folder of trained agents"
    )
    options = parser.parse_args(arguments)
    most = max(1, min(options.threads, numba.config.NUMBA_NUM_THREADS))
    network, batteries = benchmark_feeder()
    table = Table("figure", "value", "note")
    for threads in sorted({1, most}):
        numba.set_num_threads(threads)
        torch.set_num_threads(threads)
        _time_rates(table, network, batteries, options.rounds, threads)
    _time_others(table, network, batteries, options.rounds)
    _check_exactness(table, network, batteries, options.items)
    _time_corrections(table, network, batteries)
    for label, value, note in time_decisions(options.feeder, options.agents_cache):
        table.add_row(label, value, note)
    console = Console(width=140)
    console.print(table)
    console.print(sag_table())


def _time_rates(
    table: Table, network: Network, batteries: Batteries, rounds: int, threads: int
) -> None:
    """Add the rates of the layer in batches, with this number of threads."""
    layer = SafetyLayer(network, batteries)
    matrices = layer.matrices
    items = draw_items(network, batteries, matrices, BATCH, heavy=0.75)
    power = items.proposal * batteries.p_max
    tensor = torch.tensor(power, requires_grad=True)

    def kernels() -> None:
        pull_back(solve_by_kernel(items, matrices), matrices.columns, items.proposal)

    def through(name: str) -> Callable[[], object]:
        return lambda: getattr(layer, name)(items.state, tensor).sum().backward()

    alone = solve_by_kernel(items, matrices)
    _, status = layer.project_batch(items.state, power)
    done = layer.correct(items.state, power)
    relinearised = (
        f"{np.mean(done.rounds > 0):.0%} linearised at an AC state, "
        f"{done.certified.mean():.0%} certified"
    )
    said = f"{threads} thread" + "s" * (threads > 1)
    rates: dict[str, tuple[Callable[[], object], str]] = {
        "kernel": (
            lambda: solve_by_kernel(items, matrices),
            f"limits given; {_shares(alone.status)}",
        ),
        "project_batch": (
            lambda: layer.project_batch(items.state, power),
            f"states in; {_shares(status)}",
        ),
        "correct": (lambda: layer.correct(items.state, power), f"AC certificate; {relinearised}"),
    }
    for name, (run, note) in rates.items():
        table.add_row(
            f"{name}, {said}, items a second", f"{BATCH / _median(run, rounds):,.0f}", note
        )
    gradients: dict[str, tuple[Callable[[], object], str]] = {
        "kernels": (kernels, "limits given"),
        "project (torch)": (through("project"), "states in"),
        "project_ac (torch)": (
            through("project_ac"),
            "states in; two AC flows, slopes and a second projection where not safe",
        ),
    }
    for name, (run, note) in gradients.items():
        wanted = f"{1e6 * _median(run, rounds) / BATCH:.2f} us an item"
        table.add_row(f"{name}, {said}, forward plus backward", wanted, note)


def _time_others(table: Table, network: Network, batteries: Batteries, rounds: int) -> None:
    """Add the rates of others on the same items: DAQP in a loop, the Pyomo model each time."""
    matrices = safety_matrices(network, batteries)
    items = draw_items(network, batteries, matrices, BATCH, heavy=0.75)
    ours = BATCH / _median(lambda: solve_by_kernel(items, matrices), rounds)
    peer = _daqp_rate(items, matrices, rounds)
    said = f"{numba.get_num_threads()} threads"
    if peer is not None:
        table.add_row(
            "DAQP in a loop, same items, a second",
            f"{peer:,.0f}",
            f"kernel {ours / peer:.1f} times that, {said}",
        )
    once = _median(lambda: solve_by_highs(network, batteries, items, 0), max(3, rounds // 3))
    note = f"kernel {once * ours:,.0f} times that, {said}"
    table.add_row("building and solving the Pyomo model, a second", f"{1 / once:,.0f}", note)


def _shares(status: IntArray) -> str:
    moved, slack = np.isin(status, (TIGHT, SLACK)).mean(), np.mean(status == SLACK)
    return f"{moved:.0%} active, {slack:.0%} with slack"


def _daqp_rate(items: Items, matrices: SafetyMatrices, rounds: int) -> float | None:
    if find_spec("daqp") is None:
        return None
    return BATCH / _median(
        lambda: [solve_by_daqp(items, k, matrices) for k in range(BATCH)], max(3, rounds // 3)
    )


def _check_exactness(table: Table, network: Network, batteries: Batteries, n_item: int) -> None:
    matrices = safety_matrices(network, batteries, rho=REFERENCE_RHO)
    items = draw_items(network, batteries, matrices, n_item, seed=1, heavy=2.5)
    answer = solve_by_kernel(items, matrices)
    found = [solve_by_highs(network, batteries, items, k) for k in range(n_item)]
    highs = [np.abs(a - answer.a[k]).max() for k, a in enumerate(found) if a is not None]
    slack = answer.status == SLACK
    with_slack = sum(found[k] is not None for k in np.flatnonzero(slack))
    note = (
        f"{len(highs)} of {n_item} answered, {with_slack} of {slack.sum()} infeasible before "
        f"slack; {active(answer).mean():.0%} active, {answer.failed.sum()} failed"
    )
    table.add_row(
        "worst difference to HiGHS on the Pyomo model", f"{max(highs, default=np.nan):.1e}", note
    )
    try:
        peers = [solve_by_daqp(items, k, matrices) for k in range(n_item)]
    except ImportError:
        return
    daqp = [
        np.abs(a - answer.a[k]).max() for k, a in enumerate(peers) if a is not None and not slack[k]
    ]
    table.add_row(
        "worst difference to DAQP",
        f"{max(daqp, default=np.nan):.1e}",
        f"{len(daqp)} feasible items",
    )


def time_decisions(feeder: str, cache: Path) -> list[tuple[str, str, str]]:
    """Return lines of figure, value and note: whole decisions, one state at a time.

    One line is over all test states, one over those outside the band. cache: folder of trained
    agents; if the feeder's df_srl is not in it, an untrained policy is timed and the note says so.
    """
    agent, states, outside, words = _decider(feeder, cache)
    layer = agent.layer
    assert isinstance(layer, SafetyLayer)
    for k in np.flatnonzero(outside)[:20]:
        agent.decide(states[[k]])
    seconds = np.empty(len(states))
    for k in range(len(states)):
        state = states[k : k + 1]
        begin = perf_counter()
        agent.decide(state)
        seconds[k] = perf_counter() - begin
    lines = []
    for name, which in (
        ("all test states", np.ones_like(outside)),
        ("idle feeder outside", outside),
    ):
        answer = layer.correct(states[which], agent.propose(states[which]))
        taken = 1e3 * seconds[which]
        value = f"median {np.median(taken):.2f} ms, p99 {np.quantile(taken, 0.99):.2f} ms"
        note = (
            f"{words}; {len(taken)} states, {np.mean(answer.rounds > 0):.0%} linearised at an AC "
            f"state, {answer.certified.mean():.0%} certified"
        )
        lines.append((f"one safe decision, {feeder}, {name}", value, note))
    return lines


def _decider(feeder: str, cache: Path) -> tuple[VoltageAgent, VoltageState, BoolArray, str]:
    """Return an agent inside a SOC tube, its states on the test days, which are outside, its name.

    Outside: idle batteries leave the band.
    """
    train, test = (load_voltage_case(feeder, weeks) for weeks in ("train", "test"))
    network, batteries, days = test.network, test.batteries, test.days
    agent = None
    if cache.is_dir():
        tube = kept_tube(network, batteries, train.days, cache)
        agent = kept_df_srl(VoltageCourse(feeder, network, batteries, train.days, tube, cache))
    words = "trained df_srl" if agent is not None else f"UNTRAINED: no df_srl in {cache}"
    agent = agent or _untrained(network, batteries, train.days)
    outcome = simulate(network, batteries, days, agent)
    outside = band_excess(network, outcome.v_idle) > SAFE_TOLERANCE_PU
    day, step = (place.ravel() for place in np.indices(outside.shape))
    p_net, q_net = (
        np.broadcast_to(net, days.p_load.shape)[day, step] for net in net_demand(network, days)
    )
    states = VoltageState(p_net, q_net, outcome.v_idle[day, step], outcome.soc[day, step], step)
    return agent, states, outside.ravel(), words


def _untrained(network: Network, batteries: Batteries, days: VoltageDays) -> VoltageAgent:
    """Return an untrained agent; it proposes almost nothing, so the layer does all the work."""
    # The time to keep inside a tube does not depend on how good the tube is.
    layer = SafetyLayer(
        network, batteries, days.step_h, compute_soc_tube(network, batteries, days[::10])
    )
    config = VoltageAgentConfig(num_envs=1, episodes=1)
    config = replace(config, learner=replace(config.learner, warmup=10 * days.n_step))
    return VoltageAgent.train(network, batteries, days, layer, config)[0]


def _time_corrections(table: Table, network: Network, batteries: Batteries) -> None:
    layer = SafetyLayer(network, batteries)
    items = draw_items(network, batteries, layer.matrices, 1000, seed=2)
    power = items.proposal * batteries.p_max
    layer.correct(items.state[:1], power[:1])
    seconds, rounds = [], []
    for k in range(len(power)):
        state = items.state[k : k + 1]
        begin = perf_counter()
        answer = layer.correct(state, power[k : k + 1])
        seconds.append(perf_counter() - begin)
        rounds.append(int(answer.rounds[0]))
    value = (
        f"median {1e3 * np.median(seconds):.2f} ms, p99 {1e3 * np.quantile(seconds, 0.99):.2f} ms"
    )
    corrected = float(np.mean(np.array(rounds) > 0))
    table.add_row(
        "one projection with its AC check",
        value,
        f"{corrected:.0%} of them linearised at an AC state",
    )


def _median(run: Callable[[], object], rounds: int) -> float:
    run()
    seconds = []
    for _ in range(rounds):
        begin = perf_counter()
        run()
        seconds.append(perf_counter() - begin)
    return float(np.median(seconds))


if __name__ == "__main__":
    main()
