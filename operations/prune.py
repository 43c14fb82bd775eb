"""`dcgan prune`: show, or remove, what nothing refers to in the state folder and among MLflow's checkpoints."""

import os
import platform
import stat
import sys
import time
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from rich.filesize import decimal

from dcgan.errors import ConfigurationError, DataError, DcganError, LeaseLostError, mask_credentials
from dcgan.files import TEMPORARY_PREFIX, exclusive_lock, leftovers, remove_folder, remove_leftover
from dcgan.training.run_folder import RunFolder
from operations.command import print_line, run_operation
from tasks.context import Context, open_context
from tasks.download import read_record
from tasks.settings import Settings
from tracking.lease import Holder, Lease
from tracking.retention import (
    RecordedRun,
    UploadedCheckpoint,
    recorded_run,
    recorded_runs,
    referenced_datasets,
    remove_checkpoints,
    surplus_checkpoints,
    uploaded_checkpoints,
)
from tracking.tags import CHECKPOINTS

Outcome = Literal["removed", "in use", "failed"]
DAY_SECONDS = 86_400.0  # for so long, data and temporary files may be in use although nothing refers to them


@dataclass(frozen=True)
class Surplus:
    """Something that nothing refers to.

    Attributes:
        what: What it is.
        where: Its path, or the MLflow run that it is in.
        size: Its size, in bytes.
        remove: Removes it; raises ConfigurationError or LeaseLostError if it is in use by then.
    """

    what: str
    where: str
    size: int
    remove: Callable[[], None]


def find_surplus(context: Context, older_than_days: int = 0) -> tuple[list[Surplus], list[Path]]:
    """Return what can be removed, and the folders of runs that the MLflow store does not know; nothing is changed.

    Args:
        context: Settings and store.
        older_than_days: How many days ago a run must have ended.
    """
    # the folders first: a run exists in MLflow before it has a folder
    folders = {path.name: path for path in _folders_in(context.settings.runs)}
    runs = {run.run_id: run for run in recorded_runs(context.store)}
    ended_before = time.time() - older_than_days * DAY_SECONDS
    found = [
        surplus
        for run in runs.values()
        if run.over and not run.in_use and run.ended_at < ended_before
        for surplus in _surplus_of_run(context, run, folders.get(run.run_id))
    ]
    unknown = [path for name, path in folders.items() if name not in runs]
    if not unknown:  # else a run of another store may need the data
        found += _unused_data(context.settings, referenced_datasets(context.store, runs.values()))
    return [*found, *_leftovers(context.settings)], unknown


def prune(context: Context, *, delete: bool, older_than_days: int = 0) -> bool:
    """Print what can be removed, and remove it if `delete` says so; return False if that failed.

    What is in use by then stays, which is no failure.

    Raises:
        ConfigurationError: Another process removes in this state folder.
        TrackingError: The store does not answer.
    """
    with _only_one(context.settings) if delete else nullcontext():
        found, unknown = find_surplus(context, older_than_days)
        outcomes = [_show_and_remove(surplus, delete=delete) for surplus in found]
    for path in unknown:
        print_line(f"{path} stays, and so does all data: the MLflow store does not know its run.")
    removed = sum(surplus.size for surplus, outcome in zip(found, outcomes, strict=True) if outcome == "removed")
    if not found:
        print_line("There is nothing to remove.")
    else:
        done = "removed" if delete else "can be removed: dcgan prune --delete does it"
        print_line(f"{decimal(removed)} {done}.")
    return "failed" not in outcomes


def _show_and_remove(surplus: Surplus, *, delete: bool) -> Outcome:
    """Print a line, and return what becomes of it, or would."""
    print_line(f"{decimal(surplus.size):>9}  {surplus.what:<21}  {surplus.where}")
    try:
        if delete:
            surplus.remove()
    except (DcganError, OSError) as error:
        sys.stderr.write(f"{surplus.where} stays: {mask_credentials(str(error))}\n")
        return "in use" if isinstance(error, ConfigurationError | LeaseLostError) else "failed"
    return "removed"


def _surplus_of_run(context: Context, run: RecordedRun, folder: Path | None) -> Iterator[Surplus]:
    """Yield the checkpoints in MLflow and the folder here that a run that is over does not need."""
    run_id = run.run_id
    uploaded = [] if run.deleted else uploaded_checkpoints(context.store, run_id)
    newest = context.settings.keep_checkpoints
    if newest and (surplus := surplus_checkpoints(uploaded, newest, run.best_epoch)):
        size = sum(checkpoint.size for checkpoint in surplus)
        remove = partial(_remove_checkpoints, context, run_id, surplus)
        what = f"{len(surplus)} checkpoint{'s' if len(surplus) > 1 else ''}"
        yield Surplus(what, f"{CHECKPOINTS}/ of the MLflow run {run_id}", size, remove)
    if folder and (run.deleted or _is_recorded(RunFolder(folder), uploaded)):
        what = "deleted run's folder" if run.deleted else "finished run's folder"
        yield Surplus(what, str(folder), _size(folder), partial(_remove_run_folder, context, folder))


