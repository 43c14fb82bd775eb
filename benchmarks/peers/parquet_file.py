"""This project's step on the images of a Parquet file, resident or streamed as the recipe's shuffle buffer decides."""

from collections.abc import Callable, Iterator
from itertools import count, islice
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from benchmarks.worker import serve
from dcgan.data.parquet import ParquetImages
from dcgan.recipe import CLASSIC
from dcgan.training.step import Gan
from dcgan.training.streaming import ResidentData, StreamedData, open_training_data


def make(batch_size: int, path: str, images: str) -> Callable[[int], None]:
    """Return the step of `classic` with this batch size, on the first `images` images of a Parquet file.

    A chunk is read when the steps reach it, so reading is part of the time that is measured.
    """
    recipe = CLASSIC.model_copy(update={"batch_size": batch_size, "max_images": int(images)})
    data, resident = open_training_data(ParquetImages(Path(path)), recipe)
    gan = Gan(recipe, 0, resident, "cpu", data.rows)
    batches = enumerate(_batches(gan, data))

    def run(steps: int) -> None:
        for step, rows in islice(batches, steps):
            gan.run(rows[np.newaxis], first_step=step)

    return run


def _batches(gan: Gan, data: ResidentData | StreamedData) -> Iterator[np.ndarray]:
    """Yield batches without end, each after its chunk was put on the device."""
    for epoch in count(1):
        for chunk in data.epoch(gan.seed, epoch):
            if chunk.blocks is not None:
                gan.replace_images(chunk.retained, chunk.blocks)
            yield from chunk.order


if __name__ == "__main__":
    serve(make, {"tensorflow": tf.__version__, "keras": keras.__version__})
