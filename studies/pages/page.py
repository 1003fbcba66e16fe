"""A report as one HTML page that needs no network: plotly.js embedded once, the charts as JSON."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Sequence
from typing import Any

from plotly.offline import get_plotlyjs

from feederguard.studies.pages.blocks import (
    SAME_AGAIN,
    Block,
    Chart,
    DataTable,
    Picker,
    Prose,
    Section,
    Selector,
)
from feederguard.studies.pages.page_style import SCRIPT, STYLE
from feederguard.studies.running.provenance import Provenance


def html_page(
    title: str,
    sections: Sequence[Section],
    provenance: Provenance,
    charts: Sequence[Chart],
    pickers: Sequence[Picker],
) -> str:
    """Return the page; charts and pickers: those of all sections."""
    held = {
        "charts": {chart.name: json.loads(chart.figure.to_json()) for chart in charts},
        "pickers": [_picker_data(picker) for picker in pickers],
    }
    contents = "".join(
        f'<li><a href="#{s.name}">{_inline(s.title)}</a>{_inner_contents(s)}</li>' for s in sections
    )
    body = "\n".join(
        f'<section id="{s.name}"><h2>{_inline(s.title)}</h2>\n'
        + "\n".join(map(_block, s.blocks))
        + "</section>"
        for s in sections
    )
    # A tag or comment inside the data, such as a bus called <!--, would end or swallow the element.
    data = json.dumps(held, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{html.escape(title)}</title><link rel="icon" href="data:,">
<style>{STYLE}</style></head><body>
<nav aria-label="Contents"><b>Contents</b>
<ol>{contents}<li><a href="#reproduce">Run it again</a></li></ol></nav>
<main><header><h1>{_inline(title)}</h1><p class="by">FeederGuard · {provenance.date}</p></header>
{body}
{_reproduce(provenance)}</main>
<script>{get_plotlyjs()}</script>
<script type="application/json" id="report-data">{data}</script>
<script>{SCRIPT}</script>
</body></html>
"""


def _inner_contents(section: Section) -> str:
    items = [block for block in section.blocks if isinstance(block, Picker | Chart)]
    links = "".join(
        f'<li><a href="#{_anchor(item)}">{_inline(item.title)}</a></li>' for item in items
    )
    return f"<ul>{links}</ul>" if links else ""


def _anchor(item: Picker | Chart) -> str:
    return f"{item.name}-picker" if isinstance(item, Picker) else f"{item.name}-figure"


def _block(block: Block) -> str:
    if isinstance(block, Prose):
        return _paragraphs(block.text)
    if isinstance(block, DataTable):
        return _table(block)
    if isinstance(block, Chart):
        return _figure(block)
    selects = "".join(
        f"<label>{_inline(selector.label)}<select "
        f"id='{block.name}-{k}'>{_options(selector)}</select></label>"
        for k, selector in enumerate(block.selectors)
    )
    return (
        f'<div class="picker" id="{_anchor(block)}"><h3>{_inline(block.title)}</h3><div '
        f'class="selects">{selects}</div>'
        f'<div class="note" id="{block.name}-note" '
        f'aria-live="polite"></div>{"".join(map(_figure, block.charts))}</div>'
    )


def _options(selector: Selector) -> str:
    chosen = [" selected" if k == selector.first else "" for k in range(len(selector.options))]
    return "".join(
        f'<option value="{html.escape(value)}"{mark}>{html.escape(label)}</option>'
        for (value, label), mark in zip(selector.options, chosen, strict=True)
    )


def _figure(chart: Chart) -> str:
    height = int(chart.figure.layout.height or 360)
    width = f"min-width:{chart.least_width_px}px;" if chart.least_width_px else ""
    caption = f"<figcaption>{_inline(chart.caption)}</figcaption>" if chart.caption else ""
    return (
        f'<figure id="{_anchor(chart)}"><h4>{_inline(chart.title)}</h4><div class="scroll">'
        f'<div class="chart" id="{chart.name}" '
        f'style="{width}height:{height}px"></div></div>{caption}</figure>'
    )


def _table(table: DataTable) -> str:
    head = "".join(f"<th scope='col'>{_inline(heading)}</th>" for heading in table.headings)
    rows = "".join(
        f"<tr><th scope='row'>{_inline(row[0])}</th>"
        + "".join(f"<td>{_inline(cell)}</td>" for cell in row[1:])
        + "</tr>"
        for row in table.rows
    )
    note = f"<p class='under'>{_inline(table.note)}</p>" if table.note else ""
    return (
        f"<h4>{_inline(table.caption)}</h4><div class='scroll'>"
        f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>{note}"
    )


def _reproduce(provenance: Provenance) -> str:
    rows = "".join(
        f"<tr><th scope='row'>{name}</th><td>{html.escape(told)}</td></tr>"
        for name, told in provenance.lines()
    )
    return (
        '<section id="reproduce"><h2>Run it again</h2><p>The command, from the folder of the '
        "repository:</p>"
        f'<pre>{html.escape(provenance.command)}</pre><div class="scroll"><table '
        f'class="facts"><tbody>{rows}</tbody></table>'
        f"</div><p>{_inline(SAME_AGAIN)}</p></section>"
    )


def _picker_data(picker: Picker) -> dict[str, Any]:
    layers = [
        {
            "by": layer.by,
            "missing": _inline(layer.missing),
            "choices": {
                key: [_paragraphs(one.note), one.traces] for key, one in layer.choices.items()
            },
        }
        for layer in picker.layers
    ]
    return {
        "name": picker.name,
        "n": len(picker.selectors),
        "layers": layers,
        "places": picker.places,
        "charts": [chart.name for chart in picker.charts],
    }


def _inline(text: str) -> str:
    # A unit stays with its number.
    text = html.escape(text, quote=False).replace(" %", "\u00a0%")
    text = re.sub(r"`([^`]+)`", r"<code>\1</code>", text)
    return re.sub(r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", text)


def _paragraphs(text: str) -> str:
    parts = []
    for part in filter(None, (part.strip() for part in text.split("\n\n"))):
        lines = part.split("\n")
        if all(line.startswith("- ") for line in lines):
            parts.append(
                "<ul>" + "".join(f"<li>{_inline(line[2:])}</li>" for line in lines) + "</ul>"
            )
        else:
            parts.append(f"<p>{_inline(' '.join(lines))}</p>")
    return "".join(parts)
