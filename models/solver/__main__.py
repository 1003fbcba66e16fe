"""Print the solvers found, and how to get the others."""

from feederguard.models.solver.choose import print_solvers

print_solvers()
