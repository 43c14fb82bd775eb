"""The losses against Keras' cross entropy, and the logit gradients against automatic differentiation."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from dcgan.model.losses import discriminator_loss, generator_loss, logit_gradients

LOGITS = np.random.default_rng(0).normal(0, 4, (2, 64)).astype(np.float32)


def test_losses_are_keras_cross_entropies():
    """Both losses are the sigmoid cross entropies that the reference implementation names."""
    real, generated = LOGITS
    cross_entropy = keras.losses.BinaryCrossentropy(from_logits=True)
    ones, zeros = np.ones(64, np.float32), np.zeros(64, np.float32)
    expected = cross_entropy(ones, real) + cross_entropy(zeros, generated)
    assert float(discriminator_loss(real, generated)) == pytest.approx(float(expected), rel=1e-6)
    assert float(generator_loss(generated)) == pytest.approx(float(cross_entropy(ones, generated)), rel=1e-6)


def test_slopes_are_the_derivatives():
    """The logit gradients are the losses' derivatives times the number of logits, by automatic differentiation."""
    real, generated = map(tf.constant, LOGITS)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([real, generated])
        of_discriminator, of_generator = discriminator_loss(real, generated), generator_loss(generated)
    by_logit = logit_gradients(real, generated)
    by_real, by_generated = tape.gradient(of_discriminator, [real, generated])
    np.testing.assert_allclose(by_logit.real, 64 * by_real, rtol=1e-5)
    np.testing.assert_allclose(by_logit.generated, 64 * by_generated, rtol=1e-5)
    np.testing.assert_allclose(
        by_logit.ratio * by_logit.generated, 64 * tape.gradient(of_generator, generated), rtol=1e-5
    )
    np.testing.assert_allclose(by_logit.ratio, -tf.exp(-generated), rtol=1e-5)


@pytest.mark.parametrize("logit", [-1e30, -200.0, -88.0, -40.0, 0.0, 40.0, 200.0, 1e30])
def test_slopes_are_exact_however_sure_the_discriminator_is(logit):
    """At any logit the generator's derivative is right, and the discriminator's to within 1e-20."""
    by_logit = logit_gradients(tf.constant([logit]), tf.constant([logit]))
    exact = -0.5 * (1 - np.tanh(np.float64(logit) / 2))
    assert np.isfinite(by_logit.ratio.numpy()).all()
    np.testing.assert_allclose(by_logit.generated * by_logit.ratio, [exact], rtol=1e-5, atol=1e-17)
    np.testing.assert_allclose(by_logit.generated, [1 + exact], rtol=1e-5, atol=1e-17)


def test_losses_are_finite_at_extremes():
    """No logit overflows a loss: it grows as the logit does."""
    for logit in (-1e4, 1e4):
        logits = tf.constant([logit])
        losses = [float(generator_loss(logits)), float(discriminator_loss(logits, -logits))]
        assert sorted(losses)[0] >= 0
        assert np.isfinite(losses).all()
