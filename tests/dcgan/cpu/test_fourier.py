"""The fast convolutions: the stock layers' results, gradients, weights and configuration, with less arithmetic."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from dcgan.cpu.fourier import DftConv2D, DftConv2DTranspose, bilinear, from_grid, to_grid
from dcgan.errors import ModelError

TOLERANCE = 2e-5  # of the largest value: float32 sums of up to 6,400 products in another order

CONVOLUTION_CASES = [
    # coarse map, kernel, stride, channels in, channels out, batch
    ((7, 7), (5, 5), 2, 64, 128, 3),  # the discriminator's
    ((7, 7), (5, 5), 1, 16, 8, 2),
    ((14, 14), (5, 5), 2, 1, 4, 1),
    ((4, 6), (3, 5), 2, 2, 3, 4),
    ((5, 5), (2, 4), 1, 3, 1, 2),
    ((3, 4), (5, 3), 3, 2, 2, 1),
    # 1x1 with a stride is left out: there oneDNN's own kernel gradient is wrong with AVX2 alone (TensorFlow 2.21)
    ((4, 4), (1, 1), 1, 2, 2, 2),
]
TRANSPOSED_CASES = [
    ((7, 7), (5, 5), 1, 256, 128, 2),  # the generator's two
    ((7, 7), (5, 5), 2, 128, 64, 3),
    ((14, 14), (5, 5), 2, 4, 1, 1),
    ((4, 6), (3, 5), 2, 2, 3, 4),
    ((5, 5), (2, 4), 1, 3, 1, 2),
    ((3, 4), (5, 3), 3, 2, 2, 1),
]
PAIRS = [
    *[(DftConv2D, keras.layers.Conv2D, case) for case in CONVOLUTION_CASES],
    *[(DftConv2DTranspose, keras.layers.Conv2DTranspose, case) for case in TRANSPOSED_CASES],
]


def require_close(actual, expected):
    scale = np.abs(expected).max()
    np.testing.assert_allclose(actual, expected, rtol=0, atol=TOLERANCE * scale)


def results(layer, maps, weights_of_outputs):
    """Return the outputs, and the gradients at maps, kernel and bias of a weighted sum of the outputs."""
    with tf.GradientTape() as tape:
        tape.watch(maps)
        outputs = layer(maps)
        total = tf.reduce_sum(weights_of_outputs * outputs)
    return [outputs, *tape.gradient(total, [maps, layer.kernel.value, layer.bias.value])]


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "graph"])
@pytest.mark.parametrize(("fast_layer", "stock_layer", "case"), PAIRS)
def test_outputs_and_gradients_are_the_stock_layers(fast_layer, stock_layer, case, compiled):
    """Outputs and all gradients agree with the stock layer's over map sizes, kernels, strides, channels, batches."""
    grid, kernel, stride, inputs, outputs, batch = case
    scales = (stride, 1) if stock_layer is keras.layers.Conv2D else (1, stride)
    random = np.random.default_rng(0)
    keras.utils.set_random_seed(0)
    maps, weights = (
        tf.constant(random.standard_normal([batch, scale * grid[0], scale * grid[1], channels]), tf.float32)
        for scale, channels in zip(scales, (inputs, outputs), strict=True)
    )
    # Of one sign, so that the bias' gradient, a sum over all positions, does not cancel to rounding errors.
    weights = tf.abs(weights)
    arguments = {"strides": stride, "padding": "same", "bias_initializer": "normal", "activation": "tanh"}
    stock, fast = (layer(outputs, kernel, **arguments) for layer in (stock_layer, fast_layer))
    stock.build(maps.shape)
    fast.build(maps.shape)
    fast.set_weights(stock.get_weights())
    run = tf.function(results) if compiled else results
    for actual, expected in zip(run(fast, maps, weights), results(stock, maps, weights), strict=True):
        require_close(actual, expected)


@pytest.mark.parametrize(
    ("fast_layer", "stock_layer"),
    [(DftConv2D, keras.layers.Conv2D), (DftConv2DTranspose, keras.layers.Conv2DTranspose)],
)
def test_layers_are_drop_in(fast_layer, stock_layer):
    """A fast layer has the stock one's weights by name, shape and initial value, its configuration and output shape."""

    def made(layer):
        return layer(3, 5, strides=2, padding="same", kernel_initializer=keras.initializers.GlorotUniform(1), name="c")

    stock, fast = made(stock_layer), made(fast_layer)
    assert fast.get_config() == stock.get_config()
    again = fast_layer.from_config(stock.get_config())
    symbolic = keras.Input((8, 8, 2))
    assert again(symbolic).shape == fast(symbolic).shape == stock(symbolic).shape
    assert [(w.path, w.shape, w.dtype) for w in fast.weights] == [(w.path, w.shape, w.dtype) for w in stock.weights]
    for actual, expected in zip(fast.get_weights(), stock.get_weights(), strict=True):
        np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize(
    ("stride", "transposed", "rows"), [(1, True, 121), (2, True, 94), (2, False, 94)], ids=["refine", "up", "down"]
)
def test_products_are_as_few_as_documented(stride, transposed, rows):
    """The networks' convolutions take the documented number of products for each pair of channels."""
    algorithm = bilinear((7, 7), (5, 5), stride, transposed=transposed)
    assert [matrix.shape for matrix in algorithm] == [(rows, 49), (rows * stride**2, 25), (49, rows)]
    assert {matrix.dtype for matrix in algorithm} == {np.dtype(np.float32)}


@given(height=st.integers(1, 4), width=st.integers(1, 4), stride=st.integers(1, 3), channels=st.integers(1, 3))
@settings(deadline=None, max_examples=30)
def test_grid_layout_loses_nothing(height, width, stride, channels):
    """Maps put in grid layout come back bit for bit, and each position holds its phases in order."""
    maps = np.arange(2 * stride**2 * height * width * channels, dtype=np.float32)
    maps = maps.reshape(2, stride * height, stride * width, channels)
    grid = to_grid(tf.constant(maps), stride)
    assert grid.shape == (height * width, 2, stride**2 * channels)
    first_cell = maps[:, :stride, :stride].reshape(2, -1)
    np.testing.assert_array_equal(grid[0], first_cell)
    np.testing.assert_array_equal(from_grid(grid, (height, width), stride), maps)


@pytest.mark.parametrize(
    ("layer", "size"),
    [
        (DftConv2D(2, 5, padding="valid"), 8),
        (DftConv2D(2, 5, strides=(1, 2), padding="same"), 8),
        (DftConv2D(2, 5, padding="same", dilation_rate=2), 8),
        (DftConv2D(2, 5, padding="same", groups=2), 8),
        (DftConv2D(2, 5, padding="same", data_format="channels_first"), 8),
        (DftConv2D(2, 5, strides=2, padding="same"), 7),
        (DftConv2D(2, 5, padding="same"), None),
        (DftConv2DTranspose(2, 5, strides=2, padding="same", output_padding=1), 8),
    ],
    ids=["valid", "strides", "dilation", "groups", "channels first", "not divisible", "unknown size", "output padding"],
)
def test_what_it_cannot_do_is_refused(layer, size):
    """A layer outside the algorithm's reach says so when it is built, and names itself."""
    sentence = rf"^The layer {layer.name} cannot be computed in the Fourier domain from .*; expected .*direct, .*\.$"
    with pytest.raises(ModelError, match=sentence):
        layer.build((None, size, size, 8))
