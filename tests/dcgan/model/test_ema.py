"""The EMA generator: averaged and recalibrated where the recipe says so, else the trained one."""

import numpy as np
import pytest
import tensorflow as tf

from dcgan.data.idx import read_images
from dcgan.data.parquet import normalise
from dcgan.export import selected_generator
from dcgan.model.ema import EmaGenerator, ema_decay, untrained_images
from dcgan.provenance import Configuration
from dcgan.recipe import LATENT_SIZE, SMOKE
from dcgan.rng import epoch_order, fixed_latents
from dcgan.training.checkpoint import Checkpoint, best_epoch
from dcgan.training.loop import train
from dcgan.training.step import Gan

AVERAGED = SMOKE.model_copy(update={"ema_half_life_images": 64, "batch_size": 32, "max_images": 128, "epochs": 3})
LATENTS = fixed_latents(1, 8, LATENT_SIZE)


@pytest.fixture(scope="module")
def images(mnist_folder):
    """Return the first 128 digits of MNIST's training half."""
    return normalise(read_images(mnist_folder / "train-images-idx3-ubyte.gz")[:128])


@pytest.fixture(scope="module")
def checkpoints(images):
    """Train with averaged weights, evaluated every epoch by metrics that are known, and return each epoch's state."""
    metrics = iter([5.0, 2.0, 3.0])
    recipe = AVERAGED.model_copy(update={"evaluate_every": 1, "checkpoint_selection": "best"})
    configuration = Configuration(recipe=recipe, seed=4, dataset_digest="d" * 64)
    reports = train(configuration, images, evaluate=lambda _: {"frechet_distance": next(metrics)})
    return [report.checkpoint for report in reports]


def test_the_average_is_the_formulas(images):
    """After some steps the averaged weights are those of the recursion, from every fourth step's weights."""
    recipe = AVERAGED.model_copy(update={"ema_ramp_up": 0.5, "ema_half_life_images": 100})
    gan = Gan(recipe, 3, images)
    order = np.concatenate([epoch_order(3, epoch, len(images), 32) for epoch in (1, 2, 3)])
    name = "refine/kernel"
    expected = gan.state()[f"generator/{name}"].astype(np.float64)
    for step in range(10):
        gan.run(order[step : step + 1], step)
        if step in (3, 7):
            seen = 32 * (step + 1)
            decay = 0.5 ** (4 * 32 / min(100, seen * 0.5))
            expected = decay * expected + (1 - decay) * gan.state()[f"generator/{name}"]
    np.testing.assert_allclose(gan.state()[f"ema/{name}"], expected, atol=1e-6)


def test_half_of_the_average_is_older_than_the_half_life():
    """Beyond the ramp, what remains of the average after one half-life is a half."""
    steps = 1000
    decay = float(ema_decay(tf.constant(10**6), batch_size=64, half_life_images=64 * steps, ramp_up=0.05))
    assert decay**steps == pytest.approx(0.5, rel=1e-3)


def test_recalibrated_statistics_are_those_of_generated_batches(images):
    """The EMA generator's moving mean is the mean over many batches, not what training left."""
    gan = Gan(AVERAGED, 3, images)
    gan.run(epoch_order(3, 1, len(images), 32), 0)
    state = gan.state()
    shown = EmaGenerator(AVERAGED, 3).generator(state)
    latents = np.random.default_rng(0).standard_normal((4096, LATENT_SIZE), dtype=np.float32)
    projected = latents @ state["ema/project/kernel"]
    recalibrated = shown.get_layer("project_norm")
    np.testing.assert_allclose(recalibrated.moving_variance, projected.var(axis=0), rtol=0.25)
    assert np.abs(np.asarray(recalibrated.moving_mean) - projected.mean(axis=0)).max() < 0.2
    assert recalibrated.momentum == 0.99, "the layer's own momentum is as before"


