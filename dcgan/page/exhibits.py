"""The pictures on a generator's page: its fixed latents, the way between them, and what is nearest to being a copy."""

from typing import NamedTuple

import numpy as np

from dcgan.generation import Generator
from dcgan.interpolation import closed_walk
from dcgan.quality.memorisation import Pairs
from dcgan.randomness import fixed_latents
from dcgan.recipe import LATENT_SIZE
from dcgan.rendering import GRID_SIDE

STEPS = 8  # from one fixed latent vector to the next


class Exhibits(NamedTuple):
    """What a generator makes.

    Attributes:
        walk: float32 (128, 28, 28, 1) in [-1, 1], of the fixed latents and seven steps after each.
        pairs: generated images beside their nearest training images.
    """

    walk: np.ndarray
    pairs: Pairs

    @property
    def samples(self) -> np.ndarray:
        """The images float32 (16, 28, 28, 1) of the fixed latents."""
        return self.walk[::STEPS]


def exhibits(generator: Generator, seed: int, pairs: Pairs) -> Exhibits:
    """Return the pictures of a generator; `seed` is that of its training, whose fixed latents are shown."""
    latents = fixed_latents(seed, GRID_SIDE**2, LATENT_SIZE)
    return Exhibits(generator(closed_walk(latents, STEPS)), pairs)
