"""Images that a generator makes, batch by batch: the n-th depends on the seed alone, not on how many are asked for."""

from collections.abc import Callable, Iterator

import numpy as np

from dcgan.errors import ModelError
from dcgan.randomness import Stream, numpy_generator
from dcgan.recipe import IMAGE_SHAPE, LATENT_SIZE

BATCH_ROWS = 512

Generator = Callable[[np.ndarray], np.ndarray]
"""From latents float32 (n, 100) to images float32 (n, 28, 28, 1) in [-1, 1]."""


def generated_batches(generator: Generator, seed: int, stream: Stream, count: int) -> Iterator[np.ndarray]:
    """Yield `count` images in batches float32 (at most 512, 28, 28, 1) in [-1, 1].

    Args:
        generator: makes the images; it is always asked for a whole batch, since another number may round differently.
        seed: of the latents.
        stream: what the images are for.
        count: how many images, at least one.

    Raises:
        ModelError: what the generator gives are not such images.
    """
    for index in range(-(-count // BATCH_ROWS)):
        latents = numpy_generator(seed, stream, index).standard_normal((BATCH_ROWS, LATENT_SIZE), dtype=np.float32)
        images = generator(latents)
        _require_images(images)
        yield images[: count - index * BATCH_ROWS]


def _require_images(images: np.ndarray) -> None:
    expected = f"float32 ({BATCH_ROWS}, {', '.join(map(str, IMAGE_SHAPE))}) from -1 to 1"
    if images.shape != (BATCH_ROWS, *IMAGE_SHAPE) or images.dtype != np.float32:
        raise ModelError(f"The generator gives {images.dtype} {images.shape}; expected {expected}.")
    if not (images.min() >= -1 and images.max() <= 1):  # also false for NaN
        raise ModelError(f"The generator gives values outside [-1, 1] or not finite; expected {expected}.")