@pytest.mark.slow
def test_a_state_always_shows_the_same(images):
    """Showing is a pure function of the state, whatever was shown before."""
    gan = Gan(AVERAGED, 3, images)
    first = gan.state()
    gan.run(epoch_order(3, 1, len(images), 32), 0)
    ema = EmaGenerator(AVERAGED, 3)
    images = np.asarray(ema.generator(first)(LATENTS, training=False))
    ema.generator(gan.state())
    assert np.array_equal(np.asarray(ema.generator(first)(LATENTS, training=False)), images)


def test_without_averages_the_trained_one_is_shown(images):
    """`classic` shows its generator with the moving statistics that training left."""
    recipe = AVERAGED.model_copy(update={"ema_half_life_images": None})
    gan = Gan(recipe, 3, images)
    gan.run(epoch_order(3, 1, len(images), 32), 0)
    shown = EmaGenerator(recipe, 3).generator(gan.state())
    np.testing.assert_allclose(shown(LATENTS, training=False), gan.generate(LATENTS), atol=1e-5)


def test_untrained_is_what_a_training_begins_with(images):
    """The images before the first step are those of the generator that is then trained."""
    gan = Gan(AVERAGED, 4, images)
    begun_with = np.asarray(gan.generator(LATENTS, training=False))
    np.testing.assert_allclose(untrained_images(AVERAGED, 4, LATENTS), begun_with, rtol=0, atol=1e-6)
    assert not np.allclose(untrained_images(AVERAGED, 5, LATENTS), begun_with, rtol=0, atol=1e-3)


def shown_after(checkpoint):
    """Return the images of the EMA generator of a checkpoint's last epoch."""
    recipe = checkpoint.metadata.configuration.recipe
    return np.asarray(EmaGenerator(recipe, 4).generator(checkpoint.arrays)(LATENTS, training=False))


def test_the_best_epoch_is_selected(checkpoints):
    """The generator of the epoch with the smallest distance is kept, and selected, though training continued."""
    assert [checkpoint.best_epoch for checkpoint in checkpoints] == [1, 2, 2]
    second, last = checkpoints[1:]
    assert last.selected.epoch == 2
    np.testing.assert_allclose(selected_generator(last)(LATENTS, training=False), shown_after(second), atol=1e-5)


def test_the_last_epoch_is_selected_where_the_recipe_does_not_ask_for_the_best(images):
    """It is registered as it was shown and evaluated, though an earlier epoch was better."""
    metrics = iter([2.0, 5.0])
    recipe = AVERAGED.changed({"epochs": 2, "evaluate_every": 1})
    configuration = Configuration(recipe=recipe, seed=4, dataset_digest="d" * 64)
    *_, report = train(configuration, images, evaluate=lambda _: {"frechet_distance": next(metrics)})
    last = report.checkpoint
    assert (last.best_epoch, last.selected.epoch) == (1, 2)
    np.testing.assert_allclose(selected_generator(last)(LATENTS, training=False), shown_after(last), atol=1e-5)


@pytest.mark.slow
def test_a_resumed_training_keeps_the_best(checkpoints, images):
    """Resuming from the best epoch's state, a worse epoch does not displace it."""
    second, last = checkpoints[1:]
    (report,) = train(second.metadata.configuration, images, second, evaluate=lambda _: {"frechet_distance": 3.0})
    resumed: Checkpoint = report.checkpoint
    kept, expected = resumed.selected_weights, last.selected_weights
    assert kept.keys() == expected.keys()
    assert all(np.array_equal(kept[name], expected[name]) for name in expected)
    assert resumed.weights_sha256() == last.weights_sha256()


def test_no_epoch_is_best_where_none_was_evaluated(checkpoints):
    """Without metrics there is no best."""
    records = [record.model_copy(update={"metrics": {}}) for record in checkpoints[-1].metadata.records]
    assert best_epoch(records) is None


def test_an_evaluation_tells_its_time(checkpoints):
    """Every evaluated epoch says how much of its time its evaluation took."""
    for record in checkpoints[-1].metadata.records:
        assert 0 < record.metrics["evaluation_seconds"] < record.metrics["epoch_seconds"]
