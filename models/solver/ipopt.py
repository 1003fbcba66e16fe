"""Ipopt for nonlinear models, prepared once for many solves of one model.

`ipopt_routes.py` finds an executable, or else the Ipopt bundled with CasADi, which needs no
download and writes no file. For that one the model is read as shared terms (`compiled/terms.py`),
which are differentiated shape by shape (`ipopt_functions.py`). `PreparedNlp` reads a model once.
Variables that hold data, fixed in the Pyomo model, become columns whose bounds each solve sets. A
scenario then costs an Ipopt run and nothing else.
"""

from __future__ import annotations

import math
import re
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import casadi
import numpy as np
import pyomo.environ as pyo
from numpy.typing import ArrayLike

from feederguard.models.arrays import FloatArray, IntArray
from feederguard.models.compiled.terms import read_terms
from feederguard.models.solver.ipopt_functions import build_nlp_functions
from feederguard.models.solver.ipopt_routes import IpoptRoute

# Options that keep a good start: Ipopt's defaults would first push it away from every bound.
NEAR_START = {"bound_push": 1e-6, "bound_frac": 1e-6, "mu_init": 1e-5}


@dataclass(frozen=True)
class IpoptResult:
    """How one run of Ipopt ended."""

    converged: bool
    infeasible: bool
    reason: str  # in Ipopt's own words
    objective: float
    seconds: float  # inside Ipopt and its derivatives


def ipopt_version(route: IpoptRoute) -> str:
    """Return the version that an Ipopt reports of itself, "-" where it reports none."""
    if route.executable is None:
        said = _casadi_banner()
    else:
        try:
            said = subprocess.run(
                [str(route.executable), "-v"],
                capture_output=True,
                text=True,
                timeout=10,
                check=False,
            ).stdout
        except (OSError, subprocess.TimeoutExpired):
            said = ""
    match = re.search(r"Ipopt (?:version )?(\d+\.\d+(?:\.\d+)?)", said)
    return match.group(1) if match else "-"


def _casadi_banner() -> str:
    """Return what the Ipopt of CasADi writes when it starts: only that tells its version."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ipopt.txt"
        x = casadi.MX.sym("x")
        options = {"output_file": str(path), "file_print_level": 5}
        start_ipopt({"x": x, "f": x**2}, {}, options)(x0=0.0)
        return path.read_text() if path.exists() else ""


def run_casadi_ipopt(
    model: pyo.ConcreteModel, time_limit_s: float, options: Mapping[str, Any]
) -> IpoptResult:
    """Solve the model's continuous relaxation by CasADi's Ipopt, and load the point reached.

    It starts from the model's current point.
    """
    prepared = PreparedNlp(model)
    result = prepared.solve(time_limit_s=time_limit_s, options=options)
    prepared.load()
    return result


def start_ipopt(
    nlp: Mapping[str, Any], settings: Mapping[str, Any], options: Mapping[str, Any]
) -> Any:
    """Return CasADi's solver of a problem (x, f, g); settings are CasADi's, options Ipopt's own."""
    quiet = {
        "print_time": False,
        "verbose_init": False,
        "error_on_fail": False,
        "no_nlp_grad": True,
    }
    return casadi.nlpsol(
        "ipopt_run",
        "ipopt",
        nlp,
        {**quiet, **settings, "ipopt": {"print_level": 0, "sb": "yes", **options}},
    )


