"""Time and check the safety layer in one run: projections, gradients, single decisions, and where
its margin matters.

    python studies/benchmarks/safety_layer.py [--items 2000] [--rounds 15] [--threads 2]
    [--agents-cache results/agents]

The projections are those of `cigre_lv18` with a battery at each of R1..R18: random net demand that
leaves the band on either side, random intervals, random proposals. What it prints:

    per number of threads, 1 and `--threads`, what an item costs in batches of 1024 of the same
    states and proposals:
        kernel         the projection alone, its limits computed beforehand and drawn freely
        project_batch  states in: limits and intervals are computed and what comes in is checked
        correct        what acting costs: states in, re-linearised where needed, each answer with its AC certificate
        project, project_ac   forward plus backward through torch, states in, beside the kernels' own
    DAQP called in a loop on the kernel's items (DAQP soft rows left out), and building and solving
    the Pyomo model each time the worst difference to independent solvers over `--items`
    projections: HiGHS on the Pyomo model, and DAQP one single projection with its AC check, random
    items, median and 99th percentile one single safe decision on the bundled case: policy, SOC
    tube, projection and AC check, one state at a time, over all states of the test days and over
    those in which idle batteries leave the band: median, 99th percentile a feeder at deep sag,
    where the published margin of 0.002 pu fails, and the derived one alone too (see `deep_sag`)

Rounds are timed one by one and the median reported. The policy of the decisions is the trained
`df_srl` of the study, seed 0, inside its SOC tube, from `--agents-cache`; where that has none, an
untrained one of the same size is timed, and the line says so.

Longer than other files: figures that are compared with each other come from one run.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter

import numba
import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from feederguard.agents.safety_layer import SafetyLayer
from feederguard.agents.voltage_agent import VoltageAgent, VoltageAgentConfig
from feederguard.data.networks import load_network
from feederguard.data.voltage_cases import load_voltage_case
from feederguard.models.arrays import BoolArray, FloatArray, IntArray
from feederguard.models.battery import Batteries
from feederguard.models.network import Network
from feederguard.models.power_flow import solve_power_flow
from feederguard.models.safety_qp import build_safety_qp
from feederguard.models.safety_qp.matrices import SafetyMatrices, safety_matrices
from feederguard.models.safety_qp.projection import SLACK, TIGHT, Projection, project, pull_back
from feederguard.models.safety_qp.statement import set_state
from feederguard.models.soc_tube import compute_soc_tube
from feederguard.models.solver import NotSolvedError, solve
from feederguard.models.voltage_regulation import VoltageDays, VoltageState, simulate
from feederguard.models.voltage_regulation.demand import net_demand
from feederguard.models.voltage_regulation.judge import SAFE_TOLERANCE_PU
from feederguard.models.voltage_regulation.rules import band_excess
from feederguard.studies.trained.voltage_agents import kept_df_srl, kept_tube
from feederguard.studies.trained.voltage_makers import VoltageCourse

BATCH = 1024
PUBLISHED_MARGIN_PU = 0.002
REFERENCE_RHO = 1e4  # HiGHS stands no larger prices; above every multiplier of the items drawn
SAG_LOADS = (0.8, 1.0, 1.25)  # times nominal demand
SAG_PROPOSALS = {
    "discharging": (-1.0, -0.5),
    "small": (-0.1, 0.1),
    "charging": (0.5, 1.0),
}  # of p_max


@dataclass(frozen=True, eq=False)
class Items:
    """Random projections of one feeder, and the states that they come from."""

    state: VoltageState
    proposal: FloatArray  # (B, n) actions
    lo: FloatArray
    hi: FloatArray
    low: FloatArray  # (B, m) of G a
    high: FloatArray
    margin: FloatArray  # (B, n_bus)

    def __getitem__(self, rows: slice) -> Items:
        """Return some of them."""
        return Items(*(value[rows] for value in vars(self).values()))


@dataclass(frozen=True)
class DeepSag:
    """How far outside the band three answers leave a feeder at deep sag, by AC power flow, pu."""

    idle_lowest_pu: float  # voltage, batteries idle
    lindistflow_error_pu: float  # the largest, batteries idle
    published_excess_pu: float  # both sides tightened by 0.002 pu, one projection
    derived_excess_pu: float  # the derived margin, one projection
    layer_excess_pu: float  # the whole layer, re-linearised at AC states
    layer_certified: bool


def main() -> None:
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
    options = parser.parse_args()
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
    console.print(_sag_table())


def benchmark_feeder() -> tuple[Network, Batteries]:
    """Return cigre_lv18 with a battery of 40 kW and 200 kWh at each of R1..R18."""
    network = load_network("cigre_lv18")
    return network, Batteries.at(network, [f"R{k}" for k in range(1, 19)], 0.04, 0.2)


def draw_items(
    network: Network,
    batteries: Batteries,
    matrices: SafetyMatrices,
    n_item: int,
    seed: int = 0,
    heavy: float = 1.0,
) -> Items:
    """Return random items: demand or surplus common to all buses times each bus's own share; heavy
    scales it.
    """
    rng = np.random.default_rng(seed)
    common = heavy * rng.uniform(-0.026, 0.018, (n_item, 1)) / network.base_mva
    p = np.zeros((n_item, network.n_bus))
    p[:, batteries.bus] = common * rng.uniform(0.5, 1.5, (n_item, len(batteries)))
    q = 0.3 * np.maximum(p, 0.0)
    v = np.abs(solve_power_flow(network, p, q).voltage)
    lossless = matrices.lossless(p, q)
    margin = np.zeros(v.shape)
    margin[:, matrices.bus] = np.maximum(lossless - v[:, matrices.bus] ** 2, 0.0)
    box = rng.uniform(0.0, 1.0, (2, n_item, len(batteries))) ** 0.3
    soc = rng.uniform(0.1, 0.9, (n_item, len(batteries)))
    state = VoltageState(p, q, v, soc, rng.integers(0, 96, n_item))
    proposal = np.clip(rng.normal(0.0, 0.4, (n_item, len(batteries))), -1.0, 1.0)
    return Items(
        state,
        proposal,
        -box[0],
        box[1],
        matrices.w_low + margin[:, matrices.bus] - lossless,
        matrices.w_high - lossless,
        margin,
    )


def active(answer: Projection) -> BoolArray:
    """Return which items have a voltage row at work, (B,): those that clipping alone does not
    answer.
    """
    return np.asarray((answer.status == TIGHT) | (answer.status == SLACK))


def solve_by_daqp(items: Items, k: int, matrices: SafetyMatrices) -> FloatArray | None:
    """Return DAQP's answer to item k without slack, None where it finds none."""
    import daqp  # type: ignore[import-not-found]

    n, m = matrices.columns.shape
    x, _, flag, _ = daqp.solve(
        np.eye(n),
        -items.proposal[k],
        np.ascontiguousarray(matrices.columns.T),
        np.concatenate([items.hi[k], items.high[k]]),
        np.concatenate([items.lo[k], items.low[k]]),
        np.zeros(n + m, dtype=np.int32),
        primal_tol=1e-10,
        dual_tol=1e-12,
    )
    return np.asarray(x) if flag == 1 else None


