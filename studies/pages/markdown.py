"""A report as Markdown: the same text and tables as the page, and pictures where there are any."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from feederguard.studies.pages.blocks import SAME_AGAIN, Chart, DataTable, Picker, Prose, Section
from feederguard.studies.running.provenance import Provenance


def markdown_page(
    title: str, sections: Sequence[Section], provenance: Provenance, folder: Path
) -> str:
    """Return the text; folder: where the pictures are that it may link."""
    parts = [
        f"# {title}",
        f"FeederGuard · {provenance.date}. The figures move in `report.html` beside this file.",
    ]
    for section in sections:
        parts.append(f"## {section.title}")
        for block in section.blocks:
            parts += _markdown_of[type(block)](block, folder)
    facts = "\n".join(f"- {name}: {told}" for name, told in provenance.lines())
    parts += ["## Run it again", f"```\n{provenance.command}\n```", facts, SAME_AGAIN]
    return "\n\n".join(parts) + "\n"


def _markdown_table(table: DataTable, folder: Path) -> list[str]:
    lines = [table.headings, ("---", *("---:" for _ in table.headings[1:])), *table.rows]
    body = "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines
    )
    return [f"**{table.caption}**", body, *([table.note] if table.note else [])]


def _markdown_chart(chart: Chart, folder: Path) -> list[str]:
    pictured = chart.image and (folder / chart.image).exists()
    link = [f"![{chart.title}]({chart.image})"] if pictured else []
    where = "" if pictured else " (figure in `report.html`)"
    return [f"**{chart.title}**{where}", *link, *([chart.caption] if chart.caption else [])]


def _markdown_picker(picker: Picker, folder: Path) -> list[str]:
    asked = ", ".join(selector.label.lower() for selector in picker.selectors)
    return [f"### {picker.title}", f"In `report.html`: choose {asked}, and these follow."] + [
        line for chart in picker.charts for line in _markdown_chart(chart, folder)
    ]


_markdown_of: dict[type, Callable[[Any, Path], list[str]]] = {
    Prose: lambda block, folder: [block.text.strip()],
    DataTable: _markdown_table,
    Chart: _markdown_chart,
    Picker: _markdown_picker,
}
