"""The history of a training in its MLflow run: brought up to date epoch by epoch, each of them once."""

import time
from pathlib import Path

import numpy as np
from mlflow.entities import Metric, Run

from dcgan.checkpoint import SELECTION, Checkpoint, EpochRecord
from dcgan.provenance import Configuration
from dcgan.randomness import fixed_latents
from dcgan.recipe import LATENT_SIZE
from dcgan.rendering import GRID_SIDE, image_grid, upscaled
from tasks.tracking.lease import Lease
from tasks.tracking.runs import CHECKPOINTS, RECORDED_EPOCHS
from tasks.tracking.store import Store, translated_errors

BEST_EPOCH = "best_epoch"
BEST_FIGURE = f"best_{SELECTION}"
SAMPLES = "samples"
IMAGES = "images"


class EpochLog:
    """Brings a run up to date with a training's history: every epoch once, in order.

    An epoch is its metrics, its picture, then the marker; before the first comes the untrained generator's picture, as
    step 0. What was delivered before a crash is found by the marker, and by looking, for the one epoch that may be half
    delivered: its metrics are the same rows again, which MLflow keeps once; its picture would be a second file, so the
    files are listed first.

    Args:
        store: where.
        lease: this process's hold on the run; it is asked for directly before anything is recorded.
    """

    def __init__(self, store: Store, lease: Lease) -> None:
        self._store = store
        self._lease = lease
        self._run_id = lease.run_id
        self._recorded = _recorded_epochs(lease.require())
        self._pictured = self._steps_with_picture()

    def deliver(self, checkpoint: Checkpoint) -> None:
        """Record what the run does not have yet.

        Raises:
            TrackingError: the store failed; what is missing is delivered the next time.
            LeaseLostError: another process holds the run.
        """
        with translated_errors(self._store.uri):
            for record, grid in zip(checkpoint.description.records, checkpoint.grids, strict=True):
                if record.epoch > self._recorded:  # of a former holder, as it may have recorded one more meanwhile
                    self._recorded = _recorded_epochs(self._lease.require())
                if record.epoch > self._recorded:
                    if not self._recorded:
                        self._show_untrained(checkpoint.description.configuration)
                    self._record(record, grid)
                    self._recorded = record.epoch

    def record_best(self, checkpoint: Checkpoint) -> None:
        """Record which epoch was best, and its figure, at that epoch; of a training that was not evaluated, nothing.

        They are the same rows each time, which MLflow keeps once.
        """
        self._lease.require()
        for record in checkpoint.description.records:
            if record.epoch == checkpoint.best_epoch:
                milliseconds = round(record.finished_at * 1000)
                best = {BEST_EPOCH: record.epoch, BEST_FIGURE: record.metrics[SELECTION]}
                metrics = [Metric(name, value, milliseconds, record.epoch) for name, value in best.items()]
                with translated_errors(self._store.uri):
                    self._store.client.log_batch(self._run_id, metrics=metrics)

    def upload_checkpoint(self, folder: Path) -> None:
        """Put a checkpoint's folder under the run's checkpoints."""
        self._lease.require()
        with translated_errors(self._store.uri):
            self._store.client.log_artifacts(self._run_id, str(folder), f"{CHECKPOINTS}/{folder.name}")

    def _record(self, record: EpochRecord, grid: np.ndarray) -> None:
        client = self._store.client
        milliseconds = round(record.finished_at * 1000)
        metrics = [Metric(name, value, milliseconds, record.epoch) for name, value in record.metrics.items()]
        client.log_batch(self._run_id, metrics=metrics)
        if record.epoch not in self._pictured:
            self._show(grid, record.epoch, milliseconds)
        client.set_tag(self._run_id, RECORDED_EPOCHS, record.epoch)

    def _show_untrained(self, configuration: Configuration) -> None:
        """Show the untrained generator at step 0, where MLflow's slider begins."""
        from dcgan.showcase import untrained_images

        if 0 not in self._pictured:
            recipe, seed = configuration.recipe, configuration.seed
            images = untrained_images(recipe, seed, fixed_latents(seed, GRID_SIDE**2, LATENT_SIZE))
            self._show(image_grid(images), 0, round(time.time() * 1000))
            self._pictured.add(0)

    def _show(self, grid: np.ndarray, step: int, milliseconds: int) -> None:
        self._store.client.log_image(self._run_id, upscaled(grid), key=SAMPLES, step=step, timestamp=milliseconds)

    def _steps_with_picture(self) -> set[int]:
        """Return the steps whose picture is there, with its small copy, which is written after it."""
        with translated_errors(self._store.uri):
            paths = [Path(file.path) for file in self._store.client.list_artifacts(self._run_id, IMAGES)]
        # MLflow's own naming: KEY+step+STEP+timestamp+MS+UUID.png, and the same with +compressed.webp
        return {int(path.name.split("+")[2]) for path in paths if path.name.endswith("+compressed.webp")}


def _recorded_epochs(run: Run) -> int:
    return int(run.data.tags.get(RECORDED_EPOCHS, 0))
