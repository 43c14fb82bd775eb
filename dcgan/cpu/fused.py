"""Batch normalization, bias and the leaky rectifier in few passes over the maps, on any number of devices.

(Ioffe and Szegedy, https://arxiv.org/abs/1502.03167, algorithm 1.) Keras' own layer is made of a dozen elementwise
operations. Maps may have any leading axes; the last one has the phases and channels.
"""

import keras
import tensorflow as tf

from dcgan.model.replicas import all_reduce_sum, replica_count

Normalized = tuple[tf.Tensor, tf.Tensor, tf.Tensor]


def normalized(layer: keras.layers.BatchNormalization, maps: tf.Tensor, negative_slope: float) -> tf.Tensor:
    """Return the leaky rectifier of `layer(maps, training=True)`, and update the layer's moving statistics.

    Statistics are those of the global batch of all devices.
    """
    channels = layer.gamma.shape[0]
    rows = tf.reshape(maps, [-1, 1, maps.shape[-1] // channels, channels])
    normalize = normalize_locally if replica_count() == 1 else normalize_globally
    y, mean, variance = normalize(
        rows, tf.convert_to_tensor(layer.gamma), tf.convert_to_tensor(layer.beta), layer.epsilon
    )
    for moving, value in ((layer.moving_mean, mean), (layer.moving_variance, variance)):
        moving.assign(layer.momentum * moving + (1 - layer.momentum) * value)
    return rectified(tf.reshape(y, tf.shape(maps)), negative_slope)


def normalize_locally(x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, epsilon: float) -> Normalized:
    """Return the normalized rows, their means and variances on one device."""
    y, mean, variance = tf.compat.v1.nn.fused_batch_norm(x, gamma, beta, epsilon=epsilon, is_training=True)
    # the operation estimates the population's variance, with n - 1 in the denominator; Keras keeps the batch's own
    count = tf.cast(tf.size(x) / tf.size(gamma), tf.float32)
    return y, mean, variance * (count - 1) / count


def normalize_globally(x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, epsilon: float) -> Normalized:
    """Return the normalized rows, their means and variances over the global batch of several devices."""
    full = tf.cast(x, tf.float32)
    local = tf.stack([tf.reduce_mean(full, axis=[0, 1, 2]), tf.reduce_mean(full * full, axis=[0, 1, 2])])
    mean, square = tf.unstack(all_reduce_sum(local) / replica_count())
    variance = tf.maximum(square - mean * mean, 0)
    return tf.cast(tf.nn.batch_normalization(full, mean, variance, beta, gamma, epsilon), x.dtype), mean, variance


def rectified(x: tf.Tensor, negative_slope: float) -> tf.Tensor:
    """Return the leaky rectifier of x, whose gradient keeps the result instead of x.

    The gradient needs only x's sign, which the result has too; TensorFlow can then fuse the rectifier with the
    operation before it.
    """

    @tf.custom_gradient
    def rectify(x: tf.Tensor) -> tuple[tf.Tensor, object]:
        y = tf.nn.leaky_relu(x, negative_slope)
        # constant, or a gradient of this gradient would run backward through the network with zeros
        sign = tf.stop_gradient(y)
        return y, lambda gradient: tf.raw_ops.LeakyReluGrad(gradients=gradient, features=sign, alpha=negative_slope)

    return rectify(x)


@tf.custom_gradient
def biased(maps: tf.Tensor, bias: tf.Tensor) -> tuple[tf.Tensor, object]:
    """Return maps plus a bias for each channel; the bias' gradient is a matrix product instead of TensorFlow's sum."""

    def gradient(at_result: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        rows = tf.reshape(at_result, [-1, at_result.shape[-1]])
        return at_result, tf.reshape(tf.ones([1, tf.shape(rows)[0]], rows.dtype) @ rows, [-1])

    return tf.nn.bias_add(maps, bias), gradient
