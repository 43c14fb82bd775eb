"""Names of metrics: each has its section, and those of earlier releases are read."""

import math

import pytest

from dcgan.evaluation.evaluate import METRICS
from dcgan.training.step import StepMetrics
from tests.pipeline import Pipeline
from tracking.metrics import metric_name, recorded_best_epoch, recorded_curves, recorded_value
from tracking.runs import create_run, get_run


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


def test_a_run_of_an_earlier_release_is_read(pipeline: Pipeline) -> None:
    """Its metrics have no section; where a run has both, as one that was resumed, the new name counts."""
    store, dataset = pipeline.open().store, pipeline.prepare()
    run_id = create_run(store, pipeline.configuration(dataset), dataset.manifest, {})
    for step, value in ((1, 3.0), (2, math.nan), (3, 2.0), (4, math.inf), (5, -math.inf)):
        store.client.log_metric(run_id, "generator_loss", value, step=step)
    store.client.log_metric(run_id, "best_epoch", 3, step=3)
    assert recorded_curves(store, run_id, ["generator_loss", "frechet_distance"]) == {"generator_loss": {1: 3, 3: 2}}
    assert recorded_best_epoch(get_run(store, run_id)) == 3
    assert recorded_value({"frechet_distance": 9.0, "quality_epoch/frechet_distance": 8.0}, "frechet_distance") == 8
    assert recorded_value({}, "frechet_distance") is None
