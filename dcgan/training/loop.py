"""The training loop: a generator of epoch reports that knows no tracker, no orchestrator and no file."""

import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import keras
import numpy as np

from dcgan.data.parquet import ParquetImages
from dcgan.errors import TrainingDivergedError
from dcgan.images import GRID_SIDE, image_grid
from dcgan.model.ema import EmaGenerator
from dcgan.provenance import Configuration
from dcgan.recipe import LATENT_SIZE, DeviceChoice, Recipe
from dcgan.rng import fixed_latents
from dcgan.training.checkpoint import Checkpoint, EpochRecord, selected_epoch
from dcgan.training.step import Gan, StepMetrics
from dcgan.training.streaming import Chunk, ResidentData, StreamedData, open_training_data

SECONDS_PER_CALL = 1.0  # how long Python waits for the device: signals and progress are handled in between


@dataclass(frozen=True)
class Progress:
    """How far a training run is, reported after every compiled call; its speed is that of the steps alone."""

    epoch: int
    epochs: int
    step: int
    steps_per_epoch: int
    batch_size: int
    generator_loss: float
    discriminator_loss: float
    images_per_second: float

    @property
    def fraction(self) -> float:
        """Finished fraction of the whole training run, in [0, 1]."""
        return (self.epoch - 1 + self.step / self.steps_per_epoch) / self.epochs

    @property
    def seconds_left(self) -> float | None:
        """Estimated time that the remaining steps take, without evaluations; None while no speed has been measured."""
        if not self.images_per_second:
            return None
        steps = (self.epochs - self.epoch + 1) * self.steps_per_epoch - self.step
        return steps * self.batch_size / self.images_per_second


@dataclass(frozen=True)
class EpochReport:
    """The result of an epoch.

    Attributes:
        record: Epoch (from 1), step (since the training run began), and the metrics by name.
        grid: The 4×4 sample grid of the fixed latents, uint8 (112, 112).
        seconds: Duration of the whole epoch, including what its consumer did with the previous report.
        checkpoint: The state after the epoch.
    """

    record: EpochRecord
    grid: np.ndarray
    seconds: float
    checkpoint: Checkpoint


