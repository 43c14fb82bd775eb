"""The training images as they reach the device: all at once, or chunk by chunk from a Parquet file.

An epoch is one sequence of rows, cut into batches. Resident data is one chunk. Streamed data is read in chunks of
several row groups, whose order is drawn anew in every epoch, and the rows within a chunk are shuffled: a batch may span
two chunks. docs/decisions/streaming.md says what this costs.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from dcgan.data.parquet import ParquetImages, read_parquet, row_groups
from dcgan.errors import DataError
from dcgan.recipe import IMAGE_SHAPE, Recipe
from dcgan.rng import Stream, epoch_order, numpy_generator

NO_ROWS = np.empty(0, int)


class ChunkPlan(NamedTuple):
    """Which rows a chunk of streamed data has, and their batches.

    Attributes:
        groups: Row groups that the chunk adds, in the order in which they are read.
        order: Rows of each batch, int32 (steps, batch_size), counted from the first row left over by the chunk before.
        left: Rows that are left over for the next chunk, int (n,), fewer than a batch.
    """

    groups: list[int]
    order: np.ndarray
    left: np.ndarray


class Chunk(NamedTuple):
    """Images that are on the device together, and their batches.

    Attributes:
        order: Rows of each batch, int32 (steps, batch_size).
        retained: Rows of the previous chunk with which this one begins, int (n,).
        blocks: Its other images, blocks of float32 (n, 28, 28, 1). None means that the device has the chunk already.
    """

    order: np.ndarray
    retained: np.ndarray
    blocks: Iterator[np.ndarray] | None


class ResidentData:
    """Training images that the device holds from the beginning, as one chunk.

    Attributes:
        rows: Number of images.
        steps_per_epoch: Number of full batches.
    """

    def __init__(self, rows: int, batch_size: int) -> None:
        self.rows = rows
        self.steps_per_epoch = rows // batch_size
        self._batch_size = batch_size

    def epoch(self, seed: int, epoch: int) -> Iterator[Chunk]:
        """Yield the one chunk of an epoch, which is counted from 1."""
        yield Chunk(epoch_order(seed, epoch, self.rows, self._batch_size), NO_ROWS, None)


class StreamedData:
    """Training images that are read chunk by chunk, anew in every epoch.

    Args:
        images: The Parquet file.
        rows: Number of images to train on, the first ones of the file.
        recipe: Gives the batch size and the size of a chunk.

    Attributes:
        rows: As above.
        steps_per_epoch: Number of full batches.
        capacity: The most images that a chunk has.
    """

    def __init__(self, images: ParquetImages, rows: int, recipe: Recipe) -> None:
        self.rows = rows
        self.steps_per_epoch = rows // recipe.batch_size
        self._recipe = recipe
        self._path = images.path
        # of each row group, as many rows as are trained on
        self._group_rows = np.diff(np.minimum(np.cumsum(images.group_rows), rows), prepend=0)
        self.capacity = max_chunk_rows(self._group_rows, recipe.batch_size, recipe.shuffle_buffer_images)

    def epoch(self, seed: int, epoch: int) -> Iterator[Chunk]:
        """Yield the chunks of an epoch, which is counted from 1.

        Raises:
            DataError: While a block is read: the file is damaged, or is not the one that was opened.
        """
        retained = NO_ROWS
        recipe = self._recipe
        for plan in chunk_plans(seed, epoch, self._group_rows, recipe.batch_size, recipe.shuffle_buffer_images):
            yield Chunk(plan.order, retained, self._blocks(plan.groups))
            retained = plan.left

    def _blocks(self, groups: Sequence[int]) -> Iterator[np.ndarray]:
        for group, (images, _) in zip(groups, row_groups(self._path, groups), strict=True):
            rows = self._group_rows[group]
            if len(images) < rows:
                raise DataError(f"{self._path}: row group {group} has {len(images)} rows; expected at least {rows}.")
            yield images[:rows]


def open_training_data(
    images: np.ndarray | ParquetImages, recipe: Recipe
) -> tuple[ResidentData | StreamedData, np.ndarray]:
    """Return the data that a recipe trains on, and the images that the device holds at the beginning.

    A file with more images than the shuffle buffer is streamed. An array is in memory anyway, so it is resident.

    Args:
        images: Training images, float32 (n, 28, 28, 1) in [-1, 1], or a file of them.
        recipe: Gives the number of images, the batch size and the size of the shuffle buffer.

    Raises:
        DataError: A batch is larger than the data, or the file is damaged.
    """
    rows = min(len(images), recipe.max_images or len(images))
    if recipe.batch_size > rows:
        raise DataError(
            f"A batch of {recipe.batch_size} images is larger than the training set of {rows}; "
            "expected a smaller batch_size or more data."
        )
    if not isinstance(images, ParquetImages):
        return ResidentData(rows, recipe.batch_size), images[:rows]
    if rows > recipe.shuffle_buffer_images:
        data = StreamedData(images, rows, recipe)
        return data, np.zeros((data.capacity, *IMAGE_SHAPE), np.float32)
    return ResidentData(rows, recipe.batch_size), read_parquet(images.path, rows)[0]


def chunk_plans(
    seed: int, epoch: int, group_rows: Sequence[int] | np.ndarray, batch_size: int, shuffle_buffer_images: int
) -> Iterator[ChunkPlan]:
    """Yield the plan of each chunk of an epoch.

    Every row comes at most once; what is missing is the epoch's last batch, if it would be short.

    Args:
        seed: Seed of the training run.
        epoch: Number of the epoch, from 1.
        group_rows: Rows of each row group; empty ones are skipped.
        batch_size: Rows per batch.
        shuffle_buffer_images: The most rows that a chunk adds, but for a single row group that is larger.
    """
    draw = numpy_generator(seed, Stream.ORDER, epoch)
    sizes = np.asarray(group_rows)
    groups = draw.permutation(np.flatnonzero(sizes))
    left = 0
    for chunk in np.array_split(groups, _chunk_count(sizes, shuffle_buffer_images)):
        rows = draw.permutation(sizes[chunk].sum())
        order = np.concatenate([np.arange(left), left + rows])
        end = len(order) - len(order) % batch_size
        yield ChunkPlan(chunk.tolist(), order[:end].reshape(-1, batch_size).astype(np.int32), order[end:])
        left = len(order) - end


def max_chunk_rows(group_rows: Sequence[int] | np.ndarray, batch_size: int, shuffle_buffer_images: int) -> int:
    """Return the most rows that a chunk can have in any epoch, including those left over by the one before."""
    sizes = np.sort(group_rows)
    groups = -(-np.count_nonzero(sizes) // _chunk_count(sizes, shuffle_buffer_images))
    return int(sizes[-groups:].sum()) + batch_size - 1


def _chunk_count(sizes: np.ndarray, shuffle_buffer_images: int) -> int:
    groups_per_chunk = max(1, shuffle_buffer_images // int(sizes.max()))
    return -(-int(np.count_nonzero(sizes)) // groups_per_chunk)
