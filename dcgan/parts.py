"""The training images in parts that fit on the device: all at once, or row groups of a Parquet file in turn.

Why rows are shuffled within parts, and what that costs, is told in docs/decisions/streaming.md.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from dcgan.errors import DataError
from dcgan.parquet import read_parquet, row_groups
from dcgan.parquet_images import ParquetImages
from dcgan.randomness import epoch_order
from dcgan.recipe import IMAGE_SHAPE, Recipe
from dcgan.shuffling import Run, shuffled_runs

NO_IMAGES = np.empty((0, *IMAGE_SHAPE), np.float32)


class Part(NamedTuple):
    """Images that are on the device together, and their batches.

    Attributes:
        order: int32 (steps, batch_size), the rows of each batch.
        read: gives the images, float32 (n, 28, 28, 1); to be called once for each part, in turn. None = those that the
            device holds already.
    """

    order: np.ndarray
    read: Callable[[], np.ndarray] | None


class Whole:
    """All images as one part, which the device holds from the beginning.

    Attributes:
        rows: how many there are.
        steps_per_epoch: the batches that they fill.
    """

    def __init__(self, rows: int, batch_size: int) -> None:
        self.rows = rows
        self.steps_per_epoch = rows // batch_size
        self._batch_size = batch_size

    def epoch(self, seed: int, epoch: int) -> Iterator[Part]:
        """Yield the one part of an epoch, counted from 1."""
        yield Part(epoch_order(seed, epoch, self.rows, self._batch_size), None)


class Streamed:
    """Images that are read part by part, in every epoch anew.

    Args:
        images: the file.
        rows: how many are trained on, the first ones of the file.
        recipe: batch size, and how many images a part has.

    Attributes:
        rows: as above.
        steps_per_epoch: the batches that they fill.
    """

    def __init__(self, images: ParquetImages, rows: int, recipe: Recipe) -> None:
        self.rows = rows
        self.steps_per_epoch = rows // recipe.batch_size
        self._recipe = recipe
        self._path = images.path
        # of each row group, as many rows as are trained on
        self._group_rows = np.diff(np.minimum(np.cumsum(images.group_rows), rows), prepend=0)

    def epoch(self, seed: int, epoch: int) -> Iterator[Part]:
        """Yield the parts of an epoch, counted from 1; each is to be read before the next one is asked for.

        Raises:
            DataError: when a part is read: the file is damaged, or is not the one that was opened.
        """
        left = NO_IMAGES

        def read(run: Run) -> np.ndarray:
            nonlocal left
            images = self._read(run.groups, left)
            left = images[run.left]
            return images

        for run in shuffled_runs(seed, epoch, self._group_rows, self._recipe.batch_size, self._recipe.shuffle_images):
            yield Part(run.order, partial(read, run))

    def _read(self, groups: Sequence[int], left: np.ndarray) -> np.ndarray:
        """Return the images that were left over, and then those of row groups."""
        images = np.empty((len(left) + self._group_rows[list(groups)].sum(), *IMAGE_SHAPE), np.float32)
        images[: len(left)] = left
        filled = len(left)
        for group, (found, _) in zip(groups, row_groups(self._path, groups), strict=True):
            rows = self._group_rows[group]
            if len(found) < rows:
                raise DataError(f"{self._path}: row group {group} holds {len(found)} rows; expected at least {rows}.")
            images[filled : filled + rows] = found[:rows]
            filled += rows
        return images


def parts_of(images: np.ndarray | ParquetImages, recipe: Recipe) -> tuple[Whole | Streamed, np.ndarray]:
    """Return the parts that a recipe trains on, and the images that the device is to hold from the beginning.

    A file with more images than are shuffled together is streamed. An array is there anyway, so it is one part.

    Args:
        images: float32 (n, 28, 28, 1) in [-1, 1], or a file of such.
        recipe: of how many of them, in batches and parts of which size.

    Raises:
        DataError: a batch is larger than the data, or the file is damaged.
    """
    rows = min(len(images), recipe.max_images or len(images))
    if recipe.batch_size > rows:
        raise DataError(
            f"A batch of {recipe.batch_size} images is larger than the training set of {rows}; "
            "expected a smaller batch_size or more data."
        )
    if not isinstance(images, ParquetImages):
        return Whole(rows, recipe.batch_size), images[:rows]
    if rows > recipe.shuffle_images:
        return Streamed(images, rows, recipe), NO_IMAGES
    return Whole(rows, recipe.batch_size), read_parquet(images.path, rows)[0]
