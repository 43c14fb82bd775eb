"""Layers that Keras does not have."""

from typing import Any

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable(package="dcgan")
class SeededDropout(keras.layers.Layer):
    """Dropout whose mask is a pure function of a seed that the caller passes in.

    Keras' own Dropout keeps a random state that is saved with neither the weights nor the optimizer, so a training
    that is resumed would draw other masks. (Srivastava et al., https://jmlr.org/papers/v15/srivastava14a.html.)

    Args:
        rate: share of the elements set to zero, in [0, 1); the rest is scaled by 1 / (1 - rate).
        index: folded into the seed, so that two layers of a network differ.

    Call arguments:
        inputs: the pair (x, seed): x float of any shape, seed int32 (2,).
        training: False returns x as it is.
    """

    def __init__(self, rate: float, index: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.rate = rate
        self.index = index

    def call(self, inputs: tuple[tf.Tensor, tf.Tensor], training: bool = False) -> tf.Tensor:
        """Return x with a share of its elements dropped, or x itself when not training."""
        x, seed = inputs
        if not training:
            return x
        seed = tf.random.experimental.stateless_fold_in(seed, self.index, alg="philox")
        return tf.nn.experimental.stateless_dropout(x, self.rate, seed=seed, rng_alg="philox")

    def compute_output_shape(self, input_shape: tuple[Any, Any]) -> Any:
        """Return the shape of x."""
        return input_shape[0]

    def get_config(self) -> dict[str, Any]:
        """Return what makes this layer again."""
        return {**super().get_config(), "rate": self.rate, "index": self.index}
