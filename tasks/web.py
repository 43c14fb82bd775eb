"""A file over HTTP as blocks of bytes, with a limit on every kind of waiting."""

import netrc
import queue
import ssl
import threading
from collections.abc import Generator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import httpx

from dcgan.errors import DataError
from dcgan.idx import MAX_BYTES
from tasks.settings import read_settings
from tasks.sources import mask_credentials

ABSENT = (403, 404, 410)  # S3 answers 403 for what is not there
PASSING = (408, 425, 429)  # and every 5xx
IDENTITY = {"Accept-Encoding": "identity"}  # the bytes as they are stored, not packed once more


class NetworkError(DataError):
    """The network or a server failed in a way that may pass, so another try is worth it."""


class AbsentError(DataError):
    """The source answers, and has no such file; the message says only how it answers."""


@dataclass(frozen=True)
class Limits:
    """How long one file may take and how large it may be."""

    connect_seconds: float = 3.0
    answer_seconds: float = 5.0  # names, connections, redirects and headers together
    read_seconds: float = 10.0
    file_seconds: float = 600.0
    file_bytes: int = MAX_BYTES
    redirects: int = 5


def web_blocks(url: str, limits: Limits) -> Generator[bytes, None, None]:
    """Yield the body at a URL as the server sends it.

    Raises:
        AbsentError: there is no such file.
        NetworkError: it may work later.
        DataError: it will not.
    """
    where = mask_credentials(url)
    try:
        with _client(limits) as client:
            response = _answer(client, httpx.URL(url), where, limits.answer_seconds)
            try:
                _check_status(where, response.status_code)
                yield from response.iter_raw()  # as it comes: waiting for a block would hide a slow drip
            finally:
                response.close()
    except httpx.TooManyRedirects:
        raise DataError(f"{where}: redirects more than {limits.redirects} times.") from None
    except (httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
        raise DataError(f"{where}: leads to an unusable address: {_reason(error)}.") from None
    except httpx.HTTPError as error:
        raise NetworkError(f"{where}: the connection failed: {_reason(error)}.") from None


def _client(limits: Limits) -> httpx.Client:
    return httpx.Client(
        auth=_passwords(read_settings().netrc.expanduser()),
        headers=IDENTITY,
        verify=_certificates(),
        timeout=httpx.Timeout(limits.read_seconds, connect=limits.connect_seconds),
        follow_redirects=True,
        max_redirects=limits.redirects,
    )


def _passwords(file: Path) -> httpx.Auth | None:
    """Return the users and passwords of a netrc file, for each host its own; None where there is no such file.

    Raises:
        DataError: it is none.
    """
    try:
        return httpx.NetRCAuth(str(file))
    except FileNotFoundError:
        return None
    except (netrc.NetrcParseError, OSError) as error:
        raise DataError(f"The passwords in {file} cannot be read: {_reason(error)}.") from None


@cache
def _certificates() -> ssl.SSLContext:
    return httpx.create_ssl_context()  # reading them takes longer than a small file


def _answer(client: httpx.Client, url: httpx.URL, where: str, seconds: float) -> httpx.Response:
    """Return the response with its body still unread."""
    answers: queue.SimpleQueue[httpx.Response | Exception] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(client.send(client.build_request("GET", url), stream=True))
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            answers.put(error)

    # in a thread, because no timeout of httpx covers the look-up of a name, which takes half a minute where
    # packets are dropped; a daemon, so that the process can end before
    threading.Thread(target=ask, name="download", daemon=True).start()
    try:
        answer = answers.get(timeout=seconds)
    except queue.Empty:
        raise NetworkError(f"{where}: no answer within {seconds:g} seconds.") from None
    if isinstance(answer, Exception):
        raise answer
    return answer


def _check_status(where: str, status: int) -> None:
    if status == httpx.codes.OK:
        return
    if status in ABSENT:
        raise AbsentError(f"the server answers HTTP {status}")
    message = f"{where}: the server answers HTTP {status}; expected 200."
    if status in PASSING or status >= httpx.codes.INTERNAL_SERVER_ERROR:
        raise NetworkError(message)
    raise DataError(message)


def _reason(error: Exception) -> str:
    return str(error).rstrip(".") or type(error).__name__
