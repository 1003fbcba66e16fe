"""Every folder with code is listed in pyproject.toml, so that a wheel holds all of it."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TOPS = ("agents", "baselines", "data", "models", "studies")


def test_every_package_is_listed() -> None:
    told = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"][
        "setuptools"
    ]["packages"]
    found = {path.parent.relative_to(ROOT) for top in TOPS for path in (ROOT / top).rglob("*.py")}
    assert sorted(told) == sorted("feederguard." + ".".join(folder.parts) for folder in found)
