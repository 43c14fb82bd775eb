"""The seed's two networks, in stock Keras layers except for the discriminator's dropout.

The architecture is the seed article's, which is TensorFlow's DCGAN tutorial's: strided convolutions instead of
pooling, batch normalisation in the generator, leaky rectifiers (Radford et al., https://arxiv.org/abs/1511.06434,
section 3). Initial weights are Keras' defaults (Glorot uniform, zero biases), drawn from `seed` so that the same seed
gives the same bits.
"""

from collections.abc import Iterator

import keras

from dcgan.layers import SeededDropout
from dcgan.randomness import layer_seed
from dcgan.recipe import IMAGE_SHAPE, LATENT_SIZE

LEAKY_SLOPE = 0.3  # Keras' default, which the seed uses; the DCGAN paper has 0.2
DROPOUT_RATE = 0.3
KERNEL_SIZE = 5


def build_generator(seed: int = 0) -> keras.Model:
    """Return the network from latents float32 (n, 100) to images float32 (n, 28, 28, 1) in (-1, 1)."""
    initializers = _initializers(seed, first=0)
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((LATENT_SIZE,), name="latents"),
            layers.Dense(7 * 7 * 256, use_bias=False, kernel_initializer=next(initializers), name="project"),
            layers.BatchNormalization(name="project_norm"),
            layers.LeakyReLU(LEAKY_SLOPE, name="project_relu"),
            layers.Reshape((7, 7, 256), name="to_maps"),
            _transposed(128, 1, next(initializers), name="refine"),
            layers.BatchNormalization(name="refine_norm"),
            layers.LeakyReLU(LEAKY_SLOPE, name="refine_relu"),
            _transposed(64, 2, next(initializers), name="to_14x14"),
            layers.BatchNormalization(name="to_14x14_norm"),
            layers.LeakyReLU(LEAKY_SLOPE, name="to_14x14_relu"),
            _transposed(1, 2, next(initializers), name="to_28x28", activation="tanh"),
        ],
        name="generator",
    )


def build_discriminator(seed: int = 0) -> keras.Model:
    """Return the network from [images float32 (n, 28, 28, 1), dropout seed int32 (2,)] to logits float32 (n, 1)."""
    initializers = _initializers(seed, first=16)
    layers = keras.layers
    images = keras.Input(IMAGE_SHAPE, name="images")
    dropout_seed = keras.Input(batch_shape=(2,), dtype="int32", name="dropout_seed")
    x = _strided(64, next(initializers), name="to_14x14")(images)
    x = layers.LeakyReLU(LEAKY_SLOPE, name="to_14x14_relu")(x)
    x = SeededDropout(DROPOUT_RATE, index=0, name="to_14x14_dropout")((x, dropout_seed))
    x = _strided(128, next(initializers), name="to_7x7")(x)
    x = layers.LeakyReLU(LEAKY_SLOPE, name="to_7x7_relu")(x)
    x = SeededDropout(DROPOUT_RATE, index=1, name="to_7x7_dropout")((x, dropout_seed))
    x = layers.Flatten(name="flatten")(x)
    # float32 also under mixed precision: the loss is computed from these
    logits = layers.Dense(1, kernel_initializer=next(initializers), dtype="float32", name="logit")(x)
    return keras.Model([images, dropout_seed], logits, name="discriminator")


def _transposed(
    filters: int, strides: int, initializer: keras.Initializer, name: str, activation: str | None = None
) -> keras.layers.Layer:
    return keras.layers.Conv2DTranspose(
        filters,
        KERNEL_SIZE,
        strides=strides,
        padding="same",
        use_bias=False,
        activation=activation,
        kernel_initializer=initializer,
        name=name,
        dtype="float32" if filters == 1 else None,  # pictures leave the network in float32
    )


def _strided(filters: int, initializer: keras.Initializer, name: str) -> keras.layers.Layer:
    return keras.layers.Conv2D(
        filters, KERNEL_SIZE, strides=2, padding="same", kernel_initializer=initializer, name=name
    )


def _initializers(seed: int, first: int) -> Iterator[keras.Initializer]:
    """Yield the initializer of one layer after another; `first` keeps the two networks apart."""
    index = first
    while True:
        yield keras.initializers.GlorotUniform(seed=layer_seed(seed, index))
        index += 1
