"""A study as a page for people: one report.html that needs no network, and report.md with the same text and tables.

A study makes `Section`s, each a row of blocks: `Prose`, `DataTable`, `Chart` (a plotly figure) and `Picker` (charts that
change with what a reader chooses). `write_report` puts them on one page, plotly.js embedded once, the charts as JSON.

A picker holds layers. Each layer looks at some of the selectors and knows, by the chosen values joined with "|", a note and
for every chart what changes: trace number -> attributes, merged into those of the trace. The attribute "at" stands for
(kind, numbers): the page draws those branches or buses, whose coordinates it has once, in `places`. Arrays go through `packed`.

The text of `Prose`, notes and captions knows `code`, **bold**, paragraphs and lists ("- "), no more, so that it reads the same
in both files.

Longer than other files: the page, its style and its forty lines of script are one text.
"""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import ArrayLike
from plotly.offline import get_plotlyjs

from feederguard.studies.provenance import Provenance
from feederguard.studies.trained_agents import write_whole

# Okabe and Ito's colours, which the colour-blind tell apart; never the only thing that tells two things apart.
ORANGE, SKY, GREEN, BLUE, VERMILLION, PURPLE, YELLOW, BLACK = (
    "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7", "#F0E442", "#000000",
)  # fmt: skip
INK, MUTED, GRID = "#22303c", "#5c6873", "#e3e7eb"

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', 'DejaVu Sans', sans-serif"


@dataclass(frozen=True)
class Prose:
    """Text."""

    text: str


@dataclass(frozen=True)
class DataTable:
    """A table of words; the first column names the rows."""

    caption: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


@dataclass(frozen=True, eq=False)
class Chart:
    """A figure with its heading and what must be known to read it."""

    name: str  # unique on the page
    title: str
    figure: go.Figure
    caption: str = ""
    least_width_px: int = 0  # on a narrower screen the figure scrolls, not the page
    image: str = ""  # a picture of the same in the report's folder, for report.md


@dataclass(frozen=True)
class Selector:
    """A list to choose from: value and label of each option."""

    label: str
    options: tuple[tuple[str, str], ...]
    first: int = 0  # which of them is shown first


@dataclass(frozen=True)
class Choice:
    """What one choice says and shows: chart name -> trace number -> attributes."""

    note: str
    traces: Mapping[str, Mapping[int, Mapping[str, Any]]] = field(default_factory=dict)


@dataclass(frozen=True)
class Layer:
    """Choices by the values of some of the selectors, joined by "|"."""

    by: tuple[int, ...]  # positions of the selectors
    choices: Mapping[str, Choice]
    missing: str = ""  # the note where there is no such choice


@dataclass(frozen=True, eq=False)
class Picker:
    """Charts that follow what is chosen."""

    name: str
    title: str
    selectors: tuple[Selector, ...]
    layers: tuple[Layer, ...]
    charts: tuple[Chart, ...]
    places: Mapping[str, Any] = field(default_factory=dict)


Block = Prose | DataTable | Chart | Picker


@dataclass(frozen=True, eq=False)
class Section:
    """A chapter of the report."""

    name: str  # unique on the page, a word
    title: str
    blocks: tuple[Block, ...]


def write_report(title: str, sections: Sequence[Section], provenance: Provenance, folder: Path) -> list[Path]:
    """Write report.html and report.md into the folder, each whole or not at all, and return their paths.

    Pictures that a chart names are linked from report.md where they lie in the folder. Raises ValueError when two sections,
    charts or pickers bear one name.
    """
    charts = [chart for section in sections for block in section.blocks for chart in _charts(block)]
    pickers = [block for section in sections for block in section.blocks if isinstance(block, Picker)]
    names = (
        [section.name for section in sections] + [chart.name for chart in charts] + [picker.name for picker in pickers]
    )
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ValueError(
            f"report: {twice[0]!r} names two things of the page; give every section, chart and picker its own"
        )
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / "report.html", folder / "report.md"]
    write_whole(paths[0], _page(title, sections, provenance, charts, pickers).encode())
    write_whole(paths[1], _markdown(title, sections, provenance, folder).encode())
    return paths


