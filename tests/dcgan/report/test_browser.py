"""The report and the comparison opened from disk in a real browser: no requests, no messages, everything is shown."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from playwright.sync_api import Page, sync_playwright

from dcgan.report.comparison import ComparedRun, render_comparison
from dcgan.report.render import ReportPage, render_report

pytestmark = pytest.mark.browser

ALL_DECODE = "Promise.all([...document.images].map(i => i.decode())).then(() => document.images.length)"
OVERFLOW = "document.documentElement.scrollWidth - window.innerWidth"
MADE = datetime(2026, 11, 26, 15, 31, tzinfo=UTC)
BOXES = "boxes => boxes.map(box => box.getBoundingClientRect().toJSON())"


@contextmanager
def opened(html: str, folder: Path, width: int, scheme: str) -> Iterator[Page]:
    """Yield the page, opened from disk; it must not log, fail, request anything else, or be wider than the window."""
    file = folder / "page.html"
    file.write_text(html)
    chromium = shutil.which("chromium")
    assert chromium, "make test-browser needs Chromium, the package chromium of Debian"
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []  # Chromium's does not work for root
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=sandbox)
        tab = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True)
        messages: list[str] = []
        tab.on("console", lambda message: messages.append(message.text))
        tab.on("pageerror", lambda error: messages.append(str(error)))
        tab.on("requestfailed", lambda request: messages.append(request.url))
        requests: list[str] = []
        tab.on("request", lambda request: requests.append(request.url))
        tab.goto(file.as_uri())
        yield tab
        assert messages == []
        assert [url for url in requests if not url.startswith("data:")] == [file.as_uri()]
        assert tab.evaluate(OVERFLOW) <= 0
        background, ink = (
            tab.evaluate(f"getComputedStyle(document.body).{name}") for name in ("backgroundColor", "color")
        )
        assert (_lightness(background) > _lightness(ink)) == (scheme == "light")
        tick = tab.evaluate("getComputedStyle(document.querySelector('svg text')).fill")
        assert abs(_lightness(tick) - _lightness(background)) > 200
        assert tab.screenshot(full_page=True).startswith(b"\x89PNG")
        browser.close()


@pytest.mark.parametrize(("width", "scheme"), [(1200, "light"), (1200, "dark"), (360, "light")])
def test_the_report_opens_from_disk(tmp_path: Path, page: ReportPage, width: int, scheme: str) -> None:
    """All images decode."""
    with opened(render_report(page), tmp_path, width, scheme) as tab:
        assert tab.evaluate(ALL_DECODE) == 2 + 2 * len(page.samples.pairs.distances)


@pytest.mark.parametrize(("width", "scheme"), [(1200, "light"), (1200, "dark"), (390, "light")])
def test_a_comparison_opens_from_disk(tmp_path: Path, compared: list[ComparedRun], width: int, scheme: str) -> None:
    """The grids are seen side by side, on a phone too, and each curve has the colour of its run's key."""
    with opened(render_comparison(compared, MADE), tmp_path, width, scheme) as tab:
        assert tab.evaluate(ALL_DECODE) == 2
        first, second = tab.locator(".grids img").evaluate_all(BOXES)
        assert first["width"] == pytest.approx(first["height"], abs=0.1)
        assert first["width"] == pytest.approx(second["width"], abs=0.1)
        assert first["width"] >= 150
        assert first["top"] == second["top"]
        assert 0 < first["left"] < first["right"] < second["left"] < second["right"] < width
        strokes = "paths => paths.map(path => getComputedStyle(path).stroke)"
        *_, last = tab.locator(".charts figure").all()
        one, two = last.locator("svg.key path").evaluate_all(strokes)
        assert one != two
        assert {one, two} <= set(last.locator("svg[role=img] path").evaluate_all(strokes))


def _lightness(colour: str) -> int:
    """Return the sum of the channels of a colour as browsers write it, rgb(1, 2, 3)."""
    return sum(int(channel) for channel in colour.removeprefix("rgb(").removesuffix(")").split(","))
