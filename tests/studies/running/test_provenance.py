"""What a run was made with, and the command that repeats it."""

import re
from pathlib import Path

import pytest

from feederguard.studies.running.provenance import command_line, find_provenance


def test_the_command_can_be_pasted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    program = tmp_path / "studies" / "x.py"
    given = [str(program), "--feeder", "my net.json"]
    assert command_line(given) == "python studies/x.py --feeder 'my net.json'"
    assert command_line(["/usr/bin/feederguard", "compare"]) == "feederguard compare"


def test_the_facts_of_this_process_are_found() -> None:
    found = find_provenance(3, ["studies/x.py"])
    assert found.seed == "3" and found.command == "python studies/x.py"
    assert dict(found.packages)["plotly"] and found.cores >= 1 and found.cpu
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", found.date)
    memory = dict(found.lines())["memory"]
    assert memory.endswith("GiB") or "not told" in memory
