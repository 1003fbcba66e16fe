"""The power-flow benchmark: it agrees with power-grid-model, and says what it needs."""

import sys

import pytest

from feederguard.studies.benchmarks.power_flow import main


def test_without_power_grid_model_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "power_grid_model", None)
    with pytest.raises(SystemExit, match=r'power-grid-model: pip install -e "\.\[bench\]"'):
        main([])


def test_both_find_the_same_voltages(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("power_grid_model")
    main(["--scenarios", "8", "--rounds", "1", "--threads", "1"])
    lines = capsys.readouterr().out.splitlines()
    rows = [line.split("│") for line in lines if "topology" in line]
    assert len(rows) == 2 and all(float(row[-2]) < 1e-7 for row in rows)
