"""Optimal power flow as a method: a model solved, its answer in tables and judged by the AC flow.

    method              model                          what it is
    ac_opf              build_ac_opf "polar"           a local optimum of the AC equations
    ac_opf_soc          build_ac_opf "soc"             a lower bound of it
    distflow_opf        build_distflow_opf "exact"     the same on radial feeders
    distflow_opf_soc    build_distflow_opf "soc"       a lower bound of it
    lindistflow_opf     build_distflow_opf "linear"    lossless: voltages are too high under load

The first two take radial and meshed networks. Whatever the model says, `OpfResult.check` is what
the AC power flow says of its setpoints. Generators and batteries inject what was decided. Each
substation is held at the voltage that the model gave it, and supplies what is left.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any, Protocol, Unpack

import pandas as pd
import pyomo.environ as pyo

from feederguard.baselines.opf.check import OpfCheck, check_opf
from feederguard.baselines.opf.one_way import settle_batteries
from feederguard.baselines.opf.tables import battery_table, branch_table, bus_table, generator_table
from feederguard.models.ac_opf import build_ac_opf
from feederguard.models.distflow_opf import build_distflow_opf, start_from
from feederguard.models.equations.periods import OpfData
from feederguard.models.network import Network
from feederguard.models.solver import (
    NEAR_START,
    NotSolvedError,
    Solution,
    explain_infeasible,
    solve,
    solver_for,
)
from feederguard.models.solver.solution import model_name


@dataclass(frozen=True, eq=False)
class OpfResult:
    """The answer of one OPF: one row per step and thing in each table, in engineering units.

    Columns that end in `_ac` come from the AC power flow, the others from the model. A feeder
    without generators, free substations or batteries has tables without rows.
    """

    method: str
    solution: Solution
    bus: pd.DataFrame  # step, bus, v_pu, v_pu_ac, angle_deg_ac, p_load_mw, q_load_mvar, p_gen_mw
    # step, branch, from_bus, to_bus, closed, p_mw, q_mvar, p_mw_ac, q_mvar_ac, loss_kw_ac, and more
    branch: pd.DataFrame
    generator: pd.DataFrame  # step, generator, kind, bus, p_mw, q_mvar, cost_per_h
    battery: pd.DataFrame  # step, battery, bus, p_charge_mw, p_discharge_mw, energy_mwh, soc
    check: OpfCheck
    model: pyo.ConcreteModel  # solved, in per unit


class OpfMethod(Protocol):
    """A way to dispatch a feeder over one period or many."""

    @property
    def name(self) -> str: ...

    def solve(
        self,
        network: Network,
        *,
        objective: Callable[[Any], Any] | None = None,
        change: Callable[[Any], None] | None = None,
        **data: Unpack[OpfData],
    ) -> OpfResult: ...


@dataclass(frozen=True)
class Opf:
    """One of the models above with its solver's settings; it serves any network."""

    name: str
    build: Callable[..., pyo.ConcreteModel]
    form: str
    solver: str = "auto"
    time_limit_s: float = 300.0  # of all its solves together
    # the form to solve first over many periods, as a start: see `distflow_opf.start_from`
    first_form: str | None = None

    def solve(
        self,
        network: Network,
        *,
        objective: Callable[[Any], Any] | None = None,
        change: Callable[[Any], None] | None = None,
        **data: Unpack[OpfData],
    ) -> OpfResult:
        """Return the optimum over the given periods, in tables and checked.

        data: p_load, q_load, p_gen, gen_p_max in pu, step_h in hours, batteries; see `OpfData`.
        objective: a sum of `models.opf_objectives`. change: called with the unsolved model, to add
        constraints to it.

        Batteries that charge and discharge at once are netted where that costs nothing. Elsewhere
        the model is solved again with that forbidden, and a warning says so (`one_way.py`). Where
        an answer of `first_form` was tried as a start, `solution.solver` says whether it served.

        Raises `NotSolvedError` when there is no answer, naming the limits that would have to give,
        and as the builders do.
        """
        begin = perf_counter()

        def built(form: str) -> Any:
            model = self.build(network, form, objective=objective, **data)
            if change is not None:
                change(model)
            return model

        model = built(self.form)
        budget = _Budget(self.time_limit_s)
        solution = self._solve(model, built, budget)
        solution = settle_batteries(
            model,
            solution,
            self.name,
            self.form,
            self.solver,
            budget.left,
            changed=change is not None,
        )
        return read_opf(model, replace(solution, seconds=perf_counter() - begin), self.name)

    def _solve(
        self, model: pyo.ConcreteModel, built: Callable[[str], Any], budget: _Budget
    ) -> Solution:
        """Solve the model, from the answer of `first_form` where Ipopt solves several periods."""
        if (
            self.first_form is None
            or model.periods.n_step == 1
            or solver_for(model, self.solver) != "ipopt"
        ):
            return solve(model, self.solver, self.time_limit_s)
        solution = self._solve_from_first(model, built(self.first_form), budget)
        if solution is not None:
            return replace(solution, solver=f"{solution.solver}, started from {self.first_form}")
        try:
            solution = solve(model, "ipopt", budget.left())
        except NotSolvedError as error:
            if error.solution.reason != "time_limit":
                raise
            raise NotSolvedError(
                f"{error.solution.model}: {error.solution.solver} stopped with time_limit without "
                f"any feasible point, the solve of its {self.first_form} form included; raise "
                f"time_limit_s={self.time_limit_s:g}",
                error.solution,
            ) from None
        return replace(solution, solver=f"{solution.solver}, cold")

    def _solve_from_first(
        self, model: pyo.ConcreteModel, first: pyo.ConcreteModel, budget: _Budget
    ) -> Solution | None:
        """Solve from the answer of `first`; None where it has none, or Ipopt finds none near it."""
        try:
            solve(first, "ipopt", budget.left(), explain=False)
        except NotSolvedError as error:
            if error.solution.reason == "infeasible" and self.first_form == "soc":
                # Where the relaxation has no point, this form has none, and the relaxation says so
                # faster.
                told = explain_infeasible(first, error.solution, self.time_limit_s)
                raise NotSolvedError(
                    f"{model_name(model)}: infeasible, as its relaxation is. {told}", told.solution
                ) from None
            return None
        try:
            start_from(model, first)
        except ValueError:
            # A caller's change may add variables without a value, or to one form only.
            return None
        try:
            return solve(model, "ipopt", budget.left(), options=NEAR_START, explain=False)
        except NotSolvedError:
            # The solve from the usual start gives the reason. Values left by this attempt are no
            # worse a start than the usual one.
            return None


