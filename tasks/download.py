"""The task that brings the four IDX files of a dataset into the state folder, whatever their source."""

import hashlib
import json
import logging
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.tasks import exponential_backoff
from pydantic import ValidationError

from dcgan.data.idx import FILES, IdxSet, read_idx_folder
from dcgan.errors import DataError
from dcgan.files import atomic_folder, mark_used, remove_leftovers
from tasks.retries import is_transient
from tasks.settings import Settings
from tasks.sources import EXPECTED, MIRRORS, Limits, check_source, fetch_file, local_folder

logger = logging.getLogger("dcgan.download")

RECORD_NAME = "download.json"
# a mirror that is slow or serves too much is worth less than the bundled copy
MIRROR_LIMITS = Limits(file_seconds=60, file_bytes=64 << 20)


@task(
    name="download",
    cache_policy=NO_CACHE,
    retries=3,
    retry_delay_seconds=exponential_backoff(2),
    retry_jitter_factor=0.5,
    retry_condition_fn=is_transient,
)
def download(source: str, settings: Settings) -> IdxSet:
    """Return a dataset's files, verified, from an earlier download where there is one.

    Args:
        source: auto (the mirrors of MNIST, then the bundled copy), bundled, or a folder or URL of the files.
        settings: Gives the folder of downloads and the passwords of web servers.

    Raises:
        ConfigurationError: `source` cannot be a source.
        NetworkError: The source does not answer as expected; Prefect retries.
        DataError: The source does not have the expected files.
    """
    return obtain(source, settings.downloads, netrc=settings.netrc)


def obtain(
    source: str,
    downloads: Path,
    mirrors: tuple[str, ...] = MIRRORS,
    limits: Limits | None = None,
    netrc: Path = Path("~/.netrc"),
) -> IdxSet:
    """Return a dataset's files, verified, in a folder of their own under `downloads`.

    A folder of this machine is read each time, because it may have changed; what came over a network is kept.

    Args:
        source: auto (the mirrors of MNIST, then the bundled copy), bundled, or a folder or URL of the files.
        downloads: Folder of all downloads.
        mirrors: Where `auto` looks first.
        limits: Limits of each file; None takes those of the kind of source.
        netrc: Passwords of web servers; the file need not exist.

    Raises:
        ConfigurationError: `source` cannot be a source.
        NetworkError: The source does not answer as expected, which may pass.
        DataError: The source does not have the expected files, or `downloads` cannot be written.
    """
    source = check_source(source)
    folder = downloads / _folder_name(source)
    mark_used(folder)
    try:
        may_change = source != "bundled" and local_folder(source) is not None
        if not may_change and (earlier := _earlier(folder)):
            logger.info("The earlier download in %s is complete and is used again.", folder)
            return earlier
        if source == "auto":
            return _obtain_mnist(folder, mirrors, limits or MIRROR_LIMITS, netrc)
        return _fetch_set(source, folder, limits or Limits(), netrc, mnist=source == "bundled")
    except OSError as error:
        raise DataError(f"{folder}: cannot be written: {error.strerror}.") from None


def _obtain_mnist(folder: Path, mirrors: tuple[str, ...], limits: Limits, netrc: Path) -> IdxSet:
    failures = []
    for mirror in mirrors:
        try:
            return _fetch_set(mirror, folder, limits, netrc, mnist=True)
        except DataError as error:
            failures.append(str(error).rstrip("."))
    logger.warning(
        "No mirror served MNIST, so the bundled copy in %s is used (%s).", local_folder("bundled"), "; ".join(failures)
    )
    return _fetch_set("bundled", folder, limits, netrc, mnist=True)


def _fetch_set(source: str, folder: Path, limits: Limits, netrc: Path, *, mnist: bool) -> IdxSet:
    label, local = _label(source), local_folder(source)
    if local and not _is_folder(local):
        raise DataError(f"The source {label} is not a directory on this machine; expected {EXPECTED}.")
    remove_leftovers(folder.parent)
    with atomic_folder(folder, keep=lambda: _contains(folder, fetched)) as temporary:
        for file in FILES:
            fetch_file(str(local or source), file.name, temporary, limits, netrc)
        fetched = _inspect(temporary, label, str(local or label), mnist=mnist)
        record = fetched.model_dump_json(exclude={"folder"}, indent=2)
        (temporary / RECORD_NAME).write_text(record, encoding="utf-8")
    logger.info("The dataset was fetched from %s.", label)
    return read_record(folder)


def _inspect(temporary: Path, label: str, place: str, *, mnist: bool) -> IdxSet:
    """Return the fetched files after reading them; errors name where they came from, not the temporary folder."""
    try:
        fetched = read_idx_folder(temporary, label)
        for file, expected in zip(fetched.files, FILES, strict=True):
            if mnist and file.sha256 != expected.sha256:
                raise DataError(f"{temporary / file.name}: has the SHA-256 {file.sha256}; expected {expected.sha256}.")
    except DataError as error:
        raise DataError(str(error).replace(str(temporary), place)) from None
    return fetched


def _earlier(folder: Path) -> IdxSet | None:
    """Return an earlier, complete download, or None, with a warning where it is damaged."""
    if not folder.exists():
        return None
    try:
        return _verified(folder)
    except DataError as error:
        logger.warning("The earlier download is damaged and is fetched again: %s", error)
        return None


def _contains(folder: Path, fetched: IdxSet) -> bool:
    try:
        return _verified(folder).digest == fetched.digest
    except DataError:
        return False


def _verified(folder: Path) -> IdxSet:
    recorded = read_record(folder)
    found = read_idx_folder(folder, recorded.source)
    for file, expected in zip(found.files, recorded.files, strict=True):
        if file != expected:
            raise DataError(f"{folder / file.name}: has the SHA-256 {file.sha256}; expected {expected.sha256}.")
    return recorded


def read_record(folder: Path) -> IdxSet:
    """Return what was downloaded into a folder, without looking at its files.

    Raises:
        DataError: The record is missing or damaged.
    """
    path = folder / RECORD_NAME
    try:
        return IdxSet.model_validate({**json.loads(path.read_bytes()), "folder": folder})
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}.") from None
    except (ValidationError, ValueError, TypeError):
        raise DataError(f"{path}: is not the record of a download.") from None


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # such as a name that is too long
        return False


def _label(source: str) -> str:
    """Return a checked source as it is shown and stored; two spellings of the same source give the same label."""
    if source == "bundled" or (local := local_folder(source)) is None:
        return source.rstrip("/")
    return str(local)


def _folder_name(source: str) -> str:
    if source in ("auto", "bundled"):
        return source
    return hashlib.sha256(_label(source).encode()).hexdigest()[:16]
