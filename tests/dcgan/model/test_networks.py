"""The networks and `classic` against the reference implementation: layers, shapes, parameters, hyperparameters."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from dcgan.cpu import FourierPasses
from dcgan.errors import ModelError
from dcgan.model.networks import KERAS_PASSES, build_discriminator, build_generator, hidden_layer
from dcgan.recipe import CLASSIC, IMAGE_SHAPE, LATENT_SIZE
from dcgan.report.playground import render_playground
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
def test_every_layer_is_the_seeds(networks, which, rows):
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
    """The same seed gives the same bits, another seed other kernels, and dft layers start as stock layers do."""
    for build in (build_generator, build_discriminator):
        first, again, dft, other = (
            network.get_weights() for network in (build(3), build(3), build(3, FourierPasses()), build(4))
        )
        for a, b, c in zip(first, again, dft, strict=True):
            assert a.tobytes() == b.tobytes() == c.tobytes()
        assert any(not np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_fast_networks_are_the_stock_ones():
    """With dft convolutions the networks have the same layers, weights and, up to rounding, outputs."""
    latents = np.random.default_rng(0).standard_normal((4, LATENT_SIZE)).astype(np.float32)
    stock, fast = build_generator(2), build_generator(2, FourierPasses())
    assert [(w.path, w.shape) for w in fast.weights] == [(w.path, w.shape) for w in stock.weights]
    assert [type(layer).__name__ for layer in fast.layers if type(layer).__module__.startswith("dcgan")] == [
        "DftConv2DTranspose"
    ] * 2
    images = stock(latents)
    np.testing.assert_allclose(fast(latents), images, atol=1e-6)
    stock, fast = build_discriminator(2), build_discriminator(2, FourierPasses())
    assert [(w.path, w.shape) for w in fast.weights] == [(w.path, w.shape) for w in stock.weights]
    np.testing.assert_allclose(fast([images, NO_SEED]), stock([images, NO_SEED]), atol=1e-6)


def test_hidden_layer_stands_before_the_logit():
    """A discriminator may have a dense layer and its rectifier more than the reference's, and drop nothing."""
    names = [name for name, *_ in DISCRIMINATOR]
    recipe = CLASSIC.changed({"dropout_rate": 0, "hidden_units": 16, "discriminator_maps": 24})
    networks = [build_discriminator(2, passes, recipe) for passes in (KERAS_PASSES, FourierPasses())]
    assert [layer.name for layer in networks[0].layers] == [*names[:-1], "hidden", "hidden_relu", "logit"]
    assert hidden_layer(networks[0]).get_config()["units"] == 16
    assert [networks[0].get_layer(name).filters for name in ("to_14x14", "to_7x7")] == [24, 48]
    assert hidden_layer(build_discriminator()) is None
    images = tf.random.stateless_uniform((4, *IMAGE_SHAPE), [0, 0], -1, 1)
    logits = [network([images, NO_SEED], training=True) for network in networks]
    np.testing.assert_allclose(logits[0], networks[0]([images, NO_SEED]), atol=1e-6)
    np.testing.assert_allclose(logits[1], logits[0], atol=1e-5)


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


def with_another_layer(network: keras.Model) -> keras.Model:
    """Return a network with one more layer at its end, as somebody who copies the project may write it."""
    more = keras.layers.Dense(1, name="mine")
    return keras.Model(network.inputs, more(network.outputs[0]), name=network.name)


def with_a_weightless_layer(network: keras.Model) -> keras.Model:
    """Return a network with a layer at its end that has no weights."""
    more = keras.layers.Activation("tanh", name="mine")
    return keras.Model(network.inputs, more(network.outputs[0]), name=network.name)


@pytest.mark.parametrize("change", [with_another_layer, with_a_weightless_layer])
@pytest.mark.parametrize("build", [build_generator, build_discriminator])
def test_the_fast_path_refuses_a_network_that_it_does_not_know(build, change):
    """It would train as if the layer were not there; Keras' own passes take any network."""
    network, latents, images = change(build()), tf.zeros([2, 100]), tf.zeros([2, *IMAGE_SHAPE])

    def run(passes):
        if network.name == "generator":
            return passes.generate(network, latents)
        return passes.discriminate_pairs(network, images, images, tf.constant([1, 2]))

    assert run(KERAS_PASSES).shape[0] > 0
    with pytest.raises(ModelError, match=r"^The fast path for processors does not know the .*'s layers mine; expected"):
        run(FourierPasses())


@pytest.mark.parametrize(
    ("name", "setting", "value"),
    [("refine", "activation", keras.activations.relu), ("to_28x28", "padding", "valid"), ("to_14x14_norm", "scale", 0)],
)
def test_the_fast_path_refuses_other_settings(name, setting, value):
    """A layer that it knows, but does otherwise."""
    generator = build_generator(passes=FourierPasses())
    setattr(generator.get_layer(name), setting, value)
    with pytest.raises(ModelError, match=rf"does not know the generator's layers {name}; expected convolution=direct"):
        FourierPasses().generate(generator, tf.zeros([2, LATENT_SIZE]))


def test_the_fast_path_refuses_a_network_without_a_layer():
    """It would compute one that is not there, or the layers in another order."""
    generator = build_generator(passes=FourierPasses())
    fewer = [layer for layer in generator.layers if layer.name != "refine_relu"]
    network = keras.Sequential([generator.inputs[0], *fewer], name="generator")
    with pytest.raises(ModelError, match=r"knows the generator's layers .*refine_relu, .*, not .*; expected conv"):
        FourierPasses().generate(network, tf.zeros([2, LATENT_SIZE]))


def test_each_rectifier_has_its_own_slope():
    """The fast path takes it from the layer."""
    latents = np.random.default_rng(0).standard_normal((4, LATENT_SIZE), dtype=np.float32)
    images = []
    for passes in (KERAS_PASSES, FourierPasses()):
        generator = build_generator(3, passes)
        generator.get_layer("refine_relu").negative_slope = 0.9
        images.append(passes.generate(generator, tf.constant(latents)).numpy())
    np.testing.assert_allclose(*images, atol=1e-5)


def test_the_playground_refuses_a_network_that_it_does_not_know():
    """Its page would show other images than the generator's."""
    with pytest.raises(ModelError, match=r"^The playground does not know the generator's layers mine; expected"):
        render_playground(with_another_layer(build_generator()), "title", {})


def test_the_playground_refuses_a_layer_of_another_size():
    """The script has the sizes, too."""
    generator = build_generator()
    layers = [layer for layer in generator.layers if layer.name != "to_28x28"]
    wider = keras.layers.Conv2DTranspose(3, 5, 2, padding="same", activation="tanh", use_bias=False, name="to_28x28")
    with pytest.raises(
        ModelError, match=r"knows the layer to_28x28 with a kernel \(5, 5, 1, 64\), not \(5, 5, 3, 64\)"
    ):
        render_playground(keras.Sequential([generator.inputs[0], *layers, wider], name="generator"), "title", {})
