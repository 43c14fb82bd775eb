"""This project's step, as the training loop runs it: many steps in one compiled call."""

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from benchmarks.worker import serve
from dcgan.recipe import RECIPES, DeviceChoice, Precision, RecipeName
from dcgan.training.step import Gan

IMAGES = 8192


def make(
    batch_size: int, recipe: RecipeName, device: DeviceChoice = "cpu", precision: Precision = "float32"
) -> Callable[[int], None]:
    """Return the step of a recipe with this batch size."""
    random = np.random.default_rng(0)
    images = random.uniform(-1, 1, (IMAGES, 28, 28, 1)).astype(np.float32)
    changed = RECIPES[recipe].model_copy(update={"batch_size": batch_size, "precision": precision})
    gan = Gan(changed, 0, images, device)
    taken = 0

    def run(steps: int) -> None:
        nonlocal taken
        order = random.integers(0, IMAGES, (steps, batch_size)).astype(np.int32)
        gan.run(order, first_step=taken)
        taken += steps

    return run


if __name__ == "__main__":
    serve(make, {"tensorflow": tf.__version__, "keras": keras.__version__})
