"""What a solver found: the gap, the model's name, and the messages of a solve that fell short."""

import math
import re

import pyomo.environ as pyo
import pytest
from small_models import nlp

from feederguard.models.solver import NotSolvedError, Solution, solve
from feederguard.models.solver.solution import explain_stop, headline


def test_gap_is_relative_and_infinite_without_figures():
    def gap(objective, bound):
        return Solution("feasible", "time_limit", objective, bound, 1.0, "scip", "m").gap

    assert gap(10.0, 9.0) == pytest.approx(0.1)
    assert gap(-10.0, -11.0) == pytest.approx(0.1)
    assert gap(math.nan, 1.0) == gap(1.0, math.nan) == gap(1.0, -math.inf) == math.inf


def test_models_whose_names_pyomo_quotes_are_called_without_quotes():
    model = nlp()
    model.name = "a model (of mine)"
    assert model.name != "a model (of mine)", "Pyomo puts it between quotes"
    assert solve(model).model == "a model (of mine)"
    model.never = pyo.Constraint(expr=sum(model.component_data_objects(pyo.Var)) ** 2 <= -1)
    with pytest.raises(NotSolvedError, match=r"^a model \(of mine\): ipopt"):
        solve(model)


@pytest.mark.parametrize(
    ("status", "reason", "words"),
    [
        (
            "feasible",
            "time_limit",
            "incumbent 10, bound 9, gap 10 %.*raise time_limit_s=60, loosen",
        ),
        ("none", "time_limit", "without any feasible point; raise time_limit_s=60"),
        ("none", "infeasible", "no point meets every constraint; relax the voltage band"),
        ("none", "unbounded", "the objective has no limit; bound the variables"),
        ("none", "odd", "check the model's bounds and start values"),
    ],
)
def test_a_solve_that_fell_short_says_what_to_change(status, reason, words):
    solution = Solution(status, reason, 10.0, 9.0, 1.0, "scip", "m")
    message = explain_stop(solution, 60.0, 1e-4)
    assert message.startswith(headline(solution))
    assert re.search(words, message)
