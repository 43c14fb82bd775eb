"""Dropout that Keras does not have: its masks are a pure function of a seed, on any number of devices."""

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


@keras.saving.register_keras_serializable(package="dcgan")
class SeededDropout(keras.layers.Layer):
    """Dropout whose mask is a pure function of a seed that the caller passes in.

    Keras' own Dropout keeps a random state that is saved with neither the weights nor the optimizer, so a training
    that is resumed would draw other masks. (Srivastava et al., https://jmlr.org/papers/v15/srivastava14a.html.)

    Args:
        rate: share of the elements set to zero, in [0, 1); the rest is scaled by 1 / (1 - rate). It is rounded to a
            multiple of 1 / 65,536. With 0 nothing is drawn.
        index: folded into the seed, so that two layers of a network differ.

    Call arguments:
        inputs: the pair (x, seed): x float (batch, ...), seed int32 (2,).
        training: False returns x as it is.
    """

    def __init__(self, rate: float, index: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.rate = rate
        self.index = index

    def call(self, inputs: tuple[tf.Tensor, tf.Tensor], training: bool = False) -> tf.Tensor:
        """Return x with a share of its elements dropped, or x itself when not training."""
        x, seed = inputs
        if not training or not self.rate:
            return x
        mask = dropped(seed, self.index, self.rate, shape_of(x), batch_axis=0)
        return tf.where(mask, tf.zeros([], x.dtype), tf.cast(dropout_scale(self.rate), x.dtype) * x)

    def compute_output_shape(self, input_shape: tuple[Any, Any]) -> Any:
        """Return the shape of x."""
        return input_shape[0]

    def get_config(self) -> dict[str, Any]:
        """Return what makes this layer again."""
        return {**super().get_config(), "rate": self.rate, "index": self.index}


def shape_of(x: tf.Tensor) -> list[Any]:
    """Return the sizes of x's axes: an int where it is known when the step is traced, and else a scalar tensor."""
    return [tf.shape(x)[axis] if size is None else size for axis, size in enumerate(x.shape)]
