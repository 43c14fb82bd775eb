"""A training's folder on this machine: its lock, its last states, and the checkpoints that wait to be uploaded."""

import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dcgan.checkpoint import Checkpoint
from dcgan.checkpoint_files import save_checkpoint
from dcgan.errors import ConfigurationError
from dcgan.files import TEMPORARY_PREFIX, atomic_folder

KEPT_STATES = 2
POLL_SECONDS = 0.1


class RunFolder:
    """The folder of one run.

    Args:
        path: the folder; it need not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def held(self, patience_seconds: float = 0.0) -> Iterator[None]:
        """Hold the run for this process; the operating system lets go of it when the process ends, however it ends.

        Args:
            patience_seconds: how long to wait for another process that holds it.

        Raises:
            ConfigurationError: another live process still holds it then.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        deadline = time.monotonic() + patience_seconds
        try:
            while not _locked(handle):
                if time.monotonic() >= deadline:
                    raise ConfigurationError(f"The run {self.path.name} is held by another live process.")
                time.sleep(POLL_SECONDS)
            self._sweep()
            yield
        finally:
            os.close(handle)

    def save(self, checkpoint: Checkpoint) -> None:
        """Write the state after an epoch, and let go of all but the last two."""
        save_checkpoint(self._states / _epoch_name(checkpoint.epoch), checkpoint)
        for old in self.states()[KEPT_STATES:]:
            shutil.rmtree(old)

    def states(self) -> list[Path]:
        """Return the folders of the last states, newest first."""
        return _epochs_in(self._states)

    def keep(self, epoch: int) -> None:
        """Keep the state of an epoch as a checkpoint until it is dropped; its files are shared, not copied."""
        with atomic_folder(self._checkpoints / _epoch_name(epoch)) as folder:
            for file in (self._states / _epoch_name(epoch)).iterdir():
                os.link(file, folder / file.name)

    def kept(self) -> list[Path]:
        """Return the folders of the checkpoints that are kept, oldest first."""
        return _epochs_in(self._checkpoints)[::-1]

    @property
    def report(self) -> Path:
        """The folder of the run's report."""
        return self.path / "report"

    @property
    def _states(self) -> Path:
        return self.path / "states"

    @property
    def _checkpoints(self) -> Path:
        return self.path / "checkpoints"

    def _sweep(self) -> None:
        """Remove what a killed process left half written."""
        for leftover in self.path.rglob(f"{TEMPORARY_PREFIX}*"):
            if leftover.is_dir():
                shutil.rmtree(leftover)
            else:
                leftover.unlink(missing_ok=True)


def _locked(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _epoch_name(epoch: int) -> str:
    return f"epoch-{epoch:06d}"


def _epochs_in(folder: Path) -> list[Path]:
    return sorted(folder.glob("epoch-*"), reverse=True)
