"""The networks and `classic` against the reference implementation: layers, shapes, parameters, hyperparameters."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from dcgan.model.networks import build_discriminator, build_generator, hidden_layer
from dcgan.recipe import CLASSIC, IMAGE_SHAPE, LATENT_SIZE
from dcgan.training.step import Gan

NO_SEED = tf.zeros(2, tf.int32)  # nothing is dropped outside training
# name, stock layer, output shape after the batch, parameters, settings
GENERATOR = [
    ("project", "Dense", (12544,), 1_254_400, {"units": 12544, "use_bias": False, "activation": "linear"}),
    ("project_norm", "BatchNormalization", (12544,), 4 * 12544, {}),
    ("project_relu", "LeakyReLU", (12544,), 0, {}),
    ("to_maps", "Reshape", (7, 7, 256), 0, {}),
    ("refine", "Conv2DTranspose", (7, 7, 128), 819_200, {"strides": (1, 1), "use_bias": False, "activation": "linear"}),
    ("refine_norm", "BatchNormalization", (7, 7, 128), 4 * 128, {}),
    ("refine_relu", "LeakyReLU", (7, 7, 128), 0, {}),
    ("to_14x14", "Conv2DTranspose", (14, 14, 64), 204_800, {"strides": (2, 2), "use_bias": False}),
    ("to_14x14_norm", "BatchNormalization", (14, 14, 64), 4 * 64, {}),
    ("to_14x14_relu", "LeakyReLU", (14, 14, 64), 0, {}),
    ("to_28x28", "Conv2DTranspose", (28, 28, 1), 1_600, {"strides": (2, 2), "use_bias": False, "activation": "tanh"}),
]
DISCRIMINATOR = [
    ("images", "InputLayer", (28, 28, 1), 0, {}),
    ("to_14x14", "Conv2D", (14, 14, 64), 1_664, {"strides": (2, 2), "use_bias": True, "activation": "linear"}),
    ("to_14x14_relu", "LeakyReLU", (14, 14, 64), 0, {}),
    ("dropout_seed", "InputLayer", (), 0, {}),
    ("to_14x14_dropout", "SeededDropout", (14, 14, 64), 0, {"rate": 0.3, "index": 0}),
    ("to_7x7", "Conv2D", (7, 7, 128), 204_928, {"strides": (2, 2), "use_bias": True, "activation": "linear"}),
    ("to_7x7_relu", "LeakyReLU", (7, 7, 128), 0, {}),
    ("to_7x7_dropout", "SeededDropout", (7, 7, 128), 0, {"rate": 0.3, "index": 1}),
    ("flatten", "Flatten", (6272,), 0, {}),
    ("logit", "Dense", (1,), 6_273, {"use_bias": True, "activation": "linear"}),
]
COMMON = {
    "LeakyReLU": {"negative_slope": 0.3},
    "BatchNormalization": {"momentum": 0.99, "epsilon": 0.001, "center": True, "scale": True},
    "Conv2D": {"kernel_size": (5, 5), "padding": "same", "dilation_rate": (1, 1), "groups": 1},
    "Conv2DTranspose": {"kernel_size": (5, 5), "padding": "same", "dilation_rate": (1, 1)},
}


@pytest.fixture(scope="module")
def networks():
    """Return the generator and the discriminator in stock layers."""
    return build_generator(1), build_discriminator(1)


@pytest.mark.parametrize(("which", "rows"), [(0, GENERATOR), (1, DISCRIMINATOR)], ids=["generator", "discriminator"])
def test_every_layer_is_that_of_the_reference_implementation(networks, which, rows):
    """Every layer's kind, output shape, parameter count and settings are those of the reference implementation."""
    layers = networks[which].layers
    assert [layer.name for layer in layers] == [name for name, *_ in rows]
    for layer, (_, kind, shape, parameters, settings) in zip(layers, rows, strict=True):
        assert type(layer).__name__ == kind
        if shape:
            assert tuple(layer.output.shape[1:]) == shape
        assert layer.count_params() == parameters
        config = layer.get_config()
        expected = settings | COMMON.get(kind, {})
        assert {name: config[name] for name in expected} == expected


def test_parameter_counts(networks):
    """The networks have 2,305,472 + 212,865 trained parameters; the generator's statistics are not trained."""
    generator, discriminator = networks
    trained = [sum(int(np.prod(w.shape)) for w in network.trainable_weights) for network in networks]
    assert trained == [2_305_472, 212_865]
    assert generator.count_params() == 2_305_472 + 2 * (12544 + 128 + 64)
    assert discriminator.count_params() == 212_865


def test_inputs_and_outputs(networks):
    """Latents of 100 become images within (-1, 1); images become one logit, not a probability."""
    generator, discriminator = networks
    latents = np.random.default_rng(0).standard_normal((3, LATENT_SIZE)).astype(np.float32)
    images = generator(latents)
    assert (tuple(images.shape), images.dtype) == ((3, *IMAGE_SHAPE), "float32")
    assert 0 < np.abs(images).max() < 1
    logits = discriminator([1000 * images, NO_SEED])
    assert (tuple(logits.shape), logits.dtype) == ((3, 1), "float32")
    assert np.abs(logits).max() > 1


