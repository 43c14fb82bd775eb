"""Where a dataset comes from: a folder of this machine, a web server or a bucket, within limits of time and size."""

import asyncio
import netrc
import os
import time
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import unquote, urlsplit

import fsspec
import httpx

from dcgan.data.idx import MAX_BYTES
from dcgan.errors import ConfigurationError, DataError, NetworkError, mask_credentials
from dcgan.files import first_line
from tasks.settings import CHECKOUT

BUNDLED = CHECKOUT / "data" / "mnist"
MIRRORS = ("https://ossci-datasets.s3.amazonaws.com/mnist", "https://storage.googleapis.com/cvdf-datasets/mnist")
SCHEMES = ("http", "https", "file", "s3", "gs")
DRIVERS = {"s3": "s3fs", "gs": "gcsfs"}
EXPECTED = "auto, bundled, a directory, or a URL that begins with " + ", ".join(f"{scheme}://" for scheme in SCHEMES)

BLOCK_BYTES = 1 << 20
ABSENT = (403, 404, 410)  # S3 answers 403 for what does not exist
TRANSIENT = (408, 425, 429)  # and every 5xx
IDENTITY = {"Accept-Encoding": "identity"}  # the bytes as they are stored, not compressed once more


class AbsentError(DataError):
    """The source answers, and has no such file; the message says only how it answers."""


@dataclass(frozen=True)
class Limits:
    """How long one file may take and how large it may be."""

    connect_seconds: float = 3.0
    answer_seconds: float = 5.0  # look-up of the name, connections, redirects and headers together
    read_seconds: float = 10.0
    file_seconds: float = 600.0
    file_bytes: int = MAX_BYTES
    redirects: int = 5


def check_source(source: str) -> str:
    """Return a source as the other functions take it: what is checked is what is used; it need not exist.

    Raises:
        ConfigurationError: `source` is not a known word, path or URL of a known kind, or it has credentials in it.
    """
    if not source.strip() or "\0" in source:
        raise ConfigurationError(f"The source {source!r} is empty or not text; expected {EXPECTED}.")
    if "://" not in source:
        return source
    try:
        url = urlsplit(source)
        usable = url.scheme in SCHEMES and (url.scheme == "file" or url.hostname) and (url.port is None or url.port)
    except ValueError:
        usable = False
    if not usable:
        raise ConfigurationError(f"The source {mask_credentials(source)} cannot be used; expected {EXPECTED}.")
    if "@" in url.netloc:
        raise ConfigurationError(
            f"The source {mask_credentials(source)} contains credentials, which Prefect would store; expected them in "
            "~/.netrc, or, for s3:// and gs://, where s3fs and gcsfs look for them."
        )
    if url.query or url.fragment:
        raise ConfigurationError(
            f"The source {mask_credentials(source)} has a query or fragment; expected the prefix of four files."
        )
    if url.scheme == "file" and url.hostname not in (None, "localhost"):
        raise ConfigurationError(f"The source {source} is on another machine; expected file:// and a path of this one.")
    return f"{url.scheme}://{'' if url.scheme == 'file' else url.netloc}{url.path}"


def local_folder(source: str) -> Path | None:
    """Return the folder on this machine that a source names, or None where it is elsewhere."""
    if source == "bundled":
        return BUNDLED
    if source.startswith("file://"):
        return Path(unquote(urlsplit(source).path))
    return None if source == "auto" or "://" in source else _expanded(Path(source)).absolute()


def fetch_file(source: str, name: str, folder: Path, limits: Limits, netrc_file: Path) -> Path:
    """Write the file `name` of a source, or its gzipped form with .gz at the end, into `folder`.

    Where the source has neither, the name that some copies of MNIST have is tried, with a dot before `idx`.

    Args:
        source: A folder or URL, as `check_source` returns it.
        name: Name of the file without .gz.
        folder: Where it is written, under this name, with .gz where it is gzipped.
        limits: Limits of the file.
        netrc_file: Passwords of web servers; it need not exist.

    Returns:
        The path of the file.

    Raises:
        NetworkError: A retry may succeed.
        DataError: A retry will not; the sentence names the file, credentials masked.
    """
    reason = ""
    for there in (name, name.replace("-idx", ".idx")):
        for suffix in (".gz", ""):
            path = folder / f"{name}{suffix}"
            try:
                _fetch(source, f"{there}{suffix}", path, limits, netrc_file)
            except AbsentError as error:
                path.unlink()
                reason = reason or str(error)
            else:
                return path
    where = mask_credentials(source).rstrip("/")
    raise AbsentError(f"{where}: neither {name}.gz nor {name} exists: {reason}.")


