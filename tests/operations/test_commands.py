"""`make ui` and `make deploy` where they cannot do their work: one sentence and exit code 1."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.fixture
def taken_port() -> Iterator[int]:
    """Yield a port of loopback that another program holds, and that answers nothing."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        yield other.getsockname()[1]


def run(module: str, state: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command of operations to its end."""
    return subprocess.run(
        [sys.executable, "-m", f"operations.{module}"],
        cwd=CHECKOUT,
        env={**os.environ, "DCGAN_STATE": str(state), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_ui_says_which_port_is_taken(state: Path, taken_port: int) -> None:
    """A taken port is told before anything is started."""
    done = run("ui", state, PREFECT_API_URL=f"http://127.0.0.1:{taken_port}/api")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == (
        f"error: Port {taken_port} of 127.0.0.1 cannot be used (Address already in use): stop what holds it, "
        "or set PREFECT_API_URL to an address with another port.\n"
    )
    assert list((state / "logs").iterdir()) == []


@pytest.mark.slow
def test_deploy_says_that_no_server_answers(state: Path, taken_port: int) -> None:
    """Where no Prefect server answers, the way to start one is told."""
    done = run("deploy", state, PREFECT_API_URL=f"http://127.0.0.1:{taken_port}/api")
    assert done.returncode == 1
    assert done.stderr == (
        f"error: Prefect's server at http://127.0.0.1:{taken_port}/api does not answer: start it with 'make ui', "
        "or set PREFECT_API_URL to the API of one that runs.\n"
    )


@pytest.mark.parametrize("module", ["ui", "deploy"])
def test_unusable_address_is_one_sentence(module: str, state: Path) -> None:
    """An address that is none is refused by the name of its setting, without a traceback."""
    done = run(module, state, PREFECT_API_URL="localhost:4200")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == (
        "error: The setting PREFECT_API_URL is 'localhost:4200'; expected an address like http://HOST:PORT.\n"
    )
