"""The training loop on real digits: what it reports, when it refuses, and that its bits depend on nothing but the seed.

The last epoch of a training run is reached in many ways here: at once, step by step, from each earlier epoch, in
another process. It is always the same one, bit for bit.
"""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import dcgan
from dcgan.data.idx import TRAIN, read_images
from dcgan.data.parquet import normalise
from dcgan.errors import CheckpointError, DataError, TrainingDivergedError
from dcgan.images import image_grid
from dcgan.model.ema import EmaGenerator
from dcgan.provenance import Configuration
from dcgan.recipe import FAST, LATENT_SIZE
from dcgan.rng import epoch_order, fixed_latents
from dcgan.training import loop as training
from dcgan.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from dcgan.training.loop import EpochReport, Progress, train
from dcgan.training.step import Gan

ENVIRONMENT = dict(os.environ)  # as TensorFlow has just read it: oneDNN's switch changes bits
CHECKOUT = Path(dcgan.__file__).parent.parent

ROWS, BATCH, STEPS, EPOCHS = 70, 16, 4, 3
RATES = {"generator_learning_rate": 2e-4, "discriminator_learning_rate": 2e-4}  # for so small batches
RECIPE = FAST.model_copy(
    update={"name": "test", "epochs": EPOCHS, "batch_size": BATCH, "precision": "float32", **RATES}
)
CONFIGURATION = Configuration(recipe=RECIPE, seed=11, dataset_digest="d" * 64)
STEP_METRICS = ("generator_loss", "discriminator_loss", "real_accuracy", "generated_accuracy")
METRICS = {*STEP_METRICS, "images_per_second", "epoch_seconds", "overhead_seconds", "peak_memory_mb"}

# trains one epoch, stops, and resumes from the disk to the end; prints the digests of the weights after each epoch
TRAIN_IN_TWO_PARTS = """
import json, pathlib, sys
import numpy as np
from dcgan.training import loop as training
from dcgan.training.checkpoint import load_checkpoint, save_checkpoint
from dcgan.provenance import Configuration
from dcgan.training.loop import train

training.SECONDS_PER_CALL = 0.0
folder, configuration = pathlib.Path(sys.argv[1]), Configuration.model_validate_json(sys.argv[2])
images = np.load(folder / "images.npy")
first = next(train(configuration, images)).checkpoint
save_checkpoint(folder / "state", first)
rest = [report.checkpoint for report in train(configuration, images, load_checkpoint(folder / "state"))]
print(json.dumps([checkpoint.weights_sha256() for checkpoint in (first, *rest)]))
"""


@pytest.fixture(scope="module")
def images(small_folder) -> np.ndarray:
    """Return the first 70 digits of MNIST, float32 (70, 28, 28, 1) in [-1, 1]."""
    return normalise(read_images(small_folder / f"{TRAIN.images.name}.gz")[:ROWS])


@pytest.fixture
def _step_by_step(monkeypatch) -> None:
    """Make every compiled call hold one step, so that each step is reported."""
    monkeypatch.setattr(training, "SECONDS_PER_CALL", 0.0)


@pytest.fixture(scope="module")
def whole(images) -> tuple[list[EpochReport], list[Progress]]:
    """Return the reports and the progress of a training run with as many steps in a compiled call as there are."""
    progress: list[Progress] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "SECONDS_PER_CALL", 1e9)
        return list(train(CONFIGURATION, images, on_progress=progress.append)), progress


@pytest.fixture(scope="module")
def reports(whole) -> list[EpochReport]:
    """Return the reports of a training run that was never interrupted."""
    return whole[0]


def step_metrics(report: EpochReport) -> dict[str, float]:
    """Return the metrics that the steps measured: they are exact, as seconds and memory are not."""
    return {name: report.record.metrics[name] for name in STEP_METRICS}


