"""The GAN's losses as functions of logits alone.

Goodfellow et al., https://arxiv.org/abs/1406.2661, section 3, with the non-saturating generator loss, written as the
sigmoid cross entropy that the seed uses: -log(sigmoid(x)) = softplus(-x) and -log(1 - sigmoid(x)) = softplus(x).
Logits are float32 of any shape; each loss is a float32 scalar, the mean over all of them.
"""

from typing import NamedTuple

import tensorflow as tf


def generator_loss(generated_logits: tf.Tensor) -> tf.Tensor:
    """Return the cross entropy of the generated images' logits against ones."""
    return tf.reduce_mean(tf.nn.softplus(-generated_logits))


def discriminator_loss(real_logits: tf.Tensor, generated_logits: tf.Tensor) -> tf.Tensor:
    """Return the cross entropy of real logits against ones plus that of generated logits against zeros."""
    return tf.reduce_mean(tf.nn.softplus(-real_logits)) + tf.reduce_mean(tf.nn.softplus(generated_logits))


# exp(87) is float32's limit, so without it the ratio of the two slopes would not be finite for logits below -87
_SMALLEST_SLOPE = 1e-20


class Slopes(NamedTuple):
    """Derivatives of the losses by each logit, times the number of logits; float32 of the logits' shape.

    Attributes:
        real: of the discriminator's loss by the real images' logits.
        generated: of the discriminator's loss by the generated images' logits, at least 1e-20.
        ratio: what turns `generated` into the slope of the generator's loss.
    """

    real: tf.Tensor
    generated: tf.Tensor
    ratio: tf.Tensor


def slopes(real_logits: tf.Tensor, generated_logits: tf.Tensor) -> Slopes:
    """Return what one backward pass through the discriminator needs to serve both losses.

    The discriminator never mixes samples, so the gradient of any loss at an image is its slope at that image's logit
    times the logit's gradient. With d softplus(x) / dx = sigmoid(x), the generator's gradient at a generated image is
    the discriminator's times -sigmoid(-x) / sigmoid(x) = -exp(-x). For x below -46 both are computed from a slope of
    1e-20 in place of sigmoid(x): nothing to the discriminator's sum over the batch, and the ratio stays exact.
    """
    generated = tf.maximum(tf.sigmoid(generated_logits), _SMALLEST_SLOPE)
    return Slopes(-tf.sigmoid(-real_logits), generated, -tf.sigmoid(-generated_logits) / generated)