def new_figure(traces: Sequence[Any] = (), **layout: Any) -> go.Figure:
    """Return a figure in the page's style; layout as plotly's."""
    axis = {
        "gridcolor": GRID, "zeroline": False, "linecolor": "#9aa6b0", "ticks": "outside", "tickcolor": "#9aa6b0",
        "ticklen": 4, "automargin": True, "title": {"standoff": 8, "font": {"size": 13}},
    }  # fmt: skip
    template = {
        "layout": {
            "font": {"family": FONT, "size": 13, "color": INK}, "paper_bgcolor": "#fff", "plot_bgcolor": "#fff",
            "margin": {"l": 60, "r": 26, "t": 36, "b": 52}, "hoverlabel": {"font": {"family": FONT, "size": 12}},
            "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "traceorder": "normal"},
            "xaxis": axis, "yaxis": axis, "uirevision": "kept",
        }
    }  # fmt: skip
    return go.Figure(data=list(traces), layout={"template": template, "height": 360, **layout})


def packed(values: ArrayLike) -> dict[str, Any]:
    """Return numbers (n,) in the short form that a choice keeps them in: 16 bits each of the largest; NaN is a gap."""
    array = np.asarray(values, dtype=float).ravel()
    known = np.isfinite(array)
    step = float(f"{max(np.abs(array[known]).max(initial=0.0), 1e-30) / 32766:.7g}")
    short = np.where(known, np.round(np.where(known, array, 0.0) / step), _GAP).astype("<i2")
    return {"i2": base64.b64encode(short.tobytes()).decode(), "step": step}


_GAP = -32768


def number(value: float, digits: int = 3) -> str:
    """Return a number to that many significant digits without exponents where it is of common size, "–" for NaN."""
    if value != value:
        return "–"
    if value and not 1e-5 <= abs(value) < 1e6:
        return f"{value:.{digits - 1}e}"
    places = max(0, digits - 1 - int(np.floor(np.log10(abs(value))))) if value else 0
    return f"{value:,.{places}f}"


def counted(count: int, one: str, many: str) -> str:
    """Return a number of things with their name."""
    return f"{count} {one if count == 1 else many}"


def milliseconds(seconds: float) -> str:
    """Return a time in the unit that reads best."""
    if seconds != seconds:
        return "–"
    return f"{number(1e3 * seconds)} ms" if seconds < 1 else f"{number(seconds)} s"


def decades(low: float, high: float, zero: str = "") -> dict[str, Any]:
    """Return the ticks of a logarithmic axis, a power of ten each; zero: what the lowest one stands for, if not itself."""
    powers = list(range(int(np.floor(low)), int(np.ceil(high)) + 1))
    raised = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
    names = [f"{10.0**k:,g}".replace(",", " ") if -4 <= k <= 5 else "10" + str(k).translate(raised) for k in powers]
    if zero:
        names[0] = zero
    return {"type": "log", "tickmode": "array", "tickvals": [10.0**k for k in powers], "ticktext": names}


def _charts(block: Block) -> tuple[Chart, ...]:
    return (block,) if isinstance(block, Chart) else block.charts if isinstance(block, Picker) else ()


