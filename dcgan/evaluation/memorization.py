"""Whether generated images are copies of training images, measured against images that cannot be copies.

The test images were drawn like the training images but are not among them, so their distances from their nearest
training images are those of a generator that memorized nothing (Meehan et al., https://arxiv.org/abs/2004.05675,
section 3, which also compares cell by cell: a "1" is always nearer to another than an "8" is). Distances are Euclidean
over the 784 pixels in [-1, 1].
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from dcgan.data.idx import CLASSES
from dcgan.data.parquet import ParquetImages
from dcgan.evaluation.cached import cached
from dcgan.evaluation.features import check_count, check_images, check_labels
from dcgan.evaluation.metrics import Estimate, bootstrap_counts, bootstrap_estimate, mean_estimate

THRESHOLD_QUANTILE = 0.01
IMAGES_PER_BLOCK = 1000
TRAINING_IMAGES_PER_BLOCK = 10_000  # with the above, 40 MB of products and 31 MB of pixels at a time


class Nearest(NamedTuple):
    """The nearest training image of each of n images.

    Attributes:
        rows: Rows of the training images, int64 (n,).
        distances: Distances from them, float64 (n,).
    """

    rows: np.ndarray
    distances: np.ndarray


class Limits(BaseModel):
    """How near the test images of a dataset are to its training images."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    dataset_digest: str = Field(description="SHA-256 of the dataset")
    quantile: float = Field(description="Fraction of the test images that are nearer than the thresholds")
    median: float = Field(description="Median distance of the test images from their nearest training images")
    thresholds: tuple[float, ...] = Field(
        min_length=CLASSES,
        max_length=CLASSES,
        description="For each label of the nearest training image, the distance below which that fraction lies",
    )


@dataclass(frozen=True, eq=False)
class MemorizationReference:
    """The training images, and how near the test images are to them.

    Attributes:
        training: The training images, float32 (m, 28, 28, 1), or a file of them.
        labels: Their labels (m,), which divide the space into cells: an image belongs to the cell of the label of its
            nearest training image.
        median: Median distance of the test images from their nearest training images.
        thresholds: For each cell, the distance below which one test image in a hundred lies, float64 (10,).
    """

    training: np.ndarray | ParquetImages
    labels: np.ndarray
    median: float
    thresholds: np.ndarray

    def thresholds_of(self, rows: np.ndarray) -> np.ndarray:
        """Return the thresholds float64 (n,) of the cells of training images, given by their rows (n,)."""
        return self.thresholds[self.labels[rows]]


class MemorizationMetrics(NamedTuple):
    """How near generated images are to training images.

    Attributes:
        ratio: Median distance from the nearest training image, divided by that of the test images; 0 for copies.
        memorized: Fraction of images nearer than the threshold of their cell; test images have 0.01.
        nearest: The nearest training image of each image.
    """

    ratio: Estimate
    memorized: Estimate
    nearest: Nearest


class NearestPairs(NamedTuple):
    """Generated images, each with its nearest training image.

    Attributes:
        images: Generated images, float32 (n, 28, 28, 1).
        training: Their nearest training images, float32 (n, 28, 28, 1).
        distances: Distances between the two, float64 (n,).
        thresholds: Thresholds of their cells, float64 (n,); a smaller distance counts as memorized.
    """

    images: np.ndarray
    training: np.ndarray
    distances: np.ndarray
    thresholds: np.ndarray


def prepare_memorization_reference(
    training: np.ndarray | ParquetImages,
    labels: np.ndarray | None,
    test_images: np.ndarray,
    dataset_digest: str = "",
    cache: Sequence[Path] = (),
) -> MemorizationReference:
    """Return what `measure_memorization` compares with.

    Args:
        training: Training images, float32 (m, 28, 28, 1) in [-1, 1], or a file of them, which every search reads again.
        labels: Their labels, integers (m,) from 0 to 9.
        test_images: float32 (n, 28, 28, 1) in [-1, 1], none of them among the training images.
        dataset_digest: SHA-256 of the dataset that has all of these.
        cache: Folders that may have the limits of this dataset; the last one gets those that are measured.

    Raises:
        DataError: The images or labels are not these.
    """
    if isinstance(training, ParquetImages):  # whose values are checked as they are read
        check_count(len(training), "training images")
    else:
        check_images(training, "training images")
    check_images(test_images, "test images")
    known = check_labels(labels, len(training), "training images")

    def measure() -> Limits:
        rows, distances = nearest_training(test_images, training)
        cells = (distances[known[rows] == cell] for cell in range(CLASSES))
        pooled = np.quantile(distances, THRESHOLD_QUANTILE)
        thresholds = tuple(_threshold(cell, pooled) for cell in cells)
        median = float(np.median(distances))
        return Limits(dataset_digest=dataset_digest, quantile=THRESHOLD_QUANTILE, median=median, thresholds=thresholds)

    def is_usable(found: Limits) -> bool:
        return (found.dataset_digest, found.quantile) == (dataset_digest, THRESHOLD_QUANTILE)

    limits = cached(f"memorization-{dataset_digest[:16]}.json", cache, Limits, is_usable, measure)
    return MemorizationReference(training, known, limits.median, np.array(limits.thresholds))


