"""What would have to give: the least violations with which an infeasible model has an answer.

Every limit gets two slacks that cost what they give, while the physics stays. With the rows and
columns of `compiled/terms.py`, l and u the limits:

    (1)  min  sum over limits of (s_i + z_i) + BALANCE_COST sum over bus balances of (s_i + z_i)
    (2)  l_i <= g_i(x) + s_i - z_i <= u_i       inequalities and bus balances
    (3)  l_j <= x_j + s_j - z_j <= u_j          bounds of variables, but none moves through zero
         s, z >= 0;   other equalities and cones hold as they are

A bus balance that gives stands for demand that cannot be met. Its cost makes it the last resort.
Where even this has no answer, all equalities give. All is in per unit, so a bus 0.01 pu outside its
band weighs as much as a branch 0.01 pu above its limit. The answer is the least *sum* of
violations, one of several ways out. For a nonconvex model it is a local one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

import numpy as np
import pyomo.environ as pyo
from scipy import sparse  # type: ignore[import-untyped]

from feederguard.models.arrays import BoolArray, FloatArray, IntArray
from feederguard.models.compiled.expressions import UnreadableExpressionError
from feederguard.models.compiled.terms import NlpTerms, read_terms
from feederguard.models.solver.ipopt import start_ipopt
from feederguard.models.solver.ipopt_functions import build_nlp_functions
from feederguard.models.solver.limit_names import describe_limit

BALANCE_COST = 1e3
BALANCES = ("active_balance", "reactive_balance")
CONES = ("cone",)  # inequalities that are physics: they relax an equality
DERIVED = ("c", "s", "theta")  # variables whose bounds follow from other limits: they are dropped
NEGLIGIBLE_PU = 1e-6
OUT_OF_TIME = "Maximum_WallTime_Exceeded"  # in Ipopt's words
FIRST_SHARE = 0.8  # of the time, for the attempt in which the physics stays

_UNMET = ("active power balance", "reactive power balance")


@dataclass(frozen=True)
class Violation:
    """One limit that gives."""

    limit: str  # what is limited, e.g. "voltage", or the component's name
    place: str  # e.g. "bus '18'", or the component's index
    step: int | None  # period, where the model has several
    side: str  # "below", "above", or "off" for a balance
    amount: float
    unit: str  # "pu", "MW", "Mvar", "MVA", "A", "MWh", "deg"; "" for what only the model knows


@dataclass(frozen=True)
class LeastViolations:
    """The least violations of a model."""

    found: bool  # False where the re-solve itself stopped short
    reason: str
    # One per limit, place and step: bus balances first, then the largest in per unit first.
    violations: tuple[Violation, ...]

    @property
    def unmet(self) -> bool:
        """Whether bus balances have to give: no voltages and currents meet the demand."""
        return any(violation.limit in _UNMET for violation in self.violations)

    def describe(self, most: int = 4) -> str:
        """Return at most `most` violations in words: the worst step of each limit and place."""
        worst: dict[tuple[str, str, str], list[Violation]] = {}
        for violation in self.violations:
            worst.setdefault((violation.limit, violation.place, violation.side), []).append(
                violation
            )
        shown = [_words(group) for group in list(worst.values())[:most]]
        more = f" and {len(worst) - most} more" if len(worst) > most else ""
        return ", ".join(shown) + more


def find_least_violations(model: pyo.ConcreteModel, time_limit_s: float = 10.0) -> LeastViolations:
    """Return which limits of a continuous model would have to give, and by how much.

    The model stays as it is. Amounts are in engineering units for the names of `build_ac_opf` and
    `build_distflow_opf`, else in the model's own. time_limit_s bounds the whole re-solve. Most of
    it is for the first attempt, in which the physics stays. `found` is False for a model that no
    solver could read, and where the re-solve did not converge in time.
    """
    end = perf_counter() + time_limit_s
    try:
        terms = read_terms(model)
    except UnreadableExpressionError as error:
        return LeastViolations(False, str(error), ())
    attempts = [~_is_physics(terms), np.ones(len(terms.constraints), dtype=bool)]
    reason = ""
    for giving, share in zip(attempts, (FIRST_SHARE, 1.0), strict=True):
        relaxed, slacks = _relax(terms, giving)
        x, reason = _solve(relaxed, perf_counter() + share * (end - perf_counter()))
        if x is not None:
            return LeastViolations(True, "converged", _violations(model, terms, slacks, x))
    return LeastViolations(False, reason, ())


@dataclass(frozen=True)
class _Slack:
    """A slack column, and the row or the column of the model that it relaxes."""

    column: int
    row: int | None
    variable: int | None
    side: str


def _is_physics(terms: NlpTerms) -> BoolArray:
    """Return which constraints hold as they are: cones, and equalities but for bus balances."""
    names = [c.parent_component().local_name for c in terms.constraints]
    equal = terms.lower == terms.upper
    return np.array(
        [
            name in CONES or (bool(e) and name not in BALANCES)
            for name, e in zip(names, equal, strict=True)
        ],
        dtype=bool,
    )


def _relax(terms: NlpTerms, giving: BoolArray) -> tuple[NlpTerms, list[_Slack]]:
    """Return (1)-(3) as terms, and its slacks."""
    n_x, n_row = len(terms.variables), len(terms.constraints)
    low, high = _hard_bounds(terms)
    derived = np.array(
        [v.parent_component().local_name in DERIVED for v in terms.variables], dtype=bool
    )
    soft = np.flatnonzero(~derived & ((low != terms.x_lower) | (high != terms.x_upper)))
    low[derived], high[derived] = -np.inf, np.inf
    rows: list[tuple[int, float]] = []  # (row of the relaxed model, sign) of each slack
    slacks: list[_Slack] = []
    for side, sign, limit, bound in (
        ("below", 1.0, terms.lower, terms.x_lower),
        ("above", -1.0, terms.upper, terms.x_upper),
    ):
        for i in np.flatnonzero(giving & np.isfinite(limit)).tolist():
            balance = terms.lower[i] == terms.upper[i]
            slacks.append(_Slack(n_x + len(slacks), i, None, "off" if balance else side))
            rows.append((i, sign))
        hard = low if side == "below" else high
        for k, j in enumerate(soft.tolist()):
            if bound[j] != hard[j]:
                slacks.append(_Slack(n_x + len(slacks), None, j, side))
                rows.append((n_row + k, sign))
    return _join(terms, soft, (low, high), rows, _costs(terms, slacks)), slacks


def _hard_bounds(terms: NlpTerms) -> tuple[FloatArray, FloatArray]:
    """Return the bounds that stay: a bound gives, but not through zero; zero itself stays."""
    low = np.where(terms.x_lower >= 0, 0.0, -np.inf)
    high = np.where(terms.x_upper <= 0, 0.0, np.inf)
    return low, high


def _costs(terms: NlpTerms, slacks: Sequence[_Slack]) -> FloatArray:
    names = [c.parent_component().local_name for c in terms.constraints]
    return np.array(
        [BALANCE_COST if s.row is not None and names[s.row] in BALANCES else 1.0 for s in slacks]
    )


def _join(
    terms: NlpTerms,
    soft: IntArray,
    box: tuple[FloatArray, FloatArray],
    rows: list[tuple[int, float]],
    costs: FloatArray,
) -> NlpTerms:
    n_x, n_row, n_slack = len(terms.variables), len(terms.constraints), len(rows)
    n_all = n_row + len(soft)
    chosen = sparse.csr_matrix(
        (np.ones(len(soft)), (np.arange(len(soft)), soft)), shape=(len(soft), n_x)
    )
    at, sign = [i for i, _ in rows], [s for _, s in rows]
    slack = sparse.csr_matrix((sign, (at, np.arange(n_slack))), shape=(n_all, n_slack))
    padding = sparse.csr_matrix((len(soft), terms.weights.shape[1]))
    return replace(
        terms,
        variables=(*terms.variables, *[None] * n_slack),
        constraints=(*terms.constraints, *[None] * len(soft)),
        maximise=False,
        f_constant=0.0,
        f_linear=np.concatenate([np.zeros(n_x), costs]),
        f_weights=np.zeros_like(terms.f_weights),
        linear=sparse.hstack([sparse.vstack([terms.linear, chosen]), slack]).tocsr(),
        weights=sparse.vstack([terms.weights, padding]).tocsr(),
        lower=np.concatenate([terms.lower, terms.x_lower[soft]]),
        upper=np.concatenate([terms.upper, terms.x_upper[soft]]),
        x_lower=np.concatenate([box[0], np.zeros(n_slack)]),
        x_upper=np.concatenate([box[1], np.full(n_slack, np.inf)]),
        x_start=np.concatenate([terms.x_start, np.zeros(n_slack)]),
    )


def _solve(terms: NlpTerms, end: float) -> tuple[FloatArray | None, str]:
    """Return the point of least violations, or None and why there is none.

    end: the time of `perf_counter` to stop at.
    """
    problem, settings = build_nlp_functions(terms)
    left_s = end - perf_counter()
    if left_s <= 0:
        return None, OUT_OF_TIME
    solver = start_ipopt(problem, settings, {"max_wall_time": left_s})
    answer = solver(
        x0=terms.x_start, lbx=terms.x_lower, ubx=terms.x_upper, lbg=terms.lower, ubg=terms.upper
    )
    x = np.array(answer["x"]).ravel()
    stats = solver.stats()
    good = bool(stats["success"]) and bool(np.isfinite(x).all())
    return (x if good else None), str(stats["return_status"])


def _violations(
    model: Any, terms: NlpTerms, slacks: Sequence[_Slack], x: FloatArray
) -> tuple[Violation, ...]:
    """Return what gives: per limit, place, step and side the worst."""
    given = sorted(
        (slack for slack in slacks if x[slack.column] > NEGLIGIBLE_PU),
        key=lambda slack: -x[slack.column],
    )
    values = {
        id(variable): float(value) for variable, value in zip(terms.variables, x, strict=False)
    }
    worst: dict[tuple[str, str, int | None, str], Violation] = {}
    for slack in given:
        violation = _violation(model, terms, slack, x, values)
        worst.setdefault(
            (violation.limit, violation.place, violation.step, violation.side), violation
        )
    return tuple(sorted(worst.values(), key=lambda violation: violation.limit not in _UNMET))


def _violation(
    model: Any, terms: NlpTerms, slack: _Slack, x: FloatArray, values: Mapping[int, float]
) -> Violation:
    if slack.row is not None:
        part, squared = terms.constraints[slack.row], terms.weights[slack.row].nnz > 0
        limit = terms.lower[slack.row] if slack.side == "below" else terms.upper[slack.row]
    else:
        assert slack.variable is not None
        part, squared = terms.variables[slack.variable], False
        limit = (
            terms.x_lower[slack.variable]
            if slack.side == "below"
            else terms.x_upper[slack.variable]
        )
    given = float(x[slack.column])
    excess = given if slack.side != "below" else -given
    named = describe_limit(
        model, part, float(limit), excess, squared, _voltages(model, part, values)
    )
    return Violation(named.limit, named.place, named.step, slack.side, named.amount, named.unit)


def _voltages(model: Any, part: Any, values: Mapping[int, float]) -> float:
    """Return |V_i| |V_j| in pu at the ends of the branch of an angle limit; 1 for others.

    values: the point, by id of its variables.
    """
    w = model.find_component("w")
    periods = model.__dict__.get("periods")
    if (
        part.parent_component().local_name != "angle_limit"
        or periods is None
        or w is None
        or w.ctype is not pyo.Var
    ):
        return 1.0
    t, b, _ = part.index()
    at = [w[t, int(bus)] for bus in (periods.network.from_bus[b], periods.network.to_bus[b])]
    near, far = (max(values.get(id(v), v.value or 1.0), 1e-6) for v in at)
    return float(np.sqrt(near * far))


def _words(group: Sequence[Violation]) -> str:
    worst = group[0]
    unit = f" {worst.unit}" if worst.unit else ""
    what = (
        f"{worst.limit} at {worst.place} {worst.side}{'' if worst.side == 'off' else ' its limit'}"
    )
    text = f"{what} by {worst.amount:.3g}{unit}"
    if worst.step is None:
        return text
    n_step = len({violation.step for violation in group})
    return f"{text} in step {worst.step}" + (
        f" (the worst of {n_step} steps)" if n_step > 1 else ""
    )
