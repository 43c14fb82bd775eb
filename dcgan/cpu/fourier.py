"""Convolutions of small maps in a small cyclic Fourier domain: the same numbers with a fifth of the arithmetic.

A convolution is bilinear in map and kernel, and any bilinear map has the form

    y = C [(A x) · (B w)],

with constant matrices A, B, C and, for each of R rows, one product over the channels (Winograd, Arithmetic
Complexity of Computations, SIAM 1980, chapters II and V). Taking x by positions (positions, batch, channels) and w by
taps (taps, channels, channels), A, B and C are three plain matrix products, the rows are one batched matrix product,
and automatic differentiation gives all gradients through the same matrices.

Here A and B are real two-dimensional discrete Fourier transforms, so that the convolution becomes a product for each
frequency, summed over the channels before the one transform back (Mathieu et al., https://arxiv.org/abs/1312.5851).
Unlike Winograd's small tiles (Lavin and Gray, https://arxiv.org/abs/1509.09308) the transform loses no accuracy, since
it is orthogonal but for a factor. Three observations make it cheap for maps as small as 7x7:

* Everything beyond the map is zero, so a cyclic convolution of size `n + halo` gives the map's n outputs exactly: what
  wraps around meets zeros or outputs that are not read (Nussbaumer, Fast Fourier Transform and Convolution
  Algorithms, Springer 1982, chapter 3).
* The input is real, so one of each pair of conjugate frequencies is enough; its complex product takes three real ones:
  (a + ib)(c + id) = (p1 - p3) + i(p1 + p2) with p1 = c(a + b), p2 = a(d - c), p3 = b(c + d). A 7x7 map with 5x5 taps
  has cyclic size 9, hence 1 real and 40 complex frequencies: R = 121 products where 25 taps at 49 positions are 1225.
* A stride of s splits the finer map into its s² phases (even and odd rows and columns), which become channels
  (Vaidyanathan, Multirate Systems and Filter Banks, 1993, chapter 4). What remains is a convolution of stride 1 on
  the coarse grid with fewer taps per phase. For 5x5 taps, stride 2 and a 7x7 grid the cyclic size is 8: R = 94.

**Grid layout.** A map (batch, s·h, s·w, channels) is kept as (h·w, batch, s²·channels): positions of the coarse grid
first, phases before channels. Networks that stay in this layout need no transposition between layers.
"""

from functools import cache
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from dcgan.errors import ModelError


class Bilinear(NamedTuple):
    """The matrices of y = C [(A x) · (B w)], all float32."""

    analysis: np.ndarray  # A: (rows, positions)
    kernel_analysis: np.ndarray  # B: (rows · phases, taps)
    synthesis: np.ndarray  # C: (positions, rows)


class _Axis(NamedTuple):
    """The taps of one axis: tap k reads, or feeds, the position `offset[k]` away in phase `phase[k]`."""

    phase: np.ndarray
    offset: np.ndarray
    cyclic_size: int


@cache
def bilinear(grid: tuple[int, int], kernel_size: tuple[int, int], stride: int, *, transposed: bool) -> Bilinear:
    """Return the algorithm of a "same" convolution, or transposed convolution, between a grid and its refinement.

    Args:
        grid: Height and width of the coarse map; the fine one is `stride` times as large.
        kernel_size: Taps along both axes.
        stride: Stride of the convolution, the same along both axes.
        transposed: Whether it goes from the coarse map to the fine one (Keras' Conv2DTranspose), else from fine to
            coarse (Conv2D).
    """
    axes = [_axis(n, taps, stride, transposed=transposed) for n, taps in zip(grid, kernel_size, strict=True)]
    sizes = (axes[0].cyclic_size, axes[1].cyclic_size)
    positions = np.stack(np.meshgrid(*map(np.arange, grid), indexing="ij"), -1).reshape(-1, 2)
    offsets = np.stack(np.meshgrid(*(axis.offset for axis in axes), indexing="ij"), -1).reshape(-1, 2)
    phases = (stride * axes[0].phase[:, None] + axes[1].phase).reshape(-1)
    in_phase = np.arange(stride**2)[:, None] == phases

    analysis, kernel_analysis, synthesis = [], [], []
    for frequency, multiplicity in _frequencies(sizes):
        at_positions = _angles(frequency, sizes, positions)
        at_taps = _angles(frequency, sizes, offsets)
        a, b = np.cos(at_positions), -np.sin(at_positions)
        c, d = np.cos(at_taps), np.sin(at_taps)
        scale = multiplicity / np.prod(sizes)
        if multiplicity == 1:  # its own conjugate, so real
            analysis += [a]
            kernel_analysis += [c]
            synthesis += [scale * a]
        else:
            analysis += [a + b, a, b]
            kernel_analysis += [c, d - c, c + d]
            # the real part of (a - ib)((p1 - p3) + i(p1 + p2)), since the transform back conjugates
            synthesis += [scale * (a + b), scale * b, -scale * a]
    return Bilinear(
        np.stack(analysis).astype(np.float32),
        np.stack([row * in_phase for row in kernel_analysis]).reshape(-1, len(offsets)).astype(np.float32),
        np.stack(synthesis, axis=1).astype(np.float32),
    )


