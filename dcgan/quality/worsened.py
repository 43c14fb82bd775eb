"""Images that are known to be bad, each in its own way: the ceilings of every figure."""

import numpy as np
from scipy.ndimage import gaussian_filter

from dcgan.recipe import LATENT_SIZE

BLUR = 1.0  # standard deviation in pixels
NOISE = 0.3  # standard deviation, in the units of [-1, 1]
SEED = 20_003
ROWS_PER_CALL = 500


def blurred(images: np.ndarray) -> np.ndarray:
    """Return images float32 (n, 28, 28, 1) in [-1, 1] under a Gaussian blur of one pixel."""
    return np.clip(gaussian_filter(images, (0, BLUR, BLUR, 0)), -1, 1).astype(np.float32)


def noisy(images: np.ndarray) -> np.ndarray:
    """Return images float32 (n, 28, 28, 1) in [-1, 1] with Gaussian noise of 0.3, cut off at -1 and 1."""
    noise = _draw().standard_normal(images.shape, dtype=np.float32)
    return np.clip(images + np.float32(NOISE) * noise, -1, 1)


def untrained(count: int) -> np.ndarray:
    """Return what a generator with its initial weights makes: float32 (count, 28, 28, 1) in [-1, 1]."""
    from dcgan.networks import build_generator  # imports TensorFlow

    generator = build_generator(SEED)
    latents = _draw().standard_normal((count, LATENT_SIZE), dtype=np.float32)
    parts = (latents[start : start + ROWS_PER_CALL] for start in range(0, count, ROWS_PER_CALL))
    return np.concatenate([np.asarray(generator(part, training=False)) for part in parts])


def _draw() -> np.random.Generator:
    return np.random.Generator(np.random.Philox(SEED))
