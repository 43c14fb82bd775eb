"""The two classifiers through which pictures are judged: small, and unlike each other in all that matters.

The evaluator selects: its figures are watched in training and decide the gate. The judge only reports, so that what
was selected is also measured by something that had no part in it. Both are float32 whatever the global dtype policy is.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import keras

from dcgan.mnist import CLASSES
from dcgan.randomness import layer_seed
from dcgan.recipe import IMAGE_SHAPE

Role = Literal["evaluator", "judge"]


@dataclass(frozen=True)
class Plan:
    """How one of the two classifiers is built and trained.

    Attributes:
        build: makes the network, from images float32 (n, 28, 28, 1) to [features (n, d), logits (n, 10)].
        seed: of the initial weights, the order and the shifts.
        epochs: passes over the training half.
        batch_size: images in a step; the last, shorter batch of an epoch is dropped.
        learning_rate: Adam's at the first step, from where it falls linearly to zero.
    """

    role: Role
    build: Callable[[int], keras.Model]
    seed: int
    epochs: int
    batch_size: int
    learning_rate: float


def build_evaluator(seed: int) -> keras.Model:
    """Return a network of strided convolutions whose 128 features know where in the picture a stroke lies."""
    images = keras.Input(IMAGE_SHAPE, name="images")
    x = _convolution(24, 5, 2, seed, 0)(images)
    x = _convolution(48, 3, 2, seed, 1)(x)
    x = _convolution(48, 3, 1, seed, 2)(x)
    x = _convolution(64, 3, 2, seed, 3)(x)
    x = keras.layers.Flatten(dtype="float32", name="flatten")(x)
    initializer = keras.initializers.HeNormal(layer_seed(seed, 4))
    dense = keras.layers.Dense(128, activation="relu", kernel_initializer=initializer, dtype="float32", name="features")
    return _with_logits(images, dense(x), seed, "evaluator")


def build_judge(seed: int) -> keras.Model:
    """Return a network of stride 1 with one pooling, whose 96 features are averages over the picture."""
    images = keras.Input(IMAGE_SHAPE, name="images")
    x = _convolution(24, 5, 2, seed, 0)(images)
    x = _convolution(40, 3, 1, seed, 1)(x)
    x = keras.layers.MaxPooling2D(dtype="float32", name="pool")(x)
    x = _convolution(72, 3, 1, seed, 2)(x)
    x = _convolution(96, 3, 1, seed, 3)(x)
    features = keras.layers.GlobalAveragePooling2D(dtype="float32", name="features")(x)
    return _with_logits(images, features, seed, "judge")


PLANS: dict[Role, Plan] = {
    "evaluator": Plan("evaluator", build_evaluator, seed=1, epochs=7, batch_size=128, learning_rate=2e-3),
    "judge": Plan("judge", build_judge, seed=2, epochs=7, batch_size=96, learning_rate=3e-3),
}


def _convolution(filters: int, size: int, strides: int, seed: int, index: int) -> keras.layers.Layer:
    return keras.layers.Conv2D(
        filters,
        size,
        strides=strides,
        padding="same",
        activation="relu",
        kernel_initializer=keras.initializers.HeNormal(layer_seed(seed, index)),
        dtype="float32",
        name=f"convolution_{index}",
    )


def _with_logits(images: keras.KerasTensor, features: keras.KerasTensor, seed: int, name: str) -> keras.Model:
    initializer = keras.initializers.GlorotUniform(layer_seed(seed, 5))
    logits = keras.layers.Dense(CLASSES, kernel_initializer=initializer, dtype="float32", name="logits")(features)
    return keras.Model(images, [features, logits], name=name)
