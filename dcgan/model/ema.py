"""The EMA generator: the one that is shown, evaluated and registered, which need not be the one that is trained.

Where the recipe keeps an exponential moving average (EMA) of the weights, it has the averaged weights and recalibrated
batch statistics; else it is the trained generator with the moving statistics that training left.
"""

from collections.abc import Iterator, Mapping

import keras
import numpy as np
import tensorflow as tf

from dcgan.model.networks import KERAS_PASSES, KerasPasses, build_generator
from dcgan.recipe import LATENT_SIZE, Recipe
from dcgan.rng import Stream, numpy_generator

EMA = "ema"
# steps between updates of the average: it reads and writes all weights, and hardly differs from an update in every step
EMA_INTERVAL = 4
RECALIBRATION_BATCHES = 4
RECALIBRATION_BATCH_SIZE = 512


def ema_decay(step: tf.Tensor, batch_size: int, half_life_images: float, ramp_up: float) -> tf.Tensor:
    """Return the fraction of the average that a step keeps, a float32 scalar.

    Half of the average comes from the last `half_life_images` images, or from fewer at the beginning (Karras et al.,
    https://arxiv.org/abs/2206.00364, whose training loop ramps the half-life up in this way).

    Args:
        step: Number of the step, int32 scalar, from 0.
        batch_size: Real images of a step.
        half_life_images: The half-life in real images.
        ramp_up: The longest half-life as a fraction of the images seen so far.
    """
    images = tf.cast(step + 1, tf.float32) * batch_size
    return 0.5 ** (batch_size / tf.minimum(tf.constant(half_life_images, tf.float32), images * ramp_up))


class EmaGenerator:
    """Makes the EMA generator of the states of one training run.

    Args:
        recipe: Gives the negative slope, and says whether weights are averaged.
        seed: Seed of the latents that recalibrate the batch statistics.
        passes: How the large convolutions are computed; the weights are the same.
    """

    def __init__(self, recipe: Recipe, seed: int, passes: KerasPasses = KERAS_PASSES) -> None:
        self._averages = recipe.ema_half_life_images is not None
        self._generator = build_generator(passes=passes, recipe=recipe)
        self._seed = seed

    def generator(self, arrays: Mapping[str, np.ndarray]) -> keras.Model:
        """Return the generator of a state (what `Gan.state()` returns); the next call changes it."""
        averaged = (
            {name.replace(EMA, "generator", 1): array for name, array in arrays.items()} if self._averages else {}
        )
        assign_weights(self._generator, {**arrays, **averaged})
        if self._averages:
            recalibrate_batch_norm(self._generator, self._recalibration_latents())
        return self._generator

    def _recalibration_latents(self) -> Iterator[np.ndarray]:
        for batch in range(RECALIBRATION_BATCHES):
            draw = numpy_generator(self._seed, Stream.RECALIBRATION, batch)
            yield draw.standard_normal((RECALIBRATION_BATCH_SIZE, LATENT_SIZE), dtype=np.float32)


def recalibrate_batch_norm(generator: keras.Model, batches: Iterator[np.ndarray]) -> None:
    """Set every BatchNormalization's moving statistics to the mean of its statistics over batches of latents.

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


def assign_weights(generator: keras.Model, arrays: Mapping[str, np.ndarray]) -> None:
    """Set a generator's weights from arrays by the variables' paths."""
    for variable in generator.weights:
        variable.assign(arrays[variable.path])


def untrained_images(recipe: Recipe, seed: int, latents: np.ndarray) -> np.ndarray:
    """Return what a training run's generator makes of latents float32 (n, 100) before its first step."""
    generator = build_generator(seed, recipe=recipe)
    images: np.ndarray = np.asarray(generator(latents, training=False))
    return images
