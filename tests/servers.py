"""Real servers on fixed loopback ports that a test can stop and start again, and training runs that use them."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

import httpx

from operations.servers import Address
from operations.supervisor import Supervisor
from tests.service_stack import CHECKOUT, free_port
from tracking.database_template import copy_template

PATIENCE_SECONDS = 180


@dataclass
class Server:
    """A server in a session of its own.

    Attributes:
        command: Arguments of `python -m` that start it.
        health: URL that answers when it is healthy.
        environment: More environment variables.
        log: File of its output.
        process: Its process while it runs.
    """

    command: Sequence[str | Path]
    health: str
    environment: Mapping[str, str]
    log: Path
    process: "subprocess.Popen[bytes] | None" = field(init=False, default=None)

    def start(self) -> None:
        """Start the server, and return when it answers."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *self.command],
                env={**os.environ, **self.environment},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not self.answers():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.1)

    def stop(self) -> None:
        """Kill the server, and return when it has ended."""
        if self.process:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None
            assert not self.answers()

    def answers(self) -> bool:
        """Return whether the server is healthy."""
        try:
            return httpx.get(self.health, timeout=5).is_success
        except httpx.HTTPError:
            return False


@contextmanager
def mlflow_server(folder: Path, *arguments: str) -> Iterator[tuple[Server, str]]:
    """Yield an MLflow server that keeps everything in a folder, artifacts behind itself, and its address."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    copy_template("mlflow", folder / "mlflow.db")  # migrations take seconds
    store = (
        "--backend-store-uri",
        f"sqlite:///{folder / 'mlflow.db'}",
        "--artifacts-destination",
        folder / "artifacts",
    )
    command = ["mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1", *store, *arguments]
    yield from _served(
        Server(command, f"{url}/health", {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}, folder / "mlflow.log"), url
    )


def collect_garbage(database: str, tracking_uri: str) -> list[str]:
    """Run `mlflow gc` as docs/retention.md says, and return the ids of the runs that it removed for good."""
    command = [sys.executable, "-m", "mlflow", "gc", "--backend-store-uri", database, "--tracking-uri", tracking_uri]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return re.findall(r"^Run with ID (\w+) has been permanently deleted\.$", done.stdout, re.MULTILINE)


@contextmanager
def prefect_api(folder: Path, **environment: str) -> Iterator[tuple[Server, str]]:
    """Yield a Prefect server that keeps everything in a folder, and the address of its API."""
    port = free_port()
    url = f"http://127.0.0.1:{port}/api"
    copy_template("prefect", folder / "prefect.db")
    command = ["prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    environment = {"PREFECT_HOME": str(folder), **environment}
    yield from _served(Server(command, f"{url}/health", environment, folder / "prefect.log"), url)


def _served(server: Server, url: str) -> Iterator[tuple[Server, str]]:
    try:
        server.start()
        yield server, url
    finally:
        server.stop()


@contextmanager
def running(command: Sequence[str], environment: Mapping[str, str], address: Address, logs: Path) -> Iterator[None]:
    """Run a server of `make ui`, from the moment at which it answers, for as long as the body runs."""
    supervisor = Supervisor(logs, Event())
    try:
        supervisor.start("server", command, environment)
        supervisor.wait_until(address.answers, "The server", PATIENCE_SECONDS)
        yield
    finally:
        supervisor.stop()


@contextmanager
def train_process(
    state: Path, *arguments: str, file_kilobytes: int | None = None, **environment: str
) -> Iterator["subprocess.Popen[str]"]:
    """Yield a training run of the recipe `smoke` in a process of its own, whose log is its standard error.

    Args:
        state: The state folder.
        arguments: More flags.
        file_kilobytes: Size of the largest file that it can write, as if the disk were full then.
        environment: More environment variables.
    """
    # MLflow writes the URI of the store that this process used last into its environment
    inherited = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    limit = ["bash", "-c", f'ulimit -f {file_kilobytes} && exec "$@"', "limited"] if file_kilobytes else []
    process = subprocess.Popen(
        [*limit, sys.executable, "-m", "flows.cli", "train", "--recipe", "smoke", *arguments],
        env={**inherited, "DCGAN_STATE": str(state), "PREFECT_HOME": str(state / "prefect"), **environment},
        cwd=CHECKOUT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stderr.close()


def read_until(process: "subprocess.Popen[str]", words: str) -> list[str]:
    """Return the lines that a training run logs up to the one with these words."""
    lines = []
    for line in process.stderr:
        lines.append(line.rstrip("\n"))
        if words in line:
            return lines
    raise AssertionError(f"{words!r} was not logged: {lines}")
