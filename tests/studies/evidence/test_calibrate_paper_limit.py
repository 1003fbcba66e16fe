"""The calibration of the paper's limit: less load is shed with a larger limit."""

import pytest

from feederguard.studies.evidence.calibrate_paper_limit import main


def test_a_larger_limit_sheds_less(capsys: pytest.CaptureFixture[str]) -> None:
    main(["ieee33", "--limits-mw", "0.6", "0.9", "--scenarios", "5"])
    rows = [line.split("│") for line in capsys.readouterr().out.splitlines() if "│" in line]
    assert [float(row[1]) for row in rows] == [0.6, 0.9]
    small, large = (float(row[2]) for row in rows)
    assert 0 <= large < small < 1


def test_too_many_ties_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["mantovani136", "--limits-mw", "1", "--scenarios", "1"])
    assert stop.value.code == 2
    assert "mantovani136 has too many ties to try every state" in capsys.readouterr().err
