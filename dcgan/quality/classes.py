"""Which classes a classifier sees in the images, how evenly, and how sure it is."""

from typing import NamedTuple

import numpy as np

from dcgan.quality.noise import Estimate, mean_of, with_bootstrap

LOW_CONFIDENCE = 0.9
MISSING_SHARE = 0.1
"""A class with less than this part of an even share counts as missing.

A few images land in every class by misreading alone, so waiting for zero would never find one missing.
"""


class ClassFigures(NamedTuple):
    """What the probabilities of the classes say about a set of images.

    Attributes:
        counts: images of each class, by the most probable one.
        divergence: Kullback-Leibler divergence of the classes' shares from even ones, in nats; 0 is even.
        missing: number of classes that are missing.
        confidence: mean probability of the most probable class.
        unsure: share of images whose most probable class has a probability below 0.9.
    """

    counts: tuple[int, ...]
    divergence: Estimate
    missing: Estimate
    confidence: Estimate
    unsure: Estimate


def measure_classes(probabilities: np.ndarray, replicates: int) -> ClassFigures:
    """Return the figures of probabilities (n, classes); the noise of those that are not means is by bootstrap."""
    n, classes = probabilities.shape
    counts = np.bincount(probabilities.argmax(axis=1), minlength=classes)
    draw = np.random.Generator(np.random.Philox(np.random.SeedSequence([20_001, n])))
    samples = draw.multinomial(n, counts / n, size=replicates)
    highest = probabilities.max(axis=1)
    return ClassFigures(
        counts=tuple(counts.tolist()),
        divergence=with_bootstrap(divergence_from_uniform(counts), map(divergence_from_uniform, samples)),
        missing=with_bootstrap(missing_classes(counts), map(missing_classes, samples)),
        confidence=mean_of(highest),
        unsure=mean_of(highest < LOW_CONFIDENCE),
    )


def divergence_from_uniform(counts: np.ndarray) -> float:
    """Return Σ p log(p K) for the shares p of K classes, in nats, with 0 log 0 = 0.

    Kullback and Leibler, "On information and sufficiency", Annals of Mathematical Statistics 22 (1951), equation 2.4.
    """
    shares = counts[counts > 0] / counts.sum()
    return float(np.sum(shares * np.log(shares * len(counts))))


def missing_classes(counts: np.ndarray) -> int:
    """Return how many classes have less than a tenth of an even share."""
    return int(np.sum(counts < MISSING_SHARE * counts.sum() / len(counts)))