def _threshold(distances: np.ndarray, pooled: float) -> float:
    """Return the threshold of a cell with test images at these distances.

    A few test images in it, as of a class that is rare in the test set, may be no more than badly placed ones of other
    classes, whose distances are large; the threshold of all test images is a limit then.
    """
    if len(distances) * THRESHOLD_QUANTILE >= 1:
        return float(np.quantile(distances, THRESHOLD_QUANTILE))
    return float(min(pooled, np.quantile(distances, THRESHOLD_QUANTILE)) if len(distances) else pooled)


def measure_memorization(
    images: np.ndarray, reference: MemorizationReference, replicates: int = 50
) -> MemorizationMetrics:
    """Return how near images float32 (n, 28, 28, 1) are to the training images.

    The standard error of the ratio is from `replicates` bootstrap samples of the images.
    """
    nearest = nearest_training(images, reference.training)
    samples = bootstrap_counts(len(images), replicates)
    medians = (np.median(np.repeat(nearest.distances, counts)) / reference.median for counts in samples)
    return MemorizationMetrics(
        ratio=bootstrap_estimate(float(np.median(nearest.distances)) / reference.median, medians),
        memorized=mean_estimate(nearest.distances < reference.thresholds_of(nearest.rows)),
        nearest=nearest,
    )


def closest_pairs(images: np.ndarray, nearest: Nearest, reference: MemorizationReference, count: int) -> NearestPairs:
    """Return the `count` images with the smallest distances relative to their cells' thresholds, smallest first.

    Args:
        images: float32 (n, 28, 28, 1).
        nearest: Their nearest training images, as `measure_memorization` found them.
        reference: What it compared with.
        count: Number of pairs; all n where there are fewer images.
    """
    thresholds = reference.thresholds_of(nearest.rows)
    # test images that are also training images give a threshold of zero
    order = np.argsort(nearest.distances / np.maximum(thresholds, np.finfo(float).eps), kind="stable")[:count]
    training = reference.training[nearest.rows[order]]
    return NearestPairs(images[order], training, nearest.distances[order], thresholds[order])


def nearest_training(images: np.ndarray, training: np.ndarray | ParquetImages) -> Nearest:
    """Return the nearest of `training` (m, 28, 28, 1) for each of `images` (n, 28, 28, 1), both float32.

    The search is in float32 and its memory is bounded; the distances of what it finds are then computed in float64.
    """
    flat = images.reshape(len(images), -1)
    best, rows, found = np.full(len(flat), np.inf, np.float32), np.zeros(len(flat), np.int64), np.empty_like(flat)
    blocks = [slice(start, start + IMAGES_PER_BLOCK) for start in range(0, len(flat), IMAGES_PER_BLOCK)]
    start = 0
    for training_block in _training_blocks(training):
        candidates = training_block.reshape(len(training_block), -1)
        half_norms = np.einsum("ij,ij->i", candidates, candidates) / 2
        for block in blocks:
            scores, closest = _nearest_in_block(flat[block], candidates, half_norms)
            nearer = scores < best[block]
            best[block][nearer] = scores[nearer]
            rows[block][nearer] = start + closest[nearer]
            found[block][nearer] = candidates[closest[nearer]]
        start += len(training_block)
    distances = [np.linalg.norm(flat[block].astype(np.float64) - found[block], axis=1) for block in blocks]
    return Nearest(rows, np.concatenate(distances))


def _training_blocks(training: np.ndarray | ParquetImages) -> Iterator[np.ndarray]:
    if isinstance(training, ParquetImages):
        return training.blocks()
    starts = range(0, len(training), TRAINING_IMAGES_PER_BLOCK)
    return (training[start : start + TRAINING_IMAGES_PER_BLOCK] for start in starts)


def _nearest_in_block(rows: np.ndarray, columns: np.ndarray, half_norms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Minimise |y|²/2 - xᵀy over y, which is |x - y|²/2 up to a constant; return the minima and which y attain them."""
    scores = rows @ columns.T
    np.subtract(half_norms, scores, out=scores)
    closest = scores.argmin(axis=1)
    return scores[np.arange(len(rows)), closest], closest
