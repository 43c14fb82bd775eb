"""The Fréchet distance against closed forms and against a general matrix root."""

import numpy as np
import pytest
from scipy.linalg import sqrtm

from dcgan.evaluation.baselines import noisy
from dcgan.evaluation.metrics import (
    Gaussian,
    bootstrap_counts,
    estimate_frechet,
    fit_gaussian,
)


def _random_features(rows, size, seed):
    draw = np.random.default_rng(seed)
    return draw.standard_normal((rows, size)) @ draw.standard_normal((size, size)) + draw.standard_normal(size)


def _vectors_of(gaussian, rows=500):
    """Return vectors whose mean and sample covariance are exactly those of a Gaussian."""
    draw = np.random.default_rng(4).standard_normal((rows, len(gaussian.mean)))
    centred = draw - draw.mean(axis=0)
    white = np.linalg.qr(centred)[0] * np.sqrt(rows - 1)
    return white @ sqrtm(gaussian.covariance).real + gaussian.mean


def test_two_gaussians_with_diagonal_covariances():
    """The closed form: |m₁ - m₂|² + Σ (σ₁ - σ₂)², whatever the rotation both share."""
    rotation, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((3, 3)))
    mean, other_mean = np.array([1.0, 2, 3]), np.array([0.0, 4, 3])
    deviations, other_deviations = np.array([1.0, 2, 0.1]), np.array([3.0, 2, 0.6])
    one = Gaussian(rotation @ mean, rotation @ np.diag(deviations**2) @ rotation.T)
    other = Gaussian(rotation @ other_mean, rotation @ np.diag(other_deviations**2) @ rotation.T)
    assert estimate_frechet(_vectors_of(one), other).value == pytest.approx(5 + 4 + 0 + 0.25, rel=1e-9)


def test_it_agrees_with_a_general_matrix_root():
    """scipy.linalg.sqrtm of C₁ C₂, as Heusel et al. compute it, agrees on well-conditioned covariances."""
    vectors = _random_features(500, 32, 1)
    one, other = fit_gaussian(vectors), fit_gaussian(_random_features(500, 32, 2))
    root = sqrtm(one.covariance @ other.covariance).real
    expected = np.sum((one.mean - other.mean) ** 2) + np.trace(one.covariance + other.covariance - 2 * root)
    assert estimate_frechet(vectors, other).value == pytest.approx(expected, rel=1e-9)


def test_the_covariance_is_the_sample_covariance():
    """numpy.cov, which divides by n - 1, gives the same."""
    features = _random_features(50, 4, 3)
    gaussian = fit_gaussian(features)
    np.testing.assert_allclose(gaussian.mean, features.mean(axis=0))
    np.testing.assert_allclose(gaussian.covariance, np.cov(features.T), rtol=1e-12)


def test_singular_covariances_give_no_negative_and_no_complex_distance():
    """Fewer rows than features: the distance from itself is 0, from others as in the space that the rows span."""
    features = _random_features(5, 20, 5)
    gaussian = fit_gaussian(features)
    assert 0 <= estimate_frechet(features, gaussian).value < 1e-6 * np.trace(gaussian.covariance)
    moved = fit_gaussian(features + 1)
    assert estimate_frechet(features, moved).value == pytest.approx(20, rel=1e-6)


def test_it_is_symmetric():
    """Which of the two comes first does not matter."""
    one, other = (_random_features(200, 16, seed) for seed in (6, 7))
    there, back = estimate_frechet(one, fit_gaussian(other)).value, estimate_frechet(other, fit_gaussian(one)).value
    assert there == pytest.approx(back, rel=1e-9)


def test_the_standard_error_is_the_deviation_over_independent_samples():
    """The standard error from one sample predicts, within a quarter, how much the distance varies between samples."""
    reference = fit_gaussian(_random_features(5000, 8, 10))
    samples = [np.random.default_rng(seed).standard_normal((1000, 8)) * 2 for seed in range(200)]
    estimates = [estimate_frechet(sample, reference) for sample in samples]
    deviation = np.std([estimate.value for estimate in estimates], ddof=1)
    assert np.mean([estimate.standard_error for estimate in estimates]) == pytest.approx(deviation, rel=1 / 4)


def test_the_standard_error_is_that_of_a_bootstrap_on_real_digits(selection, reference, test_split):
    """On skewed, sparse features, at small and at large distances, resampling the rows gives the same error."""
    digits = test_split[0][1::5]
    for images in (digits, noisy(digits)):
        features = selection.extract(images).vectors
        resamples = (features[np.repeat(np.arange(2000), counts)] for counts in bootstrap_counts(2000, 25))
        distances = [estimate_frechet(resample, reference.gaussian).value for resample in resamples]
        estimate = estimate_frechet(features, reference.gaussian)
        assert estimate.standard_error == pytest.approx(np.std(distances), rel=0.4)


def test_collapse_has_a_standard_error():
    """Rows on a line and equal rows: the standard error is finite, and 0 where nothing varies."""
    reference = fit_gaussian(_random_features(500, 6, 11))
    line = np.outer(np.random.default_rng(12).standard_normal(500), np.ones(6))
    assert 0 < estimate_frechet(line, reference).standard_error < np.inf
    assert estimate_frechet(np.ones((500, 6)), reference).standard_error == 0