def require_equal(found: Checkpoint, expected: Checkpoint) -> None:
    """Assert that two states have the same arrays, images and metrics of every epoch, bit for bit."""
    assert list(found.arrays) == list(expected.arrays)
    unequal = [name for name, array in expected.arrays.items() if found.arrays[name].tobytes() != array.tobytes()]
    assert unequal == []
    np.testing.assert_array_equal(found.grids, expected.grids)
    metrics = [
        [(r.epoch, r.step, *(r.metrics[name] for name in STEP_METRICS)) for r in checkpoint.metadata.records]
        for checkpoint in (found, expected)
    ]
    assert metrics[0] == metrics[1]
    assert found.weights_sha256() == expected.weights_sha256()


def test_one_report_for_each_epoch(reports):
    """Each epoch is reported once, in order, with its steps counted since the training began."""
    assert [(r.record.epoch, r.record.step) for r in reports] == [(1, 4), (2, 8), (3, 12)]
    assert [r.checkpoint.epoch for r in reports] == [1, 2, 3]
    assert [r.checkpoint.metadata.step for r in reports] == [4, 8, 12]


def test_reports_carry_the_metrics(reports):
    """Every epoch has the metrics that are tracked, finite, in their ranges, and consistent with each other."""
    for report in reports:
        metrics = report.record.metrics
        assert metrics.keys() == METRICS
        assert all(np.isfinite(value) and value >= 0 for value in metrics.values())
        assert max(metrics["real_accuracy"], metrics["generated_accuracy"]) <= 1
        assert metrics["epoch_seconds"] == report.seconds
        step_seconds = metrics["epoch_seconds"] - metrics["overhead_seconds"]
        assert metrics["images_per_second"] == pytest.approx(STEPS * BATCH / step_seconds)
        assert 50 < metrics["peak_memory_mb"] < 1e6


def test_reports_are_frozen(reports):
    """A report cannot be changed by its consumer."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        reports[0].seconds = 0


def test_states_hold_the_history(reports):
    """The state after an epoch holds the record and the grid of every epoch so far."""
    for index, report in enumerate(reports):
        so_far = reports[: index + 1]
        assert report.checkpoint.metadata.records == tuple(earlier.record for earlier in so_far)
        np.testing.assert_array_equal(report.checkpoint.grids, [earlier.grid for earlier in so_far])
        assert report.checkpoint.metadata.configuration == CONFIGURATION


def test_grids_are_of_the_fixed_latents(reports, images):
    """Every grid shows the same sixteen latents through that epoch's generator, and the images change."""
    ema = EmaGenerator(RECIPE, CONFIGURATION.seed, Gan(RECIPE, 0, images).passes)
    latents = fixed_latents(CONFIGURATION.seed, 16, LATENT_SIZE)
    for report in reports:
        assert (report.grid.shape, report.grid.dtype) == ((112, 112), np.uint8)
        shown = ema.generator(report.checkpoint.arrays)
        np.testing.assert_array_equal(report.grid, image_grid(np.asarray(shown(latents, training=False))))
    assert len({report.grid.tobytes() for report in reports}) == EPOCHS


def test_every_array_is_trained(reports):
    """From epoch to epoch every array changes but the learning rates, and none holds a value that is not finite."""
    first, last = reports[0].checkpoint.arrays, reports[-1].checkpoint.arrays
    same = [name for name in first if np.array_equal(first[name], last[name])]
    assert all(name.endswith("learning_rate") for name in same)
    assert all(np.isfinite(array).all() for array in last.values())


def test_losses_are_those_of_a_young_gan(reports):
    """The first epoch's losses lie around those of a discriminator that knows nothing: log 2, and two times log 2."""
    metrics = reports[0].record.metrics
    assert metrics["generator_loss"] == pytest.approx(np.log(2), abs=0.3)
    assert metrics["discriminator_loss"] == pytest.approx(2 * np.log(2), abs=0.5)


def test_progress_rises(whole):
    """Progress is reported after every call with rising steps, to the end of every epoch."""
    _, progress = whole
    assert {(p.epochs, p.steps_per_epoch, p.batch_size) for p in progress} == {(EPOCHS, STEPS, BATCH)}
    positions = [(p.epoch, p.step) for p in progress]
    assert positions == sorted(set(positions))
    # the first call compiles and the second is measured; the rest of the epochs fit into one call each
    assert positions == [(1, 1), (1, 2), (1, 4), (2, 4), (3, 4)]
    assert [p.images_per_second > 0 for p in progress] == [False, True, True, True, True]


