"""The benchmark of the exact load-transfer methods, on one scenario."""

import pytest

from feederguard.studies.benchmarks.load_transfer import main


def test_the_cone_program_is_held_against_the_enumerated_optimum(
    capsys: pytest.CaptureFixture[str],
) -> None:
    main(["paper", "--scenarios", "1"])
    told = capsys.readouterr().out
    assert "enumeration" in told and "misocp" in told
    assert "MISOCP over enumeration, 1 scenarios" in told


def test_an_unknown_part_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["everything"])
    assert stop.value.code == 2 and "invalid choice: 'everything'" in capsys.readouterr().err
