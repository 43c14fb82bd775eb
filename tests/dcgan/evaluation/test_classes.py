"""The class metrics against closed forms."""

import numpy as np
import pytest
from scipy.stats import entropy

from dcgan.evaluation.metrics import class_divergence, measure_classes, missing_classes

EVEN = np.full(10, 1000)
DIGITS_0_TO_4 = np.array([200] * 5 + [0] * 5)


def _probabilities(labels, confidence=0.91):
    probabilities = np.full((len(labels), 10), (1 - confidence) / 9)
    probabilities[np.arange(len(labels)), labels] = confidence
    return probabilities


def test_equal_fractions_have_no_divergence():
    """Ten equal fractions, as the reference has them: divergence 0, none missing, the counts as they are."""
    metrics = measure_classes(_probabilities(np.arange(1000) % 10), EVEN, 20)
    assert metrics.counts == (100,) * 10
    assert metrics.divergence.value == pytest.approx(0, abs=1e-12)
    assert (metrics.missing.value, metrics.missing.standard_error) == (0, 0)


def test_the_divergence_is_that_of_scipy():
    """scipy.stats.entropy of the fractions relative to the reference's, and log 10 for one class of ten even ones."""
    counts = np.array([5, 0, 17, 3, 1, 9, 0, 2, 2, 1])
    for reference in (EVEN, np.arange(10) ** 3):
        assert class_divergence(counts, reference) == pytest.approx(entropy(counts, reference + 1))
    assert class_divergence(np.array([0] * 9 + [7]), EVEN) == pytest.approx(np.log(10))


def test_a_class_that_the_reference_lacks_costs_a_finite_divergence():
    """Digits 0 to 4 diverge from their own kind by almost nothing, all ten digits by much."""
    assert class_divergence(DIGITS_0_TO_4, DIGITS_0_TO_4) == pytest.approx(0, abs=0.01)
    assert 1.5 < class_divergence(EVEN, DIGITS_0_TO_4) < 3


def test_a_class_with_less_than_a_tenth_of_its_share_is_missing():
    """Of 1,000 images an even share is 100: a class with 9 is missing, one with 10 is not."""
    assert missing_classes(np.array([0, 9, 10, 100, 100, 100, 100, 100, 100, 381]), EVEN) == 2


def test_a_class_that_the_reference_lacks_is_not_missing():
    """Digits 0 to 4 have all their classes; without the 4 they lack one."""
    assert missing_classes(np.array([200] * 5 + [0] * 5), DIGITS_0_TO_4) == 0
    assert missing_classes(np.array([250] * 4 + [0] * 6), DIGITS_0_TO_4) == 1


def test_a_class_that_is_rare_in_the_reference_is_found_missing_where_that_cannot_be_chance():
    """Half a percent of 10,000 images is 50, of 1,000 only 5, which one sample in 150 lacks."""
    rare = np.array([50] + [1105] * 9)
    assert missing_classes(np.array([0] + [1111] * 9), rare) == 1
    assert missing_classes(np.array([5] + [1110] * 9), rare) == 0
    assert missing_classes(np.array([0] + [111] * 9), rare) == 0


def test_confidence_is_the_mean_of_the_highest_probability():
    """Half the images at 0.95 and half at 0.5: mean 0.725, half with low confidence, the standard error of a coin."""
    labels = np.arange(500) % 10
    probabilities = np.concatenate([_probabilities(labels, 0.95), _probabilities(labels, 0.5)])
    metrics = measure_classes(probabilities, EVEN, 20)
    assert metrics.confidence.value == pytest.approx(0.725)
    assert metrics.low_confidence.value == 0.5
    assert metrics.low_confidence.standard_error == pytest.approx(0.5 / np.sqrt(1000), rel=1e-2)


def test_the_standard_error_of_the_divergence_is_the_deviation_over_samples():
    """The bootstrap predicts, within a half, how much the divergence varies from sample to sample."""
    draw = np.random.default_rng(0)
    fractions = np.linspace(0.04, 0.16, 10)
    samples = [draw.choice(10, size=2000, p=fractions) for _ in range(100)]
    estimates = [measure_classes(_probabilities(labels), EVEN, 50).divergence for labels in samples]
    deviation = np.std([estimate.value for estimate in estimates], ddof=1)
    assert np.mean([estimate.standard_error for estimate in estimates]) == pytest.approx(deviation, rel=0.5)
