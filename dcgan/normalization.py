"""Batch normalisation and the leaky rectifier, fused as far as TensorFlow's operations go, on any number of devices.

Keras' batch normalisation takes some ten passes over the maps; here the two sums over all rows are matrix products,
and the gradient is written out. Maps may have any leading axes; the last holds the channels, phases before them.
"""

import keras
import tensorflow as tf

from dcgan.device import replica_count, replica_sum

LEAKY_SLOPE = 0.3  # Keras' default, which the seed uses; the DCGAN paper has 0.2


@tf.custom_gradient
def rectified(x: tf.Tensor) -> tuple[tf.Tensor, object]:
    """Return the leaky rectifier of x, whose gradient keeps the result instead of x.

    The gradient needs x's sign only, which the result has too; TensorFlow can then fuse the rectifier with what made x.
    """
    y = tf.nn.leaky_relu(x, LEAKY_SLOPE)
    return y, lambda gradient: _rectified_gradient(gradient, y)


def _rectified_gradient(gradient: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    return tf.raw_ops.LeakyReluGrad(gradients=gradient, features=y, alpha=LEAKY_SLOPE)


def normalized(layer: keras.layers.BatchNormalization, maps: tf.Tensor) -> tf.Tensor:
    """Return the maps batch-normalised and rectified, and update the layer's moving statistics."""
    rows = tf.reshape(maps, [-1, layer.gamma.shape[0]])
    gamma, beta = tf.convert_to_tensor(layer.gamma), tf.convert_to_tensor(layer.beta)
    y, mean, variance = _normalized_rows(rows, gamma, beta, layer.epsilon)
    for moving, value in ((layer.moving_mean, mean), (layer.moving_variance, variance)):
        moving.assign(layer.momentum * moving + (1 - layer.momentum) * value)
    return tf.reshape(y, tf.shape(maps))


@tf.custom_gradient
def _normalized_rows(
    x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, epsilon: float
) -> tuple[tuple[tf.Tensor, tf.Tensor, tf.Tensor], object]:
    """Return rows normalised over all devices' rows and rectified, their mean, and their variance.

    (Ioffe and Szegedy, https://arxiv.org/abs/1502.03167: algorithm 1, and the gradients of section 3.)
    """
    count = tf.cast(tf.shape(x)[0] * replica_count(), tf.float32)
    mean, square = tf.unstack(replica_sum(tf.stack([_column_sums(x), _column_sums(x * x)])) / count)
    variance = tf.maximum(square - mean * mean, 0)
    inverse = tf.math.rsqrt(variance + epsilon)
    scale = gamma * inverse
    y = tf.nn.leaky_relu(tf.nn.bias_add(x * scale, beta - mean * scale), LEAKY_SLOPE)

    def gradient(dy: tf.Tensor, *_: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, None]:
        dy = _rectified_gradient(dy, y)
        d_beta = _column_sums(dy)
        d_gamma = (_column_sums(dy * x) - mean * d_beta) * inverse
        all_beta, all_gamma = tf.unstack(replica_sum(tf.stack([d_beta, d_gamma])) / count)
        slope = scale * inverse * all_gamma
        dx = tf.nn.bias_add(dy * scale - x * slope, mean * slope - scale * all_beta)
        return dx, d_gamma, d_beta, None

    return (y, mean, variance), gradient


def _column_sums(x: tf.Tensor) -> tf.Tensor:
    # a matrix product sums the rows four times as fast as tf.reduce_sum does
    return tf.matmul(tf.ones([1, tf.shape(x)[0]]), x)[0]