def train(
    configuration: Configuration,
    images: np.ndarray | ParquetImages,
    start: Checkpoint | None = None,
    device: DeviceChoice = "auto",
    evaluate: Callable[[keras.Model], Mapping[str, float]] | None = None,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> Iterator[EpochReport]:
    """Train from the beginning or from a checkpoint, and yield a report after every epoch.

    Args:
        configuration: Recipe, seed and the dataset's digest.
        images: Training images, float32 (n, 28, 28, 1) in [-1, 1], or a file of them, of which no more than the
            recipe's `shuffle_buffer_images`, or one row group, and what a batch lacked are in memory at a time.
        start: The state to resume from; the bits after it are those of an uninterrupted training run.
        device: `auto`, `cpu` or `gpu`.
        evaluate: Returns the metrics of the EMA generator; called every `evaluate_every` epochs and at the end.
        on_progress: Called with the progress, about once a second.

    Raises:
        DataError: A batch is larger than the data, or the file is damaged.
        TrainingDivergedError: A loss, a weight or an image is not finite; the epoch is not reported.
        CheckpointError: `start` has other arrays than this model.
        DeviceError: The device does not exist.
    """
    recipe = configuration.recipe
    data, resident = open_training_data(images, recipe)
    gan = Gan(recipe, configuration.seed, resident, device, data.rows)
    del resident  # the device has its own copy
    history, selected = _history(start), start.selected_weights if start else {}
    if start:
        gan.restore(start.arrays)
    ema = EmaGenerator(recipe, configuration.seed, gan.passes)
    latents = fixed_latents(configuration.seed, GRID_SIDE**2, LATENT_SIZE)
    clock = _EpochClock()
    for epoch in range(len(history) + 1, recipe.epochs + 1):
        step_metrics = _run_epoch(gan, data, epoch, clock, on_progress)
        arrays = gan.state()
        _require_finite_state(arrays, epoch)
        generator = ema.generator(arrays)
        samples = np.asarray(generator(latents, training=False))
        _require_finite_images(samples, epoch)
        grid = image_grid(samples)
        evaluated = _timed(evaluate, generator) if evaluate and _is_due(recipe, epoch) else {}
        seconds, record = clock.finish(epoch, data.steps_per_epoch, recipe.batch_size, step_metrics, evaluated)
        history.append((record, grid))
        if selected_epoch(recipe, [record for record, _ in history]) == epoch:
            selected = {weight.path: weight.numpy() for weight in generator.weights}
        yield EpochReport(record, grid, seconds, Checkpoint.make(configuration, arrays, history, selected))


def _is_due(recipe: Recipe, epoch: int) -> bool:
    every = recipe.evaluate_every
    return every is not None and (epoch % every == 0 or epoch == recipe.epochs)


def _timed(evaluate: Callable[[keras.Model], Mapping[str, float]], generator: keras.Model) -> dict[str, float]:
    """Return a generator's metrics and the time that they took, the larger part of an epoch's overhead."""
    began = time.perf_counter()
    metrics = evaluate(generator)
    return {**metrics, "evaluation_seconds": time.perf_counter() - began}


def _history(start: Checkpoint | None) -> list[tuple[EpochRecord, np.ndarray]]:
    return list(zip(start.metadata.records, start.grids, strict=True)) if start else []


def _run_epoch(
    gan: Gan,
    data: ResidentData | StreamedData,
    epoch: int,
    clock: "_EpochClock",
    on_progress: Callable[[Progress], None],
) -> StepMetrics:
    """Run an epoch's steps in compiled calls of about a second, and return every step's metrics."""
    steps = data.steps_per_epoch
    first_step = (epoch - 1) * steps
    measured: list[StepMetrics] = []
    done = 0
    for batches in _calls(gan, data.epoch(gan.seed, epoch), clock):
        with clock.running(len(batches)):
            metrics = gan.run(batches, first_step + done)
        _require_finite_losses(metrics, epoch, first_step + done)
        measured.append(metrics)
        done += len(batches)
        on_progress(
            Progress(
                epoch=epoch,
                epochs=gan.recipe.epochs,
                step=done,
                steps_per_epoch=steps,
                batch_size=gan.recipe.batch_size,
                generator_loss=float(metrics.generator_loss[-1]),
                discriminator_loss=float(metrics.discriminator_loss[-1]),
                images_per_second=gan.recipe.batch_size / clock.seconds_per_step,
            )
        )
    return StepMetrics(*map(np.concatenate, zip(*measured, strict=True)))


def _calls(gan: Gan, chunks: Iterator[Chunk], clock: "_EpochClock") -> Iterator[np.ndarray]:
    """Put each chunk on the device in turn, and yield its batches, int32 (steps, batch_size), call by call."""
    for chunk in chunks:
        if chunk.blocks is not None:
            gan.replace_images(chunk.retained, chunk.blocks)
        done = 0
        while done < len(chunk.order):
            batches = chunk.order[done : done + clock.steps_per_call]
            yield batches
            done += len(batches)


def _require_finite_losses(metrics: StepMetrics, epoch: int, first_step: int) -> None:
    """Raise for the first step with a loss that is not finite: the other network's loss follows a step later."""
    losses = np.stack([metrics.discriminator_loss, metrics.generator_loss], axis=1)
    if np.isfinite(losses).all():
        return
    step, column = np.argwhere(~np.isfinite(losses))[0]
    network = ("discriminator", "generator")[column]
    raise TrainingDivergedError(
        f"The {network} loss is not finite at step {first_step + step} (epoch {epoch}); "
        "expected finite losses: lower the learning rates or use float32."
    )


def _require_finite_state(arrays: Mapping[str, np.ndarray], epoch: int) -> None:
    """Raise for an array that is not finite: a rectifier with negative slope 0 can hide it from the losses."""
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise TrainingDivergedError(
                f"The state's {name} is not finite after epoch {epoch}; "
                "expected finite numbers: lower the learning rates or use float32."
            )


def _require_finite_images(images: np.ndarray, epoch: int) -> None:
    """Raise for images that are not finite, which weights that are huge and finite can give."""
    if not np.isfinite(images).all():
        raise TrainingDivergedError(
            f"The generated images are not finite after epoch {epoch}; "
            "expected finite numbers: lower the learning rates or use float32."
        )


class _EpochClock:
    """Separates the training steps' own time from everything else, and decides how many steps fill one call."""

    def __init__(self) -> None:
        self.seconds_per_step = float("inf")
        self._epoch_began = time.perf_counter()
        self._traced = False
        self._steps = 0
        self._step_seconds = 0.0

    @property
    def steps_per_call(self) -> int:
        """As many steps as take about a second; one, as long as nothing has been measured."""
        return max(1, round(SECONDS_PER_CALL / self.seconds_per_step))

    @contextmanager
    def running(self, steps: int) -> Iterator[None]:
        """Time the steps of one call; the very first call also compiles, so it is not counted."""
        began = time.perf_counter()
        yield
        seconds = time.perf_counter() - began
        if self._traced:
            self._steps += steps
            self._step_seconds += seconds
            self.seconds_per_step = seconds / steps
        self._traced = True

    def finish(
        self, epoch: int, steps: int, batch_size: int, step_metrics: StepMetrics, evaluated: Mapping[str, float]
    ) -> tuple[float, EpochRecord]:
        """Return the epoch's seconds and its record, and begin the next epoch."""
        now = time.perf_counter()
        seconds = now - self._epoch_began
        step_seconds = self._step_seconds * steps / self._steps if self._steps else seconds
        metrics = {name: float(np.mean(values, dtype=np.float64)) for name, values in step_metrics._asdict().items()}
        metrics |= {
            "images_per_second": batch_size * steps / step_seconds,
            "epoch_seconds": seconds,
            "overhead_seconds": seconds - step_seconds,
            "peak_memory_mb": peak_memory_mb(),
            **evaluated,
        }
        self._epoch_began, self._steps, self._step_seconds = now, 0, 0.0
        record = EpochRecord(epoch=epoch, step=epoch * steps, finished_at=time.time(), metrics=metrics)
        return seconds, record


def peak_memory_mb() -> float:
    """Return the peak resident memory of this process, in MB (10⁶ bytes)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6
