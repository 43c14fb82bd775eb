"""The Prefect server of a command that runs with none: started with it, heard by nobody else, gone with it.

Prefect can start such a server by itself, but in the terminal's process group: Ctrl-C ends it too, so that how the run
ended cannot be recorded, and the command hangs in retries. And it outlives a command that is killed. This one is in a
session of its own, and ends when the pipe from its parent closes, however the parent ended.
"""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from threading import Thread

import httpx
from prefect.events.worker import EventsWorker
from prefect.logging.handlers import APILogWorker
from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings

from dcgan.errors import ConfigurationError
from dcgan.files import alone_in
from tasks.sources import mask_credentials

START_SECONDS = 180.0
POLL_SECONDS = 0.1
STOP_SECONDS = 10.0


@contextmanager
def prefect_server() -> Iterator[None]:
    """Let the body use the Prefect API that the environment names, or a server of its own where it names none.

    Raises:
        ConfigurationError: the API does not answer.
    """
    if url := PREFECT_API_URL.value():
        _require_answer(url)
        with _sent_at_the_end():
            yield
        return
    with ExitStack() as stack:
        with alone_in(PREFECT_HOME.value()):  # two that create the same database at once would clash
            url, process = _start()
            stack.callback(process.communicate)  # closes the pipe, which ends the server
            _wait_until_ready(url, process)
        stack.enter_context(temporary_settings({PREFECT_API_URL: url}))
        stack.enter_context(_sent_at_the_end())
        yield


@contextmanager
def _sent_at_the_end() -> Iterator[None]:
    """Send what Prefect has queued for its server before that ends, and do not wait for one that is away."""
    try:
        yield
    finally:
        APILogWorker.drain_all(timeout=STOP_SECONDS)
        EventsWorker.drain_all(timeout=STOP_SECONDS)


def _require_answer(url: str) -> None:
    """Raise at once when an API does not answer: Prefect would retry for minutes."""
    try:
        httpx.get(f"{url.rstrip('/')}/health", timeout=5.0)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        reason = str(error) or type(error).__name__
        raise ConfigurationError(
            f"The Prefect API {mask_credentials(url)} does not answer ({reason}); "
            "expected a running server there, or no PREFECT_API_URL for an embedded one."
        ) from None


def _start() -> "tuple[str, subprocess.Popen[bytes]]":
    """Start a server on a free port, and return the address of its API."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        process = subprocess.Popen(  # noqa: S603 - this module
            [sys.executable, "-m", "flows.embedded", str(listener.fileno())],
            pass_fds=[listener.fileno()],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
        return f"http://127.0.0.1:{listener.getsockname()[1]}/api", process


def _wait_until_ready(url: str, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"{url}/health", timeout=5.0).is_success:
                return
        except httpx.HTTPError:
            pass
        time.sleep(POLL_SECONDS)
    raise ConfigurationError(
        f"Prefect's server did not begin to answer at {url}; its database is in {os.environ['PREFECT_HOME']}."
    )


def _serve(descriptor: int) -> None:
    """Serve Prefect's API on a socket that is listening, until standard input closes."""
    import uvicorn
    from prefect.server.api.server import create_app

    server = uvicorn.Server(uvicorn.Config(create_app(ephemeral=True, final=True), log_level="error"))

    def end_with_parent() -> None:
        sys.stdin.buffer.read()
        server.should_exit = True

    Thread(target=end_with_parent, daemon=True).start()
    server.run(sockets=[socket.socket(fileno=descriptor)])


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
