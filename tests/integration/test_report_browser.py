"""The report in a real headless Chromium: drawn, silent, offline, reachable by keyboard, both schemes, no overflow."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.keys import Keys

from tests.support.report_data import report_data
from trident.report import write

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs the packages chromium and chromium-driver")
FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --window-size=1280,2000"
)
RATIO = """
const level = c => { const v = c.match(/[0-9.]+/g).slice(0, 3).map(x => x / 255)
  .map(x => x <= 0.03928 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4); return 0.2126*v[0] + 0.7152*v[1] + 0.0722*v[2] };
const behind = e => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor;
  if (c && !c.endsWith(', 0)') && c != 'transparent') return level(c) } };
const words = 'h1, h2, h3, p, summary, td, th, caption, pre, .legend b, .legend li, svg text';
return Math.min(...[...document.querySelectorAll(words)].filter(e => !e.closest('.tip')).map(e => {
  const style = getComputedStyle(e), ink = level(e.closest('svg') ? style.fill : style.color), back = behind(e);
  return (Math.max(ink, back) + 0.05) / (Math.min(ink, back) + 0.05) }));
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    """A browser with the report open."""
    folder = tmp_path_factory.mktemp("report")
    write(folder / "report.html", *report_data())
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in (*FLAGS.split(), f"--user-data-dir={folder / 'profile'}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(str(DRIVER)))
    try:
        browser.get("about:blank")
        browser.get_log("performance")  # what the browser's own start page asked for
        browser.get(Path(folder / "report.html").as_uri())
        yield browser
    finally:
        browser.quit()


def test_it_is_drawn_without_network_or_errors(page: webdriver.Chrome) -> None:
    messages = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
    urls = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    assert any(url.startswith("file:") for url in urls)
    assert [url for url in urls if not url.startswith(("file:", "data:"))] == []
    assert page.get_log("browser") == []
    boxes = page.execute_script(
        "return [...document.querySelectorAll('svg')].map(s => s.getBoundingClientRect().height)"
    )
    assert len(boxes) == 12
    assert min(boxes) > 100
    marks = page.execute_script(
        "return [...document.querySelectorAll('svg')].map(s => s.querySelectorAll('.mark').length)"
    )
    # Accuracy, HTTP, gRPC, time; spreads (p50 and p99 of each); three verdicts; batches, cost, size, memory.
    assert marks == [8, 24, 24, 8, 16, 7, 7, 7, 8, 8, 9, 8]


def test_tab_reaches_a_point_and_shows_its_tooltip(page: webdriver.Chrome) -> None:
    for _ in range(4):
        page.switch_to.active_element.send_keys(Keys.TAB)
        if page.switch_to.active_element.get_attribute("class") == "mark":
            break
    focused = "return getComputedStyle(document.activeElement.querySelector('.tip')).visibility"
    assert page.execute_script(focused) == "visible"


def test_both_colour_schemes_have_contrast(page: webdriver.Chrome) -> None:
    backgrounds = set()
    for scheme in ("light", "dark"):
        features = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", features)
        backgrounds.add(page.execute_script("return getComputedStyle(document.body).backgroundColor"))
        assert page.execute_script(RATIO) >= 4.5
    assert len(backgrounds) == 2


def test_a_phone_needs_no_sideways_scrolling(page: webdriver.Chrome) -> None:
    metrics = {"width": 360, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    assert page.execute_script("return document.documentElement.scrollWidth") <= 360
    # Nor with a name that has no place to break.
    page.execute_script("document.querySelectorAll('h1, .lead, .legend li, th').forEach(e => e.append('x'.repeat(80)))")
    assert page.execute_script("return document.documentElement.scrollWidth") <= 360
