"""The environments of the two commands.

Versions are exact and torch has one pin. The newest environment is another one.
"""

import re
import sys
import tomllib
from importlib.metadata import distributions, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
BESIDE = {"feederguard", "pip", "torch"}  # of the environment, but not of the lock


def locked(name: str) -> dict[str, str]:
    """Return the versions that a lock asks for on this platform and Python."""
    text = (ROOT / name).read_text().replace("\\\n", " ")
    wanted = {}
    for line in text.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        assert "--hash=sha256:" in line, f"{name}: no hash in {line.split()[0]}"
        requirement = Requirement(line.split("--hash")[0].strip())
        if requirement.marker is None or requirement.marker.evaluate():
            wanted[canonicalize_name(requirement.name)] = str(requirement.specifier).removeprefix(
                "=="
            )
    return wanted


def test_what_is_installed_is_the_lock():
    if not Path(sys.prefix, "feederguard-installed").exists():
        pytest.skip("this environment was not made by run.py from the lock")
    installed = {canonicalize_name(found.name): found.version for found in distributions()}
    installed = {name: number for name, number in installed.items() if name not in BESIDE}

    assert installed == locked("requirements-test.txt")
    assert version("torch").split("+")[0] == torch_pins()[0]


def test_a_run_needs_less_than_a_test_and_the_same_versions():
    run, test = locked("requirements.txt"), locked("requirements-test.txt")

    assert run.items() < test.items()
    assert "pytest" in test and "pytest" not in run and "torch" not in test


def test_the_locks_meet_the_ranges_of_pyproject():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for name, asked in (
        ("requirements.txt", project["dependencies"]),
        (
            "requirements-test.txt",
            [*project["optional-dependencies"]["dev"], *project["optional-dependencies"]["docs"]],
        ),
    ):
        have = locked(name) | {"torch": torch_pins()[0]}
        for requirement in map(Requirement, asked):
            assert requirement.specifier.contains(have[canonicalize_name(requirement.name)]), (
                name,
                requirement,
            )


def test_torch_is_pinned_once():
    first, *others = torch_pins()

    assert others == [first]


def torch_pins() -> list[str]:
    """The version in run.py and the one whose needs pyproject.toml hands to the lock."""
    said = re.search(r'^TORCH = "torch==(.+)"$', (ROOT / "run.py").read_text(), re.MULTILINE)
    metadata = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["uv"][
        "dependency-metadata"
    ]
    assert said is not None
    return [said[1], *(entry["version"] for entry in metadata if entry["name"] == "torch")]
