"""The GAN's losses and the discriminator's gradient penalty.

The losses are those of Goodfellow et al., https://arxiv.org/abs/1406.2661, section 3, with the non-saturating generator
loss, written as sigmoid cross entropy: -log(sigmoid(x)) = softplus(-x) and -log(1 - sigmoid(x)) = softplus(x). They are
functions of logits alone: logits are float32 of any shape, each loss is a float32 scalar, the mean over all of them.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import tensorflow as tf


def generator_loss(generated_logits: tf.Tensor) -> tf.Tensor:
    """Return the cross entropy of the generated images' logits against ones."""
    return tf.reduce_mean(tf.nn.softplus(-generated_logits))


def discriminator_loss(real_logits: tf.Tensor, generated_logits: tf.Tensor) -> tf.Tensor:
    """Return the cross entropy of real logits against ones plus that of generated logits against zeros."""
    return tf.reduce_mean(tf.nn.softplus(-real_logits)) + tf.reduce_mean(tf.nn.softplus(generated_logits))


# exp(87) is float32's limit, so without it the ratio of the two gradients would not be finite for logits below -87
_SMALLEST_GRADIENT = 1e-20


class LogitGradients(NamedTuple):
    """Derivatives of the losses by each logit, times the number of logits; float32 of the logits' shape.

    Attributes:
        real: Derivative of the discriminator's loss by the real images' logits.
        generated: Derivative of the discriminator's loss by the generated images' logits, at least 1e-20.
        ratio: Factor that turns `generated` into the derivative of the generator's loss.
    """

    real: tf.Tensor
    generated: tf.Tensor
    ratio: tf.Tensor


def logit_gradients(real_logits: tf.Tensor, generated_logits: tf.Tensor) -> LogitGradients:
    """Return what lets one backward pass through the discriminator serve both losses.

    The discriminator never mixes samples, so the gradient of any loss at an image is its derivative by that image's
    logit times the logit's gradient. With d softplus(x) / dx = sigmoid(x), the generator's gradient at a generated
    image is the discriminator's times -sigmoid(-x) / sigmoid(x) = -exp(-x). For x below -46 both are computed from
    1e-20 in place of sigmoid(x): nothing to the discriminator's sum over the batch, and the ratio stays exact.
    """
    generated = tf.maximum(tf.sigmoid(generated_logits), _SMALLEST_GRADIENT)
    return LogitGradients(-tf.sigmoid(-real_logits), generated, -tf.sigmoid(-generated_logits) / generated)


def gradient_penalty(discriminate: Callable[[tf.Tensor], tf.Tensor], images: tf.Tensor) -> tf.Tensor:
    """Return R1 without its factor: half the sum over images of the squared gradient of each image's logit.

    R1 is γ/2 · E‖∇D(x)‖² over real images x, where D is the logit (Mescheder et al.,
    https://arxiv.org/abs/1801.04406, equation 9). With it the game converges where the unpenalised one circles.

    Args:
        discriminate: Maps images to logits (n, 1) without mixing samples.
        images: Real images, float32 (n, 28, 28, 1).

    Returns:
        A float32 scalar.
    """
    with tf.GradientTape() as tape:
        tape.watch(images)
        logits = discriminate(images)
    return tf.reduce_sum(tape.gradient(logits, images) ** 2) / 2


def penalty_gradients(
    discriminate: Callable[[tf.Tensor], tf.Tensor], images: tf.Tensor, weights: Sequence[tf.Variable], factor: float
) -> list[tf.Tensor]:
    """Return the gradients of `factor` times the gradient penalty by each of the discriminator's weights."""
    with tf.GradientTape() as tape:
        penalty = factor * gradient_penalty(discriminate, images)
    return tape.gradient(penalty, weights, unconnected_gradients=tf.UnconnectedGradients.ZERO)
