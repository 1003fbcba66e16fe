"""The agents' benchmark, with an agent that is trained for seconds."""

from pathlib import Path

import pytest

from feederguard.studies.benchmarks import agents
from feederguard.studies.benchmarks.agents import main


def test_an_agent_is_measured_against_the_cheapest_of_all_states(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--feeders", "ieee33", "--settings", "paper", "--methods", "ranked_switching"]
    arguments += ["--scenarios", "3", "--train-scenarios", "20", "--single", "--workers", "1"]
    main([*arguments, "--agents-cache", str(tmp_path), "--output", str(tmp_path / "out")])
    told = capsys.readouterr().out
    assert "ieee33, paper setting, 3 test scenarios" in told
    assert "gap to the cheapest of all tie states" in told
    assert "ranked_switching: {" in told and "largest AC residual" in told


def test_wrong_numbers_and_names_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, words in (
        (["--scenarios", "0"], "--scenarios, --train-scenarios and --workers must be at least 1"),
        (["--feeders", "atlantis"], "no feeder 'atlantis'"),
    ):
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        assert stop.value.code == 2 and words in capsys.readouterr().err


def test_every_method_has_a_maker() -> None:
    assert set(agents.METHODS) <= set(agents.TRAINED)
