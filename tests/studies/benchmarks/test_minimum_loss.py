"""The benchmark of minimum loss on a small ring: the solver's loss is that of branch exchange."""

import sys

import pytest

from feederguard.studies.benchmarks import minimum_loss
from feeders import ring


def test_a_row_per_feeder(monkeypatch, capsys):
    monkeypatch.setattr(
        minimum_loss, "load_network", lambda name: ring(0.1, 0.2, r=0.01, name=name)
    )
    monkeypatch.setattr(sys, "argv", ["minimum_loss", "--feeders", "small"])
    minimum_loss.main()

    row = next(line for line in capsys.readouterr().out.splitlines() if "small" in line)
    _, name, published, loss, bound, gap, _, exchanged, _, _ = (x.strip() for x in row.split("│"))
    assert (name, published) == ("small", "-")
    assert float(loss) > 0 and loss == exchanged
    assert float(bound) == pytest.approx(float(loss), rel=1e-3) and float(gap) < 0.1
