"""Training runs and a promotion that are killed anywhere, and repeated, end as if they had never been interrupted.

`make chaos` kills more of them, each once or twice, at every point, and at any time with their servers.
"""

import pytest

from dcgan.export import generator_sha256, selected_generator
from dcgan.training.checkpoint import load_checkpoint
from dcgan.training.step import StepMetrics
from tests.e2e.chaos import SAME, Kill, Outcome, Place, train_uninterrupted, try_promotion, try_training
from tests.e2e.kill_at import TRAINING_POINTS
from tests.servers import prefect_api
from tracking.metrics import metric_name
from tracking.tags import CHECKPOINTS

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def variables(tmp_path_factory):
    """Return the address of a Prefect server, which saves each process from starting its own."""
    with prefect_api(tmp_path_factory.mktemp("prefect")) as (_, url):
        yield {"PREFECT_API_URL": url}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, variables) -> tuple[Place, Outcome, float]:
    """Return a training run that nobody killed: where it is, its outcome, and its seconds."""
    place = Place(tmp_path_factory.mktemp("uninterrupted"), variables)
    return place, *train_uninterrupted(place)


def test_run_killed_at_every_second_point_ends_with_the_same_bits(uninterrupted, variables, tmp_path):
    """Killed and run again: one MLflow run, each epoch once, one version, the same weights, and nothing left over."""
    _, reference, _ = uninterrupted
    points = list(TRAINING_POINTS)[::2]
    trial = try_training(Place(tmp_path, variables), [Kill(name) for name in points], reference)
    assert trial.verdict == SAME
    assert trial.moments == points
    assert len(trial.deaths) == len(points) > 5


def test_the_uninterrupted_run_is_complete(uninterrupted):
    """The outcome that the others are compared with has every epoch once, so that being equal proves something."""
    place, reference, _ = uninterrupted
    assert reference.runs == ["FINISHED"]
    assert {step: len(grids) for step, grids in reference.samples.items()} == {0: 1, 1: 1, 2: 1, 3: 1}
    assert set(reference.metrics) == {metric_name(name) for name in StepMetrics._fields}
    for values in reference.metrics.values():
        assert [step for step, _ in values] == [1, 2, 3]
    assert list(reference.checkpoints) == ["epoch-000003"]
    last = load_checkpoint(place.root / "downloads" / CHECKPOINTS / "epoch-000003")
    assert reference.versions == [generator_sha256(selected_generator(last))]
    assert (reference.logged_models, reference.recorded_epochs, reference.leftovers) == (1, "3", [])
    assert place.processes() == []


def test_killed_promotion_leaves_the_champion_in_service(uninterrupted):
    """Killed between its aliases, the former champion is in service; repeated, the candidate is."""
    place, _, _ = uninterrupted
    assert try_promotion(place).verdict == SAME
