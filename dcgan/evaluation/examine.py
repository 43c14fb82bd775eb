"""Evaluates the generators of model versions against one dataset: both classifiers, always the same latents."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from dcgan.data.dataset import Dataset, Manifest
from dcgan.data.parquet import sample_parquet
from dcgan.errors import DataError, ModelError
from dcgan.evaluation.baselines import baselines_for
from dcgan.evaluation.classifiers import BUNDLED, classifier_for
from dcgan.evaluation.evaluate import Reference, evaluate, prepare_reference
from dcgan.evaluation.features import MIN_IMAGES, Role, check_count
from dcgan.evaluation.gate import Evaluation, VersionMetrics, decide
from dcgan.evaluation.memorization import (
    NearestPairs,
    closest_pairs,
    measure_memorization,
    prepare_memorization_reference,
)
from dcgan.generation import Generator, generated_batches
from dcgan.rng import Stream

LATENT_SEED = 0
NEAREST_PAIRS = 24
MAX_CLASSIFIER_IMAGES = 100_000  # a classifier's training images are in memory four times


def require_evaluable(manifest: Manifest) -> None:
    """Refuse a dataset with too few images to evaluate a generator, before anything is trained on it.

    Raises:
        DataError: It has fewer than 1,000 training or test images.
    """
    train, test = manifest.train.rows, manifest.test.rows
    if min(train, test) < MIN_IMAGES:
        raise DataError(
            f"There are {train:,} training and {test:,} test images; expected at least {MIN_IMAGES:,} of each, or a "
            "recipe that does not evaluate: evaluate_every=null and checkpoint_selection=last."
        )


class References:
    """The test images of a dataset in the features of both classifiers, each computed when it is first needed.

    For a dataset other than MNIST the classifiers are trained first, which takes minutes: on at most 100,000 training
    images, evenly spaced.

    Args:
        dataset: The dataset.
        cache: Folder of the trained weights, with a folder for each dataset.
    """

    def __init__(self, dataset: Dataset, cache: Path) -> None:
        self._dataset = dataset
        self._cache = cache
        self._loaded: dict[Role, Reference] = {}

    def __getitem__(self, role: Role) -> Reference:
        """Return the reference of a classifier.

        Raises:
            DataError: The dataset is damaged, or too small to evaluate anything.
            ModelError: The bundled weights are missing or damaged.
        """
        if role not in self._loaded:
            dataset = self._dataset
            check_count(len(dataset.train), "training images")  # before minutes are spent on a classifier
            classifier = classifier_for(
                role,
                dataset.digest,
                lambda: sample_parquet(dataset.train.path, MAX_CLASSIFIER_IMAGES),
                dataset.test,
                self._cache,
            )
            self._loaded[role] = prepare_reference(classifier, *dataset.test)
        return self._loaded[role]


class Examined(NamedTuple):
    """The metrics of a version, and those of its images that are nearest to training images."""

    metrics: VersionMetrics
    pairs: NearestPairs


class Examiner:
    """Evaluates one generator after another against one dataset.

    For a new dataset the baselines and the nearest training images of the test images are found first, which takes
    minutes.

    Args:
        dataset: The dataset.
        references: Its test images in the features of both classifiers.
        cache: Folder of what was measured of datasets, with a folder for each.

    Attributes:
        selection_baselines: Reference baselines of the selection classifier.
        held_out_baselines: Reference baselines of the held-out classifier.

    Raises:
        DataError: The dataset is damaged, or too small to evaluate anything.
    """

    def __init__(self, dataset: Dataset, references: References, cache: Path) -> None:
        test_images, _ = dataset.test
        self._dataset_digest = dataset.digest
        self._count = len(test_images)
        self._references = references
        folders = (BUNDLED, cache / dataset.digest)
        self._memorization = prepare_memorization_reference(
            dataset.train, dataset.train_labels, test_images, dataset.digest, folders
        )
        self.selection_baselines, self.held_out_baselines = (
            baselines_for(references[role], self._memorization, test_images, *folders)
            for role in ("selection", "held_out")
        )

    def examine(self, version: int, generator: Generator) -> Examined:
        """Evaluate as many generated images as there are test images.

        Raises:
            ModelError: The generator does not return images float32 (n, 28, 28, 1) in [-1, 1].
        """
        try:
            images = np.concatenate(list(generated_batches(generator, LATENT_SEED, Stream.EVALUATION, self._count)))
        except ModelError as error:
            raise ModelError(f"Version {version} cannot be evaluated: {error}") from None
        memorization = measure_memorization(images, self._memorization)
        metrics = VersionMetrics(
            version=version,
            selection=evaluate(images, self._references["selection"], memorization),
            held_out=evaluate(images, self._references["held_out"], memorization),
        )
        return Examined(metrics, closest_pairs(images, memorization.nearest, self._memorization, NEAREST_PAIRS))

    def compare(
        self, candidate: VersionMetrics, champion: VersionMetrics | None, *, same_dataset: bool, is_champion: bool
    ) -> Evaluation:
        """Return the evaluation of a version, with the decision of the gate.

        Args:
            candidate: Metrics of the version, from `examine`.
            champion: Metrics of the champion, from `examine`; None where there is none or the version is the champion.
            same_dataset: Whether the version was trained on this dataset.
            is_champion: Whether the version is the champion, which the gate does not decide about.
        """
        rival = champion.selection if champion else None
        return Evaluation(
            dataset_digest=self._dataset_digest,
            same_dataset=same_dataset,
            candidate=candidate,
            champion=champion,
            selection_baselines=self.selection_baselines,
            held_out_baselines=self.held_out_baselines,
            verdict=None if is_champion else decide(candidate.selection, rival, self.selection_baselines),
        )
