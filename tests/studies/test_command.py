"""The console command, as a person types it."""

import pytest

from feederguard.studies import command
from feederguard.studies.command import PROGRAMS, main


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
        and command.__doc__ is not None
        and f"feederguard {name} " in command.__doc__
    )
    if name == "compare":
        assert "--transfer.time-limit-s FLOAT" in told and "(default: 20.0)" in told
        assert "--voltage.days" in told and "--scheduler" in told
