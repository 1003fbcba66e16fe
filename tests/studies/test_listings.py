"""The tables of feeders and solvers, as a person asks for them."""

import pytest

from feederguard.data.networks import list_networks
from feederguard.studies.command import main


def test_networks_are_listed_with_what_they_are_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["networks"]) == 0
    told = capsys.readouterr().out
    assert all(name in told for name in list_networks())
    assert "3.715" in told and "load, MW" in told


def test_solvers_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["solvers"]) == 0
    assert "HiGHS" in capsys.readouterr().out
