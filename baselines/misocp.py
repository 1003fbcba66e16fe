"""The exact method: the load-transfer MISOCP solved to a gap, made AC-exact where it is not.

In the radial setting the cone relaxation is exact where loads alone decide; the decision is then
the optimum to the gap that its report proves. Local generation against an upper limit can loosen
it, and the model's decision then breaks that limit by AC power flow. The topology gets its AC
optimum instead, a cut excludes it, and the model is solved again, until its bound reaches the best
of these AC optima or the time is over: the report then says "not proven".

In the paper setting the model carries a linearised angle equation, which chooses the topology.
Where the model's shedding breaks an AC limit, the least shedding that the AC equations allow with
that topology replaces it (`models/load_transfer/shedding_opf.py`).

A decision known before, by default that of the plan search, is the cutoff of a radial model, and
the answer where the solver finds nothing cheaper in time.
"""

from __future__ import annotations

from dataclasses import replace
from time import perf_counter

import numpy as np
import pyomo.environ as pyo

from feederguard.baselines.plan_search import PlanSearch
from feederguard.models.load_transfer import (
    Decisions,
    Report,
    Scenarios,
    Setting,
    judge,
    resolve_setting,
)
from feederguard.models.load_transfer.least_shedding import least_shedding
from feederguard.models.load_transfer.shedding_opf import LeastSheddingSolver
from feederguard.models.network import Network
from feederguard.models.reconfiguration import LOSS_WEIGHT, build_load_transfer
from feederguard.models.solver import NotSolvedError, Solution, solve

