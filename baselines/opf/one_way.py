"""Batteries that charge and discharge at once in an answer: netted where that costs nothing.

`models/battery/batteries.py` says where using both ways pays. What netting leaves is settled by the
form of the model:

    exact    solved again with c d = 0 as products (`forbid_simultaneous_by_products`); where their
             tolerance leaves anything, once more with the idle power of every pair fixed at 0
    linear   solved again with a binary per battery and step (`forbid_simultaneous_by_binaries`)
    soc      left: it is a bound on the exact form, which excluding would raise in vain

Each of these says so by a warning. A second answer costs at least as much as the first, and is what
a battery can do.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pyomo.environ as pyo

from feederguard.models.battery.netting import SimultaneousUse, net_batteries, simultaneous_use
from feederguard.models.equations.battery import (
    forbid_simultaneous_by_binaries,
    forbid_simultaneous_by_products,
)
from feederguard.models.solver import (
    NEAR_START,
    NotSolvedError,
    Solution,
    SolverMissingError,
    solve,
    solver_for,
)

HELD_TO_PU = 1e-7  # netting may worsen no constraint beyond this, the tolerance of the solvers

_Values = list[tuple[Any, Any]]


def settle_batteries(
    model: Any,
    solution: Solution,
    method: str,
    form: str,
    solver: str,
    seconds_left: Callable[[], float],
    changed: bool,
) -> Solution:
    """Net the batteries of a solved OPF, settle what is left by `form`, and return the solution.

    seconds_left: returns the time that a second solve may take. changed: whether the model has
    constraints besides its builder's, which netting has to keep. The objective of the solution is
    that of the model as it is left.
    """
    if not len(model.periods.batteries):
        return solution
    _net_where_free(model, changed)
    left = simultaneous_use(model)
    if left and form == "soc":
        _warn(
            model,
            method,
            left,
            "a relaxation is a bound, so it is left so; an exact form excludes it",
        )
    elif left:
        before, forbidden = _values(model), _forbids_already(model)
        try:
            again = _solve_one_way(model, form, solver, seconds_left, changed)
            solution = replace(again, solver=f"{again.solver}, one way at a time")
            if not forbidden:
                _warn(model, method, left, "solved again with that forbidden")
        except (NotSolvedError, SolverMissingError) as error:
            if not forbidden:
                _drop_forbidding(model)
            _restore(before)
            _warn(
                model,
                method,
                left,
                f"it is left so, as it could not be solved with that forbidden ({error})",
            )
    return replace(solution, objective=float(pyo.value(_objective(model))))


def _forbids_already(model: Any) -> bool:
    """Return whether a caller's change forbids it; what is left is then within its tolerance."""
    return any(model.find_component(name) is not None for name in ("one_way", "charges"))


def _drop_forbidding(model: Any) -> None:
    """Remove what `forbid_simultaneous_by_products` and `_by_binaries` add."""
    for name in ("one_way", "charges_if_said", "discharges_if_said", "charges"):
        if model.find_component(name) is not None:
            model.del_component(name)


def _solve_one_way(
    model: Any, form: str, solver: str, seconds_left: Callable[[], float], changed: bool
) -> Solution:
    """Solve again from the answer with one way only; raises `NotSolvedError`."""
    _start_one_way(model)
    if _forbids_already(model):
        return _solve_with_idle_fixed(model, solver, seconds_left)
    products = solver == "ipopt" or (solver == "auto" and form != "linear")
    (forbid_simultaneous_by_products if products else forbid_simultaneous_by_binaries)(model)
    solution = solve(model, "ipopt" if products else solver, seconds_left(), explain=False)
    _net_where_free(model, changed)
    if simultaneous_use(model):
        return _solve_with_idle_fixed(model, "ipopt" if products else solver, seconds_left)
    return solution


def _solve_with_idle_fixed(model: Any, solver: str, seconds_left: Callable[[], float]) -> Solution:
    """Solve once more with the smaller power of every battery and step fixed at zero."""
    idle = []
    for t, k in model.p_charge:
        pair = (model.p_charge[t, k], model.p_discharge[t, k])
        variable = min(pair, key=lambda power: power.value)
        if not variable.fixed:
            variable.fix(0.0)
            idle.append(variable)
    try:
        options = NEAR_START if solver_for(model, solver) == "ipopt" else None
        solution = solve(model, solver, seconds_left(), explain=False, options=options)
    finally:
        for variable in idle:
            variable.unfix()
    net_batteries(model)
    return solution


def _net_where_free(model: Any, changed: bool) -> None:
    """Net the batteries, unless that worsens the objective or a constraint of the caller."""
    before, objective = _values(model), _objective(model)
    cost, broken = float(pyo.value(objective)), _worst(model) if changed else 0.0
    net_batteries(model)
    sign = 1.0 if objective.sense == pyo.minimize else -1.0
    dearer = sign * (float(pyo.value(objective)) - cost) > 1e-6 * abs(cost) + 1e-9
    if dearer or (changed and _worst(model) > max(broken, HELD_TO_PU)):
        _restore(before)


def _start_one_way(model: Any) -> None:
    """Set every pair of powers to its difference: the start of a solve with one way only."""
    for t, k in model.p_charge:
        charge, discharge = model.p_charge[t, k], model.p_discharge[t, k]
        net = charge.value - discharge.value
        charge.set_value(max(net, 0.0), skip_validation=True)
        discharge.set_value(max(-net, 0.0), skip_validation=True)


def _values(model: Any) -> _Values:
    return [(variable, variable.value) for variable in model.component_data_objects(pyo.Var)]


def _restore(values: _Values) -> None:
    for variable, value in values:
        if not variable.fixed:
            variable.set_value(value, skip_validation=True)


def _objective(model: Any) -> Any:
    return next(model.component_data_objects(pyo.Objective, active=True))


def _worst(model: Any) -> float:
    """Return the largest violation of an active constraint, inf where one has no value."""
    worst = 0.0
    for constraint in model.component_data_objects(pyo.Constraint, active=True):
        body = pyo.value(constraint.body, exception=False)
        low, high = constraint.lb, constraint.ub
        if body is None or not math.isfinite(body):
            return math.inf
        worst = max(
            worst,
            -math.inf if low is None else low - body,
            -math.inf if high is None else body - high,
        )
    return worst


def _warn(model: Any, method: str, left: list[SimultaneousUse], what: str) -> None:
    first = left[0]
    more = f" and at {len(left) - 1} more battery-steps" if len(left) > 1 else ""
    warnings.warn(
        f"{model.periods.network.name}: {method} has battery {first.battery!r} charge with "
        f"{first.p_charge_mw:.4g} MW and discharge with {first.p_discharge_mw:.4g} MW at once in "
        f"step {first.step}{more}, which this objective and these limits do not rule out; {what}",
        stacklevel=4,
    )
