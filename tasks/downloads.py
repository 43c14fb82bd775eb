"""A data set's four IDX files in a folder under the state folder: found again, healed, or fetched from their source."""

import hashlib
import json
import logging
from pathlib import Path

from pydantic import ValidationError

from dcgan.errors import DataError
from dcgan.files import atomic_folder, remove_leftovers
from dcgan.idx_set import IdxSet, read_idx_folder
from dcgan.mnist import FILES
from tasks.fetching import fetch_file
from tasks.sources import EXPECTED, MIRRORS, check_source, local_folder, mask_credentials
from tasks.web import Limits

logger = logging.getLogger("dcgan.download")

RECORD_NAME = "download.json"
# a mirror that is slow or serves too much is worth less than the bundled copy
MIRROR_LIMITS = Limits(file_seconds=60, file_bytes=64 << 20)


def obtain(source: str, downloads: Path, mirrors: tuple[str, ...] = MIRRORS, limits: Limits | None = None) -> IdxSet:
    """Return a data set's files, checked, in a folder of their own under `downloads`.

    A folder of this machine is read each time, because it may have changed; what came over a network is kept.

    Args:
        source: auto (the mirrors of MNIST, then the bundled copy), bundled, a directory or a URL that holds the files.
        downloads: the folder of all downloads.
        mirrors: where `auto` looks first.
        limits: of each file; None = those of the kind of source.

    Raises:
        ConfigurationError: `source` cannot be a source.
        NetworkError: the source does not answer as it should, which may pass.
        DataError: the source does not hold what it should, or `downloads` cannot be written.
    """
    check_source(source)
    folder = downloads / _folder_name(source)
    try:
        may_change = source != "bundled" and local_folder(source) is not None
        if not may_change and (earlier := _earlier(folder)):
            logger.info("The earlier download in %s is whole and is used again.", folder)
            return earlier
        if source == "auto":
            return _obtain_mnist(folder, mirrors, limits or MIRROR_LIMITS)
        return _fetch_set(source, folder, limits or Limits(), mnist=source == "bundled")
    except OSError as error:
        raise DataError(f"{folder}: cannot be written: {error.strerror}.") from None


def _obtain_mnist(folder: Path, mirrors: tuple[str, ...], limits: Limits) -> IdxSet:
    failures = []
    for mirror in mirrors:
        try:
            return _fetch_set(mirror, folder, limits, mnist=True)
        except DataError as error:
            failures.append(str(error).rstrip("."))
    logger.warning(
        "No mirror served MNIST, so the bundled copy in %s is used (%s).", local_folder("bundled"), "; ".join(failures)
    )
    return _fetch_set("bundled", folder, limits, mnist=True)


def _fetch_set(source: str, folder: Path, limits: Limits, *, mnist: bool) -> IdxSet:
    label, local = _label(source), local_folder(source)
    if local and not _is_folder(local):
        raise DataError(f"The source {label} is not a directory on this machine; expected {EXPECTED}.")
    remove_leftovers(folder.parent)
    with atomic_folder(folder, keep=lambda: _holds(folder, fetched)) as temporary:
        for file in FILES:
            fetch_file(str(local or source), file.name, temporary, limits)
        fetched = _inspect(temporary, label, str(local or label), mnist=mnist)
        (temporary / RECORD_NAME).write_text(fetched.model_dump_json(exclude={"folder"}, indent=2))
    logger.info("The data set was fetched from %s.", label)
    return _read_record(folder)


def _inspect(temporary: Path, label: str, place: str, *, mnist: bool) -> IdxSet:
    """Return what was fetched, after reading it; errors name the place that it came from, not the temporary folder."""
    try:
        fetched = read_idx_folder(temporary, label)
        for file, expected in zip(fetched.files, FILES, strict=True):
            if mnist and file.sha256 != expected.sha256:
                raise DataError(f"{temporary / file.name}: has the SHA-256 {file.sha256}; expected {expected.sha256}.")
    except DataError as error:
        raise DataError(str(error).replace(str(temporary), place)) from None
    return fetched


def _earlier(folder: Path) -> IdxSet | None:
    """Return the download that is there and whole, or None, with a warning where it is damaged."""
    if not folder.exists():
        return None
    try:
        return _checked(folder)
    except DataError as error:
        logger.warning("The earlier download is damaged and is fetched again: %s", error)
        return None


def _holds(folder: Path, fetched: IdxSet) -> bool:
    try:
        return _checked(folder).digest == fetched.digest
    except DataError:
        return False


def _checked(folder: Path) -> IdxSet:
    recorded = _read_record(folder)
    found = read_idx_folder(folder, recorded.source)
    for file, expected in zip(found.files, recorded.files, strict=True):
        if file != expected:
            raise DataError(f"{folder / file.name}: has the SHA-256 {file.sha256}; expected {expected.sha256}.")
    return recorded


def _read_record(folder: Path) -> IdxSet:
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
    """Return a source as it may be shown and kept; two ways to write the same one give the same label."""
    if source == "bundled" or (local := local_folder(source)) is None:
        return mask_credentials(source).rstrip("/")
    return str(local)


def _folder_name(source: str) -> str:
    if source in ("auto", "bundled"):
        return source
    return hashlib.sha256(_label(source).encode()).hexdigest()[:16]
