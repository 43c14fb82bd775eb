"""Names of metrics in MLflow: their sections, by which its pages group them."""

import sys
from collections.abc import Container, Iterable

from mlflow.entities import Run

from tracking.store import Store, translated_errors

# of each epoch; what is in neither of the first two was measured on the epoch's own images
SECTIONS = {
    # the fields of dcgan.training.step.StepMetrics, whose module imports TensorFlow
    "train": ("generator_loss", "discriminator_loss", "real_accuracy", "generated_accuracy"),
    "speed": ("images_per_second", "epoch_seconds", "overhead_seconds", "evaluation_seconds", "peak_memory_mb"),
}
EPOCH_QUALITY = "quality_epoch"
BEST_EPOCH = "best_epoch"
BEST_FRECHET_DISTANCE = "best_frechet_distance"


def metric_name(name: str) -> str:
    """Return the name in MLflow of an epoch's metric: `train/generator_loss`, `quality_epoch/frechet_distance`."""
    section = next((section for section, names in SECTIONS.items() if name in names), EPOCH_QUALITY)
    return f"{section}/{name}"


def recorded_best_epoch(run: Run) -> int | None:
    """Return the best epoch of a run, None where none was evaluated."""
    best = run.data.metrics.get(metric_name(BEST_EPOCH))
    return None if best is None else int(best)


def recorded_curves(
    store: Store, run_id: str, recorded: Container[str], names: Iterable[str]
) -> dict[str, dict[int, float]]:
    """Return those metrics of the epochs that a run has, each by its steps, without values that are not finite.

    MLflow's databases hold the largest number in the place of infinity.

    Args:
        store: The store.
        run_id: The run.
        recorded: Names of the metrics that it has in MLflow.
        names: Names of the metrics to return, without their sections.
    """
    with translated_errors(store.uri):
        return {
            name: {
                metric.step: metric.value
                for metric in store.client.get_metric_history(run_id, metric_name(name))
                if abs(metric.value) < sys.float_info.max  # false for NaN, too
            }
            for name in names
            if metric_name(name) in recorded
        }
