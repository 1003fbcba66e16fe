"""The report in a real browser: no messages, no network, and its pickers change the figures.

Needs a Chromium or Chrome on the path, and playwright.
"""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import pytest
from small_studies import judged_rows

from feederguard.agents.safety_layer import SafetyLayer
from feederguard.baselines.voltage.droop import Droop
from feederguard.baselines.voltage.no_control import NoControl
from feederguard.data.networks import load_network
from feederguard.models.voltage_regulation import VoltageMethod, simulate
from feederguard.studies.pages.blocks import Section
from feederguard.studies.pages.report import write_report
from feederguard.studies.running.provenance import find_provenance
from feederguard.studies.transfer.report import transfer_section
from feederguard.studies.transfer.tables import (
    TransferResults,
    summarise,
    table_of,
)
from feederguard.studies.voltage.bench import VoltageConfig, load_bench
from feederguard.studies.voltage.report import voltage_section
from feederguard.studies.voltage.tables import VoltageResults
from feederguard.studies.voltage.tables import summarise as summarise_voltage
from feederguard.studies.voltage.work import IdleSafe, day_table

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def transfer() -> Section:
    network = load_network("ieee33")
    sampled, rows = judged_rows(network, 4)
    # One that the radial setting does not have.
    rows = [row for row in rows if (row.setting, row.method) != ("radial", "no_transfer")]
    results = TransferResults("ieee33", network, sampled, *table_of(rows), {})
    training = pd.DataFrame(
        {"setting": "paper", "method": "ddpg", "unit": ["decisions"] * 3 + ["epochs"] * 3, "x": [100, 200, 300, 1, 2, 3],
         "learned_reward": [0.0, 1.0, 2.0] * 2, "safe_pct": [10.0, 50.0, 90.0] * 2, "cost": [4000.0, 90.0, 8.0] * 2,
         "loss": 0.5, "first_pct": 80.0, "shortlist_pct": 99.0}
    )  # fmt: skip
    return transfer_section(network, sampled, results.rows, summarise(results), "ieee33", training)


def voltage() -> Section:
    bench = load_bench(VoltageConfig(days=2, methods=("no_control", "droop", "idle_safe")))
    layer = SafetyLayer(bench.network, bench.batteries, bench.test.step_h, None)
    methods: tuple[VoltageMethod, ...] = (
        NoControl(),
        Droop(bench.network, bench.batteries),
        IdleSafe(layer),
    )
    outcomes = {
        method.name: simulate(bench.network, bench.batteries, bench.test, method)
        for method in methods
    }
    days = pd.concat(
        [day_table(name, 0, bench, bench.test, outcome) for name, outcome in outcomes.items()],
        ignore_index=True,
    )
    lines = pd.DataFrame({"method": list(outcomes), "decision_s": 1e-4, "decision_outside_s": 1e-3})
    lines = lines.assign(
        **{
            f"layer_{name}": np.nan
            for name in ("as_proposed", "corrected", "tube_left", "slack_used")
        }
    )
    training = pd.DataFrame(
        {"method": "idle_safe", "seed": 0, "day": np.arange(1, 6), "steps": 96, "violation_steps": [4, 1, 0, 0, 0],
         "worst_excess_pu": 0.01, "regulation_kwh": 10.0, "reward": [-9.0, -5.0, -3.0, -2.0, -1.5], "training_s": 2.0}
    )  # fmt: skip
    results = VoltageResults(bench.feeder, days, training, lines.assign(layer_failed=np.nan), {})
    schedules = {name: outcome.p_battery for name, outcome in outcomes.items()}
    return voltage_section(bench, results, summarise_voltage(results), schedules)


@dataclass
class Visit:
    """An open page and what it said and asked for."""

    page: Any
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def drawn(self, chart: str) -> Any:
        """Data that the chart draws now."""
        return self.page.evaluate("id => JSON.stringify(document.getElementById(id).data)", chart)

    def choose(self, selector: str, value: str) -> None:
        self.page.select_option(f"#{selector}", value)


@pytest.fixture(scope="module")
def visit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Visit]:
    browser_path = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser_path is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is on the path")
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright drives the browser; pip install playwright"
    )
    folder = tmp_path_factory.mktemp("report")
    path, _ = write_report(
        "Both jobs", [transfer(), voltage()], find_provenance(0, ["studies/x.py"]), folder
    )
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=browser_path, args=list(QUIET))
        one = Visit(browser.new_page(viewport={"width": 1280, "height": 900}))
        one.page.on("console", lambda message: one.said.append(f"{message.type}: {message.text}"))
        one.page.on("pageerror", lambda error: one.said.append(f"error: {error}"))
        one.page.on("request", lambda request: one.asked.append(request.url))
        one.page.goto(path.as_uri())
        one.page.wait_for_function("document.querySelectorAll('.chart .main-svg').length >= 34")
        yield one
        # Nothing that the tests did made it complain or fetch.
        assert one.said == []
        assert [url for url in one.asked if not url.startswith(("file:", "data:", "blob:"))] == []
        browser.close()