def test_initial_weights_are_the_defaults_of_keras(networks):
    """Kernels are Glorot uniform, biases and means zero, gammas and variances one; no two kernels share numbers."""
    kernels = []
    for layer in [layer for network in networks for layer in network.layers if layer.weights]:
        for weight in layer.weights:
            value = weight.numpy()
            if weight.name == "kernel":
                receptive = int(np.prod(value.shape[:-2]))
                limit = np.sqrt(6 / (receptive * (value.shape[-1] + value.shape[-2])))
                assert 0.97 * limit < np.abs(value).max() <= limit
                # a uniform variable's standard deviation; its estimate's relative error is below 1 / sqrt(count)
                assert value.std() == pytest.approx(limit / np.sqrt(3), rel=4 / np.sqrt(value.size))
                kernels.append(value.ravel()[:100] / limit)
            else:
                assert np.unique(value) == (1 if weight.name in {"gamma", "moving_variance"} else 0)
    assert np.abs(np.corrcoef(kernels)[~np.eye(len(kernels), dtype=bool)]).max() < 0.5


def test_seed_decides_the_initial_weights():
    """The same seed gives the same bits, another seed other kernels."""
    for build in (build_generator, build_discriminator):
        first, again, other = (network.get_weights() for network in (build(3), build(3), build(4)))
        for a, b in zip(first, again, strict=True):
            assert a.tobytes() == b.tobytes()
        assert any(not np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_hidden_layer_stands_before_the_logit():
    """A discriminator may have a dense layer and its rectifier more than the reference's, and drop nothing."""
    names = [name for name, *_ in DISCRIMINATOR]
    recipe = CLASSIC.changed({"dropout_rate": 0, "hidden_units": 16, "discriminator_maps": 24})
    network = build_discriminator(2, recipe=recipe)
    assert [layer.name for layer in network.layers] == [*names[:-1], "hidden", "hidden_relu", "logit"]
    assert hidden_layer(network).get_config()["units"] == 16
    assert [network.get_layer(name).filters for name in ("to_14x14", "to_7x7")] == [24, 48]
    assert hidden_layer(build_discriminator()) is None
    images = tf.random.stateless_uniform((4, *IMAGE_SHAPE), [0, 0], -1, 1)
    np.testing.assert_allclose(network([images, NO_SEED], training=True), network([images, NO_SEED]), atol=1e-6)


def test_generator_is_stock_keras():
    """Every layer of the generator that others get is Keras' own, and its stored form loads in safe mode."""
    generator = build_generator(1)
    assert all(type(layer).__module__.startswith("keras.") for layer in generator.layers)
    again = keras.Sequential.from_config(generator.get_config())
    assert [layer.name for layer in again.layers] == [layer.name for layer in generator.layers]


def test_precision_is_of_the_layers_alone():
    """Mixed precision computes in bfloat16 with float32 weights, ends in float32, and leaves Keras' policy alone."""
    generator = build_generator(1, precision="mixed_bfloat16")
    discriminator = build_discriminator(1, precision="mixed_bfloat16")
    assert keras.config.dtype_policy().name == "float32"
    computed = {layer.name: layer.compute_dtype for layer in generator.layers}
    assert computed.pop("to_28x28") == "float32"
    assert set(computed.values()) == {"bfloat16"}
    assert {weight.dtype for weight in [*generator.weights, *discriminator.weights]} == {"float32"}
    images = generator(np.zeros((2, LATENT_SIZE), np.float32))
    assert [images.dtype, discriminator([images, NO_SEED]).dtype] == ["float32", "float32"]


def test_classic_trains_as_the_reference_implementation():
    """Epochs, batch, both Adams with Keras' defaults, and a checkpoint every 15 epochs, are the reference's."""
    recipe = CLASSIC.model_dump(exclude={"name", "convolution", "evaluate_every"})
    assert recipe == {
        "epochs": 50,
        "batch_size": 256,
        "generator_learning_rate": 1e-4,
        "discriminator_learning_rate": 1e-4,
        "beta_1": 0.9,
        "beta_2": 0.999,
        "checkpoint_every": 15,
        "max_images": None,
        "shuffle_buffer_images": 65_536,
        "decay_start": 1.0,
        "ema_half_life_images": None,
        "ema_ramp_up": 0.05,
        "discriminator_maps": 64,
        "negative_slope": 0.3,
        "dropout_rate": 0.3,
        "hidden_units": None,
        "r1_gamma": 0,
        "checkpoint_selection": "last",
        "precision": "float32",
    }


def test_classic_optimizers_are_adam_of_keras():
    """Both optimizers of `classic` are configured as Keras' Adam is by default, but for the learning rate."""
    gan = Gan(CLASSIC, 0, np.zeros((1, *IMAGE_SHAPE), np.float32))
    default = keras.optimizers.Adam(learning_rate=1e-4, name="adam").get_config()
    for optimizer in (gan.generator_optimizer, gan.discriminator_optimizer):
        assert isinstance(optimizer, keras.optimizers.Adam)
        assert optimizer.get_config() | {"name": "adam"} == pytest.approx(default)
