"""The exact method: the load-transfer MISOCP solved to a gap, made AC-exact where it is not.

In the radial setting the cone relaxation is exact where loads alone decide; local generation
against an upper limit can loosen it. The decision is then the optimum to the gap that its report
proves. In the paper setting the model carries a linearised angle equation, which chooses the
topology. Where the model's shedding breaks an AC limit, the least shedding that the AC equations
allow with that topology replaces it (`models/load_transfer/shedding_opf.py`).
"""

from __future__ import annotations

from time import perf_counter

import numpy as np
import pyomo.environ as pyo

from feederguard.models.load_transfer import (
    Decisions,
    Report,
    Scenarios,
    Setting,
    judge,
    resolve_setting,
)
from feederguard.models.load_transfer.shedding_opf import LeastSheddingSolver
from feederguard.models.network import Network
from feederguard.models.reconfiguration import LOSS_WEIGHT, build_load_transfer
from feederguard.models.solver import solve


class Misocp:
    """Mixed-integer second-order cone programming, one model per scenario.

    `reports` tells how each solve went.
    """

    name = "misocp"

    def __init__(
        self,
        network: Network,
        setting: str | Setting,
        solver: str = "auto",
        time_limit_s: float = 60.0,
        rel_gap: float = 1e-4,
    ) -> None:
        self.network = network
        self.setting = resolve_setting(network, setting)
        self.solver = solver
        self.time_limit_s = time_limit_s
        self.rel_gap = rel_gap
        self.reports: list[Report] = []
        self._least_shedding = LeastSheddingSolver(network, self.setting)

    def decide(self, scenarios: Scenarios) -> Decisions:
        """Return the optimum of each scenario, an incumbent where the time limit struck.

        The report says which. Raises `NotSolvedError` when a scenario has no feasible decision or
        none was found in time.
        """
        answers = [self._decide_one(scenarios[k : k + 1]) for k in range(len(scenarios))]
        self.reports = [report for _, report in answers]
        return Decisions.join([decision for decision, _ in answers])

    def _decide_one(self, scenario: Scenarios) -> tuple[Decisions, Report]:
        begin = perf_counter()
        model = build_load_transfer(self.network, scenario, self.setting)
        solution = solve(model, self.solver, self.time_limit_s, self.rel_gap, accept_incumbent=True)
        decision = read_decision(model, scenario)
        repaired, note = False, ""
        if not judge(self.network, scenario, decision, self.setting).safe[0]:
            repaired = True
            least = self._least_shedding.solve(scenario, decision.closed[0])
            note = (
                "shedding replaced by the AC optimum of the topology"
                if least.found
                else f"no repair: {least.reason}"
            )
            if least.found:
                decision = Decisions(decision.closed, least.shed[None])
        # The angle equation of a meshed setting is an approximation: its optimum bounds nothing.
        # And the objective adds a loss term that is not cost: no decision loses more than it
        # supplies.
        most_loss = (
            LOSS_WEIGHT
            * self.network.base_mva
            * float(scenario.p_load.sum() + scenario.p_gen.sum())
        )
        bound = solution.bound - most_loss if self.setting.radial else -np.inf
        return decision, Report(bound, solution.reason, perf_counter() - begin, repaired, note)


def read_decision(model: pyo.ConcreteModel, scenario: Scenarios) -> Decisions:
    """Return the decision that a solved load-transfer model holds, a batch of one."""
    closed = np.array([pyo.value(model.y[b]) > 0.5 for b in model.branch])
    shed_power = np.array([pyo.value(model.shed[i]) for i in model.bus])
    demand = scenario.p_load[0]
    shed = np.divide(shed_power, demand, out=np.zeros_like(demand), where=demand > 0)
    return Decisions(closed[None], np.clip(shed, 0.0, 1.0)[None])