def test_the_loop_is_nothing_but_steps(reports, images):
    """The state after two epochs is what the steps of two epochs' orders make, run without the loop."""
    gan = Gan(RECIPE, CONFIGURATION.seed, images)
    for epoch in (1, 2):
        order = epoch_order(CONFIGURATION.seed, epoch, ROWS, BATCH)
        metrics = gan.run(order, first_step=(epoch - 1) * STEPS)
        means = {name: float(np.mean(getattr(metrics, name), dtype=np.float64)) for name in STEP_METRICS}
        assert step_metrics(reports[epoch - 1]) == means
    found, expected = gan.state(), reports[1].checkpoint.arrays
    assert [name for name in expected if found[name].tobytes() != expected[name].tobytes()] == []


@pytest.mark.usefixtures("_step_by_step")
def test_same_seed_same_bits(reports, images):
    """A second training gives the same bits though each of its calls holds one step, and its consumer may stop early.

    The metrics of an epoch are the means of the steps' own.
    """
    progress: list[Progress] = []
    again = train(CONFIGURATION, images, on_progress=progress.append)
    first = next(again)
    again.close()
    require_equal(first.checkpoint, reports[0].checkpoint)
    assert [p.step for p in progress] == [1, 2, 3, 4]
    for name in ("generator_loss", "discriminator_loss"):
        assert first.record.metrics[name] == np.mean([getattr(p, name) for p in progress])


@pytest.mark.slow
@pytest.mark.usefixtures("_step_by_step")
def test_another_seed_gives_another_training(reports, images):
    """Another seed gives other weights, losses and images."""
    other = next(train(CONFIGURATION.model_copy(update={"seed": 12}), images))
    assert other.checkpoint.weights_sha256() != reports[0].checkpoint.weights_sha256()
    assert all(other.record.metrics[name] != reports[0].record.metrics[name] for name in STEP_METRICS[:2])
    assert not np.array_equal(other.grid, reports[0].grid)


@pytest.mark.usefixtures("_step_by_step")
@pytest.mark.parametrize(("epoch", "on_disk"), [pytest.param(1, False, marks=pytest.mark.slow), (2, True)])
def test_a_resumed_run_has_the_bits_of_an_uninterrupted_one(reports, images, tmp_path, epoch, on_disk):
    """From the state after any epoch, in memory or from the disk, the rest is as if nothing had happened."""
    start = reports[epoch - 1].checkpoint
    if on_disk:
        save_checkpoint(tmp_path / "state", start)
        start = load_checkpoint(tmp_path / "state")
    rest = list(train(CONFIGURATION, images, start))
    assert [report.record.epoch for report in rest] == list(range(epoch + 1, EPOCHS + 1))
    for found, expected in zip(rest, reports[epoch:], strict=True):
        require_equal(found.checkpoint, expected.checkpoint)
        np.testing.assert_array_equal(found.grid, expected.grid)
        assert found.checkpoint.metadata.records[:epoch] == start.metadata.records


def test_nothing_comes_after_the_last_epoch(reports, images):
    """Resuming from the state after the last epoch reports nothing."""
    assert list(train(CONFIGURATION, images, reports[-1].checkpoint)) == []


@pytest.mark.slow
def test_same_bits_in_another_process(reports, images, tmp_path):
    """Another process that stops after an epoch and resumes from the disk passes through the same weights."""
    np.save(tmp_path / "images.npy", images)
    command = [sys.executable, "-c", TRAIN_IN_TWO_PARTS, str(tmp_path), CONFIGURATION.model_dump_json()]
    done = subprocess.run(command, cwd=CHECKOUT, env=ENVIRONMENT, check=True, capture_output=True, text=True)
    assert json.loads(done.stdout.splitlines()[-1]) == [report.checkpoint.weights_sha256() for report in reports]


