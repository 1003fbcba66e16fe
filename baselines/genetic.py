"""The genetic algorithm: what a planner runs today, in its best formulation, fitness batched.

A chromosome has one real gene per switchable branch and one per load bus, all in [0, 1].

    switches   paper setting: a tie is closed where its gene exceeds 1/2
               radial setting: genes are keys of a spanning tree (`models/switching/forests.py`), so
               every individual is radial; a branch with a gene below LEFT_OPEN stays open, so that
               parts may stay dark
    shedding   s = max(0, 2 g - 1): half of the range means "shed nothing", which most buses should;
               one gene more per bus that generates, for what is curtailed

Fitness: the compiled Pyomo cost, constrained by the judge's worst violation of the Pyomo limits on
the AC flow, for the whole population at once. The first population holds the normal state, states
a few switches away, and random ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from pymoo.algorithms.soo.nonconvex.ga import GA
from pymoo.core.problem import Problem
from pymoo.operators.crossover.sbx import SBX
from pymoo.operators.mutation.pm import PM
from pymoo.optimize import minimize

from feederguard.models.arrays import FloatArray
from feederguard.models.load_transfer import Decisions, Scenarios, Setting, judge, resolve_setting
from feederguard.models.load_transfer.judge import SAFE_TOLERANCE
from feederguard.models.load_transfer.setting import refuse_whole_loads
from feederguard.models.load_transfer.shedding import can_shed
from feederguard.models.network import Network
from feederguard.models.network.graph import energised_buses, refuse_fixed_loops
from feederguard.models.network.parallel import team_leads
from feederguard.models.switching.forests import spanning_forests

LEFT_OPEN = 0.05


@dataclass(frozen=True)
class GeneticConfig:
    """Settings of the search, chosen on train weeks by studies/evidence/tune_genetic.py."""

    population: int = 200
    generations: int = 50
    crossover_eta: float = 3.0
    mutation_eta: float = 15.0
    mutations_per_child: float = 2.0  # expected number of genes that mutate


class Genetic:
    """pymoo's single-objective GA, one run per scenario, reproducible from `seed`."""

    name = "genetic"

    def __init__(
        self,
        network: Network,
        setting: str | Setting,
        config: GeneticConfig | None = None,
        seed: int = 0,
    ) -> None:
        self.network = network
        self.setting = resolve_setting(network, setting)
        refuse_whole_loads(self.setting, "genetic")
        self.config = config or GeneticConfig()
        self.seed = seed
        free = self.setting.switchable_branches(network)
        if self.setting.radial:
            refuse_fixed_loops(network, network.closed & ~free)
        self.switchable = np.flatnonzero(free)
        self.lead = team_leads(network, free, np.ones(network.n_branch, dtype=bool))

    def decide(self, scenarios: Scenarios) -> Decisions:
        """Return the best of each run: of least cost among the safe, else of least violation."""
        # Every run starts from the same seed, so a decision does not depend on what it is batched
        # with.
        return Decisions.join(
            [self._decide_one(scenarios[k : k + 1], self.seed) for k in range(len(scenarios))]
        )

    def _decide_one(self, scenario: Scenarios, seed: int) -> Decisions:
        config = self.config
        problem = TransferProblem(self, scenario)
        if not problem.n_var:
            return problem.decode(np.zeros((1, 0)))
        algorithm = GA(
            pop_size=config.population,
            sampling=self._first_population(problem, np.random.default_rng(seed)),
            crossover=SBX(prob=0.9, eta=config.crossover_eta),
            mutation=PM(
                prob=1.0,
                prob_var=config.mutations_per_child / problem.n_var,
                eta=config.mutation_eta,
            ),
            # Comparing every pair of individuals costs more than all power flows of a run.
            eliminate_duplicates=False,
        )
        result = minimize(
            problem, algorithm, ("n_gen", config.generations), seed=seed, verbose=False
        )
        best = result.X if result.X is not None else _least_violating(result.pop)
        return problem.decode(np.atleast_2d(best))

    def _first_population(self, problem: TransferProblem, rng: np.random.Generator) -> FloatArray:
        n, n_switch = self.config.population, len(self.switchable)
        normal = np.where(self.network.closed[self.switchable], 0.8, 0.2)
        genes = np.clip(normal + rng.uniform(-0.2, 0.2, (n, n_switch)), 0.0, 1.0)
        for k in range(n):
            flips = rng.integers(0, 4) if n_switch else 0
            changed = rng.integers(0, max(n_switch, 1), size=flips)
            genes[k, changed] = 1.0 - genes[k, changed]
        # Shedding from none to nearly all: near the start it is easier to lose safety than to find
        # it.
        level = rng.uniform(0.0, 1.0, (n, 1))
        shed = np.clip(
            0.5 + 0.5 * level + rng.uniform(-0.3, 0.3, (n, problem.n_var - n_switch)), 0.0, 1.0
        )
        shed[: n // 4] = rng.uniform(0.0, 0.5, (n // 4, problem.n_var - n_switch))
        return np.concatenate([genes, shed], axis=1)


class TransferProblem(Problem):  # type: ignore[misc]
    """One scenario as pymoo sees it: genes in, cost and violation out."""

    def __init__(self, method: Genetic, scenario: Scenarios) -> None:
        self.method = method
        self.scenario = scenario
        self.load_bus = np.flatnonzero(can_shed(scenario.p_load[0]))
        self.gen_bus = np.flatnonzero(scenario.p_gen[0] > 0)
        super().__init__(
            n_var=len(method.switchable) + len(self.load_bus) + len(self.gen_bus),
            n_obj=1,
            n_ieq_constr=1,
            xl=0.0,
            xu=1.0,
        )

    def decode(self, genes: FloatArray) -> Decisions:
        """Return the decisions that chromosomes (n, n_var) stand for."""
        network, switchable, n = self.method.network, self.method.switchable, len(genes)
        n_switch = len(switchable)
        failed = self.scenario.failed_branches(network.n_branch)[0]
        closed = np.tile(network.closed, (n, 1))
        if self.method.setting.radial:
            free = np.zeros(network.n_branch, dtype=bool)
            free[switchable] = True
            keys = np.zeros((n, network.n_branch))
            keys[:, switchable] = genes[:, :n_switch]
            usable = np.tile(network.closed | free, (n, 1))
            usable[:, switchable] &= genes[:, :n_switch] >= LEFT_OPEN
            # Of parallel branches the first leads.
            usable = usable[:, self.method.lead]
            usable[:, failed] = False
            closed = spanning_forests(network, keys, usable, network.closed & ~free)
            # What no path can reach keeps its normal state: switching there would only cost
            # operations.
            within_reach = network.closed | free
            within_reach[failed] = False
            reached = energised_buses(network, within_reach)
            dead = ~reached[network.from_bus] & ~reached[network.to_bus]
            closed[:, dead] = network.closed[dead]
        else:
            closed[:, switchable] = genes[:, :n_switch] > 0.5
            closed = closed[:, self.method.lead]
        closed[:, failed] = False
        shed, curtail = (np.zeros((n, network.n_bus)) for _ in range(2))
        fractions = np.maximum(0.0, 2.0 * genes[:, n_switch:] - 1.0)
        shed[:, self.load_bus] = fractions[:, : len(self.load_bus)]
        curtail[:, self.gen_bus] = fractions[:, len(self.load_bus) :]
        return Decisions(closed, shed, curtail)

    def _evaluate(self, x: FloatArray, out: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        scenarios = self.scenario[np.zeros(len(x), dtype=np.int64)]
        outcome = judge(self.method.network, scenarios, self.decode(x), self.method.setting)
        out["F"] = outcome.cost[:, None]
        # A flow that does not converge is worse than any limit broken.
        out["G"] = np.where(outcome.converged, outcome.worst_violation - SAFE_TOLERANCE, 1e3)[
            :, None
        ]


def _least_violating(population: Any) -> FloatArray:
    violation = population.get("CV").ravel()
    return np.asarray(population.get("X")[int(np.argmin(violation))])
