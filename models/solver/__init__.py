"""Solvers: `solve` chooses one by the class of the model and returns what it found.

The files of this folder are the only ones that name solvers; `choose.py` lists them. The command
`python -m feederguard.models.solver` prints which are installed.
"""

from feederguard.models.solver.choose import SOLVERS, available_solvers, print_solvers, solver_for
from feederguard.models.solver.ipopt import NEAR_START
from feederguard.models.solver.solution import NotSolvedError, Solution, SolverMissingError
from feederguard.models.solver.solve import explain_infeasible, solve

__all__ = [
    "NEAR_START",
    "NotSolvedError",
    "SOLVERS",
    "Solution",
    "SolverMissingError",
    "available_solvers",
    "explain_infeasible",
    "print_solvers",
    "solve",
    "solver_for",
]
