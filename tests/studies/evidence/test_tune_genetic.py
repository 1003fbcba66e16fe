"""The tuning of the genetic algorithm: every configuration gets a row."""

from dataclasses import replace

import pytest

from feederguard.studies.evidence import tune_genetic


def test_every_configuration_has_its_row(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = tuple(replace(one, population=10, generations=2) for one in tune_genetic.GRID[:2])
    monkeypatch.setattr(tune_genetic, "GRID", small)
    tune_genetic.main(["--scenarios", "1", "--settings", "radial"])
    told = capsys.readouterr().out
    assert "ieee33, radial setting" in told
    assert sum(line.startswith("│") for line in told.splitlines()) == 2


def test_all_configurations_evaluate_the_same_number() -> None:
    assert {one.population * one.generations for one in tune_genetic.GRID} == {10_000}
