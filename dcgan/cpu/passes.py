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
from dcgan.model.networks import (
    DISCRIMINATOR_LAYERS,
    GENERATOR_LAYERS,
    HIDDEN,
    KerasPasses,
    hidden_layer,
    require_layers,
)

OWN = ("The fast path for processors", "convolution=direct for other networks than dcgan/cpu knows")


class FourierPasses(KerasPasses):
    """Runs the networks with the large convolutions in the Fourier domain, the thin ones by patches.

    Results are those of `KerasPasses`, except that other dropout masks are drawn.

    Args:
        dtype: What maps, transforms and products are computed in, float32 or bfloat16. Weights, images, statistics of
            the batch and logits are float32 in either.
    """

    name = "dft"
    conv2d = DftConv2D
    conv2d_transpose = DftConv2DTranspose

    def __init__(self, dtype: tf.DType = tf.float32) -> None:
        self._dtype = dtype

    def generate(self, generator: keras.Model, latents: tf.Tensor) -> tf.Tensor:
        """Return `generator(latents, training=True)`, moving statistics updated; float32 (n, 28, 28, 1)."""
        require_layers(generator, GENERATOR_LAYERS, *OWN)
        layer = generator.get_layer
        projected = self._cast(latents) @ self._cast(layer("project").kernel)
        maps = _normalized(generator, "project", projected)
        maps = tf.transpose(tf.reshape(maps, [-1, GRID**2, maps.shape[1] // GRID**2]), [1, 0, 2])
        maps = _normalized(generator, "refine", layer("refine").on_grid(maps))
        maps = _normalized(generator, "to_14x14", layer("to_14x14").on_grid(maps))
        kernel = self._cast(patch_kernel(layer("to_28x28")))
        patches = tf.matmul(tf.reshape(maps, [-1, maps.shape[2]]), kernel, transpose_b=True)
        return layer("to_28x28").activation(col2im(tf.cast(patches, tf.float32)))

    def discriminate(self, discriminator: keras.Model, images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """Return the logits of images under dropout drawn from `seed`, float32 (n, 1)."""
        require_layers(discriminator, DISCRIMINATOR_LAYERS, *OWN)
        kernel = self._cast(patch_kernel(discriminator.get_layer("to_14x14")))
        return _after_first_product(discriminator, self._cast(im2col(images)) @ kernel, seed)

    def discriminate_pairs(
        self, discriminator: keras.Model, images: tf.Tensor, generated: tf.Tensor, seed: tf.Tensor
    ) -> tf.Tensor:
        """Return the logits of a real image, a generated one, and so on, float32 (2 · n, 1).

        The gradient by `generated` is computed without that by `images`.
        """
        require_layers(discriminator, DISCRIMINATOR_LAYERS, *OWN)
        kernel = self._cast(patch_kernel(discriminator.get_layer("to_14x14")))
        products = paired_matmul(self._cast(im2col(images)), self._cast(im2col(generated)), kernel)
        return _after_first_product(discriminator, products, seed)

    def _cast(self, values: tf.Tensor) -> tf.Tensor:
        return tf.cast(tf.convert_to_tensor(values), self._dtype)


def _normalized(generator: keras.Model, name: str, maps: tf.Tensor) -> tf.Tensor:
    """Return the batch normalization and the rectifier after a layer of its maps."""
    return normalized(generator.get_layer(f"{name}_norm"), maps, generator.get_layer(f"{name}_relu").negative_slope)


def _after_first_product(discriminator: keras.Model, maps: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Return the logits, float32 (n, 1), from the patches' product with the first kernel, (49 · n, 256)."""
    layer = discriminator.get_layer
    first, second = layer("to_14x14"), layer("to_7x7")
    bias = tf.cast(tf.tile(tf.convert_to_tensor(first.bias), [4]), maps.dtype)  # for each phase
    maps = rectified(biased(maps, bias), layer("to_14x14_relu").negative_slope)
    maps = tf.reshape(maps, [GRID**2, -1, maps.shape[1]])
    maps, scale = _dropout(layer("to_14x14_dropout"), maps, seed)
    maps = second.on_grid(maps, scale)
    bias = tf.cast(tf.convert_to_tensor(second.bias), maps.dtype)
    maps = rectified(biased(maps, bias), layer("to_7x7_relu").negative_slope)
    maps, scale = _dropout(layer("to_7x7_dropout"), maps, seed)
    if hidden := hidden_layer(discriminator):
        return layer("logit")(rectified(_dense(hidden, maps, scale), layer(f"{HIDDEN}_relu").negative_slope))
    return _logit(layer("logit"), maps, scale)


def _dense(layer: keras.layers.Dense, maps: tf.Tensor, scale: float) -> tf.Tensor:
    """Return the dense layer of `scale` times the flattened maps, float32 (n, units)."""
    kernel = scale * tf.reshape(tf.convert_to_tensor(layer.kernel), [GRID**2, -1, layer.units])
    products = tf.cast(maps @ tf.cast(kernel, maps.dtype), tf.float32)
    return tf.reduce_sum(products, axis=0) + tf.convert_to_tensor(layer.bias)


def _logit(layer: keras.layers.Dense, maps: tf.Tensor, scale: float) -> tf.Tensor:
    """Return the dense layer of one unit of `scale` times the flattened maps, float32 (n, 1)."""
    # the kernel on the left, so that its gradient reads the maps in their memory layout
    kernel = scale * tf.reshape(tf.convert_to_tensor(layer.kernel), [GRID**2, 1, -1])
    products = tf.matmul(tf.cast(kernel, maps.dtype), maps, transpose_b=True)
    logits = tf.reduce_sum(tf.cast(products, tf.float32), axis=[0, 1])
    return logits[:, None] + tf.convert_to_tensor(layer.bias)


def _dropout(layer: SeededDropout, maps: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, float]:
    """Return the maps with elements dropped, and the scale by which the next layer's smaller kernel is multiplied."""
    if not layer.rate:
        return maps, 1.0
    mask = dropout_mask(seed, layer.index, layer.rate, shape_of(maps), batch_axis=1)
    return tf.where(mask, tf.zeros([], maps.dtype), maps), dropout_scale(layer.rate)
