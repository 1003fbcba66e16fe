"""Training as a program: the agent is trained, kept and copied; wrong values are refused."""

from pathlib import Path

import pytest

from feederguard.studies.command import main
from feederguard.studies.train import TrainConfig


def words_of(text: str) -> str:
    """Text without the box it stands in and the lines it was broken into."""
    return " ".join(text.replace("│", " ").split())


def test_an_agent_is_trained_kept_and_copied(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cache, target = tmp_path / "kept", tmp_path / "agent.safetensors"
    arguments = [
        "train",
        "ranked_switching",
        "--train-scenarios",
        "40",
        "--agents-cache",
        str(cache),
    ]
    assert main([*arguments, "--output", str(target)]) == 0
    told = capsys.readouterr().out
    assert "ranked_switching: trained in" in told and "100.00 % safe by the AC power" in told
    (kept,) = cache.glob("ranked_switching-ieee33-radial-*.safetensors")
    assert target.read_bytes() == kept.read_bytes()
    assert main(arguments) == 0
    assert "ranked_switching: found in the cache, trained in" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["ranked_switching", "--feeder", "ieee34"], "ieee34"),
        (
            ["ranked_switching", "--setting", "looped"],
            "unknown setting 'looped'; use paper, radial, meshed",
        ),
        (
            ["df_srl", "--feeder", "kraftringen533"],
            "error: no voltage case of feeder 'kraftringen533'; bundled are cigre_lv18",
        ),
        (["ddpg", "--seed", "-1"], "seed is -1; use zero or a positive number"),
        (["ddpg", "--output", "nowhere/agent"], "there is no folder nowhere; make it first"),
    ],
)
def test_wrong_values_end_with_one_sentence(
    arguments: list[str],
    words: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(["train", *arguments])
    assert stop.value.code == 2
    assert words in words_of(capsys.readouterr().err)
    assert not list(tmp_path.iterdir())


def test_defaults_are_those_of_the_issue() -> None:
    config = TrainConfig("df_srl")
    assert (config.setting, config.train_scenarios, config.seed) == ("radial", 4000, 0)


def test_a_folder_that_cannot_be_written_is_said_before_the_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit) as ended:
        main(["train", "ranked_switching", "--agents-cache", str(tmp_path / "file" / "below")])
    assert ended.value.code == 2
    assert "below cannot be written to (Not a directory); free some space" in words_of(
        capsys.readouterr().err
    )
