"""A report: what is written, what is refused, and how numbers are written.

`blocks.py`, `page.py`, `page_style.py`, `markdown.py`, `figure_style.py` and `number_text.py` are
tested here.
"""

import base64
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from feederguard.models.arrays import FloatArray
from feederguard.studies.pages.blocks import (
    Chart,
    Choice,
    DataTable,
    Layer,
    Picker,
    Prose,
    Section,
    Selector,
)
from feederguard.studies.pages.figure_style import decades, new_figure, packed
from feederguard.studies.pages.number_text import milliseconds, number
from feederguard.studies.pages.report import write_report
from feederguard.studies.running.provenance import Provenance

HERE = Provenance(
    "python study.py",
    "7",
    (("numpy", "2.0"),),
    "CPython 3.12",
    "Linux",
    "a processor",
    2,
    8.0,
    "2026-01-01",
)


def unpacked(spec: Any) -> FloatArray:
    short = np.frombuffer(base64.b64decode(spec["i2"]), dtype="<i2").astype(float)
    return np.where(short == -32768, np.nan, short * spec["step"])


def chart(name: str = "one", **more: Any) -> Chart:
    return Chart(
        name,
        f"Figure {name}",
        new_figure([{"type": "scatter", "x": [1], "y": [2]}]),
        "What it *is*.",
        **more,
    )


def page(text: str) -> dict[str, Any]:
    found = re.search(
        r'<script type="application/json" id="report-data">(.*?)</script>', text, re.S
    )
    assert found
    held: dict[str, Any] = json.loads(found[1])
    return held


def test_the_page_holds_everything_and_asks_nothing_of_the_network(tmp_path: Path) -> None:
    table = DataTable("Numbers", ("method", "kW"), (("`a|b`", "1"),), "a note")
    html_path, md_path = write_report(
        "Title <1>",
        [Section("s", "A & B", (Prose("First **bold**.\n\n- x < y\n- `code`"), table, chart()))],
        HERE,
        tmp_path,
    )
    text, markdown = html_path.read_text(), md_path.read_text()
    assert text.count("* plotly.js v") == 1
    outside_script = re.sub(r"<script>.*?</script>", "", text, flags=re.S)
    assert "http" not in outside_script and "src=" not in outside_script
    assert "Title &lt;1&gt;" in text and "A &amp; B" in text and "<li>x &lt; y</li>" in text
    assert "<strong>bold</strong>" in text and "<code>a|b</code>" in text
    assert (
        "python study.py" in text
        and "a processor, 2 core(s) usable" in text
        and "numpy 2.0" in text
    )
    assert page(text)["charts"]["one"]["data"][0]["y"] == [2]
    assert (
        "| `a\\|b` | 1 |" in markdown
        and "First **bold**." in markdown
        and "```\npython study.py\n```" in markdown
    )
    assert "- seed: 7" in markdown and "(figure in `report.html`)" in markdown


def test_markdown_links_a_picture_only_where_it_lies(tmp_path: Path) -> None:
    sections = [Section("s", "S", (chart(image="cost.png"),))]
    assert "cost.png" not in write_report("T", sections, HERE, tmp_path)[1].read_text()
    (tmp_path / "cost.png").write_bytes(b"png")
    assert "![Figure one](cost.png)" in write_report("T", sections, HERE, tmp_path)[1].read_text()


def test_two_things_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError,
        match=r"report: 'one' names two things of the page; give every section, chart and picker",
    ):
        write_report("T", [Section("s", "S", (chart(), chart()))], HERE, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_closing_tag_in_a_name_does_not_end_the_data(tmp_path: Path) -> None:
    choice = Choice("</script>", {"one": {0: {"y": packed([1.5, np.nan])}}})
    picker = Picker(
        "p",
        "Pick",
        (Selector("Day", (("a", "A"), ("b", "B")), 1),),
        (Layer((0,), {"b": choice}, "none"),),
        (chart(),),
    )
    text = write_report("T", [Section("s", "S", (picker,))], HERE, tmp_path)[0].read_text()
    held = page(text)["pickers"][0]
    assert held["n"] == 1 and held["charts"] == ["one"] and held["layers"][0]["missing"] == "none"
    note, traces = held["layers"][0]["choices"]["b"]
    assert note == "<p>&lt;/script&gt;</p>"
    assert unpacked(traces["one"]["0"]["y"])[0] == pytest.approx(1.5) and np.isnan(
        unpacked(traces["one"]["0"]["y"])[1]
    )
    assert '<option value="b" selected>B</option>' in text


@pytest.mark.parametrize("name", ["<!--", "<script", "</script>", "<!--<script>"])
def test_a_name_is_data_whatever_it_looks_like(tmp_path: Path, name: str) -> None:
    figure = new_figure([{"type": "scatter", "x": [1], "y": [2], "text": [name]}])
    chart = Chart("one", name, figure)
    write_report(name, [Section("s", name, (chart, Prose(name)))], HERE, tmp_path)
    text = (tmp_path / "report.html").read_text()
    assert page(text)["charts"]["one"]["data"][0]["text"] == [name]
    data = text.split('id="report-data">')[1].split("</script>")[0]
    assert "<" not in data


def test_numbers_are_written_to_the_digits_that_count() -> None:
    assert [number(x) for x in (0.0, 1234.5, 3.14159, 0.0123, float("nan"), 2.5e-7)] == [
        "0",
        "1,234",
        "3.14",
        "0.0123",
        "–",
        "2.50e-07",
    ]
    assert (milliseconds(0.00025), milliseconds(1.5), milliseconds(float("nan"))) == (
        "0.250 ms",
        "1.50 s",
        "–",
    )
    ticks = decades(-2, 3, "≤ 0.01")
    assert (
        ticks["ticktext"] == ["≤ 0.01", "0.1", "1", "10", "100", "1 000"]
        and ticks["tickvals"][0] == 0.01
    )
    assert decades(6, 6)["ticktext"] == ["10⁶"]


def test_packed_numbers_keep_four_digits() -> None:
    values = np.array([0.9513, -1.05, np.nan, 0.0, 1e-9])
    again = unpacked(packed(values))
    assert np.isnan(again[2]) and again[[0, 1, 3, 4]] == pytest.approx(
        values[[0, 1, 3, 4]], abs=2e-5
    )
    assert unpacked(packed([np.nan, np.inf])).tolist() == pytest.approx(
        [np.nan, np.nan], nan_ok=True
    )
    assert unpacked(packed(np.zeros(3))).tolist() == [0, 0, 0] and not len(unpacked(packed([])))


def test_making_a_page_loads_no_learning_and_no_cluster() -> None:
    code = (
        "import sys, feederguard.studies.pages.report; "
        "print(*{'torch', 'gymnasium', 'dask', 'distributed', 'numba'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
