"""What the SOC tube is worth, on two buses whose evening needs what the morning could spend."""

from io import StringIO
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from feederguard.agents.safety_layer import SafetyLayer
from feederguard.models.arrays import FloatArray
from feederguard.models.battery import Batteries
from feederguard.models.soc_tube import compute_soc_tube
from feederguard.models.voltage_regulation import (
    VoltageDays,
    VoltageOutcomes,
    VoltageState,
    carry_year,
)
from feederguard.studies.voltage.tube_worth import (
    CARRIED,
    COLUMNS,
    FRESH,
    Always,
    main,
    print_tube_table,
    tube_table,
)
from feeders import pair

# 0.675 takes the voltage behind 0.1 below 0.95; the light hours leave room to charge again.
HEAVY = [0.4, 0.4, 0.4, 0.4, 0.675, 0.675, 0.0, 0.0]
CALM = [0.1] * 8


def some_days() -> VoltageDays:
    load = np.zeros((3, 8, 2))
    load[:, :, 1] = [HEAVY, CALM, HEAVY]
    return VoltageDays(load, 0 * load, 0 * load, 1.0, np.datetime64("2016-01-01") + np.arange(3))


class Odd:
    """Charges in even steps and discharges in odd ones; knows the state alone."""

    def propose(self, state: VoltageState) -> FloatArray:
        return np.where(state.step[:, None] % 2 == 0, 0.3, -0.4) * np.ones(state.soc.shape)


@pytest.fixture(scope="module")
def case() -> Any:
    network = pair()
    unit = Batteries.at(network, ["1"], 0.5, 1.0)
    return network, unit, some_days(), compute_soc_tube(network, unit, some_days())


@pytest.fixture(scope="module")
def table(case: Any) -> pd.DataFrame:
    network, unit, days, tube = case
    return tube_table(network, unit, days, tube, {"odd": Odd()})


def line(table: pd.DataFrame, policy: str, tube: str, days: str) -> Any:
    (index,) = table.index[
        (table["policy"] == policy) & (table["tube"] == tube) & (table["days"] == days)
    ]
    return table.loc[index]


def test_every_policy_with_and_without_day_by_day_and_in_a_row(table: pd.DataFrame) -> None:
    assert list(table.columns) == list(COLUMNS) and len(table) == 3 * 2 * 2
    assert set(table["policy"]) == {"odd", "discharges all it can", "charges all it can"}
    assert (table["steps"] == 24).all()
    with_tube = table[table["tube"] == "with"]
    assert (with_tube["steps_outside"] == 0).all() and (with_tube["missing_kwh_day"] < 1e-3).all()


def test_an_empty_battery_misses_the_heavy_hours_of_each_day(table: pd.DataFrame) -> None:
    """Two heavy hours on two days each; 0.5 MWh are missing at the end of every day."""
    for mode in (FRESH, CARRIED):
        found = line(table, "discharges all it can", "without", mode)
        assert (
            found["steps_outside"] == 4 == found["slack_steps"] and found["worst_excess_pu"] > 0.02
        )
        assert found["missing_kwh_day"] == pytest.approx(500.0, abs=1e-3)
        assert (
            found["missing_kwh_last"] == pytest.approx(500.0, abs=1e-3) and found["short_days"] == 3
        )
    full = line(table, "charges all it can", "without", CARRIED)
    assert full["steps_outside"] == 0 and full["missing_kwh_last"] == 0.0


class Behind:
    """A policy behind a layer, as `carry_year` plays it, counting what the layer did."""

    name = "behind"

    def __init__(self, policy: Any, layer: SafetyLayer) -> None:
        self.policy, self.layer, self.left = policy, layer, 0

    def decide(self, state: VoltageState) -> FloatArray:
        answer = self.layer.correct(state, self.policy.propose(state))
        self.left += int((answer.words == "tube_left").sum())
        return answer.p


@pytest.mark.parametrize("name", ["odd", "discharges all it can"])
@pytest.mark.parametrize("kept", [True, False])
def test_abreast_is_as_one_by_one(name: str, kept: bool, case: Any, table: pd.DataFrame) -> None:
    network, unit, days, tube = case
    policy = Odd() if name == "odd" else Always(unit, -1.0)
    alone = Behind(policy, SafetyLayer(network, unit, 1.0, tube if kept else None))
    outcome: VoltageOutcomes = carry_year(network, unit, days, alone)
    found = line(table, name, "with" if kept else "without", CARRIED)
    assert found["steps_outside"] == outcome.n_violation_steps.sum()
    assert found["worst_excess_pu"] == pytest.approx(outcome.worst_excess_pu.max(), abs=1e-8)
    assert found["missing_kwh_day"] == pytest.approx(1e3 * outcome.soc_short_mwh.mean(), abs=1e-6)
    assert found["missing_kwh_last"] == pytest.approx(1e3 * outcome.soc_short_mwh[-1], abs=1e-6)
    assert found["tube_left_steps"] == alone.left


def test_it_prints(table: pd.DataFrame) -> None:
    console = Console(width=130, record=True, file=StringIO())
    print_tube_table(table, console)
    printed = console.export_text()
    assert printed.count("discharges all it can") == 4 and "500.0" in printed


def test_a_feeder_without_a_case_is_told_of(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["tube_worth.py", "--feeder", "nowhere"])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    assert (
        "error: no voltage case of feeder 'nowhere'; bundled are cigre_lv18"
        in capsys.readouterr().err
    )


def test_a_name_that_is_taken(case: Any) -> None:
    with pytest.raises(
        ValueError,
        match="'charges all it can' is the name of a wasteful policy; choose another name",
    ):
        tube_table(*case, {"charges all it can": Odd()})