@pytest.mark.parametrize(("rows", "max_images", "held"), [(BATCH - 1, None, 15), (ROWS, 8, 8)])
def test_batch_larger_than_the_data_is_refused(images, rows, max_images, held):
    """A batch larger than the images, or than those that the recipe takes of them, is an error that says both sizes."""
    recipe = RECIPE.model_copy(update={"max_images": max_images})
    with pytest.raises(DataError) as refused:
        next(train(CONFIGURATION.model_copy(update={"recipe": recipe}), images[:rows]))
    assert str(refused.value) == (
        f"A batch of 16 images is larger than the training set of {held}; expected a smaller batch_size or more data."
    )


@pytest.mark.parametrize("seconds_per_call", [0.0, 1e9])
def test_divergence_is_reported_with_its_step(reports, images, monkeypatch, seconds_per_call):
    """A loss that is not finite ends the training and names the step of the image that spoils it; no report comes.

    The step is counted since the training began, though this one resumes from the state after its second epoch. It is
    the first one, also when its compiled call holds a later step too, which both losses are spoilt in.
    """
    monkeypatch.setattr(training, "SECONDS_PER_CALL", seconds_per_call)
    spoilt = images.copy()
    spoilt[epoch_order(CONFIGURATION.seed, 3, ROWS, BATCH)[2, 5], 3, 3] = np.nan
    progress: list[Progress] = []
    with pytest.raises(TrainingDivergedError) as diverged:
        next(train(CONFIGURATION, spoilt, reports[1].checkpoint, on_progress=progress.append))
    assert str(diverged.value) == (
        "The discriminator loss is not finite at step 10 (epoch 3); "
        "expected finite losses: lower the learning rates or use float32."
    )
    assert [p.step for p in progress] == [1, 2]


def test_what_the_losses_hide_is_found_in_the_state(reports, images):
    """Rectifiers that leak nothing make zero of what is no number, so losses stay finite; the state does not."""
    spoilt = images.copy()
    spoilt[epoch_order(CONFIGURATION.seed, 3, ROWS, BATCH)[-1, 5], 3, 3] = np.nan
    recipe = RECIPE.model_copy(update={"negative_slope": 0.0})
    with pytest.raises(TrainingDivergedError, match=r"^The state's \S+ is not finite after epoch 3; expected finite n"):
        next(train(CONFIGURATION.model_copy(update={"recipe": recipe}), spoilt, reports[1].checkpoint))


def test_state_of_another_model_is_refused(reports, images):
    """A state whose arrays have other names or shapes than the model's is refused by the first that differs."""
    whole = reports[0].checkpoint
    name = next(iter(whole.arrays))
    renamed = {("other" if n == name else n): array for n, array in whole.arrays.items()}
    reshaped = {**whole.arrays, name: whole.arrays[name][:-1]}
    for arrays, said in ((renamed, f"{name}, other"), (reshaped, name)):
        with pytest.raises(CheckpointError, match=said):
            next(train(CONFIGURATION, images, dataclasses.replace(whole, arrays=arrays)))


def test_evaluations_come_when_they_are_due(images):
    """Every second epoch, and the last one; the others have no metrics of an evaluation."""
    changed = RECIPE.changed({"evaluate_every": 2})
    configuration = CONFIGURATION.model_copy(update={"recipe": changed})
    reports = train(configuration, images, evaluate=lambda _: {"frechet_distance": 1.0})
    assert ["frechet_distance" in report.record.metrics for report in reports] == [False, True, True]


def test_images_that_are_not_finite_end_the_run(images):
    """Weights can be huge and still finite; the images are not, and a grid of them would be black."""
    changes = {"generator_learning_rate": 1e25, "ema_half_life_images": None, "max_images": BATCH, "epochs": 1}
    configuration = CONFIGURATION.model_copy(update={"recipe": RECIPE.changed(changes)})
    with pytest.raises(TrainingDivergedError, match=r"^The generated images are not finite after epoch 1; expected"):
        list(train(configuration, images))
