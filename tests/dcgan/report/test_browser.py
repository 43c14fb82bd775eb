"""The report opened from disk in a real browser: no requests, no messages, everything is shown."""

import os
import shutil
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

from dcgan.report.render import ReportPage, render_report

pytestmark = pytest.mark.browser

ALL_DECODE = "Promise.all([...document.images].map(i => i.decode())).then(() => document.images.length)"
OVERFLOW = "document.documentElement.scrollWidth - window.innerWidth"


@pytest.mark.parametrize(("width", "scheme"), [(1200, "light"), (1200, "dark"), (360, "light")])
def test_it_opens_from_disk(tmp_path: Path, page: ReportPage, width: int, scheme: str) -> None:
    """No console message and no request but for the file; all images decode, and nothing overflows a phone's width."""
    file = tmp_path / "report.html"
    file.write_text(render_report(page))
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
        assert tab.evaluate(ALL_DECODE) == 2 + 2 * len(page.samples.pairs.distances)
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


def _lightness(colour: str) -> int:
    """Return the sum of the channels of a colour as browsers write it, rgb(1, 2, 3)."""
    return sum(int(channel) for channel in colour.removeprefix("rgb(").removesuffix(")").split(","))