def _unused_data(settings: Settings, referenced: set[str]) -> Iterator[Surplus]:
    """Yield the datasets that nothing refers to, with what was downloaded and computed for them.

    The one that was used last stays, and so does whatever was used within a day: a training run uses its data before it
    has a run in MLflow.
    """
    prepared = {path.name: path for path in _folders_in(settings.prepared)}
    kept = referenced | {name for name, path in prepared.items() if _is_recent(path)}
    kept.update(sorted(prepared, key=lambda name: prepared[name].stat().st_mtime)[-1:])
    candidates = [("dataset", path.name, path) for path in prepared.values()]
    candidates += [("classifiers", path.name, path) for path in _folders_in(settings.classifiers)]
    candidates += [("download", digest, path) for path in _folders_in(settings.downloads) if (digest := _digest(path))]
    for what, digest, path in candidates:
        if digest not in kept and not _is_recent(path):
            yield Surplus(what, str(path), _size(path), partial(_remove_data, path))


def _leftovers(settings: Settings) -> Iterator[Surplus]:
    """Yield the temporary files and folders of killed processes; those in a run's folder are its owner's."""
    classifiers = _folders_in(settings.classifiers)
    folders = (settings.root, settings.downloads, settings.prepared, *classifiers, settings.runs, settings.sweeps)
    for folder in (*folders, settings.generated, settings.comparisons):
        for path in leftovers(folder):
            if not _is_recent(path):
                yield Surplus("temporary files", str(path), _size(path), partial(_remove_leftover, path))


def _remove_checkpoints(context: Context, run_id: str, surplus: list[UploadedCheckpoint]) -> None:
    with _locked_run(context, run_id):
        lease = Lease(context.store, run_id, Holder(host=platform.node(), folder=str(context.settings.root)))
        lease.take()
        with lease.renewed():
            remove_checkpoints(context.store, lease, surplus)


def _remove_run_folder(context: Context, folder: Path) -> None:
    with _locked_run(context, folder.name):
        remove_folder(folder)


def _remove_data(folder: Path) -> None:
    if _is_recent(folder):
        raise ConfigurationError("It is in use.")
    remove_folder(folder)


def _remove_leftover(path: Path) -> None:
    if not remove_leftover(path):
        raise ConfigurationError("It is in use.")


@contextmanager
def _locked_run(context: Context, run_id: str) -> Iterator[None]:
    """Keep other processes of this machine from a run that is over, while the body removes something of it.

    Raises:
        ConfigurationError: Another process uses it.
    """
    folder = RunFolder(context.settings.runs / run_id)
    with folder.lock() if folder.path.exists() else nullcontext():
        run = recorded_run(context.store, run_id)
        if run.in_use or not run.over:
            raise ConfigurationError(f"The run {run_id} is in use by another live process.")
        yield


@contextmanager
def _only_one(settings: Settings) -> Iterator[None]:
    refusal = f"Another process prunes the state folder {settings.root}; expected to be the only one."
    with exclusive_lock(settings.root / "prune.lock", timeout_seconds=0, refusal=refusal):
        yield


def _is_recorded(folder: RunFolder, uploaded: list[UploadedCheckpoint]) -> bool:
    """Return whether MLflow has whatever the folder of a finished run has."""
    states = folder.states()
    complete = [checkpoint.name for checkpoint in uploaded if checkpoint.complete]
    return not folder.retained() and bool(complete) and (not states or states[0].name <= complete[-1])


def _digest(download: Path) -> str | None:
    """Return the digest of a downloaded dataset; None where it has no readable record, so that it is left alone."""
    try:
        return read_record(download).digest
    except DataError:
        return None


def _folders_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*") if path.is_dir() and not path.name.startswith(TEMPORARY_PREFIX))


def _is_recent(path: Path) -> bool:
    """Return whether a file, or a folder and whatever is in it, was changed within a day."""
    return max((found.st_mtime for found in _stats(path)), default=0) > time.time() - DAY_SECONDS


def _size(path: Path) -> int:
    """Return the size of a file, or of the files in a folder, in bytes."""
    return sum(found.st_size for found in _stats(path) if not stat.S_ISDIR(found.st_mode))


def _stats(path: Path) -> Iterator[os.stat_result]:
    inside = (Path(folder, name) for folder, folders, files in os.walk(path) for name in (*folders, *files))
    for each in (path, *inside):
        # its process may just be removing it; os.walk passes over such folders by itself
        with suppress(FileNotFoundError):
            yield each.lstat()


def _days(text: str) -> int:
    if not text.isdecimal():
        raise ArgumentTypeError(f"{text!r} is not a number of days; expected one from 0")
    return int(text)


def main(arguments: list[str]) -> int:
    """Prune; return the exit code."""
    parser = ArgumentParser(prog="dcgan prune", description=__doc__)
    parser.add_argument("--delete", action="store_true", help="Remove it; without, it is only shown")
    parser.add_argument("--older-than", type=_days, default=0, metavar="DAYS", help="Leave runs that ended later alone")
    options = parser.parse_args(arguments)

    def body() -> bool:
        return prune(open_context(Settings.read()), delete=options.delete, older_than_days=options.older_than)

    return run_operation(body, "The same command removes the rest.")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
