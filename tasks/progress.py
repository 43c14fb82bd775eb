"""How far a training is, for whoever watches: a bar on a terminal, an artifact in Prefect, a log line otherwise."""

import logging
import sys
from contextvars import copy_context
from functools import partial
from threading import Event, Thread
from types import TracebackType
from typing import TYPE_CHECKING, Self, cast
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.context import FlowRunContext
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

if TYPE_CHECKING:
    from dcgan.checkpoint import EpochRecord
    from dcgan.training import Progress as TrainingProgress

logger = logging.getLogger("dcgan.train")

ARTIFACT_KEY = "training-progress"
ARTIFACT_SECONDS = 5.0  # every update is an HTTP call


class ProgressDisplay:
    """Shows a training's progress while it is entered; tells Prefect at most every few seconds."""

    def __init__(self) -> None:
        self._bar = _EpochBar() if sys.stderr.isatty() else None
        self._artifact = _ProgressArtifact()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.close()
        self._artifact.close()

    def show(self, progress: "TrainingProgress") -> None:
        """Show a progress that the training loop told."""
        if self._bar:
            self._bar.show(progress)
        self._artifact.show(progress)

    def finish_epoch(self, record: "EpochRecord") -> None:
        """Leave a line about an epoch that is done and recorded."""
        if self._bar:
            self._bar.close()
            return
        figures = record.metrics
        logger.info(
            "Epoch %d: generator loss %.3f, discriminator loss %.3f, %.0f images/s, %.1f s.",
            record.epoch,
            figures["generator_loss"],
            figures["discriminator_loss"],
            figures["images_per_second"],
            figures["epoch_seconds"],
        )


class _EpochBar:
    """One line for each epoch; it stays when the epoch is done."""

    def __init__(self) -> None:
        self._progress: Progress | None = None
        self._line: TaskID

    def show(self, progress: "TrainingProgress") -> None:
        if self._progress is None:
            self._progress = _columns()
            self._line = self._progress.add_task(
                f"epoch {progress.epoch}/{progress.epochs}", total=progress.steps_per_epoch, loss="", speed="", left=""
            )
            self._progress.start()
        remaining_steps = (progress.epochs - progress.epoch) * progress.steps_per_epoch
        remaining_steps += progress.steps_per_epoch - progress.step
        speed = progress.images_per_second
        self._progress.update(
            self._line,
            completed=progress.step,
            loss=f"loss G {progress.generator_loss:.2f} D {progress.discriminator_loss:.2f}",
            speed=f"{speed:,.0f} images/s" if speed else "",
            left=f"{_clock(remaining_steps * progress.batch_size / speed)} left" if speed else "",
        )

    def close(self) -> None:
        if self._progress:
            self._progress.stop()
            self._progress = None


class _ProgressArtifact:
    """The flow run's progress artifact, kept up to date by a thread of its own.

    Prefect's client retries for a minute when the server is away, and training does not wait for that.
    """

    def __init__(self) -> None:
        self._id: UUID | None = None
        self._percent = 0.0
        self._ended = Event()
        # the thread knows the flow run by its context
        tell = partial(copy_context().run, self._tell_until_ended)
        self._teller = Thread(target=tell, name="progress", daemon=True) if FlowRunContext.get() else None

    def show(self, progress: "TrainingProgress") -> None:
        self._percent = 100 * (progress.epoch - 1 + progress.step / progress.steps_per_epoch) / progress.epochs
        if self._teller and not self._teller.ident:
            self._teller.start()

    def close(self) -> None:
        """Tell the last progress, if Prefect takes it at once."""
        self._ended.set()
        if self._teller and self._teller.ident:
            self._teller.join(ARTIFACT_SECONDS)

    def _tell_until_ended(self) -> None:
        told = -1.0
        while not self._ended.is_set() or told != self._percent:
            if told != self._percent:
                told = self._percent
                self._tell(told)
            self._ended.wait(ARTIFACT_SECONDS)

    def _tell(self, percent: float) -> None:
        try:
            if self._id is None:
                created = create_progress_artifact(percent, key=ARTIFACT_KEY, description="Training")
                self._id = cast(UUID, created)  # in synchronous code it is no coroutine
            else:
                update_progress_artifact(self._id, progress=percent)
        except Exception as error:  # noqa: BLE001 - whatever the server's trouble is, training goes on
            logger.warning("Prefect was not told the progress: %s.", error)


def _columns() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[loss]}"),
        TextColumn("{task.fields[speed]}"),
        TextColumn("{task.fields[left]}"),
        console=Console(stderr=True),
    )


def _clock(seconds: float) -> str:
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}"