def solve_by_highs(
    network: Network, batteries: Batteries, items: Items, k: int, rho: float = REFERENCE_RHO
) -> FloatArray | None:
    """Build the Pyomo model of item k, solve it by HiGHS, and return its actions; None where HiGHS
    fails or breaks a bound.
    """
    model = build_safety_qp(network, batteries, rho=rho)
    p_max = batteries.p_max
    set_state(
        model,
        p_net=items.state.p_net[k],
        q_net=items.state.q_net[k],
        a_policy=items.proposal[k],
        p_low=items.lo[k] * p_max,
        p_high=items.hi[k] * p_max,
        margin=items.margin[k],
    )
    try:
        solve(model, "highs")
    except NotSolvedError:
        return None
    if min(s.value for s in (*model.slack_low.values(), *model.slack_high.values())) < -1e-9:
        return None
    return np.array([model.p_battery[j].value for j in model.battery]) / p_max


def deep_sag(
    load: float = 1.25, proposed: tuple[float, float] = (-0.1, 0.1), n_item: int = 64, seed: int = 0
) -> DeepSag:
    """Return what three margins do on ieee33 at `load` times its nominal demand, batteries of 0.6
    MW at nine buses.

    Its band is 0.90..1.05 here, so that the deep end sags below it; the proposals are random powers
    between the two shares of p_max, positive charging. The derived margin is that of the idle
    feeder: it suffices while batteries move little or lift the voltage, and not where they charge,
    which adds losses that it does not know of.
    """
    network = load_network("ieee33")
    network = network.with_changes(
        v_min=np.full(network.n_bus, 0.90), v_max=np.full(network.n_bus, 1.05)
    )
    batteries = Batteries.at(
        network, ["6", "9", "12", "15", "18", "25", "28", "30", "33"], 0.6, 3.0
    )
    rng = np.random.default_rng(seed)
    scale = load * rng.uniform(0.95, 1.0, (n_item, network.n_bus))
    p, q = scale * network.p_load, scale * network.q_load
    v = np.abs(solve_power_flow(network, p, q).voltage)
    layer = SafetyLayer(network, batteries)
    m = layer.matrices
    state = VoltageState(
        p, q, v, np.full((n_item, len(batteries)), 0.5), np.zeros(n_item, dtype=np.int64)
    )
    proposal = rng.uniform(*proposed, (n_item, len(batteries)))
    one = np.ones_like(proposal)
    lossless = m.lossless(p, q)
    low = (np.sqrt(m.w_low) + PUBLISHED_MARGIN_PU) ** 2 - lossless
    high = (np.sqrt(m.w_high) - PUBLISHED_MARGIN_PU) ** 2 - lossless
    published = project(proposal, -one, one, m.columns, low, high, 0.5 * m.rho).a
    derived, _ = layer.project_batch(state, proposal * batteries.p_max)
    safe = layer.correct(state, proposal * batteries.p_max)
    return DeepSag(
        float(v[:, m.bus].min()),
        float(np.abs(np.sqrt(lossless) - v[:, m.bus]).max()),
        _worst_excess(network, batteries, state, published * batteries.p_max),
        _worst_excess(network, batteries, state, derived),
        _worst_excess(network, batteries, state, safe.p),
        bool(safe.certified.all()),
    )


