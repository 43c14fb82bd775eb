"""Real digits, both bundled classifiers, and references for a small test set."""

from pathlib import Path

import numpy as np
import pytest

from dcgan.data.idx import read_images, read_labels
from dcgan.data.parquet import normalise
from dcgan.evaluation.classifiers import BUNDLED, Classifier, load_weights
from dcgan.evaluation.evaluate import Reference, prepare_reference
from dcgan.evaluation.memorization import MemorizationReference, prepare_memorization_reference
from dcgan.evaluation.report import Baselines


def _split(folder: Path, prefix: str) -> tuple[np.ndarray, np.ndarray]:
    images = normalise(read_images(folder / f"{prefix}-images-idx3-ubyte.gz"))
    return images, read_labels(folder / f"{prefix}-labels-idx1-ubyte.gz")


@pytest.fixture(scope="session")
def train_split(mnist_folder) -> tuple[np.ndarray, np.ndarray]:
    """The first 12,000 training images and their labels."""
    images, labels = _split(mnist_folder, "train")
    return images[:12_000], labels[:12_000]


@pytest.fixture(scope="session")
def test_split(mnist_folder) -> tuple[np.ndarray, np.ndarray]:
    """All 10,000 test images and their labels."""
    return _split(mnist_folder, "t10k")


@pytest.fixture(scope="session")
def selection() -> Classifier:
    """The bundled selection classifier."""
    return Classifier(load_weights(BUNDLED / "selection.npz"))


@pytest.fixture(scope="session")
def held_out() -> Classifier:
    """The bundled held-out classifier."""
    return Classifier(load_weights(BUNDLED / "held_out.npz"))


@pytest.fixture(scope="session")
def test_images(test_split) -> np.ndarray:
    """Every fifth test image: 2,000 that represent all of them, which are ordered."""
    return np.ascontiguousarray(test_split[0][::5])


@pytest.fixture(scope="session")
def test_labels(test_split) -> np.ndarray:
    """The labels of these test images."""
    return test_split[1][::5]


@pytest.fixture(scope="session")
def reference(selection, test_images, test_labels) -> Reference:
    """The 2,000 test images in the features of the selection classifier."""
    return prepare_reference(selection, test_images, test_labels)


@pytest.fixture(scope="session")
def memorization(train_split, test_images) -> MemorizationReference:
    """The first 10,000 training images, and how near the 2,000 test images are to them."""
    images, labels = train_split
    return prepare_memorization_reference(images[:10_000], labels[:10_000], test_images)


@pytest.fixture(scope="session")
def bundled_baselines() -> Baselines:
    """The baselines of MNIST's bundled selection classifier."""
    digest = load_weights(BUNDLED / "selection.npz").metadata.weights_sha256[:16]
    (file,) = BUNDLED.glob(f"baselines-{digest}-*.json")
    return Baselines.model_validate_json(file.read_bytes())
