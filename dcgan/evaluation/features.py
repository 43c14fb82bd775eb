"""The features that metrics are computed from, and the checks that images and labels pass first."""

from typing import Literal, NamedTuple, Protocol

import numpy as np

from dcgan.data.idx import CLASSES
from dcgan.errors import DataError
from dcgan.recipe import IMAGE_SHAPE

MIN_IMAGES = 1000  # with fewer, a covariance of 128 features and the fractions of ten classes mean little

Role = Literal["selection", "held_out"]
"""What a classifier is used for.

The metrics of the selection classifier choose the best epoch and decide the gate. Those of the held-out classifier are
only reported, so that what was selected is also measured by a classifier that had no part in the selection.
"""


def display_role(role: Role) -> str:
    """Return what a classifier is called in messages and reports."""
    return {"selection": "selection classifier", "held_out": "held-out classifier"}[role]


class Features(NamedTuple):
    """What a classifier computes from n images.

    Attributes:
        vectors: Activations of its penultimate layer, float64 (n, d).
        probabilities: Probabilities of the classes, float64 (n, 10); each row sums to 1.
    """

    vectors: np.ndarray
    probabilities: np.ndarray


class FeatureExtractor(Protocol):
    """A classifier with fixed weights."""

    @property
    def digest(self) -> str:
        """The SHA-256 of its weights."""

    def extract(self, images: np.ndarray) -> Features:
        """Return the features of images float32 (n, 28, 28, 1) in [-1, 1]."""


def check_images(images: np.ndarray, what: str = "images to evaluate", minimum: int = MIN_IMAGES) -> None:
    """Refuse images that are not float32 (n, 28, 28, 1) with n >= `minimum`, finite and in [-1, 1].

    Raises:
        DataError: The images have another shape, type or range, or there are too few.
    """
    shape = " × ".join(map(str, IMAGE_SHAPE))
    if images.shape[1:] != IMAGE_SHAPE or images.dtype != np.float32:
        raise DataError(f"The {what} are {images.dtype} {images.shape}; expected float32 (n, {shape}).")
    check_count(len(images), what, minimum)
    if not np.isfinite(images).all():
        raise DataError(f"The {what} have values that are not finite; expected values from -1 to 1.")
    if (low := images.min()) < -1 or (high := images.max()) > 1:
        raise DataError(f"The {what} have the value {low if low < -1 else high:.4g}; expected values from -1 to 1.")


def check_count(count: int, what: str, minimum: int = MIN_IMAGES) -> None:
    """Refuse fewer images than the metrics need.

    Raises:
        DataError: There are fewer than `minimum` images.
    """
    if count < minimum:
        raise DataError(f"There are {count} {what}; expected at least {minimum}.")


def check_labels(labels: np.ndarray | None, count: int, what: str) -> np.ndarray:
    """Return `labels` if there is one from 0 to 9 for each of `count` images.

    Raises:
        DataError: The labels are absent, differ in number from the images, or are not integers from 0 to 9.
    """
    if labels is None:
        raise DataError(f"The {what} have no labels; expected one label from 0 to {CLASSES - 1} for each.")
    if labels.shape != (count,):
        raise DataError(f"There are {count} {what} but labels of shape {labels.shape}; expected one label for each.")
    if not np.issubdtype(labels.dtype, np.integer) or labels.min() < 0 or labels.max() >= CLASSES:
        raise DataError(f"The labels of the {what} are not integers from 0 to {CLASSES - 1}.")
    return labels
