"""Real digits, both classifiers, and what the evaluator sees in a small test half."""

from pathlib import Path

import numpy as np
import pytest

from dcgan.idx import read_images, read_labels
from dcgan.parquet import NORMALISED
from dcgan.quality.evaluation import Reference, prepare_reference
from dcgan.quality.evaluator import BUNDLED, Evaluator
from dcgan.quality.memorisation import HeldOut, prepare_held_out
from dcgan.quality.stored_weights import load_weights

MNIST = Path(__file__).resolve().parents[3] / "data" / "mnist"


def _half(prefix):
    images = NORMALISED[read_images(MNIST / f"{prefix}-images-idx3-ubyte.gz")][..., None]
    return images, read_labels(MNIST / f"{prefix}-labels-idx1-ubyte.gz")


@pytest.fixture(scope="session")
def train_half() -> tuple[np.ndarray, np.ndarray]:
    """The first 12,000 training images and their labels."""
    images, labels = _half("train")
    return images[:12_000], labels[:12_000]


@pytest.fixture(scope="session")
def test_half() -> tuple[np.ndarray, np.ndarray]:
    """All 10,000 test images and their labels."""
    return _half("t10k")


@pytest.fixture(scope="session")
def evaluator() -> Evaluator:
    """The bundled evaluator."""
    return Evaluator(load_weights(BUNDLED / "evaluator.npz"))


@pytest.fixture(scope="session")
def judge() -> Evaluator:
    """The bundled judge."""
    return Evaluator(load_weights(BUNDLED / "judge.npz"))


@pytest.fixture(scope="session")
def test_images(test_half) -> np.ndarray:
    """Every fifth test image: 2,000 that stand for the whole half, which is ordered."""
    return np.ascontiguousarray(test_half[0][::5])


@pytest.fixture(scope="session")
def reference(evaluator, test_images) -> Reference:
    """What the evaluator sees in the 2,000 test images."""
    return prepare_reference(evaluator, test_images)


@pytest.fixture(scope="session")
def held_out(train_half, test_images) -> HeldOut:
    """How near the 2,000 test images lie to the first 10,000 training images."""
    images, labels = train_half
    return prepare_held_out(images[:10_000], labels[:10_000], test_images)
