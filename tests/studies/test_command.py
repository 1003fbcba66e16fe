"""The console command and its small programs, as a person types them."""

from pathlib import Path

import pytest

from feederguard.data.networks import list_networks
from feederguard.studies import command as front_door
from feederguard.studies.command import PROGRAMS, main
from feederguard.studies.train import TrainConfig


def test_without_a_command_it_tells_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    told = capsys.readouterr().out
    assert all(f"feederguard {name}" in told for name in PROGRAMS)
    assert main(["--help"]) == 0


def test_an_unknown_command_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compere"]) == 2
    assert (
        capsys.readouterr().err == f"error: unknown command 'compere'; use {', '.join(PROGRAMS)}\n"
    )


def words_of(text: str) -> str:
    """Text without the box it stands in and the lines it was broken into."""
    return " ".join(text.replace("│", " ").split())


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_program_has_help_with_units_and_defaults(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main([name, "--help"])
    assert stop.value.code == 0
    told = words_of(capsys.readouterr().out)
    assert (
        "--help" in told
        and front_door.__doc__ is not None
        and f"feederguard {name} " in front_door.__doc__
    )
    if name == "compare":
        assert "--transfer.time-limit-s FLOAT" in told and "(default: 20.0)" in told
        assert "--voltage.days" in told and "--scheduler" in told


def test_networks_are_listed_with_what_they_are_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["networks"]) == 0
    told = capsys.readouterr().out
    assert all(name in told for name in list_networks())
    assert "3.715" in told and "load, MW" in told


def test_solvers_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["solvers"]) == 0
    assert "HiGHS" in capsys.readouterr().out


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
            ["ranked_switching", "--setting", "meshed"],
            "unknown setting 'meshed'; use radial or paper",
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
