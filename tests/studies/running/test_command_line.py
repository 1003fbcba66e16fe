"""Options of a program from a dataclass, and its errors in one sentence."""

from dataclasses import dataclass

import pytest

from feederguard.studies.running.command_line import console_of, parse_options, user_error


@dataclass(frozen=True)
class Options:
    """What the program does."""

    count: int = 3
    """How many things."""
    loud: bool = False
    """Say everything."""

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"count is {self.count}; use at least one")


def test_options_come_from_the_command_line() -> None:
    assert parse_options(Options, [], "things") == Options()
    assert parse_options(Options, ["--count", "5", "--loud"], "things") == Options(5, True)


def test_the_help_is_the_docstrings(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        parse_options(Options, ["--help"], "things")
    assert stop.value.code == 0
    printed = capsys.readouterr().out
    assert "usage: things" in printed and "What the program does." in printed
    assert "How many things." in printed


def test_a_wrong_value_ends_with_status_2_and_the_reason(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as stop:
        parse_options(Options, ["--count", "0"], "things")
    assert stop.value.code == 2
    assert "count is 0; use at least one" in " ".join(capsys.readouterr().err.split())


def test_only_errors_that_blame_the_input_become_a_sentence(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as stop, user_error():
        raise OSError("no such file")
    assert stop.value.code == 2 and capsys.readouterr().err == "error: no such file\n"
    with pytest.raises(KeyError), user_error():
        raise KeyError("a bug")
    with pytest.raises(ValueError), user_error((OSError,)):
        raise ValueError("a bug")


def test_output_to_a_file_has_the_width_asked_for() -> None:
    assert console_of(77).width == 77
