"""This project's step on the images of a file, held whole or streamed as the recipe's sizes have it."""

from collections.abc import Callable, Iterator
from itertools import count, islice
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from benchmarks.serving import serve
from dcgan.gan import Gan
from dcgan.parquet_images import ParquetImages
from dcgan.parts import Streamed, Whole, parts_of
from dcgan.recipe import CLASSIC


def make(batch_size: int, path: str, images: str) -> Callable[[int], None]:
    """Return the step of `classic` with this batch size, on the first so many images of a Parquet file.

    A part is read when the steps come to it, so within the time that is measured.
    """
    recipe = CLASSIC.model_copy(update={"batch_size": batch_size, "max_images": int(images)})
    parts, held = parts_of(ParquetImages(Path(path)), recipe)
    gan = Gan(recipe, 0, held, "cpu", parts.rows)
    batches = enumerate(_batches(gan, parts))

    def run(steps: int) -> None:
        for step, rows in islice(batches, steps):
            gan.run(rows[np.newaxis], first_step=step)

    return run


def _batches(gan: Gan, parts: Whole | Streamed) -> Iterator[np.ndarray]:
    """Yield batches without end, their part put on the device before them."""
    for epoch in count(1):
        for part in parts.epoch(gan.seed, epoch):
            if part.blocks is not None:
                gan.replace_images(part.kept, part.blocks)
            yield from part.order


if __name__ == "__main__":
    serve(make, {"tensorflow": tf.__version__, "keras": keras.__version__})
