"""Dropout that Keras does not have: its masks are a pure function of a seed, on any number of devices."""

import math
from typing import Any

import keras
import tensorflow as tf

from dcgan.device import replica_part

# Sixteen random bits decide on an element: half the cost of TensorFlow's own 32, and a rate right to 1 / 2**17.
_LEVELS = 2**16


def dropout_threshold(rate: float) -> int:
    """Return how many of the 65,536 values of a 16-bit number drop an element; 0.3 becomes 0.300003."""
    return round(rate * _LEVELS)


def dropout_scale(rate: float) -> float:
    """Return the factor for the elements that stay, which keeps the expected value."""
    return _LEVELS / (_LEVELS - dropout_threshold(rate))


def dropped(seed: tf.Tensor, index: int, rate: float, shape: list[Any], batch_axis: int) -> tf.Tensor:
    """Return which elements are dropped, bool of `shape`; each independently with probability `rate`.

    Args:
        seed: int32 (2,).
        index: folded into the seed, so that two layers of a network differ.
        rate: in [0, 1), rounded to a multiple of 1 / 65,536.
        shape: of this device's maps.
        batch_axis: the axis of the samples; several devices divide one global mask along it.
    """
    seed = tf.random.experimental.stateless_fold_in(seed, index, alg="philox")

    def draw(global_shape: list[Any]) -> tf.Tensor:
        elements = tf.reduce_prod(global_shape)
        bits = tf.random.stateless_uniform(
            [(elements + 1) // 2], seed, minval=None, maxval=None, dtype=tf.uint32, alg="philox"
        )
        halves = tf.reshape(tf.bitcast(bits, tf.uint16), [-1])[:elements]
        return tf.reshape(halves, global_shape) < tf.constant(dropout_threshold(rate), tf.uint16)

    return replica_part(draw, shape, batch_axis)
