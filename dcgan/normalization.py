"""Batch normalisation, bias and the leaky rectifier in few passes over the maps, on any number of devices.

(Ioffe and Szegedy, https://arxiv.org/abs/1502.03167, algorithm 1.) Keras' own layer is made of a dozen elementwise
operations. Maps may have any leading axes; the last one holds the phases and channels.
"""

import keras
import tensorflow as tf

from dcgan.device import replica_count, replica_sum

Normalized = tuple[tf.Tensor, tf.Tensor, tf.Tensor]


def normalized(layer: keras.layers.BatchNormalization, maps: tf.Tensor, slope: float) -> tf.Tensor:
    """Return `layer(maps, training=True)`, rectified with a slope below zero, and update its moving statistics.

    Statistics are those of the batch of all devices together.
    """
    channels = layer.gamma.shape[0]
    rows = tf.reshape(maps, [-1, 1, maps.shape[-1] // channels, channels])
    normalize = _normalize_here if replica_count() == 1 else _normalize_everywhere
    y, mean, variance = normalize(
        rows, tf.convert_to_tensor(layer.gamma), tf.convert_to_tensor(layer.beta), layer.epsilon
    )
    for moving, value in ((layer.moving_mean, mean), (layer.moving_variance, variance)):
        moving.assign(layer.momentum * moving + (1 - layer.momentum) * value)
    return rectified(tf.reshape(y, tf.shape(maps)), slope)


def _normalize_here(x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, epsilon: float) -> Normalized:
    y, mean, variance = tf.compat.v1.nn.fused_batch_norm(x, gamma, beta, epsilon=epsilon, is_training=True)
    # the operation gives an estimate for the population, with n - 1 in the denominator; Keras keeps the batch's own
    count = tf.cast(tf.size(x) / tf.size(gamma), tf.float32)
    return y, mean, variance * (count - 1) / count


def _normalize_everywhere(x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, epsilon: float) -> Normalized:
    here = tf.stack([tf.reduce_mean(x, axis=[0, 1, 2]), tf.reduce_mean(x * x, axis=[0, 1, 2])])
    mean, square = tf.unstack(replica_sum(here) / replica_count())
    variance = tf.maximum(square - mean * mean, 0)
    return tf.nn.batch_normalization(x, mean, variance, beta, gamma, epsilon), mean, variance


def rectified(x: tf.Tensor, slope: float) -> tf.Tensor:
    """Return the leaky rectifier of x, whose gradient keeps the result instead of x.

    The gradient needs x's sign only, which the result has too; TensorFlow can then fuse the rectifier with what made x.
    """

    @tf.custom_gradient
    def rectify(x: tf.Tensor) -> tuple[tf.Tensor, object]:
        y = tf.nn.leaky_relu(x, slope)
        return y, lambda gradient: tf.raw_ops.LeakyReluGrad(gradients=gradient, features=y, alpha=slope)

    return rectify(x)


@tf.custom_gradient
def biased(maps: tf.Tensor, bias: tf.Tensor) -> tuple[tf.Tensor, object]:
    """Return maps plus a bias for each channel, whose gradient is a matrix product instead of TensorFlow's sum."""

    def gradient(at_result: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        rows = tf.reshape(at_result, [-1, at_result.shape[-1]])
        return at_result, tf.reshape(tf.ones([1, tf.shape(rows)[0]]) @ rows, [-1])

    return tf.nn.bias_add(maps, bias), gradient
