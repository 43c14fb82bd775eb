"""The convolutions from and to images, as one matrix product between overlapping patches and cells of a grid.

An image has one channel, so a Fourier domain saves nothing there. A position of the 7x7 grid stands for a cell of 2x2
outputs (its phases, see dcgan/cpu/fourier.py), which together see 7x7 pixels, four pixels from its neighbour's. The
convolution extracts patches (im2col) and multiplies each by a matrix made of the kernel; the transposed convolution
multiplies by the transposed matrix and sums the patches (col2im).
"""

from functools import cache

import keras
import numpy as np
import tensorflow as tf

from dcgan.model.networks import KERNEL_SIZE
from dcgan.recipe import IMAGE_SIZE

GRID = 7
CELL = IMAGE_SIZE // GRID  # pixels between the patches of neighbouring positions
PATCH = KERNEL_SIZE + 2  # pixels along a patch: two windows of the kernel, two pixels apart
PAD = (1, CELL - 1)  # TensorFlow's "same" padding has 1 and 2; the last pixel fills the last cell


@cache
def _patch_selection() -> np.ndarray:
    """Return which tap of the kernel connects each pixel of a patch with each phase: float32 (49 · 4, 25)."""
    selection = np.zeros((PATCH, PATCH, 2, 2, KERNEL_SIZE, KERNEL_SIZE), np.float32)
    for row, column, i, j in np.ndindex(2, 2, KERNEL_SIZE, KERNEL_SIZE):
        selection[2 * row + i, 2 * column + j, row, column, i, j] = 1
    return selection.reshape(-1, KERNEL_SIZE**2)


def patch_kernel(layer: keras.layers.Layer) -> tf.Tensor:
    """Return a kernel as the matrix from a patch's pixels to a position's phases and channels, float32 (49, 256)."""
    kernel = tf.reshape(tf.convert_to_tensor(layer.kernel), [KERNEL_SIZE**2, -1])
    return tf.reshape(_patch_selection() @ kernel, [PATCH**2, -1])


@tf.custom_gradient
def im2col(images: tf.Tensor) -> tuple[tf.Tensor, object]:
    """Return the patch that each position sees: (n, 28, 28, 1) to (49 · n, 49), positions first."""
    return _im2col(images), _col2im


@tf.custom_gradient
def col2im(patches: tf.Tensor) -> tuple[tf.Tensor, object]:
    """Return the sum of all patches, each in its place: (49 · n, 49) to (n, 28, 28, 1)."""
    return _col2im(patches), _im2col


@tf.custom_gradient
def paired_matmul(first: tf.Tensor, second: tf.Tensor, kernel: tf.Tensor) -> tuple[tf.Tensor, object]:
    """Return the interleaved rows of two matrices (m, k), times a kernel (k, c): (2 · m, c).

    The gradients of the two are separate products, so that TensorFlow leaves out the one that is not needed.
    """
    pairs = tf.reshape(tf.stack([first, second], axis=1), [-1, first.shape[1]])

    def gradient(at_result: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        at_pairs = tf.reshape(at_result, [-1, 2, at_result.shape[1]])
        at_rows = (tf.matmul(at_pairs[:, half], kernel, transpose_b=True) for half in range(2))
        return *at_rows, tf.matmul(pairs, at_result, transpose_a=True)

    return pairs @ kernel, gradient


def _im2col(images: tf.Tensor) -> tf.Tensor:
    padded = tf.pad(images[..., 0], [[0, 0], PAD, PAD])
    cells = tf.reshape(padded, [-1, GRID + 1, CELL, GRID + 1, CELL])
    rows = tf.concat([cells[:, :-1], cells[:, 1:, : PATCH - CELL]], axis=2)
    patches = tf.concat([rows[:, :, :, :-1], rows[:, :, :, 1:, : PATCH - CELL]], axis=4)
    return tf.reshape(tf.transpose(patches, [1, 3, 0, 2, 4]), [-1, PATCH**2])


def _col2im(patches: tf.Tensor) -> tf.Tensor:
    # the transpose of `_im2col`, so each is the other's gradient
    patches = tf.transpose(tf.reshape(patches, [GRID, GRID, -1, PATCH, PATCH]), [2, 0, 3, 1, 4])
    rows = _overlap(patches, position_axis=3)
    padded = tf.reshape(_overlap(rows, position_axis=1), [-1, IMAGE_SIZE + sum(PAD), IMAGE_SIZE + sum(PAD)])
    return padded[:, PAD[0] : -PAD[1], PAD[0] : -PAD[1], None]


def _overlap(patches: tf.Tensor, position_axis: int) -> tf.Tensor:
    """Return cells from patches along one axis: what extends beyond a cell is added to the next one."""
    within, beyond = tf.split(patches, [CELL, PATCH - CELL], axis=position_axis + 1)
    paddings = np.zeros((2, patches.shape.rank, 2), np.int32)
    paddings[0, position_axis, 1] = 1
    paddings[1, position_axis, 0] = 1
    paddings[1, position_axis + 1, 1] = 2 * CELL - PATCH
    return tf.pad(within, paddings[0]) + tf.pad(beyond, paddings[1])
