"""Dropout whose masks are a function of the seed, at the rate that it documents."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from dcgan.model.dropout import LEVELS, SeededDropout, dropout_mask, dropout_scale, shape_of

SEED = tf.constant([1, 2])


@pytest.mark.parametrize("rate", [0.0, 0.001, 0.1, 0.3, 0.5, 0.9, 0.99])
def test_rate_is_right(rate):
    """The dropped fraction is the rate within its standard error, though no byte has a threshold at 0.3."""
    shape = [1000, 1000]
    fraction = float(tf.reduce_mean(tf.cast(dropout_mask(SEED, 0, rate, shape, 0), tf.float64)))
    # of the elements, and of the thresholds that a thousand of them share
    variance = rate * (1 - rate) / 1_000_000 + 1 / (4 * LEVELS**2 * 1000)
    assert abs(fraction - rate) <= 5 * np.sqrt(variance) * (rate > 0)
    assert dropout_scale(rate) * (1 - rate) == pytest.approx(1)


def test_thresholds_are_drawn_anew():
    """Both thresholds around 0.3 are there, in the right fractions, and other columns have them with another seed."""
    fractions = [np.mean(np.asarray(dropout_mask(SEED + k, 0, 0.3, [400_000, 64], 0), float), axis=0) for k in (0, 1)]
    above = [share > 76.5 / LEVELS for share in fractions]
    assert all(0.6 < columns.mean() < 0.98 for columns in above)
    assert (above[0] != above[1]).any()


def test_elements_are_independent():
    """Masks of neighbouring elements, of the bytes of a random word, of layers and of seeds do not correlate."""
    mask = np.asarray(dropout_mask(SEED, 0, 0.3, [1000, 100], 0), float).ravel()
    others = [
        mask[1:],  # the next byte of the word, and the next word
        mask[100:],  # of the same threshold
        np.asarray(dropout_mask(SEED, 1, 0.3, [1000, 100], 0), float).ravel(),
        np.asarray(dropout_mask(SEED + 1, 0, 0.3, [1000, 100], 0), float).ravel(),
    ]
    for other in others:
        assert abs(np.corrcoef(mask[: len(other)], other)[0, 1]) < 5 / np.sqrt(100_000)


@pytest.mark.parametrize("shape", [[3], [2, 3], [5, 1, 7]])
def test_any_shape(shape):
    """A mask has any shape, of an odd number of elements too, and depends on nothing but its arguments."""
    mask = dropout_mask(SEED, 3, 0.5, shape, 0)
    assert (mask.shape, mask.dtype) == (tuple(shape), tf.bool)
    np.testing.assert_array_equal(mask, tf.function(lambda: dropout_mask(SEED, 3, 0.5, shape, 0))())


def test_layer_drops_and_scales():
    """In training each element is dropped or scaled so that the mean stays; otherwise nothing happens."""
    layer = SeededDropout(0.3, index=0)
    x = tf.ones([50, 1000])
    y = layer((x, SEED), training=True).numpy()
    np.testing.assert_allclose(np.unique(y), [0, dropout_scale(0.3)], rtol=1e-6)
    assert y.mean() == pytest.approx(1, abs=0.02)
    np.testing.assert_array_equal(layer((x, SEED), training=False), x)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    np.testing.assert_array_equal(again((x, SEED), training=True), y)


def test_batch_size_may_be_unknown_to_the_graph():
    """A compiled function serves batches of any size."""

    @tf.function(input_signature=[tf.TensorSpec([None, 4])])
    def run(x: tf.Tensor) -> tf.Tensor:
        assert isinstance(shape_of(x)[1], int)
        return SeededDropout(0.3, index=0)((x, SEED), training=True)

    assert [run(tf.ones([size, 4])).shape[0] for size in (1, 5)] == [1, 5]
