"""The gradient penalty against its closed form, and in a training step."""

import numpy as np
import pytest
import tensorflow as tf

from dcgan.data.idx import read_images
from dcgan.data.parquet import normalise
from dcgan.model.losses import gradient_penalty, penalty_gradients
from dcgan.model.networks import build_discriminator
from dcgan.recipe import CLASSIC, FAST, PENALTY_INTERVAL
from dcgan.training.step import Gan

NO_SEED = tf.zeros(2, tf.int32)
BATCH = 8


@pytest.fixture(scope="module")
def images(mnist_folder) -> np.ndarray:
    """Return the first digits of MNIST, float32 (32, 28, 28, 1) in [-1, 1]."""
    return normalise(read_images(mnist_folder / "train-images-idx3-ubyte.gz")[: 4 * BATCH])


def test_penalty_of_a_linear_map_is_its_squared_norm(images):
    """Where the logit is w · x, every image's gradient is w, so n images have n ‖w‖² / 2, whose gradient is n w."""
    w = tf.Variable(np.random.default_rng(0).standard_normal((784, 1)).astype(np.float32))

    def logits(x):
        return tf.reshape(x, [-1, 784]) @ w

    batch = tf.constant(images[:BATCH])
    np.testing.assert_allclose(gradient_penalty(logits, batch), BATCH * np.sum(w.numpy() ** 2) / 2, rtol=1e-5)
    (gradient,) = penalty_gradients(logits, batch, [w], factor=3.0)
    np.testing.assert_allclose(gradient, 3 * BATCH * w.numpy(), rtol=1e-5)


@pytest.mark.parametrize("hidden_units", [None, 16])
def test_gradients_are_eulers(images, hidden_units):
    """With leaky rectifiers and no biases the logit is linear in every kernel's scale, so the penalty P is of degree 2.

    Then ⟨w, ∂P/∂w⟩ = 2 P for every kernel w (Euler's theorem on homogeneous functions), and biases, which shift
    without a slope, have no gradient.
    """
    discriminator = build_discriminator(1, recipe=CLASSIC.changed({"dropout_rate": 0, "hidden_units": hidden_units}))
    weights = [weight.value for weight in discriminator.trainable_variables]
    batch = tf.constant(images[:BATCH])

    def logits(x):
        return discriminator([x, NO_SEED], training=True)

    penalty = float(gradient_penalty(logits, batch))
    assert penalty > 0
    for variable, gradient in zip(
        discriminator.trainable_variables, penalty_gradients(logits, batch, weights, factor=1.0), strict=True
    ):
        product = float(tf.reduce_sum(variable * gradient))
        assert product == pytest.approx(2 * penalty if variable.name == "kernel" else 0, rel=1e-4), variable.path
        assert variable.name == "kernel" or not np.any(gradient)


@pytest.mark.slow
@pytest.mark.parametrize("convolution", ["direct", "dft"])
def test_penalty_changes_the_steps_that_have_it(images, convolution):
    """Steps at a multiple of the interval move the discriminator otherwise than without the penalty; others do not."""
    recipe = FAST.model_copy(
        update={"batch_size": BATCH, "convolution": convolution, "r1_gamma": 0.0, "precision": "float32"}
    )
    order = np.arange(BATCH, dtype=np.int32)[None]
    for first_step, differs in ((PENALTY_INTERVAL, True), (PENALTY_INTERVAL + 1, False)):
        states = []
        for penalty in (0.0, 10.0):
            gan = Gan(recipe.model_copy(update={"r1_gamma": penalty}), 3, images)
            gan.run(order, first_step)
            states.append(gan.state())
        changed = {name.split("/")[0] for name in states[0] if not np.array_equal(states[0][name], states[1][name])}
        assert changed == ({"discriminator", "discriminator_adam"} if differs else set())
