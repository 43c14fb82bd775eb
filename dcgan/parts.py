"""The training images in parts that fit on the device: all at once, or row groups of a Parquet file in turn.

Why rows are shuffled within parts, and what that costs, is told in docs/decisions/streaming.md.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from dcgan.errors import DataError
from dcgan.parquet import read_parquet, row_groups
from dcgan.parquet_images import ParquetImages
from dcgan.randomness import epoch_order
from dcgan.recipe import IMAGE_SHAPE, Recipe
from dcgan.shuffling import most_rows, shuffled_runs

NOTHING = np.empty(0, int)


class Part(NamedTuple):
    """Images that are on the device together, and their batches.

    Attributes:
        order: int32 (steps, batch_size), the rows of each batch.
        kept: int (n,), the rows of the part before that this one begins with.
        blocks: its other images, float32 (n, 28, 28, 1) at a time. None = the device holds the part already.
    """

    order: np.ndarray
    kept: np.ndarray
    blocks: Iterator[np.ndarray] | None


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
        yield Part(epoch_order(seed, epoch, self.rows, self._batch_size), NOTHING, None)


class Streamed:
    """Images that are read part by part, in every epoch anew.

    Args:
        images: the file.
        rows: how many are trained on, the first ones of the file.
        recipe: batch size, and how many images a part has.

    Attributes:
        rows: as above.
        steps_per_epoch: the batches that they fill.
        capacity: the most images that a part has.
    """

    def __init__(self, images: ParquetImages, rows: int, recipe: Recipe) -> None:
        self.rows = rows
        self.steps_per_epoch = rows // recipe.batch_size
        self._recipe = recipe
        self._path = images.path
        # of each row group, as many rows as are trained on
        self._group_rows = np.diff(np.minimum(np.cumsum(images.group_rows), rows), prepend=0)
        self.capacity = most_rows(self._group_rows, recipe.batch_size, recipe.shuffle_images)

    def epoch(self, seed: int, epoch: int) -> Iterator[Part]:
        """Yield the parts of an epoch, counted from 1.

        Raises:
            DataError: when a block is read: the file is damaged, or is not the one that was opened.
        """
        kept = NOTHING
        for run in shuffled_runs(seed, epoch, self._group_rows, self._recipe.batch_size, self._recipe.shuffle_images):
            yield Part(run.order, kept, self._blocks(run.groups))
            kept = run.left

    def _blocks(self, groups: Sequence[int]) -> Iterator[np.ndarray]:
        for group, (images, _) in zip(groups, row_groups(self._path, groups), strict=True):
            rows = self._group_rows[group]
            if len(images) < rows:
                raise DataError(f"{self._path}: row group {group} holds {len(images)} rows; expected at least {rows}.")
            yield images[:rows]


def parts_of(images: np.ndarray | ParquetImages, recipe: Recipe) -> tuple[Whole | Streamed, np.ndarray]:
    """Return the parts that a recipe trains on, and the images that the device is to hold in the beginning.

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
        parts = Streamed(images, rows, recipe)
        return parts, np.zeros((parts.capacity, *IMAGE_SHAPE), np.float32)
    return Whole(rows, recipe.batch_size), read_parquet(images.path, rows)[0]
