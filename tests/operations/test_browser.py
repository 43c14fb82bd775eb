"""The pages of `make ui`'s servers after a training run, in a real browser."""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event

import pytest
from playwright.sync_api import Locator, Page, expect, sync_playwright

from operations.servers import Address, ServerSettings, mlflow_command, prefect_command, server_environment
from operations.supervisor import Supervisor
from tests.pipeline import TrainedRun

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

PATIENCE_MS = 30_000
EXPERIMENT = "/#/experiments/1/runs"


@contextmanager
def running(command: list[str], settings: ServerSettings, address: Address, logs: Path) -> Iterator[None]:
    """Run a server, from the moment at which it answers, for as long as the body runs."""
    supervisor = Supervisor(logs, Event())
    try:
        supervisor.start("server", command, server_environment(settings))
        supervisor.wait_until(address.answers, "The server", 120)
        yield
    finally:
        supervisor.stop()


@pytest.fixture
def prefect_url(free_port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Yield the address of Prefect's pages, as `make ui` serves them, on a server with an empty database."""
    monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{free_port}/api")
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    settings = ServerSettings()
    with running(prefect_command(settings), settings, settings.prefect, tmp_path):
        yield settings.prefect.url.removesuffix("/api")


@pytest.fixture
def mlflow_url(trained: TrainedRun, free_port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Yield the address of MLflow's server, as `make ui` starts it, over the store of a complete run."""
    assert trained.version == 1
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port}")
    settings = ServerSettings()
    with running(mlflow_command(settings), settings, settings.mlflow, tmp_path):
        yield settings.mlflow.url


@pytest.fixture
def page() -> Iterator[Page]:
    """Yield a page of Debian's Chromium, large enough to show a run's charts at once."""
    chromium = shutil.which("chromium")
    assert chromium, "make test-browser needs Chromium, Debian's package chromium"
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []  # Chromium's does not work for root
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=sandbox)
        page = browser.new_page(viewport={"width": 1600, "height": 2400})
        page.set_default_timeout(PATIENCE_MS)
        yield page
        browser.close()


def expect_image(locator: Locator, width: int) -> None:
    """Wait until an image element shows a decoded image of that width in pixels."""
    expect(locator).to_be_visible(timeout=PATIENCE_MS)
    locator.evaluate("image => image.decode()")
    assert locator.evaluate("image => image.naturalWidth") == width


def test_a_run_shows_its_curves_and_samples(page: Page, mlflow_url: str, trained: TrainedRun) -> None:
    """The list of runs leads to the run: its name, its curves, and the samples of each epoch and of the start."""
    page.goto(mlflow_url + EXPERIMENT)
    page.get_by_role("link", name="smoke-seed7", exact=True).click()
    expect(page).to_have_url(re.compile(trained.run.run_id))
    page.get_by_role("tab", name="Model metrics").click()
    for curve in ("generator_loss", "discriminator_loss", "images_per_second"):
        expect(page.get_by_text(curve, exact=True).first).to_be_visible(timeout=PATIENCE_MS)
    for step in (0, 1, 2):
        # MLflow shows the small copy of 256 pixels
        expect_image(page.locator(f"img[src*='samples%2Bstep%2B{step}%2B']"), 256)
        page.get_by_role("slider").press("ArrowRight")


def test_the_animation_is_under_report(page: Page, mlflow_url: str, trained: TrainedRun) -> None:
    """The run's artifacts show the animation in the folder report."""
    page.goto(f"{mlflow_url}{EXPERIMENT}/{trained.run.run_id}/artifacts")
    page.get_by_text("report", exact=True).click()
    page.get_by_text("training.gif", exact=True).click()
    expect(page.locator("img[src*='training.gif'], img[src^='blob:']").first).to_be_visible(timeout=PATIENCE_MS)


def test_the_version_shows_its_samples(page: Page, mlflow_url: str) -> None:
    """The registered version's page shows the last sample grid in its description, and links the run."""
    page.goto(f"{mlflow_url}/#/models/dcgan-generator/versions/1")
    expect_image(page.locator("img[src*='samples.png']"), 336)
    expect(page.get_by_role("link", name="smoke-seed7")).to_be_visible()


def requests_of(page: Page) -> list[str]:
    """Return the list of the URLs that a page requests, which grows."""
    requested: list[str] = []
    page.on("request", lambda request: requested.append(request.url))
    return requested


def test_prefects_pages_contact_nobody_else(page: Page, prefect_url: str) -> None:
    """Opening Prefect's pages contacts no third party."""
    requested = requests_of(page)
    page.goto(prefect_url)
    page.wait_for_load_state("networkidle")
    assert f"{prefect_url}/api/flow_runs/count" in requested
    assert [url for url in requested if not url.startswith((prefect_url, "data:", "blob:"))] == []


def test_mlflows_pages_contact_nobody_else(page: Page, mlflow_url: str) -> None:
    """Opening MLflow's pages contacts no third party."""
    requested = requests_of(page)
    page.goto(mlflow_url + EXPERIMENT)
    expect(page.get_by_role("link", name="smoke-seed7", exact=True)).to_be_visible(timeout=PATIENCE_MS)
    assert f"{mlflow_url}/ajax-api/2.0/mlflow/runs/search" in requested
    assert [url for url in requested if not url.startswith((mlflow_url, "data:", "blob:"))] == []