class PreparedNlp:
    """A Pyomo model read by CasADi once, to be solved for many values of its `inputs`.

    inputs: names of variables that hold data. Raises ValueError when an input is no variable of the
    model, and when the model has not exactly one active objective. Raises
    `UnreadableExpressionError` when an expression has no derivatives.
    """

    def __init__(self, model: pyo.ConcreteModel, inputs: Sequence[str] = ()) -> None:
        self.model = model
        objectives = list(model.component_data_objects(pyo.Objective, active=True))
        if len(objectives) != 1:
            raise ValueError(
                f"{model.name}: {len(objectives)} active objectives; an NLP needs exactly one"
            )
        # A maximisation reaches Ipopt as the minimisation of the negated objective.
        self._sign = 1.0 if objectives[0].sense == pyo.minimize else -1.0
        data = [v for name in inputs for v in _variable(model, name).values()]
        fixed = [v for v in data if v.fixed]
        for v in fixed:
            v.unfix()
        try:
            self._read()
        finally:
            for v in fixed:
                v.fix()
        place = {id(v): k for k, v in enumerate(self._variables)}
        self._place: dict[str, IntArray] = {}
        for component in model.component_objects(pyo.Var):
            self._place[component.name] = np.array(
                [place.get(id(v), -1) for v in component.values()], dtype=np.int64
            )
        self._solvers: dict[tuple[tuple[str, Any], ...], Any] = {}
        self._x: FloatArray = self._start.copy()

    def solve(
        self,
        time_limit_s: float = 60.0,
        options: Mapping[str, Any] | None = None,
        start: FloatArray | None = None,
        **values: ArrayLike,
    ) -> IpoptResult:
        """Run Ipopt with the inputs held at `values`; `value` then returns the results.

        values: arrays in index order. start: a point from `point()`; default the values that the
        model had when it was read. Raises ValueError for the name of no variable.
        """
        if self._impossible:
            return IpoptResult(False, True, "Infeasible_Problem_Detected", math.nan, 0.0)
        lower, upper = self._lower.copy(), self._upper.copy()
        x0 = (self._start if start is None else start).copy()
        for name, value in values.items():
            if name not in self._place:
                raise ValueError(
                    f"{self.model.name}: no variable {name!r}; there are {', '.join(self._place)}"
                )
            place = self._place[name]
            given = np.broadcast_to(np.asarray(value, dtype=float), place.shape)
            seen = place >= 0
            lower[place[seen]] = upper[place[seen]] = x0[place[seen]] = given[seen]
        solver = self._solver({"max_wall_time": float(time_limit_s), **(options or {})})
        begin = perf_counter()
        answer = solver(x0=x0, lbx=lower, ubx=upper, lbg=self._g_lower, ubg=self._g_upper)
        seconds = perf_counter() - begin
        stats = solver.stats()
        self._x = np.array(answer["x"]).ravel()
        reason = str(stats["return_status"])
        return IpoptResult(
            converged=bool(stats["success"]) and bool(np.isfinite(self._x).all()),
            infeasible=reason == "Infeasible_Problem_Detected",
            reason=reason,
            objective=self._sign * float(answer["f"]),
            seconds=seconds,
        )

    def value(self, name: str) -> FloatArray:
        """Return the variable `name` at the last point, in index order.

        It is NaN where the model never uses it.
        """
        place = self._place[name]
        return np.where(place >= 0, self._x[place], np.nan)

    def point(self) -> FloatArray:
        """Return the last point, to be given as `start`."""
        return self._x.copy()

    def start(self, **values: ArrayLike) -> FloatArray:
        """Return the starting point with the values of some variables replaced."""
        x = self._start.copy()
        for name, value in values.items():
            place = self._place[name]
            x[place[place >= 0]] = np.broadcast_to(np.asarray(value, dtype=float), place.shape)[
                place >= 0
            ]
        return x

    def load(self) -> None:
        """Write the last point into the Pyomo model."""
        for variable, x in zip(self._variables, self._x.tolist(), strict=True):
            if not variable.fixed:
                variable.set_value(x, skip_validation=True)

    def _read(self) -> None:
        """Read columns, bounds, starting point, and the functions that `casadi.nlpsol` takes."""
        terms = read_terms(self.model)
        self._variables = list(terms.variables)
        self._g_lower, self._g_upper = terms.lower, terms.upper
        self._lower, self._upper, self._start = terms.x_lower, terms.x_upper, terms.x_start
        self._impossible = terms.impossible
        self._nlp, self._settings = build_nlp_functions(terms)

    def _solver(self, options: Mapping[str, Any]) -> Any:
        key = tuple(sorted(options.items()))
        if key not in self._solvers:
            self._solvers[key] = start_ipopt(self._nlp, self._settings, options)
        return self._solvers[key]


def _variable(model: pyo.ConcreteModel, name: str) -> Any:
    component = model.find_component(name)
    if component is None or component.ctype is not pyo.Var:
        known = ", ".join(c.name for c in model.component_objects(pyo.Var))
        raise ValueError(f"{model.name}: no variable {name!r} to take as input; there are {known}")
    return component
