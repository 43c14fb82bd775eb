"""What a classifier sees in pictures, and the checks that pictures and labels pass before it looks."""

from typing import NamedTuple, Protocol

import numpy as np

from dcgan.errors import DataError
from dcgan.mnist import CLASSES
from dcgan.recipe import IMAGE_SHAPE

MIN_IMAGES = 1000  # below, a covariance of 128 features and shares of ten classes say too little


class View(NamedTuple):
    """What a classifier sees in n images.

    Attributes:
        features: float64 (n, d), its penultimate layer.
        probabilities: float64 (n, 10), of the classes; each row sums to 1.
    """

    features: np.ndarray
    probabilities: np.ndarray


class Viewer(Protocol):
    """A classifier with fixed weights."""

    @property
    def digest(self) -> str:
        """The SHA-256 of its weights."""

    def view(self, images: np.ndarray) -> View:
        """Return what it sees in images float32 (n, 28, 28, 1) in [-1, 1]."""


def check_images(images: np.ndarray, what: str = "images to evaluate", minimum: int = MIN_IMAGES) -> None:
    """Refuse what is not float32 (n, 28, 28, 1), n >= minimum, finite, in [-1, 1].

    Raises:
        DataError: which of these it is not.
    """
    shape = " × ".join(map(str, IMAGE_SHAPE))
    if images.shape[1:] != IMAGE_SHAPE or images.dtype != np.float32:
        raise DataError(f"The {what} are {images.dtype} {images.shape}; expected float32 (n, {shape}).")
    check_count(len(images), what, minimum)
    if not np.isfinite(images).all():
        raise DataError(f"The {what} hold values that are not finite; expected values from -1 to 1.")
    if (low := images.min()) < -1 or (high := images.max()) > 1:
        raise DataError(f"The {what} hold the value {low if low < -1 else high:.4g}; expected values from -1 to 1.")


def check_count(count: int, what: str, minimum: int = MIN_IMAGES) -> None:
    """Refuse fewer images than a figure needs.

    Raises:
        DataError: how many there are.
    """
    if count < minimum:
        raise DataError(f"There are {count} {what}; expected at least {minimum}.")


def check_labels(labels: np.ndarray | None, count: int, what: str) -> np.ndarray:
    """Return labels, unless they are absent, not one for each of `count` images, or not from 0 to 9.

    Raises:
        DataError: which of these it is.
    """
    if labels is None:
        raise DataError(f"The {what} have no labels; expected one label from 0 to {CLASSES - 1} for each.")
    if labels.shape != (count,):
        raise DataError(f"The {what} are {count} but their labels {labels.shape}; expected one label for each.")
    if not np.issubdtype(labels.dtype, np.integer) or labels.min() < 0 or labels.max() >= CLASSES:
        raise DataError(f"The labels of the {what} are not whole numbers from 0 to {CLASSES - 1}.")
    return labels
