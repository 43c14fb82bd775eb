"""The history of a training run in MLflow: brought up to date epoch by epoch, each of them exactly once."""

import time
from pathlib import Path

import numpy as np
from mlflow.entities import Metric, Run

from dcgan.images import GRID_SIDE, image_grid, upscaled
from dcgan.model.ema import untrained_images
from dcgan.provenance import Configuration
from dcgan.recipe import LATENT_SIZE
from dcgan.rng import fixed_latents
from dcgan.training.checkpoint import SELECTION_METRIC, Checkpoint, EpochRecord
from tracking.lease import Lease
from tracking.store import Store, translated_errors
from tracking.tags import BEST_EPOCH, BEST_FRECHET_DISTANCE, CHECKPOINTS, IMAGES, RECORDED_EPOCHS, SAMPLES

SMALL_COPY = "+compressed.webp"


class EpochLog:
    """Brings a run up to date with a training run's history: every epoch once, in order.

    An epoch is its metrics, its sample grid, then the marker tag; before the first comes the untrained generator's
    grid, as step 0. The marker shows what was recorded before a crash, except for the one epoch that may be half
    recorded: its metrics are the same rows again, which MLflow keeps once; its grid would be a second file, so the
    files are listed first.

    Args:
        store: The store of the run.
        lease: This process's lease on the run, which is checked directly before anything is recorded.
    """

    def __init__(self, store: Store, lease: Lease) -> None:
        self._store = store
        self._lease = lease
        self._run_id = lease.run_id
        self._recorded = _recorded_epochs(lease.require())
        self._sampled, self._interrupted = self._logged_grids()

    def record(self, checkpoint: Checkpoint) -> None:
        """Record what the run does not have yet.

        Raises:
            TrackingError: The store failed; what is missing is recorded the next time.
            LeaseLostError: Another process holds the run.
        """
        with translated_errors(self._store.uri):
            for record, grid in zip(checkpoint.metadata.records, checkpoint.grids, strict=True):
                if record.epoch > self._recorded:  # a previous holder may have recorded one more meanwhile
                    self._recorded = _recorded_epochs(self._lease.require())
                if record.epoch > self._recorded:
                    if not self._recorded:
                        self._log_untrained(checkpoint.metadata.configuration)
                    self._log_epoch(record, grid)
                    self._recorded = record.epoch

    def record_best(self, checkpoint: Checkpoint) -> None:
        """Record the best epoch and its Fréchet distance, at that epoch; nothing where no epoch was evaluated.

        They are the same rows each time, which MLflow keeps once.
        """
        self._lease.require()
        for record in checkpoint.metadata.records:
            if record.epoch == checkpoint.best_epoch:
                milliseconds = round(record.finished_at * 1000)
                best = {BEST_EPOCH: record.epoch, BEST_FRECHET_DISTANCE: record.metrics[SELECTION_METRIC]}
                metrics = [Metric(name, value, milliseconds, record.epoch) for name, value in best.items()]
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
        metrics = [Metric(name, value, milliseconds, record.epoch) for name, value in record.metrics.items()]
        client.log_batch(self._run_id, metrics=metrics)
        if record.epoch not in self._sampled:
            self._log_grid(grid, record.epoch, milliseconds)
        client.set_tag(self._run_id, RECORDED_EPOCHS, record.epoch)

    def _log_untrained(self, configuration: Configuration) -> None:
        """Log the untrained generator's grid at step 0, where MLflow's slider begins."""
        if 0 not in self._sampled:
            recipe, seed = configuration.recipe, configuration.seed
            images = untrained_images(recipe, seed, fixed_latents(seed, GRID_SIDE**2, LATENT_SIZE))
            self._log_grid(image_grid(images), 0, round(time.time() * 1000))

    def _log_grid(self, grid: np.ndarray, step: int, milliseconds: int) -> None:
        client, image = self._store.client, upscaled(grid)
        if half := self._interrupted.pop(step, None):  # both files again, under the names that they were to have
            for name in (half, f"{half.removesuffix('.png')}{SMALL_COPY}"):
                client.log_image(self._run_id, image, artifact_file=name)
        else:
            client.log_image(self._run_id, image, key=SAMPLES, step=step, timestamp=milliseconds)
        self._sampled.add(step)

    def _logged_grids(self) -> tuple[set[int], dict[int, str]]:
        """Return the steps whose grid is there with its small copy, which is written last, and the other grids by step.

        A process that was killed between the two leaves such a grid; to log it anew would make a second file.
        """
        with translated_errors(self._store.uri):
            paths = [file.path for file in self._store.client.list_artifacts(self._run_id, IMAGES)]
        # MLflow's own naming: KEY+step+STEP+timestamp+MS+UUID.png, and the same with +compressed.webp
        complete = {_step(path) for path in paths if path.endswith(SMALL_COPY)}
        return complete, {_step(path): path for path in paths if path.endswith(".png") and _step(path) not in complete}


def _step(path: str) -> int:
    return int(Path(path).name.split("+")[2])


def _recorded_epochs(run: Run) -> int:
    return int(run.data.tags.get(RECORDED_EPOCHS, 0))
