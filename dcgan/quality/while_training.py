"""The cheap figures of every epoch, from the same latents each time, so that epochs compare."""

from collections.abc import Callable, Iterator

import keras
import numpy as np
import tensorflow as tf

from dcgan.quality.evaluation import Reference, evaluate_quickly
from dcgan.randomness import Stream, numpy_generator
from dcgan.recipe import LATENT_SIZE

IMAGES = 5000
ROWS_PER_CALL = 500
FIGURES = ("frechet_distance", "kernel_distance", "class_divergence", "missing_classes", "confidence")


def epoch_evaluator(reference: Reference, images: int = IMAGES) -> Callable[[keras.Model], dict[str, float]]:
    """Return a function from a generator to its figures, each with its noise as NAME_noise.

    Args:
        reference: the test half, as the evaluator sees it.
        images: how many to generate; distances of different numbers do not compare.
    """

    def evaluate(generator: keras.Model) -> dict[str, float]:
        made = np.concatenate([generator(batch, training=False) for batch in _latents(images)])
        estimates = evaluate_quickly(made, reference).estimates()
        values = {name: estimates[name].value for name in FIGURES}
        return values | {f"{name}_noise": estimates[name].noise for name in FIGURES}

    return evaluate


def _latents(count: int) -> Iterator[tf.Tensor]:
    for start in range(0, count, ROWS_PER_CALL):
        draw = numpy_generator(0, Stream.EPOCH_EVALUATION, start)
        rows = min(ROWS_PER_CALL, count - start)
        yield tf.constant(draw.standard_normal((rows, LATENT_SIZE), dtype=np.float32))
