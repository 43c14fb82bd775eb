"""The class figures against closed forms."""

import numpy as np
import pytest
from scipy.stats import entropy

from dcgan.quality.classes import divergence_from_uniform, measure_classes, missing_classes


def _sure_of(labels, confidence=0.91):
    probabilities = np.full((len(labels), 10), (1 - confidence) / 9)
    probabilities[np.arange(len(labels)), labels] = confidence
    return probabilities


def test_even_classes_have_no_divergence():
    """Ten equal shares: divergence 0, none missing, the counts as they are."""
    figures = measure_classes(_sure_of(np.arange(1000) % 10), 20)
    assert figures.counts == (100,) * 10
    assert figures.divergence.value == pytest.approx(0, abs=1e-12)
    assert (figures.missing.value, figures.missing.noise) == (0, 0)


def test_the_divergence_is_that_of_scipy():
    """scipy.stats.entropy of the shares relative to even ones, and log 10 when one class is all."""
    counts = np.array([5, 0, 17, 3, 1, 9, 0, 2, 2, 1])
    assert divergence_from_uniform(counts) == pytest.approx(entropy(counts / counts.sum(), np.full(10, 0.1)))
    assert divergence_from_uniform(np.array([0] * 9 + [7])) == pytest.approx(np.log(10))


def test_a_class_with_less_than_a_tenth_of_its_share_is_missing():
    """Of 1,000 images an even share is 100: 9 are too few, 10 are not."""
    assert missing_classes(np.array([0, 9, 10, 100, 100, 100, 100, 100, 100, 381])) == 2


def test_confidence_is_the_mean_of_the_highest_probability():
    """Half the images at 0.95 and half at 0.5: mean 0.725, half of them unsure, noise as of a coin's."""
    labels = np.arange(500) % 10
    figures = measure_classes(np.concatenate([_sure_of(labels, 0.95), _sure_of(labels, 0.5)]), 20)
    assert figures.confidence.value == pytest.approx(0.725)
    assert figures.unsure.value == 0.5
    assert figures.unsure.noise == pytest.approx(0.5 / np.sqrt(1000), rel=1e-2)


def test_the_noise_of_the_divergence_is_the_spread_over_samples():
    """The bootstrap predicts, within a half, how much the divergence varies from sample to sample."""
    draw = np.random.default_rng(0)
    shares = np.linspace(0.04, 0.16, 10)
    samples = [draw.choice(10, size=2000, p=shares) for _ in range(100)]
    found = [measure_classes(_sure_of(labels), 50).divergence for labels in samples]
    spread = np.std([estimate.value for estimate in found], ddof=1)
    assert np.mean([estimate.noise for estimate in found]) == pytest.approx(spread, rel=0.5)
