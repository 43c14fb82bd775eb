"""Every random number as a pure function of (seed, stream, position).

No generator keeps a state, so a training run that is resumed at any step draws what it would have drawn (the approach
of EDM2, https://arxiv.org/abs/2312.02696, whose training is a function of seed and step).
"""

from enum import IntEnum

import numpy as np


class Stream(IntEnum):
    """The independent uses of randomness; a value is never used twice for two things."""

    INITIAL_WEIGHTS = 0
    ORDER = 1
    LATENTS = 2
    DROPOUT = 3
    RECALIBRATION = 4
    FIXED_LATENTS = 5
    EPOCH_EVALUATION = 6
    EVALUATION = 7
    GENERATION = 8


def numpy_generator(seed: int, stream: Stream, position: int = 0) -> np.random.Generator:
    """Return a NumPy generator whose draws depend only on the three arguments (each >= 0)."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, int(stream), position])))


def epoch_order(seed: int, epoch: int, rows: int, batch_size: int) -> np.ndarray:
    """Return which rows make up which batch of an epoch.

    Args:
        seed: Seed of the training run.
        epoch: Number of the epoch, from 1.
        rows: Number of rows of the training set.
        batch_size: Rows per batch; the last, shorter batch is dropped.

    Returns:
        Row numbers, int32 (rows // batch_size, batch_size), each at most once.
    """
    steps = rows // batch_size
    order = numpy_generator(seed, Stream.ORDER, epoch).permutation(rows)
    return order[: steps * batch_size].reshape(steps, batch_size).astype(np.int32)


def fixed_latents(seed: int, count: int, size: int) -> np.ndarray:
    """Return the latents of every sample grid of a training run: float32 (count, size), standard normal."""
    return numpy_generator(seed, Stream.FIXED_LATENTS).standard_normal((count, size), dtype=np.float32)


def layer_seed(seed: int, index: int) -> int:
    """Return the initializer's seed of the `index`-th layer that has weights, in [0, 2**31)."""
    return int(numpy_generator(seed, Stream.INITIAL_WEIGHTS, index).integers(2**31))
