"""One method on one feeder in its own process: seconds of each decision, and memory.

    python -m feederguard.studies.scaling_study.measure FOLDER    with a `Piece` as JSON on stdin

The scenarios are in FOLDER. A line of JSON per decision is written there as soon as the decision is
made and judged. Finished decisions are therefore known even if the process is stopped or killed.
`measure` starts such a process and reads its lines.

Time. Everything computes on one core. `set_up_s` is spent once per feeder: the method, its compiled
rules and, of the fast methods, the first decision, which is then repeated and timed. `seconds` is
one decision, `solver_s` the part of the exact method's solver. Before that the process decides one
fault of a feeder of four buses, so that loading compiled kernels and solvers is not measured.

Memory. `import_mb` is the largest resident memory after the method's imports, `ready_mb` after the
four buses, `peak_mb` at the end. The feeder took peak_mb - ready_mb; in a training this includes
sampling its scenarios. On Linux it is VmHWM of /proc/self/status: ru_maxrss of getrusage survives
the start of a program, so it is never less than the memory of the process that started this one.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from feederguard.data.multiples import load_multiple
from feederguard.data.profiles import load_profiles
from feederguard.data.sampling import PV_SHARE
from feederguard.models.arrays import FloatArray
from feederguard.models.load_transfer import (
    Decisions,
    Method,
    Report,
    Scenarios,
    judge,
    make_scenarios,
    resolve_setting,
)
from feederguard.models.load_transfer.rules import transfer_rules
from feederguard.models.network import Network
from feederguard.models.network.graph import energised_buses
from feederguard.models.power_flow import solve_power_flow
from feederguard.models.solver import NotSolvedError, SolverMissingError

SETTING = "radial"
# A decision of these takes milliseconds: the first one is made twice.
FAST = ("power_flow", "plan_search", "ranked_switching")
MODULES = {
    "power_flow": "feederguard.models.power_flow",
    "plan_search": "feederguard.baselines.plan_search",
    "ranked_switching": "feederguard.agents.ranked_switching",
    "genetic": "feederguard.baselines.genetic",
    "misocp": "feederguard.baselines.misocp",
}
ONE_CORE = {f"{library}_NUM_THREADS": "1" for library in ("NUMBA", "OMP", "OPENBLAS", "MKL")}
Line = dict[str, Any]


@dataclass(frozen=True)
class Piece:
    """What one process does."""

    feeder: str  # as `load_multiple` takes it
    method: str  # one of MODULES
    first: int  # number of the first scenario
    profiles: str  # of a training
    seed: int
    time_limit_s: float  # of the exact method's solver
    train_scenarios: int
    agents_cache: str
    agent: str = ""  # file of the trained agent
    train: bool = False  # make the agent, and decide nothing


@dataclass(frozen=True)
class Measured:
    """What a process measured."""

    decisions: list[Line]  # one per decided scenario, in order
    # import_mb, ready_mb, peak_mb, set_up_s; of a training also agent and cached; {} if the process
    # did not end by itself.
    footprint: Line
    trouble: str  # why it did not do everything, "" if it did


def measure(piece: Piece, scenarios: Scenarios | None, limit_s: float) -> Measured:
    """Return what a fresh process measured.

    It is stopped after limit_s seconds; its finished decisions are kept. scenarios: None for a
    training, which samples its own.
    """
    with tempfile.TemporaryDirectory() as folder:
        path, errors = Path(folder) / "lines", Path(folder) / "errors"
        path.touch()
        if scenarios is not None:
            given = {name: array for name, array in vars(scenarios).items() if array is not None}
            np.savez(Path(folder) / "scenarios.npz", **given)
        trouble = ""
        with errors.open("w") as stderr:
            try:
                # In its own session: Ctrl-C is handled by the study.
                done = subprocess.run(
                    [sys.executable, "-m", "feederguard.studies.scaling_study.measure", folder],
                    input=json.dumps(asdict(piece)),
                    text=True,
                    stdout=subprocess.DEVNULL,
                    stderr=stderr,
                    timeout=limit_s,
                    check=False,
                    start_new_session=True,
                    env={**os.environ, **ONE_CORE},
                )
                if done.returncode < 0:
                    trouble = (
                        f"killed by signal {-done.returncode} (9: most often for want of memory)"
                    )
                elif done.returncode:
                    trouble = (errors.read_text().strip().splitlines() or ["no message"])[-1]
            except subprocess.TimeoutExpired:
                trouble = f"stopped after {limit_s:g} s"
        lines = [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]
    footprint = lines.pop() if lines and "peak_mb" in lines[-1] else {}
    return Measured(lines, footprint, trouble)


def peak_memory_mb() -> float:
    """Return the largest resident memory of this process so far, in MiB."""
    try:
        with open("/proc/self/status") as status:
            return next(
                float(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM")
            )
    except (OSError, StopIteration):
        unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


class PowerFlow:
    """The least any method does: one AC power flow of the state with the fault isolated."""

    name = "power_flow"

    def __init__(self, network: Network) -> None:
        self.network = network

    def decide(self, scenarios: Scenarios) -> Decisions:
        """Return that state, after its power flow; all else takes microseconds."""
        closed = np.tile(self.network.closed, (len(scenarios), 1))
        closed[np.arange(len(scenarios)), scenarios.fault] = False
        solve_power_flow(self.network, scenarios.p_load - scenarios.p_gen, scenarios.q_load, closed)
        return Decisions(closed, np.zeros((len(scenarios), self.network.n_bus)))


def _build(network: Network, piece: Piece) -> Method:
    """Return the method on a network.

    Each method imports only what it needs, since imports are part of the measured memory.
    """
    if piece.method == "power_flow":
        return PowerFlow(network)
    if piece.method == "plan_search":
        from feederguard.baselines.plan_search import PlanSearch

        return PlanSearch(network, SETTING)
    if piece.method == "genetic":
        from feederguard.baselines.genetic import Genetic

        return Genetic(network, SETTING, seed=piece.seed)
    if piece.method == "misocp":
        from feederguard.baselines.misocp import Misocp

        return Misocp(network, SETTING, time_limit_s=piece.time_limit_s)
    from feederguard.agents.ranked_switching import RankedSwitching, RankedSwitchingConfig

    if piece.agent:
        return RankedSwitching.load(piece.agent, network, SETTING)
    return RankedSwitching.train(
        network, SETTING, make_scenarios(network, [1]), RankedSwitchingConfig(epochs=1)
    )


def main() -> None:
    """Do the piece on standard input, as described above."""
    piece = Piece(**json.load(sys.stdin))
    folder = Path(sys.argv[1])
    with (folder / "lines").open("w") as file:
        for line in _train(piece) if piece.train else _decide(piece, folder / "scenarios.npz"):
            file.write(json.dumps(line) + "\n")
            file.flush()


def _decide(piece: Piece, path: Path) -> Iterator[Line]:
    """Yield a line per decision, and one of the footprint."""
    started_by, solver_s = os.getppid(), []
    footprint, toy = _prepare(piece)
    if piece.method == "misocp":
        solver_s = _time_solver()
    one = make_scenarios(toy, [1])
    judge(toy, one, _build(toy, replace(piece, agent="")).decide(one), SETTING)
    footprint["ready_mb"] = peak_memory_mb()

    network = load_multiple(piece.feeder, piece.seed)
    with np.load(path) as arrays:
        scenarios = Scenarios(**arrays)
    least = least_thinkable_cost(network, scenarios)
    begin = perf_counter()
    method = _build(network, piece)
    if piece.method in FAST:
        method.decide(scenarios[:1])
    footprint["set_up_s"] = perf_counter() - begin
    for k in range(len(scenarios)):
        if os.getppid() != started_by:
            return  # the process that started this one is gone
        scenario = scenarios[k : k + 1]
        fault = network.branch_name[int(scenario.fault[0])]
        asked = {"scenario": piece.first + k, "fault_branch": fault, "least_cost": float(least[k])}
        solver_s.clear()
        begin = perf_counter()
        try:
            decision = method.decide(scenario)
        except (NotSolvedError, SolverMissingError) as error:
            seconds, answer = perf_counter() - begin, {"decided": False, "note": str(error)}
        else:
            seconds, answer = perf_counter() - begin, _judged(network, method, scenario, decision)
        yield asked | answer | {"seconds": seconds, "solver_s": sum(solver_s) if solver_s else None}
    yield footprint | {"peak_mb": peak_memory_mb()}


def _train(piece: Piece) -> Iterator[Line]:
    """Yield the footprint of a training, with the path of the agent.

    An agent in the cache is not trained again.
    """
    footprint, toy = _prepare(piece)
    from feederguard.studies.trained.transfer_agents import Course, trained_ranked_switching

    _build(toy, piece)
    profiles = load_profiles(piece.profiles)
    footprint["ready_mb"] = peak_memory_mb()
    network, cache = load_multiple(piece.feeder, piece.seed), Path(piece.agents_cache)
    course = Course(profiles, PV_SHARE, piece.train_scenarios, piece.seed, cache)
    trained = trained_ranked_switching(network, resolve_setting(network, SETTING), course)
    told = {"set_up_s": trained.seconds, "agent": str(trained.path), "cached": trained.cached}
    yield footprint | told | {"peak_mb": peak_memory_mb()}


def _prepare(piece: Piece) -> tuple[Line, Network]:
    import_module(MODULES[piece.method])
    return {"import_mb": peak_memory_mb()}, four_buses()


def _time_solver() -> list[float]:
    """Return a list to which every solve of the exact method in this process adds its seconds."""
    from feederguard.baselines import misocp

    seconds: list[float] = []
    solve = getattr(misocp, "solve")  # noqa: B009  (imported there, not exported)

    def timed(*arguments: Any, **named: Any) -> Any:
        begin = perf_counter()
        try:
            return solve(*arguments, **named)
        finally:
            seconds.append(perf_counter() - begin)

    setattr(misocp, "solve", timed)  # noqa: B010
    return seconds


def _judged(network: Network, method: Method, scenario: Scenarios, decision: Decisions) -> Line:
    outcome = judge(network, scenario, decision, SETTING)
    reports: list[Report] = getattr(method, "reports", [])
    report = reports[0] if reports else Report(-np.inf, "", 0.0, False)
    return {
        "decided": True,
        "cost": float(outcome.cost[0]),
        "shed_ratio": float(outcome.shed_ratio[0]),
        "switch_operations": int(outcome.n_operations[0]),
        "connected": bool(outcome.connected[0]),
        "safe": bool(outcome.safe[0]),
        "bound": float(report.bound) if np.isfinite(report.bound) else None,
        "note": "; ".join(part for part in (report.reason, report.note) if part),
    }


def least_thinkable_cost(network: Network, scenarios: Scenarios) -> FloatArray:
    """Return a lower bound, by counting, of decisions that feed every bus that can be fed, (B,).

    Load that no path reaches is shed. If the fault cuts off buses that some path reaches, a switch
    is operated.
    """
    rules = transfer_rules(network, resolve_setting(network, SETTING))
    dark = np.tile(network.closed, (len(scenarios), 1))
    dark[np.arange(len(scenarios)), scenarios.fault] = False
    reachable = rules.reachable[scenarios.fault]
    cut_off = (reachable & ~energised_buses(network, dark)).any(axis=1)
    states = np.tile(rules.normal, (len(scenarios), 1))
    # Any one operation costs the same; closing a tie is one.
    states[cut_off, np.flatnonzero(network.is_tie)[:1]] = True
    shed = np.where(reachable, 0.0, scenarios.p_load)
    return np.asarray(
        rules.cost.objective(
            rules.cost.point(shed=shed, curtailed=0.0, y=states, failed=np.zeros(states.shape))
        )
    )


def four_buses() -> Network:
    """Return a feeder so small that deciding on it takes hardly any memory.

    0 --head-- 1 --a-- 2
               |       .
               +--b-- 3   (tie 3-2)
    """
    bus, branch = np.zeros(4), np.zeros(4)
    return Network(
        name="four buses",
        base_mva=1.0,
        bus_name=tuple("0123"),
        vn_kv=bus + 10,
        v_min=bus + 0.9,
        v_max=bus + 1.1,
        p_load=np.array([0, 0.1, 0.1, 0.1]),
        q_load=bus,
        p_gen=bus,
        q_gen=bus,
        g_shunt=bus,
        b_shunt=bus,
        substation=np.array([0]),
        v_substation=np.array([1.0 + 0j]),
        branch_name=("head", "a", "b", "tie"),
        kind=("line", "line", "line", "tie"),
        from_bus=np.array([0, 1, 1, 3]),
        to_bus=np.array([1, 2, 3, 2]),
        r=branch + 0.01,
        x=branch + 0.01,
        g_from=branch,
        b_from=branch,
        g_to=branch,
        b_to=branch,
        tap=branch + 1,
        shift=branch,
        rating=branch + 1.0,
        closed=np.array([True, True, True, False]),
        open_end=np.zeros(4, dtype=np.int64),
    )


if __name__ == "__main__":
    main()
