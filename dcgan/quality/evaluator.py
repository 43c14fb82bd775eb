"""A classifier with fixed weights: bundled for MNIST, trained once and kept for any other data set."""

import logging
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from scipy.special import softmax

from dcgan.errors import ModelError
from dcgan.quality.classifier_training import train_classifier
from dcgan.quality.classifiers import PLANS, Plan, Role
from dcgan.quality.stored_weights import (
    STORED_DTYPE,
    Card,
    StoredWeights,
    load_weights,
    save_weights,
    weights_digest,
)
from dcgan.quality.view import View, check_images, check_labels
from dcgan.recipe import IMAGE_SHAPE

logger = logging.getLogger(__name__)

BUNDLED = Path(__file__).resolve().parents[2] / "data" / "evaluator"
ROWS_PER_CALL = 1000

Split = tuple[np.ndarray, np.ndarray | None]
"""Images float32 (n, 28, 28, 1) in [-1, 1], and labels (n,) from 0 to 9."""


class Evaluator:
    """One of the two classifiers with stored weights, ready to look.

    Attributes:
        card: what the weights are.

    Raises:
        ModelError: the weights are not those of this role's network.
    """

    def __init__(self, stored: StoredWeights) -> None:
        self.card = stored.card
        self._model = _network(stored)
        signature = [tf.TensorSpec((None, *IMAGE_SHAPE), tf.float32)]
        self._forward = tf.function(lambda images: self._model(images, training=False), input_signature=signature)

    @property
    def digest(self) -> str:
        """The SHA-256 of the weights."""
        return self.card.weights_sha256

    def view(self, images: np.ndarray) -> View:
        """Return what it sees in images float32 (n, 28, 28, 1) in [-1, 1]; n >= 1."""
        parts = [self._forward(images[i : i + ROWS_PER_CALL]) for i in range(0, len(images), ROWS_PER_CALL)]
        features, logits = (np.concatenate(part).astype(np.float64) for part in zip(*parts, strict=True))
        return View(features, softmax(logits, axis=1))

    def accuracy(self, images: np.ndarray, labels: np.ndarray) -> float:
        """Return the share of images whose most probable class is their label."""
        return float(np.mean(self.view(images).probabilities.argmax(axis=1) == labels))


def evaluator_for(
    role: Role, dataset_digest: str, train: Callable[[], Split], test: Split, cache: Path, bundled: Path = BUNDLED
) -> Evaluator:
    """Return the classifier of a data set: bundled, or cached, or trained now (a minute or two) and cached.

    Args:
        role: the evaluator or the judge.
        dataset_digest: names the data set; part of the cache's paths.
        train: gives the training half, which it learns; called only if there is something to train.
        test: the test half, on which its accuracy is measured.
        cache: the folder where trained weights are kept, a folder for each data set.
        bundled: the folder of the weights that come with the project.

    Raises:
        DataError: images or labels are not what they should be.
        ModelError: the bundled weights are missing or damaged.
    """
    if (found := find_evaluator(role, dataset_digest, cache, bundled)) is not None:
        return found
    stored = train_weights(PLANS[role], dataset_digest, train(), test)
    save_weights(cache / dataset_digest / f"{role}.npz", stored)
    return Evaluator(stored)


def find_evaluator(role: Role, dataset_digest: str, cache: Path, bundled: Path = BUNDLED) -> Evaluator | None:
    """Return the classifier of a data set if it is bundled or cached; the arguments are those of `evaluator_for`.

    Raises:
        ModelError: the bundled weights are missing or damaged.
    """
    stored = load_weights(bundled / f"{role}.npz")
    if stored.card.dataset_digest == dataset_digest:
        return Evaluator(stored)
    path = cache / dataset_digest / f"{role}.npz"
    if path.exists():
        try:
            return Evaluator(load_weights(path))
        except ModelError as error:
            logger.warning("The %s that was kept is of no use: %s", role, error)
    return None


def train_weights(plan: Plan, dataset_digest: str, train: Split, test: Split) -> StoredWeights:
    """Return the weights that training by `plan` gives, rounded to float16, with their accuracy on the test half.

    Raises:
        DataError: images or labels are not what they should be.
    """
    images, labels = test
    check_images(images, "test images")
    known = check_labels(labels, len(images), "test images")
    model = train_classifier(plan, *train)
    arrays = {variable.path: variable.numpy().astype(STORED_DTYPE) for variable in model.weights}
    card = Card(role=plan.role, weights_sha256=weights_digest(arrays), dataset_digest=dataset_digest, accuracy=0)
    accuracy = Evaluator(StoredWeights(card, arrays)).accuracy(images, known)
    logger.info("The %s gets %.2f %% of the test half right.", plan.role, 100 * accuracy)
    return StoredWeights(card.model_copy(update={"accuracy": accuracy}), arrays)


def _network(stored: StoredWeights) -> keras.Model:
    plan = next((plan for plan in PLANS.values() if plan.role == stored.card.role), None)
    if plan is None:
        raise ModelError(f"The weights are of the role {stored.card.role!r}; expected one of {', '.join(PLANS)}.")
    model = plan.build(plan.seed)
    expected = {variable.path: tuple(variable.shape) for variable in model.weights}
    if {name: array.shape for name, array in stored.arrays.items()} != expected:
        raise ModelError(f"The weights are not those of this version's {plan.role}: other names or shapes.")
    for variable in model.weights:
        variable.assign(stored.arrays[variable.path].astype(np.float32))
    return model
