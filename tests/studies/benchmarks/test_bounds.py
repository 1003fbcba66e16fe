"""The benchmark of bounds on a small ring, where a bound is as good as the decision."""

import sys

import pytest

from feederguard.models.bounds.cost_bound import LowerBound
from feederguard.studies.benchmarks import bounds
from feeders import ring


def test_a_row_per_feeder(monkeypatch, capsys):
    monkeypatch.setattr(bounds, "load_network", lambda name: ring(0.06, 0.06, name=name))
    monkeypatch.setattr(sys, "argv", ["bounds", "small", "--time-limit-s", "3600"])
    bounds.main()

    row = next(line for line in capsys.readouterr().out.splitlines() if "small" in line)
    _, name, faults, median, most, worst, *_ = (cell.strip() for cell in row.split("│"))
    assert (name, faults) == ("small", "4")
    assert float(median) <= float(most) <= float(worst) < 0.2


def test_a_bound_above_a_safe_decision_stops_it(monkeypatch):
    def wrong(self, scenario, known_cost, time_limit_s):
        return LowerBound(0.999 * known_cost, "wrong", 0.0)

    monkeypatch.setattr(bounds.CostBound, "bound", wrong)
    with pytest.raises(RuntimeError, match="hand, fault 'a': bound .* above the safe decision"):
        bounds.measure(ring(0.06, 0.06), 1.0, 1, 10.0)
