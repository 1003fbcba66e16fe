"""The sizing study: what its last line and exit status depend on, on a drawn case."""

import sys
from dataclasses import replace
from typing import Any

import pytest
from rich.table import Table

from feederguard.baselines.voltage.optimum import VoltageOpf, VoltageOptimumError
from feederguard.data.voltage_cases import VoltageCase
from feederguard.models.battery import Batteries
from feederguard.models.soc_tube import compute_soc_tube
from feederguard.studies.evidence import size_voltage_case
from feederguard.studies.evidence.size_voltage_case import Held, controlled, main, optimum, verdict
from feeders import demand_days, pair

HARD = [-0.6, -0.6, 0.1, 0.1, 0.6, 0.6, 0.1, 0.1]
CALM = [0.1] * 8


def toy(energy: float = 2.0) -> VoltageCase:
    """0 --r = 0.1-- 1 on 1 MVA: 0.6 of demand, or of surplus, is too much for the band."""
    network = pair(p_gen=[0, 1.0], rating=2.0)
    days = demand_days([HARD, CALM, HARD], first="2016-01-01")
    return VoltageCase(network, Batteries.at(network, ["1"], 0.5, energy), days)


def test_a_case_that_is_as_meant() -> None:
    case = toy()
    best, idle = (
        optimum(case),
        controlled(case, compute_soc_tube(case.network, case.batteries, case.days)),
    )
    assert best.n_day == 3 and not best.lost_days
    assert (idle.outside, idle.slack, idle.uncertified, idle.short_days) == (0, 0, 0, 0)
    words, fine = verdict(best, idle)
    assert (
        fine
        and words.startswith("As intended: the AC optimum holds all 3 days")
        and "0 of 3 days short" in words
    )
    # Without the tube nobody brings the energy back: told, and no fault of the sizes.
    words, fine = verdict(best, controlled(case, None))
    assert fine and words.endswith("the idle policy ends 2 of 3 days short of energy")


def test_too_small_a_battery_is_told_of() -> None:
    """0.15 MWh, half full, cannot give the 0.263 that two heavy hours take out."""
    case = toy(energy=0.15)
    best, idle = optimum(case), controlled(case, None)
    assert best.lost_days == ("2016-01-01", "2016-01-03")
    assert idle.outside > 0 and idle.slack > 0 and idle.uncertified >= idle.outside
    words, fine = verdict(best, idle)
    assert not fine and "no AC optimum holds 2 days, the first 2016-01-01" in words


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"outside": 2}, "NOT as intended: 2 steps of the idle policy are outside the band"),
        ({"slack": 3}, "NOT as intended: 3 of its steps needed slack"),
        ({"uncertified": 1}, "NOT as intended: 1 of its steps have no certificate"),
    ],
)
def test_each_of_them_alone_is_enough(changes: dict[str, int], words: str) -> None:
    fine = Held(Table(), 5)
    assert verdict(fine, fine)[1] and verdict(fine, replace(fine, short_days=4))[1]
    told, held = verdict(fine, replace(fine, **changes))  # type: ignore[arg-type]
    assert not held and told.startswith(words)


def test_a_day_without_a_plan_is_a_day_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*arguments: Any) -> Any:
        raise VoltageOptimumError("no plan")

    monkeypatch.setattr(VoltageOpf, "plan", failing)
    assert len(optimum(toy()).lost_days) == 3


@pytest.mark.parametrize(("energy", "status"), [(2.0, 0), (0.15, 1)])
def test_the_exit_status_and_the_last_line_agree(
    energy: float, status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(size_voltage_case, "load_voltage_case", lambda feeder, weeks: toy(energy))
    monkeypatch.setattr(sys, "argv", ["size_voltage_case.py", "--no-tube"])
    assert main() == status
    last = capsys.readouterr().out.strip().splitlines()[-1]
    assert last.startswith("As intended" if status == 0 else "NOT as intended")


def test_a_feeder_without_a_case_is_told_of(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["size_voltage_case.py", "--feeder", "nowhere"])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    assert (
        "error: no voltage case of feeder 'nowhere'; bundled are cigre_lv18"
        in capsys.readouterr().err
    )
