"""The generator as it is shown, evaluated and released, which need not be the one that is trained.

Where the recipe averages weights, it is their average with its batch statistics settled; else it is the trained
generator with the moving statistics that training left.
"""

from collections.abc import Iterator, Mapping
from typing import Literal

import keras
import numpy as np
import tensorflow as tf

from dcgan.checkpoint import Checkpoint
from dcgan.networks import build_generator
from dcgan.randomness import Stream, numpy_generator
from dcgan.recipe import LATENT_SIZE, Recipe

AVERAGE = "average"
SETTLING_BATCHES = 8
SETTLING_BATCH_SIZE = 512
RAMP_UP = 0.05  # of the images seen so far, as the longest half-life: an average should forget the beginning


def average_decay(step: tf.Tensor, batch_size: int, half_life_images: float) -> tf.Tensor:
    """Return how much of the average stays at a step, a float32 scalar.

    Half of what the average holds comes from the last `half_life_images` images, or from fewer in the beginning
    (Karras et al., https://arxiv.org/abs/2206.00364, whose training loop ramps the half-life up so).

    Args:
        step: int32 scalar, from 0.
        batch_size: images of a step.
        half_life_images: the half-life in real images.
    """
    images = tf.cast(step + 1, tf.float32) * batch_size
    return 0.5 ** (batch_size / tf.minimum(tf.constant(half_life_images, tf.float32), images * RAMP_UP))


class Showcase:
    """Makes the generator that is shown of one training's states.

    Args:
        recipe: has the rectifiers' slope, and says whether weights are averaged.
        seed: of the latents that settle the batch statistics.
        convolution: how the large convolutions are computed; the weights are the same.
    """

    def __init__(self, recipe: Recipe, seed: int, convolution: Literal["direct", "dft"] = "direct") -> None:
        self._averages = recipe.average_half_life_images is not None
        self._generator = build_generator(convolution=convolution, leaky_slope=recipe.leaky_slope)
        self._seed = seed

    def generator(self, arrays: Mapping[str, np.ndarray]) -> keras.Model:
        """Return the generator of a state (what `Gan.state()` gives); the next call changes it."""
        averaged = (
            {name.replace(AVERAGE, "generator", 1): array for name, array in arrays.items()} if self._averages else {}
        )
        assign(self._generator, {**arrays, **averaged})
        if self._averages:
            settle(self._generator, self._settling_latents())
        return self._generator

    def _settling_latents(self) -> Iterator[np.ndarray]:
        for batch in range(SETTLING_BATCHES):
            draw = numpy_generator(self._seed, Stream.SETTLING, batch)
            yield draw.standard_normal((SETTLING_BATCH_SIZE, LATENT_SIZE), dtype=np.float32)


def settle(generator: keras.Model, batches: Iterator[np.ndarray]) -> None:
    """Set every BatchNormalization's moving statistics to the mean of its statistics in batches of latents.

    The moving ones belong to weights that have changed since (Izmailov et al., https://arxiv.org/abs/1803.05407,
    section 3.2).
    """
    layers = [layer for layer in generator.layers if isinstance(layer, keras.layers.BatchNormalization)]
    momenta = [layer.momentum for layer in layers]
    for index, latents in enumerate(batches):
        for layer in layers:
            layer.momentum = index / (index + 1)  # the running mean of all batches so far
        generator(latents, training=True)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum


def assign(generator: keras.Model, arrays: Mapping[str, np.ndarray]) -> None:
    """Set a generator's weights from arrays by the variables' paths."""
    for variable in generator.weights:
        variable.assign(arrays[variable.path])


def untrained_images(recipe: Recipe, seed: int, latents: np.ndarray) -> np.ndarray:
    """Return what a training's generator makes of latents float32 (n, 100) before its first step."""
    images: np.ndarray = np.asarray(build_generator(seed, leaky_slope=recipe.leaky_slope)(latents, training=False))
    return images


def released_generator(checkpoint: Checkpoint) -> keras.Model:
    """Return the generator that a training releases, in stock Keras layers: its best if kept, else its last."""
    configuration = checkpoint.description.configuration
    if checkpoint.best:
        generator = build_generator(leaky_slope=configuration.recipe.leaky_slope)
        assign(generator, checkpoint.best)
        return generator
    return Showcase(configuration.recipe, configuration.seed).generator(checkpoint.arrays)
