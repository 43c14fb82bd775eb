"""The convolutions from and to images against Keras' stock layers."""

import keras
import numpy as np
import tensorflow as tf

from dcgan.cpu.fourier import from_grid, to_grid
from dcgan.cpu.patches import col2im, im2col, paired_matmul, patch_kernel

TOLERANCE = 1e-5


def results(function, x, kernel):
    """Return a function's result, and the gradients of a weighted sum of it at x and at the kernel."""
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = function(x)
        total = tf.reduce_sum(tf.random.stateless_normal(y.shape, [0, 1]) * y)
    return [y, *tape.gradient(total, [x, kernel])]


def require_same(fast, stock, x, kernel):
    for actual, expected in zip(results(fast, x, kernel), results(stock, x, kernel), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=0, atol=TOLERANCE * np.abs(expected).max())


def test_patches_are_the_first_convolution():
    """Cut patches times the patch kernel are the discriminator's first convolution, gradients included."""
    layer = keras.layers.Conv2D(64, 5, strides=2, padding="same", use_bias=False)
    images = tf.random.stateless_normal([3, 28, 28, 1], [2, 3])
    layer.build(images.shape)

    def fast(x: tf.Tensor) -> tf.Tensor:
        return from_grid(tf.reshape(im2col(x) @ patch_kernel(layer), [49, -1, 256]), (7, 7), 2)

    require_same(fast, layer, images, layer.kernel.value)


def test_patches_are_the_last_convolution():
    """The transposed patch kernel and added patches are the generator's last convolution, gradients included."""
    layer = keras.layers.Conv2DTranspose(1, 5, strides=2, padding="same", use_bias=False)
    maps = tf.random.stateless_normal([3, 14, 14, 64], [2, 3])
    layer.build(maps.shape)

    def fast(x: tf.Tensor) -> tf.Tensor:
        rows = tf.reshape(to_grid(x, 2), [-1, 256])
        return col2im(tf.matmul(rows, patch_kernel(layer), transpose_b=True))

    require_same(fast, layer, maps, layer.kernel.value)


def test_pairs_are_one_product():
    """Rows in turns times a kernel, and all three gradients, are those of one plain product."""
    first, second, kernel = (tf.random.stateless_normal(s, [4, i]) for i, s in enumerate([(6, 49), (6, 49), (49, 8)]))

    def plain(first: tf.Tensor, second: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        return tf.reshape(tf.stack([first @ kernel, second @ kernel], axis=1), [12, 8])

    found = []
    for function in (paired_matmul, plain):
        with tf.GradientTape() as tape:
            tape.watch([first, second, kernel])
            rows = function(first, second, kernel)
            total = tf.reduce_sum(tf.random.stateless_normal(rows.shape, [0, 1]) * rows)
        found.append([rows, *tape.gradient(total, [first, second, kernel])])
    for actual, expected in zip(*found, strict=True):
        np.testing.assert_allclose(actual, expected, rtol=0, atol=TOLERANCE * np.abs(expected).max())
