"""Files that are whole or absent: written aside, synced, renamed, and known by their SHA-256."""

import errno
import fcntl
import hashlib
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dcgan.errors import ConfigurationError

TEMPORARY_PREFIX = ".partial-"


def sha256_of_file(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file's bytes, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` to write to; on success it is synced and renamed to `path`.

    On any exception the temporary file is removed and `path` stays as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary_beside(path)
    try:
        yield temporary
        _sync(temporary)
        temporary.replace(path)
        _sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def require_place(path: Path) -> None:
    """Refuse a file that could not be written later, before hours are spent on what it should hold.

    Raises:
        ConfigurationError: it is a folder, or what should be a folder above it is not one.
    """
    if path.is_dir():
        raise ConfigurationError(f"{path}: cannot be written: it is a folder; expected the name of a file.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = _temporary_beside(path)
        temporary.touch()
        temporary.unlink()
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be written: {error.strerror}.") from None


@contextmanager
def atomic_folder(path: Path, keep: Callable[[], bool] = lambda: False) -> Iterator[Path]:
    """Yield a temporary folder beside `path` to fill; on success its files are synced and it is renamed to `path`.

    On any exception the temporary folder is removed and `path` stays as it was.

    Args:
        path: the folder to make.
        keep: asked when there is a folder at `path` by then, which another process may have made meanwhile; True
            keeps that one, False replaces it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary, handle = _held_folder_beside(path)
    try:
        yield temporary
        for file in temporary.rglob("*"):
            _sync(file)
        _sync(temporary)
        with alone_in(path.parent):
            _place(temporary, path, keep)
        _sync(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        os.close(handle)


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Let one process at a time into the body for a folder, which must exist, where the file system has locks."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary folders that killed processes left in `folder`; what a living one fills stays."""
    for leftover in folder.glob(f"{TEMPORARY_PREFIX}*"):
        with suppress(OSError):  # it is locked, or another process has just removed it
            handle = os.open(leftover, os.O_RDONLY | os.O_DIRECTORY)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(leftover, ignore_errors=True)
            finally:
                os.close(handle)


def _held_folder_beside(path: Path) -> tuple[Path, int]:
    """Return a new temporary folder and the handle that holds its lock, which ends with the process at the latest."""
    while True:
        temporary = _temporary_beside(path)
        temporary.mkdir()
        with suppress(FileNotFoundError):  # `remove_leftovers` of another process came before the lock
            handle = os.open(temporary, os.O_RDONLY)
            with suppress(OSError):  # some network file systems have no such lock; nothing is swept there
                fcntl.flock(handle, fcntl.LOCK_SH)
            if temporary.exists():
                return temporary, handle
            os.close(handle)


def _place(temporary: Path, path: Path, keep: Callable[[], bool]) -> None:
    while not _renamed(temporary, path):
        if keep():
            return
        # a rename cannot replace a folder that is not empty, so the old one steps aside first
        aside = _temporary_beside(path)
        with suppress(FileNotFoundError):  # another process was faster
            path.rename(aside)
            shutil.rmtree(aside, ignore_errors=True)


def _renamed(temporary: Path, path: Path) -> bool:
    try:
        temporary.rename(path)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            return False
        raise
    return True


def _temporary_beside(path: Path) -> Path:
    """Return a name of its own in the same folder; not from `tempfile`, whose files only their owner may read."""
    return path.with_name(f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}{path.suffix}")


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
