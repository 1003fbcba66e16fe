"""Pictures of the documentation, taken in a real browser from what the studies write.

    python studies/compare_methods.py --job transfer --scenarios 8 --methods plan_search misocp
    python studies/n_minus_1.py ieee33 --partial-loads
    python docs/make_images.py            writes docs/images/map.png and docs/images/sheet.png

Needs playwright (in the extra `dev`) and an installed Chromium or Chrome.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from playwright.sync_api import sync_playwright

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
IMAGES = Path(__file__).resolve().parent / "images"
MARGIN, LABEL = 10, 24  # pixels: around a picture, and for the label above the list of faults


@dataclass(frozen=True)
class Options:
    """Take the pictures of the documentation."""

    report: Path = Path("results/compare_transfer/report.html")
    """Report of `studies/compare_methods.py --job transfer`."""
    sheet: Path = Path("results/n_minus_1/ieee33/sheet.html")
    """Sheet of `studies/n_minus_1.py ieee33`."""
    fault: str = "line 22 (3–23)"
    """Words in the report's list of faults; the first fault with them is shown."""
    setting: str = "radial"
    """Setting of the decision."""
    method: str = "plan_search"
    """Method of the decision."""
    sheet_fault: str = "22"
    """Fault of the sheet."""


def main(options: Options) -> None:
    """Take both pictures; a file that is not there ends the program with one sentence."""
    browser_path = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser_path is None:
        raise SystemExit(f"no browser: none of {', '.join(BROWSERS)} is on the path")
    for path in (options.report, options.sheet):
        if not path.exists():
            raise SystemExit(f"{path}: no such file; run the commands in {Path(__file__).name}")
    IMAGES.mkdir(exist_ok=True)
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        size = {"width": 1000, "height": 900}
        page = browser.new_page(viewport=size, device_scale_factor=1.6, color_scheme="light")
        _picture_of_map(page, options)
        _picture_of_sheet(page, options)
        browser.close()


def _picture_of_map(page: Any, options: Options) -> None:
    """Choose the decision in the report; take the part from the list of faults down to the map."""
    page.goto(options.report.resolve().as_uri())
    page.wait_for_selector("#transfer-map .main-svg")
    _choose(page, options)
    page.wait_for_timeout(500)  # plotly draws the choice
    first = page.locator("#transfer-decisions-0").bounding_box()
    last = page.locator("#transfer-map").bounding_box()
    top = first["y"] - LABEL - MARGIN
    clip = {"x": last["x"] - MARGIN, "y": top}
    clip |= {"width": last["width"] + 2 * MARGIN, "height": last["y"] + last["height"] - top}
    page.screenshot(path=IMAGES / "map.png", clip=clip, full_page=True)


def _choose(page: Any, options: Options) -> None:
    faults = page.eval_on_selector_all(
        "#transfer-decisions-0 option", "all => all.map(one => [one.value, one.textContent])"
    )
    found = [value for value, text in faults if options.fault in text]
    if not found:
        raise SystemExit(f"no fault {options.fault!r}; there are {[text for _, text in faults]}")
    page.select_option("#transfer-decisions-0", found[0])
    page.select_option("#transfer-decisions-1", options.setting)
    page.select_option("#transfer-decisions-2", options.method)


def _picture_of_sheet(page: Any, options: Options) -> None:
    """Take one fault's section of the sheet."""
    page.goto(options.sheet.resolve().as_uri())
    page.locator(f"#fault-{options.sheet_fault}").screenshot(path=IMAGES / "sheet.png")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
