"""Dropout whose masks are a pure function of a seed, on any number of devices, unlike those of Keras' own layer."""

import math
from typing import Any

import keras
import tensorflow as tf

from dcgan.model.replicas import local_shard

# Eight random bits decide on an element: a quarter of the cost of TensorFlow's own 32.
LEVELS = 2**8


def dropout_scale(rate: float) -> float:
    """Return the factor for the elements that are kept, which preserves the expected value."""
    return 1 / (1 - rate)


def dropout_mask(seed: tf.Tensor, index: int, rate: float, shape: list[Any], batch_axis: int) -> tf.Tensor:
    """Return which elements are dropped, a bool tensor of `shape`; each is dropped with probability `rate`.

    An element is dropped if its random byte is below a threshold. Since `256 · rate` is not an integer, the threshold
    is rounded down or up, drawn for each index of the last axis so that its mean is exact. Elements that share a
    threshold hardly depend on one another: their correlation is at most 1 / (4 · 256² · rate · (1 - rate)).

    Args:
        seed: Seed, int32 (2,).
        index: Folded into the seed, so that two layers of a network differ.
        rate: Dropout rate, in [0, 0.99].
        shape: Shape of this device's activations.
        batch_axis: The axis of the samples, not the last one; several devices divide one global mask along it.
    """
    fold = tf.random.experimental.stateless_fold_in
    seed = fold(seed, index, alg="philox")
    below = math.floor(LEVELS * rate)
    above = _uniform(_random_words(shape[-1:], fold(seed, 1, alg="philox"))) < LEVELS * rate - below
    thresholds = tf.cast(below + tf.cast(above, tf.int32), tf.uint8)

    def draw(global_shape: list[Any]) -> tf.Tensor:
        elements = tf.reduce_prod(global_shape)
        words = (elements + 3) // 4
        bits = tf.bitcast(_random_words([words], seed), tf.uint8)
        return tf.reshape(tf.reshape(bits, [-1])[:elements], global_shape)

    return local_shard(draw, shape, batch_axis) < thresholds


def _random_words(shape: list[Any], seed: tf.Tensor) -> tf.Tensor:
    """Return random bits, uint32 of `shape`: the same whether or not XLA compiles the draw, unlike floats."""
    return tf.random.stateless_uniform(shape, seed, minval=None, maxval=None, dtype=tf.uint32, alg="philox")


def _uniform(words: tf.Tensor) -> tf.Tensor:
    """Return float32 numbers in [0, 1), made of random bits as TensorFlow makes them outside XLA."""
    return tf.bitcast((words & 0x7FFFFF) | 0x3F800000, tf.float32) - 1  # a random fraction of a number in [1, 2)


def shape_of(x: tf.Tensor) -> list[Any]:
    """Return the sizes of x's axes: an int where it is known when the step is traced, else a scalar tensor."""
    return [tf.shape(x)[axis] if size is None else size for axis, size in enumerate(x.shape)]


@keras.saving.register_keras_serializable(package="dcgan")
class SeededDropout(keras.layers.Layer):
    """Dropout whose mask is a pure function of a seed that the caller passes in.

    Keras' own Dropout keeps a random state that is saved with neither the weights nor the optimizer, so a training run
    that is resumed would draw other masks. (Srivastava et al., https://jmlr.org/papers/v15/srivastava14a.html.)

    Args:
        rate: Fraction of the elements set to zero, in [0, 0.99]; the rest is scaled by 1 / (1 - rate). With 0 nothing
            is drawn.
        index: Folded into the seed, so that two layers of a network differ.

    Call arguments:
        inputs: The pair (x, seed): x float (batch, ...), seed int32 (2,).
        training: False returns x unchanged.
    """

    def __init__(self, rate: float, index: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.rate = rate
        self.index = index

    def call(self, inputs: tuple[tf.Tensor, tf.Tensor], training: bool = False) -> tf.Tensor:
        """Return x with a fraction of its elements dropped, or x itself when not training."""
        x, seed = inputs
        if not training or not self.rate:
            return x
        mask = dropout_mask(seed, self.index, self.rate, shape_of(x), batch_axis=0)
        return tf.where(mask, tf.zeros([], x.dtype), tf.cast(dropout_scale(self.rate), x.dtype) * x)

    def compute_output_shape(self, input_shape: tuple[Any, Any]) -> Any:
        """Return the shape of x."""
        return input_shape[0]

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that recreate this layer."""
        return {**super().get_config(), "rate": self.rate, "index": self.index}