def _fetch(source: str, name: str, path: Path, limits: Limits, netrc_file: Path) -> None:
    url, local = f"{source.rstrip('/')}/{name}", local_folder(source)
    with path.open("wb") as file:
        target = _LimitedFile(file, mask_credentials(url), limits)
        if source.startswith(("http://", "https://")):
            _run(_download(url, target, limits, _passwords(_expanded(netrc_file))))
        else:
            if local is not None:
                _require_regular_file(local / name)
            for block in _blocks(url if local is None else str(local / name)):
                target.write(block)


class _LimitedFile:
    """A file that is written within limits of time and size."""

    def __init__(self, file: BinaryIO, where: str, limits: Limits) -> None:
        self._file = file
        self._where = where
        self._limits = limits
        self._deadline = time.monotonic() + limits.file_seconds
        self._size = 0

    def write(self, block: bytes) -> None:
        self._size += self._file.write(block)
        if self._size > self._limits.file_bytes:
            raise DataError(f"{self._where}: is longer than {self._limits.file_bytes} bytes.")
        if time.monotonic() > self._deadline:
            raise NetworkError(f"{self._where}: is not complete after {self._limits.file_seconds:g} seconds.")


async def _download(url: str, target: _LimitedFile, limits: Limits, auth: httpx.Auth | None) -> None:
    where = mask_credentials(url)
    client = httpx.AsyncClient(
        auth=auth,
        headers=IDENTITY,
        timeout=httpx.Timeout(limits.read_seconds, connect=limits.connect_seconds),
        follow_redirects=True,
        max_redirects=limits.redirects,
    )
    try:
        async with client:
            async with asyncio.timeout(limits.answer_seconds):
                response = await client.send(client.build_request("GET", url), stream=True)
            try:
                _check_status(where, response.status_code)
                async for block in response.aiter_raw():  # as it arrives: full blocks would hide a slow server
                    target.write(block)
            finally:
                await response.aclose()
    except TimeoutError:
        raise NetworkError(f"{where}: no answer within {limits.answer_seconds:g} seconds.") from None
    except httpx.TooManyRedirects:
        raise DataError(f"{where}: redirects more than {limits.redirects} times.") from None
    except (httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
        raise DataError(f"{where}: leads to an unusable address: {first_line(error)}.") from None
    except httpx.HTTPError as error:
        raise NetworkError(f"{where}: the connection failed: {_reason(error)}.") from None


def _reason(error: httpx.HTTPError) -> str:
    """Return why a request failed, from under the layers that do not pass the operating system's message on."""
    if isinstance(error, httpx.TimeoutException):
        return "timed out"
    cause: BaseException | None = error
    while cause:
        if isinstance(cause, OSError) and cause.errno:
            return f"[Errno {cause.errno}] {os.strerror(cause.errno) if cause.errno > 0 else cause.strerror}"
        cause = cause.__cause__ or cause.__context__
    return first_line(error)


def _run(download: Coroutine[Any, Any, None]) -> None:
    # not asyncio.run, which waits for the look-up of a host's name even after its deadline
    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(download)
    finally:
        loop.close()


def _passwords(file: Path) -> httpx.Auth | None:
    """Return the users and passwords of a netrc file, for each host its own; None where there is no such file."""
    try:
        return httpx.NetRCAuth(str(file))
    except FileNotFoundError:
        return None
    except (netrc.NetrcParseError, OSError) as error:
        raise DataError(f"The passwords in {file} cannot be read: {first_line(error)}.") from None


def _check_status(where: str, status: int) -> None:
    if status == httpx.codes.OK:
        return
    if status in ABSENT:
        raise AbsentError(f"the server answers HTTP {status}")
    message = f"{where}: the server answers HTTP {status}; expected 200."
    if status in TRANSIENT or status >= httpx.codes.INTERNAL_SERVER_ERROR:
        raise NetworkError(message)
    raise DataError(message)


def _blocks(address: str) -> Iterator[bytes]:
    """Yield the bytes of a local path or of a file in a bucket."""
    where, scheme = mask_credentials(address), urlsplit(address).scheme if "://" in address else "file"
    try:
        with fsspec.filesystem(scheme).open(address, "rb") as file:
            while block := file.read(BLOCK_BYTES):
                yield block
    except ImportError:
        package = DRIVERS[scheme]
        raise DataError(
            f"{where}: {scheme}:// needs the package {package}; install it with .venv/bin/pip install {package}."
        ) from None
    except (FileNotFoundError, NotADirectoryError):
        raise AbsentError("no such file") from None
    except Exception as error:  # every driver has failures of its own kinds
        reason = (isinstance(error, OSError) and error.strerror) or first_line(error)
        raise DataError(f"{where}: cannot be read: {mask_credentials(reason)}.") from error


def _require_regular_file(path: Path) -> None:
    """Raise for what exists and is no file: to open a pipe would wait for ever, and a device has no end."""
    if path.exists() and not path.is_file():
        what = "a folder" if path.is_dir() else "a pipe, a socket or a device"
        raise DataError(f"{path}: is {what}; expected a file.")


def _expanded(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError:  # there is no such user
        return path
