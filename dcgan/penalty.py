"""The gradient penalty that keeps the discriminator as flat around real images as it can afford to be.

R1: γ/2 · E‖∇D(x)‖² over real images x, where D is the logit (Mescheder et al., https://arxiv.org/abs/1801.04406,
equation 9). With it the game converges where the unpenalised one circles.
"""

from collections.abc import Callable, Sequence

import tensorflow as tf


def gradient_penalty(discriminate: Callable[[tf.Tensor], tf.Tensor], images: tf.Tensor) -> tf.Tensor:
    """Return half the sum over images of the squared gradient of each one's logit, a float32 scalar.

    Args:
        discriminate: from images to logits (n, 1), without mixing samples.
        images: float32 (n, 28, 28, 1).
    """
    with tf.GradientTape() as tape:
        tape.watch(images)
        logits = discriminate(images)
    return tf.reduce_sum(tape.gradient(logits, images) ** 2) / 2


def penalty_gradients(
    discriminate: Callable[[tf.Tensor], tf.Tensor], images: tf.Tensor, weights: Sequence[tf.Variable], factor: float
) -> list[tf.Tensor]:
    """Return the gradients of `factor` times the penalty by each of the discriminator's weights."""
    with tf.GradientTape() as tape:
        penalty = factor * gradient_penalty(discriminate, images)
    return tape.gradient(penalty, weights, unconnected_gradients=tf.UnconnectedGradients.ZERO)
