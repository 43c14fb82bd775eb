"""The GAN's losses as functions of logits alone.

Goodfellow et al., https://arxiv.org/abs/1406.2661, section 3, with the non-saturating generator loss, written as the
sigmoid cross entropy that the seed uses: -log(sigmoid(x)) = softplus(-x) and -log(1 - sigmoid(x)) = softplus(x).
Logits are float32 of any shape; each loss is a float32 scalar, the mean over all of them.
"""

import tensorflow as tf


def generator_loss(generated_logits: tf.Tensor) -> tf.Tensor:
    """Return the cross entropy of the generated images' logits against ones."""
    return tf.reduce_mean(tf.nn.softplus(-generated_logits))


def discriminator_loss(real_logits: tf.Tensor, generated_logits: tf.Tensor) -> tf.Tensor:
    """Return the cross entropy of real logits against ones plus that of generated logits against zeros."""
    return tf.reduce_mean(tf.nn.softplus(-real_logits)) + tf.reduce_mean(tf.nn.softplus(generated_logits))
