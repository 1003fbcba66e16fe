"""A study's report: report.html, which needs no network, and report.md with the same text.

A study makes `Section`s of `blocks.py`; `write_report` puts them on one page.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from feederguard.studies.pages.blocks import Block, Chart, Picker, Section
from feederguard.studies.pages.markdown import markdown_page
from feederguard.studies.pages.page import html_page
from feederguard.studies.running.files import write_whole
from feederguard.studies.running.provenance import Provenance

__all__ = ["Section", "write_report"]


def write_report(
    title: str, sections: Sequence[Section], provenance: Provenance, folder: Path
) -> list[Path]:
    """Write report.html and report.md into the folder and return their paths.

    Each file is written whole or not at all. report.md links the picture that a chart names if it
    is in the folder. Raises ValueError if two sections, charts or pickers have the same name.
    """
    charts = [chart for section in sections for block in section.blocks for chart in _charts(block)]
    pickers = [
        block for section in sections for block in section.blocks if isinstance(block, Picker)
    ]
    names = (
        [section.name for section in sections]
        + [chart.name for chart in charts]
        + [picker.name for picker in pickers]
    )
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ValueError(
            f"report: {twice[0]!r} names two things of the page; give every section, chart and "
            "picker its own"
        )
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / "report.html", folder / "report.md"]
    write_whole(paths[0], html_page(title, sections, provenance, charts, pickers).encode())
    write_whole(paths[1], markdown_page(title, sections, provenance, folder).encode())
    return paths


def _charts(block: Block) -> tuple[Chart, ...]:
    return (
        (block,) if isinstance(block, Chart) else block.charts if isinstance(block, Picker) else ()
    )
