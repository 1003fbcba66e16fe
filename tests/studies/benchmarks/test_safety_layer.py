"""The lines of the safety-layer benchmark; whole decisions are timed in tests/agents."""

import pytest
from rich.table import Table

from feederguard.studies.benchmarks import safety_layer
from feederguard.studies.benchmarks.safety_items import benchmark_feeder


def figures(table: Table) -> list[str]:
    return [str(cell) for cell in table.columns[0].cells]


def test_every_rate_has_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(safety_layer, "BATCH", 8)
    table = Table("figure", "value", "note")
    network, batteries = benchmark_feeder()
    safety_layer._time_rates(table, network, batteries, 1, 1)
    safety_layer._time_others(table, network, batteries, 1)
    told = figures(table)
    for name in ("kernel", "project_batch", "correct"):
        assert f"{name}, 1 thread, items a second" in told
    for name in ("kernels", "project (torch)", "project_ac (torch)"):
        assert f"{name}, 1 thread, forward plus backward" in told
    assert told[-1] == "building and solving the Pyomo model, a second"


def test_the_difference_to_other_solvers_is_small() -> None:
    table = Table("figure", "value", "note")
    safety_layer._check_exactness(table, *benchmark_feeder(), 4)
    assert figures(table)[0] == "worst difference to HiGHS on the Pyomo model"
    assert float(str(list(table.columns[1].cells)[0])) < 1e-5
