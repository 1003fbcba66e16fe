"""An N-1 sheet as files: CSV for programs, HTML for people and their printers.

The HTML is one file without scripts and without links to other files. It opens without a network,
in light and dark mode, and prints in black on white. Every fault has an anchor (#fault-NAME).
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from html import escape
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from feederguard.models.load_transfer.rules import (
    COST_BASE_MVA,
    COST_LOAD,
    COST_SWITCH,
    CURTAIL_WEIGHT,
)
from feederguard.studies.n_minus_1_sheet.rows import amount_unit
from feederguard.studies.n_minus_1_sheet.tables import Sheet, number, told, totals, warnings_of
from feederguard.studies.running.files import csv_text, write_whole

Line = dict[Any, Any]  # a row of a table, by its columns


def write_sheet(sheet: Sheet, folder: Path) -> list[Path]:
    """Write sheet.csv, steps.csv, before.csv, times.csv and sheet.html; return their paths.

    Each file is written whole or not at all.
    """
    folder.mkdir(parents=True, exist_ok=True)
    texts = {
        "sheet.csv": csv_text(sheet.faults),
        "steps.csv": csv_text(sheet.steps),
        "before.csv": csv_text(sheet.before),
        "times.csv": csv_text(sheet.times),
        "sheet.html": page(sheet),
    }
    for name, text in texts.items():
        write_whole(folder / name, text.encode())
    return [folder / name for name in texts]


def page(sheet: Sheet) -> str:
    """Return the HTML page."""
    title = f"N-1 switching sheet: {sheet.network.name}"
    lines: list[Line] = list(sheet.faults.to_dict("records"))
    steps: dict[str, list[Line]] = {
        str(name): list(part.to_dict("records")) for name, part in sheet.steps.groupby("fault")
    }
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body><main>",
            f"<h1>{escape(title)}</h1>",
            "<dl>",
            *(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in _facts(sheet)),
            "</dl>",
            *(
                f'<p class="note">{escape(note)}</p>'
                for note in (*sheet.notes, *warnings_of(sheet))
            ),
            "<h2>In short</h2>",
            _html_table(
                [], [[name, told(value)] for name, value in totals(sheet).items()], "plain"
            ),
            *_before_section(sheet),
            "<h2>How to read it</h2>",
            _READ_ME,
            "<h2>Faults</h2>",
            _fault_table(sheet, lines),
            "<h2>Steps</h2>",
            *(_fault_section(sheet, line, steps[str(line["fault"])]) for line in lines),
            "</main></body></html>",
            "",
        ]
    )


def _facts(sheet: Sheet) -> list[tuple[str, str]]:
    """Return the facts on top of the sheet, by name."""
    network, setting = sheet.network, sheet.setting
    total_mw = network.base_mva * network.p_load[network.p_load > 0].sum()
    limit = "thermal ratings"
    if setting.active_limit_mw is not None:
        limit = f"{setting.active_limit_mw:g} MW in every branch away from substations"
    loops = "never energised on the way"
    if sheet.make_before_break or not setting.radial:
        loops = "may be energised on the way"
    tree = "a tree always" if setting.radial else "meshed operation"
    counted = "load points: buses with load (no customer file was given)"
    return [
        (
            "Feeder",
            f"{network.name}: {network.n_bus} buses, {network.n_branch} branches of which "
            f"{int(network.is_tie.sum())} are normally open, {total_mw:.3f} MW nominal load",
        ),
        ("Demand", sheet.demand),
        (
            "Setting",
            f"{setting.name}: {tree}, {setting.v_min_pu:g} to {setting.v_max_pu:g} pu, {limit}; "
            f"loops {loops}; {'a load is shed whole or not at all' * sheet.setting.whole_loads}"
            f"{'a load may be shed in part' * (not sheet.setting.whole_loads)}",
        ),
        ("Counted", "customers, from the file given" if sheet.counts_customers else counted),
        (
            "Made",
            f"{date.today().isoformat()}, feederguard {version('feederguard')}, "
            f"{sheet.seconds:.1f} s: {sheet.command}",
        ),
    ]


def _before_section(sheet: Sheet) -> list[str]:
    """Return what is broken before any fault; nothing where nothing is."""
    if sheet.before.empty:
        return []
    heads = ["Limit", "Value", "Allowed", "Can it be helped?"]
    rows = []
    for line in sheet.before.to_dict("records"):
        ends = [number(line[name], ".4g") for name in ("low", "high") if np.isfinite(line[name])]
        allowed = " to ".join(ends)
        rows.append(
            [
                line["limit"],
                f"{number(line['value'], '.4g')} {line['unit']}",
                f"{allowed} {line['unit']}",
                line["helpless"],
            ]
        )
    return ["<h2>Before any fault</h2>", _html_table(heads, rows, "before")]


def _fault_table(sheet: Sheet, lines: list[Line]) -> str:
    milliseconds: dict[str, float] = dict(
        zip(sheet.times["fault"], sheet.times["decision_ms"], strict=True)
    )
    counted = sheet.counted.replace("_", " ")
    heads = [
        "Fault",
        "Result",
        "Operations, in order",
        "Dark, kW",
        f"Dark, {counted}",
        "Shed, kW",
        f"Shed, {counted}",
        "Lowest voltage, pu",
        "at bus",
        "Highest loading, %",
        "at branch",
        "States beyond limits",
        "Gap, %",
        "Proof",
        "Decision, ms",
    ]
    rows = [
        [
            f'<a href="#{_anchor(line["fault"])}">{escape(str(line["fault"]))}</a>',
            _badge(line),
            escape(line["operations"]) or "none",
            number(line["dark_kw"], ",.1f"),
            str(line[f"{sheet.counted}_dark"]),
            number(line["shed_kw"], ",.1f"),
            str(line[f"{sheet.counted}_shed"]),
            number(line["v_min_pu"], ".4f"),
            escape(line["v_min_bus"]),
            number(line["max_loading_pct"], ".1f"),
            escape(line["max_loading_branch"]),
            str(line["steps_beyond_limits"]),
            number(line["gap_pct"], ".3f"),
            escape(line["proof"]),
            number(milliseconds[line["fault"]], ".1f"),
        ]
        for line in lines
    ]
    return _html_table(heads, rows, "faults", raw=True)


def _fault_section(sheet: Sheet, line: Line, steps: list[Line]) -> str:
    unit = amount_unit(sheet.setting)
    shown = {"a": "A", "mw": "MW"}[unit]
    parts = [
        f'<section id="{_anchor(line["fault"])}"><h3>Fault of {escape(line["kind"])} '
        f"{escape(str(line['fault']))} ({escape(line['from_bus'])} to {escape(line['to_bus'])}) "
        f"{_badge(line)}</h3>"
    ]
    parts.append(_response(sheet, line))
    parts += _without_supply(line)
    parts += _still_broken(line)
    if len(steps) == 1 and steps[0]["within_limits"]:
        return "".join(
            [
                *parts,
                "<p>Isolate it; nothing else to operate. "
                f"{_state_in_words(steps[0])}</p></section>",
            ]
        )
    heads = [
        "Step",
        "Do",
        "Element",
        "From bus",
        "To bus",
        "Dark, kW",
        "Shed, kW",
        "Lowest voltage, pu",
        "at bus",
        "Highest loading, %",
        f"that is, {shown}",
        "at branch",
        "Limits",
    ]
    rows = [
        [
            str(step["step"]),
            step["action"],
            _element(step),
            step["from_bus"],
            step["to_bus"],
            number(step["dark_kw"], ",.1f"),
            number(step["shed_kw"], ",.1f"),
            number(step["v_min_pu"], ".4f"),
            step["v_min_bus"],
            number(step["max_loading_pct"], ".1f"),
            number(step[f"max_loading_{unit}"], ",.4g"),
            step["max_loading_branch"],
            (step["mark"] or "within") + "; a loop is energised" * bool(step["loop_energised"]),
        ]
        for step in steps
    ]
    return "".join([*parts, _html_table(heads, rows, "steps"), "</section>"])


def _response(sheet: Sheet, line: Line) -> str:
    """Return what happens by itself and at once, as a paragraph."""
    tripped, isolated = line["tripped"] or "nothing", line["isolated_at"] or "nothing"
    text = (
        f"Trips: {tripped}; {line['tripped_kw']:,.1f} kW lose supply, "
        f"{line[f'{sheet.counted}_interrupted']} {sheet.counted.replace('_', ' ')}. "
        f"Opened to isolate: {isolated}."
    )
    if line["reclosed"]:
        text += f" Closed again: {line['reclosed']}."
    return f"<p>{escape(text)}</p>"


def _without_supply(line: Line) -> list[str]:
    """Return what stays dark, is shed and is curtailed, a paragraph each."""
    parts = []
    if line["dark_kw"] > 0 or line["dark_buses"]:
        parts.append(
            f"<p>Stays dark, {line['dark_kw']:,.1f} kW, buses: {escape(line['dark_buses'])}</p>"
        )
    if line["curtailed_kw"] > 0:
        parts.append(
            f"<p>Generation off or curtailed, {line['curtailed_kw']:,.1f} kW, as bus:kW: "
            f"{escape(line['curtailed_kw_at'])}</p>"
        )
    if line["shed_kw"] > 0:
        parts.append(
            f"<p>Load to shed, {line['shed_kw']:,.1f} kW, as bus:kW: "
            f"{escape(line['shed_kw_at'])}</p>"
        )
    return parts


def _still_broken(line: Line) -> list[str]:
    """Return what stays broken, and what of it the feeder broke before the fault."""
    parts = []
    for name, words in (
        ("broken", "Beyond limits until the repair"),
        ("broken_before", "Beyond limits as before the fault"),
    ):
        if line[name]:
            parts.append(f"<p>{words}: {escape(line[name])}</p>")
    return parts


def _element(step: Line) -> str:
    if step["action"] == "shed":
        return "the load listed above"
    return str(step["element"]) + (f", by {step['devices']}" if step["devices"] else "")


def _state_in_words(step: Line) -> str:
    if not np.isfinite(step["v_min_pu"]):
        return ""
    loading = (
        ""
        if not step["max_loading_branch"]
        else (
            f", highest loading {step['max_loading_pct']:.1f} % at branch "
            f"{escape(step['max_loading_branch'])}"
        )
    )
    return f"Lowest voltage {step['v_min_pu']:.4f} pu at bus {escape(step['v_min_bus'])}{loading}."


def _badge(line: Line) -> str:
    kind = (
        "bad" if not line["safe"] else "off" if line["dark_kw"] > 0 or line["shed_kw"] > 0 else "ok"
    )
    return f'<span class="badge {kind}">{escape(line["status"])}</span>'


def _anchor(fault: object) -> str:
    return "fault-" + quote(str(fault), safe="")


def _html_table(heads: Iterable[str], rows: list[list[str]], kind: str, raw: bool = False) -> str:
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in heads)
    body = "".join(
        "<tr>" + "".join(f"<td>{cell if raw else escape(cell)}</td>" for cell in row) + "</tr>"
        for row in rows
    )
    top = f"<thead><tr>{head}</tr></thead>" if head else ""
    return f'<div class="wide"><table class="{kind}">{top}<tbody>{body}</tbody></table></div>'


_READ_ME = f"""<p>Each fault says what trips at once, who loses supply by it, what is opened to
isolate it and what is closed again. Step 0 is the state after that. Operate the steps in their
order. The numbers beside each step are those of the network after it, by AC power flow. A state
beyond a limit is marked with the size of the violation and with the number of steps that it lasts.
Dark load has no supply at all; shed load is disconnected at buses that have supply.</p>
<p>The gap says how much more the decision costs than the proven lower bound, over all states, dark
parts included; limits are held to 1e-5, and so is the proof. A question mark: no bound that says
anything.
Cost: {COST_LOAD:g} times the square of the load without supply in units of
{1e3 * COST_BASE_MVA:g} kW, plus {COST_SWITCH:g} times the square of the number of switch
operations. Generation that is curtailed counts {CURTAIL_WEIGHT:g} of load.</p>"""

_STYLE = """
:root { color-scheme: light dark; --ink: #16191d; --paper: #fff; --line: #c4c9d0; --head: #eef1f4;
  --link: #0b57a4;
  --ok: #1d5fa8; --off: #8a4b00; --bad: #9b1c1c; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8eb; --paper: #14171a; --line: #454c55;
  --head: #22272d;
  --link: #8ec1ff; --ok: #8ec1ff; --off: #ffc27a; --bad: #ff9d9d; } }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 15px/1.45 system-ui, sans-serif; }
main { max-width: 96rem; margin: 0 auto; padding: 1.2rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.2rem; margin-top: 2rem; } h3 { font-size: 1rem;
  margin: 1.4rem 0 .4rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; }
dt { font-weight: 600; } dd { margin: 0; overflow-wrap: anywhere; }
a { color: var(--link); } p { max-width: 60rem; overflow-wrap: anywhere; }
.note { border-left: 4px solid var(--off); padding-left: .7rem; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: .86rem;
  font-variant-numeric: tabular-nums; }
th, td { border: 1px solid var(--line); padding: .25rem .45rem; text-align: left;
  vertical-align: top; }
th { background: var(--head); font-weight: 600; }
.faults td:nth-child(n+4):nth-child(-n+8), .faults td:nth-child(10),
.faults td:nth-child(n+12):nth-child(-n+13),
.faults td:nth-child(15), .steps td:nth-child(n+6):nth-child(-n+8),
.steps td:nth-child(n+10):nth-child(-n+11),
.plain td:nth-child(2) { text-align: right; }
.badge { border: 1px solid currentColor; border-radius: .6em; padding: 0 .45em; font-size: .92em;
  white-space: nowrap; }
.badge.ok { color: var(--ok); } .badge.off { color: var(--off); } .badge.bad { color: var(--bad);
  font-weight: 700; }
section { break-inside: avoid; } tr { break-inside: avoid; } thead { display: table-header-group; }
@media print { :root { color-scheme: light; --ink: #000; --paper: #fff; --line: #888;
  --head: #eee; --link: #000;
  --ok: #000; --off: #000; --bad: #000; } @page { size: A4 landscape; margin: 12mm; }
  main { max-width: none; padding: 0; } table { font-size: 7.5pt; } .wide { overflow: visible; } }
"""
