"""Files and folders that are complete or absent: written aside, synced, renamed, and identified by their SHA-256."""

import errno
import hashlib
import os
import shutil
import uuid
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tokenize import TokenError

from filelock import FileLock, Timeout

from dcgan.errors import ConfigurationError

TEMPORARY_PREFIX = ".partial-"
LOCK_NAME = ".lock"
# what NumPy and zipfile raise for files that NumPy did not write; a NotImplementedError is a RuntimeError
UNREADABLE_ARRAYS = (
    OSError,
    EOFError,
    MemoryError,
    RuntimeError,
    SyntaxError,
    TokenError,
    TypeError,
    ValueError,
    zipfile.BadZipFile,
    zlib.error,
)


def sha256_of_file(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file's bytes, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message without a final period, or the name of its type."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def expanded(path: Path) -> Path:
    """Return a path that somebody has typed, absolute, and with the home folder for which ~ or ~USER stands.

    Raises:
        ConfigurationError: There is no such user.
    """
    try:
        return path.expanduser().absolute()
    except RuntimeError:
        raise ConfigurationError(f"{path}: there is no user {path.parts[0][1:]}; expected another path.") from None


@contextmanager
def exclusive_lock(path: Path, timeout_seconds: float = -1, refusal: str = "") -> Iterator[None]:
    """Let one process at a time run the body; the operating system releases the lock of a process that dies.

    Args:
        path: The lock file, which is created where it does not exist and stays.
        timeout_seconds: How long to wait for another process; a negative number waits for ever.
        refusal: The message of the error.

    Raises:
        ConfigurationError: Another process still holds the lock after that time.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, timeout=timeout_seconds, mode=0o644)
    try:
        lock.acquire()
    except Timeout:
        raise ConfigurationError(refusal or f"{path}: is locked by another process.") from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` to write to; on success it is synced and renamed to `path`.

    On any exception the temporary file is removed and `path` stays as it was. Where it is a symbolic link, the file is
    replaced to which it leads.
    """
    path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary_beside(path)
    try:
        yield temporary
        _sync(temporary)
        temporary.replace(path)
        _sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def require_writable(path: Path) -> None:
    """Refuse a file that could not be written later, before hours are spent on its content.

    Raises:
        ConfigurationError: The path is a folder, a device or a pipe, or its parent cannot be created or written.
    """
    if path.exists() and not path.is_file():
        kind = "a folder" if path.is_dir() else "not a regular file"
        raise ConfigurationError(f"{path}: cannot be written: it is {kind}; expected the name of a file.")
    try:
        path.resolve().parent.mkdir(parents=True, exist_ok=True)
        temporary = _temporary_beside(path.resolve())
        temporary.touch()
        temporary.unlink()
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be written: {error.strerror}.") from None
    except RuntimeError:  # Python 3.13 raises an OSError
        raise ConfigurationError(f"{path}: cannot be written: it is a symbolic link that leads to itself.") from None


@contextmanager
def atomic_folder(path: Path, keep: Callable[[], bool] | None = None, *, overwrite: bool = True) -> Iterator[Path]:
    """Yield a temporary folder beside `path` to fill; on success its files are synced and it is renamed to `path`.

    On any exception the temporary folder is removed and `path` stays as it was.

    Args:
        path: The folder to make.
        keep: Called when a folder exists at `path` by then, which another process may have made meanwhile; True keeps
            that one, False replaces it. None always replaces it.
        overwrite: False refuses to replace a folder that has any content.

    Raises:
        FileExistsError: The folder exists and may not be replaced.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary_beside(path).with_suffix("")
    with _marked_in_use(temporary):
        temporary.mkdir()
        try:
            yield temporary
            for file in temporary.rglob("*"):
                _sync(file)
            _sync(temporary)
            if not overwrite:
                if not _renamed(temporary, path):
                    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
            elif keep is None:
                _replace(temporary, path)
            else:
                with exclusive_lock(path.parent / LOCK_NAME):
                    _replace(temporary, path, keep)
            _sync(path.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def remove_folder(path: Path) -> None:
    """Remove a folder as a whole: it is renamed first, so that nobody finds a part of it.

    Raises:
        FileNotFoundError: It does not exist; another process may have been faster.
    """
    aside = _temporary_beside(path)
    path.rename(aside)
    shutil.rmtree(aside, ignore_errors=True)


def mark_used(folder: Path) -> None:
    """Give a folder, if it exists, the present time, which distinguishes it from what nobody has used for long."""
    with suppress(OSError):
        os.utime(folder)


def leftovers(folder: Path) -> list[Path]:
    """Return the temporary files and folders in `folder`, of killed processes and of live ones.

    A lock file is listed by itself only where the folder that it marks as in use does not exist.
    """
    found = set(folder.glob(f"{TEMPORARY_PREFIX}*"))
    return sorted(found - {_mark_of(path) for path in found if path.is_dir()})


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary folders that killed processes left in `folder`; those of live processes stay."""
    for leftover in leftovers(folder):
        if leftover.is_dir() or leftover.suffix == LOCK_NAME:
            remove_leftover(leftover)


def remove_leftover(leftover: Path) -> bool:
    """Remove a temporary file or folder, except a folder whose process lives, and return whether it is gone.

    Nothing marks a file as in use: whoever removes one must know that its process is dead.
    """
    mark = _mark_of(leftover)
    with suppress(Timeout), FileLock(mark, timeout=0):
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)
        mark.unlink(missing_ok=True)
    return not leftover.exists()


@contextmanager
def _marked_in_use(temporary: Path) -> Iterator[None]:
    """Hold a lock file beside a temporary folder, by which `remove_leftovers` tells that its process lives."""
    mark = _mark_of(temporary)
    with exclusive_lock(mark):
        try:
            yield
        finally:
            mark.unlink(missing_ok=True)


def _mark_of(temporary: Path) -> Path:
    return temporary.with_suffix(LOCK_NAME)


def _replace(temporary: Path, path: Path, keep: Callable[[], bool] = lambda: False) -> None:
    while not _renamed(temporary, path):
        if keep():
            return
        # a rename cannot replace a folder that is not empty, so the old one is removed first
        with suppress(FileNotFoundError):  # another process was faster
            remove_folder(path)


def _renamed(temporary: Path, path: Path) -> bool:
    try:
        temporary.rename(path)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            return False
        raise
    return True


def _temporary_beside(path: Path) -> Path:
    """Return an unused name in the same folder; `tempfile` would make files that only their owner may read."""
    return path.with_name(f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}{path.suffix}")


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
