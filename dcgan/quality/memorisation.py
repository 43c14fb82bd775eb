"""Whether generated images are copies of training images, measured against images that cannot be.

The held-out test images were drawn like the training images but are not among them, so their distances from their
nearest training images are what an honest generator's would be (Meehan et al., https://arxiv.org/abs/2004.05675,
section 3, from which the comparison per cell is taken, too: a "1" is always nearer to another than an "8"). Distances
are Euclidean over the 784 pixels in [-1, 1].
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from dcgan.mnist import CLASSES
from dcgan.parquet_images import ParquetImages
from dcgan.quality.noise import Estimate, bootstrap_counts, mean_of, with_bootstrap
from dcgan.quality.view import check_count, check_images, check_labels

COPY_QUANTILE = 0.01
ROWS_PER_BLOCK = 1000
COLUMNS_PER_BLOCK = 10_000  # with the rows, 40 MB of products and 31 MB of pixels at a time


class Nearest(NamedTuple):
    """The nearest training image of each of n images: its row, int64 (n,), and its distance, float64 (n,)."""

    rows: np.ndarray
    distances: np.ndarray


@dataclass(frozen=True, eq=False)
class HeldOut:
    """What images that are no copies look like.

    Attributes:
        training: float32 (m, 28, 28, 1), the training images, or a file of them.
        labels: (m,), their labels, which part the space into cells: an image belongs to its nearest one's.
        median: of the held-out images' distances.
        thresholds: float64 (10,), for each cell the distance that one held-out image in a hundred stays below.
    """

    training: np.ndarray | ParquetImages
    labels: np.ndarray
    median: float
    thresholds: np.ndarray

    def thresholds_beside(self, rows: np.ndarray) -> np.ndarray:
        """Return the thresholds float64 (n,) of the cells of training images, by their rows (n,)."""
        return self.thresholds[self.labels[rows]]


class CopyFigures(NamedTuple):
    """How near generated images lie to training images.

    Attributes:
        ratio: median distance over the held-out images' median; near 0 for copies.
        copied: share of images nearer than their cell's threshold; 0.01 is what held-out images have.
        nearest: of each image.
    """

    ratio: Estimate
    copied: Estimate
    nearest: Nearest


class Pairs(NamedTuple):
    """Generated images, each beside the training image that it lies nearest to.

    Attributes:
        images: float32 (n, 28, 28, 1), generated.
        training: float32 (n, 28, 28, 1).
        distances: float64 (n,), between the two.
        thresholds: float64 (n,), of their cells: what lies below counts as a copy.
    """

    images: np.ndarray
    training: np.ndarray
    distances: np.ndarray
    thresholds: np.ndarray


def prepare_held_out(training: np.ndarray | ParquetImages, labels: np.ndarray | None, held_out: np.ndarray) -> HeldOut:
    """Return what `measure_copying` compares with.

    Args:
        training: float32 (m, 28, 28, 1) in [-1, 1], or a file of such, which is then read again in every search.
        labels: integers (m,) from 0 to 9.
        held_out: float32 (n, 28, 28, 1) in [-1, 1], none of them among the training images.

    Raises:
        DataError: images or labels are not these.
    """
    if isinstance(training, ParquetImages):  # whose values are checked as they are read
        check_count(len(training), "training images")
    else:
        check_images(training, "training images")
    check_images(held_out, "test images")
    known = check_labels(labels, len(training), "training images")
    rows, distances = nearest_training(held_out, training)
    cells = (distances[known[rows] == cell] for cell in range(CLASSES))
    # a cell that no held-out image falls in says nothing, so there all of them speak
    thresholds = [np.quantile(cell if len(cell) else distances, COPY_QUANTILE) for cell in cells]
    return HeldOut(training, known, float(np.median(distances)), np.array(thresholds))


def measure_copying(images: np.ndarray, held_out: HeldOut, replicates: int = 50) -> CopyFigures:
    """Return how near images float32 (n, 28, 28, 1) lie to the training images; noise over the images."""
    nearest = nearest_training(images, held_out.training)
    samples = bootstrap_counts(len(images), replicates)
    medians = (np.median(np.repeat(nearest.distances, counts)) / held_out.median for counts in samples)
    copied = nearest.distances < held_out.thresholds_beside(nearest.rows)
    return CopyFigures(
        ratio=with_bootstrap(float(np.median(nearest.distances)) / held_out.median, medians),
        copied=mean_of(copied),
        nearest=nearest,
    )


def closest_pairs(images: np.ndarray, nearest: Nearest, held_out: HeldOut, count: int) -> Pairs:
    """Return the `count` images that are nearest to being a copy, in parts of their cells' thresholds, nearest first.

    Args:
        images: float32 (n, 28, 28, 1), those that `nearest` is of.
        nearest: what `measure_copying` found.
        held_out: what it compared with.
        count: how many, or all where there are fewer.
    """
    thresholds = held_out.thresholds_beside(nearest.rows)
    # test images that are among the training images have a threshold of zero
    order = np.argsort(nearest.distances / np.maximum(thresholds, np.finfo(float).eps), kind="stable")[:count]
    return Pairs(images[order], held_out.training[nearest.rows[order]], nearest.distances[order], thresholds[order])


def nearest_training(images: np.ndarray, training: np.ndarray | ParquetImages) -> Nearest:
    """Return the nearest of `training` (m, 28, 28, 1) for each of `images` (n, 28, 28, 1), both float32.

    The search is in float32, with bounded memory; the distance of what it finds is then computed in float64.
    """
    flat = images.reshape(len(images), -1)
    best, rows, found = np.full(len(flat), np.inf, np.float32), np.zeros(len(flat), np.int64), np.empty_like(flat)
    parts = [slice(start, start + ROWS_PER_BLOCK) for start in range(0, len(flat), ROWS_PER_BLOCK)]
    start = 0
    for block in _blocks(training):
        columns = block.reshape(len(block), -1)
        half_norms = np.einsum("ij,ij->i", columns, columns) / 2
        for part in parts:
            scores, closest = _nearest_in_block(flat[part], columns, half_norms)
            nearer = scores < best[part]
            best[part][nearer] = scores[nearer]
            rows[part][nearer] = start + closest[nearer]
            found[part][nearer] = columns[closest[nearer]]
        start += len(block)
    distances = [np.linalg.norm(flat[part].astype(np.float64) - found[part], axis=1) for part in parts]
    return Nearest(rows, np.concatenate(distances))


def _blocks(training: np.ndarray | ParquetImages) -> Iterator[np.ndarray]:
    if isinstance(training, ParquetImages):
        return training.blocks()
    return (training[start : start + COLUMNS_PER_BLOCK] for start in range(0, len(training), COLUMNS_PER_BLOCK))


def _nearest_in_block(rows: np.ndarray, columns: np.ndarray, half_norms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Minimise |y|²/2 - xᵀy, which is |x - y|²/2 but for the |x|²/2 that all y share; return minima and their y."""
    scores = rows @ columns.T
    np.subtract(half_norms, scores, out=scores)
    closest = scores.argmin(axis=1)
    return scores[np.arange(len(rows)), closest], closest
