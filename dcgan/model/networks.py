"""The two networks of the reference implementation, and how their layers are run in a training step.

The architecture is that of TensorFlow's DCGAN tutorial: strided convolutions instead of pooling, batch normalization in
the generator, leaky rectifiers (Radford et al., https://arxiv.org/abs/1511.06434, section 3). Initial weights are
Keras' defaults (Glorot uniform, zero biases), drawn from a seed so that the same seed gives the same bits.

The discriminator may have one more layer than the reference's, a dense one between its feature maps and its logit.
Without it the logit is a sum over positions, each of which sees 13x13 pixels: nothing compares one end of a stroke with
the other.

All layers are stock Keras layers, except for the discriminator's dropout and the convolutions of another
implementation of `KerasPasses`. Weights have the same names and shapes either way.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial

import keras
import tensorflow as tf

from dcgan.errors import ModelError
from dcgan.model.dropout import SeededDropout
from dcgan.recipe import CLASSIC, IMAGE_SHAPE, LATENT_SIZE, Precision, Recipe
from dcgan.rng import layer_seed

KERNEL_SIZE = 5
HIDDEN = "hidden"

KnownLayers = Mapping[str, tuple[type[keras.layers.Layer], Mapping[str, object]]]
"""By the name of each layer of a network, in order: its class, and the settings that its computation relies on."""

_LINEAR = {"activation": keras.activations.linear}
_STRIDED = {"kernel_size": (KERNEL_SIZE, KERNEL_SIZE), "strides": (2, 2), "padding": "same"}
_UNSTRIDED = {**_STRIDED, "strides": (1, 1)}
# what code that computes the networks layer by layer has been written for
GENERATOR_LAYERS: KnownLayers = {
    "project": (keras.layers.Dense, {**_LINEAR, "use_bias": False}),
    "project_norm": (keras.layers.BatchNormalization, {"center": True, "scale": True}),
    "project_relu": (keras.layers.LeakyReLU, {}),
    "to_maps": (keras.layers.Reshape, {}),
    "refine": (keras.layers.Conv2DTranspose, {**_LINEAR, **_UNSTRIDED, "use_bias": False}),
    "refine_norm": (keras.layers.BatchNormalization, {"center": True, "scale": True}),
    "refine_relu": (keras.layers.LeakyReLU, {}),
    "to_14x14": (keras.layers.Conv2DTranspose, {**_LINEAR, **_STRIDED, "use_bias": False}),
    "to_14x14_norm": (keras.layers.BatchNormalization, {"center": True, "scale": True}),
    "to_14x14_relu": (keras.layers.LeakyReLU, {}),
    "to_28x28": (
        keras.layers.Conv2DTranspose,
        {**_STRIDED, "activation": keras.activations.tanh, "use_bias": False},
    ),
}
DISCRIMINATOR_LAYERS: KnownLayers = {
    "to_14x14": (keras.layers.Conv2D, {**_LINEAR, **_STRIDED, "use_bias": True}),
    "to_14x14_relu": (keras.layers.LeakyReLU, {}),
    "to_14x14_dropout": (SeededDropout, {}),
    "to_7x7": (keras.layers.Conv2D, {**_LINEAR, **_STRIDED, "use_bias": True}),
    "to_7x7_relu": (keras.layers.LeakyReLU, {}),
    "to_7x7_dropout": (SeededDropout, {}),
    "flatten": (keras.layers.Flatten, {}),
    HIDDEN: (keras.layers.Dense, {**_LINEAR, "use_bias": True}),
    f"{HIDDEN}_relu": (keras.layers.LeakyReLU, {}),
    "logit": (keras.layers.Dense, {**_LINEAR, "use_bias": True, "units": 1}),
}


class KerasPasses:
    """Runs the networks in a training step by their Keras layers, on any device.

    A subclass may compute the same another way: with other layer classes, which `build_generator` and
    `build_discriminator` use for the convolutions between maps of many channels, and other training passes.

    Attributes:
        name: How the convolutions are computed, as the recipe calls it.
        conv2d: Layer class with the arguments, weights and results of Keras' Conv2D.
        conv2d_transpose: Layer class with the arguments, weights and results of Keras' Conv2DTranspose.
    """

    name = "direct"
    conv2d: Callable[..., keras.layers.Layer] = keras.layers.Conv2D
    conv2d_transpose: Callable[..., keras.layers.Layer] = keras.layers.Conv2DTranspose

    def generate(self, generator: keras.Model, latents: tf.Tensor) -> tf.Tensor:
        """Return `generator(latents, training=True)`, moving statistics updated; float32 (n, 28, 28, 1)."""
        return generator(latents, training=True)

    def discriminate(self, discriminator: keras.Model, images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """Return the logits of images under dropout drawn from `seed`, float32 (n, 1)."""
        return discriminator([images, seed], training=True)

    def discriminate_pairs(
        self, discriminator: keras.Model, images: tf.Tensor, generated: tf.Tensor, seed: tf.Tensor
    ) -> tf.Tensor:
        """Return the logits of a real image, a generated one, and so on, float32 (2 · n, 1).

        In pairs, several devices divide the dropout masks as they divide the images.
        """
        pairs = tf.reshape(tf.stack([images, generated], axis=1), [-1, *IMAGE_SHAPE])
        return self.discriminate(discriminator, pairs, seed)


KERAS_PASSES = KerasPasses()


def build_generator(
    seed: int = 0, passes: KerasPasses = KERAS_PASSES, recipe: Recipe = CLASSIC, precision: Precision = "float32"
) -> keras.Model:
    """Return the network from latents float32 (n, 100) to images float32 (n, 28, 28, 1) in (-1, 1).

    Args:
        seed: Seed of the initial weights.
        passes: Gives the layer class of the convolutions between maps.
        recipe: Gives the rectifiers' slope; by default that of the reference implementation.
        precision: Keras dtype policy of all layers but the last.
    """
    initializers = _initializers(seed, first=0)
    layers = keras.layers
    transposed = partial(
        passes.conv2d_transpose, kernel_size=KERNEL_SIZE, padding="same", use_bias=False, dtype=precision
    )
    return keras.Sequential(
        [
            keras.Input((LATENT_SIZE,), name="latents"),
            layers.Dense(
                7 * 7 * 256, use_bias=False, kernel_initializer=next(initializers), dtype=precision, name="project"
            ),
            *_normalized("project", recipe.negative_slope, precision),
            layers.Reshape((7, 7, 256), dtype=precision, name="to_maps"),
            transposed(128, strides=1, kernel_initializer=next(initializers), name="refine"),
            *_normalized("refine", recipe.negative_slope, precision),
            transposed(64, strides=2, kernel_initializer=next(initializers), name="to_14x14"),
            *_normalized("to_14x14", recipe.negative_slope, precision),
            # float32 also under mixed precision: images leave the network in it
            layers.Conv2DTranspose(
                1,
                KERNEL_SIZE,
                strides=2,
                padding="same",
                use_bias=False,
                activation="tanh",
                kernel_initializer=next(initializers),
                dtype="float32",
                name="to_28x28",
            ),
        ],
        name="generator",
    )


def build_discriminator(
    seed: int = 0, passes: KerasPasses = KERAS_PASSES, recipe: Recipe = CLASSIC, precision: Precision = "float32"
) -> keras.Model:
    """Return the network from [images float32 (n, 28, 28, 1), dropout seed int32 (2,)] to logits float32 (n, 1).

    Args:
        seed: Seed of the initial weights.
        passes: Gives the layer class of the convolution between maps.
        recipe: Gives the number of maps, the rectifiers' slope, dropout rate and hidden units; by default those of the
            reference implementation.
        precision: Keras dtype policy of all layers but the last.
    """
    initializers = _initializers(seed, first=16)
    layers, maps = keras.layers, recipe.discriminator_maps
    strided: dict[str, object] = {"kernel_size": KERNEL_SIZE, "strides": 2, "padding": "same", "dtype": precision}
    rectified_with_dropout = partial(
        _rectified_with_dropout,
        negative_slope=recipe.negative_slope,
        rate=recipe.dropout_rate,
        precision=precision,
    )
    images = keras.Input(IMAGE_SHAPE, name="images")
    dropout_seed = keras.Input(batch_shape=(2,), dtype="int32", name="dropout_seed")
    x = layers.Conv2D(maps, kernel_initializer=next(initializers), name="to_14x14", **strided)(images)
    x = rectified_with_dropout("to_14x14", 0)(x, dropout_seed)
    x = passes.conv2d(2 * maps, kernel_initializer=next(initializers), name="to_7x7", **strided)(x)
    x = rectified_with_dropout("to_7x7", 1)(x, dropout_seed)
    x = layers.Flatten(dtype=precision, name="flatten")(x)
    dense = layers.Dense
    if recipe.hidden_units:
        x = dense(recipe.hidden_units, kernel_initializer=next(initializers), dtype=precision, name=HIDDEN)(x)
        x = layers.LeakyReLU(recipe.negative_slope, dtype=precision, name=f"{HIDDEN}_relu")(x)
    # float32 also under mixed precision: the loss is computed from these
    logits = dense(1, kernel_initializer=next(initializers), dtype="float32", name="logit")(x)
    return keras.Model([images, dropout_seed], logits, name="discriminator")


def require_layers(network: keras.Model, known: KnownLayers, who: str, expected: str) -> None:
    """Refuse a network that the caller, which computes it layer by layer, would compute as another one.

    Args:
        network: The network.
        known: The layers that the caller computes, in order.
        who: The caller, as the first words of a sentence.
        expected: What to do about it.

    Raises:
        ModelError: The network has other layers, the same ones with other settings, or in another order.
    """
    # a functional model may also have operations that are not layers, such as a sum
    operations = [each for each in _operations(network) if not isinstance(each, keras.layers.InputLayer)]
    others = [each.name for each in operations if not _is_known(each, known)]
    if others:
        raise ModelError(f"{who} does not know the {network.name}'s layers {', '.join(others)}; expected {expected}.")
    found = [each.name for each in operations]
    if found != [name for name in known if HIDDEN in found or not name.startswith(HIDDEN)]:
        raise ModelError(
            f"{who} knows the {network.name}'s layers {', '.join(known)}, not {', '.join(found)}; expected {expected}."
        )


def _operations(network: keras.Model) -> list[keras.Operation]:
    operations: list[keras.Operation] = getattr(network, "operations", network.layers)
    return operations


def _is_known(operation: keras.Operation, known: KnownLayers) -> bool:
    kind, settings = known.get(operation.name, (None, {}))
    return (
        kind is not None
        and isinstance(operation, kind)
        and all(getattr(operation, name) == value for name, value in settings.items())
    )


def hidden_layer(discriminator: keras.Model) -> keras.layers.Dense | None:
    """Return the dense layer between feature maps and logit, or None where the discriminator has none."""
    return next((layer for layer in discriminator.layers if layer.name == HIDDEN), None)


def _normalized(name: str, negative_slope: float, precision: Precision) -> list[keras.layers.Layer]:
    # several devices normalize by the statistics of the global batch, as one device does
    several_devices = tf.distribute.get_strategy().num_replicas_in_sync > 1
    return [
        keras.layers.BatchNormalization(synchronized=several_devices, dtype=precision, name=f"{name}_norm"),
        keras.layers.LeakyReLU(negative_slope, dtype=precision, name=f"{name}_relu"),
    ]


def _rectified_with_dropout(
    name: str, index: int, negative_slope: float, rate: float, precision: Precision
) -> Callable[[keras.KerasTensor, keras.KerasTensor], keras.KerasTensor]:
    rectifier = keras.layers.LeakyReLU(negative_slope, dtype=precision, name=f"{name}_relu")
    dropout = SeededDropout(rate, index=index, dtype=precision, name=f"{name}_dropout")
    return lambda x, seed: dropout((rectifier(x), seed))


def _initializers(seed: int, first: int) -> Iterator[keras.Initializer]:
    """Yield the initializer of each layer in turn; `first` keeps the two networks apart."""
    index = first
    while True:
        yield keras.initializers.GlorotUniform(seed=layer_seed(seed, index))
        index += 1
