"""Names of metrics, each with its section, and the curves that are read back."""

import math

import pytest

from dcgan.evaluation.evaluate import METRICS
from dcgan.training.step import StepMetrics
from tests.pipeline import Pipeline
from tracking.metrics import metric_name, recorded_curves
from tracking.runs import create_run


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        *((name, f"train/{name}") for name in StepMetrics._fields),
        ("peak_memory_mb", "speed/peak_memory_mb"),
        *((name, f"quality_epoch/{name}") for name in METRICS),
    ],
)
def test_every_metric_has_a_section(name: str, expected: str) -> None:
    """MLflow groups the charts of a run by it."""
    assert metric_name(name) == expected


def test_curves_are_read_without_what_is_not_finite(pipeline: Pipeline) -> None:
    """A metric that a run does not have is left out, and so are values that no chart can show."""
    store, dataset = pipeline.open().store, pipeline.prepare()
    run_id = create_run(store, pipeline.configuration(dataset), dataset.manifest, {})
    for step, value in ((1, 3.0), (2, math.nan), (3, 2.0), (4, math.inf), (5, -math.inf)):
        store.client.log_metric(run_id, "train/generator_loss", value, step=step)
    curves = recorded_curves(store, run_id, ["train/generator_loss"], ["generator_loss", "frechet_distance"])
    assert curves == {"generator_loss": {1: 3, 3: 2}}