class _Budget:
    """A time limit that several solves share."""

    def __init__(self, time_limit_s: float) -> None:
        self._end = perf_counter() + time_limit_s

    def left(self) -> float:
        """Return the seconds that are left, at least 0.01: a solver takes no limit of zero."""
        return max(self._end - perf_counter(), 0.01)


def read_opf(model: pyo.ConcreteModel, solution: Solution, method: str) -> OpfResult:
    """Return tables and check of a solved model of `build_ac_opf` or `build_distflow_opf`."""
    check = check_opf(model)
    return OpfResult(
        method,
        solution,
        bus_table(model, check.flow),
        branch_table(model, check.flow),
        generator_table(model),
        battery_table(model),
        check,
        model,
    )


OPF_METHODS: dict[str, Opf] = {
    method.name: method
    for method in (
        Opf("ac_opf", build_ac_opf, "polar"),
        Opf("ac_opf_soc", build_ac_opf, "soc"),
        Opf("distflow_opf", build_distflow_opf, "exact", first_form="soc"),
        Opf("distflow_opf_soc", build_distflow_opf, "soc"),
        Opf("lindistflow_opf", build_distflow_opf, "linear"),
    )
}


def opf_method(name: str) -> Opf:
    """Return the method of that name; raises ValueError listing the names."""
    if name not in OPF_METHODS:
        raise ValueError(f"unknown OPF method {name!r}; use one of {', '.join(OPF_METHODS)}")
    return OPF_METHODS[name]


def solve_opf(
    network: Network,
    method: str = "ac_opf",
    *,
    objective: Callable[[Any], Any] | None = None,
    change: Callable[[Any], None] | None = None,
    **data: Unpack[OpfData],
) -> OpfResult:
    """Return the optimum of `network` by one of OPF_METHODS.

    Arguments and errors are those of `Opf.solve`; ValueError for an unknown method.
    """
    return opf_method(method).solve(network, objective=objective, change=change, **data)
