"""The history of a training run in MLflow: brought up to date epoch by epoch, each of them exactly once."""

import logging
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from mlflow.entities import Metric, Run

from dcgan.images import GRID_SIDE, image_grid, upscaled
from dcgan.model.ema import untrained_images
from dcgan.provenance import Configuration
from dcgan.recipe import LATENT_SIZE
from dcgan.rng import fixed_latents
from dcgan.training.checkpoint import SELECTION_METRIC, Checkpoint, EpochRecord
from tracking.lease import Lease
from tracking.metrics import BEST_EPOCH, BEST_FRECHET_DISTANCE, metric_name
from tracking.store import Store, translated_errors
from tracking.tags import CHECKPOINTS, IMAGES, RECORDED_EPOCHS, SAMPLES

logger = logging.getLogger("dcgan.tracking")

SMALL_COPY = "+compressed.webp"
# MLflow's own naming: KEY+step+STEP+timestamp+MS+UUID.png, and the same with +compressed.webp
GRID_NAME = re.compile(rf"/{SAMPLES}\+step\+(\d+)\+")


class _Grids(NamedTuple):
    """The sample grids that a run has.

    Attributes:
        complete: Steps whose grid is there with its small copy, which is written last.
        interrupted: The file of each other grid by its step: whoever wrote it was killed, or MLflow failed, before the
            small copy. To log the grid anew would make a second file.
    """

    complete: set[int]
    interrupted: dict[int, str]


class EpochLog:
    """Brings a run up to date with a training run's history: every epoch once, in order.

    An epoch is its metrics, its sample grid, then the marker tag; before the first comes the untrained generator's
    grid, as step 0. The marker shows what was recorded before a crash, except for the one epoch that may be half
    recorded: its metrics are the same rows again, which MLflow keeps once; its grid would be a second file, so the
    files are listed first, and again after every failure.

    Args:
        store: The store of the run.
        lease: This process's lease on the run, which is checked directly before anything is recorded.

    Attributes:
        recorded: Number of epochs that the run has completely.
    """

    def __init__(self, store: Store, lease: Lease) -> None:
        self._store = store
        self._lease = lease
        self._run_id = lease.run_id
        self.recorded = recorded_epochs(lease.require())
        self._grids = self._logged_grids()
        self._failed = False

    def record(self, checkpoint: Checkpoint) -> None:
        """Record what the run does not have yet.

        Raises:
            TrackingError: The store failed; what is missing is recorded the next time.
            LeaseLostError: Another process holds the run.
        """
        if self._failed:
            self._grids = self._logged_grids()
        self._failed = True
        with translated_errors(self._store.uri):
            for record, grid in zip(checkpoint.metadata.records, checkpoint.grids, strict=True):
                if record.epoch > self.recorded:  # a previous holder may have recorded one more meanwhile
                    self.recorded = recorded_epochs(self._lease.require())
                if record.epoch > self.recorded:
                    if not self.recorded:
                        self._log_untrained(checkpoint.metadata.configuration)
                    self._log_epoch(record, grid)
                    self.recorded = record.epoch
        self._failed = False

    def record_best(self, checkpoint: Checkpoint) -> None:
        """Record the best epoch and its Fréchet distance; nothing where no epoch was evaluated.

        They are the same rows each time, which MLflow keeps once, at step 0, by which MLflow draws bars that compare
        runs instead of a curve.
        """
        self._lease.require()
        for record in checkpoint.metadata.records:
            if record.epoch == checkpoint.best_epoch:
                best = {BEST_EPOCH: record.epoch, BEST_FRECHET_DISTANCE: record.metrics[SELECTION_METRIC]}
                metrics = _metrics(best, record, step=0)
                with translated_errors(self._store.uri):
                    self._store.client.log_batch(self._run_id, metrics=metrics)

    def upload_checkpoint(self, folder: Path) -> None:
        """Upload a checkpoint's folder to the run's checkpoints."""
        self._lease.require()
        with translated_errors(self._store.uri):
            self._store.client.log_artifacts(self._run_id, str(folder), f"{CHECKPOINTS}/{folder.name}")

    def _log_epoch(self, record: EpochRecord, grid: np.ndarray) -> None:
        client = self._store.client
        milliseconds = round(record.finished_at * 1000)
        client.log_batch(self._run_id, metrics=_metrics(record.metrics, record, record.epoch))
        if record.epoch not in self._grids.complete:
            self._log_grid(grid, record.epoch, milliseconds)
        client.set_tag(self._run_id, RECORDED_EPOCHS, record.epoch)

    def _log_untrained(self, configuration: Configuration) -> None:
        """Log the untrained generator's grid at step 0, where MLflow's slider begins."""
        if 0 not in self._grids.complete:
            recipe, seed = configuration.recipe, configuration.seed
            images = untrained_images(recipe, seed, fixed_latents(seed, GRID_SIDE**2, LATENT_SIZE))
            self._log_grid(image_grid(images), 0, round(time.time() * 1000))

    def _log_grid(self, grid: np.ndarray, step: int, milliseconds: int) -> None:
        client, image = self._store.client, upscaled(grid)
        if half := self._grids.interrupted.get(step):  # both files again, under the names that they were to have
            for name in (half, f"{half.removesuffix('.png')}{SMALL_COPY}"):
                client.log_image(self._run_id, image, artifact_file=name)
        else:
            client.log_image(self._run_id, image, key=SAMPLES, step=step, timestamp=milliseconds)
        self._grids.complete.add(step)

    def _logged_grids(self) -> _Grids:
        with translated_errors(self._store.uri):
            paths = [file.path for file in self._store.client.list_artifacts(self._run_id, IMAGES)]
        steps = {path: int(match[1]) for path in paths if (match := GRID_NAME.search(path))}
        complete = {step for path, step in steps.items() if path.endswith(SMALL_COPY)}
        halves = {step: path for path, step in steps.items() if path.endswith(".png") and step not in complete}
        return _Grids(complete, halves)


def _metrics(values: Mapping[str, float], record: EpochRecord, step: int) -> list[Metric]:
    milliseconds = round(record.finished_at * 1000)
    return [Metric(metric_name(name), value, milliseconds, step) for name, value in values.items()]


def recorded_epochs(run: Run) -> int:
    """Return how many epochs a run has completely; 0 for a tag that is not a number: recording again adds nothing."""
    written = run.data.tags.get(RECORDED_EPOCHS, "0")
    if written.isascii() and written.isdecimal():
        return int(written)
    logger.warning(
        "The tag %s of the run %s is %r, which is not a number; all epochs are recorded again.",
        RECORDED_EPOCHS,
        run.info.run_id,
        written,
    )
    return 0
