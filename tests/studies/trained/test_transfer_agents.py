"""Agents kept in files: trained once, found by all that decides them, trained anew if damaged."""

import json
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from small_studies import tiny_agents

from feederguard.data.networks import load_network
from feederguard.data.profiles import load_profiles
from feederguard.data.sampling import sample_scenarios
from feederguard.models.load_transfer import Scenarios, judge, resolve_setting
from feederguard.studies.running.files import write_whole
from feederguard.studies.running.tasks import RunConfig
from feederguard.studies.trained.transfer_agents import (
    CURVE_COLUMNS,
    POOL_SEED,
    TRAINED,
    Course,
    agents_to_train,
    train_with_curves,
)

NETWORK = load_network("ieee33")
PAPER = resolve_setting(NETWORK, "paper")
PROFILES = load_profiles()
TINY = tiny_agents()


def course(cache: Path, **changes: object) -> Course:
    return replace(Course(PROFILES, 0.3, 24, 0, cache, TINY), **changes)  # type: ignore[arg-type]


def asked() -> Scenarios:
    return sample_scenarios(NETWORK, PROFILES, 12, seed=0).scenarios


@pytest.mark.parametrize("kind", list(TRAINED))
def test_what_is_found_again_decides_as_what_was_trained(kind: str, tmp_path: Path) -> None:
    scenarios = asked()
    first = TRAINED[kind](NETWORK, PAPER, course(tmp_path))
    again = TRAINED[kind](NETWORK, PAPER, course(tmp_path))
    elsewhere = TRAINED[kind](NETWORK, PAPER, course(tmp_path / "elsewhere"))
    assert (first.cached, again.cached, elsewhere.cached) == (False, True, False)
    assert first.agent.name == again.agent.name == kind
    assert again.path == first.path and again.seconds == pytest.approx(first.seconds)
    assert elsewhere.path.name == first.path.name
    assert list(first.curve)[0] == ("epochs" if kind == "ranked_switching" else "decisions")
    assert np.isfinite(first.curve.to_numpy()).all() and len(first.curve) >= 2
    pd.testing.assert_frame_equal(again.curve, first.curve)
    pd.testing.assert_frame_equal(elsewhere.curve, first.curve)
    answers = [trained.agent.decide(scenarios) for trained in (first, again, elsewhere)]
    for other in answers[1:]:
        np.testing.assert_array_equal(other.closed, answers[0].closed)
        np.testing.assert_array_equal(other.shed, answers[0].shed)


def test_our_correction_makes_the_untaught_agent_safe(tmp_path: Path) -> None:
    scenarios = asked()
    plain, safe = (
        TRAINED[kind](NETWORK, PAPER, course(tmp_path)) for kind in ("ddpg", "ddpg_safe")
    )
    assert safe.cached and safe.path == plain.path
    outcomes = [
        judge(NETWORK, scenarios, one.agent.decide(scenarios), PAPER) for one in (plain, safe)
    ]
    assert not outcomes[0].safe.all()
    assert outcomes[1].safe.all()


def test_everything_that_decides_an_agent_is_in_its_name(tmp_path: Path) -> None:
    def name(network: Any = NETWORK, setting: Any = PAPER, **changes: object) -> str:
        return TRAINED["ranked_switching"](network, setting, course(tmp_path, **changes)).path.name

    load = PROFILES.load.copy()
    load[7, 0] += 0.01
    other_config = replace(TINY, ranked_switching=replace(TINY.ranked_switching, epochs=1))
    names = [
        name(),
        name(seed=1),
        name(scenarios=23),
        name(pv_share=0.2),
        name(configs=other_config),
        name(profiles=replace(PROFILES, load=load)),
        name(profiles=replace(PROFILES, name="other")),
        name(network=NETWORK.with_changes(p_load=0.9 * NETWORK.p_load)),
        name(setting=replace(PAPER, active_limit_mw=0.8)),
    ]
    assert len(set(names)) == len(names)
    # What another kind is made of does not matter to this one.
    assert name(configs=replace(TINY, ddpg=replace(TINY.ddpg, steps=1))) == names[0]