def test_it_loads_in_silence_and_every_figure_has_content(visit: Visit) -> None:
    assert visit.said == []
    assert [url for url in visit.asked if not url.startswith(("file:", "data:", "blob:"))] == []
    charts = visit.page.eval_on_selector_all(".chart", "all => all.map(one => one.id)")
    assert set(charts) == {
        "transfer-map",
        "transfer-voltage",
        "transfer-loading",
        "transfer-cost-paper",
        "transfer-cost-radial",
        "transfer-times",
        "transfer-learning",
        "transfer-ranking",
        "voltage-map",
        "voltage-day",
        "voltage-power",
        "voltage-soc",
        "voltage-energy",
        "voltage-outside",
        "voltage-times",
        "voltage-learning",
        "voltage-learning-outside",
    }
    for name in charts:
        drawn = f"#{name} .cartesianlayer .trace path"
        widths = visit.page.eval_on_selector_all(
            drawn, "all => all.map(one => one.getBoundingClientRect().width)"
        )
        assert sum(widths) > 50, name
        box = visit.page.locator(f"#{name}").bounding_box()
        assert box["height"] >= 100 and box["width"] >= 400, name


def test_the_fault_the_setting_and_the_method_change_the_map(visit: Visit) -> None:
    visit.choose("transfer-decisions-0", "0")
    visit.choose("transfer-decisions-1", "paper")
    visit.choose("transfer-decisions-2", "plan_search")
    charts = ("transfer-map", "transfer-voltage", "transfer-loading")
    first, note = (
        [visit.drawn(name) for name in charts],
        visit.page.inner_text("#transfer-decisions-note"),
    )
    assert "closes 33, 35;" in note and "Safe by the AC power flow" in note
    # A mark stands for each switch that is closed, the first of its points being the legend's.
    traces = "document.getElementById('transfer-map').data"
    closed = f"{traces}.find(trace => trace.name == 'switch closed').hovertext"
    assert visit.page.evaluate(closed)[1:] == ["tie 33 (21–8)", "tie 35 (12–22)"]
    visit.choose("transfer-decisions-2", "no_transfer")
    second = [visit.drawn(name) for name in charts]
    assert all(one != other for one, other in zip(first, second, strict=True))
    assert visit.page.evaluate(closed) == [""]
    assert "no_transfer leaves 7 buses (411 kW) dark" in visit.page.inner_text(
        "#transfer-decisions-note"
    )
    visit.choose("transfer-decisions-1", "radial")
    assert "not run in this setting" in visit.page.inner_text("#transfer-decisions-note")
    visit.choose("transfer-decisions-2", "plan_search")
    third = visit.drawn("transfer-map")
    assert third != first[0]
    visit.choose("transfer-decisions-0", "2")
    assert visit.drawn("transfer-map") != third


def test_the_day_and_the_method_change_the_map(visit: Visit) -> None:
    charts = ("voltage-map", "voltage-day", "voltage-power", "voltage-soc")
    visit.choose("voltage-days-1", "no_control")
    first = [visit.drawn(name) for name in charts]
    visit.choose("voltage-days-1", "droop")
    second = [visit.drawn(name) for name in charts]
    assert all(one != other for one, other in zip(first, second, strict=True))
    # Labels that were blank for the method before are there: one per bus, and one per battery that
    # did something.
    texts = "[...document.querySelectorAll('#voltage-map .textpoint text')]"
    shown = f"{texts}.filter(one => one.getBoundingClientRect().width > 4)"
    traces = "document.getElementById('voltage-map').data"
    told = f"{traces}.find(trace => (trace.name || '').startsWith('battery')).text"
    working = visit.page.evaluate(f"{told}.filter(text => text.trim()).length")
    assert working and visit.page.evaluate(f"{shown}.length") >= 20 + working
    assert "droop: " in visit.page.inner_text("#voltage-days-note")
    days = visit.page.eval_on_selector_all(
        "#voltage-days-0 option", "all => all.map(one => one.value)"
    )
    shown = visit.page.input_value("#voltage-days-0")
    visit.choose("voltage-days-0", next(day for day in days if day != shown))
    assert all(one != visit.drawn(name) for name, one in zip(charts, second, strict=True))


@pytest.mark.parametrize("width", [1280, 400])
def test_the_page_itself_never_scrolls_sideways(visit: Visit, width: int) -> None:
    visit.page.set_viewport_size({"width": width, "height": 900})
    visit.page.wait_for_timeout(300)
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= width
    assert (
        visit.page.evaluate("document.querySelector('main').getBoundingClientRect().right") <= width
    )
