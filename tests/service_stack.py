"""Fixtures that run the service stack of `make ui` on free ports, as a user's terminal does."""

import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from operations.stack import PORTS

CHECKOUT = Path(__file__).resolve().parents[1]
READY = "Ctrl-C stops everything."
PATIENCE_SECONDS = 400


def free_port() -> int:
    """Return a loopback port that no program uses, and that the system gives to no outgoing connection."""
    while True:
        with suppress(OSError), socket.create_server(("127.0.0.1", random.choice(PORTS))) as probe:  # noqa: S311 - not a secret
            return probe.getsockname()[1]


@dataclass(frozen=True)
class ServiceStack:
    """A running `make ui` or `make stack`, its state folder and the environment of a shell that uses it."""

    process: subprocess.Popen[str]
    state: Path
    environment: dict[str, str]

    @property
    def prefect(self) -> str:
        """The URL of Prefect's API."""
        return self.environment["PREFECT_API_URL"]

    @property
    def mlflow(self) -> str:
        """The URL of MLflow's server."""
        return self.environment["MLFLOW_TRACKING_URI"]

    def processes(self) -> list[psutil.Process]:
        """Return every process that it started."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def ask(self, path: str, body: Mapping[str, object] | None = None) -> Any:
        """Return an answer of Prefect's API, to a GET or, with a body, to a POST."""
        user, _, password = self.environment.get("PREFECT_API_AUTH_STRING", "").partition(":")
        method, url = "GET" if body is None else "POST", f"{self.prefect}/{path}"
        return httpx.request(method, url, json=body, auth=(user, password), timeout=30).raise_for_status().json()

    def find(self, what: str) -> list[dict[str, str]]:
        """Return all objects of one kind from Prefect's API, such as `deployments`."""
        return self.ask(f"{what}/filter", {})

    def deploy(self, *options: str) -> None:
        """Run what `make deploy` runs."""
        command = [sys.executable, "-m", "operations.deploy", *options]
        subprocess.run(command, cwd=CHECKOUT, env=self.environment, check=True)

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


def start_stack(
    state: Path,
    host: str = "127.0.0.1",
    wrapper: Sequence[str] = (),
    inherited: Mapping[str, str] = os.environ,
    program: str = "operations.ui",
    **variables: str,
) -> ServiceStack:
    """Start what `make ui` runs, or `make stack`, on free ports.

    Args:
        state: The state folder.
        host: The host of both servers.
        wrapper: A command line that runs it.
        inherited: The environment that it inherits.
        program: The module to run.
        variables: More environment variables.
    """
    environment = {
        **inherited,
        "DCGAN_STATE": str(state),
        "PREFECT_HOME": str(state / "prefect"),
        "PREFECT_API_URL": f"http://{host}:{free_port()}/api",
        "MLFLOW_TRACKING_URI": f"http://{host}:{free_port()}",
        "PYTHONUNBUFFERED": "1",
        **variables,
    }
    process = subprocess.Popen(
        [*wrapper, sys.executable, "-m", program],
        cwd=CHECKOUT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return ServiceStack(process, state, environment)


def read_until_ready(stack: ServiceStack) -> None:
    """Return when a service stack has printed that everything runs."""
    assert stack.process.stdout is not None
    lines = []
    for line in stack.process.stdout:
        lines.append(line.rstrip("\n"))
        if lines[-1] == READY:
            return
    raise AssertionError(lines)


def with_passwords(stack: ServiceStack) -> ServiceStack:
    """Return a running `make stack` whose environment is that of a shell which has read the file that it prints."""
    names = ("PREFECT_API_AUTH_STRING", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "DCGAN_SWEEPS_URI")
    script = f'. "$1" && printf "%s\\n" {" ".join(f"${name}" for name in names)}'
    file = str(stack.state / "stack" / "settings.sh")
    values = subprocess.run(
        ["sh", "-c", script, "sh", file], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    return replace(stack, environment={**stack.environment, **dict(zip(names, values, strict=True))})


@contextmanager
def stopped_afterwards(stack: ServiceStack) -> Iterator[ServiceStack]:
    """Yield a service stack once it has printed that everything runs, and stop it, also if it never does."""
    try:
        read_until_ready(stack)
        yield stack
    finally:
        stack.process.terminate()
        stack.process.communicate(timeout=120)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceStack]:
    """Yield a service stack that runs."""
    with stopped_afterwards(start_stack(tmp_path_factory.mktemp("stack") / "state")) as stack:
        yield stack


def wait_until(what: str, ready: Callable[[], object]) -> Any:
    """Return the result of `ready` as soon as it is true; a server that does not answer is asked again."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        with suppress(httpx.TransportError):
            if result := ready():
                return result
        time.sleep(0.2)
    raise AssertionError(f"waited in vain for {what}")
