"""Evaluating images: against the test half, through one classifier, with the noise of every figure."""

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from dcgan.quality.classes import measure_classes
from dcgan.quality.frechet import Gaussian, estimate_frechet, fit_gaussian
from dcgan.quality.kernel import estimate_kernel_distance
from dcgan.quality.manifold import density_and_coverage, squared_radii
from dcgan.quality.memorisation import CopyFigures
from dcgan.quality.report import QualityReport, QuickReport
from dcgan.quality.view import View, Viewer, check_images

REPLICATES = 50
QUICK_REPLICATES = 20


@dataclass(frozen=True, eq=False)
class Reference:
    """What a classifier sees in the test half.

    Attributes:
        viewer: the classifier.
        digest: SHA-256 of the test images' bytes.
        features: float64 (n, d).
        gaussian: their mean and covariance.
    """

    viewer: Viewer
    digest: str
    features: np.ndarray
    gaussian: Gaussian

    @cached_property
    def radii(self) -> np.ndarray:
        """The squared radii (n,) of the balls that density and coverage need; a second of work the first time."""
        return squared_radii(self.features)


def prepare_reference(viewer: Viewer, test_images: np.ndarray) -> Reference:
    """Return what `viewer` sees in test images float32 (n, 28, 28, 1) in [-1, 1].

    Raises:
        DataError: they are not these, or fewer than 1,000.
    """
    check_images(test_images, "test images")
    features = viewer.view(test_images).features
    digest = hashlib.sha256(np.ascontiguousarray(test_images, "<f4").data).hexdigest()
    return Reference(viewer, digest, features, fit_gaussian(features))


def evaluate_quickly(images: np.ndarray, reference: Reference) -> QuickReport:
    """Return the cheap figures of images float32 (n, 28, 28, 1) in [-1, 1]: about a second for 5,000.

    Raises:
        DataError: they are not these, or fewer than 1,000.
    """
    check_images(images)
    return _quick_report(reference.viewer.view(images), reference, QUICK_REPLICATES)


def evaluate(images: np.ndarray, reference: Reference, copying: CopyFigures) -> QualityReport:
    """Return every figure of images float32 (n, 28, 28, 1) in [-1, 1]; n should be the number of test images.

    Args:
        images: what the generator made.
        reference: the test half, as one classifier sees it.
        copying: what `measure_copying` found for the same images; no classifier has a part in it.

    Raises:
        DataError: the images are not these, or fewer than 1,000.
    """
    check_images(images)
    view = reference.viewer.view(images)
    density, coverage = density_and_coverage(view.features, reference.features, reference.radii, REPLICATES)
    quick = _quick_report(view, reference, REPLICATES)
    return QualityReport(
        **dict(quick),
        density=density,
        coverage=coverage,
        nearest_distance_ratio=copying.ratio,
        copied_share=copying.copied,
    )


def _quick_report(view: View, reference: Reference, replicates: int) -> QuickReport:
    classes = measure_classes(view.probabilities, replicates)
    return QuickReport(
        evaluator=reference.viewer.digest,
        reference=reference.digest,
        images=len(view.features),
        frechet_distance=estimate_frechet(view.features, reference.gaussian),
        kernel_distance=estimate_kernel_distance(view.features, reference.features),
        class_counts=classes.counts,
        class_divergence=classes.divergence,
        missing_classes=classes.missing,
        confidence=classes.confidence,
        unsure_share=classes.unsure,
    )
