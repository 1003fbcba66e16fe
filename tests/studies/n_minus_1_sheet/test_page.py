"""The page of an N-1 sheet: whole in itself, with an anchor for every fault."""

from html.parser import HTMLParser
from pathlib import Path

from feederguard.studies.n_minus_1_sheet.page import page
from feederguard.studies.n_minus_1_sheet.tables import Sheet


class _Page(HTMLParser):
    """Collects what a browser would have to fetch, anchors, and links to them."""

    def __init__(self) -> None:
        super().__init__()
        self.outside: list[str] = []
        self.anchors: set[str] = set()
        self.links: set[str] = set()
        self.headings: list[str] = []
        self._in_heading = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag in ("script", "link", "img", "iframe") or given.get("src"):
            self.outside.append(tag)
        if given.get("id"):
            self.anchors.add(str(given["id"]))
        if tag == "a":
            self.links.add(str(given["href"]))
        self._in_heading = tag == "th"

    def handle_data(self, data: str) -> None:
        if self._in_heading:
            self.headings.append(data)
            self._in_heading = False


def test_the_page_is_whole_in_itself_and_every_fault_has_its_anchor(
    ieee33: tuple[Path, Sheet],
) -> None:
    text = (ieee33[0] / "sheet.html").read_text()
    parsed = _Page()
    parsed.feed(text)

    assert not parsed.outside and "http" not in text and "url(" not in text
    assert parsed.links == {f"#{anchor}" for anchor in parsed.anchors} and len(parsed.anchors) == 32
    assert {
        "Dark, kW",
        "Shed, kW",
        "Lowest voltage, pu",
        "Highest loading, %",
        "Gap, %",
        "Decision, ms",
    } <= set(parsed.headings)
    assert "prefers-color-scheme: dark" in text and "@media print" in text
    assert "load points: buses with load (no customer file was given)" in text


def test_names_are_escaped_in_the_page(ieee33: tuple[Path, Sheet]) -> None:
    sheet = ieee33[1]
    steps, faults, times = (
        table.replace({"fault": {"5": "<b>5</b>"}})
        for table in (sheet.steps, sheet.faults, sheet.times)
    )
    odd = Sheet(
        sheet.network,
        sheet.setting,
        "<i>peak</i>",
        False,
        False,
        (),
        sheet.command,
        faults,
        steps,
        times,
        1.0,
    )

    text = page(odd)

    assert "<b>5" not in text and "&lt;b&gt;5" in text and "<i>" not in text
    assert 'id="fault-%3Cb%3E5%3C%2Fb%3E"' in text
