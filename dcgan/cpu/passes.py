"""The training passes of both networks in grid layout: Keras' results, with no transposition between the layers.

The networks own the weights; here their layers' mathematics is written for maps (positions, batch, phases · channels)
on the 7x7 grid (see dcgan/cpu/fourier.py).
"""

import keras
import tensorflow as tf

from dcgan.cpu.fourier import DftConv2D, DftConv2DTranspose
from dcgan.cpu.fused import biased, normalized, rectified
from dcgan.cpu.patches import GRID, col2im, im2col, paired_matmul, patch_kernel
from dcgan.model.dropout import SeededDropout, dropout_mask, dropout_scale, shape_of
from dcgan.model.networks import KerasPasses, hidden_layer


class FourierPasses(KerasPasses):
    """Runs the networks with the large convolutions in the Fourier domain, the thin ones by patches, all in float32.

    Results are those of `KerasPasses`, except that other dropout masks are drawn.
    """

    name = "dft"
    conv2d = DftConv2D
    conv2d_transpose = DftConv2DTranspose

    def generate(self, generator: keras.Model, latents: tf.Tensor) -> tf.Tensor:
        """Return `generator(latents, training=True)`, moving statistics updated; float32 (n, 28, 28, 1)."""
        layer = generator.get_layer
        slope = layer("project_relu").negative_slope
        maps = normalized(layer("project_norm"), latents @ tf.convert_to_tensor(layer("project").kernel), slope)
        maps = tf.transpose(tf.reshape(maps, [-1, GRID**2, maps.shape[1] // GRID**2]), [1, 0, 2])
        maps = normalized(layer("refine_norm"), layer("refine").on_grid(maps), slope)
        maps = normalized(layer("to_14x14_norm"), layer("to_14x14").on_grid(maps), slope)
        kernel = patch_kernel(layer("to_28x28"))
        patches = tf.matmul(tf.reshape(maps, [-1, maps.shape[2]]), kernel, transpose_b=True)
        return layer("to_28x28").activation(col2im(patches))

    def discriminate(self, discriminator: keras.Model, images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """Return the logits of images under dropout drawn from `seed`, float32 (n, 1)."""
        kernel = patch_kernel(discriminator.get_layer("to_14x14"))
        return _after_first_product(discriminator, im2col(images) @ kernel, seed)

    def discriminate_pairs(
        self, discriminator: keras.Model, images: tf.Tensor, generated: tf.Tensor, seed: tf.Tensor
    ) -> tf.Tensor:
        """Return the logits of a real image, a generated one, and so on, float32 (2 · n, 1).

        The gradient by `generated` is computed without that by `images`.
        """
        kernel = patch_kernel(discriminator.get_layer("to_14x14"))
        products = paired_matmul(im2col(images), im2col(generated), kernel)
        return _after_first_product(discriminator, products, seed)


def _after_first_product(discriminator: keras.Model, maps: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Return the logits, float32 (n, 1), from the patches' product with the first kernel, (49 · n, 256)."""
    layer = discriminator.get_layer
    first, second, slope = layer("to_14x14"), layer("to_7x7"), layer("to_14x14_relu").negative_slope
    bias = tf.tile(tf.convert_to_tensor(first.bias), [4])  # for each phase
    maps = tf.reshape(rectified(biased(maps, bias), slope), [GRID**2, -1, maps.shape[1]])
    maps, scale = _dropout(layer("to_14x14_dropout"), maps, seed)
    maps = second.on_grid(maps, scale)
    maps = rectified(biased(maps, tf.convert_to_tensor(second.bias)), slope)
    maps, scale = _dropout(layer("to_7x7_dropout"), maps, seed)
    if hidden := hidden_layer(discriminator):
        return layer("logit")(rectified(_dense(hidden, maps, scale), slope))
    return _logit(layer("logit"), maps, scale)


def _dense(layer: keras.layers.Dense, maps: tf.Tensor, scale: float) -> tf.Tensor:
    """Return the dense layer of `scale` times the flattened maps, float32 (n, units)."""
    kernel = scale * tf.reshape(tf.convert_to_tensor(layer.kernel), [GRID**2, -1, layer.units])
    return tf.reduce_sum(maps @ kernel, axis=0) + tf.convert_to_tensor(layer.bias)


def _logit(layer: keras.layers.Dense, maps: tf.Tensor, scale: float) -> tf.Tensor:
    """Return the dense layer of one unit of `scale` times the flattened maps, float32 (n, 1)."""
    # the kernel on the left, so that its gradient reads the maps in their memory layout
    kernel = scale * tf.reshape(tf.convert_to_tensor(layer.kernel), [GRID**2, 1, -1])
    logits = tf.reduce_sum(tf.matmul(kernel, maps, transpose_b=True), axis=[0, 1])
    return logits[:, None] + tf.convert_to_tensor(layer.bias)


def _dropout(layer: SeededDropout, maps: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, float]:
    """Return the maps with elements dropped, and the scale by which the next layer's smaller kernel is multiplied."""
    if not layer.rate:
        return maps, 1.0
    mask = dropout_mask(seed, layer.index, layer.rate, shape_of(maps), batch_axis=1)
    return tf.where(mask, tf.zeros([], tf.float32), maps), dropout_scale(layer.rate)