NOT_PROVEN = "not proven"
LEAST_GAP = 1e-6  # of the cost, below which a bound is as good as it
# A known decision may use the judge's tolerance, which the model does not have.
CUTOFF = 1.001


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
        self._search = PlanSearch(network, self.setting)

    def decide(self, scenarios: Scenarios, start: Decisions | None = None) -> Decisions:
        """Return the optimum of each scenario, or the best known where the time limit struck.

        The report says which. start: decisions known before, default those of the plan search; no
        answer costs more than a safe one of them. Raises `NotSolvedError` when a scenario has no
        feasible decision, or none was found in time and the start is not safe.
        """
        answers = []
        for k in range(len(scenarios)):
            begin, scenario = perf_counter(), scenarios[k : k + 1]
            known = self._search.decide(scenario) if start is None else start[k : k + 1]
            answers.append(self._improve(scenario, known, begin))
        self.reports = [report for _, report in answers]
        return Decisions.join([decision for decision, _ in answers])

    def _improve(
        self, scenario: Scenarios, known: Decisions, begin: float
    ) -> tuple[Decisions, Report]:
        """Return the better of the known decision and the model's, with the model's bound."""
        outcome = judge(self.network, scenario, known, self.setting)
        cost = float(outcome.cost[0]) if outcome.safe[0] else np.inf
        try:
            decision, report = self._decide_one(scenario, cost)
        except NotSolvedError as error:
            if not np.isfinite(cost):
                raise
            nothing_cheaper = error.solution.reason == "infeasible" and self.setting.radial
            bound = cost if nothing_cheaper else self._bound(scenario, error.solution.bound)
            reason = "converged" if nothing_cheaper else NOT_PROVEN
            note = "the model found nothing cheaper than the start"
            return known, Report(min(bound, cost), reason, perf_counter() - begin, False, note)
        found = judge(self.network, scenario, decision, self.setting)
        if np.isfinite(cost) and not (found.safe[0] and found.cost[0] < cost):
            decision, report = known, replace(report, bound=min(report.bound, cost))
        return decision, replace(report, seconds=perf_counter() - begin)

    def _decide_one(self, scenario: Scenarios, cost: float) -> tuple[Decisions, Report]:
        """Return the model's decision; cost: of a known one, inf for none."""
        begin = perf_counter()
        model = build_load_transfer(self.network, scenario, self.setting)
        if np.isfinite(cost) and self.setting.radial:
            most = CUTOFF * cost + LEAST_GAP + self._most_loss(scenario)
            model.cutoff = pyo.Constraint(expr=model.objective.expr <= most)
        solution = solve(
            model,
            self.solver,
            self.time_limit_s,
            self.rel_gap,
            accept_incumbent=True,
            explain=not np.isfinite(cost),
        )
        decision = read_decision(model, scenario)
        if not judge(self.network, scenario, decision, self.setting).safe[0]:
            return self._repair(scenario, model, solution, decision, begin)
        bound = self._bound(scenario, solution.bound)
        return decision, Report(bound, solution.reason, perf_counter() - begin, False, "")

    def _repair(
        self,
        scenario: Scenarios,
        model: pyo.ConcreteModel,
        solution: Solution,
        decision: Decisions,
        begin: float,
    ) -> tuple[Decisions, Report]:
        """Return the best AC optimum of the topologies that the model proposes, one by one."""
        best, best_cost, bound, n_tried = decision, np.inf, -np.inf, 0
        model.excluded = pyo.ConstraintList(doc="topologies that have their AC optimum")
        while True:
            n_tried += 1
            for trial in (decision, *self._optima(scenario, decision)):
                outcome = judge(self.network, scenario, trial, self.setting)
                if outcome.safe[0] and outcome.cost[0] < best_cost:
                    best, best_cost = trial, float(outcome.cost[0])
            bound = self._bound(scenario, solution.bound)
            proven = solution.bound >= best_cost * (1 - 2 * self.rel_gap) - LEAST_GAP
            left = self.time_limit_s - (perf_counter() - begin)
            if proven or left <= 0 or not self.setting.radial:
                break
            free = [y for y in model.y.values() if not y.fixed]
            if not free:
                # There is one topology, and its AC optimum is known or there is none.
                proven = np.isfinite(best_cost)
                bound = best_cost if proven else bound
                break
            model.excluded.add(sum(1 - y if y.value > 0.5 else y for y in free) >= 1)
            try:
                solution = solve(
                    model, self.solver, left, self.rel_gap, accept_incumbent=True, explain=False
                )
            except NotSolvedError as error:
                # No other topology is left, or no time to find one.
                proven = error.solution.reason == "infeasible" and np.isfinite(best_cost)
                bound = best_cost if proven else bound
                break
            decision = read_decision(model, scenario)
        note = f"AC optima of {n_tried} topologies in place of the model's shedding"
        if not np.isfinite(best_cost):
            note = f"no repair: none of {n_tried} topologies has an AC optimum"
        reason = solution.reason if proven or not self.setting.radial else NOT_PROVEN
        seconds = perf_counter() - begin
        return best, Report(min(bound, best_cost), reason, seconds, True, note)

    def _optima(self, scenario: Scenarios, decision: Decisions) -> list[Decisions]:
        """Return the least shedding of the decision's topology, by Ipopt and by the race."""
        found = []
        # Ipopt sheds by fractions.
        least = self._least_shedding.solve(scenario, decision.closed[0])
        if least.found and not self.setting.whole_loads:
            found.append(Decisions(decision.closed, least.shed[None], least.curtail[None]))
        raced = least_shedding(self.network, scenario, decision.closed, self.setting)
        if raced.safe[0]:
            found.append(Decisions(decision.closed, raced.shed, raced.curtail))
        return found

    def _bound(self, scenario: Scenarios, bound: float) -> float:
        """Return the bound of the cost that the bound of the objective gives."""
        # The angle equation of a meshed setting is an approximation: its optimum bounds nothing.
        return bound - self._most_loss(scenario) if self.setting.radial else -np.inf

    def _most_loss(self, scenario: Scenarios) -> float:
        """Return the most that the loss term, which is no cost, adds to the objective."""
        # No decision loses more than it supplies.
        supplied = float(scenario.p_load.sum() + scenario.p_gen.sum())
        return LOSS_WEIGHT * self.network.base_mva * supplied


def read_decision(model: pyo.ConcreteModel, scenario: Scenarios) -> Decisions:
    """Return the decision that a solved load-transfer model holds, a batch of one."""
    closed = np.array([pyo.value(model.y[b]) > 0.5 for b in model.branch])
    shed_power = np.array([pyo.value(model.shed[i]) for i in model.bus])
    for i, off in model.off.items():
        shed_power[i] = scenario.p_load[0, i] * round(pyo.value(off))
    curtailed = np.zeros(len(shed_power))
    for i, power in model.curtailed.items():
        curtailed[i] = pyo.value(power)
    fractions = []
    for power, whole in ((shed_power, scenario.p_load[0]), (curtailed, scenario.p_gen[0])):
        fraction = np.divide(power, whole, out=np.zeros_like(whole), where=whole > 0)
        fractions.append(np.clip(fraction, 0.0, 1.0)[None])
    return Decisions(closed[None], *fractions)