def _sag_table() -> Table:
    title = f"ieee33 at deep sag, band from 0.90: worst pu outside it by AC flow (below {SAFE_TOLERANCE_PU:g} is safe)"
    headings = (
        "load",
        "idle v_min",
        "LinDistFlow errs",
        "proposals",
        "published 0.002",
        "derived margin",
        "whole layer",
        "certified",
    )
    table = Table(*headings, title=title)
    for load in SAG_LOADS:
        for name, shares in SAG_PROPOSALS.items():
            sag = deep_sag(load, shares)
            excess = (sag.published_excess_pu, sag.derived_excess_pu, sag.layer_excess_pu)
            table.add_row(
                f"{load:g}",
                f"{sag.idle_lowest_pu:.4f}",
                f"{sag.lindistflow_error_pu:.4f}",
                f"{name} {shares[0]:g}..{shares[1]:g}",
                *(f"{value:+.6f}" for value in excess),
                "yes" if sag.layer_certified else "NO",
            )
    return table


def _worst_excess(
    network: Network, batteries: Batteries, state: VoltageState, power: FloatArray
) -> float:
    drawn = state.p_net.copy()
    for k, bus in enumerate(batteries.bus.tolist()):
        drawn[:, bus] += power[:, k]
    return float(
        band_excess(network, np.abs(solve_power_flow(network, drawn, state.q_net).voltage)).max()
    )


def _time_rates(
    table: Table, network: Network, batteries: Batteries, rounds: int, threads: int
) -> None:
    """Add what the layer does in batches with so many threads."""
    layer = SafetyLayer(network, batteries)
    matrices = layer.matrices
    items = draw_items(network, batteries, matrices, BATCH, heavy=0.75)
    power = items.proposal * batteries.p_max
    tensor = torch.tensor(power, requires_grad=True)

    def kernels() -> None:
        pull_back(_by_kernel(items, matrices), matrices.columns, items.proposal)

    def through(name: str) -> Callable[[], object]:
        return lambda: getattr(layer, name)(items.state, tensor).sum().backward()

    alone = _by_kernel(items, matrices)
    _, status = layer.project_batch(items.state, power)
    done = layer.correct(items.state, power)
    relinearised = f"{np.mean(done.rounds > 0):.0%} linearised at an AC state, {done.certified.mean():.0%} certified"
    said = f"{threads} thread" + "s" * (threads > 1)
    rates: dict[str, tuple[Callable[[], object], str]] = {
        "kernel": (lambda: _by_kernel(items, matrices), f"limits given; {_shares(alone.status)}"),
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
    """Add what the same items cost otherwise: DAQP in a loop, the Pyomo model built and solved each
    time.
    """
    matrices = safety_matrices(network, batteries)
    items = draw_items(network, batteries, matrices, BATCH, heavy=0.75)
    ours = BATCH / _median(lambda: _by_kernel(items, matrices), rounds)
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


def _by_kernel(items: Items, matrices: SafetyMatrices) -> Projection:
    return project(
        items.proposal,
        items.lo,
        items.hi,
        matrices.columns,
        items.low,
        items.high,
        0.5 * matrices.rho,
    )


def _shares(status: IntArray) -> str:
    moved, slack = np.isin(status, (TIGHT, SLACK)).mean(), np.mean(status == SLACK)
    return f"{moved:.0%} active, {slack:.0%} with slack"


def _daqp_rate(items: Items, matrices: SafetyMatrices, rounds: int) -> float | None:
    try:
        import daqp  # noqa: F401
    except ImportError:
        return None
    return BATCH / _median(
        lambda: [solve_by_daqp(items, k, matrices) for k in range(BATCH)], max(3, rounds // 3)
    )


def _check_exactness(table: Table, network: Network, batteries: Batteries, n_item: int) -> None:
    matrices = safety_matrices(network, batteries, rho=REFERENCE_RHO)
    items = draw_items(network, batteries, matrices, n_item, seed=1, heavy=2.5)
    answer = _by_kernel(items, matrices)
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
    """Return lines of figure, value and note: whole decisions one state at a time, over all test
    states and those outside.

    cache: folder of trained agents; an untrained policy is timed, and said to be, where the
    feeder's df_srl is not in it.
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
    """Return an agent inside a SOC tube, the states that it meets on the test days, which idle
    leave the band, and its name.
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
    """Return an agent that has learned nothing: it asks for next to nothing, so that the layer has
    all to do.
    """
    # How good the tube is has no part in the time it takes to keep to it.
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
