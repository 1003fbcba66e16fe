"""A layer that sees another demand, on two buses by hand and on days of the bundled case."""

import sys
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from feederguard.agents.safety_layer import SafetyLayer
from feederguard.agents.voltage_agent import VoltageAgentConfig
from feederguard.data.voltage_cases import load_voltage_case
from feederguard.models.battery import Batteries
from feederguard.models.soc_tube import compute_soc_tube
from feederguard.models.voltage_regulation import VoltageDays
from feederguard.studies.evidence import stale_demand
from feederguard.studies.evidence.stale_demand import (
    COLUMNS,
    given_days,
    print_stale_table,
    stale_table,
)
from feederguard.studies.trained.voltage_agents import kept_df_srl, trained_voltage
from feederguard.studies.trained.voltage_makers import VoltageAgentConfigs, VoltageCourse
from feederguard.studies.voltage.tube_worth import Always
from feeders import pair

# 0.675 takes the voltage behind 0.1 below 0.95; the light hours leave room to charge again.
HEAVY = [0.4, 0.4, 0.4, 0.4, 0.675, 0.675, 0.0, 0.0]
CALM = [0.1] * 8


def some_days() -> VoltageDays:
    load = np.zeros((3, 8, 2))
    load[:, :, 1] = [HEAVY, CALM, HEAVY]
    return VoltageDays(load, 0 * load, 0 * load, 1.0, np.datetime64("2016-01-01") + np.arange(3))


@pytest.fixture(scope="module")
def case() -> Any:
    network, days = pair(), some_days()
    unit = Batteries.at(network, ["1"], 0.5, 1.0)
    return (
        network,
        unit,
        days,
        SafetyLayer(network, unit, 1.0, compute_soc_tube(network, unit, days)),
    )


def test_given_days() -> None:
    days = some_days()
    given = given_days(days, 0.1, seed=3)
    assert list(given) == ["exact", "one step late", "10% noise per bus"]
    np.testing.assert_array_equal(given["one step late"].p_load[0, :, 1], [0.4, *HEAVY[:-1]])
    share = given["10% noise per bus"].p_load[:, :, 1][days.p_load[:, :, 1] > 0] / 0.1
    assert len(np.unique(share)) == share.size  # each step has its own
    again = given_days(days, 0.1, seed=3)["10% noise per bus"].p_load
    np.testing.assert_array_equal(given["10% noise per bus"].p_load, again)
    assert not np.array_equal(given_days(days, 0.1, seed=4)["10% noise per bus"].p_load, again)
    with pytest.raises(ValueError, match="noise is nan; give a share of demand, zero or more"):
        given_days(days, np.nan)


def test_late_it_misses_the_first_heavy_hour_of_each_day_and_no_other(case: Any) -> None:
    """It sees 0.4 and lets 0.675 through: v (1 - v) = 0.0675."""
    _, unit, days, layer = case
    table = stale_table(layer, days, given_days(days, 0.0), {"idle": Always(unit, 0.0)}).set_index(
        "demand"
    )
    assert (table["steps"] == 24).all()
    for name in ("exact", "0% noise per bus"):
        assert table.loc[name, ["steps_outside", "days_outside", "certified_outside"]].tolist() == [
            0,
            0,
            0,
        ]
    late = table.loc["one step late"]
    assert late[["steps_outside", "days_outside", "certified_outside"]].tolist() == [2, 2, 2]
    assert late["worst_excess_pu"] == pytest.approx(
        0.95 - 0.5 * (1 + np.sqrt(1 - 4 * 0.0675)), abs=1e-6
    )


def test_on_the_bundled_case_neither_late_nor_noisy_is_safe() -> None:
    case = load_voltage_case("cigre_lv18", "test")
    some = case.days[::15]
    layer = SafetyLayer(case.network, case.batteries, some.step_h)
    table = stale_table(
        layer, some, given_days(some), {"idle": Always(case.batteries, 0.0)}
    ).set_index("demand")
    assert list(table.reset_index().columns) == [
        "demand",
        *(name for name in COLUMNS if name != "demand"),
    ]
    assert table.loc["exact", "steps_outside"] == 0
    assert (table["steps_outside"].iloc[1:] > 5).all() and (
        table["worst_excess_pu"].iloc[1:] > 1e-3
    ).all()

    console = Console(width=130, record=True, file=StringIO())
    print_stale_table(table.reset_index(), console)
    assert "one step late" in console.export_text()


def test_the_trained_agent_is_taken_from_the_cache_and_never_trained(
    case: Any, tmp_path: Path
) -> None:
    network, unit, days, layer = case
    plain = VoltageAgentConfig()
    short = VoltageAgentConfigs(
        df_srl=VoltageAgentConfig(plain.learner, num_envs=3, episodes=3, learn_steps=1)
    )
    course = VoltageCourse("pair", network, unit, days, layer.tube, tmp_path, short)
    assert kept_df_srl(course) is None and not list(tmp_path.iterdir())

    trained = trained_voltage("df_srl", course, 0)
    agent = kept_df_srl(course)
    assert agent is not None and agent.name == "df_srl" and kept_df_srl(course, seed=1) is None
    table = stale_table(layer, days, {"exact": days}, {"df_srl": agent})
    assert table["steps_outside"].tolist() == [0]
    trained.path.write_bytes(b"no agent")
    with pytest.raises(ValueError, match=trained.path.name):
        kept_df_srl(course)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--feeder", "nowhere"], "no voltage case of feeder 'nowhere'"),
        (["--days", "0"], "--days is 0; it must be at least 1"),
        (["--seed", "-1"], "--seed is -1; it must be zero or more"),
        (["--noise", "-0.1"], "noise is -0.1; give a share of demand, zero or more"),
        (["--agents-cache", __file__], "is a file; name a folder"),
    ],
)
def test_bad_options(
    given: list[str],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["stale_demand.py", *given])
    with pytest.raises(SystemExit):
        stale_demand.main()
    assert words in " ".join(capsys.readouterr().err.split())
