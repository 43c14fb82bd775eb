"""Evaluates images against the test images, in the features of one classifier."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from dcgan.data.idx import CLASSES
from dcgan.evaluation.features import FeatureExtractor, Features, check_images, check_labels
from dcgan.evaluation.memorization import MemorizationMetrics
from dcgan.evaluation.metrics import (
    Gaussian,
    density_and_coverage,
    estimate_frechet,
    estimate_kernel_distance,
    fit_gaussian,
    measure_classes,
    squared_radii,
)
from dcgan.evaluation.report import QualityReport, QuickReport
from dcgan.recipe import LATENT_SIZE
from dcgan.rng import Stream, numpy_generator

if TYPE_CHECKING:
    import keras

REPLICATES = 50
QUICK_REPLICATES = 20
EPOCH_IMAGES = 5000
EPOCH_BATCH_SIZE = 500
METRICS = ("frechet_distance", "kernel_distance", "class_divergence", "missing_classes", "confidence")
"""The metrics that are recorded every epoch."""


@dataclass(frozen=True, eq=False)
class Reference:
    """The test images in the features of one classifier.

    Attributes:
        extractor: The classifier.
        digest: SHA-256 of the bytes of the test images.
        vectors: Their features, float64 (n, d).
        gaussian: Mean and covariance of the features.
        class_counts: Number of them of each class, by their labels, int64 (10,).
    """

    extractor: FeatureExtractor
    digest: str
    vectors: np.ndarray
    gaussian: Gaussian
    class_counts: np.ndarray

    @cached_property
    def radii(self) -> np.ndarray:
        """The squared radii (n,) of the balls that density and coverage use; computing them takes a second once."""
        return squared_radii(self.vectors)


def prepare_reference(extractor: FeatureExtractor, test_images: np.ndarray, test_labels: np.ndarray) -> Reference:
    """Return the reference for test images float32 (n, 28, 28, 1) in [-1, 1] and their labels (n,) from 0 to 9.

    Raises:
        DataError: The images or labels are not these, or there are fewer than 1,000.
    """
    check_images(test_images, "test images")
    labels = check_labels(test_labels, len(test_images), "test images")
    vectors = extractor.extract(test_images).vectors
    digest = hashlib.sha256(np.ascontiguousarray(test_images, "<f4").data).hexdigest()
    class_counts = np.bincount(labels, minlength=CLASSES)
    return Reference(extractor, digest, vectors, fit_gaussian(vectors), class_counts)


def evaluate_quickly(images: np.ndarray, reference: Reference) -> QuickReport:
    """Return the cheap metrics of images float32 (n, 28, 28, 1) in [-1, 1]; about a second for 5,000 images.

    Raises:
        DataError: The images are not these, or fewer than 1,000.
    """
    check_images(images)
    return _quick_report(reference.extractor.extract(images), reference, QUICK_REPLICATES)


def evaluate(images: np.ndarray, reference: Reference, memorization: MemorizationMetrics) -> QualityReport:
    """Return all metrics of images float32 (n, 28, 28, 1) in [-1, 1].

    Args:
        images: Generated images; n should be the number of test images.
        reference: The test images in the features of one classifier.
        memorization: What `measure_memorization` found for the same images; it does not depend on the classifier.

    Raises:
        DataError: The images are not these, or fewer than 1,000.
    """
    check_images(images)
    features = reference.extractor.extract(images)
    density, coverage = density_and_coverage(features.vectors, reference.vectors, reference.radii, REPLICATES)
    quick = _quick_report(features, reference, REPLICATES)
    return QualityReport(
        **dict(quick),
        density=density,
        coverage=coverage,
        nearest_distance_ratio=memorization.ratio,
        memorized_fraction=memorization.memorized,
    )


def _quick_report(features: Features, reference: Reference, replicates: int) -> QuickReport:
    classes = measure_classes(features.probabilities, reference.class_counts, replicates)
    return QuickReport(
        classifier=reference.extractor.digest,
        reference=reference.digest,
        images=len(features.vectors),
        frechet_distance=estimate_frechet(features.vectors, reference.gaussian),
        kernel_distance=estimate_kernel_distance(features.vectors, reference.vectors),
        class_counts=classes.counts,
        reference_class_counts=tuple(reference.class_counts.tolist()),
        class_divergence=classes.divergence,
        missing_classes=classes.missing,
        confidence=classes.confidence,
        low_confidence_fraction=classes.low_confidence,
    )


def epoch_evaluator(reference: Reference, images: int = EPOCH_IMAGES) -> Callable[["keras.Model"], dict[str, float]]:
    """Return a function from a generator to its `METRICS`.

    The latents are the same at every call, so that epochs compare.

    Args:
        reference: The test images in the features of the selection classifier.
        images: Number of images to generate; distances of different numbers do not compare.
    """

    def evaluate_generator(generator: "keras.Model") -> dict[str, float]:
        generated = [np.asarray(generator(latents, training=False)) for latents in _epoch_latents(images)]
        estimates = evaluate_quickly(np.concatenate(generated), reference).estimates()
        return {name: estimates[name].value for name in METRICS}

    return evaluate_generator


def _epoch_latents(count: int) -> list[np.ndarray]:
    """Return latents float32 (count, 100) in batches of 500, of which the last may be smaller."""
    batches = []
    for start in range(0, count, EPOCH_BATCH_SIZE):
        draw = numpy_generator(0, Stream.EPOCH_EVALUATION, start)
        rows = min(EPOCH_BATCH_SIZE, count - start)
        batches.append(draw.standard_normal((rows, LATENT_SIZE), dtype=np.float32))
    return batches
