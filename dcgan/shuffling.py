"""The order of an epoch whose images are in memory part by part, as a plan of row numbers.

An epoch is one sequence of rows, cut into batches. It goes through the row groups in an order drawn anew, in runs of
several groups, and shuffles the rows within a run: a batch may lie across the border of two.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from dcgan.randomness import Stream, numpy_generator


class Run(NamedTuple):
    """The plan of a part.

    Attributes:
        groups: the row groups that it adds, in the order in which they are read.
        order: int32 (steps, batch_size), rows, counted from the first one left over by the part before.
        left: int (n,), the rows that are left over for the part after, fewer than a batch.
    """

    groups: list[int]
    order: np.ndarray
    left: np.ndarray


def shuffled_runs(
    seed: int, epoch: int, group_rows: Sequence[int] | np.ndarray, batch_size: int, shuffle_images: int
) -> Iterator[Run]:
    """Yield the plan of each part of an epoch.

    Every row comes at most once; what is missing of them is the epoch's last batch, if it would be short.

    Args:
        seed: the training's seed.
        epoch: counted from 1.
        group_rows: the rows of each row group; empty ones are passed over.
        batch_size: rows of a batch.
        shuffle_images: about how many rows a part adds; with row groups of equal size, at most.
    """
    draw = numpy_generator(seed, Stream.ORDER, epoch)
    sizes = np.asarray(group_rows)
    groups = draw.permutation(np.flatnonzero(sizes))
    left = 0
    for run in np.array_split(groups, _run_count(sizes, shuffle_images)):
        rows = draw.permutation(sizes[run].sum())
        order = np.concatenate([np.arange(left), left + rows])
        end = len(order) - len(order) % batch_size
        yield Run(run.tolist(), order[:end].reshape(-1, batch_size).astype(np.int32), order[end:])
        left = len(order) - end


def most_rows(group_rows: Sequence[int] | np.ndarray, batch_size: int, shuffle_images: int) -> int:
    """Return the most rows that a part can have in any epoch, those left over by the part before included."""
    sizes = np.sort(group_rows)
    groups = -(-np.count_nonzero(sizes) // _run_count(sizes, shuffle_images))
    return int(sizes[-groups:].sum()) + batch_size - 1


def _run_count(sizes: np.ndarray, shuffle_images: int) -> int:
    return int(min(-(-sizes.sum() // shuffle_images), np.count_nonzero(sizes)))
