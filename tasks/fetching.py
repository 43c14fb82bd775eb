"""One file of a source to a path: over HTTP, from a bucket, or from a folder of this machine, within limits."""

import time
from collections.abc import Generator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import fsspec

from dcgan.errors import DataError
from tasks.sources import local_folder, mask_credentials
from tasks.web import AbsentError, Limits, NetworkError, web_blocks

BLOCK_BYTES = 1 << 20
DRIVERS = {"s3": "s3fs", "gs": "gcsfs"}


def fetch_file(source: str, name: str, folder: Path, limits: Limits) -> Path:
    """Write the file `name` of a source, or its gzipped form with .gz at the end, into `folder`.

    Returns:
        The path of the file, under the name that the source has for it.

    Raises:
        NetworkError: it may work later.
        DataError: it will not; the sentence names the file, credentials masked.
    """
    try:
        return _fetch(source, f"{name}.gz", folder, limits)
    except AbsentError:
        (folder / f"{name}.gz").unlink()
        try:
            return _fetch(source, name, folder, limits)
        except AbsentError as error:
            where = mask_credentials(source).rstrip("/")
            raise AbsentError(f"{where}: neither {name}.gz nor {name} is there: {error}.") from None


def _fetch(source: str, name: str, folder: Path, limits: Limits) -> Path:
    url = f"{source.rstrip('/')}/{name}"
    where = mask_credentials(url)
    deadline = time.monotonic() + limits.file_seconds
    size = 0
    with closing(_blocks(source, name, limits)) as blocks, (folder / name).open("wb") as file:
        for block in blocks:
            size += file.write(block)
            if size > limits.file_bytes:
                raise DataError(f"{where}: is longer than {limits.file_bytes} bytes.")
            if time.monotonic() > deadline:
                raise NetworkError(f"{where}: is not complete after {limits.file_seconds:g} seconds.")
    return folder / name


def _blocks(source: str, name: str, limits: Limits) -> Generator[bytes, None, None]:
    url = f"{source.rstrip('/')}/{name}"
    if source.startswith(("http://", "https://")):
        return web_blocks(url, limits)
    folder = local_folder(source)
    return _bucket_blocks(url) if folder is None else _folder_blocks(folder / name)


def _folder_blocks(path: Path) -> Generator[bytes, None, None]:
    try:
        with path.open("rb") as file:
            while block := file.read(BLOCK_BYTES):
                yield block
    except (FileNotFoundError, NotADirectoryError):
        raise AbsentError("no such file") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}.") from None


def _bucket_blocks(url: str) -> Generator[bytes, None, None]:
    scheme, where = urlsplit(url).scheme, mask_credentials(url)
    try:
        with fsspec.filesystem(scheme).open(url, "rb") as file:
            while block := file.read(BLOCK_BYTES):
                yield block
    except ImportError:
        package = DRIVERS[scheme]
        raise DataError(
            f"{where}: {scheme}:// needs the package {package}; install it with .venv/bin/pip install {package}."
        ) from None
    except FileNotFoundError:
        raise AbsentError("no such file") from None
    except Exception as error:  # every driver has failures of its own kinds
        first_line = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise DataError(f"{where}: cannot be read: {mask_credentials(first_line)}.") from error