def _page(
    title: str, sections: Sequence[Section], provenance: Provenance, charts: Sequence[Chart], pickers: Sequence[Picker]
) -> str:
    held = {
        "charts": {chart.name: json.loads(chart.figure.to_json()) for chart in charts},
        "pickers": [_picker_data(picker) for picker in pickers],
    }
    contents = "".join(f'<li><a href="#{s.name}">{_inline(s.title)}</a>{_inner_contents(s)}</li>' for s in sections)
    body = "\n".join(
        f'<section id="{s.name}"><h2>{_inline(s.title)}</h2>\n' + "\n".join(map(_block, s.blocks)) + "</section>"
        for s in sections
    )
    # A closing tag inside the data would end its element.
    data = json.dumps(held, separators=(",", ":"), allow_nan=False).replace("</", "<\\/")
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{html.escape(title)}</title><link rel="icon" href="data:,"><style>{_STYLE}</style></head><body>
<nav aria-label="Contents"><b>Contents</b><ol>{contents}<li><a href="#reproduce">Run it again</a></li></ol></nav>
<main><header><h1>{_inline(title)}</h1><p class="by">FeederGuard · {provenance.date}</p></header>
{body}
{_reproduce(provenance)}</main>
<script>{get_plotlyjs()}</script>
<script type="application/json" id="report-data">{data}</script>
<script>{_SCRIPT}</script>
</body></html>
"""


def _inner_contents(section: Section) -> str:
    items = [block for block in section.blocks if isinstance(block, Picker | Chart)]
    links = "".join(f'<li><a href="#{_anchor(item)}">{_inline(item.title)}</a></li>' for item in items)
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
        f"<label>{_inline(selector.label)}<select id='{block.name}-{k}'>{_options(selector)}</select></label>"
        for k, selector in enumerate(block.selectors)
    )
    return (
        f'<div class="picker" id="{_anchor(block)}"><h3>{_inline(block.title)}</h3><div class="selects">{selects}</div>'
        f'<div class="note" id="{block.name}-note" aria-live="polite"></div>{"".join(map(_figure, block.charts))}</div>'
    )


def _options(selector: Selector) -> str:
    return "".join(
        f'<option value="{html.escape(value)}"{" selected" if k == selector.first else ""}>{html.escape(label)}</option>'
        for k, (value, label) in enumerate(selector.options)
    )


def _figure(chart: Chart) -> str:
    height = int(chart.figure.layout.height or 360)
    width = f"min-width:{chart.least_width_px}px;" if chart.least_width_px else ""
    caption = f"<figcaption>{_inline(chart.caption)}</figcaption>" if chart.caption else ""
    return (
        f'<figure id="{_anchor(chart)}"><h4>{_inline(chart.title)}</h4><div class="scroll">'
        f'<div class="chart" id="{chart.name}" style="{width}height:{height}px"></div></div>{caption}</figure>'
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
        f"<h4>{_inline(table.caption)}</h4><div class='scroll'><table><thead><tr>{head}</tr></thead>"
        f"<tbody>{rows}</tbody></table></div>{note}"
    )


def _reproduce(provenance: Provenance) -> str:
    rows = "".join(
        f"<tr><th scope='row'>{name}</th><td>{html.escape(told)}</td></tr>" for name, told in provenance.lines()
    )
    return (
        '<section id="reproduce"><h2>Run it again</h2><p>The command, from the folder of the repository:</p>'
        f'<pre>{html.escape(provenance.command)}</pre><div class="scroll"><table class="facts"><tbody>{rows}</tbody></table>'
        f"</div><p>{_inline(_SAME_AGAIN)}</p></section>"
    )


_SAME_AGAIN = (
    "The same command gives the same decisions on the same versions, but for methods that stop by the clock. "
    "Times are of this machine."
)


def _picker_data(picker: Picker) -> dict[str, Any]:
    layers = [
        {
            "by": layer.by, "missing": _inline(layer.missing),
            "choices": {key: [_paragraphs(one.note), one.traces] for key, one in layer.choices.items()},
        }
        for layer in picker.layers
    ]  # fmt: skip
    return {
        "name": picker.name, "n": len(picker.selectors), "layers": layers, "places": picker.places,
        "charts": [chart.name for chart in picker.charts],
    }  # fmt: skip


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
            parts.append("<ul>" + "".join(f"<li>{_inline(line[2:])}</li>" for line in lines) + "</ul>")
        else:
            parts.append(f"<p>{_inline(' '.join(lines))}</p>")
    return "".join(parts)


def _markdown(title: str, sections: Sequence[Section], provenance: Provenance, folder: Path) -> str:
    parts = [f"# {title}", f"FeederGuard · {provenance.date}. The figures move in `report.html` beside this file."]
    for section in sections:
        parts.append(f"## {section.title}")
        for block in section.blocks:
            parts += _markdown_of[type(block)](block, folder)
    facts = "\n".join(f"- {name}: {told}" for name, told in provenance.lines())
    parts += ["## Run it again", f"```\n{provenance.command}\n```", facts, _SAME_AGAIN]
    return "\n\n".join(parts) + "\n"


def _markdown_table(table: DataTable, folder: Path) -> list[str]:
    lines = [table.headings, ("---", *("---:" for _ in table.headings[1:])), *table.rows]
    body = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
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
    Prose: lambda block, folder: [block.text.strip()], DataTable: _markdown_table, Chart: _markdown_chart,
    Picker: _markdown_picker,
}  # fmt: skip

_SCRIPT = """
const held = JSON.parse(document.getElementById('report-data').textContent);
const config = {displaylogo: false, responsive: true, modeBarButtonsToRemove: ['select2d', 'lasso2d']};
for (const [id, chart] of Object.entries(held.charts)) Plotly.newPlot(id, chart.data, chart.layout, config);

