"""The faces hand on the public names, and import no more than is asked for."""

import subprocess
import sys
from importlib import import_module

import pytest

FACES = {
    "models": {"Network", "judge", "make_scenarios", "solve", "solve_power_flow"},
    "baselines": {"Misocp", "PlanSearch", "solve_opf"},
    "agents": {"RankedSwitching", "SafetyLayer", "VoltageAgent"},
    "data": {"load_network", "load_profiles"},
}


@pytest.mark.parametrize("face", FACES)
def test_every_name_of_a_face_is_the_one_of_its_module(face):
    package = import_module(f"feederguard.{face}")

    assert set(package.__all__) == FACES[face]
    for name in package.__all__:
        thing = getattr(package, name)
        assert thing is getattr(import_module(thing.__module__), name)


def test_an_unknown_name_lists_the_known_ones():
    package = import_module("feederguard.data")

    with pytest.raises(AttributeError, match="no attribute 'load'; it hands on load_network"):
        package.load  # noqa: B018


@pytest.mark.parametrize("face", FACES)
def test_a_face_loads_no_large_library(face):
    program = f"import sys, feederguard.{face}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    large = {"torch", "pandapower", "dask", "distributed", "numba", "pyomo", "pandas"}
    assert not large & set(done.stdout.split())
