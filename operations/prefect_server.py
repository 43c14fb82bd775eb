"""The Prefect server that a command uses: the one that PREFECT_API_URL names, or a private one for as long as it runs.

Prefect can start such a server by itself, but in the terminal's process group: Ctrl-C ends it too, so that the end of
the flow run cannot be recorded, and the command hangs in retries. It also outlives a command that is killed. The
private one has a session of its own and ends when the pipe from its parent closes, however the parent ended.

It serves the database that `make ui` serves, so it is guarded as well, and asks for a password that only this command
knows: other users of the machine can reach its port.
"""

import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

import httpx
from prefect.client.base import ServerType
from prefect.client.orchestration import get_client
from prefect.events.worker import EventsWorker
from prefect.logging.handlers import APILogWorker
from prefect.settings import (
    PREFECT_API_AUTH_STRING,
    PREFECT_API_URL,
    PREFECT_CLIENT_MAX_RETRIES,
    PREFECT_HOME,
    PREFECT_UI_URL,
    temporary_settings,
)

from dcgan.errors import ConfigurationError, mask_credentials

START_SECONDS = 180.0
POLL_SECONDS = 0.1
PROBE_SECONDS = 5.0
DRAIN_SECONDS = 10.0


@contextmanager
def prefect_server(meanwhile: Callable[[], object] = lambda: None) -> Iterator[str]:
    """Yield the URL of a Prefect API that the body uses: PREFECT_API_URL where it is set, or a private server's.

    At the end, logs and events that Prefect has queued are sent, without waiting for a server that is away.

    Args:
        meanwhile: Called while a private server starts, which takes seconds.

    Raises:
        ConfigurationError: The API does not answer.
    """
    with ExitStack() as stack:
        url = PREFECT_API_URL.value()
        if url:
            _require_answer(url)
        else:
            url, password = stack.enter_context(_private_server(meanwhile))
            # no page: this server has none, and is gone when the command ends
            settings = {PREFECT_API_URL: url, PREFECT_API_AUTH_STRING: password, PREFECT_UI_URL: ""}
            stack.enter_context(temporary_settings(settings))
        for queue in (EventsWorker, APILogWorker):
            stack.callback(queue.drain_all, timeout=DRAIN_SECONDS)
        yield url


def _require_answer(url: str) -> None:
    """Raise at once when an API does not answer, or not to this user: Prefect would retry for minutes.

    The request is the first that Prefect's client would make, with its password and its certificates.
    """
    expected = "expected a running server there, or no PREFECT_API_URL for a private one."
    shown = mask_credentials(url)
    try:
        with (
            temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}),
            get_client(httpx_settings={"timeout": PROBE_SECONDS}, sync_client=True) as client,
        ):
            if client.server_type != ServerType.CLOUD:
                client.api_version()
    except httpx.HTTPStatusError as error:
        status = error.response.status_code
        if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            raise ConfigurationError(refused_password(url)) from None
        if status == httpx.codes.NOT_FOUND and not url.rstrip("/").endswith("/api"):
            raise ConfigurationError(
                f"The setting PREFECT_API_URL is {shown!r}, where there is no API of Prefect; expected the address of "
                "one, such as http://HOST:PORT/api."
            ) from None
        raise ConfigurationError(f"The Prefect API {shown} answers with HTTP {status}; {expected}") from None
    except ValueError:
        raise ConfigurationError(f"The Prefect API {shown} does not answer as Prefect does; {expected}") from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        reason = str(error) or type(error).__name__
        raise ConfigurationError(f"The Prefect API {shown} does not answer ({reason}); {expected}") from None


def refused_password(url: str) -> str:
    """Return what to say where a Prefect API refuses this user."""
    shown = mask_credentials(url)
    return f"The Prefect API {shown} refuses PREFECT_API_AUTH_STRING; expected USER:PASSWORD of that server."


@contextmanager
def _private_server(meanwhile: Callable[[], object]) -> Iterator[tuple[str, str]]:
    """Yield the URL of a private server and its password, which it gets in its environment."""
    password = f"dcgan:{secrets.token_urlsafe(32)}"
    with ExitStack() as stack:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            origin = f"http://127.0.0.1:{listener.getsockname()[1]}"
            process = subprocess.Popen(  # noqa: S603 - a module of this package
                [sys.executable, "-m", "operations.serve_prefect", "--descriptor", str(listener.fileno())],
                env={
                    **os.environ,
                    "PREFECT_SERVER_API_AUTH_STRING": password,
                    # what `make deploy` created acts on the servers of `make ui`; this one ends with its command
                    "PREFECT_SERVER_SERVICES_TRIGGERS_ENABLED": "false",
                    "PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS": origin,  # by default everybody's
                },
                pass_fds=[listener.fileno()],
                stdin=subprocess.PIPE,
                start_new_session=True,
            )
        url = f"{origin}/api"
        stack.callback(process.communicate)  # closes the pipe, which ends the server
        meanwhile()
        _wait_until_ready(url, process)
        yield url, password


def _wait_until_ready(url: str, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(httpx.HTTPError):
            if httpx.get(f"{url}/health", timeout=PROBE_SECONDS).is_success:
                return
        time.sleep(POLL_SECONDS)
    raise ConfigurationError(f"Prefect's server did not answer at {url}; its database is in {PREFECT_HOME.value()}.")
