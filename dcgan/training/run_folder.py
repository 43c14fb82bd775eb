"""The folder of a training run on this machine: its lock, its last states, and the checkpoints that await upload."""

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from dcgan.files import TEMPORARY_PREFIX, atomic_folder, exclusive_lock, remove_folder
from dcgan.training.checkpoint import Checkpoint, save_checkpoint

RETAINED_STATES = 2


class RunFolder:
    """The folder of one training run.

    Args:
        path: The folder; it need not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def lock(self, timeout_seconds: float = 0.0) -> Iterator[None]:
        """Lock the run for this process; the operating system releases the lock when the process ends, however it ends.

        Args:
            timeout_seconds: How long to wait for another process that has the lock.

        Raises:
            ConfigurationError: Another live process still has the lock after that time.
        """
        refusal = f"The run {self.path.name} is in use by another live process."
        with exclusive_lock(self.path / "lock", timeout_seconds, refusal):
            self._remove_leftovers()
            yield

    def save(self, checkpoint: Checkpoint) -> None:
        """Write the state after an epoch, and remove all but this one and the one before it.

        Later ones are there where they could not be used, so that an earlier one was resumed from.
        """
        name = epoch_name(checkpoint.epoch)
        save_checkpoint(self._states / name, checkpoint)
        later = [state for state in self.states() if state.name > name]
        for state in [*later, *self.states()[len(later) + RETAINED_STATES :]]:
            remove_folder(state)

    def remove_surplus(self, newest: int, best: int | None) -> None:
        """Remove the states that a finished run does not keep, as `surplus_epochs` says."""
        states = {state.name: state for state in self.states()}
        for name in surplus_epochs(states, newest, best):
            remove_folder(states[name])

    def states(self) -> list[Path]:
        """Return the folders of the last states, newest first."""
        return _epochs_in(self._states)

    def retain(self, epoch: int) -> None:
        """Retain the state of an epoch as a checkpoint to upload; its files are linked where they can be."""
        with atomic_folder(self._checkpoints / epoch_name(epoch)) as folder:
            for file in (self._states / epoch_name(epoch)).iterdir():
                _link_or_copy(file, folder / file.name)

    def retained(self) -> list[Path]:
        """Return the folders of the checkpoints that await upload, oldest first."""
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

    def _remove_leftovers(self) -> None:
        """Remove what a killed process left half written."""
        for leftover in self.path.rglob(f"{TEMPORARY_PREFIX}*"):
            if leftover.is_dir():
                shutil.rmtree(leftover)
            else:
                leftover.unlink(missing_ok=True)


def surplus_epochs(names: Iterable[str], newest: int, best: int | None) -> list[str]:
    """Return the names of the checkpoints that a finished run does not keep, oldest first.

    Args:
        names: Names of its checkpoints.
        newest: How many of the newest it keeps, at least 1.
        best: Its best epoch, whose checkpoint it keeps too; None where no epoch was evaluated.
    """
    return [name for name in sorted(names)[:-newest] if best is None or name != epoch_name(best)]


def epoch_name(epoch: int) -> str:
    """Return the name of the folder of the state after an epoch; names are in the order of the epochs."""
    return f"epoch-{epoch:06d}"


def _link_or_copy(file: Path, to: Path) -> None:
    try:
        os.link(file, to)
    except OSError:  # not every file system has hard links
        shutil.copyfile(file, to)


def _epochs_in(folder: Path) -> list[Path]:
    return sorted(folder.glob("epoch-*"), reverse=True)
