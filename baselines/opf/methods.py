"""Optimal power flow as a method: solve the model, put the answer into tables, and judge it by the
AC power flow.

    method                  model                            what it is
    ac_opf                  build_ac_opf "polar"             a local optimum of the AC equations, radial or meshed
    ac_opf_soc              build_ac_opf "soc"               a lower bound of it
    distflow_opf            build_distflow_opf "exact"       the same on radial feeders
    distflow_opf_soc        build_distflow_opf "soc"         a lower bound of it
    lindistflow_opf         build_distflow_opf "linear"      without losses, so its voltages are optimistic under load

Whatever the model believed, `OpfResult.check` is what the AC power flow says of its setpoints:
generators and batteries inject what was decided, each substation is held at the voltage the model
gave it, and supplies what is left.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any, Protocol

import pandas as pd
import pyomo.environ as pyo
from numpy.typing import ArrayLike

from feederguard.baselines.opf.check import OpfCheck, check_opf
from feederguard.baselines.opf.one_way import settle_batteries
from feederguard.baselines.opf.tables import battery_table, branch_table, bus_table, generator_table
from feederguard.models.ac_opf import build_ac_opf
from feederguard.models.battery import Batteries
from feederguard.models.distflow_opf import NEAR_START, build_distflow_opf, start_from
from feederguard.models.network import Network
from feederguard.models.solver import (
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
    # step, branch, from_bus, to_bus, p_mw, q_mvar, p_mw_ac, q_mvar_ac, loss_kw_ac, current_a_ac,
    # ...
    branch: pd.DataFrame
    generator: (
        pd.DataFrame
    )  # step, generator, kind (generator, substation), bus, p_mw, q_mvar, cost_per_h
    battery: pd.DataFrame  # step, battery, bus, p_charge_mw, p_discharge_mw, energy_mwh, soc
    check: OpfCheck
    model: pyo.ConcreteModel  # solved, in per unit


class OpfMethod(Protocol):
    """A way to dispatch a feeder over one period or many."""

    @property
    def name(self) -> str: ...

    def solve(self, network: Network, **data: Any) -> OpfResult: ...


@dataclass(frozen=True)
class Opf:
    """One of the models above with its solver's settings; a frozen recipe that serves any network."""

    name: str
    build: Callable[..., pyo.ConcreteModel]
    form: str
    solver: str = "auto"
    time_limit_s: float = 300.0  # of all its solves together
    first_form: str | None = (
        None  # solved first over many periods, to start from: see `distflow_opf.start_from`
    )

    def solve(
        self,
        network: Network,
        *,
        p_load: ArrayLike | None = None,
        q_load: ArrayLike | None = None,
        p_gen: ArrayLike | None = None,
        gen_p_max: ArrayLike | None = None,
        step_h: float = 1.0,
        batteries: Batteries | None = None,
        objective: Callable[[Any], Any] | None = None,
        change: Callable[[Any], None] | None = None,
    ) -> OpfResult:
        """Return the optimum over the given periods, in tables and checked.

        p_load, q_load, p_gen, gen_p_max: pu, (n,) or (T, n) for T steps of step_h hours; default
        the network's. objective: a sum of `models.opf_objectives`. change: called with the unsolved
        model, to add constraints to it. Batteries that charge and discharge at once are netted, and
        where that is not for nothing excluded with a warning
        (`one_way.py`). Where an answer of `first_form` was tried as a start, `solution.solver` says whether it served.

        Raises `NotSolvedError` naming the limits that would have to give when there is no answer,
        and as the builders do.
        """
        begin = perf_counter()

        def built(form: str) -> Any:
            model = self.build(
                network,
                form,
                p_load=p_load,
                q_load=q_load,
                p_gen=p_gen,
                gen_p_max=gen_p_max,
                step_h=step_h,
                batteries=batteries,
                objective=objective,
            )
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
        """Solve the model, from the answer of `first_form` where there is one to Ipopt's use."""
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
                "any feasible "
                f"point, the solve of its {self.first_form} form included; raise "
                f"time_limit_s={self.time_limit_s:g}",
                error.solution,
            ) from None
        return replace(solution, solver=f"{solution.solver}, cold")

    def _solve_from_first(
        self, model: pyo.ConcreteModel, first: pyo.ConcreteModel, budget: _Budget
    ) -> Solution | None:
        """Solve from the answer of `first`; None where there is no such answer, or none near it."""
        try:
            solve(first, "ipopt", budget.left(), explain=False)
        except NotSolvedError as error:
            if error.solution.reason == "infeasible" and self.first_form == "soc":
                # What no point of a relaxation meets, no point of this form does; and the
                # relaxation says so faster.
                told = explain_infeasible(first, error.solution, self.time_limit_s)
                raise NotSolvedError(
                    f"{model_name(model)}: infeasible, as its relaxation is. {told}", told.solution
                ) from None
            return None
        try:
            start_from(model, first)
        except ValueError:
            # A caller's change may add variables that have no value, or that one form lacks.
            return None
        try:
            return solve(model, "ipopt", budget.left(), options=NEAR_START, explain=False)
        except NotSolvedError:
            # The solve from the usual start says why; values left by the attempt are no worse a
            # start than the usual one.
            return None


class _Budget:
    """A time limit that several solves share."""

    def __init__(self, time_limit_s: float) -> None:
        self._end = perf_counter() + time_limit_s

    def left(self) -> float:
        """Return the seconds that are left; a solver takes no limit of zero, so never less than a
        hundredth.
        """
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


def solve_opf(network: Network, method: str = "ac_opf", **data: Any) -> OpfResult:
    """Return the optimum of `network` by one of OPF_METHODS; `data` as for `Opf.solve`."""
    return opf_method(method).solve(network, **data)
