"""What README and docs name is there. Their code blocks are doctests."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
FOLDERS = "models|agents|baselines|data|studies|tests|docs"
NAMED = re.compile(rf"\b((?:{FOLDERS})/[\w/.]*\w/?)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_that_a_page_names_are_there(page: Path):
    text = page.read_text(encoding="utf-8")
    named = {name.rstrip("/.") for name in NAMED.findall(text)}
    missing = sorted(name for name in named if "NAME" not in name and not (ROOT / name).exists())
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files(page: Path):
    targets = re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))
    local = [target for target in targets if not target.startswith("http")]
    assert [target for target in local if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_prose_keeps_the_width_of_100(page: Path):
    code = False
    long = []
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        code ^= line.startswith("```")
        if len(line) > 100 and not code and not line.startswith("|"):
            long.append(number)
    assert long == []
