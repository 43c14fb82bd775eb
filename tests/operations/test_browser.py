"""The pages of `make ui`'s servers after a training run, in a real browser."""

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Locator, Page, expect

from operations.servers import ServerSettings, mlflow_command, server_environment
from tests.pipeline import TrainedRun
from tests.servers import running

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

PATIENCE_MS = 30_000
EXPERIMENT = "/#/experiments/1/runs"


@pytest.fixture
def mlflow_url(trained: TrainedRun, free_port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Yield the address of MLflow's server, as `make ui` starts it, over the store of a complete run."""
    assert trained.version == 1
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port}")
    settings = ServerSettings()
    with running(mlflow_command(settings), server_environment(settings), settings.mlflow, tmp_path):
        yield settings.mlflow.url


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


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_prefects_pages_work_and_contact_nobody_else(page: Page, prefect_url: str, host: str) -> None:
    """At each name of the server its pages read and write through the API, and contact no third party."""
    opened = prefect_url.replace("127.0.0.1", host)
    requested = requests_of(page)
    page.goto(opened)
    page.wait_for_load_state("networkidle")
    assert f"{opened}/api/flow_runs/count" in requested
    page.goto(f"{opened}/variables")
    page.get_by_role("button", name="Add variable").first.click()
    name, value = page.get_by_role("textbox").all()
    name.fill("answer")
    value.fill("42")
    page.get_by_role("button", name="Create").click()
    expect(page.get_by_text("answer").first).to_be_visible()
    assert httpx.delete(f"{prefect_url}/api/variables/name/answer").status_code == httpx.codes.NO_CONTENT
    assert [url for url in requested if not url.startswith((opened, "data:", "blob:"))] == []


def test_prefects_second_version_contacts_nobody_else(page: Page, prefect_url: str) -> None:
    """The pages behind "Switch to V2 UI" work, and the browser keeps them from contacting an analytics company."""
    requested = requests_of(page)
    page.goto(prefect_url)
    page.get_by_text("Switch to V2 UI").click()
    page.wait_for_url(f"{prefect_url}/v2/**")
    with (
        page.expect_response(f"{prefect_url}/api/deployments/count"),
        page.expect_console_message(lambda message: "amplitude.com" in message.text and "connect-src" in message.text),
    ):
        page.goto(f"{prefect_url}/v2/deployments")
    page.wait_for_load_state("networkidle")
    assert [url for url in requested if not url.startswith((prefect_url, "data:", "blob:"))] == []


def test_mlflows_pages_contact_nobody_else(page: Page, mlflow_url: str) -> None:
    """Opening MLflow's pages contacts no third party."""
    requested = requests_of(page)
    page.goto(mlflow_url + EXPERIMENT)
    expect(page.get_by_role("link", name="smoke-seed7", exact=True)).to_be_visible(timeout=PATIENCE_MS)
    assert f"{mlflow_url}/ajax-api/2.0/mlflow/runs/search" in requested
    assert [url for url in requested if not url.startswith((mlflow_url, "data:", "blob:"))] == []