def test_a_damaged_file_is_told_of_and_trained_anew(tmp_path: Path) -> None:
    first = TRAINED["ranked_switching"](NETWORK, PAPER, course(tmp_path))
    first.path.write_bytes(first.path.read_bytes()[:200])
    again = TRAINED["ranked_switching"](NETWORK, PAPER, course(tmp_path))
    assert not again.cached
    assert "not a whole safetensors file" in again.note and again.note.endswith("trained anew")
    assert str(first.path) in again.note
    assert TRAINED["ranked_switching"](NETWORK, PAPER, course(tmp_path)).cached


def test_the_sheet_beside_an_agent_says_what_it_was_trained_on(tmp_path: Path) -> None:
    trained = TRAINED["ddpg"](NETWORK, PAPER, course(tmp_path, seed=3))
    sheet = json.loads(trained.path.with_suffix(".json").read_text())
    assert (sheet["kind"], sheet["pool"], sheet["pool_seed"]) == ("ddpg", 24, 3 + POOL_SEED)
    assert sheet["config"]["learner"]["seed"] == 3
    assert sheet["seconds"] == pytest.approx(trained.seconds)
    assert sheet["curve"]["decisions"] == [8, 16, 24]
    trained.path.with_suffix(".json").write_text("[]")
    assert np.isnan(TRAINED["ddpg"](NETWORK, PAPER, course(tmp_path, seed=3)).seconds)


@pytest.mark.parametrize("curve", [None, 7, {"decisions": [8], "cost": []}])
def test_an_agent_without_a_readable_curve_is_used_as_before(curve: object, tmp_path: Path) -> None:
    first = TRAINED["ddpg"](NETWORK, PAPER, course(tmp_path))
    sheet = json.loads(first.path.with_suffix(".json").read_text())
    del sheet["curve"]
    first.path.with_suffix(".json").write_text(
        json.dumps(sheet | ({} if curve is None else {"curve": curve}))
    )
    console = Console(width=200, record=True, file=StringIO())
    methods = ("ddpg", "ddpg_safe", "ranked_switching")
    seconds, curves = train_with_curves(
        NETWORK, [PAPER], methods, course(tmp_path), RunConfig(1), console
    )
    assert "ddpg, paper setting: from the cache, trained in" in console.export_text()
    assert seconds["paper", "ddpg"] == seconds["paper", "ddpg_safe"] == pytest.approx(first.seconds)
    assert list(curves) == list(CURVE_COLUMNS) and set(curves["method"]) == {"ranked_switching"}
    assert (
        curves["x"].tolist() == [1, 2]
        and curves["cost"].isna().all()
        and curves["loss"].notna().all()
    )


def test_the_pool_is_of_train_weeks_and_of_the_course_s_seed(tmp_path: Path) -> None:
    one, same, other = (course(tmp_path, seed=seed).pool(NETWORK) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one.p_load, same.p_load)
    assert not np.array_equal(one.fault, other.fault)
    wanted = sample_scenarios(NETWORK, PROFILES, 24, POOL_SEED, "train", 0.3).scenarios
    np.testing.assert_array_equal(one.p_load, wanted.p_load)


def test_agents_behind_methods_are_trained_once() -> None:
    assert agents_to_train(("ddpg_safe", "genetic", "ddpg")) == ["ddpg"]
    assert agents_to_train(("ddpg_safe", "ranked_switching", "ddpg_corrected")) == [
        "ddpg_corrected",
        "ranked_switching",
        "ddpg",
    ]
    assert agents_to_train(("misocp",)) == []


def test_a_file_is_written_whole_and_nothing_else_stays(tmp_path: Path) -> None:
    write_whole(tmp_path / "a.json", b"old")
    write_whole(tmp_path / "a.json", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    assert (tmp_path / "a.json").read_bytes() == b"new"
