"""Settings of servers, Prefect's server as `make ui` starts it, and a real Chromium to look at it."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, sync_playwright

from operations.servers import ServerSettings, prefect_command, server_environment
from tests.servers import running
from tests.service_stack import free_port

PATIENCE_MS = 30_000


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ServerSettings:
    """Return settings of servers on free ports over an empty state folder."""
    monkeypatch.setenv("DCGAN_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "state" / "prefect"))
    monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{free_port()}/api")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port()}")
    return ServerSettings()


@pytest.fixture
def rebound() -> str:
    """Return another site's name that leads the browser to this machine, as after DNS rebinding."""
    return "rebound.example"


@pytest.fixture(scope="module")
def prefect_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Yield the address of Prefect's pages, as `make ui` serves them, on a server whose database begins empty."""
    folder = tmp_path_factory.mktemp("prefect")
    settings = ServerSettings(PREFECT_API_URL=f"http://127.0.0.1:{free_port()}/api")
    environment = {**server_environment(settings), "PREFECT_HOME": str(folder / "home")}
    with running(prefect_command(settings), environment, settings.prefect, folder):
        yield settings.prefect.url.removesuffix("/api")


@pytest.fixture
def page(rebound: str) -> Iterator[Page]:
    """Yield a page of Debian's Chromium, large enough to show a run's charts at once."""
    chromium = shutil.which("chromium")
    assert chromium, "make test-browser needs Chromium, Debian's package chromium"
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []  # Chromium's does not work for root
    network = ["--no-proxy-server", f"--host-resolver-rules=MAP {rebound} 127.0.0.1"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=[*sandbox, *network])
        page = browser.new_page(viewport={"width": 1600, "height": 2400})
        page.set_default_timeout(PATIENCE_MS)
        yield page
        browser.close()
