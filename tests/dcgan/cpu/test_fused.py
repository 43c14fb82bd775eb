"""The fused batch normalisation against Keras' own layer."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from dcgan.cpu.fused import biased, normalize_globally, normalize_locally, normalized, rectified


@pytest.mark.parametrize(("shape", "phases"), [((16, 12), 1), ((49, 4, 12), 4), ((2, 3, 12), 1)])
def test_normalized_is_keras_layers(shape, phases):
    """Results, gradients and moving statistics are those of Keras' layers upon the maps with their phases apart."""
    channels = shape[-1] // phases
    stock, fused = (keras.layers.BatchNormalization(gamma_initializer="uniform") for _ in range(2))
    stock.build((None, channels))
    fused.build((None, channels))
    fused.set_weights(stock.get_weights())
    rows = tf.random.stateless_normal([int(np.prod(shape)) // channels, channels], [0, 1], mean=3, stddev=2)
    weights = tf.random.stateless_normal(rows.shape, [2, 3])
    results = []
    for function in (
        lambda x: keras.layers.LeakyReLU(0.3)(stock(x, training=True)),
        lambda x: tf.reshape(normalized(fused, tf.reshape(x, shape), 0.3), x.shape),
    ):
        layer = fused if results else stock
        with tf.GradientTape() as tape:
            tape.watch(rows)
            y = function(rows)
            total = tf.reduce_sum(weights * y)
        results.append([y, *tape.gradient(total, [rows, *(v.value for v in layer.trainable_variables)])])
    for actual, expected in zip(*reversed(results), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=2e-5 * np.abs(expected).max())
    for actual, expected in zip(fused.get_weights(), stock.get_weights(), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


def test_both_formulas_agree():
    """What several devices compute is what one computes with TensorFlow's operation, its variance the batch's own."""
    x = tf.random.stateless_normal([6, 1, 2, 5], [0, 1], mean=1)
    gamma, beta = tf.linspace(0.5, 2.0, 5), tf.linspace(-1.0, 1.0, 5)
    here, everywhere = (f(x, gamma, beta, 1e-3) for f in (normalize_locally, normalize_globally))
    for one, other in zip(here, everywhere, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(here[2], np.var(x.numpy().reshape(-1, 5), axis=0), rtol=1e-5)


def test_rectified_is_leaky_relu():
    """The rectifier and its gradient are TensorFlow's, on both sides of zero."""
    x = tf.constant([-2.0, -0.5, 0.5, 3.0])
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = rectified(x, 0.2)
    np.testing.assert_array_equal(y, tf.nn.leaky_relu(x, 0.2))
    np.testing.assert_allclose(tape.gradient(y, x), [0.2, 0.2, 1, 1])


def test_biased_is_bias_add():
    """The sum and both gradients are TensorFlow's."""
    maps, bias = tf.random.stateless_normal([3, 4, 5], [0, 1]), tf.linspace(-1.0, 1.0, 5)
    found = []
    for function in (biased, tf.nn.bias_add):
        with tf.GradientTape() as tape:
            tape.watch([maps, bias])
            total = tf.reduce_sum(function(maps, bias) ** 2)
        found.append([total, *tape.gradient(total, [maps, bias])])
    for actual, expected in zip(*found, strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-5)
