"""A training's folder on this machine: its lock, and the last checkpoints, by which it can be killed and go on."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dcgan.checkpoint import Checkpoint, save_checkpoint
from dcgan.errors import ConfigurationError
from dcgan.files import TEMPORARY_PREFIX

KEPT = 2


class RunFolder:
    """The folder of one run.

    Args:
        path: the folder; it need not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the run for this process; the operating system lets go of it when the process ends, however it ends.

        Raises:
            ConfigurationError: another live process holds it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ConfigurationError(f"The run {self.path.name} is held by another live process.") from None
            self._sweep()
            yield
        finally:
            os.close(handle)

    def save(self, checkpoint: Checkpoint) -> Path:
        """Write a checkpoint, let go of all but the last two, and return its folder."""
        path = self.checkpoint_path(checkpoint.epoch)
        save_checkpoint(path, checkpoint)
        for old in self.checkpoints()[KEPT:]:
            shutil.rmtree(old)
        return path

    def checkpoints(self) -> list[Path]:
        """Return the checkpoints' folders, newest first."""
        return sorted(self.path.glob("epoch-*"), reverse=True)

    def checkpoint_path(self, epoch: int) -> Path:
        """Return the folder of an epoch's checkpoint."""
        return self.path / f"epoch-{epoch:06d}"

    def _sweep(self) -> None:
        """Remove what a killed process left half written."""
        for leftover in self.path.glob(f"{TEMPORARY_PREFIX}*"):
            shutil.rmtree(leftover)