def _axis(positions: int, taps: int, stride: int, *, transposed: bool) -> _Axis:
    # TensorFlow's "same" padding puts the odd one of max(taps - stride, 0) zeros at the end
    shift = np.arange(taps) - max(taps - stride, 0) // 2
    offset = -(shift // stride) if transposed else shift // stride
    return _Axis(shift % stride, offset, positions + int(np.abs(offset).max()))


def _frequencies(sizes: tuple[int, int]) -> list[tuple[tuple[int, int], int]]:
    """Return one of each conjugate pair of frequencies, and how many frequencies it stands for (1 or 2)."""
    pairs = {}
    for frequency in np.ndindex(sizes):
        conjugate = (-frequency[0] % sizes[0], -frequency[1] % sizes[1])
        pairs[min(frequency, conjugate)] = 1 if frequency == conjugate else 2
    return list(pairs.items())


def _angles(frequency: tuple[int, int], sizes: tuple[int, int], points: np.ndarray) -> np.ndarray:
    return 2 * np.pi * (points / sizes) @ np.asarray(frequency)


def convolve(maps: tf.Tensor, kernel: tf.Tensor, algorithm: Bilinear, *, transposed: bool) -> tf.Tensor:
    """Return the convolution of maps in grid layout.

    Args:
        maps: Maps, float32 (positions, batch, channels); for a strided convolution the channels include the phases.
        kernel: Kernel, float32, as Keras stores it: (height, width, in, out), transposed (height, width, out, in).
        algorithm: What `bilinear` returns for the same `transposed`.
        transposed: See `bilinear`.

    Returns:
        float32 (positions, batch, channels); for a transposed convolution the channels include the phases.
    """
    rows, positions = algorithm.analysis.shape
    taps = algorithm.kernel_analysis.shape[1]
    batch, channels = tf.shape(maps)[1], maps.shape[2]
    analysis, kernel_analysis, synthesis = (tf.cast(matrix, maps.dtype) for matrix in algorithm)
    spectrum = tf.reshape(analysis @ tf.reshape(maps, [positions, -1]), [rows, batch, channels])
    filters = kernel_analysis @ tf.reshape(tf.cast(kernel, maps.dtype), [taps, -1])
    filters = tf.reshape(filters, [rows, -1, kernel.shape[3]])  # phases join the finer map's channels
    products = tf.matmul(spectrum, filters, transpose_b=transposed)
    out = products.shape[2]
    return tf.reshape(synthesis @ tf.reshape(products, [rows, -1]), [positions, batch, out])


def to_grid(maps: tf.Tensor, stride: int) -> tf.Tensor:
    """Return (batch, s·h, s·w, channels) in grid layout, (h·w, batch, s²·channels), where s is the stride."""
    height, width, channels = maps.shape[1] // stride, maps.shape[2] // stride, maps.shape[3]
    split = tf.reshape(maps, [-1, height, stride, width, stride, channels])
    return tf.reshape(tf.transpose(split, [1, 3, 0, 2, 4, 5]), [height * width, -1, stride**2 * channels])


def from_grid(maps: tf.Tensor, grid: tuple[int, int], stride: int) -> tf.Tensor:
    """Return what `to_grid` was given: (batch, s·h, s·w, channels)."""
    height, width = grid
    channels = maps.shape[2] // stride**2
    split = tf.reshape(maps, [height, width, -1, stride, stride, channels])
    return tf.reshape(tf.transpose(split, [2, 0, 3, 1, 4, 5]), [-1, height * stride, width * stride, channels])


class DftConv2D(keras.layers.Conv2D):
    """Keras' Conv2D with "same" padding, computed by `convolve`: same arguments, weights, names and results.

    Input shape: float32 (batch, height, width, channels), height and width multiples of the stride.
    Output shape: float32 (batch, height / stride, width / stride, filters).

    Raises:
        ModelError: The layer is built for what the algorithm cannot do: other padding, unequal strides, dilation or
            groups.
    """

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Make the weights, and the algorithm for maps of this size."""
        super().build(input_shape)
        self._algorithm = _algorithm_of(self, input_shape, transposed=False)

    def on_grid(self, maps: tf.Tensor, scale: float = 1.0) -> tf.Tensor:
        """Return the convolution of `scale` times the maps, both in grid layout, with neither bias nor activation."""
        return convolve(maps, _kernel_of(self, scale), self._algorithm, transposed=False)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Return what Conv2D returns."""
        stride = self.strides[0]
        maps = self.on_grid(to_grid(inputs, stride))
        return _finish(self, from_grid(maps, (inputs.shape[1] // stride, inputs.shape[2] // stride), 1))


class DftConv2DTranspose(keras.layers.Conv2DTranspose):
    """Keras' Conv2DTranspose with "same" padding, computed by `convolve`: same arguments, weights, names and results.

    Input shape: float32 (batch, height, width, channels).
    Output shape: float32 (batch, height · stride, width · stride, filters).

    Raises:
        ModelError: The layer is built for what the algorithm cannot do: other padding, unequal strides or dilation.
    """

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Make the weights, and the algorithm for maps of this size."""
        super().build(input_shape)
        self._algorithm = _algorithm_of(self, input_shape, transposed=True)

    def on_grid(self, maps: tf.Tensor, scale: float = 1.0) -> tf.Tensor:
        """Return the convolution of `scale` times the maps, both in grid layout, with neither bias nor activation."""
        return convolve(maps, _kernel_of(self, scale), self._algorithm, transposed=True)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Return what Conv2DTranspose returns."""
        maps = self.on_grid(to_grid(inputs, 1))
        return _finish(self, from_grid(maps, (inputs.shape[1], inputs.shape[2]), self.strides[0]))


def _algorithm_of(layer: keras.layers.Layer, input_shape: tuple[int | None, ...], *, transposed: bool) -> Bilinear:
    stride = layer.strides[0]
    refinement = 1 if transposed else stride
    height, width = (int(size or 0) for size in input_shape[1:3])
    computable = (
        (layer.padding, layer.data_format) == ("same", "channels_last")
        and (set(layer.strides), set(layer.dilation_rate)) == ({stride}, {1})
        and (getattr(layer, "groups", 1), getattr(layer, "output_padding", None)) == (1, None)
        and height * width > 0
        and height % refinement == width % refinement == 0
    )
    if not computable:
        raise ModelError(
            f"The layer {layer.name} cannot be computed in the Fourier domain from maps of {input_shape}; expected "
            "same padding, channels last, equal strides that divide the maps, no dilation and no groups, or "
            "convolution=direct, which computes any layer."
        )
    return bilinear((height // refinement, width // refinement), layer.kernel_size, stride, transposed=transposed)


def _kernel_of(layer: keras.layers.Layer, scale: float) -> tf.Tensor:
    kernel = tf.convert_to_tensor(layer.kernel)
    # scaling the kernel instead of the maps: it is a hundredth of their size
    return kernel if scale == 1 else scale * kernel


def _finish(layer: keras.layers.Layer, outputs: tf.Tensor) -> tf.Tensor:
    if layer.use_bias:
        outputs = tf.nn.bias_add(outputs, tf.convert_to_tensor(layer.bias))
    return layer.activation(outputs)
