"""Fixtures that run `make ui`'s program on free ports, as a user's terminal does."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest

CHECKOUT = Path(__file__).resolve().parents[1]
READY = "Ctrl-C ends all of this."


def free_port() -> int:
    """Return a port of loopback that nobody holds."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


@dataclass(frozen=True)
class Desk:
    """A `make ui` that runs, and its addresses."""

    process: subprocess.Popen[str]
    state: Path
    environment: dict[str, str]

    @property
    def prefect(self) -> str:
        """The address of Prefect's API."""
        return self.environment["PREFECT_API_URL"]

    @property
    def mlflow(self) -> str:
        """The address of MLflow's server."""
        return self.environment["MLFLOW_TRACKING_URI"]

    def family(self) -> list[psutil.Process]:
        """Return every process that it started."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def find(self, what: str) -> list[dict[str, str]]:
        """Return what Prefect's API finds without a filter."""
        return httpx.post(f"{self.prefect}/{what}/filter", json={}, timeout=30).raise_for_status().json()

    def deploy(self) -> None:
        """Run `make deploy`'s program."""
        subprocess.run([sys.executable, "-m", "operations.deploy"], cwd=CHECKOUT, env=self.environment, check=True)

    def run_prefect(self, *arguments: str, seconds: float = 300) -> subprocess.CompletedProcess[str]:
        """Run Prefect's command line as a user would."""
        return subprocess.run(
            [sys.executable, "-m", "prefect", "--no-prompt", *arguments],
            cwd=CHECKOUT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )


def start_desk(
    state: Path,
    host: str = "127.0.0.1",
    before: Sequence[str] = (),
    inherited: Mapping[str, str] = os.environ,
    **more: str,
) -> Desk:
    """Start `make ui`'s program on free ports.

    Args:
        state: its state folder.
        host: where the servers are.
        before: a command line that runs it.
        inherited: the environment that it finds.
        more: variables besides.
    """
    environment = {
        **inherited,
        "DCGAN_STATE": str(state),
        "PREFECT_HOME": str(state / "prefect"),
        "PREFECT_API_URL": f"http://{host}:{free_port()}/api",
        "MLFLOW_TRACKING_URI": f"http://{host}:{free_port()}",
        "PYTHONUNBUFFERED": "1",
        **more,
    }
    process = subprocess.Popen(
        [*before, sys.executable, "-m", "operations.ui"],
        cwd=CHECKOUT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return Desk(process, state, environment)


def read_until_ready(desk: Desk) -> None:
    """Return when a desk has said that everything runs."""
    assert desk.process.stdout is not None
    said = []
    for line in desk.process.stdout:
        said.append(line.rstrip("\n"))
        if said[-1] == READY:
            return
    raise AssertionError(said)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """Yield a desk that has said that everything runs."""
    desk = start_desk(tmp_path_factory.mktemp("desk") / "state")
    read_until_ready(desk)
    yield desk
    desk.process.terminate()
    desk.process.wait(120)
