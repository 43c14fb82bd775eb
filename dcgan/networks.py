"""The seed's two networks.

The architecture is the seed article's, which is TensorFlow's DCGAN tutorial's: strided convolutions instead of
pooling, batch normalisation in the generator, leaky rectifiers (Radford et al., https://arxiv.org/abs/1511.06434,
section 3). Initial weights are Keras' defaults (Glorot uniform, zero biases), drawn from `seed` so that the same seed
gives the same bits.

The discriminator may have one layer more than the seed's, between its maps and its logit. Without it the logit is a sum
over positions, each of which sees 13x13 pixels: nothing compares one end of a stroke with the other.

All layers are stock Keras layers, except for the discriminator's dropout and, where `convolution` is "dft", the three
convolutions between maps of many channels. Weights have the same names and shapes either way.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Literal

import keras
import tensorflow as tf

from dcgan.convolution import DftConv2D, DftConv2DTranspose
from dcgan.layers import SeededDropout
from dcgan.randomness import layer_seed
from dcgan.recipe import IMAGE_SHAPE, LATENT_SIZE, Precision

# of the seed, where the slope is Keras' default; the DCGAN paper has 0.2
DROPOUT_RATE = 0.3
LEAKY_SLOPE = 0.3
KERNEL_SIZE = 5
HIDDEN = "hidden"


def build_generator(
    seed: int = 0,
    convolution: Literal["direct", "dft"] = "direct",
    precision: Precision = "float32",
    leaky_slope: float = LEAKY_SLOPE,
) -> keras.Model:
    """Return the network from latents float32 (n, 100) to images float32 (n, 28, 28, 1) in (-1, 1).

    Args:
        seed: of the initial weights.
        convolution: how the convolutions between maps are computed.
        precision: of all layers but the last.
        leaky_slope: of the rectifiers, below zero.
    """
    initializers = _initializers(seed, first=0)
    layers = keras.layers
    transposed = partial(
        DftConv2DTranspose if convolution == "dft" else layers.Conv2DTranspose,
        kernel_size=KERNEL_SIZE,
        padding="same",
        use_bias=False,
        dtype=precision,
    )
    return keras.Sequential(
        [
            keras.Input((LATENT_SIZE,), name="latents"),
            layers.Dense(
                7 * 7 * 256, use_bias=False, kernel_initializer=next(initializers), dtype=precision, name="project"
            ),
            *_normalized("project", leaky_slope, precision),
            layers.Reshape((7, 7, 256), dtype=precision, name="to_maps"),
            transposed(128, strides=1, kernel_initializer=next(initializers), name="refine"),
            *_normalized("refine", leaky_slope, precision),
            transposed(64, strides=2, kernel_initializer=next(initializers), name="to_14x14"),
            *_normalized("to_14x14", leaky_slope, precision),
            # float32 also under mixed precision: pictures leave the network in it
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
    seed: int = 0,
    convolution: Literal["direct", "dft"] = "direct",
    precision: Precision = "float32",
    leaky_slope: float = LEAKY_SLOPE,
    dropout_rate: float = DROPOUT_RATE,
    hidden_units: int | None = None,
) -> keras.Model:
    """Return the network from [images float32 (n, 28, 28, 1), dropout seed int32 (2,)] to logits float32 (n, 1).

    Args:
        seed: of the initial weights.
        convolution: how the convolution between maps is computed.
        precision: of all layers but the last.
        leaky_slope: of the rectifiers, below zero.
        dropout_rate: of both dropouts.
        hidden_units: of the dense layer between maps and logit; None = no such layer, as in the seed.
    """
    initializers = _initializers(seed, first=16)
    layers = keras.layers
    strided: dict[str, object] = {"kernel_size": KERNEL_SIZE, "strides": 2, "padding": "same", "dtype": precision}
    rectified_and_dropped = partial(_rectified_and_dropped, slope=leaky_slope, rate=dropout_rate, precision=precision)
    between_maps = DftConv2D if convolution == "dft" else layers.Conv2D
    images = keras.Input(IMAGE_SHAPE, name="images")
    dropout_seed = keras.Input(batch_shape=(2,), dtype="int32", name="dropout_seed")
    x = layers.Conv2D(64, kernel_initializer=next(initializers), name="to_14x14", **strided)(images)
    x = rectified_and_dropped("to_14x14", 0)(x, dropout_seed)
    x = between_maps(128, kernel_initializer=next(initializers), name="to_7x7", **strided)(x)
    x = rectified_and_dropped("to_7x7", 1)(x, dropout_seed)
    x = layers.Flatten(dtype=precision, name="flatten")(x)
    dense = layers.Dense
    if hidden_units:
        x = dense(hidden_units, kernel_initializer=next(initializers), dtype=precision, name=HIDDEN)(x)
        x = layers.LeakyReLU(leaky_slope, dtype=precision, name=f"{HIDDEN}_relu")(x)
    # float32 also under mixed precision: the loss is computed from these
    logits = dense(1, kernel_initializer=next(initializers), dtype="float32", name="logit")(x)
    return keras.Model([images, dropout_seed], logits, name="discriminator")


def hidden_layer(discriminator: keras.Model) -> keras.layers.Dense | None:
    """Return the dense layer between maps and logit, where the discriminator has one."""
    return next((layer for layer in discriminator.layers if layer.name == HIDDEN), None)


def _normalized(name: str, slope: float, precision: Precision) -> list[keras.layers.Layer]:
    # several devices normalise by the whole batch's statistics, as one device does
    several_devices = tf.distribute.get_strategy().num_replicas_in_sync > 1
    return [
        keras.layers.BatchNormalization(synchronized=several_devices, dtype=precision, name=f"{name}_norm"),
        keras.layers.LeakyReLU(slope, dtype=precision, name=f"{name}_relu"),
    ]


def _rectified_and_dropped(
    name: str, index: int, slope: float, rate: float, precision: Precision
) -> Callable[[keras.KerasTensor, keras.KerasTensor], keras.KerasTensor]:
    rectifier = keras.layers.LeakyReLU(slope, dtype=precision, name=f"{name}_relu")
    dropout = SeededDropout(rate, index=index, dtype=precision, name=f"{name}_dropout")
    return lambda x, seed: dropout((rectifier(x), seed))


def _initializers(seed: int, first: int) -> Iterator[keras.Initializer]:
    """Yield the initializer of one layer after another; `first` keeps the two networks apart."""
    index = first
    while True:
        yield keras.initializers.GlorotUniform(seed=layer_seed(seed, index))
        index += 1
