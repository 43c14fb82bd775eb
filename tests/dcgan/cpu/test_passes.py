"""The fast path's networks: those of the Keras layers, and no others."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from dcgan.cpu import FourierPasses
from dcgan.errors import ModelError
from dcgan.model.networks import KERAS_PASSES, build_discriminator, build_generator
from dcgan.recipe import CLASSIC, IMAGE_SHAPE, LATENT_SIZE

NO_SEED = tf.zeros(2, tf.int32)  # nothing is dropped outside training


@pytest.mark.parametrize("build", [build_generator, build_discriminator])
def test_the_seed_decides_the_initial_weights(build):
    """They are, bit for bit, those of the stock layers."""
    for stock, fast in zip(build(3).get_weights(), build(3, FourierPasses()).get_weights(), strict=True):
        assert stock.tobytes() == fast.tobytes()


def test_the_networks_are_the_stock_ones():
    """They have the same layers, weights and, up to rounding, outputs."""
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


def test_a_hidden_layer_gives_the_same_logits():
    """Also with another number of maps, and without dropout."""
    recipe = CLASSIC.changed({"dropout_rate": 0, "hidden_units": 16, "discriminator_maps": 24})
    images = tf.random.stateless_uniform((4, *IMAGE_SHAPE), [0, 0], -1, 1)
    logits = [
        build_discriminator(2, passes, recipe)([images, NO_SEED], training=True)
        for passes in (KERAS_PASSES, FourierPasses())
    ]
    np.testing.assert_allclose(*logits, atol=1e-5)


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


def test_the_fast_path_refuses_an_operation_that_is_not_a_layer():
    """Such as a sum, which a functional model may have between its layers."""
    generator = build_generator(passes=FourierPasses())
    network = keras.Model(generator.inputs, keras.ops.absolute(generator.outputs[0]), name="generator")
    with pytest.raises(ModelError, match=r"does not know the generator's layers absolute; expected"):
        FourierPasses().generate(network, tf.zeros([2, LATENT_SIZE]))


@pytest.mark.parametrize(("changed", "sentence"), [("to_14x14", "does not know"), ("hidden_relu", "knows the")])
def test_the_fast_path_refuses_a_discriminator_of_other_layers(changed, sentence):
    """Its first layer under another name; its hidden layer without the rectifier."""
    known = build_discriminator(1, FourierPasses(), CLASSIC.changed({"hidden_units": 16}))
    images, seed = known.inputs
    x = images
    for layer in known.layers:
        if layer.name.endswith("_dropout"):
            x = layer((x, seed))
        elif layer.name == changed == "to_14x14":
            x = keras.layers.Conv2D.from_config({**layer.get_config(), "name": "mine"})(x)
        elif layer.name != changed and not isinstance(layer, keras.layers.InputLayer):
            x = layer(x)
    network, passes = keras.Model([images, seed], x, name="discriminator"), FourierPasses()
    real = tf.zeros([2, *IMAGE_SHAPE])
    with pytest.raises(ModelError, match=rf"^The fast path for processors {sentence} .*; expected convolution=direct"):
        passes.discriminate_pairs(network, real, real, NO_SEED)