// Coordinates and names of some branches or buses, a gap after each line.
function drawn(places, [kind, items]) {
  const from = places[kind], out = {x: [null], y: [null], hovertext: ['']};
  for (const k of items) {
    const x = [].concat(from.x[k]), gap = x.length > 1 ? [null] : [];
    out.x.push(...x, ...gap); out.y.push(...[].concat(from.y[k]), ...gap);
    out.hovertext.push(...x.concat(gap).map(() => from.name[k]));
  }
  return out;
}

// Numbers out of their short form.
function numbers(value) {
  if (!value || !value.i2) return value;
  const short = new Int16Array(Uint8Array.from(atob(value.i2), byte => byte.charCodeAt(0)).buffer);
  return Array.from(short, k => k === -32768 ? null : k * value.step);
}

// A trace with what a choice changes in it.
function merged(trace, change, places) {
  const out = {...trace, ...(change.at ? drawn(places, change.at) : {})};
  for (const [name, value] of Object.entries(change)) {
    const nested = value.constructor === Object && !value.i2;
    if (name !== 'at') out[name] = nested ? merged(trace[name] || {}, value, places) : numbers(value);
  }
  return out;
}

function show(picker) {
  const chosen = [...Array(picker.n).keys()].map(k => document.getElementById(picker.name + '-' + k).value);
  const found = picker.layers.map(layer => layer.choices[layer.by.map(k => chosen[k]).join('|')] || [layer.missing, {}]);
  document.getElementById(picker.name + '-note').innerHTML = found.map(one => one[0]).join('');
  for (const id of picker.charts) {
    const data = held.charts[id].data.map((trace, k) =>
      found.reduce((so_far, one) => merged(so_far, (one[1][id] || {})[k] || {}, picker.places), trace));
    Plotly.react(id, data, held.charts[id].layout, config);
  }
}
for (const picker of held.pickers) {
  for (let k = 0; k < picker.n; k++)
    document.getElementById(picker.name + '-' + k).addEventListener('change', () => show(picker));
  show(picker);
}
"""

_STYLE = """
:root { --ink: #22303c; --muted: #5c6873; --line: #e3e7eb; --accent: #0072B2; }
* { box-sizing: border-box; }
html { scroll-behavior: smooth; scroll-padding-top: 1rem; -webkit-text-size-adjust: 100%; }
body { margin: 0; color: var(--ink); background: #f6f7f9; line-height: 1.55; font-size: 16px;
  font-family: system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', 'DejaVu Sans', sans-serif; }
main { max-width: 1040px; margin: 0 auto; padding: 1rem 1rem 4rem; min-width: 0; }
header h1 { font-size: clamp(1.5rem, 4vw, 2.1rem); line-height: 1.2; margin: .8rem 0 .2rem; letter-spacing: -.01em; }
.by { color: var(--muted); margin: 0 0 1rem; font-size: .9rem; }
section { background: #fff; border: 1px solid var(--line); border-radius: 10px;
  padding: .4rem 1.4rem 1.2rem; margin: 0 0 1.4rem; }
h2 { font-size: 1.35rem; margin: 1rem 0 .4rem; letter-spacing: -.01em; }
h3 { font-size: 1.1rem; margin: 1.6rem 0 .5rem; }
h4 { font-size: 1rem; margin: 1.5rem 0 .3rem; }
p, ul { margin: .5rem 0 .7rem; max-width: 46rem; }
ul { padding-left: 1.2rem; }
a { color: var(--accent); text-decoration: none; } a:hover { text-decoration: underline; }
code, pre { font-family: ui-monospace, 'SF Mono', Menlo, Consolas, 'DejaVu Sans Mono', monospace; font-size: .88em; }
code { background: #f0f2f5; padding: .05em .3em; border-radius: 4px; overflow-wrap: anywhere; }
pre { background: #f0f2f5; border-radius: 8px; padding: .8rem 1rem; white-space: pre-wrap; overflow-wrap: anywhere; }
figure { margin: 0 0 1rem; } figcaption, .under { color: var(--muted); font-size: .88rem; max-width: 46rem; margin: .3rem 0 0; }
.scroll { overflow-x: auto; max-width: 100%; }
.chart { width: 100%; }
table { border-collapse: collapse; font-size: .88rem; font-variant-numeric: tabular-nums; min-width: 100%; }
th, td { padding: .32rem .6rem; text-align: right; border-bottom: 1px solid var(--line); vertical-align: top; }
thead th { border-bottom: 2px solid #c9d0d6; font-weight: 600; vertical-align: bottom; max-width: 9rem; }
tr > :first-child { text-align: left; padding-left: 0; } tbody th { font-weight: 500; white-space: nowrap; }
td { white-space: nowrap; }
.facts td { text-align: left; white-space: normal; } .facts th { color: var(--muted); }
.selects { display: flex; flex-wrap: wrap; gap: .5rem 1rem; margin: .5rem 0 .7rem; }
@media (min-width: 900px) { .selects { position: sticky; top: 0; z-index: 5; background: #fff; padding: .5rem 0 .6rem;
  border-bottom: 1px solid var(--line); } .selects label:first-child { flex-grow: 2; } }
.selects label { font-size: .82rem; color: var(--muted); display: grid; gap: .2rem;
  flex: 1 1 12rem; min-width: 0; max-width: 26rem; }
select { font: inherit; font-size: .95rem; color: var(--ink); padding: .42rem .5rem; border-radius: 7px;
  border: 1px solid #b9c2cb; background: #fff; width: 100%; min-width: 0; }
select:focus-visible { outline: 2px solid var(--accent); outline-offset: 1px; }
.note { background: #f2f7fb; border-left: 4px solid var(--accent); border-radius: 4px;
  padding: .3rem .9rem; font-size: .94rem; }
.note p { margin: .35rem 0; max-width: none; }
nav { font-size: .86rem; padding: .6rem 1rem; background: #fff; border-bottom: 1px solid var(--line); }
nav ol, nav ul { list-style: none; margin: 0; padding: 0; max-width: none; } nav ol > li { margin: .25rem 0; }
nav ul { display: none; } nav a { color: var(--ink); }
@media (min-width: 1180px) {
  body { display: grid; grid-template-columns: 226px minmax(0, 1fr); }
  nav { position: sticky; top: 0; height: 100vh; overflow-y: auto; border-bottom: 0;
    border-right: 1px solid var(--line); padding: 1.6rem 1rem; }
  nav ul { display: block; padding: .15rem 0 .3rem .8rem; } nav ul a { color: var(--muted); } nav ol > li { margin: .5rem 0; }
}
@media (max-width: 640px) { section { padding: .2rem .8rem .8rem; border-radius: 0; margin-left: -1rem; margin-right: -1rem;
  border-left: 0; border-right: 0; } body { font-size: 15px; } }
@media print { nav, .selects, .modebar { display: none !important; } body { background: #fff; display: block; }
  section { border: 0; padding: 0; } figure, tr { break-inside: avoid; } main { max-width: none; } }
"""
